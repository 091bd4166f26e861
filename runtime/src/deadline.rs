//! One deadline per connection, kept by a sweeper: setting one is a few stores, no timer and no clock.
//!
//! Time is counted in ticks of [`TICK`]. A worker calls [`Deadlines::tick`] once per tick; a deadline that has passed
//! makes the sweeper shut the socket down, which ends whatever read or write is pending on it, and leaves the reason
//! to be asked for: an end of file made by the sweeper must not be taken for the peer's.

use std::cell::RefCell;
use std::fmt;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::Socket;

/// The sweeper's resolution. A deadline fires at most two ticks late.
pub const TICK: Duration = Duration::from_millis(100);

/// Ticks in `time`, rounded up, but no more than [`TICKS_MAX`].
fn ticks_in(time: Duration) -> u64 {
    const PER_SECOND: u64 = 10;
    const { assert!(TICK.subsec_millis() as u64 * PER_SECOND == 1000) };
    let of_rest = u64::from(time.subsec_nanos().div_ceil(TICK.subsec_nanos()));
    let seconds = time.as_secs().min(TICKS_MAX / PER_SECOND - 1);
    seconds * PER_SECOND + of_rest
}

const BUCKETS: usize = 256;
const NONE: u32 = u32::MAX;
/// A tick that never comes.
const NEVER: u64 = u64::MAX;
/// Most ticks of a deadline: longer than any worker lives, and a sum with what it has lived is far from [`NEVER`].
const TICKS_MAX: u64 = 10 << 40;

const _: () = assert!(BUCKETS.is_power_of_two());

/// What the sweeper does to a socket whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// A pending read ends; an answer can still be written.
    EndReads,
    /// Pending reads and writes end.
    EndBoth,
    /// As `EndBoth`, and the close is a reset: for a peer that does not read.
    Reset,
    /// Nothing is shut down: the task that called [`Deadline::attach`] is woken and finds [`Deadline::take_woken`].
    Wake,
}

struct Entry<R> {
    socket: Option<Rc<Socket>>,
    /// Tick at which the deadline passes; [`NEVER`]: none is set.
    at: u64,
    expiry: Expiry,
    reason: R,
    fired: Option<R>,
    waker: Option<Waker>,
    woken: bool,
    /// Tick whose bucket the entry is linked into, never later than `at` while one is set; [`NEVER`]: into none.
    linked_at: u64,
    previous: u32,
    next: u32,
}

struct Wheel<R> {
    now: u64,
    entries: Vec<Entry<R>>,
    free: Vec<u32>,
    heads: [u32; BUCKETS],
}

/// The deadlines of one worker's sockets. `R` says why a deadline was set.
pub struct Deadlines<R>(Rc<RefCell<Wheel<R>>>);

/// The deadline of one socket. Dropping it removes the socket from the sweeper.
pub struct Deadline<R: Copy> {
    wheel: Rc<RefCell<Wheel<R>>>,
    index: u32,
}

impl<R> fmt::Debug for Deadlines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlines").finish_non_exhaustive()
    }
}

impl<R: Copy> fmt::Debug for Deadline<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl<R> Clone for Deadlines<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Copy> Default for Deadlines<R> {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "masked to the number of buckets"
)]
const fn bucket(tick: u64) -> usize {
    (tick as usize) & (BUCKETS - 1)
}

impl<R> Wheel<R> {
    fn entry(&mut self, index: u32) -> &mut Entry<R> {
        &mut self.entries[index as usize]
    }

    fn link(&mut self, index: u32, tick: u64) {
        let head = std::mem::replace(&mut self.heads[bucket(tick)], index);
        if head != NONE {
            self.entry(head).previous = index;
        }
        let entry = self.entry(index);
        debug_assert!(entry.linked_at == NEVER);
        entry.linked_at = tick;
        entry.previous = NONE;
        entry.next = head;
    }

    /// Not inlined: every [`Deadline::set`] would pay for being ready to call it.
    #[inline(never)]
    fn relink(&mut self, index: u32, tick: u64) {
        self.unlink(index);
        self.link(index, tick);
    }

