//! A message body on its way through: checked piece by piece, never held whole.

use runtime::Buf;

use super::codec::{
    BodyFraming, CHUNK_END, ChunkError, ChunkHead, ChunkedOutput, ChunkedReader, LAST_CHUNK,
};

/// Payload after which a sender of more than a medium block is read by large ones: most of what the first read of a request
/// takes. One that only announces much gets no large block.
const FLOWING_BYTES: u64 = 2 * 1024;

/// How a body is read and written.
#[derive(Debug)]
pub(super) struct Transfer {
    source: Source,
    sink: Sink,
    ended: bool,
    payload_bytes: u64,
}

#[derive(Debug)]
enum Source {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(ChunkedReader),
    UntilClose,
}

/// How a body is written for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// As it comes: by length, or until close.
    Plain,
    /// In chunks.
    Chunked {
        /// The receiver takes trailers.
        trailers: bool,
    },
}

impl Transfer {
    /// A body framed by `framing`, to be written for `sink`.
    pub(super) fn new(framing: BodyFraming, sink: Sink) -> Self {
        let source = match framing {
            BodyFraming::None => Source::Length(0),
            BodyFraming::Length(length) => Source::Length(length),
            BodyFraming::Chunked => Source::Chunked(ChunkedReader::new()),
            BodyFraming::UntilClose => Source::UntilClose,
        };
        let ended = matches!(source, Source::Length(0));
        Self {
            source,
            sink,
            ended,
            payload_bytes: 0,
        }
    }

    /// The body is complete.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Payload bytes seen, and those that the sender has promised for the chunk under way.
    pub(super) fn payload_promised(&self) -> u64 {
        match &self.source {
            Source::Chunked(reader) => reader.payload_promised(),
            Source::Length(_) | Source::UntilClose => self.payload_bytes,
        }
    }

    /// Payload bytes seen.
    pub(super) const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// A good size for the next read.
    pub(super) fn read_size(&self) -> usize {
        match self.source {
            Source::Length(left) if left <= runtime::SMALL_BYTES as u64 => runtime::SMALL_BYTES,
            Source::Length(left) if left <= runtime::MEDIUM_BYTES as u64 => runtime::MEDIUM_BYTES,
            _ if self.payload_bytes < FLOWING_BYTES => runtime::MEDIUM_BYTES,
            _ => runtime::LARGE_BYTES,
        }
    }

    /// Takes out of `buf` what belongs to the body, as it is to be written; empty where nothing can be yet. What
    /// follows the body stays in `buf`.
    ///
    /// Bytes are copied only where their form changes.
    pub(super) fn take(&mut self, buf: &mut Buf) -> Result<Buf, ChunkError> {
        if self.ended || buf.is_empty() {
            return Ok(Buf::empty());
        }
        match (&mut self.source, self.sink) {
            (Source::Length(left), _) => {
                let count = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                self.ended = *left == 0;
                self.payload_bytes += count as u64;
                Ok(cut(buf, count))
            }
            (Source::UntilClose, Sink::Plain) => {
                self.payload_bytes += buf.len() as u64;
                let count = buf.len();
                Ok(cut(buf, count))
            }
            (Source::UntilClose, Sink::Chunked { .. }) => {
                self.payload_bytes += buf.len() as u64;
                let head = ChunkHead::new(buf.len() as u64);
                let framing = head.as_bytes().len() + CHUNK_END.len();
                let mut chunk = Buf::with_capacity(buf.len() + framing);
                chunk.extend(head.as_bytes());
                chunk.extend(buf.data());
                chunk.extend(CHUNK_END);
                buf.clear();
                Ok(chunk)
            }
            (Source::Chunked(reader), sink) => {
                let before = *reader;
                let output = match sink {
                    Sink::Plain => ChunkedOutput::Bare,
                    Sink::Chunked { trailers } => ChunkedOutput::Chunked { trailers },
                };
                let seen = reader.verify(buf.data())?;
                self.ended = seen.ended;
                self.payload_bytes += seen.payload as u64;
                if seen.canonical && output != ChunkedOutput::Bare {
                    return Ok(cut(buf, seen.consumed));
                }
                *reader = before;
                // The canonical form is no longer than what was read.
                let mut out = Buf::with_capacity(seen.consumed);
                let written = reader.transcode(buf.data(), output, &mut out)?;
                debug_assert_eq!(written.consumed, seen.consumed, "two readings of one body");
                buf.consume(written.consumed);
                Ok(out)
            }
        }
    }

