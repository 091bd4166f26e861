//! Reads a response head from an upstream into spans (RFC 9112 sections 4 and 6.3).

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::ascii::{is_same_name, is_token_text, list};
use super::error::ResponseError;
use super::field::{FIELDS_CAP, Field, FieldKind, Fields, Span};
use super::framing::{self, BodyFraming, Declared, FramingError};
use super::request::{CONNECTION_OPTIONS_MAX, Method, Version, is_protected};
use crate::config::{ResponseFault, ResponseFaults};

/// Largest head of an interim response, in octets.
pub const INTERIM_HEAD_MAX: usize = 16 * 1024;

/// Most interim responses to one request; the caller counts them.
pub const INTERIMS_MAX: u32 = 8;

/// What the request was, as far as it decides how its response is read.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// Its method.
    pub method: Method,
    /// The protocol it was forwarded with in Upgrade, if any.
    pub upgrade: Option<&'a [u8]>,
    /// More fields than this in the response: 502.
    pub fields_max: u16,
    /// Faults that are mended.
    pub tolerate: ResponseFaults,
}

/// A response head that broke no rule. Spans are offsets into the head it was read from.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead {
    /// The status, 100..=599.
    pub status: u16,
    /// The version.
    pub version: Version,
    /// The reason phrase as sent; may be empty.
    pub reason: Span,
    /// Where the body ends. [`BodyFraming::None`] for answers to HEAD, 1xx, 204, 205 and 304, whatever their fields say
    /// (205: chunked, though, is followed to its end).
    pub framing: BodyFraming,
    /// Content-Length as a number, also where there is no body (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the connection may serve another request once the body is read; false also where an octet beyond the
    /// head could be a body that the framing denies.
    pub reusable: bool,
    /// Faults that were mended; the connection is not used again where there is one.
    pub tolerated: ResponseFaults,
}

impl ResponseHead {
    /// Whether another head follows for the same request: a 1xx other than 101.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Whether the connection now speaks the protocol that the request asked for.
    #[must_use]
    pub const fn is_upgrade(&self) -> bool {
        self.status == 101
    }
}

/// Reads `head`, which a [`HeadScanner`](super::HeadScanner) has found, into spans and `fields`.
///
/// Allocates only where `fields` grows.
///
/// # Errors
/// The rule that the response breaks. The caller closes the upstream connection and answers 502.
pub fn parse_response(
    head: &[u8],
    request: &RequestContext<'_>,
    fields: &mut Fields,
) -> Result<ResponseHead, ResponseError> {
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_CAP];
    let limit = FIELDS_CAP.min(usize::from(request.fields_max));
    let slots = slots.get_mut(..limit).unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    let blanks = request.tolerate.contains(ResponseFault::BlankBeforeColon);
    config.allow_spaces_after_header_name_in_responses(blanks);
    match config.parse_response_with_uninit_headers(&mut response, head, slots) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(ResponseError::Incomplete),
        Err(error) => return Err(diagnose(error)),
    }
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(ResponseError::Incomplete);
    };
    if !(100..600).contains(&status) {
        return Err(ResponseError::Status);
    }
    fields.fill(head, response.headers);
    if status < 200 && head.len() > INTERIM_HEAD_MAX {
        return Err(ResponseError::InterimTooLarge);
    }
    let version = if version == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let mut tolerated = ResponseFaults::NONE;
    if blanks
        && fields
            .iter()
            .any(|field| has_blank_before_colon(head, field))
    {
        tolerated.insert(ResponseFault::BlankBeforeColon);
    }
    let declared = check_framing(head, fields, version, request.tolerate, &mut tolerated)?;
    let stays = read_connection(head, fields)? && version == Version::Http11;
    if status == 101 && !is_expected_upgrade(head, fields, request.upgrade) {
        return Err(ResponseError::UnexpectedUpgrade);
    }
    let content_length = match declared {
        Declared::Length(length) => Some(length),
        Declared::Nothing | Declared::Chunked => None,
    };
    let (framing, is_clear) = frame(status, request.method, &declared)?;
    Ok(ResponseHead {
        status,
        version,
        reason: reason_span(head),
        framing,
        content_length,
        reusable: stays
            && is_clear
            && tolerated == ResponseFaults::NONE
            && status != 101
            && framing != BodyFraming::UntilClose,
        tolerated,
    })
}

/// The message length by RFC 9112 section 6.3, and whether both sides must read it so.
fn frame(
    status: u16,
    method: Method,
    declared: &Declared,
) -> Result<(BodyFraming, bool), ResponseError> {
    match (status, declared) {
        // RFC 9110 section 8.6: 1xx and 204 have no Content-Length, section 6.1 of RFC 9112: nor Transfer-Encoding.
        (100..=199 | 204, _) => Ok((BodyFraming::None, matches!(declared, Declared::Nothing))),
        (304, _) => Ok((BodyFraming::None, !matches!(declared, Declared::Chunked))),
        _ if method == Method::Head => Ok((BodyFraming::None, true)),
        (205, Declared::Length(1..)) => Err(ResponseError::ContentInReset),
        (205, Declared::Length(0)) => Ok((BodyFraming::None, true)),
        (205, Declared::Nothing) => Ok((BodyFraming::None, false)),
        (_, Declared::Length(length)) => Ok((BodyFraming::Length(*length), true)),
        (_, Declared::Chunked) => Ok((BodyFraming::Chunked, true)),
        (_, Declared::Nothing) => Ok((BodyFraming::UntilClose, true)),
    }
}

