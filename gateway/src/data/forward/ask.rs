//! Asks an authenticator elsewhere about a request: a subrequest through the pool of its upstream, before anything of the
//! request goes on. It touches neither the client's connection nor the request's body.
//!
//! It is done on the worker: the verdict is waited for, so another thread would only add two handovers, and the pool of
//! connections, the deadlines and the health of the endpoints are here.

use std::rc::Rc;

use bytes::BufMut as _;
use runtime::Buf;

use super::download::next_head;
use super::retry::Tries;
use super::timers::{Timers, ticks_of};
use super::{RESPONSE_LIMITS, find, wait};
use crate::config::{AskMethod, AskTarget, ForwardAuthConfig};
use crate::data::Why;
use crate::data::auth::{Answered, AuthPlan, Refusal, Verdict, judge};
use crate::data::body::{Sink, Transfer};
use crate::data::codec::{
    BodyFraming, FieldKind, INTERIM_HEAD_MAX, INTERIMS_MAX, Method, RequestContext, RequestHead,
    ResponseHead, TargetForm, parse_response, put_field,
};
use crate::data::connection::Connection;
use crate::data::error::{Error, Fault};
use crate::data::log::Record;
use crate::data::request::Scratch;
use crate::data::upstream::{Lease, LeaseError, Met, Pool};
use crate::data::worker::Served;
use crate::telemetry::Timeout;

/// Asks the authenticator of `config` about the request of `record`, and hears what it says.
///
/// # Errors
///
/// [`Error::Stopped`]: the worker ends. [`LeaseError::Full`], [`LeaseError::PendingTimeout`]: it is asked too much already. Whatever
/// else goes wrong is a verdict.
pub(in crate::data) async fn ask(
    connection: &Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &Record,
    (by, config): (&AuthPlan, &ForwardAuthConfig),
) -> Result<Verdict, Error> {
    let Some(request) = record.request else {
        return Err(Error::Stopped);
    };
    let (worker, upstream) = (&*connection.worker, config.upstream);
    let pool = &served.pools[upstream];
    let began = worker.clock.now();
    let until = worker.deadlines.now() + ticks_of(config.timeout);
    let mut tries = Tries::new(pool, config.method != AskMethod::Post, None);
    let error = loop {
        let timers = tries.timers(Some(until));
        let fresh = tries.is_again();
        let mut lease = match find(pool, None, &tries, fresh) {
            Ok(Ok(lease)) => lease,
            other => match wait::lease(pool, other, worker, timers, (None, &tries, fresh)).await {
                Ok(lease) => lease,
                Err(error) => break error,
            },
        };
        let endpoint = &pool.upstream().endpoints[lease.endpoint].authority;
        let question = question(config, endpoint, connection, scratch, &request, record);
        let heard = hear(question, &mut lease, timers, config, scratch).await;
        tell(pool, &lease, &heard);
        match heard {
            Ok((length, response)) if tries.statuses().contains(&response.status) => {
                debug_assert!(length > 0, "a head");
                let reason = tries.after_status(&lease);
                worker.metrics.upstream_retried(upstream, reason);
            }
            Ok((length, response)) => {
                tries.passed_on(response.status);
                let head = lease.reader.data().get(..length).unwrap_or_default();
                let told = (head, &scratch.response_fields);
                let answered = judge(config, by.consumers(), response.status, told);
                lease.reader.buf().consume(length);
                let verdict = finish(answered, &response, lease, pool, config, timers).await;
                let took = worker.clock.now().saturating_duration_since(began);
                worker.metrics.upstream_finished(upstream, took);
                return verdict;
            }
            Err(error) => match tries.after_error(&error, &lease, 0) {
                Some(reason) => worker.metrics.upstream_retried(upstream, reason),
                None => break error,
            },
        }
    };
    if let Some(fault) = error.upstream() {
        worker.metrics.upstream_failed(upstream, fault);
    }
    match error {
        // The time of the route has not begun yet: this was the question's.
        Error::RouteTimeout => worker.metrics.timed_out(Timeout::Auth),
        _ => error
            .timeout()
            .into_iter()
            .for_each(|kind| worker.metrics.timed_out(kind)),
    }
    Ok(Verdict::Silent(match error {
        // It has not failed: there are more questions than it is to get. Whoever asks many must not get in by that.
        Error::Lease(LeaseError::Full | LeaseError::PendingTimeout) => return Err(error),
        Error::RouteTimeout
        | Error::Lease(LeaseError::ConnectTimeout)
        | Error::Upstream(Fault::FirstByteTimeout | Fault::IdleTimeout) => "auth_timeout",
        Error::Lease(_) | Error::Upstream(Fault::ClosedBeforeResponse) => "auth_unreachable",
        Error::Upstream(_) => "auth_answer",
        error => return Err(error),
    }))
}

