//! Forwards a request to an upstream and its response to the client, both bodies streamed, both ways at once.
//!
//! A small exchange is two sends and two reads: the head and what there is of the body go up in one send, head and
//! body come down in one. A large body passes through a buffer at a time; the next read is under way while the
//! last piece is written.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use runtime::{
    Buf, Deadline, Expiry, LARGE_BYTES, MEDIUM_BYTES, Reader, SMALL_BYTES, Socket, TICK,
};

use super::body::{Sink, Transfer};
use super::codec::{
    BodyFraming, ForwardRequest, ForwardResponse, HeadLimits, HeadScanner, INTERIM_HEAD_MAX,
    INTERIMS_MAX, RequestContext, RequestHead, ResponseHead, Scheme, Version, is_idempotent,
    parse_response, token_in_list, write_request_head, write_response_head,
};
use super::connection::{ClientWriter, Connection, Next, patience};
use super::error::{Error, Fault, client_end, upstream_end};
use super::log::Record;
use super::request::{DISCARD_BYTES_MAX, Scratch, discard};
use super::upstream::{Lease, Pool};
use super::worker::Served;
use super::{Why, tunnel};

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
    let Some(request) = record.request else {
        return Err(Error::Stopped);
    };
    // Answers to requests before this one must not wait for its body or its upstream.
    connection.writer.flush().await?;
    let pool = &served.pools[upstream];
    let worker = std::rc::Rc::clone(&connection.worker);
    record.upstream = Some(upstream);
    let route = record.route.map(|route| &served.plan.routes[route].config);
    let route_until = route
        .and_then(|route| route.timeout)
        .map(|timeout| worker.deadlines.now() + ticks_of(timeout));
    let max_body = route.and_then(|route| route.max_body);
    let upgrade = request
        .upgrade
        .and_then(|wanted| token_in_list(wanted.of(scratch.head.data()), &route?.upgrade));
    let sink = if request.framing == BodyFraming::Chunked {
        Sink::Chunked { trailers: false }
    } else {
        Sink::Plain
    };
    let mut body = Transfer::new(request.framing, sink);
    loop {
        let mut lease = match pool.reuse().filter(|_| record.retries == 0) {
            Some(lease) => lease,
            None => pool
                .connect(|| worker.clock.now())
                .await
                .map_err(Error::Lease)?,
        };
        record.endpoint = Some(lease.endpoint);
        record.connect = (!lease.reused).then_some(lease.connect_time);
        let timers = Timers {
            pool,
            route_until,
            now: worker.deadlines.now(),
        };
        let mut exchange = Exchange {
            request,
            upgrade,
            max_body,
            timers,
            scratch: &mut *scratch,
            record: &mut *record,
            uploaded: Cell::new(false),
            head_seen: Cell::new(false),
        };
        let result = exchange.run(connection, &mut lease, &mut body).await;
        record.request_body_bytes = body.payload_bytes();
        match result {
            Ok(Ended::Upgraded) => {
                let idle = pool.upstream().config.idle_timeout;
                let (up, down) = tunnel::run(connection, lease, idle).await;
                record.request_body_bytes = up;
                record.response_body_bytes = down;
                return Ok(Next::Close);
            }
            Ok(Ended::Response(finished)) => {
                record.upstream_answered = true;
                return Ok(settle(connection, pool, lease, body, &finished).await);
            }
            // An endpoint may close an idle connection at the moment we use it: once more, on a new one.
            Err(Error::Upstream(Fault::ClosedBeforeResponse))
                if lease.reused && is_replayable(&request) && record.status == 0 =>
            {
                record.retries += 1;
                let reason = crate::telemetry::UpstreamError::Reset;
                worker.metrics.upstream_retried(upstream, reason);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sending the request a second time does what sending it once does, and all of it is still at hand.
fn is_replayable(request: &RequestHead) -> bool {
    is_idempotent(request.method) && request.framing == BodyFraming::None
}

/// After a complete response: the upstream connection goes back or is closed, and the client's stays or not.
async fn settle(
    connection: &mut Connection,
    pool: &Pool,
    mut lease: Lease,
    mut body: Transfer,
    finished: &Finished,
) -> Next {
    let whole = body.is_ended();
    // The next answers will be like the last one, and the next body like this one.
    lease.reader.set_read_size(read_size(finished.bytes));
    connection
        .reader
        .set_read_size(read_size(body.payload_bytes()));
    if finished.reusable && whole && lease.reader.data().is_empty() && !lease.reader.is_armed() {
        pool.give_back(lease);
    } else {
        drop(lease);
    }
    if !finished.keep_alive {
        return if whole { Next::Close } else { Next::Linger };
    }
    if whole {
        Next::Keep
    } else {
        discard(connection, &mut body).await
    }
}

/// Size of the first read of a message, by the size of the one before.
const fn read_size(bytes: u64) -> usize {
    if bytes > SMALL_BYTES as u64 {
        MEDIUM_BYTES
    } else {
        SMALL_BYTES
    }
}

/// What bounds an exchange in time.
#[derive(Clone, Copy)]
struct Timers<'a> {
    pool: &'a Pool,
    /// Tick at which the route's time is over.
    route_until: Option<u64>,
    now: u64,
}

impl Timers<'_> {
    /// Sets the upstream's deadline to the earlier of `phase` and what is left of the route's time.
    fn set(&self, deadline: &Deadline<Why>, phase: Duration, why: Why) {
        let Some(until) = self.route_until else {
            return deadline.set(phase, Expiry::EndBoth, why);
        };
        let left = until.saturating_sub(deadline.now().max(self.now));
        let left = TICK.saturating_mul(u32::try_from(left).unwrap_or(u32::MAX));
        if left < phase {
            deadline.set(left, Expiry::EndBoth, Why::Route);
        } else {
            deadline.set(phase, Expiry::EndBoth, why);
        }
    }

    /// Only the route's time runs.
    fn nobody(&self, deadline: &Deadline<Why>) {
        match self.route_until {
            Some(_) => self.set(deadline, Duration::MAX, Why::Route),
            None => deadline.clear(Why::Busy),
        }
    }

    fn first_byte(&self, deadline: &Deadline<Why>) {
        self.set(
            deadline,
            self.pool.upstream().config.first_byte_timeout,
            Why::FirstByte,
        );
    }

    fn idle(&self, deadline: &Deadline<Why>) {
        self.set(
            deadline,
            self.pool.upstream().config.idle_timeout,
            Why::UpstreamIdle,
        );
    }
}

fn ticks_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2)
}

