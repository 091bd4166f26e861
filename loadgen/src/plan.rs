//! What a run does: resolved from the command line, checked, shared by all threads.

use std::sync::Arc;
use std::time::Duration;

use crate::accuracy::Limit;
use crate::clock::nanos;
use crate::keys::{KeyAs, Keys};
use crate::rate::RateSpec;
use crate::replay::Log;
use crate::schedule::Process;
use crate::slo::Slo;
use crate::target::Target;
use crate::template::Template;

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
    /// The requests of a log start at their times.
    Replay {
        /// The log.
        log: Arc<Log>,
        /// How much faster than it was.
        speed: f64,
        /// How often all of it.
        rounds: u64,
    },
}

impl Mode {
    /// Requests start at times that do not depend on the server.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self {
            Self::Closed => false,
            Self::Open { .. } | Self::Replay { .. } => true,
        }
    }

    /// The rate of arrivals per second over `measured`; none in a closed loop.
    pub(crate) fn mean_per_second(&self, measured: Duration) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Open { rate, .. } => Some(rate.mean_per_second(nanos(measured))),
            Self::Replay { log, speed, .. } => {
                Some(log.entries.len() as f64 / (log.span_ns() as f64 / 1e9) * speed)
            }
        }
    }

    /// An open loop at another rate.
    pub(crate) fn at_rate(&self, per_second: f64) -> Self {
        let process = match self {
            Self::Closed | Self::Replay { .. } => Process::default(),
            Self::Open { process, .. } => *process,
        };
        Self::Open {
            rate: RateSpec::constant(per_second),
            process,
        }
    }
}

/// What waits for the time of the next arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pacing {
    /// A kernel timer per arrival: late by tens of microseconds; costs a system call and a wake-up each.
    #[default]
    Precise,
    /// The runtime's wheel of 1 ms: late by up to about 1.5 ms; arrivals within a millisecond leave together.
    Frugal,
    /// Never sleeps: late by microseconds, and each thread uses its core fully. For cores that nobody else needs.
    Spin,
}

impl Pacing {
    /// As the argument has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Precise => "precise",
            Self::Frugal => "frugal",
            Self::Spin => "spin",
        }
    }
}

/// The statuses that are results and not errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// 2xx and 3xx.
    Success,
    /// Those and the status of a refusal: a limiter is being watched.
    SuccessOrLimited(u16),
    /// Exactly these.
    These(Vec<u16>),
}

impl Expected {
    /// Cost: a scan of the list, which is short.
    pub(crate) fn contains(&self, status: u16) -> bool {
        match self {
            Self::Success => (200..400).contains(&status),
            Self::SuccessOrLimited(limited) => (200..400).contains(&status) || status == *limited,
            Self::These(statuses) => statuses.contains(&status),
        }
    }
}

/// A kind of request.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: String,
    /// How often it is sent, among the weights of all kinds.
    pub(crate) weight: u32,
    pub(crate) template: Template,
    /// It is a HEAD request: no response has a body.
    pub(crate) head: bool,
    /// Statuses that are no errors.
    pub(crate) expected: Expected,
}

/// Runs up to this long are kept in slices of a tenth of a second.
const SLICED_MAX: Duration = Duration::from_secs(30);
/// The slice of a longer run.
const SECOND: Duration = Duration::from_secs(1);

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// Many requests on a connection.
    pub keep_alive: bool,
    /// What to send: one kind of request or a mix, never none.
    pub(crate) kinds: Vec<Kind>,
    /// Who sends it.
    pub keys: Option<Keys>,
    /// Where that shows.
    pub key_as: KeyAs,
    /// The limit that each key should get exactly.
    pub limit: Option<Limit>,
    /// The status of a refusal.
    pub limited: u16,
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

impl Plan {
    /// How often threads hand in what they counted: a second, or a tenth of one in a run that is known to be short.
    pub(crate) fn slice(&self) -> Duration {
        let whole = self
            .duration
            .map(|duration| duration.saturating_add(self.warmup));
        match whole {
            Some(whole) if whole <= SLICED_MAX => SECOND / 10,
            Some(_) | None => SECOND,
        }
    }
}
