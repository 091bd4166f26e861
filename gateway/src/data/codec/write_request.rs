//! Writes a request head for the upstream from what was understood of the client's (RFC 9110 section 7.6).

use bytes::BufMut;

use super::edits::Edits;
use super::field::{Field, FieldKind, Fields, Kinds};
use super::framing::BodyFraming;
use super::request::RequestHead;
use super::target::{Scheme, TargetForm};
use super::write::{
    Run, end_of_canonical, is_canonical_number, put_all, put_field, put_number_field, put_via,
};
use crate::config::UnderscoreHeaders;

/// What the gateway decided about a request that it forwards. Everything in it is valid where it will stand.
#[derive(Clone, Copy, Debug)]
pub struct ForwardRequest<'a> {
    /// The normal form of the path; ignored for the asterisk form.
    pub path: &'a [u8],
    /// The Host to send: the request's authority, or the upstream's for a request without.
    pub host: &'a [u8],
    /// The value of X-Forwarded-For: the peer's address as text, and before it the hops to be believed.
    pub client: &'a [u8],
    /// The value of Forwarded; empty: none. What came is removed.
    pub forwarded: &'a [u8],
    /// Whether what the peer says of scheme and host is believed: then X-Forwarded-Proto and X-Forwarded-Host are
    /// kept; else they are replaced.
    pub trusted: bool,
    /// The scheme of the client's connection.
    pub scheme: Scheme,
    /// X-Request-Id; replaces whatever the request had.
    pub request_id: &'a [u8],
    /// What happens to names with `_`.
    pub underscore: UnderscoreHeaders,
    /// Forward Trailer: trailers will follow the body.
    pub trailers: bool,
    /// Say `TE: trailers`: those of the response will be passed on.
    pub te_trailers: bool,
    /// The one protocol to ask for; `None`: no upgrade.
    pub upgrade: Option<&'a [u8]>,
    /// Forward `Expect: 100-continue`.
    pub expect_continue: bool,
    /// The gateway's name for `Via`, behind those of the servers before it; `None`: no `Via` of its own.
    pub via: Option<&'a [u8]>,
    /// Changes of fields that are not of the hop.
    pub edits: Edits<'a>,
    /// What authentication changes.
    pub additions: Additions<'a>,
}

/// What authentication changes in a request that goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additions<'a> {
    /// In place of the query that was sent.
    pub query: Option<&'a [u8]>,
    /// In place of the `Cookie` fields, which are withheld; `None` or empty: nothing.
    pub cookie: Option<&'a [u8]>,
    /// Whole field lines that say who the caller is.
    pub consumer: &'a [u8],
    /// Fields of the client's that say who the caller is are left out.
    pub names_consumers: bool,
}

impl Additions<'_> {
    /// Changes nothing.
    pub const NONE: Additions<'static> = Additions {
        query: None,
        cookie: None,
        consumer: b"",
        names_consumers: false,
    };
}

impl ForwardRequest<'_> {
    /// The most octets that [`write_request_head`] writes for this and a head of `head` octets with `fields` fields.
    #[must_use]
    pub fn size_max(&self, head: usize, fields: usize) -> usize {
        // Names, numbers and line ends of all that can be added come to 236 octets; the property tests hold the bound.
        const ADDED: usize = 256;
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        // Slices that are there at once: their lengths add up to less than all memory.
        [
            head,
            fields,
            self.path.len(),
            self.host.len(),
            self.host.len(),
            self.client.len(),
            self.forwarded.len(),
            self.request_id.len(),
            self.edits.lines.len(),
            self.additions.consumer.len(),
            length(self.upgrade),
            length(self.additions.cookie),
            length(self.via),
        ]
        .iter()
        .fold(ADDED, |sum, part| sum.wrapping_add(*part))
    }

    /// The kinds of fields that do not go on, whoever sent them.
    fn dropped(&self, request: &RequestHead) -> Kinds {
        const NEVER: Kinds = Kinds::of(&[
            FieldKind::Host,
            FieldKind::ContentLength,
            FieldKind::TransferEncoding,
            FieldKind::Connection,
            FieldKind::HopByHop,
            FieldKind::Te,
            FieldKind::Upgrade,
            FieldKind::Expect,
            FieldKind::XForwardedFor,
            FieldKind::ClientIdentity,
            FieldKind::XRequestId,
        ]);
        NEVER
            .and(FieldKind::Trailer, !self.trailers)
            .and(FieldKind::MaxForwards, request.max_forwards.is_some())
            .and(FieldKind::XForwardedProto, !self.trusted)
            .and(FieldKind::XForwardedHost, !self.trusted)
            .and(FieldKind::Consumer, self.additions.names_consumers)
            .and(
                FieldKind::Underscore,
                self.underscore != UnderscoreHeaders::Allow,
            )
    }
}

