//! The numbers that metrics are made of: each has one writer, and anybody may read it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the histograms' buckets in nanoseconds: those that OpenTelemetry advises, and six below 5 ms.
pub const BUCKET_BOUNDS_NS: [u64; 20] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// A number with one writer. Relaxed throughout: no other memory is published through it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(super) fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    pub(super) fn sub(&self, n: u64) {
        debug_assert!(self.get() >= n, "a gauge went below zero");
        self.set(self.get().saturating_sub(n));
    }
}

/// Durations by bucket; the last bucket has no upper bound.
#[derive(Default)]
pub(super) struct Histogram {
    pub(super) buckets: [Counter; BUCKET_BOUNDS_NS.len() + 1],
    pub(super) sum_ns: Counter,
}

impl Histogram {
    pub(super) fn observe(&self, spent: Spent) {
        self.buckets[spent.bucket].add(1);
        self.sum_ns.add(spent.ns);
    }
}

/// A duration and its bucket, which is looked for once also where several histograms get it.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    ns: u64,
    bucket: usize,
}

impl From<Duration> for Spent {
    fn from(duration: Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // From the shortest: most requests are short, and their branches are guessed right.
        let over = BUCKET_BOUNDS_NS.iter().take_while(|bound| **bound < ns);
        Self {
            ns,
            bucket: over.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BUCKET_BOUNDS_NS, Histogram};

    #[test]
    fn a_bucket_holds_its_upper_bound() {
        for (bucket, bound) in BUCKET_BOUNDS_NS.iter().enumerate() {
            let histogram = Histogram::default();
            histogram.observe(Duration::from_nanos(*bound).into());
            histogram.observe(Duration::from_nanos(*bound + 1).into());
            assert_eq!(histogram.buckets[bucket].get(), 1);
            assert_eq!(histogram.buckets[bucket + 1].get(), 1);
        }
        assert!(BUCKET_BOUNDS_NS.is_sorted());
    }
}
