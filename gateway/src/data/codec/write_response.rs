//! Writes a response head for the client.

use bytes::BufMut;

use super::field::Fields;
use super::request::Version;
use super::response::ResponseHead;

/// How the response's body will be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// None follows: HEAD, 1xx, 204, 304. A Content-Length that came is kept where the status may have one.
    None,
    /// So many octets.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

/// What the gateway decided about a response that it forwards.
#[derive(Clone, Copy, Debug)]
pub struct ForwardResponse<'a> {
    /// How the body will be written.
    pub body: ResponseBody,
    /// The client's version: 1.0 needs to be told that a connection stays.
    pub client_version: Version,
    /// Whether the connection stays open; ignored for interim responses and for 101.
    pub keep_alive: bool,
    /// Keep Trailer.
    pub trailers: bool,
    /// Names and values to add at the end; valid, and none that frames.
    pub extra: &'a [(&'a [u8], &'a [u8])],
}

/// Writes the head of `response` again.
pub fn write_response_head(
    out: &mut impl BufMut,
    head: &[u8],
    response: &ResponseHead,
    fields: &Fields,
    forward: &ForwardResponse<'_>,
) {
    _ = (out, head, response, fields, forward);
    todo!()
}
