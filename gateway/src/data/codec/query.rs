//! Names and values of a query (`application/x-www-form-urlencoded`, WHATWG URL section 5.1), decoded where they lie.

use super::ascii::hex_value;

/// What `+` stands for.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) enum Plus {
    /// Itself.
    IsPlus,
    /// A blank.
    IsBlank,
}

/// Names and values of a `Cookie` field (RFC 6265, section 4.2.1), values without quotes.
pub(in crate::data) fn cookies(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|&byte| byte == b';').map(|pair| {
        let (name, value) = split_at_equals(pair);
        let value = value.trim_ascii();
        let bare = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        (name.trim_ascii(), bare.unwrap_or(value))
    })
}

/// Whether a part of a query between `&` is the parameter with this name.
pub(in crate::data) fn is_parameter(pair: &[u8], name: &str) -> bool {
    decode(split_at_equals(pair).0, Plus::IsBlank).eq(name.bytes())
}

/// Names and values of a query, not decoded.
pub(in crate::data) fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query
        .split(|&byte| byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(split_at_equals)
}

/// A name alone has an empty value.
fn split_at_equals(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = pair.iter().position(|&byte| byte == b'=');
    let (name, rest) = pair
        .split_at_checked(at.unwrap_or(pair.len()))
        .unwrap_or((pair, &[]));
    (name, rest.get(1..).unwrap_or_default())
}

/// The octets with their percent-escapes replaced, once; what is no escape stays.
pub(in crate::data) fn decode(bytes: &[u8], plus: Plus) -> impl Iterator<Item = u8> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            rest = after;
            return Some(high << 4 | low);
        }
        let (&first, after) = rest.split_first()?;
        rest = after;
        Some(match (first, plus) {
            (b'+', Plus::IsBlank) => b' ',
            (first, _) => first,
        })
    })
}
