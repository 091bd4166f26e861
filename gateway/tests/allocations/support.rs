//! A worker on a thread that is counted, before no control plane.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use gateway::config::{Config, ConfigSource, load};
use gateway::data::plan::{Addresses, Plan};
use gateway::data::upstream::AddressCell;
use gateway::data::worker::{Command, Event, Setup, run};
use gateway::telemetry::{LogWriter, MetricsShape, WorkerMetrics};
use limiter::KeyHasher;
use runtime::{Choice, Options};

use crate::counting::Counters;

struct NoNames;

impl Addresses for NoNames {
    fn cell(&mut self, host: &str, _port: u16) -> AddressCell {
        panic!("no name is configured, but {host}");
    }

    fn demo(&self) -> Option<SocketAddr> {
        None
    }
}

/// A configuration with the listener that the worker takes.
pub(crate) fn config(text: &str) -> Config {
    let source = ConfigSource::Text { name: "test", text };
    load(source, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Its plan.
pub(crate) fn plan(config: &Config) -> Plan {
    let hasher = KeyHasher::random();
    Plan::new(config, 1, hasher, Instant::now(), &mut NoNames).unwrap()
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    commands: flume::Sender<Command>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts a worker on its thread, which `counters` follow from its first instruction on.
    pub(crate) fn start(
        choice: Choice,
        plan: Plan,
        log: Option<LogWriter>,
        counters: &'static Counters,
    ) -> Self {
        let listener = runtime::listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = TcpListener::from(listener.try_clone().unwrap()).local_addr();
        let shape = MetricsShape {
            listeners: 1,
            upstreams: plan.upstreams.len(),
            limits: plan.limits.len(),
            network_lists: plan.network_lists.len(),
            filters: FILTERS_MAX,
        };
        let (commands, inbox) = flume::unbounded();
        let setup = Setup {
            index: 0,
            options: Options {
                choice,
                entries: 256,
            },
            listeners: vec![listener],
            plan: Arc::new(plan),
            metrics: WorkerMetrics::new(0, shape),
            log,
            inbox,
        };
        let (started, starting) = flume::unbounded();
        let thread = thread::spawn(move || {
            counters.follow_this_thread();
            run(setup, |event| match event {
                Event::Started(_) => started.send(()).unwrap(),
                Event::Drained => {}
                event => panic!("{event:?}"),
            });
        });
        starting.recv().unwrap();
        Self {
            address: address.unwrap(),
            commands,
            thread,
        }
    }

    /// Lets it drain; `clients` is all that holds connections open.
    pub(crate) fn end<T>(self, clients: T) {
        self.commands.send(Command::Drain(None)).unwrap();
        drop(clients);
        self.thread.join().unwrap();
    }
}

/// Policies and filters of any plan here.
const FILTERS_MAX: usize = 4;
