//! A client's connection: reads heads one after the other, hands each request to `request`, and ends in order.

mod linger;
mod rest;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use runtime::{Buf, Deadline, Expiry, Reader, Socket, TICK};

pub(super) use linger::LINGER_BYTES_MAX;
use linger::Lingering;
use rest::Resting;

use super::client::{Peer, text_of};
use super::codec::{HeadScanner, NotProxy, check_lines, parse_proxy};
use super::error::{Error, client_end};
use super::fairness::Fairness;
use super::plan::{ListenerPlan, client_of};
use super::request::{self, Scratch};
use super::spell::Worked;
use super::tunnel::{self, Tunnel};
use super::worker::Worker;
use super::{Why, respond};
use crate::config::ProxyProtocol;

/// Answers to pipelined requests are sent at the latest when there is this much of them.
const OUT_BYTES_MAX: usize = runtime::MEDIUM_BYTES;
/// After this long without a request the connection gives its buffer back and waits for readiness instead.
const BUFFER_TIME: Duration = Duration::from_secs(1);
/// Lengths of the further moments, a tick apart.
const PAUSES: u16 = 10;
/// A request may be this slow at first without being measured against a minimum rate.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<ListenerPlan>,
    pub(super) peer: SocketAddr,
    /// Who the peer says it is by the PROXY protocol.
    proxied: Option<Box<SocketAddr>>,
    /// [`Self::source`] is a proxy that is believed.
    pub(super) trusted: bool,
    /// The key of the client in every limit by address.
    pub(super) client_key: limiter::Key,
    /// The client's address as text, for the upstream.
    pub(super) client_text: Box<str>,
    /// Whether a request has come on it.
    has_served: bool,
    /// The last wait for a request was short: the next request is read for before it comes, and the client is watched by
    /// that read. Else there is none that must be given up when the connection falls idle, for which the kernel looks
    /// through all that wait on the ring.
    pub(super) reads_ahead: bool,
    /// Tick at which the wait for a request began.
    idle_from: u32,
    pub(super) reader: Reader,
    pub(super) writer: ClientWriter,
    /// For reading a body while an answer is written, which has the writer's.
    pub(super) body_deadline: Deadline<Why>,
    fairness: Fairness,
    /// What became of the last request, where that is a tunnel.
    pub(super) tunnel: Option<Box<Tunnel>>,
}

/// The writing side of a client's connection.
#[derive(Debug)]
pub(super) struct ClientWriter {
    pub(super) socket: Rc<Socket>,
    pub(super) deadline: Deadline<Why>,
    /// Answers that wait to be sent together.
    pub(super) out: Buf,
    /// Bytes of the present response that the client has taken, and the ticks for which it was waited for.
    taken: u64,
    waited: u64,
    pub(super) listener: Arc<ListenerPlan>,
    pub(super) worker: Rc<Worker>,
}

impl ClientWriter {
    /// Sends `out` and leaves it empty; gives up on a client that does not read or reads too slowly.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::replace(&mut self.out, Buf::empty());
        let config = &self.listener.config;
        let (began, total) = (self.deadline.now(), out.len());
        let (waited, mut left) = (self.waited, total);
        let before = self.taken;
        let mut progress = |count: usize| {
            left -= count;
            // What was taken at once need not be waited for.
            if left == 0 {
                return;
            }
            let taken = before + (total - left) as u64;
            let elapsed = waited + (self.deadline.now() - began);
            let patience = patience(taken, elapsed, config.min_write_rate, config.write_timeout);
            self.deadline.set(patience, Expiry::Reset, Why::Write);
        };
        progress(0);
        // Built where it stays: `.await` would move it there.
        let mut sending = pin!(self.socket.send_all(out, progress));
        let (result, _buf) = poll_fn(|cx| sending.as_mut().poll(cx)).await;
        if result.is_err() {
            return Err(client_end(self.deadline.fired()));
        }
        self.taken += total as u64;
        self.waited += self.deadline.now() - began;
        self.deadline.clear(Why::Busy);
        self.worker.metrics.sent(total as u64);
        Ok(())
    }

    /// Sends of `out` what the kernel takes at once, by a call of its own: for the last bytes of a connection, so that its
    /// close follows in the same turn. A turn later most clients have closed, and who closes second pays for both ends.
    pub(super) fn send_last(&mut self) {
        if self.out.is_empty() {
            return;
        }
        // What is not taken, and an error, is `flush`'s.
        if let Ok(count) = self.socket.try_send(self.out.data()) {
            self.out.consume(count);
            self.taken += count as u64;
            self.worker.metrics.sent(count as u64);
        }
    }

    /// A response begins: how fast the client reads is measured anew.
    pub(super) fn begin_response(&mut self) {
        self.taken = 0;
        self.waited = 0;
    }
}

