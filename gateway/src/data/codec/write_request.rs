//! Writes a request head for the upstream.

use bytes::BufMut;

use super::field::Fields;
use super::request::RequestHead;
use super::target::Scheme;
use crate::config::UnderscoreHeaders;

/// What the gateway decided about a request that it forwards.
#[derive(Clone, Copy, Debug)]
pub struct ForwardRequest<'a> {
    /// The normal form of the path; ignored for the asterisk form.
    pub path: &'a [u8],
    /// The Host to send; `None`: the request's own authority.
    pub host: Option<&'a [u8]>,
    /// The Host for a request without any (HTTP/1.0).
    pub host_default: &'a [u8],
    /// The peer's address, as text.
    pub client: &'a [u8],
    /// Whether what the peer says about the client is believed.
    pub trusted: bool,
    /// The scheme of the client's connection.
    pub scheme: Scheme,
    /// The value of X-Request-Id; whatever the request had is replaced.
    pub request_id: &'a [u8],
    /// What happens to names with `_`.
    pub underscore: UnderscoreHeaders,
    /// Forward `TE: trailers` and Trailer, where the request had them.
    pub trailers: bool,
    /// The one protocol to ask for; `None`: no upgrade.
    pub upgrade: Option<&'a [u8]>,
    /// Forward `Expect: 100-continue`.
    pub expect_continue: bool,
}

/// Writes the head of `request` again.
pub fn write_request_head(
    out: &mut impl BufMut,
    head: &[u8],
    request: &RequestHead,
    fields: &Fields,
    forward: &ForwardRequest<'_>,
) {
    _ = (out, head, request, fields, forward);
    todo!()
}
