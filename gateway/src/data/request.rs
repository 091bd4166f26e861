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

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use runtime::{Buf, Expiry};

use super::auth::{self, Caller, TakenOut};
use super::body::{Sink, Transfer};
use super::codec::{
    BodyFraming, FieldKind, Fields, Normalised, RequestError, RequestHead, TargetForm, Version,
    check_query, host_of, most_generous_form, normalise_path, parse_request,
};
use super::connection::{Connection, Next};
use super::error::Error;
use super::filter::key::Subject;
use super::filter::limit::{self, Decided};
use super::filter::networks;
use super::log::Record;
use super::plan::Plan;
use super::respond::{Answer, Content};
use super::route::{Asked, Captures, Methods};
use super::tunnel::Unfinished;
use super::worker::Served;
use super::{Why, fault, forward};
use crate::config::{AccessConfig, Action, PathPolicy};
use crate::telemetry::{LimitOutcome, MetricsWriter};

/// A body that nobody wants is read to its end if it is this short, so that the connection can stay.
pub(super) const DISCARD_BYTES_MAX: u64 = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);

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
    pub(super) path: Vec<u8>,
    host: Vec<u8>,
    generous: Vec<u8>,
    /// What the route's path captured.
    captures: Captures,
    /// A part of a limit's key, or a credential, while it is decoded.
    key_part: Vec<u8>,
    /// What is left of the query and the cookies without credentials.
    pub(super) taken_out: TakenOut,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            head: Buf::empty(),
            fields: Fields::new(),
            response_fields: Fields::new(),
            response_head: Buf::empty(),
            path: Vec::new(),
            host: Vec::new(),
            generous: Vec::new(),
            captures: Captures::default(),
            key_part: Vec::new(),
            taken_out: TakenOut::default(),
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

    /// The one form of the request's path: what was routed, and what is forwarded.
    pub(super) fn path(&self, request: &RequestHead) -> &[u8] {
        if self.path.is_empty() {
            request.path.of(self.head.data())
        } else {
            &self.path
        }
    }
}

/// What is done with a request that nothing refused.
enum Decision {
    /// The route answers.
    Respond { route: usize },
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
    let mut record = Record::new(worker.clock.now(), worker.next_request_id());
    take_head(connection, scratch, range);

    let decision = decide(connection, &served, scratch, &mut record);
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
            Ok(answer(connection, &mut record, fixed.status, Content::Fixed(fixed)).await)
        }
        Ok(Decision::Options) => {
            let nothing = crate::config::FixedResponse {
                status: 204,
                headers: Vec::new(),
                body: String::new(),
            };
            Ok(answer(connection, &mut record, 204, Content::Fixed(&nothing)).await)
        }
        Err(error) => Err(error),
    };
    let (next, error) = match result {
        Ok(next) => (next, None),
        Err(error) => (
            refuse(connection, &served.plan, &mut record, &error).await,
            Some(error),
        ),
    };
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

