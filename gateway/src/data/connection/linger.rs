//! The end of a connection whose client may still send. A close with bytes unread, and any byte that comes after a close, makes the
//! kernel send a reset, which throws away what the client has not got of its answer. So only the sending side is closed at
//! first, and what comes is thrown away until the client has closed too or was waited for long enough (RFC 9112, section 9.6).
//! The answer may meanwhile be in the kernel's buffer: a client that takes it slowly is waited for as if it were in ours.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use runtime::{Deadline, Expiry, Reader, Socket, TICK};

use super::{ClientWriter, Connection};
use crate::data::Why;
use crate::data::error::Error;
use crate::data::fairness::Fairness;
use crate::data::worker::Worker;

/// How long a client that has its answer may send nothing.
const IDLE_TIME: Duration = Duration::from_secs(5);
/// How long it may go on sending after it has got its answer.
const SENDING_TIME: Duration = Duration::from_secs(30);
/// How long it may take for its answer, however little by little, after the last byte of it has left us. Without a close before
/// that, since its next byte would cost it the rest.
const TAKING_TIME: Duration = Duration::from_secs(300);
/// How much it may send: what an uplink of 70 Mbit/s brings in [`SENDING_TIME`]. Behind that its bytes stay where they are, and
/// it is closed when it has its answer.
pub(in crate::data) const LINGER_BYTES_MAX: u64 = 256 << 20;
/// Most that is thrown away in one turn: others have theirs.
const TURN_BYTES_MAX: usize = 1 << 20;
/// How often it is looked for what the client has taken, in ticks and as time.
const LOOK_TICKS: u32 = 5;
const LOOK_EVERY: Duration = TICK.saturating_mul(LOOK_TICKS);

const _: () = assert!(LOOK_EVERY.as_millis() < IDLE_TIME.as_millis());

/// What is left of the connection.
pub(super) struct Lingering {
    worker: Rc<Worker>,
    socket: Rc<Socket>,
    deadline: Deadline<Why>,
    /// Has a read under way that was begun before the end, or nothing.
    reader: Reader,
    patience: Patience,
}

impl From<Box<Connection>> for Lingering {
    fn from(connection: Box<Connection>) -> Self {
        let Connection {
            worker,
            listener,
            reader,
            writer,
            ..
        } = *connection;
        let ClientWriter {
            socket, deadline, ..
        } = writer;
        Self {
            patience: Patience::new(deadline.now(), listener.config.write_timeout),
            worker,
            socket,
            deadline,
            reader,
        }
    }
}

impl Lingering {
    /// Waits until the client has closed or its time is over. The connection is closed when this is dropped.
    pub(super) async fn serve(mut self) {
        self.socket.shutdown(Shutdown::Write);
        if !self.reader.is_armed() {
            self.reader.buf().clear();
            self.reader.rest();
        }
        let mut fairness = Fairness::default();
        loop {
            if self.reader.is_armed() {
                match self.end_read().await {
                    Some(Ok(count)) if count > 0 => self.threw_away(count),
                    _ => return,
                }
            } else {
                match self.next().await {
                    Some(Ok(count)) if count > 0 => self.threw_away(count),
                    Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return,
                }
            }
            fairness.turn().await;
        }
    }

    fn threw_away(&mut self, count: usize) {
        self.worker.metrics.received(count as u64);
        self.patience.threw_away(count as u64, self.deadline.now());
    }

    /// The end of the read that was under way; `None`: the client's time is over.
    async fn end_read(&mut self) -> Option<io::Result<usize>> {
        let Self {
            socket,
            deadline,
            reader,
            patience,
            ..
        } = self;
        let filled = wait_for(deadline, socket, patience, reader.fill()).await;
        if filled.is_some() {
            reader.buf().clear();
            reader.rest();
        }
        filled
    }