/// Writes the head of a request again, as HTTP/1.1.
///
/// Fields of the client's hop are left out: Connection and what it names, framing, upgrades. There is one framing field,
/// written from [`RequestHead::framing`], or as it came where that is the same. All other fields keep their order, case and number. `out` must have room for
/// [`ForwardRequest::size_max`] octets. Allocates nothing; time is linear in the head.
pub fn write_request_head(
    out: &mut impl BufMut,
    head: &[u8],
    request: &RequestHead,
    fields: &Fields,
    forward: &ForwardRequest<'_>,
) {
    let front = front_as_it_is(head, request, fields, forward);
    if front.is_none() {
        put_request_line(out, head, request, forward);
        put_field(out, b"Host", forward.host);
    }
    let mut run = Run::new(head, front.unwrap_or_default());
    let dropped = forward.dropped(request);
    // The one length there can be: where it stands as it would be written, it stays where it is.
    let framed = matches!(request.framing, BodyFraming::Length(_))
        && fields
            .only(FieldKind::ContentLength)
            .is_some_and(|field| is_canonical_number(field.value.of(head)));
    let takes_out = !forward.edits.removed.is_empty() || forward.additions.names_consumers;
    for field in fields.iter() {
        let is_dropped = dropped.holds(field.kind) | field.named_by_connection | field.withheld;
        let kept = if field.kind == FieldKind::ContentLength {
            framed
        } else if is_dropped {
            false
        } else {
            !takes_out || !is_taken_out(field, head, forward)
        };
        if kept {
            run.keep(out, field);
        }
    }
    let mut begin = run.octets();
    let for_the_hop = forward.te_trailers | forward.upgrade.is_some() | request.expect_continue;
    let framing = !framed & (request.framing != BodyFraming::None);
    if for_the_hop | framing | forward.via.is_some() | request.max_forwards.is_some() {
        out.put_slice(std::mem::take(&mut begin));
        if let Some(name) = forward.via {
            put_via(out, request.version, name);
        }
        put_framing(out, request, framed);
        put_connection(out, request, forward);
    }
    if forward.trusted {
        out.put_slice(begin);
        put_trusted(out, head, request, fields, forward);
        put_cookie(out, forward);
        put_all(
            out,
            &[forward.additions.consumer, forward.edits.lines, b"\r\n"],
        );
    } else {
        put_client(out, begin, head, request, forward);
    }
}

/// Where the request line and a Host behind it end, if they stand in the head as they would be written. Most do, and are
/// copied in one run with the fields that follow.
fn front_as_it_is(
    head: &[u8],
    request: &RequestHead,
    fields: &Fields,
    forward: &ForwardRequest<'_>,
) -> Option<usize> {
    let sent = request.path.of(head);
    let first = fields.iter().next()?;
    let target_end = request.query.unwrap_or(request.path).end();
    let line_end = first.name.start();
    let as_it_is = request.form == TargetForm::Origin
        && request.method_span.start() == 0
        && request.path.start() == request.method_span.end().saturating_add(1)
        && head.get(target_end..line_end) == Some(b" HTTP/1.1\r\n")
        && is_same(sent, forward.path)
        && forward.additions.query.is_none()
        && first.name.of(head) == b"Host"
        && is_same(first.value.of(head), forward.host);
    if as_it_is {
        end_of_canonical(head, first)
    } else {
        None
    }
}

/// Whether two texts are equal; most are one text.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    std::ptr::eq(one, other) || one == other
}

#[inline(never)]
fn put_request_line(
    out: &mut impl BufMut,
    head: &[u8],
    request: &RequestHead,
    forward: &ForwardRequest<'_>,
) {
    out.put_slice(request.method_span.of(head));
    out.put_slice(b" ");
    if request.form == TargetForm::Asterisk {
        out.put_slice(b"*");
    } else {
        out.put_slice(forward.path);
        let sent = request.query.map(|query| query.of(head));
        // A query of which nothing is left is none.
        let left = forward.additions.query.filter(|query| !query.is_empty());
        let query = if forward.additions.query.is_some() {
            left
        } else {
            sent
        };
        if let Some(query) = query {
            out.put_slice(b"?");
            out.put_slice(query);
        }
    }
    out.put_slice(b" HTTP/1.1\r\n");
}

/// What the route takes out, and what poses as a field of the gateway's own.
#[inline(never)]
fn is_taken_out(field: &Field, head: &[u8], forward: &ForwardRequest<'_>) -> bool {
    let name = field.name.of(head);
    let may_pose = forward.additions.names_consumers && field.kind == FieldKind::Underscore;
    forward.edits.removes(name) || may_pose && poses(name)
}

