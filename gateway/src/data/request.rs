//! The life of a request, in order. This is the one place that decides; each step does its part and knows nothing
//! of its neighbours:
//!
//! 1. the head, found by `connection`, is read (`codec`)
//! 2. the path is brought to its one form (`codec`)
//! 3. the route is found (`route`)
//! 4. where the client is, and who the caller is, is asked (`filter::networks`, `auth`)
//! 5. limits are asked (`filter::limit`)
//! 6. the route answers (`respond`), or an upstream does (`upstream`, `forward`)
//! 7. what went wrong becomes an answer (`respond`)
//! 8. the request is counted and logged (`log`)

mod decide;
mod guard;
mod limits;
mod permit;

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use arrayvec::ArrayVec;
use runtime::{Buf, Expiry};

use super::auth::{Caller, TakenOut, Verified};
use super::body::{Sink, Transfer};
use super::client::Told;
use super::codec::{BodyFraming, Edits, Fields, RequestHead, Scheme, TargetForm, Version};
use super::connection::{Connection, Next, fill_in_time};
use super::edit::{HeaderPlan, Variables};
use super::error::Error;
use super::filter::limit;
use super::filter::security_headers::Present;
use super::log::Record;
use super::page::Page;
use super::plan::{Plan, RoutePlan};
use super::respond::{Answer, Content};
use super::route::Captures;
use super::tunnel::Unfinished;
use super::worker::Served;
use super::{Why, fault, forward};
use crate::config::{Action, FixedResponse, ROUTE_AUTH_MAX};
use crate::telemetry::MetricsWriter;

pub(super) use guard::{ask_cors, ask_filters, ask_networks};
use permit::{Undecided, decide, decide_later};

pub(super) use decide::{
    Heard, Site, Understood, asked, challenges, check_sizes, identify, own_edits, page, subject,
    take_action, understand,
};

/// A body that nobody wants is read to its end if it is this short, so that the connection can stay.
pub(super) const DISCARD_BYTES_MAX: u64 = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// The answer to OPTIONS that may go no further.
static NOTHING: FixedResponse = FixedResponse {
    status: 204,
    headers: Vec::new(),
    body: String::new(),
};

/// Memory of a connection that is used again for each request.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The request head; spans point into it.
    pub(super) head: Buf,
    pub(super) fields: Fields,
    pub(super) response_fields: Fields,
    /// The response head as it goes out, until it is put before its body.
    pub(super) response_head: Buf,
    /// The path's normal form, where that differs from what was sent.
    path: Vec<u8>,
    /// What goes upstream in its place, or the target of a redirect; empty: nothing.
    pub(super) rewritten: Vec<u8>,
    /// Field lines that a route adds.
    pub(super) lines: Vec<u8>,
    /// What is told of the client.
    pub(super) told: Told,
    host: Vec<u8>,
    generous: Vec<u8>,
    /// What the route's path captured.
    captures: Captures,
    /// A part of a limit's key, or a credential, while it is decoded.
    pub(super) key_part: Vec<u8>,
    /// What is left of the query and the cookies without credentials.
    pub(super) taken_out: TakenOut,
    /// What was said by authenticators that had to be waited for.
    pub(super) verified: ArrayVec<Verified, ROUTE_AUTH_MAX>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            head: Buf::empty(),
            fields: Fields::new(),
            response_fields: Fields::new(),
            response_head: Buf::empty(),
            path: Vec::new(),
            rewritten: Vec::new(),
            lines: Vec::new(),
            told: Told::default(),
            host: Vec::new(),
            generous: Vec::new(),
            captures: Captures::default(),
            key_part: Vec::new(),
            taken_out: TakenOut::default(),
            verified: ArrayVec::new(),
        }
    }
}

impl Scratch {
    /// What the record of a request needs for as long as its connection is a tunnel: no pooled block, nothing to spare.
    fn of_tunnel(&self) -> Self {
        Self {
            head: Buf::exactly(self.head.data()),
            fields: self.fields.clone(),
            // What must not be logged of the query must not be logged later either.
            taken_out: self.taken_out.clone(),
            ..Self::default()
        }
    }

    /// The one form of the request's path, by which it was routed.
    pub(super) fn path(&self, request: &RequestHead) -> &[u8] {
        if request.form == TargetForm::Asterisk {
            b"/"
        } else if self.path.is_empty() {
            request.path.of(self.head.data())
        } else {
            &self.path
        }
    }

