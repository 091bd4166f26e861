//! A run: threads started together, their counts added up second by second.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::Duration;

use runtime::{Executor, Options, Report as DriverReport};
use rustix::time::{ClockId, clock_gettime};

use crate::accuracy::{Accounts, Accuracy};
use crate::clock::{Clock, nanos};
use crate::keys::KeyAs;
use crate::plan::{Mode, Plan};
use crate::schedule::{Schedule, Share};
use crate::series::{Interval, Pieces, Series, Slice, Snapshot};
use crate::stats::Stats;
use crate::target::Endpoint;
use crate::worker::{Connections, Desk, Shared, Worker};

/// Submission queue entries of a thread's ring.
const RING_ENTRIES: u32 = 512;

/// What came out of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    /// Second by second, from the start of the warm-up on.
    pub(crate) intervals: Vec<Interval>,
    /// The same in slices, of a run that is short.
    pub(crate) slices: Vec<Slice>,
    /// What the limiter did; only if the plan says what it should.
    pub(crate) accuracy: Option<Accuracy>,
    pub(crate) endpoint: Endpoint,
    pub(crate) driver: DriverReport,
    /// What each thread used of its core, 0 to 1, over the whole run.
    pub(crate) busy_ratios: Vec<f64>,
    /// CPU time of all threads.
    pub(crate) cpu: Duration,
    /// How long requests were started for after the warm-up.
    pub(crate) measured: Duration,
    /// The user ended it early.
    pub(crate) interrupted: bool,
}

/// What one thread came to.
struct ThreadOutcome {
    accounts: Option<Accounts>,
    driver: DriverReport,
    cpu: Duration,
    wall: Duration,
}

