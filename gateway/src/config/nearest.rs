//! The nearest right word for a wrong one.

use std::mem;

/// Longest word compared, in bytes; a longer one gets no suggestion.
const WORD_BYTES_MAX: usize = 64;

/// The candidate that a typist most likely meant, if any is near enough.
///
/// Near enough is one edit in three characters, at least one: `adress` for `address`, not `foo` for `bar`. Compared
/// without ASCII case. Of equally near candidates one that begins alike wins, then the first. Cost: the product of both lengths a candidate.
pub(super) fn nearest<N: AsRef<str>>(
    word: &str,
    candidates: impl IntoIterator<Item = N>,
) -> Option<N> {
    let distance_max = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.as_ref().len().abs_diff(word.len()) <= distance_max)
        .filter(|candidate| word.len().max(candidate.as_ref().len()) <= WORD_BYTES_MAX)
        .map(|candidate| {
            (
                edits(word.as_bytes(), candidate.as_ref().as_bytes()),
                candidate,
            )
        })
        .filter(|&(distance, _)| distance <= distance_max)
        .min_by_key(|(distance, candidate)| {
            let first = candidate.as_ref().as_bytes().first();
            // The first letter is the one that a typist gets right.
            let begins_alike = first.map(u8::to_ascii_lowercase)
                == word.as_bytes().first().map(u8::to_ascii_lowercase);
            (*distance, !begins_alike)
        })
        .map(|(_, candidate)| candidate)
}

/// `; did you mean X?` for the nearest candidate, or nothing.
pub(crate) fn did_you_mean(
    word: &str,
    candidates: impl IntoIterator<Item = impl AsRef<str>>,
) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| {
        format!("; did you mean `{}`?", near.as_ref())
    })
}

/// Edits between two words: insert, delete, replace, swap neighbours (optimal string alignment distance).
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let replace = above[j] + usize::from(!from.eq_ignore_ascii_case(&to));
            let mut least = replace.min(above[j + 1] + 1).min(row[j] + 1);
            let swapped = i > 0 && j > 0 && a[i - 1] == to && from == b[j - 1];
            if swapped {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::{edits, nearest};

    #[test]
    fn counts_insert_delete_replace_and_swap() {
        for (a, b, distance) in [
            ("address", "address", 0),
            ("adress", "address", 1),
            ("addresss", "address", 1),
            ("addrass", "address", 1),
            ("adrdess", "address", 1),
            ("Address", "address", 0),
            ("", "abc", 3),
            ("abc", "", 3),
        ] {
            assert_eq!(edits(a.as_bytes(), b.as_bytes()), distance, "{a} {b}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["name", "address", "idle_timeout"];
        assert_eq!(nearest("idel_timeot", keys), Some("idle_timeout"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("ath", ["path", "auth"]), Some("auth"));
        assert_eq!(nearest("zz", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }
}