/// How long the next bytes may take: at most `timeout`, and no longer than until `bytes` in all this time, `elapsed`
/// ticks and more, would be slower than `rate` bytes per second, which counts after a grace. Rate 0: any will do.
pub(super) fn patience(bytes: u64, elapsed: u64, rate: u64, timeout: Duration) -> Duration {
    let Some(earned_ms) = bytes.saturating_mul(1000).checked_div(rate) else {
        return timeout;
    };
    let earned = Duration::from_millis(earned_ms).max(RATE_GRACE);
    let elapsed = TICK.saturating_mul(u32::try_from(elapsed).unwrap_or(u32::MAX));
    timeout.min(earned.saturating_sub(elapsed))
}

/// What to do with the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read the next request.
    Keep,
    /// Close: everything was read, and the client has said that nothing more comes.
    Close,
    /// Close, but nothing that the client still sends may cost it the answer.
    Linger,
    /// Close at once, with a reset: the answer was cut, and that must be seen.
    Abort,
    /// It speaks another protocol from here on; [`Connection::tunnel`] says with whom.
    Tunnel,
}

/// Serves a connection to its end.
///
/// Only what an idle connection needs is in this future: what serving a request needs is in a [`super::spell::Spell`],
/// and a tunnel is in a box of its own.
pub(super) async fn serve(mut connection: Box<Connection>) {
    connection.attach().await;
    let mut has_more = false;
    if connection.listener.config.proxy_protocol != ProxyProtocol::Off {
        if Box::pin(connection.read_proxy_header()).await.is_err() {
            connection.worker.metrics.rejected("proxy_protocol");
            return;
        }
        // What came behind that header is the beginning of a request.
        has_more = !connection.reader.data().is_empty();
    }
    loop {
        let mut waited = Waited::Come;
        if !std::mem::take(&mut has_more) {
            waited = match connection.rests_at_once() {
                true => Waited::ForLong,
                false => connection.wait().await,
            };
        }
        if waited == Waited::ForLong {
            // In a block, since the future has room apart for whatever is in scope at a later wait.
            connection = {
                let resting = connection.rest();
                // An error shows again when the connection is read.
                drop(resting.stirs().await);
                resting.wake()
            };
            connection.attach().await;
            waited = connection.first_bytes().await;
        }
        if waited != Waited::Come {
            return;
        }
        let mut spell = connection.worker.take_spell();
        let pause;
        (connection, pause) = spell.run(connection).await;
        connection.worker.give_spell(spell);
        match pause {
            Pause::Idle => {}
            Pause::Tunnel => return Box::pin(tunnel::serve(connection)).await,
            // The place of a request is free again meanwhile.
            Pause::Linger => return Box::pin(Lingering::from(connection).serve()).await,
            Pause::End => return,
        }
    }
}

/// How waiting for a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// Bytes of one are there.
    Come,
    /// None will come.
    Over,
    /// Nothing has come for a moment.
    ForLong,
}

/// Why a connection stops serving requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Nothing more of a request is there.
    Idle,
    /// It has become a tunnel.
    Tunnel,
    /// It has ended for the gateway; the client may still send.
    Linger,
    /// It has ended.
    End,
}

/// Why there is no further request.
enum HeadEnd {
    /// The client left, or was idle too long.
    Closed,
    /// What came is no head.
    Broken(Error),
    /// Nothing of one is there yet.
    Idle,
}

/// Serves requests until none is there or none will come any more, and ends the connection then.
#[expect(
    clippy::large_futures,
    reason = "all of it lies in a spell, made once and used again for whichever connection has a request"
)]
pub(super) async fn work(mut connection: Box<Connection>, mut scratch: Box<Scratch>) -> Worked {
    let pause = match connection.serve_requests(&mut scratch).await {
        None => Pause::Idle,
        Some(Next::Tunnel) => Pause::Tunnel,
        Some(next) => connection.end(next).await,
    };
    (connection, scratch, pause)
}

