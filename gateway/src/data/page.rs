//! What is said in place of a problem document: bodies of the configuration, with what they tell of the request made harmless.
//! Only where such an answer is given; allocates.

use http::StatusCode;

use super::edit::Variables;
use crate::config::{BodyPiece, ErrorBodiesConfig, ErrorBody, Escape};

/// A body as it goes out.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// Its media type.
    pub(super) content_type: &'a str,
    /// Its bytes.
    pub(super) body: Vec<u8>,
}

/// The body for a status, of the first of these that has one.
pub(super) fn find(
    all: &[ErrorBodiesConfig],
    of: [Option<usize>; 2],
    status: u16,
) -> Option<&ErrorBody> {
    of.into_iter()
        .flatten()
        .find_map(|index| all.get(index)?.find(status))
}

/// Writes a body. `detail`: the cause.
pub(super) fn write<'a>(
    body: &'a ErrorBody,
    variables: &Variables<'_>,
    status: u16,
    detail: &str,
) -> Page<'a> {
    let mut out = Vec::new();
    for piece in &body.pieces {
        match piece {
            BodyPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
            BodyPiece::Status => out.extend_from_slice(status.to_string().as_bytes()),
            BodyPiece::Reason => {
                let code = StatusCode::from_u16(status).ok();
                let reason = code.and_then(|code| code.canonical_reason());
                out.extend_from_slice(reason.unwrap_or_default().as_bytes());
            }
            BodyPiece::Detail => out.extend_from_slice(detail.as_bytes()),
            BodyPiece::Variable(variable) => {
                put_escaped(variables.value(variable), body.escape, &mut out);
            }
        }
    }
    Page {
        content_type: &body.content_type,
        body: out,
    }
}

/// Appends a text that somebody else has chosen. What is no UTF-8 becomes U+FFFD: bodies are text.
fn put_escaped(text: &[u8], escape: Escape, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    for character in String::from_utf8_lossy(text).chars() {
        let replaced: &str = match (escape, character) {
            (_, '\t') if escape != Escape::Json => "\t",
            (_, character) if character.is_control() => "_",
            (Escape::Markup, '&') => "&amp;",
            (Escape::Markup, '<') => "&lt;",
            (Escape::Markup, '>') => "&gt;",
            (Escape::Markup, '"') => "&quot;",
            (Escape::Markup, '\'') => "&#39;",
            (Escape::Json, '"') => "\\\"",
            (Escape::Json, '\\') => "\\\\",
            // Harmless also where a page holds the JSON.
            (Escape::Json, '<') => "\\u003c",
            (_, character) => character.encode_utf8(&mut buffer),
        };
        out.extend_from_slice(replaced.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8], escape: Escape) -> String {
        let mut out = Vec::new();
        put_escaped(text, escape, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_of_a_request_gets_out_of_its_place() {
        let text = b"<a b=\"c\" d='e'>&\\\r\n\t\0\xff";
        assert_eq!(
            escaped(text, Escape::Markup),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\\__\t_\u{fffd}"
        );
        assert_eq!(
            escaped(text, Escape::Plain),
            "<a b=\"c\" d='e'>&\\__\t_\u{fffd}"
        );
        let json = format!("\"{}\"", escaped(text, Escape::Json));
        let read: String = serde_json::from_str(&json).unwrap();
        assert_eq!(read, "<a b=\"c\" d='e'>&\\____\u{fffd}");
        assert!(!json.contains('<'), "{json}");
    }
}
