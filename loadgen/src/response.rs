//! Where a response ends: RFC 9112 section 6, from the client's side.
//!
//! The framer is given bytes as they come and says when a response is complete. It keeps nothing of a body. What it
//! cannot be sure of is an error: a load generator that guesses would report a broken server as a fast one.

use std::mem::MaybeUninit;

use crate::chunked::Chunked;

/// Fields of one response head.
const FIELDS_MAX: usize = 96;
/// Bytes of one response head.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Interim responses before the final one.
const INTERIM_MAX: u32 = 16;

/// A complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// 200 to 599.
    pub(crate) status: u16,
    /// Another request may follow on this connection.
    pub(crate) reusable: bool,
    /// Bytes of the body without its framing.
    pub(crate) body_bytes: u64,
}

/// The server broke HTTP/1.1 framing; the text says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Finds the ends of the responses in a stream of bytes.
#[derive(Debug)]
pub(crate) struct Framer {
    state: State,
    status: u16,
    reusable: bool,
    body_bytes: u64,
    interim: u32,
    memory: Memory,
}

/// Bytes of a head that is remembered.
const REMEMBERED_BYTES_MAX: usize = 1024;
/// Heads in a row that were unlike the one before: nothing is remembered any more.
const UNLIKE_MAX: u8 = 8;

/// The last head and what it meant. A server that says the same bytes again means the same thing again, since a head's
/// meaning depends on its bytes and on the kind of request alone; a comparison finds that faster than a parser.
#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    head_request: bool,
    head: Option<Head>,
    unlike: u8,
}

impl Memory {
    /// What the head at the front of `bytes` means, if it is the remembered one.
    fn recall(&mut self, bytes: &[u8], head_request: bool) -> Option<Head> {
        let head = self.head?;
        let known = self.head_request == head_request && bytes.starts_with(&self.bytes);
        if !known {
            return None;
        }
        self.unlike = 0;
        Some(head)
    }

    fn remember(&mut self, bytes: &[u8], head_request: bool, head: Head) {
        self.head = None;
        if self.unlike < UNLIKE_MAX {
            self.unlike += 1;
            let written = bytes.get(..head.bytes).unwrap_or_default();
            if written.len() <= REMEMBERED_BYTES_MAX {
                self.bytes.clear();
                self.bytes.extend_from_slice(written);
                self.head_request = head_request;
                self.head = Some(head);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Sized(u64),
    Chunked(Chunked),
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    bytes: usize,
    status: u16,
    reusable: bool,
    body: State,
}

impl Framer {
    /// A framer at the start of a connection.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            status: 0,
            reusable: true,
            body_bytes: 0,
            interim: 0,
            memory: Memory::default(),
        }
    }

    /// Takes from the front of `bytes` what belongs to the current response: the number of bytes taken, and the
    /// response if that completed it. Fewer bytes are taken than there are only when a response is complete or when
    /// the rest is an incomplete head, which must be given again with more behind it. The answer to a HEAD request has
    /// no body.
    ///
    /// Cost: one pass of httparse over a head that is unlike the one before, else a comparison; nothing per body byte but for chunk framing.
    ///
    /// # Errors
    ///
    /// The bytes are not HTTP/1.x, or their framing is contradictory.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        head_request: bool,
    ) -> Result<(usize, Option<Response>), Malformed> {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            match self.state {
                State::Head => {
                    let Some(head) = self.head(rest, head_request)? else {
                        return Ok((taken, None));
                    };
                    taken += head.bytes;
                    if head.status < 200 {
                        self.interim += 1;
                        if self.interim > INTERIM_MAX {
                            return Err(Malformed("too many interim responses"));
                        }
                        continue;
                    }
                    self.status = head.status;
                    self.reusable = head.reusable;
                    self.state = head.body;
                }
                State::Sized(left) => {
                    let part = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    taken += part;
                    self.body_bytes += part as u64;
                    let left = left - part as u64;
                    if left == 0 {
                        return Ok((taken, Some(self.complete())));
                    }
                    self.state = State::Sized(left);
                    return Ok((taken, None));
                }
                State::Chunked(state) => {
                    let part = state.advance(rest).map_err(Malformed)?;
                    taken += part.taken;
                    self.body_bytes += part.data_bytes;
                    let Some(next) = part.next else {
                        return Ok((taken, Some(self.complete())));
                    };
                    self.state = State::Chunked(next);
                    return Ok((taken, None));
                }
                State::UntilClose => {
                    self.body_bytes += rest.len() as u64;
                    return Ok((bytes.len(), None));
                }
            }
        }
    }

    /// The head at the front of `bytes`; `None` if it is incomplete.
    fn head(&mut self, bytes: &[u8], head_request: bool) -> Result<Option<Head>, Malformed> {
        if let Some(head) = self.memory.recall(bytes, head_request) {
            return Ok(Some(head));
        }
        let head = parse_head(bytes, head_request)?;
        if let Some(head) = head {
            self.memory.remember(bytes, head_request, head);
        }
        Ok(head)
    }

    /// The server closed: the response that this ends, if it is one that a close ends.
    pub(crate) fn close(&mut self) -> Option<Response> {
        (self.state == State::UntilClose).then(|| self.complete())
    }

    /// Part of a response has been taken.
    pub(crate) fn inside(&self) -> bool {
        self.state != State::Head || self.interim > 0
    }

    fn complete(&mut self) -> Response {
        let response = Response {
            status: self.status,
            reusable: self.reusable,
            body_bytes: self.body_bytes,
        };
        self.state = State::Head;
        self.body_bytes = 0;
        self.interim = 0;
        response
    }
}

