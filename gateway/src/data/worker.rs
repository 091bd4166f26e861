//! A worker: one pinned thread, its runtime, its listeners, and everything its connections share without a lock.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use monoio::io::{CancelHandle, Canceller};
use pin_project_lite::pin_project;
use runtime::listen::{Acceptor, is_about_one_connection};
use runtime::{Deadlines, Executor, Expiry, Options, Report, Socket, Spare, TICK};

use super::Why;
use super::auth::Tables;
use super::clock::Clock;
use super::connection::{self, Connection};
use super::filter::rules::FilterPlan;
use super::plan::{Place, Plan, client_of};
use super::request_id::RequestIds;
use super::route::Matchers;
use super::spell::Spell;
use super::upstream::Pool;
use crate::telemetry::top::{LimitTop, TopKeys};
use crate::telemetry::{LogWriter, MetricsWriter, WorkerMetrics};

/// Accepts under way per listener on io_uring: each takes one connection per turn of the loop.
const ACCEPTS: usize = 16;
/// Pause after an error of `accept` that will come again at once (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a client may take to end the handshake that it began before the drain: a long round trip.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(200);
/// How long idle connections may still send a request after a drain began; it is answered, with `Connection: close`.
const DRAIN_IDLE_GRACE: Duration = Duration::from_millis(300);
/// How long connections get to end after they were shut down.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Memory for connections at work that is kept while none needs it: some 15 KiB each.
const SPELLS_MAX: usize = 128;
/// Of each tick so much may be spent on giving up reads of connections that fall idle: the kernel looks for each through all that
/// wait on the ring, which is a tenth of a millisecond where ten thousand do.
const GIVE_UP_TIME: Duration = Duration::from_millis(2);
/// Idle upstream connections are looked through this often.
const SWEEP_EVERY_TICKS: u64 = 5;
/// Memory that was kept and not needed for so long is given back.
const TRIM_EVERY_TICKS: u64 = 5;

/// What a worker is made of.
#[derive(Debug)]
pub struct Setup {
    /// Index among the workers.
    pub index: usize,
    /// How to build its runtime.
    pub options: Options,
    /// Its listening sockets, in the order of the plan's listeners.
    pub listeners: Vec<OwnedFd>,
    /// What it serves.
    pub plan: Arc<Plan>,
    /// Its counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Where its records go; `None`: nowhere.
    pub log: Option<LogWriter>,
    /// What it is told.
    pub inbox: flume::Receiver<Command>,
}

/// What a worker can be told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Report the busiest keys of all limits, in the order of the plan, through this channel; must not be a full one.
    ReportTop(flume::Sender<Vec<TopKeys>>),
    /// Stop accepting, finish what is under way, end after this time at the latest; `None`: whenever that is.
    Drain(Option<Duration>),
}

/// What a worker reports of itself.
#[derive(Debug)]
pub enum Event {
    /// It accepts connections on this driver.
    Started(Report),
    /// It cannot start.
    Failed(io::Error),
    /// It has drained and ended.
    Drained,
    /// It panicked; its connections are closed and its thread ends.
    Died(String),
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    /// Index among the workers.
    pub(super) index: usize,
    /// What is served now. A request clones the `Rc` and keeps what it began with.
    served: RefCell<Rc<Served>>,
    /// Deadlines of all its sockets.
    pub(super) deadlines: Deadlines<Why>,
    /// Its counters.
    pub(super) metrics: Rc<MetricsWriter>,
    /// Its access log.
    pub(super) log: Option<LogWriter>,
    /// Its time.
    pub(super) clock: Clock,
    request_ids: RequestIds,
    /// Memory for connections at work, used again by whichever has a request.
    spells: RefCell<Spare<Spell>>,
    /// What is left of [`GIVE_UP_TIME`] in this tick.
    give_up_time: Cell<Duration>,
    draining: Cell<bool>,
    connections: Cell<usize>,
    when_empty: RefCell<Option<Waker>>,
}

/// A plan and one worker's pools for it.
#[derive(Debug)]
pub(super) struct Served {
    /// The plan.
    pub(super) plan: Arc<Plan>,
    /// One pool per upstream of the plan.
    pub(super) pools: Vec<Pool>,
    /// The busiest keys of each limit of the plan.
    pub(super) top: Vec<LimitTop>,
    /// The regular expressions of the plan's routes.
    pub(super) matchers: Matchers,
    /// What its routes ask of requests.
    pub(super) filters: Vec<FilterPlan>,
    /// What its authenticators know.
    pub(super) tables: Tables,
    /// Where the next request of a split falls.
    split: Cell<u32>,
}