    /// The path that goes upstream.
    pub(super) fn forwarded_path(&self, request: &RequestHead) -> &[u8] {
        if self.rewritten.is_empty() {
            self.path(request)
        } else {
            &self.rewritten
        }
    }

    /// What templates of a route can take from the request.
    pub(super) fn variables<'a>(
        &'a self,
        request: &RequestHead,
        record: &'a Record,
        route: &'a str,
    ) -> Variables<'a> {
        let head = self.head.data();
        Variables {
            scheme: Scheme::Http.as_str(),
            method: request.method_span.of(head),
            host: &self.host,
            path: self.path(request),
            query: self
                .taken_out
                .query()
                .unwrap_or_else(|| request.query.map_or(b"", |query| query.of(head))),
            caller: record.caller.as_ref().map(Caller::identity),
            client: self.told.client(),
            request_id: &record.request_id,
            route,
            captures: &self.captures,
        }
    }

    /// Writes to `lines` the fields that a route adds to any of its responses. `present`: what one has already.
    pub(super) fn put_response_lines(
        &mut self,
        route: &RoutePlan,
        record: &Record,
        present: Present<'_>,
    ) {
        self.put_lines(&route.response_headers, record, &route.config.name);
        if let Some(cors) = route.enforced_cors() {
            cors.put_lines(record.cors, self.head.data(), &mut self.lines);
        }
        let fields = &self.response_fields;
        route.security.put_lines(present, fields, &mut self.lines);
    }

    /// Writes to `lines` the fields that a route adds in one direction.
    pub(super) fn put_lines(&mut self, plan: &HeaderPlan, record: &Record, route: &str) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        if let (false, Some(request)) = (plan.adds_nothing(), &record.request) {
            plan.put_lines(&self.variables(request, record, route), &mut lines);
        }
        self.lines = lines;
    }
}

/// What is done with a request that nothing refused.
pub(super) enum Decision {
    /// The route answers.
    Respond { route: usize },
    /// The route answers with a redirect, whose target is in the scratch.
    Redirect { status: u16 },
    /// An upstream answers.
    Forward { upstream: usize },
    /// The gateway answers for itself: OPTIONS that may go no further.
    Options,
}

/// Serves the request whose head is at `range` of the reader's buffer.
pub(super) async fn handle(
    connection: &mut Connection,
    scratch: &mut Scratch,
    range: Range<usize>,
) -> Next {
    let worker = Rc::clone(&connection.worker);
    let served = worker.served();
    let active = Active::new(&worker.metrics);
    let mut record = Record::new(
        worker.clock.now(),
        worker.next_request_id(),
        connection.client(),
    );
    take_head(connection, scratch, range);

    let decision = match decide(connection, &served, scratch, &mut record) {
        Ok(decision) => Ok(decision),
        Err(Undecided::No(error)) => Err(error),
        // In a box: no other request pays for the place of this wait.
        Err(Undecided::Unverified(waits)) => {
            Box::pin(decide_later(
                connection,
                &served,
                scratch,
                &mut record,
                waits,
            ))
            .await
        }
    };
    let result = match decision {
        Ok(Decision::Forward { upstream }) => {
            forward::forward(connection, &served, scratch, &mut record, upstream).await
        }
        Ok(Decision::Respond { route }) => {
            let Action::Respond(fixed) = &served.plan.routes[route].config.action else {
                return Next::Close;
            };
            if served.plan.faults {
                let asked = scratch.fields.values(scratch.head.data(), fault::FIELD);
                asked.for_each(fault::commit);
            }
            let content = Content::Fixed(fixed);
            Ok(answer(
                connection,
                &served,
                scratch,
                &mut record,
                fixed.status,
                content,
            )
            .await)
        }
        Ok(Decision::Redirect { status }) => {
            let target = std::mem::take(&mut scratch.rewritten);
            let content = Content::Redirect(&target);
            let next = answer(connection, &served, scratch, &mut record, status, content).await;
            scratch.rewritten = target;
            Ok(next)
        }
        Ok(Decision::Options) => {
            let content = Content::Fixed(&NOTHING);
            Ok(answer(connection, &served, scratch, &mut record, 204, content).await)
        }
        Err(error) => Err(error),
    };
    let (next, error) = match result {
        Ok(next) => (next, None),
        Err(error) => (
            refuse(connection, &served.plan, scratch, &mut record, &error).await,
            Some(error),
        ),
    };
    if let Some(error) = &error {
        guard::count_refusal(connection, &served.plan, &record, error);
    }
    if let (Next::Tunnel, Some(tunnel)) = (next, &mut connection.tunnel) {
        let scratch = scratch.of_tunnel();
        tunnel.request = Some(Unfinished::new(record, served, scratch, active));
    } else {
        record.finish(connection, &served, scratch, error.as_ref());
    }
    scratch.head = Buf::empty();
    next
}

