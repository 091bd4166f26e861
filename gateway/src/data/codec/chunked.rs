//! Follows a chunked body octet by octet (RFC 9112 section 7.1), and writes it again in canonical form.

use bytes::BufMut;

use super::chunk_line::{TrailerLine, parse_size_line, parse_trailer_line};
use super::error::ChunkError;
use super::field::{FieldKind, classify};

/// Most octets of chunk extensions in a message.
const EXTENSIONS_MAX: u64 = 16 * 1024;

/// Largest trailer section, in octets.
const TRAILERS_MAX: u64 = 16 * 1024;

/// Framing octets that a message may have whatever its payload, and for each octet of payload.
const OVERHEAD_BASE: u64 = 16 * 1024;
const OVERHEAD_PER_OCTET: u64 = 8;

/// Follows the framing of one chunked body.
///
/// A step understands whole size lines, trailer lines and line ends, and any part of chunk data. What it leaves
/// (`consumed..`, at most a few KiB) must be at the start of the next step's input, with more behind it; whatever is
/// wrong with a line is found as soon as its octet is there. Any partition of the input gives the same body or error.
///
/// `Copy`, so that a look ahead can be thrown away: forward the input as it is where [`verify`](Self::verify) says
/// that it is canonical, else go back to the copy from before and [`transcode`](Self::transcode).
///
/// ```
/// use gateway::data::codec::{ChunkedOutput, ChunkedReader};
///
/// let body = b"005;a=b\r\nhello\r\n0\r\n\r\nNEXT";
/// let mut reader = ChunkedReader::new();
/// let before = reader;
/// assert!(!reader.verify(body).unwrap().canonical);
/// reader = before;
/// let mut out = Vec::new();
/// let done = reader.transcode(body, ChunkedOutput::Chunked { trailers: false }, &mut out).unwrap();
/// assert_eq!((done.consumed, done.payload, done.ended), (21, 5, true));
/// assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkedReader {
    state: State,
    payload: u64,
    framing: u64,
    extensions: u64,
    trailers: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    /// So many octets of the chunk are still to come, at least one.
    Data(u64),
    DataEnd,
    Trailers,
    Ended,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets of the input that were understood. The rest is presented again, with more behind it, at the next step.
    pub consumed: usize,
    /// Payload octets among them.
    pub payload: usize,
    /// Whether those octets may be sent as they are to a receiver of chunks: [`ChunkedReader::transcode`] would write the
    /// same.
    pub canonical: bool,
    /// The message is complete; what follows `consumed` belongs to the next.
    pub ended: bool,
}

/// How a body is written for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkedOutput {
    /// As chunks of the same sizes, extensions dropped.
    Chunked {
        /// Whether the receiver takes trailers; even then those that frame, route or identify are dropped.
        trailers: bool,
    },
    /// Payload alone, for a receiver that reads until close.
    Bare,
}