    fn unlink(&mut self, index: u32) {
        let entry = self.entry(index);
        let tick = std::mem::replace(&mut entry.linked_at, NEVER);
        if tick == NEVER {
            return;
        }
        let (previous, next) = (entry.previous, entry.next);
        if previous == NONE {
            self.heads[bucket(tick)] = next;
        } else {
            self.entry(previous).next = next;
        }
        if next != NONE {
            self.entry(next).previous = previous;
        }
    }
}

impl<R: Copy> Deadlines<R> {
    /// No deadlines, at tick 0.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Wheel {
            now: 0,
            entries: Vec::new(),
            free: Vec::new(),
            heads: [NONE; BUCKETS],
        })))
    }

    /// A place for `socket`, with no deadline set. `idle` fills the place of a reason until one is given.
    #[must_use]
    pub fn register(&self, socket: Rc<Socket>, idle: R) -> Deadline<R> {
        let mut wheel = self.0.borrow_mut();
        let entry = Entry {
            socket: Some(socket),
            at: NEVER,
            expiry: Expiry::EndBoth,
            reason: idle,
            fired: None,
            waker: None,
            woken: false,
            linked_at: NEVER,
            previous: NONE,
            next: NONE,
        };
        let index = if let Some(index) = wheel.free.pop() {
            *wheel.entry(index) = entry;
            index
        } else {
            wheel.entries.push(entry);
            u32::try_from(wheel.entries.len() - 1).unwrap_or(NONE)
        };
        debug_assert_ne!(index, NONE, "more sockets than descriptors exist");
        Deadline {
            wheel: Rc::clone(&self.0),
            index,
        }
    }

    /// Ticks since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.borrow().now
    }

    /// Moves on by one tick and shuts down what is late; returns how many.
    ///
    /// Cost: the entries of one bucket of 256; an entry whose deadline has moved on is linked further along.
    pub fn tick(&self) -> usize {
        let mut wheel = self.0.borrow_mut();
        wheel.now += 1;
        let now = wheel.now;
        let mut index = wheel.heads[bucket(now)];
        let mut fired = 0;
        while index != NONE {
            let entry = wheel.entry(index);
            let (next, at, linked_at) = (entry.next, entry.at, entry.linked_at);
            if at <= now {
                entry.fire();
                wheel.unlink(index);
                fired += 1;
            } else if linked_at <= now {
                wheel.unlink(index);
                if at != NEVER {
                    wheel.link(index, at);
                }
            }
            index = next;
        }
        fired
    }

    /// Shuts down, as a deadline with `expiry` would, every socket for which `reason` finds one.
    pub fn expire_where(&self, expiry: Expiry, mut reason: impl FnMut(R) -> Option<R>) -> usize {
        let mut wheel = self.0.borrow_mut();
        let mut fired = 0;
        for entry in &mut wheel.entries {
            if entry.socket.is_some()
                && let Some(reason) = reason(entry.reason)
            {
                entry.expiry = expiry;
                entry.reason = reason;
                entry.fire();
                fired += 1;
            }
        }
        fired
    }

    /// Registered sockets.
    #[must_use]
    pub fn len(&self) -> usize {
        let wheel = self.0.borrow();
        wheel.entries.len() - wheel.free.len()
    }

    /// No socket is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R: Copy> Entry<R> {
    fn fire(&mut self) {
        self.at = NEVER;
        // Also where an operation's end would wake it: it may wait for none.
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
        if self.expiry == Expiry::Wake {
            self.woken = true;
            return;
        }
        self.fired = Some(self.reason);
        let Some(socket) = &self.socket else { return };
        match self.expiry {
            Expiry::EndReads => socket.shutdown(Shutdown::Read),
            Expiry::EndBoth | Expiry::Wake => socket.shutdown(Shutdown::Both),
            Expiry::Reset => {
                socket.reset_on_close();
                socket.shutdown(Shutdown::Both);
            }
        }
    }
}

