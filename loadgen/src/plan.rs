//! What a run does: resolved from the command line, checked, shared by all threads.

use std::time::Duration;

use crate::rate::RateSpec;
use crate::request::RequestSpec;
use crate::schedule::Process;
use crate::slo::Slo;
use crate::target::Target;

/// How requests are started.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Each connection starts its next request when the last one was answered: measures throughput. A slow server
    /// is asked less often, so latencies flatter it.
    Closed,
    /// Requests start at their times, whatever the server does: measures latency.
    Open {
        /// When they start.
        rate: RateSpec,
        /// How they are spaced.
        process: Process,
    },
}

/// What waits for the time of the next arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// A kernel timer per arrival: late by tens of microseconds; costs a system call and a wake-up each.
    Precise,
    /// The runtime's wheel of 1 ms: late by up to about 1.5 ms; arrivals within a millisecond leave together.
    Frugal,
}

/// The statuses that are results and not errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Option<Vec<u16>>);

impl Expected {
    /// 2xx and 3xx.
    pub const SUCCESS: Self = Self(None);

    /// Exactly these.
    #[must_use]
    pub const fn these(statuses: Vec<u16>) -> Self {
        Self(Some(statuses))
    }

    /// Cost: a scan of the list, which is short.
    pub(crate) fn contains(&self, status: u16) -> bool {
        match &self.0 {
            None => (200..400).contains(&status),
            Some(statuses) => statuses.contains(&status),
        }
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// What to send.
    pub request: RequestSpec,
    /// How requests start.
    pub mode: Mode,
    /// Closed loop: connections. Open loop: connections opened before the start.
    pub connections: u32,
    /// Open loop: connections at most; not less than `connections`.
    pub connections_max: u32,
    /// Requests under way at once on a connection; above 1 in a closed loop only.
    pub pipeline: u32,
    /// Threads, each on a core of its own while there are enough.
    pub threads: u32,
    /// Time before the measurement, at the first rate.
    pub warmup: Duration,
    /// How long to start requests for after the warm-up; `None`: until `requests` are started.
    pub duration: Option<Duration>,
    /// How many requests to start after the warm-up, at most.
    pub requests: Option<u64>,
    /// From the send to the last byte of the response; also for a connection to be made.
    pub timeout: Duration,
    /// Statuses that are no errors.
    pub expected: Expected,
    /// How to wait for the next arrival.
    pub pacing: Pacing,
    /// Which driver to run on.
    pub driver: runtime::Choice,
    /// The generator is the bottleneck if the 99th percentile of its lag is above this.
    pub lag_max: Duration,
    /// Goals.
    pub slo: Option<Slo>,
    /// For what is random.
    pub seed: u64,
}
