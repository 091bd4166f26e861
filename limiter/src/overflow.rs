//! The overflow: buckets for keys that find no slot, one for many groups, never given to a single key.

use crate::places::scale;
use crate::sync::{AtomicU64, Ordering};
use crate::table::Rule;

/// A fixed array of buckets, chosen by the group of a key.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Overflow {
    buckets: Box<[AtomicU64]>,
    /// Zero as long as no bucket was ever charged, so that admissions need not look.
    used: AtomicU64,
    charges: AtomicU64,
}

impl Overflow {
    pub(crate) fn new(buckets: usize) -> Self {
        debug_assert!(buckets > 0, "every group needs a bucket");
        Self {
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
            used: AtomicU64::new(0),
            charges: AtomicU64::new(0),
        }
    }

    /// Says that a bucket is about to be charged.
    pub(crate) fn mark_used(&self) {
        // Relaxed: ordered before the reads of others by the fence that follows the charge.
        self.used.store(1, Ordering::Relaxed);
    }

    /// Counts a request that was let through.
    pub(crate) fn count(&self) {
        // Relaxed: a metric.
        self.charges.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were let through.
    pub(crate) fn charges(&self) -> u64 {
        // Relaxed: a metric.
        self.charges.load(Ordering::Relaxed)
    }

    /// The bucket from which a key of the group starts.
    pub(crate) fn inherited(&self, group: u32, rule: &impl Rule) -> u64 {
        // Relaxed: after the fence in `admit` neither is older than any charge whose look missed the claim.
        if self.used.load(Ordering::Relaxed) == 0 {
            rule.full()
        } else {
            self.bucket(group).load(Ordering::Relaxed)
        }
    }

    /// The bucket after `step`, or as it was when `step` refused, and which of both.
    pub(crate) fn advance(&self, group: u32, step: impl Fn(u64) -> Option<u64>) -> (u64, bool) {
        let word = self.bucket(group);
        // Relaxed: the word is all there is to the bucket; the fences around order it with the slots.
        let mut bucket = word.load(Ordering::Relaxed);
        loop {
            let Some(next) = step(bucket) else {
                return (bucket, false);
            };
            match word.compare_exchange_weak(bucket, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (next, true),
                Err(newer) => bucket = newer,
            }
        }
    }

    fn bucket(&self, group: u32) -> &AtomicU64 {
        &self.buckets[scale(u64::from(group) << 32, self.buckets.len())]
    }
}
