//! Forwards a request to an upstream and its response to the client, both bodies streamed, both ways at once.
//!
//! A small exchange is two sends and two reads: the head and what there is of the body go up in one send, head and
//! body come down in one. A large body passes through a buffer at a time; the next read is under way while the
//! last piece is written.

mod ask;
mod choice;
mod download;
mod head;
mod outcome;
mod retry;
mod short;
mod timers;
mod upload;
mod wait;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use runtime::{Buf, HEADROOM_BYTES, MEDIUM_BYTES, SMALL_BYTES};

pub(super) use self::ask::ask;
use self::choice::key_of;
use self::download::Download;
pub(super) use self::head::Outgoing;
use self::retry::{Tries, is_replayable};
use self::short::Short;
use self::timers::{Timers, ticks_of};
use self::upload::{Never, Upload};
use super::Why;
use super::body::{Sink, Transfer};
use super::codec::{BodyFraming, HeadLimits, RequestHead, token_in_list};
use super::connection::{Connection, Next};
use super::error::Error;
use super::log::Record;
use super::plan::RoutePlan;
use super::request::{Scratch, discard, last};
use super::tunnel::Tunnel;
use super::upstream::{Lease, LeaseError, Pool, Turn};
use super::worker::{Served, Worker};
use crate::config::{ProxyProtocol, RouteConfig};
use crate::telemetry::UpstreamError;

/// Head and body go out in one send up to this size: copying it costs less than a second send.
const COALESCE_BYTES_MAX: usize = MEDIUM_BYTES;
/// Bounds of a response head (robustness rule 31).
const RESPONSE_LIMITS: HeadLimits = HeadLimits {
    start_line_max: 8 * 1024,
    head_max: 64 * 1024,
    fields_max: 128,
};

/// How an exchange ended well.
enum Ended {
    /// The response is complete.
    Response(Finished),
    /// The connection now speaks another protocol.
    Upgraded,
    /// The response has this status, for which the request is sent again; nothing of it was passed on.
    Repeat(u16),
}

struct Finished {
    /// Bytes of the response as they came: head and payload.
    bytes: u64,
    /// The upstream connection may serve another request.
    reusable: bool,
    /// The client was told that its connection stays.
    keep_alive: bool,
}

/// Forwards the request of `record` to `upstream` and the response to the client.
pub(super) async fn forward(
    connection: &mut Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &mut Record,
    upstream: usize,
) -> Result<Next, Error> {
    let request = record.request.ok_or(Error::Stopped)?;
    // Answers to requests before this one must not wait for its body or its upstream.
    if !connection.writer.out.is_empty() {
        connection.writer.flush().await?;
    }
    let pool = &served.pools[upstream];
    let worker = Rc::clone(&connection.worker);
    record.upstream = Some(upstream);
    let route_plan = record.route.map(|route| &served.plan.routes[route]);
    let route = route_plan.map(|route| &route.config);
    let route_until = route
        .and_then(|route| route.timeout)
        .map(|timeout| worker.deadlines.now() + ticks_of(timeout));
    let max_body = route.and_then(|route| route.max_body);
    let upgrade = chosen_upgrade(&request, scratch, route);
    let trailers = route.is_some_and(|route| route.trailers);
    let trailers_up = route.is_some_and(RouteConfig::passes_trailers_up);
    let mut body = Transfer::new(request.framing, sink_of(&request, trailers_up));
    let key = key_of(pool, record.client, &request, scratch, &served.plan);
    let mut tries = Tries::new(pool, is_replayable(&request), route);
    // Whoever said at its start whose connection it is cannot have another client's request on it.
    let one_client = pool.upstream().config.proxy_protocol != ProxyProtocol::Off;
    loop {
        let timers = tries.timers(route_until);
        let fresh = tries.is_again() || one_client;
        let asked = (key, &tries, fresh);
        let mut lease = match find(pool, key, &tries, fresh) {
            Ok(Ok(lease)) => lease,
            other => Box::pin(wait::lease(pool, other, &worker, timers, asked)).await?,
        };
        record.endpoint = Some(lease.endpoint);
        record.connect = (!lease.reused).then_some(lease.connect_time);
        let mut exchange = Exchange {
            request: &request,
            route: route_plan,
            upgrade,
            names_consumers: !served.plan.authenticators.is_empty(),
            trailers,
            max_body,
            timers,
            scratch: &mut *scratch,
            record: &mut *record,
            progress: Progress::default(),
            repeat_on: tries.statuses(),
        };
        let result = exchange.run(connection, &mut lease, &mut body).await;
        let sent_whole = exchange.progress.uploaded.get();
        record.request_body_bytes = body.payload_bytes();
        outcome::tell(pool, &lease, &result, record.status);
        match result {
            Ok(Ended::Upgraded) => {
                let idle = pool.upstream().config.idle_timeout;
                connection.tunnel = Some(Box::new(Tunnel::new(lease, idle)));
                return Ok(Next::Tunnel);
            }
            Ok(Ended::Response(finished)) => {
                record.upstream_answered = true;
                tries.passed_on(record.status);
                // The last piece may have been taken from the client and not be sent yet.
                if !sent_whole || !finished.reusable || one_client {
                    drop(lease);
                } else {
                    give_back(pool, lease, &finished);
                }
                let head_bytes = scratch.head.len() as u64;
                return Ok(
                    match settle(connection, head_bytes, &body, &finished, record) {
                        Some(next) => next,
                        None => discard(connection, &mut body).await,
                    },
                );
            }
            Ok(Ended::Repeat(_)) => again(&worker, record, tries.after_status(&lease)),
            Err(error) => match tries.after_error(&error, &lease, record.status) {
                Some(reason) => again(&worker, record, reason),
                None => return Err(error),
            },
        }
    }
}

