//! Writes a response head for the client from what was understood of the upstream's (RFC 9110 section 7.6).

use bytes::BufMut;

use super::edits::Edits;
use super::field::{Field, FieldKind, Fields};
use super::framing::BodyFraming;
use super::request::Version;
use super::response::ResponseHead;
use super::write::{
    Copier, is_canonical_number, put_field, put_number_field, put_status_line, put_via,
};
use crate::config::ResponseFaults;

/// What the gateway decided about a response that it forwards.
#[derive(Clone, Copy, Debug)]
pub struct ForwardResponse<'a> {
    /// How the body will be written. With [`BodyFraming::None`] the Content-Length that came is kept where the status
    /// may have one (HEAD, 304).
    pub body: BodyFraming,
    /// The client's version: 1.0 must be told that a connection stays.
    pub client_version: Version,
    /// Whether the connection stays open; false with [`BodyFraming::UntilClose`]. Of no effect in a 1xx.
    pub keep_alive: bool,
    /// Keep Trailer.
    pub trailers: bool,
    /// What `Date` is to say where the upstream says nothing (RFC 9110 section 6.6.1), 29 octets; of no effect in a 1xx, which
    /// nobody stores. `None`: a `Date` of the upstream's or none.
    pub date: Option<&'a [u8]>,
    /// The gateway's name for `Via`; `None`: no `Via` of its own.
    pub via: Option<&'a [u8]>,
    /// Changes of fields that are not of the hop.
    pub edits: Edits<'a>,
}

impl ForwardResponse<'_> {
    /// The most octets that [`write_response_head`] writes for this and a head of `head` octets with `fields` fields.
    #[must_use]
    pub fn size_max(&self, head: usize, fields: usize) -> usize {
        // Content-Length 38 or Transfer-Encoding 28, Connection 24, Via without name 11, Date without value 8, CRLF.
        const ADDED: usize = 96;
        head.saturating_add(fields)
            .saturating_add(ADDED)
            .saturating_add(self.via.map_or(0, <[u8]>::len))
            .saturating_add(self.edits.lines.len())
            .saturating_add(self.date.map_or(0, <[u8]>::len))
    }
}

/// Writes the head of a response again, as HTTP/1.1.
///
/// Fields of the upstream's hop are left out. There is one framing field, written from [`ForwardResponse::body`], or as it
/// came where that is the same. All other
/// fields keep their order, case and number. `out` must have room for [`ForwardResponse::size_max`] octets. Allocates
/// nothing; time is linear in the head.
pub fn write_response_head(
    out: &mut impl BufMut,
    head: &[u8],
    response: &ResponseHead,
    fields: &Fields,
    forward: &ForwardResponse<'_>,
) {
    debug_assert!(!(forward.keep_alive && forward.body == BodyFraming::UntilClose));
    let as_it_is = head.starts_with(b"HTTP/1.1 ")
        && head.get(response.reason.start().saturating_sub(1)) == Some(&b' ')
        && response.reason.start() == b"HTTP/1.1 200 ".len();
    if !as_it_is {
        put_status_line(out, response.status, Some(response.reason.of(head)));
    }
    let mut copier = Copier::new(out, head);
    if as_it_is {
        copier.keep_front(response.reason.end().saturating_add(2));
    }
    // A route that takes Date out, or sets it, has the last word.
    let mut dated = response.status < 200 || forward.edits.removes(b"date");
    let keeps_length = keeps_length(response, forward.body);
    let mut framed = false;
    for field in fields.iter() {
        if field.kind == FieldKind::ContentLength {
            // The one there is: where it stands as it would be written, it stays where it is.
            if keeps_length && is_canonical_number(field.value.of(head)) {
                framed = true;
                copier.keep(field);
            }
        } else if is_kept(field, forward) && !forward.edits.removes(field.name.of(head)) {
            dated |= field.kind == FieldKind::Date;
            copier.keep(field);
        }
    }
    copier.finish();
    if let (Some(date), false) = (forward.date, dated) {
        put_field(out, b"Date", date);
    }
    if let Some(name) = forward.via {
        put_via(out, response.version, name);
    }
    if !framed {
        put_framing(out, response, forward.body);
    }
    if response.is_upgrade() {
        out.put_slice(b"Connection: upgrade\r\n");
        for field in fields
            .iter()
            .filter(|field| field.kind == FieldKind::Upgrade)
        {
            put_field(out, b"Upgrade", field.value.of(head));
        }
    } else if !response.is_interim() {
        if !forward.keep_alive {
            out.put_slice(b"Connection: close\r\n");
        } else if forward.client_version == Version::Http10 {
            out.put_slice(b"Connection: keep-alive\r\n");
        }
    }
    out.put_slice(forward.edits.lines);
    out.put_slice(b"\r\n");
}

const fn is_kept(field: &Field, forward: &ForwardResponse<'_>) -> bool {
    match field.kind {
        FieldKind::ContentLength
        | FieldKind::TransferEncoding
        | FieldKind::Connection
        | FieldKind::HopByHop
        | FieldKind::Te
        | FieldKind::Upgrade => false,
        FieldKind::Trailer => forward.trailers && !field.named_by_connection,
        _ => !field.named_by_connection,
    }
}

/// Whether the one length that the upstream gave is the one to give.
fn keeps_length(response: &ResponseHead, body: BodyFraming) -> bool {
    response.tolerated == ResponseFaults::NONE
        && match (body, response.status) {
            (_, 100..=199 | 204) | (BodyFraming::None, 205) => false,
            (BodyFraming::Length(length), _) => response.content_length == Some(length),
            (BodyFraming::None, _) => response.content_length.is_some(),
            (BodyFraming::Chunked | BodyFraming::UntilClose, _) => false,
        }
}

fn put_framing(out: &mut impl BufMut, response: &ResponseHead, body: BodyFraming) {
    match (body, response.status) {
        // RFC 9110 sections 8.6 and 15.2: neither has a length. RFC 9112 section 6.1: nor a coding.
        (_, 100..=199 | 204) | (BodyFraming::UntilClose, _) => {}
        (BodyFraming::None, 205) => put_number_field(out, b"Content-Length", 0),
        (BodyFraming::None, _) => {
            if let Some(length) = response.content_length {
                put_number_field(out, b"Content-Length", length);
            }
        }
        (BodyFraming::Length(length), _) => put_number_field(out, b"Content-Length", length),
        (BodyFraming::Chunked, _) => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}
