//! A text that a regular expression of the configuration matches.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::config::Pattern;

/// Longest text that is made up.
const BYTES_MAX: usize = 1024;

/// Printable ASCII that the whole of `pattern` matches; `None`: none was found, which does not mean that there is none. It is the
/// shortest by the pattern's first choices, but that what may be absent is there once.
pub(super) fn example(pattern: &Pattern) -> Option<String> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
    let hir = parser.parse(pattern.text()).ok()?;
    let mut text = Vec::new();
    push(&hir, &mut text)?;
    let printable = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    // Assertions are passed over above, and told here.
    let matches = pattern.regex().is_match(&text);
    String::from_utf8(text)
        .ok()
        .filter(|_| printable && matches)
}

fn push(hir: &Hir, text: &mut Vec<u8>) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.extend_from_slice(&literal.0),
        HirKind::Class(class) => text.push(member(class)?),
        HirKind::Capture(capture) => push(&capture.sub, text)?,
        HirKind::Concat(parts) => {
            for part in parts {
                push(part, text)?;
            }
        }
        HirKind::Alternation(parts) => push(parts.first()?, text)?,
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            for _ in 0..repetition.min.max(1).min(most) {
                push(&repetition.sub, text)?;
            }
        }
    }
    (text.len() <= BYTES_MAX).then_some(())
}

/// A letter or digit of the class, else any printable octet of it.
fn member(class: &Class) -> Option<u8> {
    let has = |byte: &u8| match class {
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .any(|range| (range.start()..=range.end()).contains(byte)),
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .any(|range| (range.start()..=range.end()).contains(&char::from(*byte))),
    };
    let plain = (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z');
    plain.chain(b'!'..=b'~').chain([b' ']).find(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_matches() {
        for (pattern, text) in [
            ("v[0-9]+", Some("v0")),
            ("[a-z]*", Some("a")),
            (".*", Some("0")),
            ("(?:x{3}|y)-?[^a-z]", Some("xxx-0")),
            ("^Bearer \\S{4}$", Some("Bearer 0000")),
            ("/item-(?P<id>[1-9][0-9]*)/(a|b)", Some("/item-10/a")),
            ("(?i)abc", Some("abc")),
            ("", Some("")),
            // Nothing matches, no printable text does, and one that does is too long.
            ("a\\bb", None),
            ("[\\x00-\\x1f]", None),
            ("x{2000}", None),
        ] {
            let made = example(&pattern_of(pattern));
            assert_eq!(made.as_deref(), text, "{pattern}");
        }
    }

    fn pattern_of(text: &str) -> Pattern {
        Pattern::new(text, false).unwrap()
    }
}
