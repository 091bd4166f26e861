//! Writes a response head for the client from what was understood of the upstream's (RFC 9110 section 7.6).

use bytes::BufMut;

use super::edits::Edits;
use super::field::{FieldKind, Fields, Kinds};
use super::framing::BodyFraming;
use super::request::Version;
use super::response::ResponseHead;
use super::write::{
    Run, is_canonical_number, put_all, put_field, put_number_field, put_status_line, put_via,
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
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        // Slices that are there at once: their lengths add up to less than all memory.
        head.wrapping_add(fields)
            .wrapping_add(ADDED)
            .wrapping_add(length(self.via))
            .wrapping_add(self.edits.lines.len())
            .wrapping_add(length(self.date))
    }

    /// The kinds of fields that do not go on, whoever sent them. A length is for [`keeps_length`] to judge.
    fn dropped(&self) -> Kinds {
        const NEVER: Kinds = Kinds::of(&[
            FieldKind::ContentLength,
            FieldKind::TransferEncoding,
            FieldKind::Connection,
            FieldKind::HopByHop,
            FieldKind::Te,
            FieldKind::Upgrade,
        ]);
        NEVER.and(FieldKind::Trailer, !self.trailers)
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
        && head.get(response.reason.start().wrapping_sub(1)) == Some(&b' ')
        && response.reason.start() == b"HTTP/1.1 200 ".len();
    let mut front = 0;
    if as_it_is {
        front = response.reason.end().wrapping_add(2);
    } else {
        put_status_line(out, response.status, Some(response.reason.of(head)));
    }
    let mut run = Run::new(head, front);
    let dropped = forward.dropped();
    // Where a length stands as it would be written, it stays where it is.
    let framed = keeps_length(response, forward.body)
        && fields
            .only(FieldKind::ContentLength)
            .is_some_and(|field| is_canonical_number(field.value.of(head)));
    // A route that takes Date out, or sets it, has the last word.
    let mut dated = response.status < 200 || forward.edits.removes(b"date");
    let takes_out = !forward.edits.removed.is_empty();
    for field in fields.iter() {
        let kept = if field.kind == FieldKind::ContentLength {
            framed
        } else if dropped.holds(field.kind) | field.named_by_connection {
            false
        } else {
            !takes_out || !forward.edits.removes(field.name.of(head))
        };
        if kept {
            dated |= field.kind == FieldKind::Date;
            run.keep(out, field);
        }
    }
    let (date_name, date): (&[u8], &[u8]) = match forward.date {
        Some(date) if !dated => (b"Date: ", date),
        _ => (b"", b""),
    };
    let is_end = framed
        && forward.keep_alive
        && forward.client_version == Version::Http11
        && forward.via.is_none()
        && forward.edits.lines.is_empty()
        && !response.is_upgrade();
    let date_end: &[u8] = match (date, is_end) {
        ([], true) => b"\r\n",
        ([], false) => b"",
        (_, true) => b"\r\n\r\n",
        (_, false) => b"\r\n",
    };
    put_all(out, &[run.octets(), date_name, date, date_end]);
    if !is_end {
        put_rest(out, head, response, fields, (forward, framed));
    }
}

/// What follows the fields that are kept. `framed`: a length is among them.
#[inline(never)]
fn put_rest(
    out: &mut impl BufMut,
    head: &[u8],
    response: &ResponseHead,
    fields: &Fields,
    (forward, framed): (&ForwardResponse<'_>, bool),
) {
    if let Some(name) = forward.via {
        put_via(out, response.version, name);
    }
    if !framed {
        put_framing(out, response, forward.body);
    }
    if response.is_upgrade() {
        put_upgrade(out, head, fields);
    } else if !response.is_interim() {
        if !forward.keep_alive {
            out.put_slice(b"Connection: close\r\n");
        } else if forward.client_version == Version::Http10 {
            out.put_slice(b"Connection: keep-alive\r\n");
        }
    }
    put_all(out, &[forward.edits.lines, b"\r\n"]);
}

fn put_upgrade(out: &mut impl BufMut, head: &[u8], fields: &Fields) {
    out.put_slice(b"Connection: upgrade\r\n");
    for field in fields
        .iter()
        .filter(|field| field.kind == FieldKind::Upgrade)
    {
        put_field(out, b"Upgrade", field.value.of(head));
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