/// Steps 1 to 5. Does not wait.
fn decide(
    connection: &Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &mut Record,
) -> Result<Decision, Error> {
    let plan = &*served.plan;
    let listener = &connection.listener;
    let Scratch {
        head,
        fields,
        path: normal,
        host,
        generous,
        captures,
        key_part,
        taken_out,
        ..
    } = scratch;
    let head = head.data();
    let request = parse_request(head, &listener.rules, fields).map_err(Error::Request)?;
    record.request = Some(request);

    if request.max_forwards == Some(0) {
        return Ok(Decision::Options);
    }
    count_underscores(connection, fields);
    let (path, policy) = read_target(connection, &request, head, normal)?;

    host.clear();
    if let Some(authority) = request.authority {
        host.extend(
            host_of(authority.of(head))
                .iter()
                .map(u8::to_ascii_lowercase),
        );
    }
    let query = request.query.map(|query| query.of(head));
    let asked = Asked {
        host,
        path,
        query,
        method: plan.table.method(request.method_span.of(head)),
        client: connection.client(),
        head,
        fields,
    };
    let route = find_route(served, &asked, captures)?;
    check_readings(connection, served, policy, route, &asked, generous)?;
    record.route = Some(route);
    let route_config = &plan.routes[route].config;

    if !route_config.network_lists.is_empty() {
        ask_networks(connection, plan, &route_config.network_lists)?;
    }
    check_length(&request, route_config.max_body)?;
    let access = &route_config.access;
    let now = || connection.worker.clock.unix_micros(record.started) / 1_000_000;
    let caller = if access.auth.is_empty() {
        None
    } else {
        let asked = (head, query, now());
        identify(served, access, asked, fields, (key_part, taken_out))?
    };
    let subject = Subject {
        hasher: &plan.hasher,
        client: connection.client(),
        client_key: connection.client_key,
        head,
        fields,
        host,
        path,
        query,
        route: &route_config.name,
        caller: caller.as_ref().map(Caller::identity),
        ignore_case: route_config.ignore_case,
    };
    let limited = ask_limits(connection, served, route, &subject, key_part, record);
    record.caller = caller;
    limited?;

    Ok(match route_config.action {
        Action::Respond(_) => Decision::Respond { route },
        Action::Upstream(upstream) => Decision::Forward { upstream },
    })
}

/// Asks the lists of networks of a route, and counts what each says.
fn ask_networks(connection: &Connection, plan: &Plan, lists: &[usize]) -> Result<(), Error> {
    let metrics = &connection.worker.metrics;
    let decided = |list, outcome| metrics.network_decided(list, outcome);
    networks::check(&plan.network_lists, lists, connection.client(), decided)
}

/// Refuses a body that says it is longer than the route takes.
fn check_length(request: &RequestHead, most: Option<u64>) -> Result<(), Error> {
    match (request.framing, most) {
        (BodyFraming::Length(length), Some(most)) if length > most => Err(Error::BodyTooLarge),
        _ => Ok(()),
    }
}

/// Asks the authenticators of a route who calls; takes the credentials out.
fn identify(
    served: &Served,
    access: &AccessConfig,
    (head, query, now): (&[u8], Option<&[u8]>, u64),
    fields: &mut Fields,
    (buffer, taken_out): (&mut Vec<u8>, &mut TakenOut),
) -> Result<Option<Caller>, Error> {
    let plans = &served.plan.authenticators;
    let asked = auth::Request {
        head,
        fields,
        query,
        now,
    };
    let caller = auth::authenticate(access, plans, &served.tables, &asked, buffer);
    // Whatever came of it: a credential is nothing for a log.
    auth::take_out(access, plans, head, fields, query, taken_out);
    caller
}

/// The path in its one form, and the policy by which it is that: of a strict listener the standard one where a rule that is
/// only counted was broken. `normal` is scratch. The query is checked too.
fn read_target<'a>(
    connection: &Connection,
    request: &RequestHead,
    head: &'a [u8],
    normal: &'a mut Vec<u8>,
) -> Result<(&'a [u8], PathPolicy), Error> {
    normal.clear();
    let mut policy = connection.listener.config.path_policy;
    let sent = request.path.of(head);
    let mut done = Ok(Normalised::AsIs);
    if request.form != TargetForm::Asterisk {
        done = normalise_path(sent, policy, normal);
        if let Err(error) = done
            && may_pass(connection, policy, &Error::Path(error))
        {
            policy = PathPolicy::Standard;
            done = normalise_path(sent, policy, normal);
        }
    }
    let done = done.map_err(Error::Path)?;
    if let Some(query) = request.query {
        let query = query.of(head);
        let mut checked = check_query(query, policy);
        if let Err(error) = checked
            && may_pass(connection, policy, &Error::Path(error))
        {
            checked = check_query(query, PathPolicy::Standard);
        }
        checked.map_err(Error::Path)?;
    }
    let path = match (request.form, done) {
        (TargetForm::Asterisk, _) => &b"/"[..],
        (_, Normalised::Rewritten) => &*normal,
        (_, Normalised::AsIs) => {
            normal.clear();
            sent
        }
    };
    Ok((path, policy))
}

