//! Starts everything in order, watches over the workers, and ends everything in order.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use core_affinity::CoreId;
use limiter::KeyHasher;
use runtime::{Choice, Options, Report, cores};

use super::access_log::AccessLog;
use super::admin::AdminState;
use super::credentials::Credentials;
use super::key_sets::KeySets;
use super::lifecycle::{Lifecycle, Phase};
use super::passwords;
use super::resolve::Resolver;
use super::signal::Signal;
use super::sockets::{Sockets, cannot_listen};
use super::{ControlHandle, ControlSetup, admin, demo};
use crate::config::{
    AdminConfig, AuthenticatorConfig, AuthenticatorKind, Config, DriverChoice, EndpointAddress,
    LogSink, Steer,
};
use crate::data::plan::{Addresses, Plan};
use crate::data::upstream::AddressCell;
use crate::data::worker::{self, Command};
use crate::telemetry::{Labels, MetricsShape, ProcessMetrics, WorkerMetrics, log};

/// A worker that dies more often than this within [`DEATHS_WITHIN`] will not get better by another start.
const DEATHS_MAX: usize = 3;
const DEATHS_WITHIN: Duration = Duration::from_secs(60);
/// Workers get this much more than the drain takes before the process ends without them.
const END_GRACE: Duration = Duration::from_secs(3);
/// The access log gets this long to write what it holds.
const LOG_FLUSH: Duration = Duration::from_secs(2);
/// Descriptors that one worker needs besides its connections: ring, wake-up, listeners, a few to work with.
const DESCRIPTORS_PER_WORKER: u64 = 16;
const DESCRIPTORS_SHARED: u64 = 48;
/// Descriptors that connections never get: with all others taken, the admin pages still answer and names still resolve.
const DESCRIPTORS_RESERVED: u64 = 16;
/// Set to 1, this variable lets requests ask for panics: for tests of what a panic costs. Not in the configuration,
/// so that no file carries it into production.
const FAULTS_VARIABLE: &str = "RINGGATE_FAULTS";

/// Why the gateway did not start, or ended on its own: one line that says what to do.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// What a started gateway says of itself.
#[derive(Debug)]
pub struct Started<'a> {
    /// What is served.
    pub config: &'a Config,
    /// Addresses of the listeners, with the ports that the kernel chose.
    pub listeners: &'a [SocketAddr],
    /// Address of the admin pages.
    pub admin: Option<SocketAddr>,
    /// Workers.
    pub workers: usize,
    /// The driver they run on.
    pub report: &'a Report,
    /// Something in front of the user's eyes that needs a decision, a line each.
    pub warnings: &'a [String],
}

/// What reaches the supervisor.
enum Event {
    Worker(usize, worker::Event),
    Signal(Signal),
}

