//! Finds the end of a message head in a buffer that grows. Must not interpret what it finds.

use std::ops::Range;

use super::ascii::next_control;
use super::block::{BLOCK, Block};
use super::error::HeadError;

/// Two blocks.
const PAIR: usize = 2 * BLOCK;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Octets of the request line or status line, without its CRLF.
    pub start_line_max: u32,
    /// Octets of the whole head from its first line to the empty line, with all line ends.
    pub head_max: u32,
    /// Field lines; more than [`FIELDS_CAP`](super::FIELDS_CAP) is taken as that.
    pub fields_max: u16,
}

/// Finds the end of a head octet by octet as it arrives, each octet looked at once.
///
/// Every line must end in CRLF; a bare CR, a bare LF, NUL or another control is refused when it is seen, even if the
/// head never ends. A peer that sends its head in any number of pieces gets the same answer as one that sends it at
/// once.
///
/// ```
/// use gateway::data::codec::{HeadLimits, HeadScanner};
///
/// let limits = HeadLimits { start_line_max: 8192, head_max: 65536, fields_max: 128 };
/// let mut scanner = HeadScanner::for_request();
/// assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n", &limits), Ok(None));
/// assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", &limits), Ok(Some(0..27)));
/// ```
#[derive(Clone, Debug)]
pub struct HeadScanner {
    blank_lines_max: u8,
    blank_lines: u8,
    /// Where the first line begins.
    start: usize,
    /// Where the current line begins.
    line_start: usize,
    /// Everything before this was looked at.
    position: usize,
    /// Complete lines, the start line included.
    lines: u32,
}

impl HeadScanner {
    /// For requests: up to two empty lines before the request line are skipped (RFC 9112 section 2.2 asks for at least
    /// one).
    #[must_use]
    pub const fn for_request() -> Self {
        Self::new(2)
    }

    /// For responses: an empty line before the status line is an error.
    #[must_use]
    pub const fn for_response() -> Self {
        Self::new(0)
    }

    const fn new(blank_lines_max: u8) -> Self {
        Self {
            blank_lines_max,
            blank_lines: 0,
            start: 0,
            line_start: 0,
            position: 0,
            lines: 0,
        }
    }

