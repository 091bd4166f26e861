//! Files of passwords: a line for each user, with a hash that is slow to make, so that who has the file has not the passwords.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

use super::key_file::check_consumer;
use super::load::read_bounded;

/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most users of a file.
const USERS_MAX: usize = 10_000;
/// Most memory of one verification, in KiB: two are under way at once.
const ARGON2_KIB_MAX: u32 = 128 << 10;
/// Most passes over that memory.
const ARGON2_PASSES_MAX: u32 = 16;
/// Costs of bcrypt: some 50 ms at 10, twice that for each more.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 8..=14;

/// What OWASP recommends for argon2id: KiB of memory, and passes over it by one thread.
const ARGON2_OWN: (u32, u32) = (19 << 10, 2);
/// The cost of bcrypt where we choose it.
const BCRYPT_OWN: u32 = 12;
/// bcrypt looks at no more of a password.
const BCRYPT_BYTES_MAX: usize = 72;

const _: () = {
    assert!(ARGON2_OWN.0 <= ARGON2_KIB_MAX && ARGON2_OWN.1 <= ARGON2_PASSES_MAX);
    assert!(*BCRYPT_COSTS.start() <= BCRYPT_OWN && BCRYPT_OWN <= *BCRYPT_COSTS.end());
};

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    /// With 19 MiB and two passes.
    Argon2id,
    /// With cost 12.
    Bcrypt,
}

/// The hash of a password, as it stands in a file. Takes tens to hundreds of milliseconds, on purpose.
///
/// # Errors
///
/// In words: it cannot be hashed so.
pub fn hash(how: Hashing, password: &[u8], salt: [u8; 16]) -> Result<String, String> {
    match how {
        Hashing::Argon2id => {
            let params = Params::new(ARGON2_OWN.0, ARGON2_OWN.1, 1, None);
            let params = params.map_err(|error| error.to_string())?;
            let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let hash: phc::PasswordHash = hasher
                .hash_password_with_salt(password, &salt)
                .map_err(|error| error.to_string())?;
            Ok(hash.to_string())
        }
        Hashing::Bcrypt if password.len() > BCRYPT_BYTES_MAX => Err(format!(
            "bcrypt takes at most {BCRYPT_BYTES_MAX} bytes of a password; argon2id takes all"
        )),
        Hashing::Bcrypt => bcrypt::hash_with_salt(password, BCRYPT_OWN, salt)
            .map(|parts| parts.to_string())
            .map_err(|error| error.to_string()),
    }
}

/// The line of a user.
///
/// # Errors
///
/// `user` is no name that a line can hold.
pub fn entry(user: &str, hash: &str) -> Result<String, String> {
    if user.contains(':') {
        return Err("a user's name holds no colon (RFC 7617, section 2)".into());
    }
    check_consumer(user)?;
    Ok(format!("{user}:{hash}"))
}

/// A user, and what its password is verified with.
#[derive(Clone, Debug)]
pub struct Password {
    /// The user's name, which is the consumer's.
    pub user: String,
    /// The hash.
    pub hash: PasswordHash,
}

/// A hash of a password, as it stands in a file.
#[derive(Clone)]
pub enum PasswordHash {
    /// Argon2id (RFC 9106), in PHC form.
    Argon2id(String),
    /// bcrypt.
    Bcrypt(String),
}

impl fmt::Debug for PasswordHash {
    /// Without the hash, which is nothing for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2id(_) => "Argon2id",
            Self::Bcrypt(_) => "Bcrypt",
        })
    }
}

impl PasswordHash {
    /// Reads one, within the bounds of what it may cost to verify.
    ///
    /// # Errors
    ///
    /// What is wrong, in words that do not repeat it.
    pub fn read(text: &str) -> Result<Self, String> {
        parse_hash(text)
    }

    /// Whether it is that of `password`. Takes long, and much memory, on purpose: never on a worker.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2id(text) => phc::PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        }
    }
}

/// Reads a file of passwords; waits for the disk.
///
/// # Errors
///
/// The file cannot be read, or a line is not what it must be: one text with the first such line's number.
pub fn read(path: &Path) -> Result<Vec<Password>, String> {
    let shown = path.display();
    let bytes = read_bounded(path, FILE_BYTES_MAX)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
    parse(&text).map_err(|(line, problem)| format!("{shown}:{line}: {problem}"))
}