#[cold]
fn again(worker: &Worker, record: &mut Record, reason: UpstreamError) {
    record.retries += 1;
    if let Some(upstream) = record.upstream {
        worker.metrics.upstream_retried(upstream, reason);
    }
}

/// An idle connection to the endpoint whose turn it is, unless it must be `fresh`; else the turn.
#[inline]
fn find<'a>(
    pool: &'a Pool,
    key: Option<u64>,
    tries: &'a Tries<'_>,
    fresh: bool,
) -> Result<Result<Box<Lease>, Turn<'a>>, Error> {
    find_for(pool, pool.turn(key, tries.failed()), fresh)
}

#[inline]
fn find_for<'a>(
    pool: &Pool,
    turn: Result<Turn<'a>, LeaseError>,
    fresh: bool,
) -> Result<Result<Box<Lease>, Turn<'a>>, Error> {
    let turn = turn.map_err(Error::Lease)?;
    Ok(if fresh { Err(turn) } else { pool.reuse(turn) })
}

/// The protocol to ask for: the first that the client offers and the route allows.
pub(super) fn chosen_upgrade<'a>(
    request: &RequestHead,
    scratch: &Scratch,
    route: Option<&'a RouteConfig>,
) -> Option<&'a str> {
    // With a body there would be two readings of where the new protocol begins.
    let wanted = request
        .upgrade
        .filter(|_| request.framing == BodyFraming::None)?;
    token_in_list(wanted.of(scratch.head.data()), &route?.upgrade)
}

/// How the request's body goes up.
fn sink_of(request: &RequestHead, trailers: bool) -> Sink {
    if request.framing == BodyFraming::Chunked {
        Sink::Chunked { trailers }
    } else {
        Sink::Plain
    }
}

/// A new connection, or another endpoint's idle one unless it must be `fresh`; within what is left of the route's time.
async fn connect(
    pool: &Pool,
    turn: Turn<'_>,
    worker: &Worker,
    timers: Timers<'_>,
    fresh: bool,
) -> Result<Box<Lease>, Error> {
    let allowed = pool.upstream().config.connect_timeout;
    let left = timers.route_left(worker.deadlines.now()).unwrap_or(allowed);
    let result = pool
        .connect(turn, || worker.clock.now(), allowed.min(left), fresh)
        .await;
    result.map_err(|error| match error {
        LeaseError::ConnectTimeout if left < allowed => Error::RouteTimeout,
        error => Error::Lease(error),
    })
}

/// After a clean exchange: the connection goes back for the next request.
fn give_back(pool: &Pool, mut lease: Box<Lease>, finished: &Finished) {
    if lease.reader.data().is_empty() && !lease.reader.is_armed() {
        // The next answer will be like the last one.
        lease.reader.set_read_size(read_size(finished.bytes));
        pool.give_back(lease);
    }
}

/// After a complete response: the client's connection stays or not. `None`: it stays, if the rest of the body can be read.
fn settle(
    connection: &mut Connection,
    head_bytes: u64,
    body: &Transfer,
    finished: &Finished,
    record: &Record,
) -> Option<Next> {
    connection.body_deadline.clear(Why::Busy);
    // The next request will be like this one.
    connection
        .reader
        .set_read_size(read_size(head_bytes + body.payload_bytes()));
    match (finished.keep_alive, body.is_ended()) {
        (true, true) => Some(Next::Keep),
        (true, false) => None,
        (false, is_read) => Some(last(!is_read, record)),
    }
}

/// Size of the first read of a message, by the size of the one before, head and body: where it just does not fit, each
/// costs a read and a send more.
const fn read_size(bytes: u64) -> usize {
    if bytes > (SMALL_BYTES - HEADROOM_BYTES) as u64 {
        MEDIUM_BYTES
    } else {
        SMALL_BYTES
    }
}