/// Parses one head; `None` if it is incomplete.
fn parse_head(bytes: &[u8], head_request: bool) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_BYTES_MAX => {
            return Err(Malformed("head too large"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("not an HTTP/1.x response")),
    };
    let status = response.code.unwrap_or_default();
    if !(100..600).contains(&status) {
        return Err(Malformed("status outside 100 to 599"));
    }
    if status == 101 {
        return Err(Malformed("switched protocols without being asked"));
    }
    let framing = Framing::of(response.headers)?;
    let http_1_1 = response.version == Some(1);
    let body = match (framing.chunked, framing.length) {
        // Section 6.3, rule 1: these have no body whatever the fields say.
        _ if head_request || status < 200 || status == 204 || status == 304 => State::Sized(0),
        // Rule 3 lets a recipient treat both as an error, and asks that the server be told: this is how.
        (Some(_), Some(_)) => return Err(Malformed("Transfer-Encoding and Content-Length")),
        (Some(true), None) if http_1_1 => State::Chunked(Chunked::START),
        (Some(_), None) if !http_1_1 => return Err(Malformed("Transfer-Encoding in HTTP/1.0")),
        (None, Some(length)) => State::Sized(length),
        (_, None) => State::UntilClose,
    };
    let keep_alive = !framing.close && (http_1_1 || framing.keep_alive);
    Ok(Some(Head {
        bytes: length,
        status,
        reusable: keep_alive && body != State::UntilClose,
        body,
    }))
}

/// What the fields of a head say about the body and the connection.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    /// There is a Transfer-Encoding; its last coding is chunked.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
}

impl Framing {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Self, Malformed> {
        let mut framing = Self::default();
        for field in fields {
            // The length of the name rules most fields out before a comparison.
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let length = content_length(field.value)?;
                    if framing.length.is_some_and(|before| before != length) {
                        return Err(Malformed("two different Content-Length"));
                    }
                    framing.length = Some(length);
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if framing.chunked == Some(true) {
                        return Err(Malformed("chunked is not the last coding"));
                    }
                    framing.chunked = Some(ends_in_chunked(field.value));
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for option in field.value.split(|&byte| byte == b',') {
                        let option = option.trim_ascii();
                        framing.close |= option.eq_ignore_ascii_case(b"close");
                        framing.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                _ => {}
            }
        }
        Ok(framing)
    }
}

/// `1*DIGIT`, or a list of the same number again (RFC 9110 section 8.6 allows to accept that).
fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    let mut length = None;
    for part in value.split(|&byte| byte == b',') {
        let part = part.trim_ascii();
        let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(part)
            .ok()
            .filter(|_| digits)
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or(Malformed("Content-Length is not a number"))?;
        if length.is_some_and(|before| before != number) {
            return Err(Malformed("two different Content-Length"));
        }
        length = Some(number);
    }
    length.ok_or(Malformed("Content-Length is not a number"))
}

