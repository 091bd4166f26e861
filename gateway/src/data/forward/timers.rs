//! The times of an exchange: of its phases, and of the route.

use std::time::Duration;

use runtime::{Deadline, Expiry, TICK};

use crate::data::Why;
use crate::data::upstream::Pool;

/// What bounds an exchange in time.
#[derive(Clone, Copy)]
pub(super) struct Timers<'a> {
    pub(super) pool: &'a Pool,
    /// Tick at which the route's time is over.
    pub(super) route_until: Option<u64>,
    /// How long the response head may take.
    pub(super) first_byte: Duration,
}

impl Timers<'_> {
    /// Sets the upstream's deadline to the earlier of `phase` and what is left of the route's time.
    pub(super) fn set(&self, deadline: &Deadline<Why>, phase: Duration, why: Why) {
        match self.route_left(deadline.now()) {
            Some(left) if left < phase => deadline.set(left, Expiry::EndBoth, Why::Route),
            _ => deadline.set(phase, Expiry::EndBoth, why),
        }
    }

    /// What is left of the route's time at tick `now`, where it has one.
    pub(super) fn route_left(&self, now: u64) -> Option<Duration> {
        let ticks = self.route_until?.saturating_sub(now);
        Some(TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }

    /// Only the route's time runs.
    pub(super) fn nobody(&self, deadline: &Deadline<Why>) {
        match self.route_until {
            Some(_) => self.set(deadline, Duration::MAX, Why::Route),
            None => deadline.clear(Why::Busy),
        }
    }

    pub(super) fn first_byte(&self, deadline: &Deadline<Why>) {
        self.set(deadline, self.first_byte, Why::FirstByte);
    }

    pub(super) fn idle(&self, deadline: &Deadline<Why>) {
        self.set(
            deadline,
            self.pool.upstream().config.idle_timeout,
            Why::UpstreamIdle,
        );
    }
}

pub(super) fn ticks_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2)
}