impl<R: Copy> Deadline<R> {
    /// Sets the deadline to `after` from now, replacing the one before. Cost: a few stores, mostly.
    // One copy for all who call it: a request does so five times, and its code has to come through the cache.
    #[inline(never)]
    pub fn set(&self, after: Duration, expiry: Expiry, reason: R) {
        let mut wheel = self.wheel.borrow_mut();
        // The current tick is already under way, so one more.
        let at = wheel.now + ticks_in(after) + 1;
        let entry = wheel.entry(self.index);
        entry.at = at;
        entry.expiry = expiry;
        entry.reason = reason;
        entry.woken = false;
        // Linked no later than it is due: when its bucket comes up it is linked further along. So a deadline that
        // only ever moves on is linked once per period and not once per request.
        if entry.linked_at > at {
            wheel.relink(self.index, at);
        }
    }

    /// Takes the deadline away; `reason` says what the connection does now.
    pub fn clear(&self, reason: R) {
        let mut wheel = self.wheel.borrow_mut();
        let entry = wheel.entry(self.index);
        entry.at = NEVER;
        entry.reason = reason;
        entry.woken = false;
    }

    /// Names the task that is woken when a deadline passes.
    pub fn attach(&self, waker: &Waker) {
        let mut wheel = self.wheel.borrow_mut();
        wheel.entry(self.index).waker = Some(waker.clone());
    }

    /// A deadline with [`Expiry::Wake`] has passed since this was last asked.
    #[must_use]
    pub fn take_woken(&self) -> bool {
        std::mem::take(&mut self.wheel.borrow_mut().entry(self.index).woken)
    }

    /// Why the sweeper shut the socket down, if it did.
    #[must_use]
    pub fn fired(&self) -> Option<R> {
        self.wheel.borrow_mut().entry(self.index).fired
    }

    /// Ticks since the worker's start: a clock that costs nothing.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.wheel.borrow().now
    }
}

impl<R: Copy> Drop for Deadline<R> {
    fn drop(&mut self) {
        let mut wheel = self.wheel.borrow_mut();
        wheel.unlink(self.index);
        let entry = wheel.entry(self.index);
        let gone = (entry.socket.take(), entry.waker.take());
        wheel.free.push(self.index);
        // Dropping the socket or the waker may call into the driver; not while the wheel is borrowed.
        drop(wheel);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::pair;
    use crate::{Choice, Executor, Options, Reader};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Why {
        Idle,
        Head,
    }

    fn with_sockets(test: impl AsyncFnOnce(Rc<Socket>, Rc<Socket>)) {
        let (left, right);
        let mut executor = Executor::new(Options {
            choice: Choice::Auto,
            entries: 256,
        })
        .unwrap();
        (left, right) = executor.block_on(async { pair().unwrap() });
        executor.block_on(test(left, right));
    }

    fn ticks_until_fired(wheel: &Deadlines<Why>, deadline: &Deadline<Why>) -> u32 {
        let mut ticks = 0;
        while deadline.fired().is_none() {
            wheel.tick();
            ticks += 1;
            assert!(ticks < 10_000, "never fired");
        }
        ticks
    }

    #[test]
    fn a_deadline_fires_within_a_tick_of_its_time() {
        with_sockets(async |left, _right| {
            for seconds in [0, 1, 10, 60, 300] {
                let wheel = Deadlines::new();
                let deadline = wheel.register(Rc::clone(&left), Why::Idle);
                deadline.set(Duration::from_secs(seconds), Expiry::EndBoth, Why::Head);
                let expected = u32::try_from(seconds).unwrap() * 10 + 1;
                assert_eq!(ticks_until_fired(&wheel, &deadline), expected);
                assert_eq!(deadline.fired(), Some(Why::Head));
            }
        });
    }

    #[test]
    fn times_are_rounded_up_to_ticks_and_the_longest_never_pass() {
        let second = Duration::from_secs(1);
        for (time, ticks) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (TICK, 1),
            (TICK + Duration::from_nanos(1), 2),
            (second - Duration::from_nanos(1), 10),
            (second, 10),
            (second * 86_400 * 365, 315_360_000),
            (Duration::MAX, TICKS_MAX),
            (Duration::from_secs(u64::MAX), TICKS_MAX - 10),
        ] {
            assert_eq!(ticks_in(time), ticks, "{time:?}");
        }
    }