/// Counts a request as active, also when its task panics.
#[derive(Debug)]
pub(super) struct Active(Rc<MetricsWriter>);

impl Active {
    fn new(metrics: &Rc<MetricsWriter>) -> Self {
        metrics.request_began();
        Self(Rc::clone(metrics))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// Moves the head out of the reader's buffer; what follows it stays. The shorter of the two is copied.
fn take_head(connection: &mut Connection, scratch: &mut Scratch, range: Range<usize>) {
    scratch.taken_out.clear();
    scratch.verified.clear();
    let buf = connection.reader.buf();
    if buf.len() - range.end > range.end {
        scratch.head = Buf::copy_of(&buf.data()[range.clone()]);
        buf.consume(range.end);
        return;
    }
    let mut head = std::mem::replace(buf, Buf::empty());
    *buf = head.split_off(range.end);
    head.consume(range.start);
    scratch.head = head;
}

/// The answer to something that is no request head. The connection closes.
pub(super) fn refuse_head(connection: &mut Connection, scratch: &Scratch, error: &Error) -> Next {
    let worker = Rc::clone(&connection.worker);
    let mut record = Record::new(
        worker.clock.now(),
        worker.next_request_id(),
        connection.client(),
    );
    let served = worker.served();
    let listener = &connection.listener;
    let page = error.status().and_then(|status| {
        let told = (status, error);
        page(&served.plan, listener, (scratch, &record), told)
    });
    let refusal = Refused {
        error,
        limit: None,
        challenges: b"",
        page: page.as_ref(),
        close: true,
    };
    let next = put_refusal(connection, &mut record, &refusal, Edits::NONE);
    count_timeout(connection, error);
    guard::count_refusal(connection, &served.plan, &record, error);
    record.finish(connection, &served, scratch, Some(error));
    next
}

/// Turns an error into the answer, as far as one can still be given.
async fn refuse(
    connection: &mut Connection,
    plan: &Plan,
    scratch: &mut Scratch,
    record: &mut Record,
    error: &Error,
) -> Next {
    count_timeout(connection, error);
    if record.status != 0 {
        // The head is out: only a cut connection tells the client that the answer is not whole.
        return Next::Abort;
    }
    let limit = match error {
        Error::Limited(refusal) => Some(refusal.limit),
        _ => None,
    };
    let broken = matches!(
        error,
        Error::Head(_)
            | Error::Request(_)
            | Error::Path(_)
            | Error::AmbiguousPath
            | Error::Chunk(_)
            | Error::BodyTooLarge
            | Error::ClientTimeout(_)
            | Error::ClientGone
            | Error::Banned(_)
            | Error::Stopped
    ) || record.request.is_none()
        // Part of the body is gone already.
        || !matches!(error, Error::Lease(_)) && record.upstream.is_some() && has_body(record);
    let close = broken || closes(connection, record);
    let limit = limit.map(|limit| &plan.limits[limit]);
    let challenges = challenges(plan, record, error);
    let status = limit.map_or_else(|| error.status(), |limit| Some(limit.status));
    let page = status.and_then(|status| {
        let told = (status, error);
        page(plan, &connection.listener, (&*scratch, &*record), told)
    });
    let refusal = Refused {
        error,
        limit,
        challenges: &challenges,
        page: page.as_ref(),
        close,
    };
    let edits = own_edits(plan, scratch, record, Present::Nothing);
    let next = put_refusal(connection, record, &refusal, edits);
    if next == Next::Keep {
        discard_body(connection, record).await
    } else {
        next
    }
}

/// A refusal to be told.
struct Refused<'a> {
    error: &'a Error,
    /// The limit that refused.
    limit: Option<&'a limit::LimitPlan>,
    /// Fields of a 401.
    challenges: &'a [u8],
    /// What is said in place of a problem document.
    page: Option<&'a Page<'a>>,
    close: bool,
}

fn put_refusal(
    connection: &mut Connection,
    record: &mut Record,
    refused: &Refused<'_>,
    edits: Edits<'_>,
) -> Next {
    let &Refused {
        error,
        limit,
        challenges,
        page,
        close,
    } = refused;
    let status = match limit {
        Some(limit) => Some(limit.status),
        None => error.status(),
    };
    let Some(status) = status else {
        return Next::Close;
    };
    record.status = status;
    let request_id = record.request_id;
    let served = connection.worker.served();
    let answer = Answer {
        status,
        content: Content::Problem {
            error,
            request_id: &request_id,
            limit,
            table: &served.plan.table,
            challenges,
            page,
        },
        head_only: is_head(record),
        close,
        say_keep_alive: is_old(record),
        edits,
    };
    record.response_body_bytes = connection.put_answer(&answer);
    if close { Next::Linger } else { Next::Keep }
}

/// Puts a whole answer of the gateway's own; what the client sends as a body is read and thrown away.
async fn answer(
    connection: &mut Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &mut Record,
    status: u16,
    content: Content<'_>,
) -> Next {
    record.status = status;
    let close = closes(connection, record);
    let present = match &content {
        Content::Fixed(fixed) => Present::Fixed(&fixed.headers),
        Content::Redirect(_) | Content::Problem { .. } => Present::Nothing,
    };
    let answer = Answer {
        status,
        edits: own_edits(&served.plan, scratch, record, present),
        content,
        head_only: is_head(record),
        close,
        say_keep_alive: is_old(record),
    };
    record.response_body_bytes = connection.put_answer(&answer);
    if close {
        return last(has_body(record), record);
    }
    discard_body(connection, record).await
}

/// How to close behind an answer. `has_more`: part of the request was not read. Only who has said that it sends nothing more is
/// closed at once: a request that it sent before it saw ours would be answered with a reset.
pub(super) fn last(has_more: bool, record: &Record) -> Next {
    let is_over = record.request.is_some_and(|request| !request.keep_alive);
    if has_more || !is_over {
        Next::Linger
    } else {
        Next::Close
    }
}

/// Reads what is left of a body that nobody wants, if it is short; otherwise the connection closes, since its bytes
/// must never be taken for a request.
async fn discard_body(connection: &mut Connection, record: &Record) -> Next {
    let Some(request) = record.request else {
        return Next::Linger;
    };
    let mut body = Transfer::new(request.framing, Sink::Plain);
    discard(connection, &mut body).await
}

/// As [`discard_body`], for a body that was read in part.
pub(super) async fn discard(connection: &mut Connection, body: &mut Transfer) -> Next {
    if body.is_ended() {
        return Next::Keep;
    }
    if connection.writer.flush().await.is_err() {
        return Next::Close;
    }
    connection
        .body_deadline
        .set(DISCARD_TIME, Expiry::Wake, Why::Body);
    // Bytes that are left when all that can be taken was taken are the beginning of something: there must come more.
    let mut needs_more = false;
    while !body.is_ended() {
        if needs_more || connection.reader.data().is_empty() || connection.reader.is_armed() {
            match fill_in_time(&mut connection.reader, &connection.body_deadline).await {
                None => return Next::Linger,
                Some(Ok(0) | Err(_)) => return Next::Close,
                Some(Ok(count)) => connection.worker.metrics.received(count as u64),
            }
        }
        let taken = body.take(connection.reader.buf());
        if taken.is_err() || body.payload_promised() > DISCARD_BYTES_MAX {
            return Next::Linger;
        }
        needs_more = true;
    }
    connection.body_deadline.clear(Why::Busy);
    Next::Keep
}

/// Whether the connection closes after a local answer: the client or the drain wants it, or its body is too long to
/// be read for nothing, or may never come.
fn closes(connection: &Connection, record: &Record) -> bool {
    let Some(request) = record.request else {
        return true;
    };
    let unwanted = match request.framing {
        BodyFraming::Length(length) => length > DISCARD_BYTES_MAX,
        BodyFraming::None | BodyFraming::Chunked | BodyFraming::UntilClose => false,
    };
    !request.keep_alive || connection.worker.is_draining() || unwanted || request.expect_continue
}

pub(super) fn count_timeout(connection: &Connection, error: &Error) {
    if let Some(kind) = error.timeout() {
        connection.worker.metrics.timed_out(kind);
    }
}

fn has_body(record: &Record) -> bool {
    record
        .request
        .is_none_or(|request| request.framing != BodyFraming::None)
}

fn is_head(record: &Record) -> bool {
    record
        .request
        .is_some_and(|request| request.method == super::codec::Method::Head)
}

fn is_old(record: &Record) -> bool {
    record
        .request
        .is_some_and(|request| request.version == Version::Http10)
}
