//! Whether an endpoint is to get requests: what checks and failed requests have found, shared by all threads.
//!
//! Written only when something changes; workers read it when the upstream's epoch has moved. All orderings but the epoch's are
//! relaxed: the epoch's release and acquire carry what was written before.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::balance::SHARE_WHOLE;
use super::endpoint::Upstream;

/// A check found it out of order.
const FAILS_CHECKS: u32 = 1;
/// It failed requests and is left out for a time.
const EJECTED: u32 = 2;

/// What is known of one endpoint.
#[derive(Debug)]
pub(super) struct Health {
    /// Why it gets nothing; 0: it does.
    out: AtomicU32,
    /// Part of its weight that it has, in thousandths.
    share: AtomicU32,
    /// Failures in a row.
    failures: AtomicU32,
    ejections: AtomicU64,
    checks_passed: AtomicU64,
    checks_failed: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            out: AtomicU32::new(0),
            share: AtomicU32::new(SHARE_WHOLE),
            failures: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
            checks_passed: AtomicU64::new(0),
            checks_failed: AtomicU64::new(0),
        }
    }
}

/// What an endpoint's health is at a moment, for who shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSample {
    /// Checks find it out of order.
    pub fails_checks: bool,
    /// It failed requests and is left out for a time.
    pub ejected: bool,
    /// Part of its weight that it has, in thousandths.
    pub share: u32,
    /// Times that it was ejected.
    pub ejections: u64,
    /// Checks that it passed.
    pub checks_passed: u64,
    /// Checks that it failed.
    pub checks_failed: u64,
}

impl HealthSample {
    /// It gets requests.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        !self.fails_checks && !self.ejected
    }
}

impl Health {
    pub(super) fn is_up(&self) -> bool {
        self.out.load(Relaxed) == 0
    }

    pub(super) fn share(&self) -> u32 {
        self.share.load(Relaxed)
    }

    pub(super) fn sample(&self) -> HealthSample {
        let out = self.out.load(Relaxed);
        HealthSample {
            fails_checks: out & FAILS_CHECKS != 0,
            ejected: out & EJECTED != 0,
            share: self.share(),
            ejections: self.ejections.load(Relaxed),
            checks_passed: self.checks_passed.load(Relaxed),
            checks_failed: self.checks_failed.load(Relaxed),
        }
    }
}

/// What a worker met at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// It could not be reached, broke off, was late or sent no HTTP.
    Failure,
    /// A response with this status.
    Response(u16),
}

impl Upstream {
    /// Notes what a request met, for `outlier`. A load where all is well.
    #[inline]
    pub fn met(&self, endpoint: usize, met: Met) {
        if let Some(outlier) = &self.config.outlier {
            let failed = match met {
                Met::Failure => true,
                Met::Response(status) => outlier.statuses.contains(&status),
            };
            let health = &self.endpoints[endpoint].health;
            if failed {
                self.failed(endpoint, outlier.failures.get());
            } else if health.failures.load(Relaxed) != 0 {
                health.failures.store(0, Relaxed);
            }
        }
    }

    #[cold]
    fn failed(&self, endpoint: usize, most: u32) {
        let health = &self.endpoints[endpoint].health;
        let failures = health.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failures < most || health.out.load(Relaxed) & EJECTED != 0 {
            return;
        }
        let may = self.ejected_max();
        let one_more = |ejected| (ejected < may).then_some(ejected + 1);
        if self
            .ejected
            .fetch_update(Relaxed, Relaxed, one_more)
            .is_err()
        {
            return;
        }
        if health.out.fetch_or(EJECTED, Relaxed) & EJECTED == 0 {
            health.ejections.fetch_add(1, Relaxed);
            self.changed();
        } else {
            // Another worker was first.
            self.ejected.fetch_sub(1, Relaxed);
        }
    }

    /// How many may be ejected at once.
    fn ejected_max(&self) -> usize {
        let share = self
            .config
            .outlier
            .as_ref()
            .map_or(0, |outlier| outlier.max_ejected);
        match self.endpoints.len() {
            0 | 1 => 0,
            count => (count * usize::from(share) / 100).max(1),
        }
    }

    /// Lets an endpoint back in that was ejected.
    pub fn readmit(&self, endpoint: usize) {
        let health = &self.endpoints[endpoint].health;
        health.failures.store(0, Relaxed);
        if health.out.fetch_and(!EJECTED, Relaxed) & EJECTED != 0 {
            self.ejected.fetch_sub(1, Relaxed);
            self.changed();
        }
    }

    /// Counts a check.
    pub fn checked(&self, endpoint: usize, passed: bool) {
        let health = &self.endpoints[endpoint].health;
        let count = match passed {
            true => &health.checks_passed,
            false => &health.checks_failed,
        };
        count.fetch_add(1, Relaxed);
    }

    /// What checks have found of an endpoint from now on.
    pub fn set_fails_checks(&self, endpoint: usize, fails: bool) {
        let out = &self.endpoints[endpoint].health.out;
        match fails {
            true => out.fetch_or(FAILS_CHECKS, Relaxed),
            false => out.fetch_and(!FAILS_CHECKS, Relaxed),
        };
        self.changed();
    }

    /// Gives an endpoint part of its weight, in thousandths, at least one and at most all of them.
    pub fn set_share(&self, endpoint: usize, share: u32) {
        let share = share.clamp(1, SHARE_WHOLE);
        self.endpoints[endpoint].health.share.store(share, Relaxed);
        self.changed();
    }
}