    #[test]
    fn moving_a_deadline_earlier_and_later_is_kept() {
        with_sockets(async |left, _right| {
            let wheel = Deadlines::new();
            let deadline = wheel.register(left, Why::Idle);
            deadline.set(Duration::from_secs(60), Expiry::EndBoth, Why::Idle);
            deadline.set(Duration::from_secs(1), Expiry::EndBoth, Why::Head);
            wheel.tick();
            deadline.set(Duration::from_secs(2), Expiry::EndBoth, Why::Head);
            assert_eq!(ticks_until_fired(&wheel, &deadline), 21);
        });
    }

    #[test]
    fn a_cleared_deadline_never_fires_and_a_dropped_one_frees_its_place() {
        with_sockets(async |left, right| {
            let wheel = Deadlines::new();
            let first = wheel.register(Rc::clone(&left), Why::Idle);
            let second = wheel.register(right, Why::Idle);
            for deadline in [&first, &second] {
                deadline.set(Duration::from_millis(300), Expiry::EndBoth, Why::Head);
            }
            first.clear(Why::Idle);
            for _ in 0..600 {
                wheel.tick();
            }
            assert_eq!((first.fired(), second.fired()), (None, Some(Why::Head)));
            drop(second);
            assert_eq!(wheel.len(), 1);
            drop(wheel.register(Rc::clone(&left), Why::Idle));
            assert_eq!(wheel.0.borrow().entries.len(), 2, "the place is used again");
            drop(first);
            assert_eq!(Rc::strong_count(&left), 1);
        });
    }

    #[test]
    fn many_sockets_in_one_bucket_all_fire() {
        with_sockets(async |left, _right| {
            let wheel = Deadlines::new();
            let all: Vec<_> = (0..50)
                .map(|_| {
                    let deadline = wheel.register(Rc::clone(&left), Why::Idle);
                    deadline.set(Duration::from_secs(3), Expiry::EndBoth, Why::Head);
                    deadline
                })
                .collect();
            let fired: usize = (0..31).map(|_| wheel.tick()).sum();
            assert_eq!(fired, 50);
            assert!(all.iter().all(|deadline| deadline.fired().is_some()));
        });
    }

    #[test]
    fn a_wake_tells_the_task_and_leaves_the_socket_alone() {
        with_sockets(async |left, right| {
            let wheel = Deadlines::new();
            let deadline = wheel.register(Rc::clone(&left), Why::Idle);
            deadline.attach(Waker::noop());
            deadline.set(Duration::from_millis(100), Expiry::Wake, Why::Idle);
            wheel.tick();
            assert!(!deadline.take_woken());
            wheel.tick();
            assert!(deadline.take_woken() && !deadline.take_woken());
            assert_eq!(deadline.fired(), None);
            let sent = right.send_all(crate::Buf::copy_of(b"x"), |_| {}).await;
            sent.0.unwrap();
            assert_eq!(Reader::new(left).fill().await.unwrap(), 1);
        });
    }

    #[test]
    fn one_that_was_taken_away_has_woken_nobody() {
        with_sockets(async |left, _right| {
            let wheel = Deadlines::new();
            let deadline = wheel.register(left, Why::Idle);
            deadline.set(Duration::ZERO, Expiry::Wake, Why::Idle);
            assert_eq!(wheel.tick(), 1);
            deadline.clear(Why::Idle);
            assert!(!deadline.take_woken());
        });
    }

    #[test]
    fn firing_ends_a_read_but_lets_an_answer_through() {
        with_sockets(async |left, right| {
            let wheel = Deadlines::new();
            let deadline = wheel.register(Rc::clone(&left), Why::Idle);
            deadline.set(Duration::ZERO, Expiry::EndReads, Why::Head);
            let mut reader = Reader::new(Rc::clone(&left));
            reader.arm();
            wheel.tick();
            assert_eq!(reader.fill().await.unwrap(), 0);
            let (sent, _) = left.send_all(crate::Buf::copy_of(b"408"), |_| {}).await;
            sent.unwrap();
            let mut peer = Reader::new(right);
            assert_eq!(peer.fill().await.unwrap(), 3);
        });
    }
}