/// The whole question: it never has a body.
fn question(
    config: &ForwardAuthConfig,
    endpoint: &str,
    connection: &Connection,
    scratch: &Scratch,
    request: &RequestHead,
    record: &Record,
) -> Buf {
    let head = scratch.head.data();
    let fields = &scratch.fields;
    let mut out = Buf::with_capacity(head.len() + runtime::HEADROOM_BYTES);
    let put_target = |out: &mut Buf| {
        if request.form == TargetForm::Asterisk {
            out.put_slice(b"*");
            return;
        }
        out.put_slice(scratch.path(request));
        let sent = request.query.map(|query| query.of(head));
        // Without what was a credential of another authenticator's.
        let query = scratch.taken_out.query().or(sent);
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            out.put_slice(b"?");
            out.put_slice(query);
        }
    };
    out.put_slice(config.method.name().as_bytes());
    out.put_slice(b" ");
    match &config.target {
        AskTarget::Fixed(target) => out.put_slice(target.as_bytes()),
        AskTarget::Below(prefix) => {
            out.put_slice(prefix.as_bytes());
            if request.form == TargetForm::Asterisk {
                out.put_slice(b"/");
            } else {
                put_target(&mut out);
            }
        }
    }
    out.put_slice(b" HTTP/1.1\r\n");
    put_field(&mut out, b"Host", endpoint.as_bytes());
    let is_sent = |name: &[u8]| {
        let mut names = config.send.iter().map(String::as_bytes);
        names.any(|each| each.eq_ignore_ascii_case(name))
    };
    for field in fields.iter().filter(|field| !field.named_by_connection) {
        let name = field.name.of(head);
        let is_believed = connection.trusted
            && matches!(
                field.kind,
                FieldKind::XForwardedProto | FieldKind::XForwardedHost
            );
        if is_believed || is_sent(name) {
            put_field(&mut out, name, field.value.of(head));
        }
    }
    let has = |kind| connection.trusted && fields.iter().any(|field| field.kind == kind);
    put_field(
        &mut out,
        b"X-Forwarded-Method",
        request.method_span.of(head),
    );
    out.put_slice(b"X-Forwarded-Uri: ");
    put_target(&mut out);
    out.put_slice(b"\r\n");
    if !has(FieldKind::XForwardedProto) {
        put_field(&mut out, b"X-Forwarded-Proto", b"http");
    }
    if let Some(authority) = request.authority
        && !has(FieldKind::XForwardedHost)
    {
        put_field(&mut out, b"X-Forwarded-Host", authority.of(head));
    }
    put_field(&mut out, b"X-Forwarded-For", scratch.told.chain());
    put_field(&mut out, b"X-Request-Id", &record.request_id);
    if config.method == AskMethod::Post {
        put_field(&mut out, b"Content-Length", b"0");
    }
    out.put_slice(b"\r\n");
    out
}

