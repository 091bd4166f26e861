//! The bytes of a request, built once before the run.

use http::{HeaderName, HeaderValue, Method};

use crate::keys::KeyAs;
use crate::target::Target;
use crate::template::Template;

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
    /// The request for `target` as it goes on the wire, with the key where `key_as` says.
    ///
    /// # Errors
    ///
    /// A place in it that is not known.
    pub(crate) fn template(&self, target: &Target, key_as: &KeyAs) -> Result<Template, String> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, target.path).into_bytes();
        let mut field = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                head.extend_from_slice(part);
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
        match key_as {
            KeyAs::ForwardedFor => field("X-Forwarded-For", b"${key_ip}"),
            KeyAs::Header(name) => field(name.as_str(), b"key-${key}"),
            KeyAs::Template | KeyAs::Source => {}
        }
        if !self.keep_alive {
            field("Connection", b"close");
        }
        let wants_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        if wants_body || !self.body.is_empty() {
            head.extend_from_slice(b"Content-Length: ");
            return Template::parse(&head, Some(b"\r\n\r\n"), &self.body);
        }
        head.extend_from_slice(b"\r\n");
        Template::parse(&head, None, b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Values;

    fn spec(method: Method) -> RequestSpec {
        RequestSpec {
            method,
            headers: Vec::new(),
            body: Vec::new(),
            keep_alive: true,
        }
    }

    fn render(spec: &RequestSpec, url: &str, key_as: &KeyAs) -> String {
        let mut out = runtime::Buf::small();
        let template = spec.template(&url.parse().unwrap(), key_as).unwrap();
        template.render(&Values::default(), &mut out);
        String::from_utf8(out.data().to_vec()).unwrap()
    }

    #[test]
    fn a_get_has_a_host_and_no_length() {
        assert_eq!(
            render(&spec(Method::GET), "http://h:1/p?q", &KeyAs::Template),
            "GET /p?q HTTP/1.1\r\nHost: h:1\r\n\r\n"
        );
    }

    #[test]
    fn a_post_has_a_length_even_when_empty() {
        let mut spec = spec(Method::POST);
        assert_eq!(
            render(&spec, "http://h/", &KeyAs::Template),
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        );
        spec.body = b"hello".to_vec();
        spec.keep_alive = false;
        spec.headers = vec![header("Host: other").unwrap(), header("X-A:  b ").unwrap()];
        assert_eq!(
            render(&spec, "http://h/", &KeyAs::Template),
            "POST / HTTP/1.1\r\nhost: other\r\nx-a: b\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
        );
    }

    #[test]
    fn the_key_stands_where_it_was_told_to() {
        for (key_as, field) in [
            ("xff", "X-Forwarded-For: 10.0.0.2\r\n"),
            ("header:x-api-key", "x-api-key: key-0\r\n"),
            ("source", ""),
        ] {
            assert_eq!(
                render(&spec(Method::GET), "http://h/", &key_as.parse().unwrap()),
                format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n")
            );
        }
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
