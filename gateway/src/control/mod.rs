//! The control plane: one tokio thread for admin, signals, names; one thread for the access log.

#![expect(
    clippy::disallowed_types,
    reason = "sockets are made before the control thread runs, and handed to it"
)]

pub mod access_log;
pub mod admin;
pub mod credentials;
pub mod demo;
mod fetch;
mod health;
pub mod key_sets;
pub mod lifecycle;
mod passwords;
pub mod resolve;
mod serve;
pub mod signal;
mod sockets;
pub mod supervisor;
mod sweep;
mod top;
mod upstreams;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use admin::AdminState;
use credentials::Credentials;
use key_sets::KeySets;
use resolve::Resolver;
use signal::{Signal, Signals};

/// Threads that wait for the system's resolver.
const BLOCKING_THREADS_MAX: usize = 4;
/// How long the start waits for names; upstreams that have none by then answer 502 until they do.
const FIRST_NAMES: Duration = Duration::from_secs(3);

/// What the control thread is given.
pub struct ControlSetup {
    /// From [`admin::bind`]; `None`: no admin address.
    pub admin: Option<TcpListener>,
    /// From [`demo::bind`]; `None`: no endpoint is the demo upstream.
    pub demo: Option<TcpListener>,
    /// The names of endpoints.
    pub resolver: Resolver,
    /// The files of keys.
    pub credentials: Credentials,
    /// The sets of keys that are fetched.
    pub key_sets: KeySets,
    /// What the admin pages show.
    pub state: AdminState,
    /// Called on the control thread for every order; must not wait.
    pub on_signal: Box<dyn Fn(Signal) + Send>,
}

impl fmt::Debug for ControlSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlSetup")
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// The running control thread, `ringgate-ctl`. Dropping it ends the thread too, without waiting.
#[derive(Debug)]
pub struct ControlHandle {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ControlHandle {
    /// Starts the thread; returns when signals are taken over, pages are served, and names are resolved and keys fetched or
    /// three seconds have passed; keys that are required are waited for as long as a fetch may take.
    ///
    /// # Errors
    /// A thread, runtime, signal handler or watched socket was refused, or keys that are required cannot be had.
    pub fn start(setup: ControlSetup) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (report, started) = flume::bounded(1);
        let thread = thread::Builder::new()
            .name("ringgate-ctl".to_owned())
            .spawn(move || {
                run(&runtime, setup, stopped, &report);
                // A resolver that hangs must not hold up the end of the process.
                runtime.shutdown_background();
            })?;
        let gone = || {
            Err(io::Error::other(
                "the control thread ended during its start",
            ))
        };
        started.recv().unwrap_or_else(|_| gone())?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread; connections to the admin address and the demo upstream are cut.
    pub fn stop(self) {
        drop(self.stop);
        // Fails if the thread panicked; then it has ended as well.
        drop(self.thread.join());
    }
}

fn run(
    runtime: &Runtime,
    setup: ControlSetup,
    mut stopped: oneshot::Receiver<()>,
    report: &flume::Sender<io::Result<()>>,
) {
    let ControlSetup {
        admin,
        demo,
        mut resolver,
        credentials,
        key_sets,
        state,
        on_signal,
    } = setup;
    runtime.block_on(async move {
        let process = Arc::clone(&state.process);
        tokio::spawn(credentials.watch(Arc::clone(&process)));
        let plan = Arc::clone(&state.plan);
        tokio::spawn(sweep::run(Arc::clone(&plan)));
        let begin = || -> io::Result<Signals> {
            if let Some(listener) = admin {
                admin::spawn(listener, state)?;
            }
            if let Some(listener) = demo {
                demo::spawn(listener)?;
            }
            Signals::install()
        };
        let (mut started, signals) = match begin() {
            Ok(signals) => (Ok(()), Some(signals)),
            Err(error) => (Err(error), None),
        };
        if signals.is_some() {
            let firsts = key_sets.spawn(&plan, &process);
            let (first, done) = oneshot::channel();
            tokio::spawn(async move {
                resolver.pass(&process).await;
                // Fails when the start waited long enough.
                let _ = first.send(());
                resolver.run(process).await;
            });
            drop(tokio::time::timeout(FIRST_NAMES, done).await);
            started = key_sets::wait_for(firsts).await;
            health::spawn(&plan);
        }
        // The starter waits for the report.
        drop(report.send(started));
        let Some(mut signals) = signals else { return };
        loop {
            tokio::select! {
                order = signals.next() => on_signal(order),
                _ = &mut stopped => return,
            }
        }
    });
}
