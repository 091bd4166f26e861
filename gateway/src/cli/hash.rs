//! `hash-key` and `hash-password`: lines of the files that callers are known by. Secrets come by standard input, never as arguments.

use std::io::{self, BufRead, Read as _, Write};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};

use super::{EXIT_FAILURE, EXIT_OK};
use crate::config::{Hashing, entry, hash_password as hash_of, password_entry};

pub(super) const KEY_EXAMPLES: &str = "\
Examples:
  ringgate hash-key mobile < key.txt >> api-keys
  ringgate hash-key mobile --generate >> api-keys

The key is never an argument: those of a process are shown to everybody.";

pub(super) const PASSWORD_EXAMPLES: &str = "\
Examples:
  ringgate hash-password --user ada >> users       type it twice, on a terminal
  ringgate hash-password --user ada < password.txt >> users
  ringgate hash-password --bcrypt --user ada < password.txt >> users

The password is never an argument: those of a process are shown to everybody. What is made is argon2id with 19 MiB
of memory and two passes, as OWASP recommends, or bcrypt of cost 12.";

/// What `hash-key` is told.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct HashKeyArgs {
    /// Whose key it is.
    pub consumer: String,
    /// Make a new key of 256 random bits, and say it on standard error; nothing is read.
    #[arg(long)]
    pub generate: bool,
}

/// What `hash-password` is told.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct HashPasswordArgs {
    /// Whose password it is: write the whole line NAME:HASH; without, the hash alone.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Hash with bcrypt, for files that others read too, in place of argon2id.
    #[arg(long)]
    pub bcrypt: bool,
}

/// Writes the line of a key to `out`; the key is read from `input`, or made and written to `told`. Returns the exit code.
///
/// # Errors
///
/// Those of reading and writing, and a source of randomness that fails.
pub fn hash_key(
    arguments: &HashKeyArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    told: &mut dyn Write,
) -> io::Result<u8> {
    let key = if arguments.generate {
        let mut random = [0; 32];
        let source = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&source, &mut random)
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        random
            .iter()
            .fold("rg_".to_owned(), |key, byte| key + &format!("{byte:02x}"))
    } else {
        let mut line = String::new();
        // A key is a line; a device that never ends one is none.
        input.take(KEY_BYTES_MAX).read_line(&mut line)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if key.len() < KEY_BYTES_MIN {
        writeln!(
            told,
            "error: a key has at least {KEY_BYTES_MIN} bytes; `--generate` makes a good one"
        )?;
        return Ok(EXIT_FAILURE);
    }
    match entry(&arguments.consumer, key.as_bytes()) {
        Ok(line) => {
            writeln!(out, "{line}")?;
            if arguments.generate {
                writeln!(told, "the key, which is nowhere else: {key}")?;
            }
            Ok(EXIT_OK)
        }
        Err(problem) => {
            writeln!(told, "error: {problem}")?;
            Ok(EXIT_FAILURE)
        }
    }
}

/// Shorter keys could be found by trying.
const KEY_BYTES_MIN: usize = 16;
/// Longest key that is read.
const KEY_BYTES_MAX: u64 = 8 * 1024;

/// Writes the line of a password to `out`; the password is the first line of `input`. Returns the exit code.
///
/// # Errors
///
/// Those of reading and writing, and a source of randomness that fails.
pub fn hash_password(
    arguments: &HashPasswordArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    told: &mut dyn Write,
) -> io::Result<u8> {
    let hashing = if arguments.bcrypt {
        Hashing::Bcrypt
    } else {
        Hashing::Argon2id
    };
    let mut line = Vec::new();
    input
        .take(PASSWORD_BYTES_MAX + 1)
        .read_until(b'\n', &mut line)?;
    let made = password_in(line).and_then(|password| {
        let mut salt = [0; 16];
        let source = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&source, &mut salt)
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        let hash = hash_of(hashing, password.as_bytes(), salt)?;
        let short = password.len() < PASSWORD_BYTES_GOOD;
        let line = match &arguments.user {
            Some(user) => password_entry(user, &hash)?,
            None => hash,
        };
        Ok((line, short))
    });
    match made {
        Ok((line, short)) => {
            writeln!(out, "{line}")?;
            if short {
                writeln!(
                    told,
                    "warning: a password of fewer than {PASSWORD_BYTES_GOOD} bytes is soon guessed"
                )?;
            }
            Ok(EXIT_OK)
        }
        Err(problem) => {
            writeln!(told, "error: {problem}")?;
            Ok(EXIT_FAILURE)
        }
    }
}

