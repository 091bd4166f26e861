//! Messages as the tests see them. A reader of its own: the gateway's would share the gateway's mistakes.

use std::io::{self, Read};

/// A request as an upstream got it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method, target and version.
    pub(crate) line: String,
    /// Names and values in order, as they came.
    pub(crate) fields: Vec<(String, String)>,
}

impl Request {
    /// The values of the fields called `name`, in any case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }

    /// The target.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// A response as a client got it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names and values in order, as they came.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The values of the fields called `name`, in any case.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }

    /// The value of the one field called `name`.
    pub(crate) fn value(&self, name: &str) -> &str {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "{name} once in {self:?}");
        values[0]
    }

    /// The connection closes after it.
    pub(crate) fn closes(&self) -> bool {
        self.values("connection").contains(&"close")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// What RFC 9110 asks for with a status: a challenge (15.5.2), the methods (15.5.6), and, as it advises, when to come again.
    #[track_caller]
    pub(crate) fn has_the_fields_of_its_status(&self) {
        let count = |name: &str| self.values(name).len();
        match self.status {
            401 => assert!(count("www-authenticate") >= 1, "{self:?}"),
            405 => assert_eq!(count("allow"), 1, "{self:?}"),
            429 | 503 => assert_eq!(count("retry-after"), 1, "{self:?}"),
            _ => {}
        }
    }

    /// It is the answer to a problem of this status, as RFC 9457 has it; gives the `detail`.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        assert_eq!(self.value("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["status"], status);
        let detail = json["detail"].as_str().unwrap().to_owned();
        // The challenge of a 401 that comes from elsewhere is for that to give.
        if detail != "auth_denied" {
            self.has_the_fields_of_its_status();
        }
        detail
    }
}

fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// Bytes from `stream`, with a buffer for what was read too far.
#[derive(Debug)]
pub(crate) struct Reading<R> {
    pub(crate) stream: R,
    buffer: Vec<u8>,
}

impl<R: Read> Reading<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads more into the buffer; 0: the end.
    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = vec![0; 64 * 1024];
        let count = loop {
            match self.stream.read(&mut piece) {
                // With a timeout set the kernel does not start the read again after a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// A start line and its fields; `None`: the end or an error before or inside the head.
    pub(crate) fn head(&mut self) -> Option<(String, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if self.fill().ok()? == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect();
        Some((start, fields))
    }

    /// So many bytes, or those before the end.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill().is_ok_and(|count| count > 0) {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    /// Everything up to the end; true: an orderly one.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, bool) {
        loop {
            match self.fill() {
                Ok(0) => return (std::mem::take(&mut self.buffer), true),
                Ok(_) => {}
                Err(error) => {
                    assert!(!is_timeout(&error), "no end came");
                    return (std::mem::take(&mut self.buffer), false);
                }
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            if self.fill().ok()? == 0 {
                return None;
            }
        }
    }

    /// A chunk's data; empty: the last one, and its empty line is read too. `None`: cut.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).unwrap();
        let data = self.bytes(size);
        (data.len() == size && self.line()?.is_empty()).then_some(data)
    }

    /// A chunked body with its trailer lines; the body is dropped. `None`: cut.
    pub(crate) fn chunks_and_trailers(&mut self) -> Option<Vec<String>> {
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).unwrap();
            if size == 0 {
                break;
            }
            let data = self.bytes(size);
            if data.len() < size || !self.line()?.is_empty() {
                return None;
            }
        }
        let mut lines = Vec::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Some(lines),
                line => lines.push(line),
            }
        }
    }

    /// The body that follows a head with these fields, where `close` says whether one without length ends with the
    /// connection. `None`: cut.
    pub(crate) fn body(&mut self, fields: &[(String, String)], close: bool) -> Option<Vec<u8>> {
        if let [length] = values(fields, "content-length")[..] {
            let length = length.parse().unwrap();
            let body = self.bytes(length);
            return (body.len() == length).then_some(body);
        }
        if values(fields, "transfer-encoding") == ["chunked"] {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    return Some(body);
                }
                body.extend(chunk);
            }
        }
        if close {
            let (body, orderly) = self.rest();
            return orderly.then_some(body);
        }
        Some(Vec::new())
    }
}

/// The read waited longer than a test waits for anything.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