/// Runs the gateway until it is told to end. `started` is called once, when requests are served.
///
/// # Errors
///
/// It could not start, or its workers keep dying.
pub fn run(config: &Config, started: impl FnOnce(&Started<'_>)) -> Result<(), Failure> {
    let cores = worker_cores(config);
    let mut warnings = Vec::new();
    raise_descriptor_limit(config, cores.len(), &mut warnings)?;
    if !config.runtime.pin_cores && config.listeners.iter().any(|l| l.steer == Steer::Cpu) {
        warnings.push("steer = \"cpu\" does nothing while pin_cores is false".to_owned());
    }
    let faults = std::env::var_os(FAULTS_VARIABLE).is_some_and(|value| value == "1");
    if faults {
        warnings.push(format!(
            "{FAULTS_VARIABLE}=1: ANY CLIENT CAN MAKE THIS GATEWAY PANIC; for tests only"
        ));
    }
    let (mut supervisor, control, bound) = prepare(config, cores, faults)?;
    let result = supervisor.start().and_then(|report| {
        supervisor.lifecycle.advance(Phase::Ready);
        warnings.extend(report.fallback.clone());
        started(&Started {
            config,
            listeners: supervisor.sockets.addresses(),
            admin: bound.admin,
            workers: supervisor.cores.len(),
            report: &report,
            warnings: &warnings,
        });
        supervisor.watch()
    });
    supervisor.lifecycle.advance(Phase::Draining);
    let access_log = supervisor.access_log.take();
    if access_log.is_some_and(|access_log| !access_log.shutdown(LOG_FLUSH)) {
        log::warn("the access log could not be written to its end", &[]);
    }
    control.stop();
    if result.is_ok() {
        log::info("ended", &[]);
    }
    result
}

/// What listens besides the listeners.
struct Bound {
    admin: Option<SocketAddr>,
}

/// Everything up to the workers: sockets first, so that a port in use is found before anything runs.
fn prepare(
    config: &Config,
    cores: Vec<Option<CoreId>>,
    faults: bool,
) -> Result<(Supervisor<'_>, ControlHandle, Bound), Failure> {
    let admin = match &config.admin {
        Some(AdminConfig { listen }) => {
            let bound = admin::bind(*listen);
            Some(bound.map_err(|e| Failure(cannot_listen("admin", *listen, &e)))?)
        }
        None => None,
    };
    let bound = Bound {
        admin: admin.as_ref().and_then(|admin| admin.local_addr().ok()),
    };
    let demo = uses_demo(config).then(demo::bind).transpose();
    let demo = demo.map_err(|error| plain("the demo upstream", &error))?;
    // One secret for both: a client is steered to the worker that owns its shard of the limits.
    let hasher = KeyHasher::random();
    let sockets = Sockets::bind(&config.listeners, &cores, &hasher).map_err(Failure)?;

    let mut names = Names {
        resolver: Resolver::default(),
        demo: demo.as_ref().and_then(|demo| demo.local_addr().ok()),
    };
    let origin = origin_of_time();
    let mut plan = Plan::new(config, cores.len(), hasher, origin, &mut names).map_err(Failure)?;
    plan.faults = faults;
    let plan = Arc::new(plan);
    // Filled as the workers start; nobody hears what is said before.
    let commands: Arc<[ArcSwap<flume::Sender<Command>>]> = cores
        .iter()
        .map(|_| ArcSwap::from_pointee(flume::unbounded().0))
        .collect();
    let metrics = metrics(config, cores.len());
    let labels = Arc::new(labels(config));
    let process = Arc::new(ProcessMetrics::new(config.authenticators.len()));
    let lifecycle = Arc::new(Lifecycle::default());
    let access_log = AccessLog::start(
        &config.access_log,
        Arc::clone(&labels),
        Arc::clone(&process),
    )
    .map_err(|error| cannot_log(config, &error))?;

    let (events, inbox) = flume::unbounded();
    let signals = events.clone();
    let credentials = Credentials::new(config, &plan);
    let is_basic = |each: &AuthenticatorConfig| matches!(each.kind, AuthenticatorKind::Basic(_));
    if config.authenticators.iter().any(is_basic) {
        passwords::start(&plan.verifications);
    }
    let control = ControlHandle::start(ControlSetup {
        admin,
        demo,
        resolver: names.resolver,
        credentials,
        key_sets: KeySets::new(config, &plan),
        state: AdminState {
            lifecycle: Arc::clone(&lifecycle),
            workers: Arc::clone(&metrics),
            process: Arc::clone(&process),
            labels,
            plan: Arc::clone(&plan),
            commands: Arc::clone(&commands),
        },
        on_signal: Box::new(move |signal| drop(signals.send(Event::Signal(signal)))),
    })
    .map_err(|error| plain("the control thread", &error))?;

    let supervisor = Supervisor {
        config,
        cores,
        sockets,
        plan,
        commands,
        metrics,
        process,
        lifecycle,
        access_log,
        events,
        inbox,
        workers: HashMap::new(),
        deaths: Vec::new(),
    };
    Ok((supervisor, control, bound))
}

struct Supervisor<'a> {
    config: &'a Config,
    /// One per worker; `None`: not pinned.
    cores: Vec<Option<CoreId>>,
    sockets: Sockets,
    plan: Arc<Plan>,
    metrics: Arc<[Arc<WorkerMetrics>]>,
    process: Arc<ProcessMetrics>,
    lifecycle: Arc<Lifecycle>,
    access_log: Option<AccessLog>,
    /// How each worker is told things, also by the admin pages.
    commands: Arc<[ArcSwap<flume::Sender<Command>>]>,
    events: flume::Sender<Event>,
    inbox: flume::Receiver<Event>,
    workers: HashMap<usize, Running>,
    deaths: Vec<Instant>,
}

struct Running {
    commands: flume::Sender<Command>,
    thread: JoinHandle<()>,
}

