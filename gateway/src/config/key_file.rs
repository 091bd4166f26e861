//! Files of API keys: a line for each key, with whose it is and its SHA-256. The key itself is nowhere.
//!
//! A key is a long random secret (`ringgate hash-key --generate` makes one of 256 bits), so that a fast hash is enough: who
//! has the file cannot guess what it was made from. What people choose for themselves belongs behind a slow hash instead.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::load::read_bounded;
use super::resolved::{ApiKey, FileState};

/// Largest file in bytes: room for half a million keys and more.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most keys of a file.
const KEYS_MAX: usize = 1_000_000;
/// Longest name of a consumer in bytes.
pub(super) const CONSUMER_BYTES_MAX: usize = 128;
/// The one hash there is; a word, so that there can be another.
const SHA256: &str = "sha256:";

/// The SHA-256 of a key. Costs some 150 ns and allocates nothing.
#[must_use]
pub fn digest(key: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let hashed = ring::digest::digest(&ring::digest::SHA256, key);
    digest.copy_from_slice(hashed.as_ref());
    digest
}

/// The line of a key.
///
/// # Errors
///
/// `consumer` is no name that a line can hold.
pub fn entry(consumer: &str, key: &[u8]) -> Result<String, String> {
    check_consumer(consumer)?;
    let mut line = format!("{consumer} {SHA256}");
    for byte in digest(key) {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        line.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    Ok(line)
}

/// Reads a file of keys; waits for the disk.
///
/// # Errors
///
/// The file cannot be read, or a line is not what it must be: one text with the first such line's number.
pub fn read(path: &Path) -> Result<Vec<ApiKey>, String> {
    let shown = path.display();
    let cannot = |error: io::Error| format!("{shown} cannot be read: {error}");
    let bytes = read_bounded(path, FILE_BYTES_MAX).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
    parse(&text).map_err(|(line, problem)| format!("{shown}:{line}: {problem}"))
}

/// What a file is like now; `None`: there is none. Waits for the disk.
#[must_use]
pub fn state(path: &Path) -> Option<FileState> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?;
    Some(FileState((modified, metadata.len(), metadata.ino())))
}

/// The keys of a text; else the number of the first bad line and what is wrong with it.
fn parse(text: &str) -> Result<Vec<ApiKey>, (usize, String)> {
    let mut keys = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = parse_line(line).map_err(|problem| (number, problem))?;
        if let Some(first) = seen.insert(key.digest, number) {
            return Err((number, format!("line {first} holds the same key")));
        }
        keys.push(key);
        if keys.len() > KEYS_MAX {
            return Err((number, format!("more than {KEYS_MAX} keys")));
        }
    }
    Ok(keys)
}

fn parse_line(line: &str) -> Result<ApiKey, String> {
    let mut words = line.split_ascii_whitespace();
    let (Some(consumer), Some(hash), None) = (words.next(), words.next(), words.next()) else {
        return Err("write CONSUMER sha256:HASH; `ringgate hash-key CONSUMER` does".into());
    };
    check_consumer(consumer)?;
    // What follows the word may be a key that somebody pasted here: no message repeats it.
    let digest = hash.strip_prefix(SHA256).and_then(parse_digest);
    let digest = digest.ok_or(
        "no hash of a key: it is sha256: and 64 hexadecimal digits; `ringgate hash-key` makes it",
    )?;
    Ok(ApiKey {
        consumer: consumer.to_owned(),
        digest,
    })
}

fn parse_digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(digest)
}

/// A consumer's name stands in headers, logs and lines of files: visible ASCII, nothing else.
pub(super) fn check_consumer(name: &str) -> Result<(), String> {
    if (1..=CONSUMER_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    {
        Ok(())
    } else {
        Err(format!(
            "a consumer's name is 1 to {CONSUMER_BYTES_MAX} visible ASCII characters without blanks"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_made_is_read_again() {
        let text = format!("# keys\n\n  {}  \n", entry("mobile", b"secret").unwrap());
        let keys = parse(&text).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].consumer, "mobile");
        assert_eq!(keys[0].digest, digest(b"secret"));
    }

    #[test]
    fn the_hash_is_the_sha256_of_fips_180_4() {
        let line = entry("a", b"abc").unwrap();
        let expected = "a sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_never_shown() {
        let good = entry("a", b"k").unwrap();
        let refused = |text: &str| {
            let (line, problem) = parse(text).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
            format!("{line}: {problem}")
        };
        let no_hash = "no hash of a key: it is sha256: and 64 hexadecimal digits; `ringgate hash-key` makes it";
        assert_eq!(
            refused(&format!("{good}\na hunter2")),
            format!("2: {no_hash}")
        );
        assert_eq!(refused("a sha256:hunter2"), format!("1: {no_hash}"));
        assert_eq!(
            refused(&good.replace("sha256", "sha512")),
            format!("1: {no_hash}")
        );
        assert_eq!(refused(&format!("{good}0")), format!("1: {no_hash}"));
        let form = "write CONSUMER sha256:HASH; `ringgate hash-key CONSUMER` does";
        assert_eq!(refused("hunter2"), format!("1: {form}"));
        assert_eq!(refused(&format!("{good} x")), format!("1: {form}"));
        assert_eq!(
            refused(&format!("{good}\n\n{}", entry("b", b"k").unwrap())),
            "3: line 1 holds the same key"
        );
        assert_eq!(
            refused(&good.replacen('a', "\u{e9}", 1)),
            "1: a consumer's name is 1 to 128 visible ASCII characters without blanks"
        );
    }
}