impl ChunkedReader {
    /// At the start of a body.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Size,
            payload: 0,
            framing: 0,
            extensions: 0,
            trailers: 0,
        }
    }

    /// Follows the framing and copies nothing.
    ///
    /// # Errors
    /// The first rule broken. The connection cannot be used further.
    pub fn verify(&mut self, input: &[u8]) -> Result<Progress, ChunkError> {
        self.step(input, &mut Nothing)
    }

    /// Follows the framing and writes to `out` what is meant for the receiver: at most `consumed` octets.
    ///
    /// # Errors
    /// The first rule broken. What was written is part of a body that must now be cut short.
    pub fn transcode(
        &mut self,
        input: &[u8],
        output: ChunkedOutput,
        out: &mut impl BufMut,
    ) -> Result<Progress, ChunkError> {
        self.step(input, &mut Transcoder { out, output })
    }

    /// Payload octets so far together with those that the current chunk still promises: what a limit on the body is
    /// compared with.
    #[must_use]
    pub const fn payload_promised(&self) -> u64 {
        match self.state {
            State::Data(left) => self.payload.saturating_add(left),
            _ => self.payload,
        }
    }

    /// Whether the message is complete.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn step(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<Progress, ChunkError> {
        let mut rest = input;
        let payload_before = self.payload;
        let mut canonical = true;
        loop {
            let taken = match self.state {
                State::Size => self.read_size(rest, sink, &mut canonical)?,
                State::Data(left) => self.read_data(rest, left, sink),
                State::DataEnd => self.read_data_end(rest, sink)?,
                State::Trailers => {
                    canonical &= rest.is_empty();
                    self.read_trailer(rest, sink)?
                }
                State::Ended => 0,
            };
            if taken == 0 {
                break;
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        let payload = self.payload.wrapping_sub(payload_before);
        Ok(Progress {
            consumed: input.len().saturating_sub(rest.len()),
            payload: usize::try_from(payload).unwrap_or(usize::MAX),
            canonical,
            ended: self.is_ended(),
        })
    }

    /// Each of these returns how many octets it took; 0: it needs more.
    fn read_size(
        &mut self,
        rest: &[u8],
        sink: &mut impl Sink,
        canonical: &mut bool,
    ) -> Result<usize, ChunkError> {
        let Some(line) = parse_size_line(rest)? else {
            return Ok(0);
        };
        let mut taken = line.length;
        let mut next = State::Data(line.size);
        if line.size == 0 {
            // Whether trailers follow decides what may be forwarded as it is: the last chunk waits for that.
            next = match rest.get(taken..).unwrap_or_default() {
                [] | [b'\r'] => return Ok(0),
                [b'\r', b'\n', ..] => {
                    taken = taken.saturating_add(2);
                    State::Ended
                }
                _ => State::Trailers,
            };
        }
        self.extensions = self.extensions.saturating_add(line.extension as u64);
        if self.extensions > EXTENSIONS_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        self.framing = self.framing.saturating_add(taken as u64);
        let justified = self.payload.saturating_mul(OVERHEAD_PER_OCTET);
        if self.framing > justified.saturating_add(OVERHEAD_BASE) {
            return Err(ChunkError::Overhead);
        }
        *canonical &= line.is_canonical() && !matches!(next, State::Trailers);
        sink.size(line.digits);
        if matches!(next, State::Ended) {
            sink.end();
        }
        self.state = next;
        Ok(taken)
    }

    fn read_data(&mut self, rest: &[u8], left: u64, sink: &mut impl Sink) -> usize {
        let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        sink.data(rest.get(..taken).unwrap_or_default());
        self.payload = self.payload.saturating_add(taken as u64);
        let left = left.saturating_sub(taken as u64);
        self.state = if left == 0 {
            State::DataEnd
        } else {
            State::Data(left)
        };
        taken
    }

    fn read_data_end(&mut self, rest: &[u8], sink: &mut impl Sink) -> Result<usize, ChunkError> {
        match rest {
            [] | [b'\r'] => Ok(0),
            [b'\r', b'\n', ..] => {
                self.framing = self.framing.saturating_add(2);
                sink.data_end();
                self.state = State::Size;
                Ok(2)
            }
            _ => Err(ChunkError::DataEnd),
        }
    }

    fn read_trailer(&mut self, rest: &[u8], sink: &mut impl Sink) -> Result<usize, ChunkError> {
        match parse_trailer_line(rest)? {
            None => Ok(0),
            Some(TrailerLine::End) => {
                sink.end();
                self.state = State::Ended;
                Ok(2)
            }
            Some(TrailerLine::Field {
                name,
                value,
                length,
            }) => {
                self.trailers = self.trailers.saturating_add(length as u64);
                if self.trailers > TRAILERS_MAX {
                    return Err(ChunkError::TrailersTooLarge);
                }
                if is_forwardable(name) {
                    sink.trailer(name, value, length);
                }
                Ok(length)
            }
        }
    }
}

/// Whether a trailer may ever be forwarded. RFC 9110 section 6.5.1 forbids those that are needed for framing, routing,
/// authentication, or reading the content: a receiver that merges trailers into the head would act on them.
fn is_forwardable(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 11] = [
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expires",
        b"location",
        b"set-cookie",
        b"www-authenticate",
    ];
    const PREFIX: &[u8] = b"x-forwarded-";
    matches!(classify(name), FieldKind::Date | FieldKind::Other)
        && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
        && !name
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Receives what a step understood.
trait Sink {
    /// A chunk begins, or the last one came: its digits without leading zeros.
    fn size(&mut self, digits: &[u8]);
    fn data(&mut self, data: &[u8]);
    fn data_end(&mut self);
    /// `length`: octets of the line as it came.
    fn trailer(&mut self, name: &[u8], value: &[u8], length: usize);
    fn end(&mut self);
}

struct Nothing;

impl Sink for Nothing {
    fn size(&mut self, _: &[u8]) {}
    fn data(&mut self, _: &[u8]) {}
    fn data_end(&mut self) {}
    fn trailer(&mut self, _: &[u8], _: &[u8], _: usize) {}
    fn end(&mut self) {}
}

struct Transcoder<'a, B> {
    out: &'a mut B,
    output: ChunkedOutput,
}

impl<B: BufMut> Transcoder<'_, B> {
    fn put_framing(&mut self, parts: &[&[u8]]) {
        if self.output != ChunkedOutput::Bare {
            parts.iter().for_each(|part| self.out.put_slice(part));
        }
    }
}

impl<B: BufMut> Sink for Transcoder<'_, B> {
    fn size(&mut self, digits: &[u8]) {
        self.put_framing(&[digits, b"\r\n"]);
    }

    fn data(&mut self, data: &[u8]) {
        self.out.put_slice(data);
    }

    fn data_end(&mut self) {
        self.put_framing(&[b"\r\n"]);
    }

    fn trailer(&mut self, name: &[u8], value: &[u8], length: usize) {
        if self.output == (ChunkedOutput::Chunked { trailers: true }) {
            // A space after the colon only where the line had room for one: no output is longer than its input.
            let tight = name.len().saturating_add(value.len()).saturating_add(3);
            self.put_framing(&[
                name,
                if length > tight { b": " } else { b":" },
                value,
                b"\r\n",
            ]);
        }
    }

    fn end(&mut self) {
        self.put_framing(&[b"\r\n"]);
    }
}

#[cfg(test)]
mod tests;
