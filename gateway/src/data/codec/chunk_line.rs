//! The lines of a chunked body: chunk size with extensions, trailer field (RFC 9112 section 7.1).
//!
//! Each function looks at the octets that are there and says: whole line, not yet, or never. Its answer about a
//! prefix never contradicts its answer about more.

use super::ascii::{hex_value, is_ows, is_token, is_token_text, next_control, trim_ows};
use super::error::ChunkError;

/// Longest extension part of one chunk, in octets.
const EXTENSION_MAX: usize = 256;

/// Most digits of a chunk size.
const SIZE_DIGITS_MAX: usize = 16;

/// Longest trailer field line, in octets with its CRLF.
const TRAILER_LINE_MAX: usize = 4096;

/// A whole chunk-size line.
#[derive(Clone, Copy, Debug)]
pub(super) struct SizeLine<'a> {
    /// The size in octets.
    pub(super) size: u64,
    /// Its digits without leading zeros (`0` for 0).
    pub(super) digits: &'a [u8],
    /// Octets of the line with its CRLF.
    pub(super) length: usize,
    /// Octets of its extensions.
    pub(super) extension: usize,
}

impl SizeLine<'_> {
    /// Whether the line is just its digits.
    pub(super) const fn is_canonical(&self) -> bool {
        self.length == self.digits.len().saturating_add(2)
    }
}

/// Reads a chunk-size line at the start of `input`; `None`: not all of it is there.
pub(super) fn parse_size_line(input: &[u8]) -> Result<Option<SizeLine<'_>>, ChunkError> {
    let mut size = 0_u64;
    let mut count = 0_usize;
    let digits = input.iter().map_while(|&byte| hex_value(byte));
    for digit in digits.take(SIZE_DIGITS_MAX.saturating_add(1)) {
        count = count.saturating_add(1);
        if count > SIZE_DIGITS_MAX {
            return Err(ChunkError::SizeTooLarge);
        }
        size = (size << 4) | u64::from(digit);
    }
    if size > i64::MAX.cast_unsigned() {
        return Err(ChunkError::SizeTooLarge);
    }
    let (digits, rest) = input.split_at_checked(count).unwrap_or_default();
    if digits.is_empty() {
        return if input.is_empty() {
            Ok(None)
        } else {
            Err(ChunkError::Size)
        };
    }
    let extension = match rest {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => 0,
        [b';', ..] => match scan_extensions(rest)? {
            Some(length) => length,
            None => return Ok(None),
        },
        _ => return Err(ChunkError::SizeEnd),
    };
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let zeros = zeros.min(count.saturating_sub(1));
    let digits = digits.get(zeros..).unwrap_or_default();
    let length = count.saturating_add(extension).saturating_add(2);
    Ok(Some(SizeLine {
        size,
        digits,
        length,
        extension,
    }))
}

/// Where in `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` the scan is.
#[derive(Clone, Copy)]
enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterValue,
}

impl Extension {
    /// The state after `byte`; `None` where the grammar has no such octet there.
    const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::BeforeName, b' ' | b'\t') => Self::BeforeName,
            (Self::Name | Self::AfterName | Self::Token | Self::AfterValue, b';') => {
                Self::BeforeName
            }
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::Name | Self::AfterName, b' ' | b'\t') => Self::AfterName,
            (Self::BeforeValue, b' ' | b'\t') => Self::BeforeValue,
            (Self::Token | Self::AfterValue, b' ' | b'\t') => Self::AfterValue,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::AfterValue,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            (Self::BeforeName | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::BeforeValue | Self::Token, _) if is_token(byte) => Self::Token,
            _ => return None,
        })
    }

    /// Whether a line may end here; a blank before the end is not in the grammar.
    const fn may_end(self, last: u8) -> bool {
        matches!(self, Self::Name | Self::Token | Self::AfterValue) && !is_ows(last)
    }
}

/// Octets up to the CRLF. `rest` begins with `;`.
fn scan_extensions(rest: &[u8]) -> Result<Option<usize>, ChunkError> {
    let mut state = Extension::BeforeName;
    let mut last = b';';
    for (at, &byte) in rest.iter().enumerate().skip(1) {
        if byte == b'\r' {
            return match rest.get(at.saturating_add(1)) {
                _ if !state.may_end(last) => Err(ChunkError::Extension),
                None => Ok(None),
                Some(b'\n') => Ok(Some(at)),
                Some(_) => Err(ChunkError::Extension),
            };
        }
        if at == EXTENSION_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        state = state.next(byte).ok_or(ChunkError::Extension)?;
        last = byte;
    }
    Ok(None)
}

/// A line of the trailer section.
#[derive(Clone, Copy, Debug)]
pub(super) enum TrailerLine<'a> {
    /// The empty line that ends the message.
    End,
    /// A field.
    Field {
        /// Its name.
        name: &'a [u8],
        /// Its value, trimmed.
        value: &'a [u8],
        /// Octets of the line with its CRLF.
        length: usize,
    },
}

/// Reads a trailer line at the start of `input`; `None`: not all of it is there.
pub(super) fn parse_trailer_line(input: &[u8]) -> Result<Option<TrailerLine<'_>>, ChunkError> {
    let mut from = 0;
    while let Some((at, control)) = next_control(input, from) {
        if at.saturating_add(2) > TRAILER_LINE_MAX {
            break;
        }
        from = at.saturating_add(1);
        if control == b'\t' {
            continue;
        }
        return match (control, input.get(from)) {
            (b'\r', None) => Ok(None),
            (b'\r', Some(b'\n')) => read_trailer(input.get(..at).unwrap_or_default()).map(Some),
            _ => Err(ChunkError::Trailer),
        };
    }
    if input.len().saturating_add(2) > TRAILER_LINE_MAX {
        return Err(ChunkError::TrailersTooLarge);
    }
    Ok(None)
}

fn read_trailer(line: &[u8]) -> Result<TrailerLine<'_>, ChunkError> {
    if line.is_empty() {
        return Ok(TrailerLine::End);
    }
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(ChunkError::Trailer)?;
    let (name, value) = line.split_at_checked(colon).ok_or(ChunkError::Trailer)?;
    if !is_token_text(name) {
        return Err(ChunkError::Trailer);
    }
    let value = trim_ows(value.get(1..).unwrap_or_default());
    Ok(TrailerLine::Field {
        name,
        value,
        length: line.len().saturating_add(2),
    })
}