impl Served {
    fn new(plan: Arc<Plan>, pools: Vec<Pool>, top: Vec<LimitTop>) -> Self {
        Self {
            matchers: plan.table.matchers(),
            filters: plan.filters.clone(),
            tables: Tables::new(&plan.authenticators),
            split: Cell::new(0),
            plan,
            pools,
            top,
        }
    }

    /// A number below `total`, which is not 0: the next of a sequence that is spread evenly, also over every second or
    /// third of its numbers.
    pub(super) fn next_share(&self, total: u64) -> u64 {
        // 2^32 divided by the golden ratio: no other step leaves smaller gaps.
        const STEP: u32 = 0x9e37_79b9;
        let at = self.split.get();
        self.split.set(at.wrapping_add(STEP));
        (u64::from(at) * total) >> 32
    }
}

impl Worker {
    /// What is served now.
    #[must_use]
    pub(super) fn served(&self) -> Rc<Served> {
        Rc::clone(&self.served.borrow())
    }

    /// The worker is draining: every answer closes its connection.
    #[must_use]
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// An identifier that no other request of any process has, but for chance: 32 hexadecimal digits.
    pub(super) fn next_request_id(&self) -> [u8; 32] {
        self.request_ids.next()
    }

    /// Whether the read of a connection that falls idle may be given up in this tick; when that begins, for
    /// [`Self::gave_up`].
    pub(super) fn may_give_up(&self) -> Option<Instant> {
        let may = !self.give_up_time.get().is_zero();
        may.then(|| self.clock.now())
    }

    /// A read was given up since `began`.
    pub(super) fn gave_up(&self, began: Instant) {
        let took = self.clock.now().saturating_duration_since(began);
        let left = self.give_up_time.get().saturating_sub(took);
        self.give_up_time.set(left);
    }

    pub(super) fn take_spell(&self) -> Spell {
        self.spells.borrow_mut().take().unwrap_or_default()
    }

    pub(super) fn give_spell(&self, spell: Spell) {
        self.spells.borrow_mut().give(spell, SPELLS_MAX);
    }