/// The users of a text; else the number of the first bad line and what is wrong with it.
fn parse(text: &str) -> Result<Vec<Password>, (usize, String)> {
    let mut passwords = Vec::new();
    let mut seen = HashSet::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let password = parse_line(line).map_err(|problem| (number, problem))?;
        if !seen.insert(password.user.clone()) {
            return Err((number, format!("`{}` is there twice", password.user)));
        }
        passwords.push(password);
        if passwords.len() > USERS_MAX {
            return Err((number, format!("more than {USERS_MAX} users")));
        }
    }
    Ok(passwords)
}

/// No message repeats what follows the colon: it may be a password that somebody wrote there.
fn parse_line(line: &str) -> Result<Password, String> {
    let (user, hash) = line.split_once(':').ok_or("write NAME:HASH")?;
    check_consumer(user)?;
    Ok(Password {
        user: user.to_owned(),
        hash: parse_hash(hash)?,
    })
}

fn parse_hash(text: &str) -> Result<PasswordHash, String> {
    if text.starts_with("$argon2") {
        let malformed = || "no hash of argon2id in PHC form".to_owned();
        let hash = phc::PasswordHash::new(text).map_err(|_| malformed())?;
        if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
            return Err(malformed());
        }
        let params = Params::try_from(&hash).map_err(|_| malformed())?;
        if params.m_cost() > ARGON2_KIB_MAX || params.t_cost() > ARGON2_PASSES_MAX {
            return Err(format!(
                "argon2id with at most m={ARGON2_KIB_MAX} and t={ARGON2_PASSES_MAX}, or a request could take all there is"
            ));
        }
        return Ok(PasswordHash::Argon2id(text.to_owned()));
    }
    if ["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|kind| text.starts_with(kind))
    {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| "no hash of bcrypt".to_owned())?;
        if !BCRYPT_COSTS.contains(&parts.get_cost()) {
            let (least, most) = BCRYPT_COSTS.into_inner();
            return Err(format!("bcrypt with a cost from {least} to {most}"));
        }
        return Ok(PasswordHash::Bcrypt(text.to_owned()));
    }
    Err("neither argon2id ($argon2id$) nor bcrypt ($2y$, $2b$, $2a$)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "correct horse", made by other programs: the reference implementation of argon2, and crypt of the C library.
    const BCRYPT: &str = "$2b$08$abcdefghijklmnopqrstuubAvJmxpQuyV3jn7x.SUSPxe.DearCPe";
    const ARGON2ID: &str = "$argon2id$v=19$m=8192,t=1,p=1$AlwmlgJjTtzFV+9qbBECHQ$Y5Zsr2Te3kWmq6R8ylJwCBEQ2YSZIW4A7msPIJzJstk";

    #[test]
    fn hashes_of_other_programs_are_verified() {
        let passwords = parse(&format!("# users\n\na:{BCRYPT}\n  b:{ARGON2ID}\n")).unwrap();
        for password in passwords {
            assert!(password.hash.verify(b"correct horse"), "{}", password.user);
            for wrong in [
                &b""[..],
                b"correct horsE",
                b"correct horse ",
                b"correct horse\0",
            ] {
                assert!(!password.hash.verify(wrong), "{}", password.user);
            }
        }
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_never_shown() {
        let refused = |text: &str| {
            let (line, problem) = parse(text).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
            format!("{line}: {problem}")
        };
        let neither = "neither argon2id ($argon2id$) nor bcrypt ($2y$, $2b$, $2a$)";
        assert_eq!(refused("a:hunter2"), format!("1: {neither}"));
        assert_eq!(refused("a:$apr1$hunter2$x"), format!("1: {neither}"));
        assert_eq!(refused("\na"), "2: write NAME:HASH");
        assert_eq!(refused("a:$2y$10$hunter2"), "1: no hash of bcrypt");
        let cheap = BCRYPT.replacen("$08$", "$04$", 1);
        assert_eq!(
            refused(&format!("a:{cheap}")),
            "1: bcrypt with a cost from 8 to 14"
        );
        assert_eq!(
            refused("a:$argon2id$hunter2"),
            "1: no hash of argon2id in PHC form"
        );
        let other = ARGON2ID.replacen("argon2id", "argon2d", 1);
        assert_eq!(
            refused(&format!("a:{other}")),
            "1: no hash of argon2id in PHC form"
        );
        let large = ARGON2ID.replacen("m=8192", "m=4194304", 1);
        assert!(refused(&format!("a:{large}")).contains("at most m=131072"));
        assert_eq!(
            refused(&format!("a:{BCRYPT}\na:{ARGON2ID}")),
            "2: `a` is there twice"
        );
    }
}
