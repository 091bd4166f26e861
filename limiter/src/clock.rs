//! Time as the limiter sees it: nanoseconds since a clock's origin, always an argument.
//!
//! Reading a clock costs more than a decision (20 to 45 ns against some 8), so callers read it once per request and pass
//! the value on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A moment, in nanoseconds since the origin of the clock that was read.
///
/// Moments of two clocks must not meet in one limiter. The range is 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero where `earlier` is the later one.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` later; the end of the range where that is beyond it.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// A source of timestamps that share one origin.
pub trait Clock {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The monotonic clock of the system; its origin is its creation.
///
/// Copies share the origin, so that workers may each hold one.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    origin: Instant,
}

impl MonotonicClock {
    /// A clock whose origin is now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that is passed on"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Timestamp {
        Timestamp(nanos(self.origin.elapsed()))
    }
}

/// A clock that stands still until it is told to move, for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub const fn new(start: Timestamp) -> Self {
        Self {
            nanos: AtomicU64::new(start.0),
        }
    }

    /// Moves the clock on; it stops at the end of the range.
    pub fn advance(&self, duration: Duration) {
        // Relaxed: the value carries no other data with it.
        let _previous = self
            .nanos
            .update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.saturating_add(nanos(duration))
            });
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, now: Timestamp) {
        // Relaxed: as in `advance`.
        self.nanos.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        // Relaxed: as in `advance`.
        Timestamp(self.nanos.load(Ordering::Relaxed))
    }
}

/// The nanoseconds of a duration; 584 years where it is longer.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
