//! The pieces that heads and chunks are written from. No formatting machinery, no allocation.

use bytes::BufMut;
use http::StatusCode;

use super::ascii::list;
use super::field::Field;
use super::request::Version;

/// What follows the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The line before a chunk's data: its size in lower-case hexadecimal without leading zeros, and CRLF.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    text: [u8; 18],
    start: u8,
}

impl ChunkHead {
    /// The line for a chunk of `size` octets. A size of 0 is the last chunk and ends the body.
    #[must_use]
    pub fn new(size: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"0000000000000000\r\n";
        let mut start = 16_u8;
        let mut rest = size;
        for (slot, place) in text.iter_mut().take(16).rev().zip((0_u8..16).rev()) {
            *slot = DIGITS.get((rest & 15) as usize).copied().unwrap_or(b'0');
            start = place;
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        Self { text, start }
    }

    /// The line.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(usize::from(self.start)..).unwrap_or_default()
    }
}

/// Writes `number` in decimal.
pub fn put_decimal(out: &mut impl BufMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes `HTTP/1.1 STATUS REASON` and CRLF; the standard reason where `reason` is `None`.
pub fn put_status_line(out: &mut impl BufMut, status: u16, reason: Option<&[u8]>) {
    debug_assert!((100..1000).contains(&status), "three digits");
    let mut begin = *b"HTTP/1.1 000 ";
    let [.., hundreds, tens, ones, _] = &mut begin;
    for (place, digit) in [
        (hundreds, status / 100 % 10),
        (tens, status / 10 % 10),
        (ones, status % 10),
    ] {
        *place = b'0'.wrapping_add(u8::try_from(digit).unwrap_or_default());
    }
    out.put_slice(&begin);
    let standard = || {
        StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
    };
    out.put_slice(reason.unwrap_or_else(|| standard().unwrap_or_default().as_bytes()));
    out.put_slice(b"\r\n");
}

/// The first element of the comma-separated `value` that is one of `allowed`, without case: for choosing an upgrade.
#[must_use]
pub fn token_in_list<'a>(value: &[u8], allowed: &'a [String]) -> Option<&'a str> {
    list(value).find_map(|offered| {
        let found = allowed
            .iter()
            .find(|name| offered.eq_ignore_ascii_case(name.as_bytes()));
        found.map(String::as_str)
    })
}

/// Appends all of `pieces`. One loop, since the code of an append is longer than most pieces: heads are written piece by piece.
#[inline(never)]
pub(super) fn put_all(out: &mut impl BufMut, pieces: &[&[u8]]) {
    for piece in pieces {
        if !piece.is_empty() {
            out.put_slice(piece);
        }
    }
}

/// Writes `name: value` and CRLF.
pub(in crate::data) fn put_field(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    let colon: &[u8] = if value.is_empty() { b":" } else { b": " };
    put_all(out, &[name, colon, value, b"\r\n"]);
}

/// Writes `Via` (RFC 9110 section 7.6.3): the version in which the message was received, and who received it.
pub(super) fn put_via(out: &mut impl BufMut, received: Version, name: &[u8]) {
    out.put_slice(match received {
        Version::Http10 => b"Via: 1.0 ",
        Version::Http11 => b"Via: 1.1 ",
    });
    out.put_slice(name);
    out.put_slice(b"\r\n");
}

/// Writes `name: number` and CRLF.
pub(super) fn put_number_field(out: &mut impl BufMut, name: &[u8], number: u64) {
    out.put_slice(name);
    out.put_slice(b": ");
    put_decimal(out, number);
    out.put_slice(b"\r\n");
}

/// Whether a length that was read from `value` would be written so.
pub(super) const fn is_canonical_number(value: &[u8]) -> bool {
    matches!(value, [b'0'] | [b'1'..=b'9', ..])
}

/// Where a field line ends, with its CRLF, if it stands in the head as it would be written.
#[inline]
pub(super) fn end_of_canonical(head: &[u8], field: &Field) -> Option<usize> {
    let (colon, end) = (field.name.end(), field.value.end());
    let is_canonical = field.value.start() == colon.wrapping_add(2)
        && head.get(colon..)?.first_chunk() == Some(b": ")
        && head.get(end..)?.first_chunk() == Some(b"\r\n");
    is_canonical.then_some(end.wrapping_add(2))
}

/// Field lines to be copied from a head: neighbours that stand there in canonical form in one run.
pub(super) struct Run<'a> {
    head: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Run<'a> {
    /// Begins with the head's first `end` octets as they are: its start line, and what else follows on.
    pub(super) const fn new(head: &'a [u8], end: usize) -> Self {
        Self {
            head,
            start: 0,
            end,
        }
    }

    /// Copies one field. Fields must come in the order of the head.
    #[inline]
    pub(super) fn keep(&mut self, out: &mut impl BufMut, field: &Field) {
        let start = field.name.start();
        match end_of_canonical(self.head, field) {
            Some(end) if self.end == start => self.end = end,
            canonical => self.begin(out, field, canonical),
        }
    }

    /// A field that does not continue the run: ends it, and begins another or is written by itself.
    #[inline(never)]
    fn begin(&mut self, out: &mut impl BufMut, field: &Field, canonical: Option<usize>) {
        out.put_slice(self.octets());
        (self.start, self.end) = (0, 0);
        match canonical {
            Some(end) => (self.start, self.end) = (field.name.start(), end),
            None => put_field(out, field.name.of(self.head), field.value.of(self.head)),
        }
    }

    /// What is not yet written of it.
    pub(super) fn octets(&self) -> &'a [u8] {
        self.head.get(self.start..self.end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_chunk_heads_agree_with_the_formatter() {
        let mut numbers = vec![0, u64::MAX, u64::from(u32::MAX)];
        numbers.extend((0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, (1 << bit) + 1]));
        numbers.extend((0..20).map(|power| 10_u64.pow(power)));
        for number in numbers {
            let mut out = Vec::new();
            put_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
            if number > 0 {
                assert_eq!(
                    ChunkHead::new(number).as_bytes(),
                    format!("{number:x}\r\n").as_bytes()
                );
            }
        }
    }

    #[test]
    fn a_status_line_has_the_standard_reason_or_the_one_given() {
        let mut out = Vec::new();
        put_status_line(&mut out, 404, None);
        put_status_line(&mut out, 599, None);
        put_status_line(&mut out, 200, Some(b"Fine"));
        assert_eq!(
            out,
            b"HTTP/1.1 404 Not Found\r\nHTTP/1.1 599 \r\nHTTP/1.1 200 Fine\r\n"
        );
    }

    #[test]
    fn an_upgrade_is_chosen_by_the_order_of_the_offer() {
        let allowed = ["websocket".to_owned(), "foo/1".to_owned()];
        assert_eq!(
            token_in_list(b"h2c, Foo/1 , WebSocket", &allowed),
            Some("foo/1")
        );
        assert_eq!(token_in_list(b"h2c", &allowed), None);
        assert_eq!(token_in_list(b"", &allowed), None);
    }
}
