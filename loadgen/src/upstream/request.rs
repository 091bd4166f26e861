//! A request as the built-in server sees it: which answer it asks for and where its body ends.

use std::mem::MaybeUninit;
use std::time::Duration;

use crate::chunked::Chunked;

/// Bytes of a request head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 96;
/// Bytes of a head that is remembered.
const REMEMBERED_BYTES_MAX: usize = 1024;
/// Heads in a row that were unlike the one before: nothing is remembered any more.
const UNLIKE_MAX: u8 = 8;

/// Parses the requests of one connection, and remembers the last head: a client that sends the same bytes again means
/// the same thing again, which a comparison finds faster than a parser.
#[derive(Debug, Default)]
pub(super) struct Parser {
    head: Vec<u8>,
    request: Option<Request>,
    unlike: u8,
}

impl Parser {
    /// Parses the head at the front of `bytes`.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Parsed {
        if let Some(request) = self.request {
            if bytes.starts_with(&self.head) {
                self.unlike = 0;
                return Parsed::Whole(request);
            }
            if bytes.is_empty() {
                return Parsed::Partial;
            }
        }
        let parsed = Request::parse(bytes);
        if let Parsed::Whole(request) = parsed
            && self.unlike < UNLIKE_MAX
        {
            self.unlike += 1;
            self.remember(bytes.get(..request.head_bytes).unwrap_or_default(), request);
        }
        parsed
    }

    fn remember(&mut self, head: &[u8], request: Request) {
        self.request = None;
        if self.unlike < UNLIKE_MAX && head.len() <= REMEMBERED_BYTES_MAX {
            self.head.clear();
            self.head.extend_from_slice(head);
            self.request = Some(request);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ordinary,
    Status(u16),
    Bytes(u64),
    Chunked(u64),
    Delay(Duration),
    Stall(Duration),
    Short(u64),
    Reset,
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Sized(u64),
    Chunked(Chunked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) head_bytes: usize,
    pub(super) answer: Answer,
    pub(super) body: Body,
    pub(super) head_only: bool,
    pub(super) closes: bool,
    /// Its client keeps a connection only if the answer says so.
    pub(super) http_1_0: bool,
    pub(super) expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Partial,
    Wrong,
    Whole(Request),
}

impl Request {
    fn parse(bytes: &[u8]) -> Parsed {
        if bytes.is_empty() {
            return Parsed::Partial;
        }
        let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let head_bytes = match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {
                return Parsed::Partial;
            }
            Ok(httparse::Status::Partial) | Err(_) => return Parsed::Wrong,
        };
        let mut parsed = Self {
            head_bytes,
            answer: Answer::of(request.path.unwrap_or_default()),
            body: Body::Sized(0),
            head_only: request.method == Some("HEAD"),
            closes: request.version != Some(1),
            http_1_0: request.version != Some(1),
            expects_continue: false,
        };
        for field in request.headers {
            if !parsed.apply(field.name, field.value) {
                return Parsed::Wrong;
            }
        }
        Parsed::Whole(parsed)
    }

    /// Nothing about it changes how an answer is written.
    pub(super) fn is_plain(&self) -> bool {
        !self.closes && !self.http_1_0 && !self.head_only
    }

    /// What a field says; false if it cannot be understood.
    fn apply(&mut self, name: &str, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let Some(length) = length else { return false };
                self.body = Body::Sized(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return false;
                }
                self.body = Body::Chunked(Chunked::START);
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                self.closes |= value.eq_ignore_ascii_case(b"close");
                self.closes &= !value.eq_ignore_ascii_case(b"keep-alive");
            }
            6 if name.eq_ignore_ascii_case("expect") => self.expects_continue = true,
            _ => {}
        }
        true
    }
}

impl Answer {
    fn of(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (kind, number) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        match path {
            "/reset" => return Self::Reset,
            "/garbage" => return Self::Garbage,
            _ => {}
        }
        let Ok(number) = number.parse::<u64>() else {
            return Self::Ordinary;
        };
        match kind {
            "status" => u16::try_from(number)
                .ok()
                .filter(|status| (200..600).contains(status))
                .map_or(Self::Ordinary, Self::Status),
            "bytes" => Self::Bytes(number),
            "chunked" => Self::Chunked(number),
            "delay" => Self::Delay(Duration::from_millis(number)),
            "stall" => Self::Stall(Duration::from_millis(number)),
            "short" => Self::Short(number),
            _ => Self::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_choose_the_answer() {
        for (path, answer) in [
            ("/", Answer::Ordinary),
            ("/anything/else", Answer::Ordinary),
            ("/status/429?x=1", Answer::Status(429)),
            ("/status/99", Answer::Ordinary),
            ("/bytes/1048576", Answer::Bytes(1 << 20)),
            ("/chunked/5", Answer::Chunked(5)),
            ("/delay/20", Answer::Delay(Duration::from_millis(20))),
            ("/stall/20", Answer::Stall(Duration::from_millis(20))),
            ("/short/9", Answer::Short(9)),
            ("/reset?x", Answer::Reset),
            ("/reset/5", Answer::Ordinary),
        ] {
            assert_eq!(Answer::of(path), answer, "{path}");
        }
    }

    #[test]
    fn a_remembered_head_means_what_it_meant() {
        let heads = [
            "GET /status/404 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /status/404 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
            "GET /status/404 HTTP/1.1\r\nHost: a\r\n",
            "HEAD /bytes/3 HTTP/1.1\r\nConnection: close\r\n\r\n",
            "nonsense\r\n\r\n",
        ];
        let mut parser = Parser::default();
        // More rounds than unlike heads are remembered.
        for _ in 0..UNLIKE_MAX {
            for head in heads {
                assert_eq!(
                    parser.parse(head.as_bytes()),
                    Request::parse(head.as_bytes()),
                    "{head}"
                );
            }
        }
    }
}
