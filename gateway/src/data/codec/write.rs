//! Small writers.

use bytes::BufMut;
use http::StatusCode;

use super::ascii::list;

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
    /// The line for a chunk of `size` octets. A size of 0 would end the body and must not be given.
    #[must_use]
    pub fn new(size: u64) -> Self {
        debug_assert!(size > 0, "a chunk of size 0 ends the body");
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
    let mut text = [0_u8; 20];
    let mut rest = number;
    let mut used = 0_usize;
    for slot in text.iter_mut().rev() {
        *slot = b'0'.wrapping_add(u8::try_from(rest % 10).unwrap_or_default());
        used = used.saturating_add(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(text.get(text.len().saturating_sub(used)..).unwrap_or_default());
}

/// Writes `HTTP/1.1 STATUS REASON` and CRLF; the standard reason where `reason` is `None`.
pub fn put_status_line(out: &mut impl BufMut, status: u16, reason: Option<&[u8]>) {
    out.put_slice(b"HTTP/1.1 ");
    put_decimal(out, u64::from(status));
    out.put_slice(b" ");
    let standard = || StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    out.put_slice(reason.unwrap_or_else(|| standard().unwrap_or_default().as_bytes()));
    out.put_slice(b"\r\n");
}

/// The first element of the comma-separated `value` that is one of `allowed`, without case: for choosing an upgrade.
#[must_use]
pub fn token_in_list<'a>(value: &[u8], allowed: &'a [String]) -> Option<&'a str> {
    list(value).find_map(|offered| {
        let found = allowed.iter().find(|name| offered.eq_ignore_ascii_case(name.as_bytes()));
        found.map(String::as_str)
    })
}