/// How far an exchange has come, for both ways to know.
#[derive(Debug, Default)]
struct Progress {
    /// The request has been sent to its end.
    uploaded: Cell<bool>,
    /// The final response head is there.
    head_seen: Cell<bool>,
    /// The client is being sent to, and nothing else is waited for.
    flushing: Cell<bool>,
}

/// Both ways at once, until the way down ends or the client has. `heeds_end`: a client that ends its sending side has left,
/// also while it is sent to.
async fn both(
    mut up: Pin<&mut impl Future<Output = Result<Never, Error>>>,
    mut down: Pin<&mut impl Future<Output = Result<Ended, Error>>>,
    progress: &Progress,
    heeds_end: bool,
) -> Result<Ended, Error> {
    poll_fn(|cx| {
        // Once the request has been sent, the way up only watches the client. A client to which an answer is being sent is
        // seen to leave by that.
        let watching = progress.uploaded.get();
        if watching {
            let ended = down.as_mut().poll(cx);
            if ended.is_ready() || progress.flushing.get() && !heeds_end {
                return ended;
            }
        }
        // First: whether the request has been sent decides what becomes of the connections after the response.
        if let Poll::Ready(result) = up.as_mut().poll(cx) {
            return Poll::Ready(result.map(|never| match never {}));
        }
        if watching {
            return Poll::Pending;
        }
        down.as_mut().poll(cx)
    })
    .await
}

/// One try of a request on one connection.
struct Exchange<'a> {
    request: &'a RequestHead,
    route: Option<&'a RoutePlan>,
    upgrade: Option<&'a str>,
    /// Who the caller is only the gateway says.
    names_consumers: bool,
    /// The route passes trailers both ways.
    trailers: bool,
    max_body: Option<u64>,
    timers: Timers<'a>,
    scratch: &'a mut Scratch,
    record: &'a mut Record,
    progress: Progress,
    /// Statuses for which the request is rather sent again.
    repeat_on: &'a [u16],
}

impl Exchange<'_> {
    async fn run(
        &mut self,
        connection: &mut Connection,
        lease: &mut Lease,
        body: &mut Transfer,
    ) -> Result<Ended, Error> {
        let mut first = Some(self.write_request(connection, lease));
        let mut known = None;
        if let Some(head) = first.take_if(|head| self.begins_short(connection, lease, head)) {
            match self.run_short(connection, lease, head).await? {
                Short::Ended(finished) => return Ok(Ended::Response(finished)),
                Short::Open(response) => known = response,
            }
        }
        let Self {
            request,
            route,
            upgrade,
            trailers,
            max_body,
            timers,
            scratch,
            record,
            progress,
            repeat_on,
            ..
        } = self;
        let progress = &*progress;
        let socket = Rc::clone(lease.socket());
        let Connection {
            reader,
            writer,
            body_deadline,
            listener,
            worker,
            reads_ahead,
            ..
        } = connection;
        let Lease {
            reader: upstream,
            deadline,
            ..
        } = lease;
        let mut up = pin!(
            Upload {
                reader,
                body,
                body_deadline,
                socket: &socket,
                deadline,
                timers: *timers,
                max_body: *max_body,
                listener,
                worker,
                progress,
                expect_continue: request.expect_continue,
                reads_ahead: request.keep_alive && *reads_ahead,
                waited: 0,
            }
            .run(first)
        );
        let mut down = pin!(
            Download {
                upstream,
                deadline,
                writer,
                timers: *timers,
                request,
                route: *route,
                upgrade: upgrade.map(str::as_bytes),
                trailers: *trailers || request.te_trailers,
                scratch,
                record,
                progress,
                repeat_on,
                known,
            }
            .run()
        );
        let heeds_end = listener.config.abort_on_client_fin;
        both(up.as_mut(), down.as_mut(), progress, heeds_end).await
    }

    /// The request head as it goes up, and before it the header that says whose connection this is.
    fn write_request(&mut self, connection: &Connection, lease: &Lease) -> Buf {
        let upstream = self.timers.pool.upstream();
        let version = upstream.config.proxy_protocol;
        let whose = (version != ProxyProtocol::Off).then(|| {
            let client = self.record.client;
            let is_peer = client == connection.client();
            let port = if is_peer {
                connection.source().port()
            } else {
                0
            };
            let local = connection.writer.socket.local_address();
            let local = local.unwrap_or(connection.listener.config.address);
            let local = SocketAddr::new(local.ip().to_canonical(), local.port());
            (version, SocketAddr::new(client, port), local)
        });
        let outgoing = Outgoing {
            request: self.request,
            route: self.route,
            listener: &connection.listener,
            trusted: connection.trusted,
            endpoint: &upstream.endpoints[lease.endpoint].authority,
            upgrade: self.upgrade,
            names_consumers: self.names_consumers,
        };
        outgoing.write(self.scratch, self.record, whose)
    }
}