/// One try of a request on one connection.
struct Exchange<'a> {
    request: RequestHead,
    upgrade: Option<&'a str>,
    max_body: Option<u64>,
    timers: Timers<'a>,
    scratch: &'a mut Scratch,
    record: &'a mut Record,
    /// The request has been sent to its end.
    uploaded: Cell<bool>,
    /// The final response head is there.
    head_seen: Cell<bool>,
}

impl Exchange<'_> {
    async fn run(
        &mut self,
        connection: &mut Connection,
        lease: &mut Lease,
        body: &mut Transfer,
    ) -> Result<Ended, Error> {
        let first = self.write_request(connection, lease);
        let Self {
            request,
            upgrade,
            max_body,
            timers,
            scratch,
            record,
            uploaded,
            head_seen,
        } = self;
        let socket = std::rc::Rc::clone(lease.socket());
        let Connection {
            reader,
            writer,
            body_deadline,
            listener,
            worker,
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
                uploaded,
                head_seen,
            }
            .run(first)
        );
        let mut down = pin!(
            Download {
                upstream,
                deadline,
                writer,
                timers: *timers,
                request: *request,
                upgrade: upgrade.map(str::as_bytes),
                scratch,
                record,
                uploaded,
                head_seen,
            }
            .run()
        );
        let mut sending = true;
        poll_fn(|cx| {
            if sending && let Poll::Ready(result) = up.as_mut().poll(cx) {
                match result {
                    Err(Stopped::ByClient(error)) => return Poll::Ready(Err(error)),
                    // An upstream may answer and close without reading the rest: its answer decides.
                    Err(Stopped::ByUpstream) => sending = false,
                    Ok(never) => match never {},
                }
            }
            down.as_mut().poll(cx)
        })
        .await
    }

    /// The request head as it goes up, and where it fits what is there of the body.
    fn write_request(&self, connection: &Connection, lease: &Lease) -> Buf {
        let head = self.scratch.head.data();
        let endpoint = &self.timers.pool.upstream().endpoints[lease.endpoint];
        let authority = self.request.authority.map(|authority| authority.of(head));
        let forward = ForwardRequest {
            path: self.scratch.path(&self.request),
            host: authority.unwrap_or(endpoint.label.as_bytes()),
            client: connection.client_text.as_bytes(),
            trusted: false,
            scheme: Scheme::Http,
            request_id: &self.record.request_id,
            underscore: connection.listener.config.underscore_headers,
            trailers: false,
            upgrade: self.upgrade.map(str::as_bytes),
            expect_continue: self.request.expect_continue,
        };
        let fields = &self.scratch.fields;
        let mut out = Buf::with_capacity(forward.size_max(head.len(), fields.len()));
        write_request_head(&mut out, head, &self.request, fields, &forward);
        out
    }
}