    /// Looks at what is new in `buffer` and returns where the head is once it is complete.
    ///
    /// `buffer` begins where it began at the last call and holds at least what it held then. The range includes the
    /// empty line at the end and excludes empty lines skipped at the start. After `Some` the scanner is spent: the next
    /// head needs a new one.
    ///
    /// # Errors
    /// The first rule broken, in the order of the octets.
    pub fn scan(
        &mut self,
        buffer: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<Range<usize>>, HeadError> {
        if self.position == 0 {
            if buffer.is_empty() {
                return Ok(None);
            }
            if let Some(end) = find_plain(buffer, limits) {
                return Ok(Some(0..end));
            }
        }
        self.scan_octets(buffer, limits)
    }

    /// As [`Self::scan`], whatever there is.
    #[inline(never)]
    fn scan_octets(
        &mut self,
        buffer: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<Range<usize>>, HeadError> {
        debug_assert!(self.position <= buffer.len(), "a buffer that shrank");
        while let Some((at, control)) = next_control(buffer, self.position) {
            self.check_size(at, limits)?;
            match (control, buffer.get(at.saturating_add(1))) {
                (b'\t', _) => self.position = at.saturating_add(1),
                (b'\r', Some(b'\n')) => {
                    if let Some(head) = self.end_line(at, limits)? {
                        return Ok(Some(head));
                    }
                }
                (b'\r', None) => {
                    self.position = at;
                    return Ok(None);
                }
                (b'\r', Some(_)) => return Err(HeadError::BareCr),
                (b'\n', _) => return Err(HeadError::BareLf),
                (0, _) => return Err(HeadError::Nul),
                _ => return Err(HeadError::Control(control)),
            }
        }
        self.position = buffer.len();
        self.check_size(self.position, limits)?;
        Ok(None)
    }

    /// Where the complete lines are that have come so far, without empty ones before the first.
    #[must_use]
    pub const fn lines(&self) -> Range<usize> {
        self.start..self.line_start
    }

    /// True while nothing but empty lines has come: a peer that leaves now has sent no request.
    #[must_use]
    pub const fn is_before_first_octet(&self) -> bool {
        self.position == self.start
    }

    /// `end`: how far the head reaches, as known so far.
    fn check_size(&self, end: usize, limits: &HeadLimits) -> Result<(), HeadError> {
        let size = end.saturating_sub(self.start);
        if self.lines == 0 && size > limits.start_line_max as usize {
            return Err(HeadError::StartLineTooLong);
        }
        if size > limits.head_max as usize {
            return Err(HeadError::HeadTooLarge);
        }
        Ok(())
    }

    /// A CRLF at `at`: the end of a line, of an empty line before the head, or of the head.
    fn end_line(
        &mut self,
        at: usize,
        limits: &HeadLimits,
    ) -> Result<Option<Range<usize>>, HeadError> {
        let next = at.saturating_add(2);
        let empty = at == self.line_start;
        self.line_start = next;
        self.position = next;
        if !empty {
            if self.lines > u32::from(limits.fields_max) {
                return Err(HeadError::TooManyFields);
            }
            self.lines = self.lines.saturating_add(1);
            return Ok(None);
        }
        if self.lines > 0 {
            self.check_size(next, limits)?;
            return Ok(Some(self.start..next));
        }
        if self.blank_lines == self.blank_lines_max {
            return Err(HeadError::LeadingEmptyLines);
        }
        self.blank_lines = self.blank_lines.saturating_add(1);
        self.start = next;
        Ok(None)
    }
}

/// Where a head ends that is whole, well within its bounds and without a control but for its line ends, as nearly all are.
/// `None` says nothing.
fn find_plain(buffer: &[u8], limits: &HeadLimits) -> Option<usize> {
    // That an empty line comes first is for others to judge.
    if buffer.first() == Some(&b'\r') {
        return None;
    }
    let last = buffer.len().checked_sub(PAIR)?;
    let (mut from, mut lines) = (0_usize, 0_u32);
    loop {
        // The last octets are looked at together with some before them.
        let begin = from.min(last);
        let seen = from.wrapping_sub(begin) % PAIR;
        let marks = controls(buffer.get(begin..)?.first_chunk()?) >> seen;
        if marks == 0 {
            from = begin.wrapping_add(PAIR);
            if from >= buffer.len() {
                return None;
            }
            continue;
        }
        let at = from.wrapping_add(marks.trailing_zeros() as usize);
        if buffer.get(at..)?.first_chunk() != Some(b"\r\n") {
            return None;
        }
        from = at.wrapping_add(2);
        lines = lines.wrapping_add(1);
        if buffer.get(from..)?.first_chunk() == Some(b"\r\n") {
            break;
        }
        if from >= buffer.len() {
            return None;
        }
    }
    let end = from.wrapping_add(2);
    let is_within = end <= limits.start_line_max.min(limits.head_max) as usize
        && lines <= u32::from(limits.fields_max).wrapping_add(1);
    is_within.then_some(end)
}

/// Which of the octets are controls (0x00-0x1F, 0x7F).
#[inline]
fn controls(pair: &[u8; PAIR]) -> u32 {
    let marks = |block: Block| block.within(0, 0x1f) | block.equal(0x7f);
    marks(Block::at(pair, 0)) | marks(Block::at(pair, BLOCK)) << BLOCK
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of heads, good ones and bad ones.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"\r\n".to_vec()),
            4 => "[!-~]{1,40}".prop_map(String::into_bytes),
            1 => Just(b"\r\n\r\n".to_vec()),
            1 => "[\t\r\n\x00\x7f -~]{1,3}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 1..20),
        ];
        proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_plain_head_ends_where_a_look_at_each_octet_says(
            data in pieces(),
            start_line_max in 1..80_u32,
            head_max in 1..300_u32,
            fields_max in 0..8_u16,
            is_request in any::<bool>(),
        ) {
            let limits = HeadLimits { start_line_max, head_max, fields_max };
            let new = || if is_request { HeadScanner::for_request() } else { HeadScanner::for_response() };
            let slow = new().scan_octets(&data, &limits);
            if let Some(end) = find_plain(&data, &limits) {
                prop_assert_eq!(&slow, &Ok(Some(0..end)));
            }
            prop_assert_eq!(new().scan(&data, &limits), slow);
        }
    }

    #[test]
    fn most_heads_are_plain() {
        let limits = HeadLimits {
            start_line_max: 8192,
            head_max: 65_536,
            fields_max: 128,
        };
        let line = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
        for fields in 1..30 {
            let head = [b"GET / HTTP/1.1\r\n", &*line.repeat(fields), b"\r\n"].concat();
            let with_body = [&*head, b"\x00\r\r\n\r\n"].concat();
            for data in [&head, &with_body] {
                assert_eq!(find_plain(data, &limits), Some(head.len()));
            }
        }
    }
}
