//! The send loop: one for all modes.
//!
//! A connection asks its worker what to send next. In a closed loop there always is something; in an open loop
//! there is when an arrival is due, and otherwise the connection is idle until one is given to it. Everything else
//! is the same.
//!
//! Fast path: one call to send, one receive of the driver's, one reading of the clock at the response, which is also the
//! time of the next send; no allocation.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::net::TcpStream;
use runtime::{Buf, Reader, Socket};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Type};

use crate::keys::{Key, KeyAs};
use crate::plan::Mode;
use crate::response::{Framer, HEAD_BYTES_MAX, Malformed, Response};
use crate::schedule::{Arrival, Next};
use crate::stats::Failure;
use crate::target::Endpoint;
use crate::worker::Worker;

/// The buffer of a connection, which longer bodies pass through in pieces.
const BUFFER_BYTES: usize = runtime::SMALL_BYTES;
/// The buffer of a connection after a response has filled the first one.
const LONG_BUFFER_BYTES: usize = runtime::LARGE_BYTES;
/// The pause after a connection could not be made, so that a closed loop does not spin on a dead server.
const RECONNECT_AFTER: Duration = Duration::from_millis(10);

/// What others on the thread may do to a connection.
pub(crate) struct Client {
    state: Cell<State>,
    tried: Cell<bool>,
    assigned: Cell<Option<Arrival>>,
    waker: RefCell<Option<Waker>>,
    socket: RefCell<Option<Rc<Socket>>>,
    /// When the oldest request under way is late; `u64::MAX`: none is.
    deadline_ns: Cell<u64>,
    late: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Busy,
    Idle,
    Woken,
}