/// Why the way up ended before the way down.
enum Stopped {
    ByClient(Error),
    ByUpstream,
}

enum Never {}

/// The way up: the request, then an eye on the client while the upstream works.
struct Upload<'a> {
    reader: &'a mut Reader,
    body: &'a mut Transfer,
    body_deadline: &'a Deadline<Why>,
    socket: &'a Socket,
    deadline: &'a Deadline<Why>,
    timers: Timers<'a>,
    max_body: Option<u64>,
    listener: &'a super::plan::ListenerPlan,
    worker: &'a super::worker::Worker,
    uploaded: &'a Cell<bool>,
    head_seen: &'a Cell<bool>,
}

impl Upload<'_> {
    async fn run(mut self, head: Buf) -> Result<Never, Stopped> {
        let mut out = head;
        let began = self.deadline.now();
        loop {
            let piece = self.take()?;
            if out.len() + piece.len() <= COALESCE_BYTES_MAX {
                out.extend(piece.data());
            } else {
                self.send(std::mem::replace(&mut out, piece)).await?;
            }
            if self.body.is_ended() {
                self.send(out).await?;
                break;
            }
            if !out.is_empty() {
                // The next piece may arrive while this one goes out.
                self.read_ahead();
                self.send(std::mem::replace(&mut out, Buf::empty())).await?;
            }
            self.fill(began).await?;
        }
        self.body_deadline.clear(Why::Busy);
        self.uploaded.set(true);
        self.watch().await
    }

    /// What there is of the body.
    fn take(&mut self) -> Result<Buf, Stopped> {
        if self.body.is_ended() || self.reader.is_armed() {
            return Ok(Buf::empty());
        }
        let piece = self.body.take(self.reader.buf());
        let piece = piece.map_err(|error| Stopped::ByClient(Error::Chunk(error)))?;
        if self
            .max_body
            .is_some_and(|most| self.body.payload_promised() > most)
        {
            return Err(Stopped::ByClient(Error::BodyTooLarge));
        }
        Ok(piece)
    }

    fn read_ahead(&mut self) {
        if !self.reader.is_armed() && self.reader.data().is_empty() {
            let size = self.body.read_size();
            if self.reader.buf().capacity() < size {
                *self.reader.buf() = Buf::with_capacity(size);
            }
            self.reader.arm();
        }
    }

    async fn fill(&mut self, began: u64) -> Result<(), Stopped> {
        let config = &self.listener.config;
        let elapsed = self.deadline.now() - began;
        let received = self.body.payload_bytes();
        let patience = patience(received, elapsed, config.min_body_rate, config.body_timeout);
        self.body_deadline
            .set(patience, Expiry::EndReads, Why::Body);
        if !self.head_seen.get() {
            // While the client is waited for, the upstream owes nothing.
            self.timers.nobody(self.deadline);
        }
        self.read_ahead();
        match self.reader.fill().await {
            Ok(0) | Err(_) => Err(Stopped::ByClient(client_end(self.body_deadline.fired()))),
            Ok(count) => {
                self.worker.metrics.received(count as u64);
                Ok(())
            }
        }
    }

    async fn send(&self, buf: Buf) -> Result<(), Stopped> {
        self.touch();
        let (result, _buf) = self.socket.send_all(buf, |_| self.touch()).await;
        result.map_err(|_closed| Stopped::ByUpstream)
    }

    /// The upstream's time for its head runs anew with every piece it takes.
    fn touch(&self) {
        if !self.head_seen.get() {
            self.timers.first_byte(self.deadline);
        }
    }

    /// Waits for the client to leave; never for anything else. The read that watches is the next request's.
    async fn watch(self) -> Result<Never, Stopped> {
        if self.reader.is_armed() || self.reader.data().is_empty() {
            match self.reader.fill().await {
                // A half-closed client still gets its answer.
                Ok(0) if !self.listener.config.abort_on_client_fin => {}
                Ok(0) | Err(_) => {
                    return Err(Stopped::ByClient(client_end(self.body_deadline.fired())));
                }
                Ok(count) => self.worker.metrics.received(count as u64),
            }
        }
        pending().await
    }
}

