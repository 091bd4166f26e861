//! The head of a request as it goes to an upstream.

use std::net::SocketAddr;

use runtime::Buf;

use crate::config::{HostRewrite, ProxyProtocol, RouteConfig};
use crate::data::codec::{
    Additions, Edits, ForwardRequest, PROXY_WRITTEN_MAX, RequestHead, Scheme, write_proxy,
    write_request_head,
};
use crate::data::log::Record;
use crate::data::plan::{ListenerPlan, RoutePlan};
use crate::data::request::Scratch;

/// A request on its way to an endpoint.
pub(in crate::data) struct Outgoing<'a> {
    pub(in crate::data) request: &'a RequestHead,
    pub(in crate::data) route: Option<&'a RoutePlan>,
    /// Where it came in.
    pub(in crate::data) listener: &'a ListenerPlan,
    /// What the peer says of scheme and host is believed.
    pub(in crate::data) trusted: bool,
    /// The Host of the endpoint.
    pub(in crate::data) endpoint: &'a str,
    pub(in crate::data) upgrade: Option<&'a str>,
    /// Who the caller is only the gateway says.
    pub(in crate::data) names_consumers: bool,
}

impl Outgoing<'_> {
    /// Writes the head; before it, with `whose`, the header of the PROXY protocol for a connection from and to there.
    pub(in crate::data) fn write(
        &self,
        scratch: &mut Scratch,
        record: &Record,
        whose: Option<(ProxyProtocol, SocketAddr, SocketAddr)>,
    ) -> Buf {
        // Without a route nothing looks at the lines.
        if let Some(route) = self.route {
            if route.request_headers.adds_nothing() {
                scratch.lines.clear();
            } else {
                put_lines(route, scratch, record);
            }
        }
        let head = scratch.head.data();
        let config = self.route.map(|route| &route.config);
        let authority = self.request.authority.map(|authority| authority.of(head));
        let trailers = config.is_some_and(|route| route.trailers);
        let forward = ForwardRequest {
            path: scratch.forwarded_path(self.request),
            host: match config.and_then(|route| route.rewrite.host.as_ref()) {
                None => authority.unwrap_or(self.endpoint.as_bytes()),
                Some(HostRewrite::Fixed(host)) => host.as_bytes(),
                Some(HostRewrite::Endpoint) => self.endpoint.as_bytes(),
            },
            client: scratch.told.chain(),
            forwarded: scratch.told.forwarded(),
            trusted: self.trusted,
            scheme: Scheme::Http,
            request_id: &record.request_id,
            underscore: self.listener.config.underscore_headers,
            trailers: config.is_some_and(RouteConfig::passes_trailers_up),
            te_trailers: trailers || self.request.te_trailers,
            upgrade: self.upgrade.map(str::as_bytes),
            expect_continue: self.request.expect_continue,
            additions: self.additions(scratch, record),
            via: self.listener.config.via.as_deref().map(str::as_bytes),
            edits: self.route.map_or(Edits::NONE, |route| Edits {
                lines: &scratch.lines,
                removed: route.request_headers.removed(),
            }),
        };
        let room = forward.size_max(head.len(), scratch.fields.len());
        let mut out = Buf::with_capacity(room + PROXY_WRITTEN_MAX);
        if let Some(whose) = whose {
            put_proxy(&mut out, whose);
        }
        write_request_head(&mut out, head, self.request, &scratch.fields, &forward);
        out
    }

    /// What authentication changes in the request.
    fn additions<'a>(&self, scratch: &'a Scratch, record: &'a Record) -> Additions<'a> {
        let taken = &scratch.taken_out;
        let caller = record.caller.as_ref();
        Additions {
            query: taken.query(),
            cookie: taken.cookie(),
            consumer: caller.map_or(&b""[..], |caller| &caller.identity().lines),
            names_consumers: self.names_consumers,
        }
    }
}

#[inline(never)]
fn put_lines(route: &RoutePlan, scratch: &mut Scratch, record: &Record) {
    scratch.put_lines(&route.request_headers, record, &route.config.name);
}

#[inline(never)]
fn put_proxy(out: &mut Buf, (version, from, to): (ProxyProtocol, SocketAddr, SocketAddr)) {
    write_proxy(out, version, from, to);
}