/// Longest line with a password that is read.
const PASSWORD_BYTES_MAX: u64 = 1024;
/// NIST SP 800-63B asks for no less.
const PASSWORD_BYTES_GOOD: usize = 8;

fn password_in(mut line: Vec<u8>) -> Result<String, String> {
    if line.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(format!(
            "a password has at most {PASSWORD_BYTES_MAX} bytes, with the end of its line"
        ));
    }
    for end in [b'\n', b'\r'] {
        line.pop_if(|last| *last == end);
    }
    let password =
        String::from_utf8(line).map_err(|_| "a password is UTF-8 (RFC 7617, section 2.1)")?;
    // RFC 7617, section 2.
    if password.chars().any(char::is_control) {
        return Err("a password holds no control characters".into());
    }
    if password.is_empty() {
        return Err("no password: it is the first line of standard input".into());
    }
    Ok(password)
}

/// Asks for a password twice, where standard input is a terminal, which shows nothing of it meanwhile; empty where the two are not
/// the same. `None`: it is no terminal.
///
/// # Errors
///
/// Those of the terminal.
pub fn prompt_password(
    terminal: &mut io::StdinLock<'_>,
    told: &mut dyn Write,
) -> io::Result<Option<String>> {
    if !isatty(&*terminal) {
        return Ok(None);
    }
    let before = tcgetattr(&*terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // What was typed before it was asked for is not the password.
    tcsetattr(&*terminal, OptionalActions::Flush, &silent)?;
    let asked = ask_twice(terminal, told);
    tcsetattr(&*terminal, OptionalActions::Flush, &before)?;
    asked
}

fn ask_twice(terminal: &mut dyn BufRead, told: &mut dyn Write) -> io::Result<Option<String>> {
    let mut ask = |what: &str| {
        write!(told, "{what}")?;
        told.flush()?;
        let mut line = String::new();
        (&mut *terminal)
            .take(PASSWORD_BYTES_MAX + 1)
            .read_line(&mut line)?;
        writeln!(told)?;
        io::Result::Ok(line)
    };
    let (first, second) = (ask("Password: ")?, ask("Again: ")?);
    if first == second {
        return Ok(Some(first));
    }
    writeln!(told, "error: the two are not the same")?;
    Ok(Some(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Invocation;
    use crate::config::PasswordHash;

    fn parse(line: &str) -> Invocation {
        Invocation::parse(line.split_whitespace(), None).unwrap()
    }

    fn hash(line: &str, input: &str) -> (u8, String, String) {
        let Invocation::HashKey(arguments) = parse(line) else {
            panic!("{line}");
        };
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let code = hash_key(&arguments, &mut input.as_bytes(), &mut out, &mut told).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(told))
    }

    #[test]
    fn hash_key_makes_a_line_that_holds_no_key() {
        let (code, line, told) = hash("ringgate hash-key mobile", "sixteen-bytes-00\nmore\n");
        assert_eq!((code, &*told), (EXIT_OK, ""));
        assert_eq!(
            line,
            format!("{}\n", entry("mobile", b"sixteen-bytes-00").unwrap())
        );
        assert!(!line.contains("sixteen"));
        let crlf = hash("ringgate hash-key mobile", "sixteen-bytes-00\r\n");
        assert_eq!(crlf.1, line);
    }

    #[test]
    fn hash_key_makes_keys_that_differ_and_tells_them_apart_from_the_line() {
        let (code, line, told) = hash("ringgate hash-key a --generate", "");
        let key = told.trim_end().rsplit(' ').next().unwrap();
        assert_eq!((code, key.len()), (EXIT_OK, 3 + 64));
        assert_eq!(line, format!("{}\n", entry("a", key.as_bytes()).unwrap()));
        assert_ne!(hash("ringgate hash-key a --generate", "").2, told);
    }

    #[test]
    fn hash_key_refuses_keys_that_can_be_guessed_and_names_that_are_none() {
        let short = "error: a key has at least 16 bytes; `--generate` makes a good one\n";
        assert_eq!(
            hash("ringgate hash-key a", "hunter2\n"),
            (EXIT_FAILURE, String::new(), short.into())
        );
        let mut out = Vec::new();
        let mut told = Vec::new();
        let arguments = HashKeyArgs {
            consumer: "a b".into(),
            generate: true,
        };
        let code = hash_key(&arguments, &mut io::empty(), &mut out, &mut told).unwrap();
        assert_eq!((code, out.len()), (EXIT_FAILURE, 0));
        assert!(told.starts_with(b"error: a consumer's name is 1 to 128"));
    }

    fn password(line: &str, input: &[u8]) -> (u8, String, String) {
        let Invocation::HashPassword(arguments) = parse(line) else {
            panic!("{line}");
        };
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let code = hash_password(&arguments, &mut &*input, &mut out, &mut told).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(told))
    }

    #[test]
    fn hash_password_makes_what_the_file_takes_and_the_password_verifies() {
        for (line, begins) in [
            ("ringgate hash-password", "$argon2id$v=19$m=19456,t=2,p=1$"),
            ("ringgate hash-password --bcrypt", "$2b$12$"),
        ] {
            let (code, hash, told) = password(line, "pässword-of-ada\r\nmore".as_bytes());
            assert_eq!((code, &*told), (EXIT_OK, ""));
            assert!(hash.starts_with(begins), "{hash}");
            let read = PasswordHash::read(hash.trim_end()).unwrap();
            assert!(read.verify("pässword-of-ada".as_bytes()), "{hash}");
            assert!(!read.verify(b"another"), "{hash}");
        }
        let whole = |input: &[u8]| password("ringgate hash-password --user ada", input).1;
        let line = whole(b"correct horse");
        assert!(line.starts_with("ada:$argon2id$"), "{line}");
        assert_ne!(line, whole(b"correct horse"), "a salt of its own");
    }

    #[test]
    fn hash_password_refuses_what_no_client_could_send() {
        let refused = |line: &str, input: &[u8], problem: &str| {
            let told = format!("error: {problem}\n");
            assert_eq!(password(line, input), (EXIT_FAILURE, String::new(), told));
        };
        let plain = "ringgate hash-password";
        refused(
            plain,
            b"",
            "no password: it is the first line of standard input",
        );
        refused(
            plain,
            b"\nhunter2",
            "no password: it is the first line of standard input",
        );
        refused(
            plain,
            b"a\tb-password",
            "a password holds no control characters",
        );
        refused(
            plain,
            b"\xff",
            "a password is UTF-8 (RFC 7617, section 2.1)",
        );
        let long = [b'a'; 1025];
        refused(
            plain,
            &long,
            "a password has at most 1024 bytes, with the end of its line",
        );
        let bcrypt = "bcrypt takes at most 72 bytes of a password; argon2id takes all";
        refused("ringgate hash-password --bcrypt", &[b'a'; 73], bcrypt);
        let name = "a consumer's name is 1 to 128 visible ASCII characters without blanks";
        refused("ringgate hash-password --user a\u{e9}", b"password", name);
        let colon = "a user's name holds no colon (RFC 7617, section 2)";
        refused("ringgate hash-password --user a:b", b"password", colon);
        let (code, _, told) = password(plain, b"hunter2");
        assert_eq!(code, EXIT_OK);
        assert!(told.contains("soon guessed") && !told.contains("hunter2"));
    }

    #[test]
    fn a_password_is_asked_for_twice() {
        let ask = |typed: &str| {
            let mut told = Vec::new();
            let answer = ask_twice(&mut typed.as_bytes(), &mut told).unwrap();
            (answer.unwrap(), String::from_utf8(told).unwrap())
        };
        assert_eq!(ask("a b\na b\n").0, "a b\n");
        let (answer, told) = ask("a b\na c\n");
        assert_eq!(answer, "");
        assert!(
            told.ends_with("error: the two are not the same\n"),
            "{told}"
        );
    }
}
