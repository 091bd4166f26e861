//! One bucket as arithmetic: the generic cell rate algorithm over one number, without any sharing.
//!
//! The number is the *theoretical arrival time* of ITU-T I.371 (Annex A, "virtual scheduling"): the moment at which the
//! bucket will be full again. What lies between now and then is the bucket's debt, and a request of `cost` units is
//! admitted when `debt + cost * interval` does not exceed the capacity. A bucket without debt equals a new one.
//!
//! The number counts in the steps of [`Quota`] modulo 2^64, its four low bits always zero, so it wraps: after 36 years
//! where a nanosecond is one tick, after 78 hours at 4,096 ticks. Only numbers within [`Bucket::window`] of the present
//! are debts; all others are the past. A bucket left alone for a whole wrap less that window would show a debt that it
//! does not have, for the length of the window; `Limiter::sweep` within the wrap prevents even that.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::clock::Timestamp;
use crate::quota::Quota;

/// Bursts that a bucket may owe at most, once costs are settled upwards.
const ARREARS_BURSTS_MAX: u64 = 4;
/// How far a clock reading may lie behind another one that the bucket has seen.
const CLOCK_BACK_MAX_NS: u64 = 60_000_000_000;

/// The rule of a quota at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket<'a> {
    quota: &'a Quota,
    now: u64,
}

impl<'a> Bucket<'a> {
    /// The rule of `quota` at `now`.
    pub(crate) const fn new(quota: &'a Quota, now: Timestamp) -> Self {
        // Wrapping is meant: a word is a position on a circle.
        Self {
            quota,
            now: now.as_nanos().wrapping_mul(quota.scale()),
        }
    }

    /// Its quota.
    pub(crate) const fn quota(&self) -> &'a Quota {
        self.quota
    }

    /// The word of a bucket that is full at this moment.
    pub(crate) const fn full(&self) -> u64 {
        self.now
    }

    /// What `word` owes at this moment, in word steps.
    pub(crate) const fn debt(&self, word: u64) -> u64 {
        let ahead = word.wrapping_sub(self.now);
        if ahead <= self.window() { ahead } else { 0 }
    }

    /// How long `word` has been full, in word steps; `None` while it owes something.
    pub(crate) fn idle(&self, word: u64) -> Option<u64> {
        (self.debt(word) == 0).then(|| self.now.wrapping_sub(word))
    }

    /// The word after `steps` were charged; `None` where the bucket does not hold them.
    pub(crate) const fn charge(&self, word: u64, steps: u64) -> Option<u64> {
        // Neither sum can overflow: the window and the steps of one burst are below 2^63 and 2^62.
        let debt = self.debt(word).saturating_add(steps);
        if debt <= self.quota.capacity() {
            Some(self.now.wrapping_add(debt))
        } else {
            None
        }
    }

    /// The word after `steps` were charged whether the bucket holds them or not, within the arrears allowed.
    pub(crate) fn overdraw(&self, word: u64, steps: u64) -> u64 {
        let debt = self.debt(word);
        let limit = self
            .quota
            .capacity()
            .saturating_mul(ARREARS_BURSTS_MAX)
            .max(debt);
        self.now.wrapping_add(debt.saturating_add(steps).min(limit))
    }

    /// The word after `steps` of a charge that ended at `charged` were given back; `None` where nothing is left of it.
    ///
    /// A charge occupies the time just before `charged`. What of it lies in the past has been refilled already and is not
    /// given a second time: without this, reserving a burst, waiting, using what refilled and giving the reservation back
    /// would admit a burst more than the quota.
    pub(crate) fn refund(&self, word: u64, charged: u64, steps: u64) -> Option<u64> {
        let back = steps.min(self.debt(charged)).min(self.debt(word));
        (back > 0).then(|| word.wrapping_sub(back))
    }

    /// The steps of `cost` units; `None` where no bucket of this quota ever holds so many.
    pub(crate) const fn steps(&self, cost: u64) -> Option<u64> {
        if cost <= self.quota.burst() {
            Some(cost.wrapping_mul(self.quota.interval()))
        } else {
            None
        }
    }

    /// How far ahead of the present a word may be.
    const fn window(&self) -> u64 {
        // Wrapping has no occasion: four times 2^61 and a minute of the finest ticks, some 2^52.
        let arrears = self.quota.capacity().wrapping_mul(ARREARS_BURSTS_MAX);
        arrears.wrapping_add(CLOCK_BACK_MAX_NS.wrapping_mul(self.quota.scale()))
    }
}