/// Whether a rule of the strict policy was broken that the listener only counts; counts it then.
#[cold]
fn may_pass(connection: &Connection, policy: PathPolicy, error: &Error) -> bool {
    let may = policy == PathPolicy::Strict && connection.listener.counts_only(error.name());
    if may {
        count_only(connection, error);
    }
    may
}

#[cold]
fn count_only(connection: &Connection, error: &Error) {
    let listener = connection.listener_index;
    connection
        .worker
        .metrics
        .counted_only(listener, error.name());
}

/// Names with `_` are for the listener to refuse; here those that it only counts.
fn count_underscores(connection: &Connection, fields: &Fields) {
    let error = Error::Request(RequestError::FieldUnderscore);
    if !connection.listener.config.count_only.is_empty()
        && connection.listener.counts_only(error.name())
        && fields
            .iter()
            .any(|field| field.kind == FieldKind::Underscore)
    {
        count_only(connection, &error);
    }
}

/// Asks the limits of the route, and counts what each says.
fn ask_limits(
    connection: &Connection,
    served: &Served,
    route: usize,
    subject: &Subject<'_>,
    key_part: &mut Vec<u8>,
    record: &mut Record,
) -> Result<(), Error> {
    let plan = &*served.plan;
    let now = plan.limits_time(record.started);
    let now_s = plan.limits_seconds(record.started);
    let limits = &plan.routes[route].config.limits;
    let decided = |decided: Decided, key_part: &mut Vec<u8>| {
        let Decided {
            limit,
            key,
            outcome,
        } = decided;
        connection.worker.metrics.limit_decided(limit, outcome);
        let refused = outcome != LimitOutcome::Allowed;
        served.top[limit].count(key.hash(), refused, now_s, || {
            subject.label(&plan.limits[limit].key, key_part)
        });
        if refused || record.limit.is_none() {
            record.limit = Some((limit, outcome));
        }
    };
    limit::check(&plan.limits, limits, subject, key_part, now, decided)
}

fn find_route(served: &Served, asked: &Asked<'_>, captures: &mut Captures) -> Result<usize, Error> {
    let table = &served.plan.table;
    let found = table.find(asked, &served.matchers, captures, &mut ());
    found.map_err(|methods: Methods| {
        if methods.is_empty() {
            Error::NoRoute
        } else {
            Error::MethodNotAllowed(methods)
        }
    })
}

/// As [`check_other_readings`], but for a listener that only counts what strict refuses.
fn check_readings(
    connection: &Connection,
    served: &Served,
    policy: PathPolicy,
    route: usize,
    asked: &Asked<'_>,
    generous: &mut Vec<u8>,
) -> Result<(), Error> {
    let checked = check_other_readings(served, policy, route, asked, generous);
    if let Err(error) = &checked
        && connection.listener.counts_only(error.name())
        && check_other_readings(served, PathPolicy::Standard, route, asked, generous).is_ok()
        && may_pass(connection, policy, error)
    {
        return Ok(());
    }
    checked
}

