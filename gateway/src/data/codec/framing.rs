//! Where a body ends, as far as Content-Length and Transfer-Encoding say (RFC 9112 section 6).

use super::ascii::{is_token_text, list};
use super::field::{FieldKind, Fields};
use crate::config::{ResponseFault, ResponseFaults};

/// How a message's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// So many octets.
    Length(u64),
    /// Chunks, the last of size 0.
    Chunked,
    /// Whatever comes until the peer closes; responses only.
    UntilClose,
}

/// The fields that frame a message, as they stand.
pub(super) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// What is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FramingError {
    Length,
    LengthRepeated,
    Both,
    Encoding,
    EncodingRepeated,
    CodingUnknown,
}

/// Reads the framing fields. Every ambiguity is an error, identical duplicates too, but for those of `forgiven`, which are
/// noted in `met`.
pub(super) fn declared(
    head: &[u8],
    fields: &Fields,
    forgiven: ResponseFaults,
    met: &mut ResponseFaults,
) -> Result<Declared, FramingError> {
    if !fields.has_any(&[FieldKind::ContentLength, FieldKind::TransferEncoding]) {
        return Ok(Declared::Nothing);
    }
    if let Some(only) = fields.only(FieldKind::ContentLength)
        && !fields.has(FieldKind::TransferEncoding)
        && let Some(length) = plain_length(only.value.of(head))
    {
        return Ok(Declared::Length(length));
    }
    declared_by_all(head, fields, forgiven, met)
}

/// As [`declared`], by a look at all fields.
#[inline(never)]
fn declared_by_all(
    head: &[u8],
    fields: &Fields,
    forgiven: ResponseFaults,
    met: &mut ResponseFaults,
) -> Result<Declared, FramingError> {
    let mut forgives = |fault| {
        let forgives = forgiven.contains(fault);
        if forgives {
            met.insert(fault);
        }
        forgives
    };
    let mut length: Option<&[u8]> = None;
    let mut encoding: Option<&[u8]> = None;
    for field in fields.iter() {
        let (slot, repeated) = match field.kind {
            FieldKind::ContentLength => (&mut length, FramingError::LengthRepeated),
            FieldKind::TransferEncoding => (&mut encoding, FramingError::EncodingRepeated),
            _ => continue,
        };
        let value = field.value.of(head);
        if let Some(before) = slot.replace(value)
            && !(repeated == FramingError::LengthRepeated
                && before == value
                && forgives(ResponseFault::DuplicateContentLength))
        {
            return Err(repeated);
        }
    }
    match (length, encoding) {
        (None, None) => Ok(Declared::Nothing),
        (Some(_), Some(value)) => {
            if check_coding(value).is_ok() && forgives(ResponseFault::LengthAndEncoding) {
                Ok(Declared::Chunked)
            } else {
                Err(FramingError::Both)
            }
        }
        (Some(value), None) => {
            let mut elements = list(value);
            let first = elements.next().unwrap_or_default();
            if value.contains(&b',')
                && elements.all(|other| other == first)
                && forgives(ResponseFault::DuplicateContentLength)
            {
                return parse_length(first).map(Declared::Length);
            }
            parse_length(value).map(Declared::Length)
        }
        (None, Some(value)) => check_coding(value).map(|()| Declared::Chunked),
    }
}

/// A length of few enough digits to be within all bounds; `None` says nothing.
fn plain_length(value: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 18;
    if value.is_empty() || value.len() > DIGITS_MAX {
        return None;
    }
    value.iter().try_fold(0_u64, |length, digit| {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        (digit < 10).then(|| length.wrapping_mul(10).wrapping_add(digit))
    })
}

/// 1 to 20 digits, at most 2^63-1.
fn parse_length(value: &[u8]) -> Result<u64, FramingError> {
    if value.contains(&b',') {
        return Err(FramingError::LengthRepeated);
    }
    if value.is_empty() || value.len() > 20 {
        return Err(FramingError::Length);
    }
    let mut length = 0_u64;
    for digit in value {
        let digit = digit
            .is_ascii_digit()
            .then(|| u64::from(digit.wrapping_sub(b'0')));
        length = digit
            .and_then(|digit| length.checked_mul(10)?.checked_add(digit))
            .filter(|&length| length <= i64::MAX.cast_unsigned())
            .ok_or(FramingError::Length)?;
    }
    Ok(length)
}

/// Exactly `chunked`; another coding is told apart from nonsense.
fn check_coding(value: &[u8]) -> Result<(), FramingError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut unknown = false;
    for coding in list(value) {
        if !is_token_text(coding) {
            return Err(FramingError::Encoding);
        }
        unknown |= !coding.eq_ignore_ascii_case(b"chunked");
    }
    Err(if unknown {
        FramingError::CodingUnknown
    } else {
        FramingError::Encoding
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_length_is_what_a_look_at_all_says(value in "[0-9]{0,22}|[0-9, +a-]{1,5}") {
            if let Some(length) = plain_length(value.as_bytes()) {
                prop_assert_eq!(parse_length(value.as_bytes()), Ok(length));
            }
            let few = (1..=18).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert_eq!(plain_length(value.as_bytes()).is_some(), few);
        }
    }
}
