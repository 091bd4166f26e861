//! One thread of the generator: what its connections share, who hands arrivals out, who ends what is late.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use crate::accuracy::Accounts;
use crate::clock::{Clock, nanos};
use crate::connection::{self, Client, Flight};
use crate::keys::{Draw, Key};
use crate::plan::Plan;
use crate::response::Response;
use crate::schedule::{Arrival, Next, Schedule, Share};
use crate::series::Part;
use crate::stats::{Failure, Stats};
use crate::target::Endpoint;
use crate::template::Values;
use crate::timer::Timer;

/// How often late requests are looked for; a timeout fires this much late at most.
const SWEEP: Duration = Duration::from_millis(5);
/// Arrivals of one thread that may wait for a connection. Beyond it they fail at once as unsent.
const BACKLOG_MAX: usize = 1 << 20;

/// What all threads of a run are given.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) endpoint: Endpoint,
    /// The user wants the run to end now.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Where a thread hands its counts in and takes empty ones from.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) flush: Sender<Part>,
    pub(crate) spare: Receiver<Stats>,
}

/// What the connections of one thread share.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    pub(crate) timeout_ns: u64,
    thread: u32,
    stats: RefCell<Stats>,
    schedule: RefCell<Schedule>,
    /// Reading of `clock` at the start of the run; `u64::MAX` before it.
    start_ns: Cell<u64>,
    /// Arrivals that were due when every connection was busy, oldest first.
    backlog: RefCell<VecDeque<Arrival>>,
    /// All connections.
    clients: RefCell<Vec<Rc<Client>>>,
    /// Those with nothing to do; the last used is used first, so that surplus ones stay cold.
    idle: RefCell<Vec<Rc<Client>>>,
    connections: u32,
    connections_max: usize,
    open_loop: bool,
    /// The time of the measurement, since the start of the run.
    window_ns: Range<u64>,
    /// Requests sent.
    counter: Cell<u64>,
    /// The sum of the weights of all kinds of requests.
    weights: u64,
    random: RefCell<fastrand::Rng>,
    keys: RefCell<Option<Draw>>,
    accounts: RefCell<Option<Accounts>>,
}