/// Runs `plan` to its end, or until `stop` is set; `each_second` gets how things stand after each.
///
/// Waits: connects once on the calling thread first, so that a wrong address is one clear error and not a million.
///
/// # Errors
///
/// The target cannot be resolved or connected to; no thread or driver to be had; a thread panicked.
pub(crate) fn run(
    plan: Plan,
    stop: &Arc<AtomicBool>,
    mut each_second: impl FnMut(Snapshot<'_>),
) -> io::Result<Outcome> {
    let endpoint = resolve(&plan)?;
    let clock = Clock::new();
    let shared = Arc::new(Shared {
        plan,
        endpoint,
        stop: Arc::clone(stop),
    });
    let threads = shared.plan.threads;
    let started = Arc::new(Start {
        together: Barrier::new(usize::try_from(threads).unwrap_or(1)),
        at_ns: OnceLock::new(),
    });
    // From the last core down: a server on the same machine takes the first ones first.
    let mut cores = runtime::cores::allowed();
    cores.reverse();
    let (sender, receiver) = channel();
    let (mut handles, mut spares) = (Vec::new(), Vec::new());
    for thread in 0..threads {
        let place = Share { thread, threads };
        let schedule = schedule(&shared.plan, place)?;
        let (shared, started) = (Arc::clone(&shared), Arc::clone(&started));
        let (give_back, spare) = channel();
        spares.push(give_back);
        let desk = Desk {
            flush: sender.clone(),
            spare,
        };
        let index = usize::try_from(thread).unwrap_or_default() % cores.len().max(1);
        let share = |all: u32| all / threads + u32::from(thread < all % threads);
        let connections = Connections {
            first: share(shared.plan.connections),
            max: share(shared.plan.connections_max),
        };
        handles.push(runtime::thread::spawn(
            format!("load-{thread}"),
            cores.get(index).copied(),
            move || {
                let worker =
                    |clock| Worker::new(Arc::clone(&shared), clock, schedule, place, connections);
                run_thread(&shared, clock, worker, &started, &desk)
            },
        )?);
    }
    drop(sender);
    let slice_ms = u64::try_from(shared.plan.slice().as_millis()).unwrap_or(1000);
    let kinds = shared.plan.kinds.len();
    let mut series = Series::new(threads, slice_ms, shared.plan.mode.is_open(), kinds);
    let mut empty = Vec::new();
    for part in receiver {
        let thread = usize::try_from(part.thread).unwrap_or_default();
        series.add(part, &mut empty, &mut each_second);
        if let Some(spare) = spares.get(thread)
            && let Some(empty) = empty.pop()
        {
            // A thread that has ended needs none.
            drop(spare.send(empty));
        }
    }
    let mut outcomes = Vec::new();
    for handle in handles {
        let joined = handle.join();
        outcomes.push(joined.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?);
    }
    conclude(&shared, series.finish(&mut each_second), outcomes)
}

fn conclude(
    shared: &Shared,
    pieces: Pieces,
    mut outcomes: Vec<ThreadOutcome>,
) -> io::Result<Outcome> {
    let plan = &shared.plan;
    let Pieces {
        stats,
        intervals,
        slices,
    } = pieces;
    let interrupted = shared.stop.load(Ordering::Relaxed);
    let until_last = stats.last_end_ns.saturating_sub(nanos(plan.warmup));
    let measured = match plan.duration {
        Some(duration) if plan.requests.is_none() && !interrupted => duration,
        _ => Duration::from_nanos(until_last),
    };
    let busy_ratios = outcomes
        .iter()
        .map(|thread| thread.cpu.as_secs_f64() / thread.wall.as_secs_f64().max(1e-9))
        .collect();
    let cpu = outcomes.iter().map(|thread| thread.cpu).sum();
    let accounts: Option<Vec<Accounts>> = outcomes
        .iter_mut()
        .map(|thread| thread.accounts.take())
        .collect();
    let first = outcomes.into_iter().next();
    Ok(Outcome {
        stats,
        intervals,
        slices,
        endpoint: shared.endpoint.clone(),
        driver: first
            .ok_or_else(|| io::Error::other("no thread ran"))?
            .driver,
        busy_ratios,
        cpu,
        accuracy: accounts.map(|accounts| Accounts::conclude(&accounts)),
        measured,
        interrupted,
    })
}

/// The moment that all threads start at.
struct Start {
    together: Barrier,
    at_ns: OnceLock<u64>,
}

fn run_thread(
    shared: &Arc<Shared>,
    clock: Clock,
    worker: impl FnOnce(Clock) -> Rc<Worker>,
    started: &Start,
    desk: &Desk,
) -> io::Result<ThreadOutcome> {
    let executor = Executor::new(Options {
        choice: shared.plan.driver,
        entries: RING_ENTRIES,
    });
    let mut executor = match executor {
        Ok(executor) => executor,
        Err(error) => {
            // The others wait for this thread, and have nothing to do without it.
            shared.stop.store(true, Ordering::Relaxed);
            started.together.wait();
            return Err(error);
        }
    };
    let worker = worker(clock);
    executor.block_on(worker.prepare());
    started.together.wait();
    let start_ns = *started.at_ns.get_or_init(|| clock.now_ns());
    let cpu_before = thread_cpu();
    executor.block_on(worker.run(start_ns, desk));
    Ok(ThreadOutcome {
        accounts: worker.take_accounts(),
        driver: executor.report().clone(),
        cpu: thread_cpu().saturating_sub(cpu_before),
        wall: Duration::from_nanos(clock.now_ns() - start_ns),
    })
}

fn schedule(plan: &Plan, share: Share) -> io::Result<Schedule> {
    let warmup_ns = nanos(plan.warmup);
    let requests = plan.requests.map_or(u64::MAX, |all| {
        let (threads, thread) = (u64::from(share.threads), u64::from(share.thread));
        all / threads + u64::from(thread < all % threads)
    });
    let duration_ns = plan.duration.map_or(u64::MAX, nanos);
    match &plan.mode {
        Mode::Closed => {
            let end_ns = warmup_ns.saturating_add(duration_ns);
            Ok(Schedule::closed(warmup_ns, end_ns, requests))
        }
        Mode::Replay { log, speed, rounds } => {
            let log = Arc::clone(log);
            Ok(Schedule::replay(
                log,
                (*speed, *rounds),
                share,
                duration_ns,
                requests,
            ))
        }
        Mode::Open { rate, process } => {
            let profile = rate
                .profile(warmup_ns, duration_ns)
                .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
            let bounds = (warmup_ns, requests);
            Ok(Schedule::open(profile, *process, share, plan.seed, bounds))
        }
    }
}

fn resolve(plan: &Plan) -> io::Result<Endpoint> {
    let endpoint = plan.target.resolve()?;
    let loopback = matches!(&endpoint, Endpoint::Tcp(address) if address.is_ipv4() && address.ip().is_loopback());
    if plan.key_as == KeyAs::Source && !loopback {
        let why = "--key-as source needs a target in 127.0.0.0/8";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let (address, name) = match &endpoint {
        Endpoint::Tcp(address) => ((*address).into(), address.to_string()),
        Endpoint::Unix(path) => (socket2::SockAddr::unix(path)?, path.display().to_string()),
    };
    let socket = socket2::Socket::new(address.domain(), socket2::Type::STREAM, None)?;
    socket
        .connect_timeout(&address, plan.timeout)
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot connect to {name}: {error}"))
        })?;
    Ok(endpoint)
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