fn check_framing(
    head: &[u8],
    fields: &Fields,
    version: Version,
    tolerate: ResponseFaults,
    tolerated: &mut ResponseFaults,
) -> Result<Declared, ResponseError> {
    match framing::declared(head, fields, tolerate, tolerated) {
        Ok(Declared::Chunked) if version == Version::Http10 => {
            if !tolerate.contains(ResponseFault::EncodingInHttp10) {
                return Err(ResponseError::TransferEncodingInHttp10);
            }
            tolerated.insert(ResponseFault::EncodingInHttp10);
            Ok(Declared::Chunked)
        }
        Ok(declared) => Ok(declared),
        Err(FramingError::Length) => Err(ResponseError::ContentLength),
        Err(FramingError::LengthRepeated) => Err(ResponseError::ContentLengthRepeated),
        Err(FramingError::Both) => Err(ResponseError::LengthAndEncoding),
        Err(
            FramingError::Encoding | FramingError::EncodingRepeated | FramingError::CodingUnknown,
        ) => Err(ResponseError::TransferEncoding),
    }
}

/// White space between name and colon, which the parser was told to pass over.
fn has_blank_before_colon(head: &[u8], field: &Field) -> bool {
    head.get(field.name.end()) != Some(&b':')
}

/// Marks the fields that Connection names; returns whether the connection stays open. A protected name is passed over:
/// the field goes end to end whatever the upstream says.
fn read_connection(head: &[u8], fields: &mut Fields) -> Result<bool, ResponseError> {
    if !fields.has(FieldKind::Connection) {
        return Ok(true);
    }
    if let Some(only) = fields.only(FieldKind::Connection) {
        // What nearly all say that say something. Keep-Alive itself is of the hop, named or not.
        let value = only.value.of(head);
        if is_same_name(value, b"close") {
            return Ok(false);
        }
        if is_same_name(value, b"keep-alive") && !fields.has(FieldKind::HopByHop) {
            return Ok(true);
        }
    }
    read_options(head, fields)
}

/// As [`read_connection`], whatever it says.
#[inline(never)]
fn read_options(head: &[u8], fields: &mut Fields) -> Result<bool, ResponseError> {
    let mut stays = true;
    let mut options = 0_usize;
    for index in 0..fields.len() {
        let Some(value) = fields.value_at(index, FieldKind::Connection) else {
            continue;
        };
        for option in list(value.of(head)).filter(|option| !option.is_empty()) {
            options = options.saturating_add(1);
            if options > CONNECTION_OPTIONS_MAX || !is_token_text(option) {
                return Err(ResponseError::Connection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                stays = false;
            } else if !is_protected(option) && !option.eq_ignore_ascii_case(b"set-cookie") {
                fields.mark_named(head, option);
            }
        }
    }
    Ok(stays)
}

/// A 101 must name, in its one Upgrade field, the protocol that was asked for.
fn is_expected_upgrade(head: &[u8], fields: &Fields, asked: Option<&[u8]>) -> bool {
    let mut upgrades = fields
        .iter()
        .filter(|field| field.kind == FieldKind::Upgrade);
    match (upgrades.next(), upgrades.next(), asked) {
        (Some(only), None, Some(asked)) => only.value.of(head).eq_ignore_ascii_case(asked),
        _ => false,
    }
}

/// `HTTP/1.1 200 reason`: whatever follows the second space. Not httparse's, which hides a reason outside ASCII.
fn reason_span(head: &[u8]) -> Span {
    const BEFORE: usize = b"HTTP/1.1 200 ".len();
    // The last blank may be missing.
    const FROM: usize = BEFORE - 1;
    let rest = head.get(FROM..).unwrap_or_default();
    let length = rest.iter().position(|&byte| byte == b'\r');
    let end = length.map_or(head.len(), |length| FROM.saturating_add(length));
    Span::new(BEFORE.min(end), end)
}

#[cold]
const fn diagnose(error: httparse::Error) -> ResponseError {
    match error {
        httparse::Error::TooManyHeaders => ResponseError::TooManyFields,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => ResponseError::Field,
        httparse::Error::Version => ResponseError::Version,
        _ => ResponseError::StatusLine,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::field::connections;
    use super::*;

    proptest! {
        #[test]
        fn what_connection_mostly_says_is_read_as_all_that_it_may_say(lines in connections::lines()) {
            let [mostly, all] = connections::read_by(&lines, [read_connection, read_options]);
            prop_assert_eq!(mostly, all);
        }
    }
}
