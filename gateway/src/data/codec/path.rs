//! The one path that is routed, limited, compared with access rules and forwarded (RFC 3986 sections 5.2.4 and 6.2.2).
//!
//! Two servers that read a path differently give an attacker two paths. So the path is brought to one form, what
//! could still be read in another way is refused, and access rules also see what the most generous upstream would.

use super::ascii::{hex_value, is_unreserved};
use super::block::{BLOCK, Block};
use super::error::PathError;
use crate::config::PathPolicy;

/// What [`normalise_path`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalised {
    /// The path is its own normal form.
    AsIs,
    /// The normal form is in the output.
    Rewritten,
}

/// Brings a path to its normal form: escapes of unreserved octets decoded, other escapes in upper case, dot segments
/// removed. Empty segments and escaped slashes stay as they are, or are refused where `policy` is strict.
///
/// `out` is scratch of the caller; it holds the normal form after [`Normalised::Rewritten`], which is never longer
/// than `path` (an empty path becomes `/`). The common path costs one scan and no copy; time is linear.
///
/// ```
/// use gateway::config::PathPolicy;
/// use gateway::data::codec::{Normalised, normalise_path};
///
/// let mut out = Vec::new();
/// let done = normalise_path(b"/a/%7Eme/../b%2fc", PathPolicy::Standard, &mut out);
/// assert_eq!((done, &out[..]), (Ok(Normalised::Rewritten), &b"/a/b%2Fc"[..]));
/// ```
///
/// # Errors
/// The rule that the path breaks.
pub fn normalise_path(
    path: &[u8],
    policy: PathPolicy,
    out: &mut Vec<u8>,
) -> Result<Normalised, PathError> {
    if is_plainly_normal(path, policy) {
        return Ok(Normalised::AsIs);
    }
    out.clear();
    out.push(b'/');
    if path.is_empty() {
        return Ok(Normalised::Rewritten);
    }
    let Some((b'/', rest)) = path.split_first() else {
        return Err(PathError::Relative);
    };
    rewrite(rest, policy, out)?;
    if policy == PathPolicy::Strict && escapes_an_escape(out) {
        return Err(PathError::DoubleEncoding);
    }
    if hides_dot_segment(out) {
        return Err(PathError::HiddenDotSegment);
    }
    Ok(if out == path {
        Normalised::AsIs
    } else {
        Normalised::Rewritten
    })
}

/// Refuses the octets that no query may hold: blanks and controls, and where `policy` is strict whatever is not ASCII.
/// A bare `%` is common and passes.
///
/// # Errors
/// [`PathError::QueryOctet`] with the first such octet.
pub fn check_query(query: &[u8], policy: PathPolicy) -> Result<(), PathError> {
    let strict = policy == PathPolicy::Strict;
    if is_plain_query(query, strict) {
        return Ok(());
    }
    let bad = |&byte: &u8| byte <= b' ' || byte == 0x7f || byte == b'#' || (strict && byte >= 0x80);
    query
        .iter()
        .copied()
        .find(bad)
        .map_or(Ok(()), |byte| Err(PathError::QueryOctet(byte)))
}

/// Whether a query that fills a block holds nothing to refuse; false says nothing.
fn is_plain_query(query: &[u8], strict: bool) -> bool {
    let Some(last) = query.len().checked_sub(BLOCK) else {
        return false;
    };
    let is_plain = |from| {
        let block = Block::at(query, from);
        let beyond = if strict { block.beyond_ascii() } else { 0 };
        block.within(0, b' ') | block.equal(0x7f) | block.equal(b'#') | beyond == 0
    };
    // The last overlaps with the one before it.
    (0..last).step_by(BLOCK).all(is_plain) && is_plain(last)
}

/// Writes to `out` (cleared first) the path that the most generous upstream could make of `path`: decoded twice, `\` as
/// `/`, empty segments merged, `;params` and whatever follows a decoded `?` or `#` cut, controls and blanks at a
/// segment's end dropped, dot segments removed, and in lower case if `ignore_case`.
///
/// For comparing with access rules and routes only. A trailing slash stays.
pub fn most_generous_form(path: &[u8], ignore_case: bool, out: &mut Vec<u8>) {
    out.clear();
    out.push(b'/');
    let mut segment = 1;
    let mut in_params = false;
    let mut rest = path;
    while let Some((byte, tail)) = decode_twice(rest) {
        rest = tail;
        match byte {
            b'/' | b'\\' => {
                if end_segment(out, segment) {
                    out.push(b'/');
                }
                segment = out.len();
                in_params = false;
            }
            b'?' | b'#' => break,
            b';' => in_params = true,
            0..0x20 | 0x7f => {}
            _ if in_params => {}
            _ => out.push(if ignore_case {
                byte.to_ascii_lowercase()
            } else {
                byte
            }),
        }
    }
    _ = end_segment(out, segment);
}

/// Ends the segment that begins at `segment`; false where it left nothing.
fn end_segment(out: &mut Vec<u8>, segment: usize) -> bool {
    while out.len() > segment && out.last() == Some(&b' ') {
        out.pop();
    }
    match out.get(segment..).unwrap_or_default() {
        b"" => false,
        b"." => {
            out.truncate(segment);
            false
        }
        b".." => {
            out.truncate(segment);
            pop_segment(out);
            false
        }
        _ => true,
    }
}

