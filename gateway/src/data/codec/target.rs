//! The request-target (RFC 9112 section 3.2): which form it has and where its parts are.

use super::block::{BLOCK, Block, first};
use super::error::RequestError;
use super::field::Span;
use super::host::is_host;

/// The form of a request-target. Authority-form belongs to CONNECT, which is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`.
    Absolute,
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// The scheme of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The parts of a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: Option<Span>,
    /// Empty where an absolute form has none.
    pub(super) path: Span,
    /// Without its `?`.
    pub(super) query: Option<Span>,
    /// The path is [plain](super::RequestHead::plain_path).
    pub(super) plain: bool,
}

/// Reads `target`, which must be a slice of `head`. `is_options`: the method is OPTIONS.
pub(super) fn parse(head: &[u8], target: &[u8], is_options: bool) -> Result<Target, RequestError> {
    if let Some(plain) = parse_plain(head, Span::locate(head, target)) {
        return Ok(plain);
    }
    parse_any(head, target, is_options)
}

/// The most common target: origin form, and a path that reads alike to everybody. `None` says nothing.
fn parse_plain(head: &[u8], target: Span) -> Option<Target> {
    let (start, end) = (target.start(), target.end());
    if head.get(start) != Some(&b'/') {
        return None;
    }
    let mut mark = None;
    let mut place = start;
    // 1: a `/` ended the block before.
    let mut slash_before = 0;
    while place < end {
        let block = Block::at(head, place);
        let within = first(end.wrapping_sub(place));
        let question = block.equal(b'?') & within;
        // All up to the first `?`.
        let path = within & (question & question.wrapping_neg()).wrapping_sub(1);
        let slashes = block.equal(b'/');
        let begins = slashes << 1 | slash_before;
        let escapes = block.equal(b'%') | block.equal(b'\\') | block.beyond_ascii();
        let ends = block.equal(b';') | block.equal(b'#');
        if (escapes | ends | begins & (slashes | block.equal(b'.'))) & path != 0 {
            return None;
        }
        if question != 0 {
            mark = Some(place.wrapping_add(question.trailing_zeros() as usize));
            break;
        }
        slash_before = slashes >> (BLOCK - 1);
        place = place.wrapping_add(BLOCK);
    }
    let query = mark.map(|mark| Span::new(mark.wrapping_add(1), end));
    if query.is_some_and(|query| holds(head, query, b'#')) {
        return None;
    }
    Some(Target {
        form: TargetForm::Origin,
        scheme: None,
        authority: None,
        path: Span::new(start, mark.unwrap_or(end)),
        query,
        plain: true,
    })
}

fn holds(head: &[u8], part: Span, byte: u8) -> bool {
    let mut place = part.start();
    while place < part.end() {
        let within = first(part.end().wrapping_sub(place));
        if Block::at(head, place).equal(byte) & within != 0 {
            return true;
        }
        place = place.wrapping_add(BLOCK);
    }
    false
}

#[inline(never)]
fn parse_any(head: &[u8], target: &[u8], is_options: bool) -> Result<Target, RequestError> {
    if target.contains(&b'#') {
        return Err(RequestError::TargetFragment);
    }
    match target.first() {
        Some(b'/') => Ok(with_path(head, target, TargetForm::Origin)),
        Some(b'*') if target.len() == 1 && is_options => {
            Ok(with_path(head, target, TargetForm::Asterisk))
        }
        Some(b'*') if target.len() == 1 => Err(RequestError::TargetAsterisk),
        _ => parse_absolute(head, target, is_options),
    }
}

fn parse_absolute(head: &[u8], target: &[u8], is_options: bool) -> Result<Target, RequestError> {
    let colon = target
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(RequestError::Target)?;
    let (scheme, rest) = target.split_at_checked(colon).ok_or(RequestError::Target)?;
    let Some(rest) = rest.strip_prefix(b"://") else {
        return Err(RequestError::Target);
    };
    let scheme = if scheme.eq_ignore_ascii_case(b"http") {
        Scheme::Http
    } else if scheme.eq_ignore_ascii_case(b"https") {
        Scheme::Https
    } else {
        return Err(RequestError::Scheme);
    };
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).ok_or(RequestError::Target)?;
    if !is_host(head, Span::locate(head, authority)) {
        return Err(RequestError::TargetAuthority);
    }
    // RFC 9112 section 3.2.4: OPTIONS on an absolute form without path and query means `*` at the last hop.
    let form = if rest.is_empty() && is_options {
        TargetForm::Asterisk
    } else {
        TargetForm::Absolute
    };
    Ok(Target {
        scheme: Some(scheme),
        authority: Some(Span::locate(head, authority)),
        ..with_path(head, rest, form)
    })
}

fn with_path(head: &[u8], path_and_query: &[u8], form: TargetForm) -> Target {
    let mark = path_and_query.iter().position(|&byte| byte == b'?');
    let (path, query) = path_and_query
        .split_at_checked(mark.unwrap_or(path_and_query.len()))
        .unwrap_or_default();
    let query = query.get(1..).map(|query| Span::locate(head, query));
    Target {
        form,
        scheme: None,
        authority: None,
        path: Span::locate(head, path),
        query,
        plain: false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::PathPolicy;
    use crate::data::codec::{Normalised, most_generous_form, normalise_path};

    /// Octets that a parser of heads lets through.
    fn targets() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => "[a-z0-9_~!$&'()*+,=:@.-]{1,12}".prop_map(String::into_bytes),
            6 => Just(b"/".to_vec()),
            1 => prop_oneof![Just("//"), Just("/."), Just("/.."), Just(";"), Just("%2e"), Just("\\"), Just("#"), Just("?")]
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => (0x80..=0xff_u8).prop_map(|byte| vec![byte]),
            1 => "[!-~]{1,4}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(piece, 0..12)
            .prop_map(|pieces| [vec![b'/'], pieces.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_plain_target_is_what_the_other_way_says_and_its_path_reads_alike(target in targets()) {
            for behind in [&b" HTTP/1.1\r\n\r\n"[..], b"/", b"?", b""] {
                let head = [b"GET /", &*target, behind].concat();
                let at = Span::locate(&head, &head[5..][..target.len()]);
                let Some(plain) = parse_plain(&head, at) else {
                    continue;
                };
                let any = parse_any(&head, at.of(&head), false).unwrap();
                prop_assert_eq!((plain.form, plain.scheme, plain.authority), (any.form, any.scheme, any.authority));
                prop_assert_eq!((plain.path, plain.query), (any.path, any.query));
                prop_assert!(plain.plain && !any.plain);
                let path = plain.path.of(&head);
                let mut out = Vec::new();
                for policy in [PathPolicy::Strict, PathPolicy::Standard] {
                    prop_assert_eq!(normalise_path(path, policy, &mut out), Ok(Normalised::AsIs));
                }
                most_generous_form(path, false, &mut out);
                prop_assert_eq!(path, &*out);
            }
        }
    }

    #[test]
    fn most_targets_are_plain() {
        for target in [
            "/",
            "/bytes/128",
            "/v1/users/4711/orders/overview.html?page=2&sort=date;x=%2f//..",
            "/a?",
            "/a?b?c",
        ] {
            let head = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert!(
                parse_plain(head.as_bytes(), Span::new(4, target.len() + 4)).is_some(),
                "{target}"
            );
        }
    }
}
