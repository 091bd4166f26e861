//! A run second by second: parts from the threads, put together when all have reported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Stats;

/// What one thread counted in one second.
#[derive(Debug)]
pub(crate) struct Part {
    /// Since the start of the run.
    pub(crate) second: u64,
    pub(crate) stats: Stats,
}

/// One second of a run. A response counts in the second in which it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// When it began, in seconds since the start of the warm-up.
    pub start_s: u64,
    /// Requests that ended in the warm-up part of it; the rest is about those of the measurement.
    pub warmup: u64,
    /// Complete responses.
    pub responses: u64,
    /// Errors.
    pub failed: u64,
    /// Median latency: from the intended start in an open loop, from the send in a closed one.
    pub p50_us: f64,
    /// 99 % are not above it.
    pub p99_us: f64,
    /// The largest latency.
    pub max_us: f64,
    /// 99th percentile of the generator's lag; 0 in a closed loop.
    pub lag_p99_us: f64,
}

/// Puts the parts of all threads together.
#[derive(Debug)]
pub(crate) struct Series {
    threads: u32,
    open_loop: bool,
    /// Seconds that some threads have not reported yet, with the number of those that have.
    pending: BTreeMap<u64, (u32, Stats)>,
    intervals: Vec<Interval>,
}

impl Series {
    pub(crate) fn new(threads: u32, open_loop: bool) -> Self {
        Self {
            threads,
            open_loop,
            pending: BTreeMap::new(),
            intervals: Vec::new(),
        }
    }

    /// Adds a part; the interval if it was the last part of one.
    pub(crate) fn add(&mut self, part: Part) -> Option<&Interval> {
        let reported = match self.pending.get_mut(&part.second) {
            Some((reported, stats)) => {
                stats.add(&part.stats);
                *reported += 1;
                *reported
            }
            None => {
                self.pending.insert(part.second, (1, part.stats));
                1
            }
        };
        if reported < self.threads {
            return None;
        }
        let (_, stats) = self.pending.remove(&part.second)?;
        self.intervals.push(self.interval(part.second, &stats));
        self.intervals.last()
    }

    /// All intervals in order, also those that some threads, which ended earlier, have nothing in.
    pub(crate) fn finish(mut self) -> Vec<Interval> {
        for (second, (_, stats)) in std::mem::take(&mut self.pending) {
            self.intervals.push(self.interval(second, &stats));
        }
        self.intervals.sort_by_key(|interval| interval.start_s);
        self.intervals
    }

    fn interval(&self, second: u64, stats: &Stats) -> Interval {
        let latency = stats.latency(self.open_loop);
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        Interval {
            start_s: second,
            warmup: stats.warmup_requests,
            responses: stats.responses(),
            failed: stats.failed(),
            p50_us: us(latency.value_at_quantile(0.5)),
            p99_us: us(latency.value_at_quantile(0.99)),
            max_us: us(latency.max()),
            lag_p99_us: us(stats.lag.value_at_quantile(0.99)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(second: u64, latency_ns: u64) -> Part {
        let mut stats = Stats::new(1);
        stats.at_once.record(latency_ns).unwrap();
        stats.count_status(200);
        Part { second, stats }
    }

    #[test]
    fn a_second_is_complete_when_every_thread_has_reported() {
        let mut series = Series::new(2, false);
        assert!(series.add(part(0, 1_000)).is_none());
        assert!(
            series.add(part(1, 5_000)).is_none(),
            "the other thread is behind"
        );
        let first = series.add(part(0, 3_000)).unwrap();
        assert_eq!((first.start_s, first.responses), (0, 2));
        assert!(
            (first.max_us - 3.0).abs() < 0.003,
            "to three digits: {}",
            first.max_us
        );
        let intervals = series.finish();
        let counts: Vec<_> = intervals
            .iter()
            .map(|interval| (interval.start_s, interval.responses))
            .collect();
        assert_eq!(counts, [(0, 2), (1, 1)]);
    }
}