/// Removes the last segment of a path that ends in `/`; the root stays.
fn pop_segment(out: &mut Vec<u8>) {
    if out.len() > 1 {
        out.pop();
        let parent = out
            .iter()
            .rposition(|&byte| byte == b'/')
            .unwrap_or_default();
        out.truncate(parent.saturating_add(1));
    }
}

/// One scan that is right about most paths: nothing escaped, no segment that begins with a dot, nothing to refuse.
fn is_plainly_normal(path: &[u8], policy: PathPolicy) -> bool {
    let mut previous = 0;
    for &byte in path {
        let plain = match byte {
            b'%' | b'\\' | b'#' => false,
            b'.' => previous != b'/',
            b'/' => previous != b'/' || policy == PathPolicy::Standard,
            _ => byte.is_ascii_graphic(),
        };
        if !plain {
            return false;
        }
        previous = byte;
    }
    path.first() == Some(&b'/')
}

/// Appends the normal form of `rest`, which follows the first `/`, to `out`, which holds that `/`.
fn rewrite(rest: &[u8], policy: PathPolicy, out: &mut Vec<u8>) -> Result<(), PathError> {
    let strict = policy == PathPolicy::Strict;
    let mut segment = out.len();
    let mut rest = rest;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'/' => {
                if strict && out.len() == segment {
                    return Err(PathError::EmptySegment);
                }
                if remove_dot_segment(out, segment)? {
                    out.push(b'/');
                }
                segment = out.len();
            }
            b'%' => {
                let [high, low, after @ ..] = tail else {
                    return Err(PathError::Escape);
                };
                rest = after;
                push_escape(*high, *low, strict, out)?;
            }
            b'\\' => return Err(PathError::Backslash),
            b'#' => return Err(PathError::Octet(byte)),
            _ if byte.is_ascii_graphic() => out.push(byte),
            _ => return Err(PathError::Octet(byte)),
        }
    }
    remove_dot_segment(out, segment).map(|_| ())
}

/// Decodes an escape where that changes nothing but the spelling.
fn push_escape(high: u8, low: u8, strict: bool, out: &mut Vec<u8>) -> Result<(), PathError> {
    let (Some(high_value), Some(low_value)) = (hex_value(high), hex_value(low)) else {
        return Err(PathError::Escape);
    };
    match (high_value << 4) | low_value {
        0 => return Err(PathError::EncodedNul),
        byte if is_unreserved(byte) => {
            out.push(byte);
            return Ok(());
        }
        b'/' | b'\\' if strict => return Err(PathError::EncodedSlash),
        byte if strict && byte.is_ascii_control() => return Err(PathError::EncodedControl),
        _ => {}
    }
    out.extend_from_slice(&[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
    Ok(())
}

/// Resolves the segment that begins at `segment` if it is `.` or `..`; true where it was neither and stays.
fn remove_dot_segment(out: &mut Vec<u8>, segment: usize) -> Result<bool, PathError> {
    match out.get(segment..).unwrap_or_default() {
        b"." => {
            out.truncate(segment);
            Ok(false)
        }
        b".." => {
            out.truncate(segment);
            match out.as_slice() {
                [b'/'] => return Err(PathError::AboveRoot),
                [.., b'/', b'/'] => return Err(PathError::EmptyBeforeDotDot),
                _ => pop_segment(out),
            }
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Whether an escaped `%` has two hexadecimal digits behind it, as octets or as escapes that were decoded.
fn escapes_an_escape(path: &[u8]) -> bool {
    path.array_windows().any(|[percent, two, five, high, low]| {
        [*percent, *two, *five] == *b"%25" && high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
    })
}

/// Whether a segment becomes `.` or `..` for someone who decodes twice, takes `\` for `/`, or cuts `;params`, controls
/// and blanks. `path` has no open dot segments any more, so whatever is found was hidden.
fn hides_dot_segment(path: &[u8]) -> bool {
    const fn is_dots(dots: Option<u8>) -> bool {
        matches!(dots, Some(1 | 2))
    }
    // How many dots the segment is made of; `None` once it holds something else.
    let mut dots = Some(0_u8);
    let mut in_params = false;
    let mut rest = path;
    while let Some((byte, tail)) = decode_twice(rest) {
        rest = tail;
        match byte {
            b'/' | b'\\' => {
                if is_dots(dots) {
                    return true;
                }
                dots = Some(0);
                in_params = false;
            }
            b'?' | b'#' => {
                if is_dots(dots) {
                    return true;
                }
                dots = None;
            }
            b';' => in_params = true,
            0..=0x20 | 0x7f => {}
            _ if in_params => {}
            b'.' => dots = dots.and_then(|dots| dots.checked_add(1)),
            _ => dots = None,
        }
    }
    is_dots(dots)
}

/// The first octet after decoding once, and what follows it. An escape that is none stands for itself.
fn decode_once(bytes: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'%', high, low, rest @ ..] = bytes
        && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
    {
        return Some(((high << 4) | low, rest));
    }
    bytes.split_first().map(|(&byte, rest)| (byte, rest))
}

/// The first octet after decoding twice, and what follows it.
fn decode_twice(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = decode_once(bytes)?;
    if first == b'%'
        && let Some((high, after)) = decode_once(rest)
        && let Some((low, after)) = decode_once(after)
        && let (Some(high), Some(low)) = (hex_value(high), hex_value(low))
    {
        return Some(((high << 4) | low, after));
    }
    Some((first, rest))
}

#[cfg(test)]
mod tests;
