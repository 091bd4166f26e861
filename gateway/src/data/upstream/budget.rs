//! How many requests may be sent again: a share of all requests, on each worker by itself.
//!
//! Every request earns a part of a retry, up to so many that are saved up; who has little traffic gets one in a second.

use std::cell::Cell;

/// One retry, in what requests earn.
const RETRY: u32 = 100;
/// Most that is saved up: 100 retries.
const SAVED_MAX: u32 = 100 * RETRY;
/// What there is at the start, and what the passing of time fills up to: 10 retries.
const RESERVE: u32 = 10 * RETRY;
/// What half a second is worth: half a retry.
const HALF_SECOND: u32 = RETRY / 2;

/// The retries that are left.
#[derive(Debug)]
pub(super) struct Budget(Cell<u32>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(RESERVE))
    }
}

impl Budget {
    /// A request began of which `share` in a hundred may be sent again.
    #[inline]
    pub(super) fn earn(&self, share: u8) {
        self.0.set((self.0.get() + u32::from(share)).min(SAVED_MAX));
    }

    /// Half a second has passed.
    pub(super) fn half_second(&self) {
        if self.0.get() < RESERVE {
            self.0.set(self.0.get() + HALF_SECOND);
        }
    }

    /// There is a retry left.
    pub(super) fn has_any(&self) -> bool {
        self.0.get() >= RETRY
    }

    /// Takes a retry; false: there is none.
    pub(super) fn spend(&self) -> bool {
        let left = self.0.get().checked_sub(RETRY);
        left.map(|left| self.0.set(left)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(budget: &Budget) -> usize {
        std::iter::repeat_with(|| budget.spend())
            .take_while(|&spent| spent)
            .count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_sent_again() {
        let budget = Budget::default();
        assert_eq!(spend_all(&budget), 10, "the reserve");
        (0..100).for_each(|_| budget.earn(20));
        assert_eq!(spend_all(&budget), 20);
        (0..1_000_000).for_each(|_| budget.earn(20));
        assert_eq!(spend_all(&budget), 100, "no more is saved up");
    }

    #[test]
    fn with_little_traffic_there_is_one_in_a_second() {
        let budget = Budget::default();
        spend_all(&budget);
        (0..10).for_each(|_| budget.half_second());
        assert_eq!(spend_all(&budget), 5);
        (0..1_000).for_each(|_| budget.half_second());
        assert_eq!(spend_all(&budget), 10, "not beyond the reserve");
    }
}
