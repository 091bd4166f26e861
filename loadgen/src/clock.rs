//! Time for the load generator: nanoseconds since the process made its clock.
//!
//! Schedules and framing take time as an argument and never read it; the send loop reads it once per event.

use std::time::{Duration, Instant};

/// A monotonic clock that all threads of a run share by copy, so that their readings can be compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is given"
    )]
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Nanoseconds since [`Clock::new`]. Cost: one vDSO call, some 25 to 45 ns.
    pub(crate) fn now_ns(&self) -> u64 {
        nanos(self.origin.elapsed())
    }
}

/// A duration in nanoseconds; `u64::MAX` (584 years) where it is longer.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