/// Connections of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections {
    /// Opened before the start.
    pub(crate) first: u32,
    /// At most.
    pub(crate) max: u32,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        schedule: Schedule,
        share: Share,
        connections: Connections,
    ) -> Rc<Self> {
        let plan = &shared.plan;
        let warmup_ns = nanos(plan.warmup);
        let duration_ns = plan.duration.map_or(u64::MAX, nanos);
        let window_ns = warmup_ns..warmup_ns.saturating_add(duration_ns);
        let kinds = plan.kinds.len();
        let weights = plan.kinds.iter().map(|kind| u64::from(kind.weight)).sum();
        let seed = plan.seed.wrapping_add(u64::from(share.thread));
        let keys = plan.keys.as_ref().map(|keys| keys.draw(share, plan.seed));
        let accounts = plan.limit.map(|limit| Accounts::new(limit, share.threads));
        let timeout_ns = nanos(shared.plan.timeout);
        let open_loop = shared.plan.mode.is_open();
        Rc::new(Self {
            shared,
            clock,
            timeout_ns,
            thread: share.thread,
            stats: RefCell::new(Stats::new(kinds)),
            schedule: RefCell::new(schedule),
            start_ns: Cell::new(u64::MAX),
            backlog: RefCell::new(VecDeque::new()),
            clients: RefCell::new(Vec::new()),
            idle: RefCell::new(Vec::new()),
            connections: connections.first,
            connections_max: usize::try_from(connections.max).unwrap_or(usize::MAX),
            open_loop,
            window_ns,
            counter: Cell::new(0),
            weights,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            keys: RefCell::new(keys),
            accounts: RefCell::new(accounts),
        })
    }

    /// Opens the first connections and waits until each is there or has failed.
    pub(crate) async fn prepare(self: &Rc<Self>) {
        for _ in 0..self.connections {
            self.open_connection(None);
        }
        while !self
            .clients
            .borrow()
            .iter()
            .all(|client| client.has_tried())
        {
            monoio::time::sleep(SWEEP).await;
        }
    }

    /// Runs the schedule to its end; `desk` gets the counts of each slice.
    pub(crate) async fn run(self: &Rc<Self>, start_ns: u64, desk: &Desk) {
        let slice_ns = nanos(self.shared.plan.slice());
        self.start_ns.set(start_ns);
        if self.open_loop {
            monoio::spawn(pace(Rc::clone(self)));
        }
        self.wake_idle();
        let mut next_flush_ns = slice_ns;
        let mut drained_by_ns = u64::MAX;
        loop {
            monoio::time::sleep(SWEEP).await;
            let now_ns = self.now_ns();
            self.end_late_requests(now_ns);
            if now_ns >= next_flush_ns {
                // What was counted belongs to the slice before, but for the few milliseconds of a sweep.
                let slice = next_flush_ns / slice_ns - 1;
                next_flush_ns = now_ns - now_ns % slice_ns + slice_ns;
                drop(desk.flush.send(self.take_part(slice, false, desk)));
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                self.schedule.borrow_mut().stop();
                drained_by_ns = drained_by_ns.min(now_ns);
            }
            if self.schedule.borrow().is_over(now_ns) {
                drained_by_ns = drained_by_ns.min(now_ns.saturating_add(self.timeout_ns));
                if now_ns >= drained_by_ns {
                    self.give_backlog_up();
                }
                self.wake_idle();
                if self.clients.borrow().is_empty() && self.backlog.borrow().is_empty() {
                    break;
                }
            }
        }
        let slice = self.now_ns() / slice_ns;
        drop(desk.flush.send(self.take_part(slice, true, desk)));
    }

    /// Nanoseconds since the start of the run; 0 before it.
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns().saturating_sub(self.start_ns.get())
    }

    fn take_part(&self, slice: u64, last: bool, desk: &Desk) -> Part {
        // Nothing is allocated once two sets of counts go round.
        let empty = desk.spare.try_recv();
        let empty = empty.unwrap_or_else(|_| Stats::new(self.shared.plan.kinds.len()));
        debug_assert_eq!(empty.responses(), 0);
        Part {
            thread: self.thread,
            slice,
            stats: self.stats.replace(empty),
            last,
        }
    }

    /// The next thing for a connection to do; what waited longest comes first.
    pub(crate) fn next(&self, now_ns: u64) -> Next {
        if let Some(arrival) = self.backlog.borrow_mut().pop_front() {
            return Next::Due(Arrival {
                waited: true,
                ..arrival
            });
        }
        if self.start_ns.get() == u64::MAX {
            return Next::At(0);
        }
        self.schedule.borrow_mut().next(now_ns)
    }

    /// A connection exists for a request, and not for its own sake.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.open_loop
    }

    /// Gives `arrival` to an idle connection or a new one; where there may be none, it waits.
    fn dispatch(self: &Rc<Self>, arrival: Arrival, now_ns: u64) {
        let idle = self.idle.borrow_mut().pop();
        if let Some(client) = idle {
            client.assign(arrival);
            return;
        }
        // The generator's lateness ends here; from now on it is the server's connections that are missing.
        self.record_lag(arrival, now_ns);
        if self.clients.borrow().len() < self.connections_max {
            self.open_connection(Some(Arrival {
                waited: true,
                ..arrival
            }));
        } else if self.backlog.borrow().len() < BACKLOG_MAX {
            self.backlog.borrow_mut().push_back(arrival);
            let mut stats = self.stats.borrow_mut();
            stats.waited += u64::from(arrival.measured);
        } else {
            self.fail(
                arrival,
                now_ns,
                Failure::Unsent,
                "too many requests wait for a connection",
            );
        }
    }

    fn open_connection(self: &Rc<Self>, first: Option<Arrival>) {
        let client = Client::new();
        self.clients.borrow_mut().push(Rc::clone(&client));
        monoio::spawn(connection::run(Rc::clone(self), client, first));
    }

    /// `client` waits for something to do.
    pub(crate) fn set_idle(&self, client: &Rc<Client>) {
        self.idle.borrow_mut().push(Rc::clone(client));
    }

    /// `client` no longer waits, for another reason than being given something to do.
    pub(crate) fn unset_idle(&self, client: &Rc<Client>) {
        self.idle
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, client));
    }

    /// `client` is gone.
    pub(crate) fn remove(&self, client: &Rc<Client>) {
        self.clients
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, client));
    }

    fn wake_idle(&self) {
        for client in self.idle.take() {
            client.wake();
        }
    }

    fn end_late_requests(&self, now_ns: u64) {
        for client in self.clients.borrow().iter() {
            client.end_if_late(now_ns);
        }
    }

    fn give_backlog_up(&self) {
        let now_ns = self.now_ns();
        for arrival in self.backlog.take() {
            self.fail(
                arrival,
                now_ns,
                Failure::Unsent,
                "no connection became free before the run ended",
            );
        }
    }

    /// The values of the next request, which is sent at `now_ns`, by the client that the connection belongs to, if it
    /// belongs to one.
    pub(crate) fn values(&self, owner: Option<Key>, now_ns: u64) -> Values {
        let counter = self.counter.get();
        self.counter.set(counter + 1);
        Values {
            counter,
            random: self.random.borrow_mut().u64(..),
            key: owner.or_else(|| self.key(now_ns)).unwrap_or_default(),
        }
    }

    /// The kind of the next request.
    pub(crate) fn kind(&self) -> usize {
        let kinds = &self.shared.plan.kinds;
        if kinds.len() < 2 {
            return 0;
        }
        let mut left = self.random.borrow_mut().u64(0..self.weights);
        let drawn = kinds.iter().position(|kind| {
            let weight = u64::from(kind.weight);
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        });
        drawn.unwrap_or_default()
    }

    /// Who sends next.
    pub(crate) fn key(&self, now_ns: u64) -> Option<Key> {
        self.keys
            .borrow_mut()
            .as_mut()
            .map(|keys| keys.next(now_ns))
    }

    /// What each key was granted; the run is over.
    pub(crate) fn take_accounts(&self) -> Option<Accounts> {
        self.accounts.take()
    }

    /// A request of `key` went out at `now_ns`.
    pub(crate) fn record_sent(&self, arrival: Arrival, key: Key, now_ns: u64) {
        if let Some(accounts) = &mut *self.accounts.borrow_mut() {
            accounts.sent(key, now_ns);
        }
        if arrival.measured {
            self.stats.borrow_mut().sent += 1;
        }
        if !arrival.waited {
            self.record_lag(arrival, now_ns);
        }
    }

    fn record_lag(&self, arrival: Arrival, now_ns: u64) {
        if arrival.measured && self.open_loop {
            let lag_ns = now_ns.saturating_sub(arrival.intended_ns);
            self.stats.borrow_mut().lag.saturating_record(lag_ns);
        }
    }

    pub(crate) fn record_connect(&self, took_ns: u64) {
        self.stats.borrow_mut().connect.saturating_record(took_ns);
    }

    pub(crate) fn record_received(&self, bytes: usize) {
        self.stats.borrow_mut().received_bytes += bytes as u64;
    }

    /// A request has been answered.
    pub(crate) fn record_response(&self, flight: &Flight, now_ns: u64, response: Response) {
        let &Flight {
            arrival,
            kind,
            key,
            sent_ns,
            ..
        } = flight;
        if let Some(accounts) = &mut *self.accounts.borrow_mut() {
            accounts.answered(key, sent_ns, response.status != self.shared.plan.limited);
        }
        let expected = self.shared.plan.kinds[kind]
            .expected
            .contains(response.status);
        let mut stats = self.stats.borrow_mut();
        // Throughput is what ends in the time of the measurement: counting all that was due in it would give a server
        // that answers late the rate that it was asked for.
        if self.window_ns.contains(&now_ns) {
            stats.window_responses += 1;
            stats.window_body_bytes += response.body_bytes;
        }
        if !arrival.measured {
            stats.warmup_requests += 1;
            stats.warmup_failures += u64::from(!expected);
            return;
        }
        stats.count_status(response.status);
        stats.record_times(flight, now_ns, self.open_loop);
        stats.record_kind(kind, arrival, now_ns, (true, !expected));
        if expected {
            stats.succeeded += 1;
        } else {
            stats.fail(Failure::Status, || format!("status {}", response.status));
        }
    }

    /// A request that was sent got no response.
    pub(crate) fn record_failure(&self, flight: &Flight, now_ns: u64, failure: Failure, why: &str) {
        let &Flight { arrival, kind, .. } = flight;
        if let Some(accounts) = &mut *self.accounts.borrow_mut() {
            accounts.lost();
        }
        if arrival.measured {
            let mut stats = self.stats.borrow_mut();
            stats.record_kind(kind, arrival, now_ns, (false, true));
            stats.record_first_byte(flight);
            // A timeout counts with the time it was waited for: leaving it out would flatter the server. Other
            // failures come early and say nothing about how long a response takes.
            if failure == Failure::Timeout {
                stats.record_timeout(flight, now_ns, self.open_loop);
            }
        }
        self.fail(arrival, now_ns, failure, why);
    }

    /// Bytes came on an idle connection.
    pub(crate) fn record_unsolicited(&self, why: &str) {
        let mut stats = self.stats.borrow_mut();
        stats.fail(Failure::Unsolicited, || why.to_owned());
    }

    /// A request ended without a response.
    pub(crate) fn fail(&self, arrival: Arrival, now_ns: u64, failure: Failure, why: &str) {
        let mut stats = self.stats.borrow_mut();
        if arrival.measured {
            stats.last_end_ns = now_ns;
            stats.fail(failure, || why.to_owned());
        } else {
            stats.warmup_requests += 1;
            stats.warmup_failures += 1;
        }
    }
}

/// Hands each arrival out at its time.
async fn pace(worker: Rc<Worker>) {
    let mut timer = Timer::new(worker.shared.plan.pacing);
    loop {
        let now_ns = worker.now_ns();
        // Not `Worker::next`: the backlog is for connections that become free.
        let next = worker.schedule.borrow_mut().next(now_ns);
        match next {
            Next::Due(arrival) => worker.dispatch(arrival, now_ns),
            Next::At(at_ns) => timer.wait(Duration::from_nanos(at_ns - now_ns)).await,
            Next::Over => return,
        }
    }
}