/// Whether a name with `_` would be taken for a field of [`FieldKind::Consumer`].
fn poses(name: &[u8]) -> bool {
    const OWN: [&[u8]; 3] = [b"x-consumer", b"x-consumer-groups", b"x-consumer-plan"];
    let dashed = |byte: &u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    OWN.iter()
        .any(|own| name.iter().map(dashed).eq(own.iter().copied()))
}

/// `framed`: the length is there.
#[inline(never)]
fn put_framing(out: &mut impl BufMut, request: &RequestHead, framed: bool) {
    match request.framing {
        BodyFraming::None => {}
        BodyFraming::Length(_) if framed => {}
        BodyFraming::Length(length) => put_number_field(out, b"Content-Length", length),
        BodyFraming::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::UntilClose => debug_assert!(false, "no request ends by closing"),
    }
    if let Some(left) = request.max_forwards {
        put_number_field(out, b"Max-Forwards", u64::from(left.saturating_sub(1)));
    }
}

/// What concerns the hop to the upstream only. RFC 9110 section 10.1.4: who sends TE names it in Connection.
#[inline(never)]
fn put_connection(out: &mut impl BufMut, request: &RequestHead, forward: &ForwardRequest<'_>) {
    match (forward.te_trailers, forward.upgrade) {
        (false, None) => {}
        (true, None) => out.put_slice(b"Connection: TE\r\n"),
        (false, Some(_)) => out.put_slice(b"Connection: upgrade\r\n"),
        (true, Some(_)) => out.put_slice(b"Connection: TE, upgrade\r\n"),
    }
    if forward.te_trailers {
        out.put_slice(b"TE: trailers\r\n");
    }
    if let Some(protocol) = forward.upgrade {
        put_field(out, b"Upgrade", protocol);
    }
    if forward.expect_continue && request.expect_continue {
        out.put_slice(b"Expect: 100-continue\r\n");
    }
}

/// Behind `begin`: who the client is and what it asked for, and all that follows.
fn put_client(
    out: &mut impl BufMut,
    begin: &[u8],
    head: &[u8],
    request: &RequestHead,
    forward: &ForwardRequest<'_>,
) {
    debug_assert!(
        !forward.client.is_empty() && !forward.request_id.is_empty(),
        "a line without a value has no blank"
    );
    let authority = request.authority.map(|authority| authority.of(head));
    let scheme: &[u8] = match (forward.scheme, authority) {
        (Scheme::Http, Some(_)) => b"\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: ",
        (Scheme::Https, Some(_)) => b"\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: ",
        (Scheme::Http, None) => b"\r\nX-Forwarded-Proto: http",
        (Scheme::Https, None) => b"\r\nX-Forwarded-Proto: https",
    };
    let forwarded: &[u8] = match forward.forwarded {
        [] => b"",
        _ => b"\r\nForwarded: ",
    };
    let additions = &forward.additions;
    let is_end = additions.cookie.is_none()
        && additions.consumer.is_empty()
        && forward.edits.lines.is_empty();
    put_all(
        out,
        &[
            begin,
            b"X-Forwarded-For: ",
            forward.client,
            scheme,
            authority.unwrap_or_default(),
            forwarded,
            forward.forwarded,
            b"\r\nX-Request-Id: ",
            forward.request_id,
            if is_end { b"\r\n\r\n" } else { b"\r\n" },
        ],
    );
    if !is_end {
        put_cookie(out, forward);
        put_all(out, &[additions.consumer, forward.edits.lines, b"\r\n"]);
    }
}

#[inline(never)]
fn put_cookie(out: &mut impl BufMut, forward: &ForwardRequest<'_>) {
    let cookie = forward.additions.cookie.unwrap_or_default();
    if !cookie.is_empty() && !forward.edits.removes(b"cookie") {
        put_field(out, b"Cookie", cookie);
    }
}

/// The same for a peer that is believed: it has said some of it.
#[inline(never)]
fn put_trusted(
    out: &mut impl BufMut,
    head: &[u8],
    request: &RequestHead,
    fields: &Fields,
    forward: &ForwardRequest<'_>,
) {
    put_field(out, b"X-Forwarded-For", forward.client);
    if !forward.forwarded.is_empty() {
        put_field(out, b"Forwarded", forward.forwarded);
    }
    if !fields.has(FieldKind::XForwardedProto) {
        put_field(
            out,
            b"X-Forwarded-Proto",
            forward.scheme.as_str().as_bytes(),
        );
    }
    if !fields.has(FieldKind::XForwardedHost)
        && let Some(authority) = request.authority
    {
        put_field(out, b"X-Forwarded-Host", authority.of(head));
    }
    put_field(out, b"X-Request-Id", forward.request_id);
}