impl Supervisor<'_> {
    /// Starts all workers and waits until they serve.
    fn start(&mut self) -> Result<Report, Failure> {
        for worker in 0..self.cores.len() {
            self.spawn(worker)?;
        }
        let mut serving = 0;
        let mut report = None;
        while serving < self.cores.len() {
            match self.inbox.recv() {
                Ok(Event::Worker(_, worker::Event::Started(its))) => {
                    serving += 1;
                    // The worst driver of all is the one to tell of.
                    if report.is_none() || its.fallback.is_some() {
                        report = Some(its);
                    }
                }
                Ok(Event::Worker(index, worker::Event::Failed(error))) => {
                    return Err(plain(&format!("worker {index}"), &error));
                }
                Ok(Event::Worker(index, worker::Event::Died(panic))) => {
                    return Err(Failure(format!(
                        "worker {index} panicked at its start: {panic}"
                    )));
                }
                // A signal before the start is complete: there is nothing to drain.
                Ok(
                    Event::Signal(Signal::ReopenLogs) | Event::Worker(_, worker::Event::Drained),
                ) => {}
                Ok(Event::Signal(_)) | Err(_) => {
                    return Err(Failure("told to end before the start was complete".into()));
                }
            }
        }
        report.ok_or_else(|| Failure("no worker".into()))
    }

    fn spawn(&mut self, index: usize) -> Result<(), Failure> {
        // A channel of its own: one that died may still be waiting on the old one, and would swallow a command.
        let (commands, inbox) = flume::unbounded();
        self.commands[index].store(Arc::new(commands.clone()));
        let runtime = &self.config.runtime;
        let setup = worker::Setup {
            index,
            options: Options {
                choice: match runtime.driver {
                    DriverChoice::Auto => Choice::Auto,
                    DriverChoice::IoUring => Choice::IoUring,
                    DriverChoice::Epoll => Choice::Epoll,
                },
                entries: runtime.ring_entries,
            },
            listeners: self
                .sockets
                .of_worker(index)
                .map_err(|e| plain("a listener", &e))?,
            plan: Arc::clone(&self.plan),
            metrics: Arc::clone(&self.metrics[index]),
            log: self
                .access_log
                .as_ref()
                .map(|access_log| access_log.register(index)),
            inbox,
        };
        let events = self.events.clone();
        let report = move |event| drop(events.send(Event::Worker(index, event)));
        let name = format!("ringgate-w{index}");
        let thread =
            runtime::thread::spawn(name, self.cores[index], move || worker::run(setup, report))
                .map_err(|error| plain("a worker thread", &error))?;
        self.workers.insert(index, Running { commands, thread });
        Ok(())
    }

    /// Serves until told to end, then drains.
    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            match self.inbox.recv() {
                Ok(Event::Signal(Signal::ReopenLogs)) => self.reopen_logs(),
                Ok(Event::Signal(Signal::Drain)) => {
                    return self.drain(Some(self.config.runtime.drain_timeout));
                }
                Ok(Event::Signal(Signal::DrainWithoutDeadline)) => return self.drain(None),
                Ok(Event::Signal(Signal::EndNow)) | Err(_) => return Ok(()),
                Ok(Event::Worker(index, event)) => self.replace(index, event)?,
            }
        }
    }

    fn reopen_logs(&self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
    }

    /// Starts a worker in the place of one that died: same socket, same index, so that no client of the port falls
    /// into a hole.
    fn replace(&mut self, index: usize, event: worker::Event) -> Result<(), Failure> {
        let cause = match event {
            worker::Event::Died(panic) => panic,
            worker::Event::Failed(error) => error.to_string(),
            worker::Event::Started(_) | worker::Event::Drained => return Ok(()),
        };
        self.process.worker_restarted();
        log::error(
            "a worker died and is replaced",
            &[("worker", &index), ("panic", &cause)],
        );
        if let Some(dead) = self.workers.remove(&index) {
            drop(dead.thread.join());
        }
        let now = origin_of_time();
        self.deaths
            .retain(|&death| now.duration_since(death) < DEATHS_WITHIN);
        self.deaths.push(now);
        if self.deaths.len() > DEATHS_MAX {
            return Err(Failure(format!("workers keep dying, the last of: {cause}")));
        }
        self.spawn(index)
    }

    /// Readiness goes to 503 at once; after `drain_delay` the workers stop accepting and finish what they have.
    fn drain(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        self.lifecycle.advance(Phase::Draining);
        let delay = self.config.runtime.drain_delay;
        log::info("draining", &[("delay_ms", &delay.as_millis())]);
        if !delay.is_zero() && self.keep_serving(delay)? {
            return Ok(());
        }
        // From here on nobody new may reach a socket that no worker accepts from.
        for running in self.workers.values() {
            let _gone = running.commands.send(Command::Drain(timeout));
        }
        self.sockets.close();
        let end = timeout.map(|timeout| origin_of_time() + timeout + END_GRACE);
        while !self.workers.is_empty() {
            match self.next_until(end) {
                None => {
                    log::warn(
                        "the drain's time is over",
                        &[("workers", &self.workers.len())],
                    );
                    return Ok(());
                }
                Some(Event::Signal(Signal::EndNow)) => return Ok(()),
                Some(Event::Signal(Signal::ReopenLogs)) => self.reopen_logs(),
                Some(Event::Signal(_) | Event::Worker(_, worker::Event::Started(_))) => {}
                Some(Event::Worker(index, _ended)) => {
                    if let Some(running) = self.workers.remove(&index) {
                        drop(running.thread.join());
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes on for `time`; true: told to end now.
    fn keep_serving(&mut self, time: Duration) -> Result<bool, Failure> {
        let end = Some(origin_of_time() + time);
        while let Some(event) = self.next_until(end) {
            match event {
                Event::Signal(Signal::EndNow) => return Ok(true),
                Event::Signal(Signal::ReopenLogs) => self.reopen_logs(),
                Event::Signal(_) => {}
                Event::Worker(index, event) => self.replace(index, event)?,
            }
        }
        Ok(false)
    }

    fn next_until(&self, end: Option<Instant>) -> Option<Event> {
        match end {
            Some(end) => self.inbox.recv_deadline(end).ok(),
            None => self.inbox.recv().ok(),
        }
    }
}

/// Where each worker runs.
fn worker_cores(config: &Config) -> Vec<Option<CoreId>> {
    let available = cores::for_workers();
    let count = config
        .runtime
        .workers
        .map_or(available.len(), std::num::NonZero::get);
    (0..count)
        .map(|worker| {
            // More workers than cores share them.
            config
                .runtime
                .pin_cores
                .then(|| available[worker % available.len()])
        })
        .collect()
}

/// Raises the soft limit of open files to the hard one and sees whether that will do.
fn raise_descriptor_limit(
    config: &Config,
    workers: usize,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let limit = runtime::limits::raise_open_files()
        .map_err(|error| plain("the limit of open files", &error))?;
    let listeners = config.listeners.len() as u64;
    let needed = DESCRIPTORS_SHARED
        + DESCRIPTORS_RESERVED
        + workers as u64 * (DESCRIPTORS_PER_WORKER + 2 * listeners);
    if limit < needed {
        return Err(Failure(format!(
            "too few file descriptors: the limit is {limit} and {needed} are needed to start; raise it \
             (`ulimit -n 65536`, or LimitNOFILE= in the systemd unit)"
        )));
    }
    runtime::limits::reserve_open_files(limit, DESCRIPTORS_RESERVED);
    let wanted: u64 = config
        .listeners
        .iter()
        .map(|l| 2 * u64::from(l.max_connections.get()))
        .sum();
    if limit < needed + wanted {
        warnings.push(format!(
            "the limit of open files is {limit}: that is room for some {} connections and not for the {} that \
             max_connections allows; raise it (`ulimit -n`, LimitNOFILE=) or lower max_connections",
            (limit - needed) / 2,
            wanted / 2
        ));
    }
    Ok(())
}

fn metrics(config: &Config, workers: usize) -> Arc<[Arc<WorkerMetrics>]> {
    let shape = MetricsShape {
        listeners: config.listeners.len(),
        upstreams: config.upstreams.len(),
        limits: config.limits.len(),
        network_lists: config.network_lists.len(),
        filters: config.filter_names().count(),
    };
    (0..workers)
        .map(|worker| WorkerMetrics::new(worker, shape))
        .collect()
}

fn labels(config: &Config) -> Labels {
    Labels {
        listeners: config
            .listeners
            .iter()
            .map(|listener| listener.name.clone())
            .collect(),
        routes: config
            .routes
            .iter()
            .map(|route| route.name.clone())
            .collect(),
        upstreams: config
            .upstreams
            .iter()
            .map(|upstream| upstream.name.clone())
            .collect(),
        limits: config
            .limits
            .iter()
            .map(|limit| limit.name.clone())
            .collect(),
        network_lists: config
            .network_lists
            .iter()
            .map(|list| list.name.clone())
            .collect(),
        filters: config
            .filter_names()
            .map(|(kind, name)| (kind, name.to_owned()))
            .collect(),
        authenticators: config
            .authenticators
            .iter()
            .map(|each| each.name.clone())
            .collect(),
    }
}

fn uses_demo(config: &Config) -> bool {
    let mut endpoints = config
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.endpoints);
    endpoints.any(|endpoint| endpoint.address == EndpointAddress::Demo)
}

struct Names {
    resolver: Resolver,
    demo: Option<SocketAddr>,
}

impl Addresses for Names {
    fn cell(&mut self, host: &str, port: u16) -> AddressCell {
        self.resolver.cell(host, port)
    }

    fn demo(&self) -> Option<SocketAddr> {
        self.demo
    }
}

fn cannot_log(config: &Config, error: &io::Error) -> Failure {
    let sink = match &config.access_log.sink {
        LogSink::File(path) => path.display().to_string(),
        LogSink::Stdout | LogSink::Off => "standard output".into(),
    };
    Failure(format!(
        "cannot write the access log to {sink}: {error}: create the folder and make it writable, or set log.access.path"
    ))
}

fn plain(what: &str, error: &io::Error) -> Failure {
    Failure(format!("cannot start {what}: {error}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor is outside of what tests put on a manual clock"
)]
fn origin_of_time() -> Instant {
    Instant::now()
}