    /// Throws away what comes next; `None`: the client's time is over.
    async fn next(&mut self) -> Option<io::Result<usize>> {
        let Self {
            socket,
            deadline,
            patience,
            ..
        } = self;
        if patience.has_read_enough() {
            return wait_for(deadline, socket, patience, pending()).await;
        }
        match wait_for(deadline, socket, patience, socket.readable()).await? {
            Ok(()) => Some(socket.throw_away(TURN_BYTES_MAX)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// What `event` says; `None`: `patience` ended first.
async fn wait_for<T>(
    deadline: &Deadline<Why>,
    socket: &Socket,
    patience: &mut Patience,
    event: impl Future<Output = T>,
) -> Option<T> {
    let mut event = pin!(event);
    deadline.set(LOOK_EVERY, Expiry::Wake, Why::Linger);
    poll_fn(|cx| {
        // First, so that nobody puts it off who always sends something.
        let now = deadline.now();
        let is_over = patience.is_due(now) && patience.is_over(socket.unacknowledged(), now);
        // At the end of a drain the socket is shut down for us.
        if is_over || deadline.fired().is_some() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(event) = event.as_mut().poll(cx) {
            return Poll::Ready(Some(event));
        }
        if deadline.take_woken() {
            deadline.set(LOOK_EVERY, Expiry::Wake, Why::Linger);
        }
        Poll::Pending
    })
    .await
}

/// How long a client is waited for, in ticks.
#[derive(Debug)]
struct Patience {
    began: u64,
    /// When it is looked again.
    looks: u64,
    /// When it last sent something.
    sent: u64,
    /// When it was last seen to have taken something of its answer.
    took: u64,
    /// What it had not acknowledged when it was looked last.
    unacknowledged: usize,
    /// When it had acknowledged everything.
    has_answer: Option<u64>,
    thrown_away: u64,
    /// How long it may take nothing of its answer.
    write_timeout: Duration,
}

impl Patience {
    const fn new(now: u64, write_timeout: Duration) -> Self {
        Self {
            began: now,
            looks: now,
            sent: now,
            took: now,
            unacknowledged: usize::MAX,
            has_answer: None,
            thrown_away: 0,
            write_timeout,
        }
    }

    fn threw_away(&mut self, count: u64, now: u64) {
        self.thrown_away = self.thrown_away.saturating_add(count);
        self.sent = now;
    }

    const fn has_read_enough(&self) -> bool {
        self.thrown_away >= LINGER_BYTES_MAX
    }

    /// Whether it is time to look again, of which it takes note.
    fn is_due(&mut self, now: u64) -> bool {
        let is_due = now >= self.looks;
        if is_due {
            self.looks = now + u64::from(LOOK_TICKS);
        }
        is_due
    }

    /// Whether it has been waited for long enough.
    fn is_over(&mut self, unacknowledged: usize, now: u64) -> bool {
        if unacknowledged < self.unacknowledged {
            // The first look says nothing of what it did since.
            if self.unacknowledged != usize::MAX {
                self.took = now;
            }
            self.unacknowledged = unacknowledged;
        }
        if unacknowledged == 0 && self.has_answer.is_none() {
            self.has_answer = Some(now);
        }
        let since = |tick: u64| TICK.saturating_mul(u32::try_from(now - tick).unwrap_or(u32::MAX));
        match self.has_answer {
            Some(at) => {
                self.has_read_enough()
                    || since(at) >= SENDING_TIME
                    || since(self.sent.max(self.took)) >= IDLE_TIME
            }
            None => since(self.began) >= TAKING_TIME || since(self.took) >= self.write_timeout,
        }
    }
}

/// Sends what waits in `writer`, and throws away what comes meanwhile, for clients that read only when they have sent all.
pub(super) async fn flush(writer: &mut ClientWriter, reader: &mut Reader) -> Result<(), Error> {
    let worker = Rc::clone(&writer.worker);
    let mut sending = pin!(writer.flush());
    let mut reading = pin!(throw_away(reader, &worker));
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(sent);
        }
        // Its end says nothing of the sending.
        reading.as_mut().poll(cx)
    })
    .await
}

/// Reads until there is no more to read or enough was; does not end.
async fn throw_away<T>(reader: &mut Reader, worker: &Worker) -> T {
    let mut left = LINGER_BYTES_MAX;
    let mut fairness = Fairness::default();
    while left > 0 {
        if !reader.is_armed() {
            reader.buf().clear();
        }
        match reader.fill().await {
            Ok(count) if count > 0 => {
                worker.metrics.received(count as u64);
                left = left.saturating_sub(count as u64);
            }
            _ => break,
        }
        fairness.turn().await;
    }
    pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

    fn ticks(time: Duration) -> u64 {
        u64::try_from(time.as_nanos() / TICK.as_nanos()).unwrap()
    }

    /// Looks each tick, after `each` has moved it, until it is over; that tick.
    fn ticks_until_over(mut each: impl FnMut(&mut Patience, u64) -> usize) -> u64 {
        let mut patience = Patience::new(0, WRITE_TIMEOUT);
        (1..100_000)
            .find(|&now| {
                let unacknowledged = each(&mut patience, now);
                patience.is_over(unacknowledged, now)
            })
            .expect("an end")
    }

    #[test]
    fn who_sends_something_in_each_tick_puts_no_look_off() {
        let options = runtime::Options {
            choice: runtime::Choice::Auto,
            entries: 64,
        };
        let mut executor = runtime::Executor::new(options).unwrap();
        let waited = executor.block_on(async {
            let server = monoio::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let connected = Socket::connect_tcp(server.local_addr().unwrap()).await;
            let (socket, deadlines) = (Rc::new(connected.unwrap()), runtime::Deadlines::new());
            let deadline = deadlines.register(Rc::clone(&socket), Why::Linger);
            let mut patience = Patience::new(deadline.now(), WRITE_TIMEOUT);
            loop {
                deadlines.tick();
                let event = std::future::ready(());
                let more = wait_for(&deadline, &socket, &mut patience, event).await;
                if more.is_none() || deadline.now() > 2 * ticks(SENDING_TIME) {
                    break deadline.now();
                }
                patience.threw_away(1, deadline.now());
            }
        });
        let looks_late = waited - ticks(SENDING_TIME);
        assert!(looks_late <= 2 * ticks(LOOK_EVERY), "{waited} ticks");
    }

    #[test]
    fn who_has_its_answer_and_sends_nothing_is_waited_for_shortly() {
        assert_eq!(ticks_until_over(|_, _| 0), ticks(IDLE_TIME));
    }

    #[test]
    fn who_has_its_answer_may_send_for_a_while() {
        let sends = |patience: &mut Patience, now: u64| {
            patience.threw_away(1, now);
            0
        };
        assert_eq!(ticks_until_over(sends), 1 + ticks(SENDING_TIME));
    }

    #[test]
    fn who_takes_nothing_of_its_answer_has_the_time_of_a_write() {
        assert_eq!(ticks_until_over(|_, _| 100), ticks(WRITE_TIMEOUT));
        let sends = |patience: &mut Patience, now: u64| {
            patience.threw_away(1, now);
            100
        };
        assert_eq!(
            ticks_until_over(sends),
            ticks(WRITE_TIMEOUT),
            "whatever it sends"
        );
    }

    #[test]
    fn who_takes_its_answer_slowly_is_waited_for_long() {
        let takes = |_: &mut Patience, now: u64| 1_000_000 - usize::try_from(now).unwrap();
        assert_eq!(ticks_until_over(takes), ticks(TAKING_TIME));
        // Once it has got it, its time is that of those who have.
        let has_it = 1000;
        let takes =
            |_: &mut Patience, now: u64| usize::try_from(1000_u64.saturating_sub(now)).unwrap();
        assert_eq!(ticks_until_over(takes), has_it + ticks(IDLE_TIME));
    }

    #[test]
    fn who_sends_too_much_is_read_no_further_and_closed_when_it_has_its_answer() {
        let sends = |patience: &mut Patience, now: u64| {
            if !patience.has_read_enough() {
                patience.threw_away(LINGER_BYTES_MAX / 4, now);
            }
            usize::from(now < 50)
        };
        assert_eq!(ticks_until_over(sends), 50);
    }
}