/// Refuses a path that a generous upstream could read as one that another route takes: in strict policy whatever
/// that route is, otherwise if it denies.
fn check_other_readings(
    served: &Served,
    policy: PathPolicy,
    route: usize,
    asked: &Asked<'_>,
    generous: &mut Vec<u8>,
) -> Result<(), Error> {
    let (plan, path) = (&*served.plan, asked.path);
    // Without any of these every reading is the same, but for case.
    let plain = !path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        && !path.windows(2).any(|pair| pair == b"//");
    if plain {
        return Ok(());
    }
    most_generous_form(path, false, generous);
    let asked = Asked {
        path: generous,
        ..*asked
    };
    let mut captures = Captures::default();
    let found = plan
        .table
        .find(&asked, &served.matchers, &mut captures, &mut ());
    let other = found.ok();
    let harmless = other == Some(route)
        || policy == PathPolicy::Standard && !other.is_some_and(|other| plan.routes[other].denies);
    if harmless {
        Ok(())
    } else {
        Err(Error::AmbiguousPath)
    }
}

/// The answer to something that is no request head. The connection closes.
pub(super) fn refuse_head(connection: &mut Connection, scratch: &Scratch, error: &Error) -> Next {
    let worker = Rc::clone(&connection.worker);
    let mut record = Record::new(worker.clock.now(), worker.next_request_id());
    let next = put_refusal(connection, &mut record, error, (None, b""), true);
    count_timeout(connection, error);
    record.finish(connection, &worker.served(), scratch, Some(error));
    next
}

/// Turns an error into the answer, as far as one can still be given.
async fn refuse(
    connection: &mut Connection,
    plan: &Plan,
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
            | Error::Stopped
    ) || record.request.is_none()
        // Part of the body is gone already.
        || !matches!(error, Error::Lease(_)) && record.upstream.is_some() && has_body(record);
    let close = broken || closes(connection, record);
    let limit = limit.map(|limit| &plan.limits[limit]);
    let challenges = challenges(plan, record, error);
    let next = put_refusal(connection, record, error, (limit, &challenges), close);
    if next == Next::Keep {
        discard_body(connection, record).await
    } else {
        next
    }
}

/// What a 401 asks for.
fn challenges(plan: &Plan, record: &Record, error: &Error) -> Vec<u8> {
    match (error, record.route) {
        (Error::Unauthorized(denied), Some(route)) => {
            let access = &plan.routes[route].config.access;
            auth::challenges(access, &plan.authenticators, *denied)
        }
        _ => Vec::new(),
    }
}

fn put_refusal(
    connection: &mut Connection,
    record: &mut Record,
    error: &Error,
    (limit, challenges): (Option<&limit::LimitPlan>, &[u8]),
    close: bool,
) -> Next {
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
    connection.put_answer(&Answer {
        status,
        content: Content::Problem {
            error,
            request_id: &request_id,
            limit,
            table: &served.plan.table,
            challenges,
        },
        head_only: is_head(record),
        close,
        say_keep_alive: is_old(record),
    });
    if close { Next::Linger } else { Next::Keep }
}

/// Puts a whole answer of the gateway's own; what the client sends as a body is read and thrown away.
async fn answer(
    connection: &mut Connection,
    record: &mut Record,
    status: u16,
    content: Content<'_>,
) -> Next {
    record.status = status;
    let close = closes(connection, record);
    if let Content::Fixed(fixed) = &content
        && !is_head(record)
    {
        record.response_body_bytes = fixed.body.len() as u64;
    }
    connection.put_answer(&Answer {
        status,
        content,
        head_only: is_head(record),
        close,
        say_keep_alive: is_old(record),
    });
    if close {
        return if has_body(record) {
            Next::Linger
        } else {
            Next::Close
        };
    }
    discard_body(connection, record).await
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
        .set(DISCARD_TIME, Expiry::EndReads, Why::Body);
    while !body.is_ended() {
        if connection.reader.data().is_empty() || connection.reader.is_armed() {
            match connection.reader.fill().await {
                Ok(0) | Err(_) => return Next::Close,
                Ok(count) => connection.worker.metrics.received(count as u64),
            }
        }
        let taken = body.take(connection.reader.buf());
        if taken.is_err() || body.payload_promised() > DISCARD_BYTES_MAX {
            return Next::Linger;
        }
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

fn count_timeout(connection: &Connection, error: &Error) {
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