fn ends_in_chunked(value: &[u8]) -> bool {
    value
        .rsplit(|&byte| byte == b',')
        .next()
        .is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `stream` to a framer in pieces of `piece` bytes, as a connection does.
    fn frame(stream: &[u8], piece: usize, head: bool) -> Result<Vec<Response>, Malformed> {
        let mut framer = Framer::new();
        let mut pending: Vec<u8> = Vec::new();
        let mut responses = Vec::new();
        for part in stream.chunks(piece) {
            pending.extend_from_slice(part);
            loop {
                let (taken, response) = framer.advance(&pending, head)?;
                pending.drain(..taken);
                let Some(response) = response else { break };
                responses.push(response);
            }
        }
        responses.extend(framer.close());
        if !pending.is_empty() || framer.inside() {
            return Err(Malformed("left over"));
        }
        Ok(responses)
    }

    fn whole(status: u16, reusable: bool, body_bytes: u64) -> Response {
        Response {
            status,
            reusable,
            body_bytes,
        }
    }

    #[test]
    fn every_way_to_cut_the_stream_gives_the_same_responses() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
            HTTP/1.1 201 Created\r\nTransfer-Encoding: gzip, chunked\r\n\r\n\
            5;name=\"v\"\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n";
        let expected = [
            whole(200, true, 5),
            whole(201, true, 31),
            whole(204, true, 0),
            whole(304, true, 0),
            whole(200, false, 0),
        ];
        for piece in 1..=stream.len() {
            assert_eq!(
                frame(stream, piece, false).unwrap(),
                expected,
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn a_remembered_head_means_what_a_parser_says() {
        let heads = [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5",
            b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"nonsense\r\n\r\n",
            b"",
        ];
        let mut random = fastrand::Rng::with_seed(20_261_125);
        for _ in 0..200 {
            let mut framer = Framer::new();
            let mut bytes = heads[0];
            let mut head_request = false;
            for step in 0..100 {
                // Mostly the same again, as a server does it.
                if random.u8(..) < 60 {
                    bytes = heads[random.usize(..heads.len())];
                    head_request = random.bool();
                }
                let parsed = parse_head(bytes, head_request);
                assert_eq!(framer.head(bytes, head_request), parsed, "step {step}");
            }
        }
    }

    #[test]
    fn a_head_request_has_no_body_to_wait_for() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let expected = [whole(200, true, 0), whole(200, true, 0)];
        assert_eq!(frame(stream, 7, true).unwrap(), expected);
    }

    #[test]
    fn without_a_length_the_close_ends_the_body() {
        let stream = b"HTTP/1.1 200 OK\r\n\r\nall of this";
        assert_eq!(frame(stream, 4, false).unwrap(), [whole(200, false, 11)]);
    }

    #[test]
    fn http_1_0_is_closed_unless_it_says_keep_alive() {
        let closing = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(frame(closing, 9, false).unwrap(), [whole(200, false, 1)]);
        let keeping = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\nx";
        assert_eq!(frame(keeping, 9, false).unwrap(), [whole(200, true, 1)]);
    }

    #[test]
    fn equal_lengths_are_one_length() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(frame(stream, 9, false).unwrap(), [whole(200, true, 2)]);
    }

    #[test]
    fn contradictory_or_broken_framing_is_an_error() {
        for (stream, reason) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"[..], "two lengths"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "sign"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok", "empty length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", "overflow"),
            (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "1.0 chunked"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", "order"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", "no size"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", "negative size"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokX", "data too long"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", "bare LF"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n", "huge chunk"),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101"),
            (b"HTTP/1.1 600 What\r\n\r\n", "600"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        ] {
            assert!(frame(stream, stream.len(), false).is_err(), "{reason}");
        }
    }

    #[test]
    fn an_endless_head_or_endless_interim_responses_are_refused() {
        let mut endless = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        endless.resize(HEAD_BYTES_MAX, b'x');
        assert!(Framer::new().advance(&endless, false).is_err());
        let interim = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(17);
        assert!(Framer::new().advance(&interim, false).is_err());
    }
}
