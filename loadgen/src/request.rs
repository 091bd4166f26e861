//! The bytes of a request, built once before the run.

use http::{HeaderName, HeaderValue, Method};

use crate::target::Target;

/// What to send, as the user said it.
#[derive(Clone, Debug)]
pub struct RequestSpec {
    /// The method; not CONNECT, whose answer is no HTTP any more.
    pub method: Method,
    /// Fields, in order. One called `Host` replaces the one from the URL.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; a `Content-Length` is written for it unless it is empty and the method does not want one.
    pub body: Vec<u8>,
    /// Ask the server to keep the connection.
    pub keep_alive: bool,
}

/// Fields that say where a request ends: written by the generator, which could not frame the rest otherwise.
const RESERVED: [&str; 3] = ["content-length", "transfer-encoding", "connection"];

/// Parses `Name: value`.
///
/// # Errors
///
/// Not a field, or one that the generator writes itself.
pub fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as \"Name: value\"")?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| format!("`{name}` is not a header name"))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!("`{name}` is written by ringgate-load itself"));
    }
    let value =
        HeaderValue::from_str(value.trim()).map_err(|_| format!("`{value}` is not a value"))?;
    Ok((name, value))
}

impl RequestSpec {
    /// The request for `target` as it goes on the wire.
    pub(crate) fn render(&self, target: &Target) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, target.path).into_bytes();
        let mut field = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        if !self
            .headers
            .iter()
            .any(|(name, _)| name == http::header::HOST)
        {
            field("Host", target.authority.as_bytes());
        }
        for (name, value) in &self.headers {
            field(name.as_str(), value.as_bytes());
        }
        let wants_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        if wants_body || !self.body.is_empty() {
            field("Content-Length", self.body.len().to_string().as_bytes());
        }
        if !self.keep_alive {
            field("Connection", b"close");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(method: Method) -> RequestSpec {
        RequestSpec {
            method,
            headers: Vec::new(),
            body: Vec::new(),
            keep_alive: true,
        }
    }

    #[test]
    fn a_get_has_a_host_and_no_length() {
        let target: Target = "http://h:1/p?q".parse().unwrap();
        assert_eq!(
            spec(Method::GET).render(&target),
            b"GET /p?q HTTP/1.1\r\nHost: h:1\r\n\r\n"
        );
    }

    #[test]
    fn a_post_has_a_length_even_when_empty() {
        let target: Target = "http://h/".parse().unwrap();
        let mut spec = spec(Method::POST);
        assert_eq!(
            spec.render(&target),
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        );
        spec.body = b"hello".to_vec();
        spec.keep_alive = false;
        spec.headers = vec![header("Host: other").unwrap(), header("X-A:  b ").unwrap()];
        assert_eq!(
            spec.render(&target),
            b"POST / HTTP/1.1\r\nhost: other\r\nx-a: b\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
        );
    }

    #[test]
    fn fields_that_frame_are_not_the_users() {
        for text in [
            "Content-Length: 5",
            "transfer-encoding: chunked",
            "Connection: close",
            "x",
            ": y",
            "a: b\r\nc: d",
        ] {
            assert!(header(text).is_err(), "{text:?}");
        }
    }
}