    /// The sender closed. Gives what ends the body for its receiver; `None`: it was cut short.
    pub(super) fn close(&mut self) -> Option<&'static [u8]> {
        match (&self.source, self.sink) {
            _ if self.ended => Some(b""),
            (Source::UntilClose, sink) => {
                self.ended = true;
                Some(if sink == Sink::Plain { b"" } else { LAST_CHUNK })
            }
            (Source::Length(_) | Source::Chunked(_), _) => None,
        }
    }
}

/// The first `count` bytes of `buf`, without a copy where they are all of it.
fn cut(buf: &mut Buf, count: usize) -> Buf {
    let rest = buf.split_off(count);
    std::mem::replace(buf, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(transfer: &mut Transfer, pieces: &[&str]) -> (String, String) {
        let mut out = String::new();
        let mut buf = Buf::empty();
        for piece in pieces {
            buf.extend(piece.as_bytes());
            let taken = transfer.take(&mut buf).unwrap();
            out.push_str(std::str::from_utf8(taken.data()).unwrap());
        }
        (out, String::from_utf8(buf.data().to_vec()).unwrap())
    }

    #[test]
    fn a_body_by_length_ends_at_its_length() {
        let mut transfer = Transfer::new(BodyFraming::Length(5), Sink::Plain);
        let (body, rest) = take_all(&mut transfer, &["he", "llo", "GET"]);
        assert_eq!((body.as_str(), rest.as_str()), ("hello", "GET"));
        assert!(transfer.is_ended() && transfer.payload_bytes() == 5);
    }

    #[test]
    fn no_body_takes_nothing() {
        let mut transfer = Transfer::new(BodyFraming::None, Sink::Plain);
        let (body, rest) = take_all(&mut transfer, &["GET /"]);
        assert_eq!((body.as_str(), rest.as_str()), ("", "GET /"));
    }

    #[test]
    fn a_body_until_close_is_chunked_for_one_who_stays() {
        let mut transfer =
            Transfer::new(BodyFraming::UntilClose, Sink::Chunked { trailers: false });
        let (body, _) = take_all(&mut transfer, &["hello", "world, hello!!!!"]);
        assert_eq!(body, "5\r\nhello\r\n10\r\nworld, hello!!!!\r\n");
        assert_eq!(transfer.close(), Some(LAST_CHUNK));
    }

    #[test]
    fn a_close_before_the_end_is_told_apart() {
        let mut transfer = Transfer::new(BodyFraming::Length(5), Sink::Plain);
        take_all(&mut transfer, &["he"]);
        assert_eq!(transfer.close(), None);
        take_all(&mut transfer, &["llo"]);
        assert_eq!(transfer.close(), Some(&b""[..]));
    }

    #[test]
    fn chunks_pass_as_they_are_and_lose_what_is_not_canonical() {
        for (input, canonical) in [
            ("5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            ("5;ext=1\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let mut whole = Transfer::new(BodyFraming::Chunked, Sink::Chunked { trailers: false });
            let (body, rest) = take_all(&mut whole, &[input, "GET"]);
            assert_eq!((body.as_str(), rest.as_str()), (canonical, "GET"));
            let mut bytewise =
                Transfer::new(BodyFraming::Chunked, Sink::Chunked { trailers: false });
            let bytes: Vec<String> = input.chars().map(String::from).collect();
            let pieces: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(take_all(&mut bytewise, &pieces).0, canonical);
            let mut bare = Transfer::new(BodyFraming::Chunked, Sink::Plain);
            assert_eq!(take_all(&mut bare, &[input]).0, "hello");
        }
    }
}
