//! Writes a request head for the upstream from what was understood of the client's (RFC 9110 section 7.6).

use bytes::BufMut;

use super::edits::Edits;
use super::field::{Field, FieldKind, Fields};
use super::framing::BodyFraming;
use super::request::RequestHead;
use super::target::{Scheme, TargetForm};
use super::write::{
    Copier, end_of_canonical, is_canonical_number, put_field, put_line, put_number_field, put_via,
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
        let own = [
            self.path,
            self.host,
            self.host,
            self.client,
            self.forwarded,
            self.request_id,
            self.edits.lines,
        ];
        let own = own
            .iter()
            .map(|part| part.len())
            .chain(self.upgrade.map(<[u8]>::len))
            .chain(self.additions.cookie.map(<[u8]>::len))
            .chain([self.additions.consumer.len()])
            .chain(self.via.map(<[u8]>::len));
        own.fold(
            head.saturating_add(fields).saturating_add(ADDED),
            usize::saturating_add,
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
    let mut copier = Copier::new(out, head);
    if let Some(end) = front {
        copier.keep_front(end);
    }
    let mut framed = false;
    for field in fields.iter() {
        // The one length there can be: where it stands as it would be written, it stays where it is.
        if field.kind == FieldKind::ContentLength
            && matches!(request.framing, BodyFraming::Length(_))
            && is_canonical_number(field.value.of(head))
        {
            framed = true;
            copier.keep(field);
        } else if is_kept(field, head, request, forward)
            && !forward.edits.removes(field.name.of(head))
        {
            copier.keep(field);
        }
    }
    copier.finish();
    if let Some(name) = forward.via {
        put_via(out, request.version, name);
    }
    put_framing(out, request, framed);
    put_connection(out, request, forward);
    put_client(out, head, request, fields, forward);
    if let Some(cookie) = forward.additions.cookie.filter(|cookie| !cookie.is_empty())
        && !forward.edits.removes(b"cookie")
    {
        put_field(out, b"Cookie", cookie);
    }
    out.put_slice(forward.additions.consumer);
    out.put_slice(forward.edits.lines);
    out.put_slice(b"\r\n");
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
        && sent == forward.path
        && forward.additions.query.is_none()
        && first.name.of(head) == b"Host"
        && first.value.of(head) == forward.host;
    if as_it_is {
        end_of_canonical(head, first)
    } else {
        None
    }
}

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

fn is_kept(
    field: &Field,
    head: &[u8],
    request: &RequestHead,
    forward: &ForwardRequest<'_>,
) -> bool {
    if field.named_by_connection || field.withheld {
        return false;
    }
    match field.kind {
        FieldKind::Host
        | FieldKind::ContentLength
        | FieldKind::TransferEncoding
        | FieldKind::Connection
        | FieldKind::HopByHop
        | FieldKind::Te
        | FieldKind::Upgrade
        | FieldKind::Expect
        | FieldKind::XForwardedFor
        | FieldKind::ClientIdentity
        | FieldKind::XRequestId => false,
        FieldKind::Trailer => forward.trailers,
        FieldKind::MaxForwards => request.max_forwards.is_none(),
        FieldKind::XForwardedProto | FieldKind::XForwardedHost => forward.trusted,
        FieldKind::Consumer => !forward.additions.names_consumers,
        FieldKind::Underscore => {
            let posing = || forward.additions.names_consumers && poses(field.name.of(head));
            forward.underscore == UnderscoreHeaders::Allow && !posing()
        }
        FieldKind::Date | FieldKind::Other => true,
    }
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

/// Who the client is and what it asked for.
fn put_client(
    out: &mut impl BufMut,
    head: &[u8],
    request: &RequestHead,
    fields: &Fields,
    forward: &ForwardRequest<'_>,
) {
    if !forward.trusted {
        put_line(out, b"X-Forwarded-For: ", forward.client);
        out.put_slice(match forward.scheme {
            Scheme::Http => b"X-Forwarded-Proto: http\r\n",
            Scheme::Https => b"X-Forwarded-Proto: https\r\n",
        });
        if let Some(authority) = request.authority {
            put_line(out, b"X-Forwarded-Host: ", authority.of(head));
        }
        if !forward.forwarded.is_empty() {
            put_line(out, b"Forwarded: ", forward.forwarded);
        }
        put_line(out, b"X-Request-Id: ", forward.request_id);
        return;
    }
    let believed = |kind| fields.iter().filter(move |field| field.kind == kind);
    put_field(out, b"X-Forwarded-For", forward.client);
    if !forward.forwarded.is_empty() {
        put_field(out, b"Forwarded", forward.forwarded);
    }
    if believed(FieldKind::XForwardedProto).next().is_none() {
        put_field(
            out,
            b"X-Forwarded-Proto",
            forward.scheme.as_str().as_bytes(),
        );
    }
    if believed(FieldKind::XForwardedHost).next().is_none()
        && let Some(authority) = request.authority
    {
        put_field(out, b"X-Forwarded-Host", authority.of(head));
    }
    put_field(out, b"X-Request-Id", forward.request_id);
}
