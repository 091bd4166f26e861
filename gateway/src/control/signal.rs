//! Signals as the supervisor's orders, with the meanings that nginx and HAProxy gave them.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::telemetry::log;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The first TERM or INT: drain within `drain_timeout`.
    Drain,
    /// The first QUIT: drain for as long as it takes.
    DrainWithoutDeadline,
    /// TERM or INT during a drain: end now.
    EndNow,
    /// USR1: open log files again.
    ReopenLogs,
}

/// The process's signals; from its making on they no longer end the process.
pub(super) struct Signals {
    hangup: Stream,
    interrupt: Stream,
    quit: Stream,
    terminate: Stream,
    user1: Stream,
    user2: Stream,
    draining: bool,
}

impl Signals {
    /// Takes the signals over. Needs a tokio runtime with I/O.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            draining: false,
        })
    }

    /// Waits for the next order.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return self.terminate(),
                _ = self.terminate.recv() => return self.terminate(),
                _ = self.quit.recv() => if !std::mem::replace(&mut self.draining, true) {
                    return Signal::DrainWithoutDeadline;
                },
                _ = self.user1.recv() => return Signal::ReopenLogs,
                _ = self.hangup.recv() => {
                    log::warn("SIGHUP ignored: the configuration is read at the start only", &[]);
                }
                // nginx replaces its program then and HAProxy reads its configuration; untaken it would end the process.
                _ = self.user2.recv() => {
                    log::warn("SIGUSR2 ignored: a new program or configuration takes a restart", &[]);
                }
            }
        }
    }

    fn terminate(&mut self) -> Signal {
        if std::mem::replace(&mut self.draining, true) {
            Signal::EndNow
        } else {
            Signal::Drain
        }
    }
}