    fn connection_ended(&self) {
        self.connections.set(self.connections.get() - 1);
        if self.connections.get() == 0
            && let Some(waker) = self.when_empty.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Waits until no connection is left.
    async fn emptied(&self) {
        poll_fn(|cx| {
            if self.connections.get() == 0 {
                return Poll::Ready(());
            }
            *self.when_empty.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Runs a worker on the calling thread until it has drained or died. `events` is called from this thread.
pub fn run(setup: Setup, events: impl Fn(Event)) {
    let mut executor = match Executor::new(setup.options) {
        Ok(executor) => executor,
        Err(error) => return events(Event::Failed(error)),
    };
    let report = executor.report().clone();
    let Setup {
        index,
        listeners,
        plan,
        metrics,
        log,
        inbox,
        ..
    } = setup;
    let metrics = Rc::new(metrics.writer());
    metrics.driver(report.driver.name(), report.flags.to_owned());
    plan.touch(index);
    let deadlines = Deadlines::new();
    let pools = plan
        .upstreams
        .iter()
        .enumerate()
        .map(|(number, upstream)| {
            Pool::new(
                Arc::clone(upstream),
                deadlines.clone(),
                Rc::clone(&metrics),
                number,
                index,
            )
        })
        .collect();
    let clock = Clock::start();
    let began_s = plan.limits_seconds(clock.now());
    let top = plan.limits.iter().map(|_| LimitTop::new(began_s)).collect();
    let worker = Rc::new(Worker {
        index,
        served: RefCell::new(Rc::new(Served::new(plan, pools, top))),
        deadlines,
        metrics,
        log,
        clock,
        request_ids: RequestIds::new(),
        spells: RefCell::default(),
        give_up_time: Cell::new(GIVE_UP_TIME),
        draining: Cell::new(false),
        connections: Cell::new(0),
        when_empty: RefCell::new(None),
    });
    let gates: Rc<RefCell<Vec<Gate>>> = Rc::default();

    let main = AssertUnwindSafe(|| {
        executor.block_on(async {
            match open_gates(&worker, listeners) {
                Ok(opened) => *gates.borrow_mut() = opened,
                Err(error) => return Event::Failed(error),
            }
            events(Event::Started(report));
            serve(&worker, &gates, &inbox).await;
            Event::Drained
        })
    });
    match catch_unwind(main) {
        Ok(event) => events(event),
        Err(panic) => {
            // Shut the sockets down first: that needs no runtime, whatever state it is in.
            worker
                .deadlines
                .expire_where(Expiry::EndBoth, |_| Some(Why::Stop));
            let rescue = AssertUnwindSafe(|| executor.block_on(abandon(&worker, &gates)));
            let orderly = catch_unwind(rescue).is_ok();
            if !orderly {
                // What a broken runtime would do when it is dropped cannot be known.
                std::mem::forget(executor);
            }
            events(Event::Died(describe(&*panic)));
        }
    }
}

/// The text of a panic.
fn describe(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// A listener while it accepts.
struct Gate {
    listener: usize,
    acceptor: Rc<Acceptor>,
    canceller: Canceller,
    loops: Vec<monoio::task::JoinHandle<()>>,
}

fn open_gates(worker: &Rc<Worker>, listeners: Vec<OwnedFd>) -> io::Result<Vec<Gate>> {
    let open = |(listener, fd)| {
        let acceptor = Rc::new(Acceptor::new(fd)?);
        let canceller = Canceller::new();
        // epoll knows one waiter per socket: of several, all but the last would wait for ever, and the drain for them.
        let accepts = if monoio::utils::is_legacy() {
            1
        } else {
            ACCEPTS
        };
        let loops = (0..accepts)
            .map(|_| {
                let accepting = accept(
                    Rc::clone(worker),
                    listener,
                    Rc::clone(&acceptor),
                    canceller.handle(),
                );
                monoio::spawn(accepting)
            })
            .collect();
        Ok(Gate {
            listener,
            acceptor,
            canceller,
            loops,
        })
    };
    listeners.into_iter().enumerate().map(open).collect()
}

async fn accept(
    worker: Rc<Worker>,
    listener: usize,
    acceptor: Rc<Acceptor>,
    cancelled: CancelHandle,
) {
    loop {
        match acceptor.accept(cancelled.clone()).await {
            Ok((socket, peer)) => admit(&worker, listener, socket, peer),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => return,
            Err(error) if is_about_one_connection(&error) => {}
            Err(_no_resources) => {
                worker.metrics.accept_failed(listener);
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Starts the task of a connection, unless the listener has as many as it may.
fn admit(worker: &Rc<Worker>, listener: usize, socket: Rc<Socket>, peer: SocketAddr) {
    let served = worker.served();
    let plan = &served.plan;
    let client = || {
        plan.hasher
            .address(client_of(peer.ip()), plan.client_ip.ipv6_prefix)
    };
    let place = match plan.listeners[listener].admit(client) {
        Ok(place) => place,
        Err(cap) => return worker.metrics.rejected(cap),
    };
    let worker = Rc::clone(worker);
    worker.connections.set(worker.connections.get() + 1);
    worker.metrics.connection_opened(listener);
    let connection = Connection::new(&worker, listener, socket, peer);
    let _detached = monoio::spawn(Task {
        serving: Some(connection::serve(connection)),
        place: Some(place),
        worker,
    });
}

pin_project! {
    /// The task of a connection. A panic ends this one: it must not take the worker's others with it. No `async` block,
    /// which would be larger.
    struct Task<F> {
        #[pin]
        serving: Option<F>,
        place: Option<Place>,
        worker: Rc<Worker>,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Some(serving) = this.serving.as_mut().as_pin_mut() {
            match catch_unwind(AssertUnwindSafe(|| serving.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {}
                Err(panic) => {
                    this.worker.metrics.connection_panicked();
                    crate::telemetry::log::error(
                        "a connection panicked and was closed",
                        &[
                            ("worker", &this.worker.index),
                            ("panic", &describe(&*panic)),
                        ],
                    );
                }
            }
        }
        // The connection is gone before it is counted as closed.
        this.serving.set(None);
        if let Some(place) = this.place.take() {
            let listener = place.listener().index;
            drop(place);
            this.worker.metrics.connection_closed(listener);
            this.worker.connection_ended();
        }
        Poll::Ready(())
    }
}

/// Sweeps, and does what the inbox says until that is to drain; then drains.
async fn serve(worker: &Rc<Worker>, gates: &RefCell<Vec<Gate>>, inbox: &flume::Receiver<Command>) {
    let sweeping = monoio::spawn(sweep(Rc::clone(worker)));
    let timeout = loop {
        match inbox.recv_async().await {
            Ok(Command::Drain(timeout)) => break timeout,
            Ok(Command::ReportTop(reply)) => report_top(worker, &reply),
            // The supervisor is gone, and with it the process.
            Err(flume::RecvError::Disconnected) => break Some(Duration::ZERO),
        }
    };
    worker.draining.set(true);
    // A client whose handshake is answered believes itself connected and sends its request: it must not meet a socket
    // that closes between the two.
    for gate in &*gates.borrow() {
        if gate.acceptor.refuse_new().is_err() {
            worker.metrics.accept_failed(gate.listener);
        }
    }
    monoio::time::sleep(HANDSHAKE_GRACE).await;
    close_gates(worker, gates.take()).await;

    let ended = worker.emptied();
    let idle_later = async {
        monoio::time::sleep(DRAIN_IDLE_GRACE).await;
        loop {
            worker.deadlines.expire_where(Expiry::EndReads, |why| {
                (why == Why::Idle).then_some(Why::Drain)
            });
            monoio::time::sleep(TICK).await;
        }
    };
    let drained = async {
        monoio::select! {
            () = ended => {}
            () = idle_later => {}
        }
    };
    let in_time = match timeout {
        Some(timeout) => monoio::time::timeout(timeout, drained).await.is_ok(),
        None => {
            drained.await;
            true
        }
    };
    if !in_time {
        worker
            .deadlines
            .expire_where(Expiry::EndBoth, |_| Some(Why::Stop));
        drop(monoio::time::timeout(CLOSE_GRACE, worker.emptied()).await);
    }
    worker.served().pools.iter().for_each(Pool::clear);
    drop(sweeping);
}

fn report_top(worker: &Worker, reply: &flume::Sender<Vec<TopKeys>>) {
    let served = worker.served();
    let now_s = served.plan.limits_seconds(worker.clock.now());
    let report = served.top.iter().map(|top| top.report(now_s)).collect();
    // Who asked may have stopped waiting.
    let _gone = reply.try_send(report);
}

/// Stops accepting; who is connected and waits gets in first.
async fn close_gates(worker: &Rc<Worker>, gates: Vec<Gate>) {
    for gate in gates {
        let Gate {
            listener,
            acceptor,
            canceller,
            loops,
        } = gate;
        drop(canceller.cancel());
        for accepting in loops {
            accepting.await;
        }
        let Some(acceptor) = Rc::into_inner(acceptor) else {
            debug_assert!(false, "an accept loop outlived its end");
            continue;
        };
        let finished = acceptor.finish(|socket, peer| admit(worker, listener, socket, peer));
        if finished.is_err() {
            worker.metrics.accept_failed(listener);
        }
    }
}

/// After a panic: closes in good order what the broken worker held, so that its descriptors and places come back.
async fn abandon(worker: &Rc<Worker>, gates: &RefCell<Vec<Gate>>) {
    for gate in gates.take() {
        drop(gate.canceller.cancel());
        for accepting in gate.loops {
            accepting.await;
        }
    }
    worker
        .deadlines
        .expire_where(Expiry::EndBoth, |_| Some(Why::Stop));
    drop(monoio::time::timeout(CLOSE_GRACE, worker.emptied()).await);
    worker.served().pools.iter().for_each(Pool::clear);
}

/// Once per tick: late sockets are shut down, stale pooled connections closed, the coarse clock moved.
async fn sweep(worker: Rc<Worker>) {
    let began = worker.clock.now();
    loop {
        monoio::time::sleep(TICK).await;
        worker.clock.tick();
        // As many ticks as have passed: a worker that was held up has its deadlines late once, not for ever.
        let passed = worker.clock.now().saturating_duration_since(began);
        let due = u64::try_from(passed.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        while worker.deadlines.now() < due {
            worker.give_up_time.set(GIVE_UP_TIME);
            worker.deadlines.tick();
            if worker.deadlines.now().is_multiple_of(SWEEP_EVERY_TICKS) {
                let served = worker.served();
                served.pools.iter().for_each(Pool::sweep);
                served.tables.refresh(&served.plan.authenticators);
            }
            if worker.deadlines.now().is_multiple_of(TRIM_EVERY_TICKS) {
                runtime::trim();
                worker.spells.borrow_mut().trim();
            }
        }
    }
}