impl Client {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            state: Cell::new(State::Busy),
            tried: Cell::new(false),
            assigned: Cell::new(None),
            waker: RefCell::new(None),
            socket: RefCell::new(None),
            deadline_ns: Cell::new(u64::MAX),
            late: Cell::new(false),
        })
    }

    /// It has a connection or has failed to get one.
    pub(crate) fn has_tried(&self) -> bool {
        self.tried.get()
    }

    fn begin(&self, socket: &Rc<Socket>) {
        self.socket.replace(Some(Rc::clone(socket)));
        self.late.set(false);
        self.deadline_ns.set(u64::MAX);
        self.state.set(State::Busy);
    }

    /// Gives it something to do. The worker has taken it from its idle ones.
    pub(crate) fn assign(&self, arrival: Arrival) {
        self.assigned.set(Some(arrival));
        self.wake();
    }

    /// Makes it ask the worker what to do. The worker has taken it from its idle ones.
    pub(crate) fn wake(&self) {
        debug_assert_eq!(self.state.get(), State::Idle);
        self.state.set(State::Woken);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ends what is under way if its time is over: the pending read sees the end of the stream.
    pub(crate) fn end_if_late(&self, now_ns: u64) {
        if now_ns < self.deadline_ns.get() {
            return;
        }
        self.deadline_ns.set(u64::MAX);
        self.late.set(true);
        if let Some(socket) = &*self.socket.borrow() {
            socket.shutdown(Shutdown::Both);
        }
    }

    fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        if self.state.get() == State::Woken {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A request under way.
#[derive(Clone, Copy)]
pub(crate) struct Flight {
    pub(crate) arrival: Arrival,
    /// Which of the plan's kinds of requests it is.
    pub(crate) kind: usize,
    pub(crate) key: Key,
    /// It is a HEAD request: its response has no body.
    pub(crate) head: bool,
    pub(crate) sent_ns: u64,
    pub(crate) first_byte_ns: Option<u64>,
}

/// Serves arrivals, on one connection after another, until there is nothing to do.
pub(crate) async fn run(worker: Rc<Worker>, client: Rc<Client>, mut first: Option<Arrival>) {
    loop {
        let began_ns = worker.clock.now_ns();
        let owner = match worker.shared.plan.key_as {
            KeyAs::Source => worker.key(worker.now_ns()),
            KeyAs::Template | KeyAs::ForwardedFor | KeyAs::Header(_) => None,
        };
        let connected = connect(&worker, owner).await;
        client.tried.set(true);
        match connected {
            Ok(socket) => {
                worker.record_connect(worker.clock.now_ns() - began_ns);
                client.begin(&socket);
                first = serve(&worker, &client, socket, owner, first).await;
                client.socket.take();
            }
            Err(error) => {
                let now_ns = worker.now_ns();
                if let Some(arrival) = first.take().or_else(|| due(&worker, now_ns)) {
                    worker.fail(arrival, now_ns, Failure::Connect, &error.to_string());
                }
                monoio::time::sleep(RECONNECT_AFTER).await;
            }
        }
        if first.is_some() {
            continue;
        }
        match worker.next(worker.now_ns()) {
            Next::Due(arrival) => first = Some(arrival),
            // In an open loop a connection is made for a request, and the next one may be far away. A closed loop
            // has nothing due only before the start.
            Next::At(_) if worker.is_open_loop() => break,
            Next::At(_) => {}
            Next::Over => break,
        }
    }
    worker.remove(&client);
}

fn due(worker: &Worker, now_ns: u64) -> Option<Arrival> {
    match worker.next(now_ns) {
        Next::Due(arrival) => Some(arrival),
        Next::At(_) | Next::Over => None,
    }
}

async fn connect(worker: &Worker, owner: Option<Key>) -> io::Result<Rc<Socket>> {
    let connecting = async {
        match &worker.shared.endpoint {
            Endpoint::Tcp(address) if let Some(owner) = owner => {
                connect_from(owner.source_address(), *address).await
            }
            Endpoint::Tcp(address) => Socket::connect_tcp(*address).await,
            Endpoint::Unix(path) => Socket::connect_unix(path).await,
        }
    };
    monoio::time::timeout(worker.shared.plan.timeout, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map(Rc::new)
}

/// Connects from an address of one's own, which the runtime does not offer.
async fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable(false).await?;
    let socket = Socket::from(stream);
    if let Some(error) = SockRef::from(&socket).take_error()? {
        return Err(error);
    }
    // Older kernels answer EAGAIN on a ring to a non-blocking socket.
    SockRef::from(&socket).set_nonblocking(monoio::utils::is_legacy())?;
    Ok(socket)
}

/// The kernel takes no more bytes now.
struct WouldBlock;

enum Event {
    Read(io::Result<usize>),
    /// The worker has something for an idle connection, or the end has come.
    Woken,
    /// All requests are out, and more may follow.
    Written,
}

/// Sends and receives on `socket` until it ends; returns an arrival that was given to it and not sent.
async fn serve(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    socket: Rc<Socket>,
    owner: Option<Key>,
    mut next: Option<Arrival>,
) -> Option<Arrival> {
    let mut exchange = Exchange::new(worker, client, owner);
    let mut reader = Reader::new(Rc::clone(&socket));
    *reader.buf() = Buf::with_capacity(BUFFER_BYTES);
    let mut spare = Some(Buf::small());
    let mut write = pin!(None);
    let mut now_ns = worker.now_ns();
    loop {
        if let Some(mut out) = spare.take() {
            let over = exchange.start_due(&mut out, &mut next, now_ns);
            if out.is_empty() && over && exchange.flights.is_empty() {
                return None;
            }
            match exchange.send_now(&socket, &mut out) {
                Ok(()) => spare = Some(out),
                Err(WouldBlock) => {
                    let socket = Rc::clone(&socket);
                    write.set(Some(async move { socket.send_all(out, |_| {}).await }));
                }
            }
        }
        let idle = exchange.flights.is_empty() && spare.is_some();
        if idle {
            client.state.set(State::Idle);
            worker.set_idle(client);
        }
        let event = poll_fn(|cx| {
            if let Some(writing) = write.as_mut().as_pin_mut()
                && let Poll::Ready((result, out)) = writing.poll(cx)
            {
                write.set(None);
                // A write that failed is told by the read, which may bring a response first.
                exchange.broken |= result.is_err();
                spare = Some(out).filter(|_| result.is_ok());
                if exchange.flights.len() < exchange.depth && spare.is_some() {
                    return Poll::Ready(Event::Written);
                }
            }
            if let Poll::Ready(result) = reader.poll_fill(cx) {
                return Poll::Ready(Event::Read(result));
            }
            if idle && client.poll_woken(cx).is_ready() {
                return Poll::Ready(Event::Woken);
            }
            Poll::Pending
        })
        .await;
        now_ns = worker.now_ns();
        if idle {
            if client.state.replace(State::Busy) == State::Idle {
                worker.unset_idle(client);
            }
            next = client.assigned.take();
        }
        let goes_on = match event {
            Event::Read(result) => exchange.receive(&mut reader, result, now_ns),
            Event::Woken | Event::Written => true,
        };
        if !goes_on {
            return next;
        }
    }
}

/// The requests and responses of one connection, apart from the input and output.
struct Exchange<'a> {
    worker: &'a Worker,
    client: &'a Client,
    /// Who all requests on this connection come from; `None`: each from somebody.
    owner: Option<Key>,
    framer: Framer,
    flights: VecDeque<Flight>,
    depth: usize,
    /// Nothing more may be sent.
    broken: bool,
}

impl<'a> Exchange<'a> {
    fn new(worker: &'a Worker, client: &'a Client, owner: Option<Key>) -> Self {
        let plan = &worker.shared.plan;
        let depth = usize::try_from(plan.pipeline).unwrap_or(1).max(1);
        Self {
            worker,
            client,
            owner,
            framer: Framer::new(),
            flights: VecDeque::with_capacity(depth),
            depth,
            broken: false,
        }
    }

    /// Writes the requests that are due to `out`, as many as may be under way; true if the schedule is over.
    fn start_due(&mut self, out: &mut Buf, next: &mut Option<Arrival>, now_ns: u64) -> bool {
        out.clear();
        while self.flights.len() < self.depth && !self.broken {
            let arrival = match next
                .take()
                .map_or_else(|| self.worker.next(now_ns), Next::Due)
            {
                Next::Due(arrival) => arrival,
                Next::At(_) => return false,
                Next::Over => return true,
            };
            let plan = &self.worker.shared.plan;
            let (kind, key, head) = self.write_request(arrival, out, now_ns);
            self.worker.record_sent(arrival, key, now_ns);
            self.flights.push_back(Flight {
                arrival,
                kind,
                key,
                head,
                sent_ns: now_ns,
                first_byte_ns: None,
            });
            // One request per connection: the server was told.
            self.broken |= !plan.keep_alive;
        }
        self.set_deadline();
        false
    }

    /// Sends `out` as far as the kernel takes it at once, which is nearly always all of it: the time that was noted as
    /// the send's is the send's, and there is no completion to wait for. What is left stays in `out`.
    fn send_now(&mut self, socket: &Socket, out: &mut Buf) -> Result<(), WouldBlock> {
        while !out.is_empty() {
            match socket.try_send(out.data()) {
                Ok(count) => out.consume(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(WouldBlock),
                Err(_) => {
                    // The read tells it, which may bring a response first.
                    self.broken = true;
                    out.clear();
                }
            }
        }
        Ok(())
    }

    /// Appends the next request to `out`: its kind, its key, and whether it is a HEAD request.
    fn write_request(&self, arrival: Arrival, out: &mut Buf, now_ns: u64) -> (usize, Key, bool) {
        let plan = &self.worker.shared.plan;
        if let Mode::Replay { log, .. } = &plan.mode {
            let entry = &log.entries[arrival.entry];
            out.extend(&entry.bytes);
            return (0, Key::default(), entry.head);
        }
        let values = self.worker.values(self.owner, now_ns);
        let kind = self.worker.kind();
        plan.kinds[kind].template.render(&values, out);
        (kind, values.key, plan.kinds[kind].head)
    }

    fn set_deadline(&self) {
        let deadline_ns = self.flights.front().map_or(u64::MAX, |oldest| {
            oldest.sent_ns.saturating_add(self.worker.timeout_ns)
        });
        self.client.deadline_ns.set(deadline_ns);
    }

    /// Takes what a read brought; false if the connection has ended.
    fn receive(&mut self, reader: &mut Reader, result: io::Result<usize>, now_ns: u64) -> bool {
        match result {
            Ok(0) => {
                self.end_of_stream(now_ns);
                false
            }
            Ok(count) => {
                self.worker.record_received(count);
                let filled = reader.buf().spare() == 0;
                let taken = self.take_responses(reader.buf(), now_ns);
                if filled && reader.buf().is_empty() {
                    *reader.buf() = Buf::with_capacity(LONG_BUFFER_BYTES);
                }
                match taken {
                    Ok(goes_on) => goes_on,
                    Err(Malformed(why)) => {
                        self.fail_all(now_ns, Failure::BadResponse, why);
                        false
                    }
                }
            }
            Err(error) => {
                self.fail_all(now_ns, Failure::Reset, &error.to_string());
                false
            }
        }
    }

    fn take_responses(&mut self, buf: &mut Buf, now_ns: u64) -> Result<bool, Malformed> {
        while !buf.is_empty() {
            let Some(oldest) = self.flights.front() else {
                self.worker
                    .record_unsolicited("bytes on an idle connection");
                return Ok(false);
            };
            let head_request = oldest.head;
            self.note_first_byte(now_ns);
            let (taken, response) = self.framer.advance(buf.data(), head_request)?;
            buf.consume(taken);
            let Some(response) = response else {
                debug_assert!(buf.len() < HEAD_BYTES_MAX);
                return Ok(true);
            };
            if self.flights.len() == 1 && !buf.is_empty() {
                return Err(Malformed("bytes after the last response"));
            }
            self.record(response, now_ns);
            let ended = !response.reusable || self.client.late.get();
            if ended || (self.broken && self.flights.is_empty()) {
                self.fail_all(now_ns, Failure::Closed, "the server ended the connection");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn note_first_byte(&mut self, now_ns: u64) {
        if let Some(oldest) = self.flights.front_mut() {
            oldest.first_byte_ns.get_or_insert(now_ns);
        }
    }

    /// The oldest request is answered.
    fn record(&mut self, response: Response, now_ns: u64) {
        debug_assert!(!self.flights.is_empty(), "a response without a request");
        if let Some(flight) = self.flights.pop_front() {
            self.worker.record_response(&flight, now_ns, response);
        }
        self.set_deadline();
    }

    fn end_of_stream(&mut self, now_ns: u64) {
        if self.client.late.replace(false) {
            self.fail_all(now_ns, Failure::Timeout, "no complete response in time");
            return;
        }
        if let Some(response) = self.framer.close() {
            self.record(response, now_ns);
        }
        let why = if self.framer.inside() {
            "closed in the middle of a response"
        } else {
            "closed before a response"
        };
        self.fail_all(now_ns, Failure::Closed, why);
    }

    /// Everything under way has failed.
    fn fail_all(&mut self, now_ns: u64, failure: Failure, why: &str) {
        for flight in self.flights.drain(..) {
            self.worker.record_failure(&flight, now_ns, failure, why);
        }
        self.client.deadline_ns.set(u64::MAX);
    }
}
