//! The record of a request: what it was and how it ended, for the access log and the metrics.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::auth::Caller;
use super::codec::{self, RequestHead};
use super::connection::Connection;
use super::error::Error;
use super::filter::cors::Reply;
use super::request::Scratch;
use super::upstream::Target;
use super::worker::Served;
use crate::telemetry::{
    AccessRecord, End, LimitOutcome, Method, RecordAddress, Scheme, Spent, Version,
};

/// What is known of a request while it is served.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) started: Instant,
    pub(super) request: Option<RequestHead>,
    pub(super) request_id: [u8; 32],
    /// Who the request came from, by all that is believed.
    pub(super) client: IpAddr,
    pub(super) route: Option<usize>,
    /// Status sent to the client; 0: none yet.
    pub(super) status: u16,
    pub(super) request_body_bytes: u64,
    pub(super) response_body_bytes: u64,
    pub(super) upstream: Option<usize>,
    pub(super) endpoint: Option<usize>,
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    /// The upstream's response was complete.
    pub(super) upstream_answered: bool,
    pub(super) retries: u8,
    pub(super) limit: Option<(usize, LimitOutcome)>,
    pub(super) caller: Option<Caller>,
    /// Why nobody has judged it, where it was let in nevertheless.
    pub(super) unjudged: Option<&'static str>,
    /// What the page of another origin that made it is told.
    pub(super) cors: Reply,
}

impl Record {
    pub(super) fn new(started: Instant, request_id: [u8; 32], client: IpAddr) -> Self {
        Self {
            started,
            request: None,
            request_id,
            client,
            route: None,
            status: 0,
            request_body_bytes: 0,
            response_body_bytes: 0,
            upstream: None,
            endpoint: None,
            connect: None,
            first_byte: None,
            upstream_answered: false,
            retries: 0,
            limit: None,
            caller: None,
            unjudged: None,
            cors: Reply::default(),
        }
    }

    /// Counts the request and hands its record to the log. Costs one reading of the clock.
    pub(super) fn finish(
        &self,
        connection: &Connection,
        served: &Served,
        scratch: &Scratch,
        error: Option<&Error>,
    ) {
        let worker = &connection.worker;
        let duration = worker.clock.now().saturating_duration_since(self.started);
        let method = self
            .request
            .as_ref()
            .map_or(Method::Other, |request| label_of(request.method));
        let spent = Spent::from(duration);
        worker
            .metrics
            .request_finished(self.route.map(narrow), method, self.status, spent);
        if let (Some(upstream), true) = (self.upstream, self.upstream_answered) {
            worker.metrics.upstream_finished(upstream, spent);
        }
        if let Some(error) = error {
            worker.metrics.rejected(error.name());
            if let (Some(upstream), Some(fault)) = (self.upstream, error.upstream()) {
                worker.metrics.upstream_failed(upstream, fault);
            }
        }
        let Some(log) = &worker.log else { return };
        let record = self.access_record(connection, served, scratch, duration, error);
        if !log.push(&record) {
            worker.metrics.access_log_dropped();
        }
    }

    fn access_record<'a>(
        &'a self,
        connection: &Connection,
        served: &'a Served,
        scratch: &'a Scratch,
        duration: Duration,
        error: Option<&Error>,
    ) -> AccessRecord<'a> {
        let worker = &connection.worker;
        let head = scratch.head.data();
        let method = self
            .request
            .map_or(&b""[..], |request| request.method_span.of(head));
        let field = |name| scratch.fields.values(head, name).next().unwrap_or_default();
        let endpoint = self
            .upstream
            .zip(self.endpoint)
            .map(|(upstream, endpoint)| &served.plan.upstreams[upstream].endpoints[endpoint]);
        AccessRecord {
            unix_us: worker.clock.unix_micros(self.started),
            duration,
            method,
            scheme: Scheme::Http,
            path: self
                .request
                .map_or(&b""[..], |request| request.path.of(head)),
            query: scratch.taken_out.query_to_log().or_else(|| {
                let query = self.request.and_then(|request| request.query);
                query.map(|query| query.of(head))
            }),
            version: match self.request.map(|request| request.version) {
                Some(codec::Version::Http10) => Version::Http10,
                _ => Version::Http11,
            },
            route: self.route.map(narrow),
            status: self.status,
            request_body_bytes: self.request_body_bytes,
            response_body_bytes: self.response_body_bytes,
            client: Some(self.client),
            peer: Some(connection.peer),
            host: self
                .request
                .and_then(|request| request.authority)
                .map_or(&b""[..], |authority| authority.of(head)),
            user_agent: if self.request.is_some() {
                field(b"user-agent")
            } else {
                b""
            },
            referer: if self.request.is_some() {
                field(b"referer")
            } else {
                b""
            },
            request_id: &self.request_id,
            listener: narrow(connection.listener.index),
            upstream: self.upstream.map(narrow),
            upstream_address: match endpoint.map(|endpoint| (&endpoint.target, &endpoint.label)) {
                None => RecordAddress::None,
                Some((Target::Tcp(address), _)) => RecordAddress::Socket(*address),
                Some((Target::Unix(_) | Target::Host(_), label)) => {
                    RecordAddress::Unix(label.as_bytes())
                }
            },
            end: error.map_or(End::Ok, Error::end),
            error_type: error.map_or_else(|| self.unjudged.unwrap_or_default(), Error::name),
            retries: self.retries,
            consumer: self
                .caller
                .as_ref()
                .map_or(&b""[..], |caller| caller.identity().name.as_bytes()),
            limit: self.limit.map(|(limit, outcome)| (narrow(limit), outcome)),
            connect: self.connect,
            first_byte: self.first_byte,
        }
    }
}

/// The label of a method; CONNECT and TRACE are never read as one.
const fn label_of(method: codec::Method) -> Method {
    match method {
        codec::Method::Get => Method::Get,
        codec::Method::Head => Method::Head,
        codec::Method::Post => Method::Post,
        codec::Method::Put => Method::Put,
        codec::Method::Delete => Method::Delete,
        codec::Method::Options => Method::Options,
        codec::Method::Patch => Method::Patch,
        codec::Method::Other => Method::Other,
    }
}

/// Indices of configured things fit in 16 bits: the config caps their number.
fn narrow(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