/// The way down: interim responses, the head, the body.
struct Download<'a> {
    upstream: &'a mut Reader,
    deadline: &'a Deadline<Why>,
    writer: &'a mut ClientWriter,
    timers: Timers<'a>,
    request: RequestHead,
    upgrade: Option<&'a [u8]>,
    scratch: &'a mut Scratch,
    record: &'a mut Record,
    uploaded: &'a Cell<bool>,
    head_seen: &'a Cell<bool>,
}

impl Download<'_> {
    async fn run(mut self) -> Result<Ended, Error> {
        let (head, response) = self.final_head().await?;
        self.head_seen.set(true);
        let worker = &self.writer.worker;
        // Only the access log tells it, and a reading of the clock costs more than a decision of the limiter.
        self.record.first_byte = worker.log.as_ref().map(|_| {
            worker
                .clock
                .now()
                .saturating_duration_since(self.record.started)
        });
        if response.is_upgrade() {
            let forward = self.forward_response(BodyFraming::None, true);
            self.put_head(&head, &response, &forward);
            self.writer.flush().await?;
            return Ok(Ended::Upgraded);
        }
        let modern = self.request.version == Version::Http11;
        let (shape, sink) = match response.framing {
            BodyFraming::None => (BodyFraming::None, Sink::Plain),
            BodyFraming::Length(length) => (BodyFraming::Length(length), Sink::Plain),
            _ if !modern => (BodyFraming::UntilClose, Sink::Plain),
            BodyFraming::Chunked | BodyFraming::UntilClose => (
                BodyFraming::Chunked,
                Sink::Chunked {
                    trailers: self.request.te_trailers,
                },
            ),
        };
        let keep_alive = self.request.keep_alive
            && shape != BodyFraming::UntilClose
            && !self.writer.worker.is_draining()
            && self.rest_is_short();
        let forward = self.forward_response(shape, keep_alive);
        self.put_head(&head, &response, &forward);
        let head_bytes = head.len() as u64;
        drop(head);
        let mut body = Transfer::new(response.framing, sink);
        let streamed = self.stream(&mut body).await;
        self.record.response_body_bytes = body.payload_bytes();
        streamed?;
        let reusable = response.reusable
            && response.framing != BodyFraming::UntilClose
            && self.upstream.data().is_empty();
        Ok(Ended::Response(Finished {
            bytes: head_bytes + body.payload_bytes(),
            reusable,
            keep_alive,
        }))
    }

    /// What is left of the request is short enough to be read for nothing should the upstream not want it.
    fn rest_is_short(&self) -> bool {
        self.uploaded.get()
            || !self.request.expect_continue
                && matches!(self.request.framing, BodyFraming::Length(length) if length <= DISCARD_BYTES_MAX)
    }

    fn forward_response(&self, body: BodyFraming, keep_alive: bool) -> ForwardResponse<'static> {
        ForwardResponse {
            body,
            client_version: self.request.version,
            keep_alive,
            trailers: self.request.te_trailers,
            extra: &[],
        }
    }

    fn put_head(&mut self, head: &Buf, response: &ResponseHead, forward: &ForwardResponse<'_>) {
        let out = &mut self.writer.out;
        let fields = &self.scratch.response_fields;
        out.reserve(forward.size_max(head.len(), fields.len()));
        write_response_head(out, head.data(), response, fields, forward);
        self.record.status = if response.is_interim() {
            0
        } else {
            response.status
        };
    }

    /// Reads until the final head is there; relays the interim ones.
    async fn final_head(&mut self) -> Result<(Buf, ResponseHead), Error> {
        let context = RequestContext {
            method: self.request.method,
            upgrade: self.upgrade,
            fields_max: RESPONSE_LIMITS.fields_max,
        };
        self.timers.first_byte(self.deadline);
        let mut interims = 0;
        loop {
            let head = self.next_head().await?;
            let fields = &mut self.scratch.response_fields;
            let response = parse_response(head.data(), &context, fields)
                .map_err(|error| Error::Upstream(Fault::Response(error)))?;
            if !response.is_interim() {
                return Ok((head, response));
            }
            interims += 1;
            if interims > INTERIMS_MAX || head.len() > INTERIM_HEAD_MAX {
                return Err(Error::Upstream(Fault::TooManyInterims));
            }
            // RFC 9110, 15.2: never to a client of HTTP/1.0.
            if self.request.version == Version::Http11 {
                let forward = self.forward_response(BodyFraming::None, true);
                self.put_head(&head, &response, &forward);
                self.writer.flush().await?;
            }
        }
    }

    /// The next head, taken out of the buffer.
    async fn next_head(&mut self) -> Result<Buf, Error> {
        let mut scanner = HeadScanner::for_response();
        let mut begun = false;
        loop {
            let scanned = if self.upstream.is_armed() {
                Ok(None)
            } else {
                scanner.scan(self.upstream.data(), &RESPONSE_LIMITS)
            };
            if let Some(range) = scanned.map_err(|error| Error::Upstream(Fault::Head(error)))? {
                let buf = self.upstream.buf();
                let rest = buf.split_off(range.end);
                return Ok(std::mem::replace(buf, rest));
            }
            begun |= !self.upstream.data().is_empty();
            match self.upstream.fill().await {
                Ok(count) if count > 0 => {}
                _ => {
                    let fault = if begun {
                        Fault::Truncated
                    } else {
                        Fault::ClosedBeforeResponse
                    };
                    return Err(upstream_end(self.deadline.fired(), fault));
                }
            }
        }
    }

    /// Passes the body on, piece by piece; the head goes out with the first piece.
    async fn stream(&mut self, body: &mut Transfer) -> Result<(), Error> {
        loop {
            if !self.upstream.is_armed() {
                let piece = body
                    .take(self.upstream.buf())
                    .map_err(|error| Error::Upstream(Fault::Chunk(error)))?;
                self.put(piece).await?;
            }
            if body.is_ended() {
                self.deadline.clear(Why::Busy);
                return self.writer.flush().await;
            }
            self.read_ahead(body);
            self.writer.flush().await?;
            self.timers.idle(self.deadline);
            match self.upstream.fill().await {
                Ok(count) if count > 0 => {}
                end => return self.closed(body, end.is_ok()).await,
            }
        }
    }

    /// Appends `piece` to what goes out, or sends what is there first where that would be too much to copy.
    async fn put(&mut self, piece: Buf) -> Result<(), Error> {
        if self.writer.out.len() + piece.len() <= COALESCE_BYTES_MAX {
            self.writer.out.extend(piece.data());
            return Ok(());
        }
        self.writer.flush().await?;
        self.writer.out = piece;
        Ok(())
    }

    fn read_ahead(&mut self, body: &Transfer) {
        if !self.upstream.is_armed() {
            let size = body.read_size().min(LARGE_BYTES);
            let buf = self.upstream.buf();
            if buf.is_empty() && buf.capacity() < size {
                *buf = Buf::with_capacity(size);
            }
            self.upstream.arm();
        }
    }

    /// The upstream closed inside the body: that ends a body without a length, and cuts any other.
    async fn closed(&mut self, body: &mut Transfer, orderly: bool) -> Result<(), Error> {
        // A deadline's shutdown looks like an end.
        let fired = self.deadline.fired();
        let cut = upstream_end(fired, Fault::Truncated);
        match body.close() {
            Some(last) if orderly && fired.is_none() => {
                self.writer.out.extend(last);
                self.writer.flush().await
            }
            _ => Err(cut),
        }
    }
}