impl Connection {
    /// A connection that `listener_index` of `worker` has accepted.
    pub(super) fn new(
        worker: &Rc<Worker>,
        listener_index: usize,
        socket: Rc<Socket>,
        peer: SocketAddr,
    ) -> Box<Self> {
        let deadline = worker.deadlines.register(Rc::clone(&socket), Why::Idle);
        let plan = Arc::clone(&worker.served().plan);
        let resting = Resting {
            worker: Rc::clone(worker),
            listener: Arc::clone(&plan.listeners[listener_index]),
            socket,
            peer,
            proxied: None,
            trusted: plan.trusted_proxies.contains(client_of(peer.ip())),
            deadline,
            has_served: false,
            idle_from: 0,
        };
        // A new one is likely to bring a request at once.
        let mut connection = resting.wake();
        connection.reads_ahead = true;
        connection
    }

    /// The address of the peer, or of who it says by the PROXY protocol; IPv4 also where it came mapped into IPv6.
    pub(super) fn client(&self) -> IpAddr {
        client_of(self.source().ip())
    }

    /// The peer, or who it says by the PROXY protocol.
    pub(super) fn source(&self) -> SocketAddr {
        self.proxied.as_deref().copied().unwrap_or(self.peer)
    }

    /// Who it comes from.
    pub(super) fn peer(&self) -> Peer<'_> {
        Peer {
            client: self.client(),
            key: self.client_key,
            text: &self.client_text,
            trusted: self.trusted,
        }
    }

    /// Reads the header of the PROXY protocol and takes over who it names. It must be there in the time of a head.
    async fn read_proxy_header(&mut self) -> Result<(), NotProxy> {
        if !self.trusted {
            return Err(NotProxy);
        }
        let timeout = self.listener.config.header_timeout;
        let deadline = &self.writer.deadline;
        deadline.set(timeout, Expiry::EndReads, Why::Head);
        let header = loop {
            // A parser that wants more than its longest header says so.
            if !self.reader.data().is_empty() {
                let accepted = self.listener.config.proxy_protocol;
                if let Some(header) = parse_proxy(self.reader.data(), accepted)? {
                    break header;
                }
            }
            match self.reader.fill().await {
                Ok(count) if count > 0 => self.worker.metrics.received(count as u64),
                _ => return Err(NotProxy),
            }
        };
        self.writer.deadline.clear(Why::Busy);
        self.reader.buf().consume(header.length);
        if let Some(source) = header.source {
            let plan = Arc::clone(&self.worker.served().plan);
            self.proxied = Some(Box::new(source));
            let client = self.client();
            self.client_key = plan.hasher.address(client, plan.client_ip.ipv6_prefix);
            self.client_text = text_of(client);
            self.trusted = plan.trusted_proxies.contains(client);
        } else {
            // Whose requests these are the proxy does not know: what they say of themselves it has not vouched for.
            self.trusted = false;
        }
        Ok(())
    }

    /// Names the task that deadlines wake.
    async fn attach(&self) {
        poll_fn(|cx| {
            self.writer.deadline.attach(cx.waker());
            self.body_deadline.attach(cx.waker());
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for the first bytes of a request with a read under way, for a moment.
    async fn wait(&mut self) -> Waited {
        self.idle_from = ticks(&self.writer.deadline);
        let mut further = 0;
        let filled = loop {
            let left = self.idle_left();
            let pause = BUFFER_TIME + TICK * further;
            let (deadline, rests) = (&self.writer.deadline, left > pause);
            if rests {
                deadline.set(pause, Expiry::Wake, Why::Idle);
            } else {
                deadline.set(left, Expiry::EndReads, Why::Idle);
            }
            let reader = &mut self.reader;
            let filled = poll_fn(|cx| match reader.poll_fill(cx) {
                Poll::Ready(filled) => Poll::Ready(Some(filled)),
                Poll::Pending if rests && deadline.take_woken() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await;
            if let Some(filled) = filled {
                break filled;
            }
            // Where too many fall idle at once the buffer stays for another moment, which is not of one length for all of them:
            // else they would come back together, and each time but a few would have their turn.
            let Some(giving_up) = self.worker.may_give_up() else {
                further = u32::from(self.peer.port() % PAUSES);
                continue;
            };
            let mut began = Some(giving_up);
            let mut cancel = pin!(self.reader.cancel());
            let worker = &self.worker;
            let cancelled = poll_fn(|cx| {
                let cancelled = cancel.as_mut().poll(cx);
                // The kernel has looked for it in the first call.
                if let Some(began) = began.take() {
                    worker.gave_up(began);
                }
                cancelled
            });
            match cancelled.await {
                Some(filled) => break filled,
                None => return Waited::ForLong,
            }
        };
        // A first request says nothing of when a second will come. On epoll a read that is given up costs nothing.
        let was_short = self.has_served && self.idle_time() < BUFFER_TIME;
        self.reads_ahead = was_short || monoio::utils::is_legacy();
        self.look_at(filled).await
    }

    /// How long a request has been waited for.
    fn idle_time(&self) -> Duration {
        let waited = ticks(&self.writer.deadline).wrapping_sub(self.idle_from);
        TICK.saturating_mul(waited)
    }

    /// What is left of the time for the first byte of a request.
    fn idle_left(&self) -> Duration {
        first_byte_timeout(&self.listener, self.has_served).saturating_sub(self.idle_time())
    }

    /// Nothing is read for and nothing has come: the connection can rest without giving anything up.
    fn rests_at_once(&mut self) -> bool {
        self.idle_from = ticks(&self.writer.deadline);
        !self.reads_ahead && !self.reader.is_armed() && self.reader.data().is_empty()
    }

    /// Reads what made it stir.
    async fn first_bytes(&mut self) -> Waited {
        let filled = self.reader.fill().await;
        self.look_at(filled).await
    }

    async fn look_at(&mut self, filled: io::Result<usize>) -> Waited {
        let come = match filled {
            Ok(0) => self.last_look().await,
            Ok(count) => {
                self.worker.metrics.received(count as u64);
                true
            }
            Err(_reset) => false,
        };
        if come { Waited::Come } else { Waited::Over }
    }

    /// The end of an idle connection. Where the drain made it, a request may have come in that very moment; it is
    /// still served.
    async fn last_look(&mut self) -> bool {
        match self.writer.deadline.fired() {
            Some(Why::Drain) => matches!(self.reader.fill().await, Ok(count) if count > 0),
            Some(Why::Idle) => {
                let timeout = crate::telemetry::Timeout::Idle;
                self.worker.metrics.timed_out(timeout);
                false
            }
            _ => false,
        }
    }

    /// Serves requests until nothing of one is there (`None`), or no more will be served.
    #[expect(
        clippy::large_futures,
        reason = "all of it lies in a spell, made once and used again for whichever connection has a request"
    )]
    async fn serve_requests(&mut self, scratch: &mut Scratch) -> Option<Next> {
        loop {
            let next = match self.read_head().await {
                Ok(range) => request::handle(self, scratch, range).await,
                Err(HeadEnd::Idle) => return None,
                Err(HeadEnd::Closed) => Next::Close,
                Err(HeadEnd::Broken(error)) => request::refuse_head(self, scratch, &error),
            };
            if next != Next::Keep {
                return Some(next);
            }
            self.has_served = true;
            let is_due = self.writer.out.len() > OUT_BYTES_MAX || self.fairness.waits_next();
            if is_due && self.flush().await.is_err() {
                return Some(Next::Close);
            }
            self.fairness.turn().await;
        }
    }

    /// Reads until the buffer holds a whole head; returns where it is. Answers that wait are sent before waiting. Where
    /// nothing of a head is there, the next read is under way and the wait is [`Connection::wait`]'s.
    async fn read_head(&mut self) -> Result<Range<usize>, HeadEnd> {
        let mut scanner = HeadScanner::for_request();
        let mut began = false;
        let mut checked = 0;
        loop {
            let scanned = scanner.scan(self.reader.data(), &self.listener.head_limits);
            if let Ok(Some(range)) = scanned {
                self.writer.deadline.clear(Why::Busy);
                return Ok(range);
            }
            // Whoever speaks something else need not be waited for, and the first rule broken is named, however the
            // bytes came.
            check_new_lines(self.reader.data(), scanner.lines(), &mut checked)?;
            scanned.map_err(|error| HeadEnd::Broken(Error::Head(error)))?;
            let nothing_yet = self.reader.data().is_empty();
            if !nothing_yet || self.reads_ahead || !may_rest(&self.listener) {
                self.reader.arm();
            }
            if !self.writer.out.is_empty() && self.flush().await.is_err() {
                return Err(HeadEnd::Closed);
            }
            if nothing_yet {
                return Err(HeadEnd::Idle);
            }
            if !began {
                // From the first byte to the last, however it trickles.
                began = true;
                let timeout = self.listener.config.header_timeout;
                self.writer.deadline.set(timeout, Expiry::Wake, Why::Head);
            }
            let filled = fill_in_time(&mut self.reader, &self.writer.deadline).await;
            match filled.ok_or(HeadEnd::Broken(Error::ClientTimeout(Why::Head)))? {
                // Empty lines are no request to answer.
                Ok(0) if scanner.is_before_first_octet() => return Err(HeadEnd::Closed),
                Ok(0) => return Err(self.cut_head()),
                Ok(count) => self.worker.metrics.received(count as u64),
                Err(_reset) => return Err(HeadEnd::Closed),
            }
        }
    }

    /// Sends answers to requests that are counted already.
    async fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.writer.flush().await;
        if let Err(error) = &flushed {
            request::count_timeout(self, error);
            self.worker.metrics.rejected(error.name());
        }
        flushed
    }

    fn cut_head(&self) -> HeadEnd {
        match client_end(self.writer.deadline.fired()) {
            error @ Error::ClientTimeout(_) => HeadEnd::Broken(error),
            _ => HeadEnd::Closed,
        }
    }

    /// Sends what waits and says how the connection ends. The socket itself is closed when the connection is dropped.
    async fn end(&mut self, next: Next) -> Pause {
        if matches!(next, Next::Close | Next::Linger) {
            self.writer.send_last();
        }
        let flushed = if next == Next::Linger {
            linger::flush(&mut self.writer, &mut self.reader).await
        } else {
            self.writer.flush().await
        };
        match next {
            Next::Linger if flushed.is_ok() => Pause::Linger,
            // A close with bytes unread would be a reset, which may overtake the answer.
            Next::Close if flushed.is_ok() && self.has_unread() => Pause::Linger,
            Next::Abort => {
                self.writer.socket.reset_on_close();
                Pause::End
            }
            Next::Keep | Next::Close | Next::Linger | Next::Tunnel => Pause::End,
        }
    }

    /// Bytes came that nobody wants.
    fn has_unread(&self) -> bool {
        // Also while a read is under way: what it has not been asked for since may lie where it came.
        !self.reader.data().is_empty() || self.writer.socket.has_unread()
    }

    /// Puts an answer of the gateway's own behind what waits to be sent; the bytes of its body.
    pub(super) fn put_answer(&mut self, answer: &respond::Answer<'_>) -> u64 {
        self.worker
            .clock
            .with_date(|date| answer.put(&mut self.writer.out, date))
    }
}

/// Waits for bytes of the client until `deadline`, which was set to wake; `None`: it has passed. The read stays under way, and the
/// reading side open: to a byte that came after its shutdown the kernel would answer with a reset, which could overtake what
/// the client is told.
pub(super) async fn fill_in_time(
    reader: &mut Reader,
    deadline: &Deadline<Why>,
) -> Option<io::Result<usize>> {
    poll_fn(|cx| match reader.poll_fill(cx) {
        Poll::Ready(filled) => Poll::Ready(Some(filled)),
        Poll::Pending if deadline.take_woken() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// A wait for a further request is long enough for a rest.
fn may_rest(listener: &ListenerPlan) -> bool {
    first_byte_timeout(listener, true) > BUFFER_TIME
}

/// Ticks since the worker's start, for differences.
#[expect(clippy::cast_possible_truncation, reason = "differences are short")]
fn ticks(deadline: &Deadline<Why>) -> u32 {
    deadline.now() as u32
}

/// How long the first byte of the next head may take.
fn first_byte_timeout(listener: &ListenerPlan, has_served: bool) -> Duration {
    if has_served {
        listener.config.idle_timeout
    } else {
        listener.config.header_timeout
    }
}

/// Looks at the complete `lines` of a head that is not, from `checked` on.
fn check_new_lines(data: &[u8], lines: Range<usize>, checked: &mut usize) -> Result<(), HeadEnd> {
    let from = lines.start.max(*checked);
    let new = data.get(from..lines.end).unwrap_or_default();
    if new.is_empty() {
        return Ok(());
    }
    *checked = lines.end;
    check_lines(new, from == lines.start).map_err(|error| HeadEnd::Broken(Error::Request(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what a function's future holds.
    fn future_bytes<F>(_function: impl Fn(Box<Connection>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        let future = future_bytes(serve);
        let own = size_of::<Connection>();
        assert!(
            future + own <= 500,
            "{future} of the future and {own} of the connection"
        );
    }

    #[test]
    fn patience_ends_when_the_rate_is_missed() {
        let (second, timeout) = (Duration::from_secs(1), Duration::from_secs(30));
        assert_eq!(patience(0, 0, 256, timeout), 10 * second, "the grace");
        assert_eq!(patience(0, 99, 256, timeout), TICK);
        assert_eq!(patience(0, 200, 256, timeout), Duration::ZERO);
        assert_eq!(
            patience(256 * 20, 100, 256, timeout),
            10 * second,
            "20 s earned"
        );
        assert_eq!(patience(u64::MAX, 100, 256, timeout), timeout);
        assert_eq!(patience(0, u64::MAX, 0, timeout), timeout, "no rate");
    }
}