/// Sends the question and reads the head of the final answer, whose length and meaning it gives; its fields are in `scratch`.
async fn hear(
    question: Buf,
    lease: &mut Lease,
    timers: Timers<'_>,
    config: &ForwardAuthConfig,
    scratch: &mut Scratch,
) -> Result<(usize, ResponseHead), Error> {
    let socket = Rc::clone(lease.socket());
    timers.first_byte(&lease.deadline);
    // Who does not take it may have answered before; the end of the connection shows in reading.
    let (_sent, _buf) = socket.send_all(question, |_| {}).await;
    let context = RequestContext {
        method: match config.method {
            AskMethod::Get => Method::Get,
            AskMethod::Head => Method::Head,
            AskMethod::Post => Method::Post,
        },
        upgrade: None,
        fields_max: RESPONSE_LIMITS.fields_max,
        tolerate: timers.pool.upstream().config.tolerate,
    };
    let mut interims = 0;
    loop {
        let length = next_head(&mut lease.reader, &lease.deadline, interims > 0).await?;
        let head = lease.reader.data().get(..length).unwrap_or_default();
        let response = parse_response(head, &context, &mut scratch.response_fields)
            .map_err(|error| Error::Upstream(Fault::Response(error)))?;
        if !response.is_interim() {
            return Ok((length, response));
        }
        interims += 1;
        if interims > INTERIMS_MAX || length > INTERIM_HEAD_MAX {
            return Err(Error::Upstream(Fault::TooManyInterims));
        }
        lease.reader.buf().consume(length);
    }
}

/// Says to the upstream how its endpoint did, for `outlier`.
fn tell(pool: &Pool, lease: &Lease, heard: &Result<(usize, ResponseHead), Error>) {
    let met = match heard {
        Ok((_, response)) => Met::Response(response.status),
        // An idle connection that the endpoint closed in its own time is no failure.
        Err(Error::Upstream(Fault::ClosedBeforeResponse)) if lease.reused => return,
        // The time that is over is the question's own.
        Err(Error::Upstream(_) | Error::RouteTimeout) => Met::Failure,
        Err(_) => return,
    };
    pool.upstream().met(lease.endpoint, met);
}

/// Reads the body behind a head that was understood, within its bound. What the head has said stands, whatever becomes of it.
async fn finish(
    answered: Answered,
    response: &ResponseHead,
    mut lease: Box<Lease>,
    pool: &Pool,
    config: &ForwardAuthConfig,
    timers: Timers<'_>,
) -> Result<Verdict, Error> {
    timers.idle(&lease.deadline);
    let mut transfer = Transfer::new(response.framing, Sink::Plain);
    let mut body = Vec::new();
    let keeps = matches!(answered, Answered::WithBody(_));
    let is_whole = loop {
        let Ok(piece) = transfer.take(lease.reader.buf()) else {
            break false;
        };
        if transfer.payload_promised() > config.max_body {
            break false;
        }
        if keeps {
            body.extend_from_slice(piece.data());
        }
        if transfer.is_ended() {
            break true;
        }
        match lease.reader.fill().await {
            Ok(count) if count > 0 => {}
            end => {
                let fired = lease.deadline.fired();
                if fired == Some(Why::Stop) {
                    return Err(Error::Stopped);
                }
                break end.is_ok() && fired.is_none() && transfer.close().is_some();
            }
        }
    };
    let is_reusable = is_whole
        && response.reusable
        && response.framing != BodyFraming::UntilClose
        && lease.reader.data().is_empty()
        && !lease.reader.is_armed();
    if is_reusable {
        lease.deadline.clear(Why::Busy);
        pool.give_back(lease);
    }
    Ok(match answered {
        Answered::Final(verdict) => verdict,
        Answered::Forbidden(reason) => Verdict::Forbidden(reason),
        Answered::WithBody(refusal) => {
            let has_body = response.framing != BodyFraming::None;
            Verdict::Refused(Rc::new(match is_whole && has_body {
                true => Refusal {
                    body: Some(body),
                    ..refusal
                },
                false => refusal.without_body(),
            }))
        }
    })
}
