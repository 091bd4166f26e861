//! A run in pieces of time: parts from the threads, put together when all have reported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::{Stats, Times};

/// What one thread counted in one slice of time.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) thread: u32,
    /// Slices since the start of the run.
    pub(crate) slice: u64,
    pub(crate) stats: Stats,
    /// Nothing more comes from this thread.
    pub(crate) last: bool,
}

/// One second of a run. A response counts in the second in which it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// When it began, in seconds since the start of the warm-up.
    pub start_s: u64,
    /// What ended in it.
    #[serde(flatten)]
    pub ended: Ended,
    /// 99th percentile of the generator's lag; none in a closed loop.
    pub lag_p99_us: Option<f64>,
}

/// A slice of a run that is too short for whole seconds to say much.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// When it began, in milliseconds since the start of the warm-up.
    pub start_ms: u64,
    /// What ended in it.
    #[serde(flatten)]
    pub ended: Ended,
}

/// What ended in a piece of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Requests that ended in the warm-up part of it; the rest is about those of the measurement.
    pub warmup: u64,
    /// Complete responses.
    pub responses: u64,
    /// Errors.
    pub failed: u64,
    /// Median latency: from the intended start in an open loop, from the send in a closed one; none where nothing was
    /// measured.
    pub p50_us: Option<f64>,
    /// 90 % are not above it.
    pub p90_us: Option<f64>,
    /// 99 % are not above it.
    pub p99_us: Option<f64>,
    /// 99.9 % are not above it.
    pub p99_9_us: Option<f64>,
    /// The largest latency.
    pub max_us: Option<f64>,
}

impl Ended {
    fn of(stats: &Stats, open_loop: bool) -> Self {
        let latency = stats.latency(open_loop);
        Self {
            warmup: stats.warmup_requests,
            responses: stats.responses(),
            failed: stats.failed(),
            p50_us: quantile_us(&latency, 0.5),
            p90_us: quantile_us(&latency, 0.9),
            p99_us: quantile_us(&latency, 0.99),
            p99_9_us: quantile_us(&latency, 0.999),
            max_us: quantile_us(&latency, 1.0),
        }
    }

    const fn is_nothing(&self) -> bool {
        self.warmup + self.responses + self.failed == 0
    }
}

/// How long a slice is that is no second.
pub(crate) const SLICE_S: f64 = 0.1;

/// A whole run.
#[derive(Debug)]
pub(crate) struct Pieces {
    pub(crate) stats: Stats,
    pub(crate) intervals: Vec<Interval>,
    /// Empty where they would be whole seconds.
    pub(crate) slices: Vec<Slice>,
}

/// How things stand after one more second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) interval: &'a Interval,
    /// What happened in that second.
    pub(crate) second: &'a Stats,
    /// What happened so far.
    pub(crate) total: &'a Stats,
}

/// Puts the parts of all threads together.
#[derive(Debug)]
pub(crate) struct Series {
    open_loop: bool,
    slice_ms: u64,
    /// For each thread the first slice that it has not reported.
    next: Vec<u64>,
    /// Slices that some threads have not reported yet.
    pending: BTreeMap<u64, Stats>,
    /// The second that the last whole slice belongs to, as far as it is known.
    second: Option<(u64, Stats)>,
    whole: Pieces,
}

impl Series {
    /// For slices of `slice_ms`, which is 1000 or divides it.
    pub(crate) fn new(threads: u32, slice_ms: u64, open_loop: bool, kinds: usize) -> Self {
        debug_assert!(slice_ms > 0 && 1000 % slice_ms == 0);
        Self {
            open_loop,
            slice_ms,
            next: vec![0; usize::try_from(threads).unwrap_or(1)],
            pending: BTreeMap::new(),
            second: None,
            whole: Pieces {
                stats: Stats::new(kinds),
                intervals: Vec::new(),
                slices: Vec::new(),
            },
        }
    }

    /// Adds a part; `each_second` gets the seconds that it completes, `spare` what can be counted in again.
    pub(crate) fn add(
        &mut self,
        part: Part,
        spare: &mut Vec<Stats>,
        each_second: &mut dyn FnMut(Snapshot<'_>),
    ) {
        let thread = usize::try_from(part.thread).unwrap_or_default();
        if let Some(next) = self.next.get_mut(thread) {
            *next = if part.last { u64::MAX } else { part.slice + 1 };
        }
        match self.pending.get_mut(&part.slice) {
            Some(stats) => {
                stats.add(&part.stats);
                spare.push(part.stats);
            }
            None => {
                self.pending.insert(part.slice, part.stats);
            }
        }
        let used = spare.len();
        // A thread that was kept from running leaves slices out: it has nothing to say about those before its last.
        let whole_before = self.next.iter().copied().min().unwrap_or_default();
        while let Some(first) = self.pending.first_entry()
            && *first.key() < whole_before
        {
            let (slice, stats) = first.remove_entry();
            spare.extend(self.take(slice, stats, each_second));
        }
        let first_used = used.saturating_sub(1);
        spare.iter_mut().skip(first_used).for_each(Stats::clear);
    }

    /// A slice that nothing is added to any more; counts that are counted elsewhere now.
    fn take(
        &mut self,
        slice: u64,
        stats: Stats,
        each_second: &mut dyn FnMut(Snapshot<'_>),
    ) -> Vec<Stats> {
        let start_ms = slice * self.slice_ms;
        let start_s = start_ms / 1000;
        if self.slice_ms < 1000 {
            self.whole.slices.push(Slice {
                start_ms,
                ended: Ended::of(&stats, self.open_loop),
            });
        }
        let (second, mut used) = match self.second.take() {
            Some((current, mut second)) if current == start_s => {
                second.add(&stats);
                (second, vec![stats])
            }
            Some((current, before)) => {
                self.end_second(current, &before, each_second);
                (stats, vec![before])
            }
            None => (stats, Vec::new()),
        };
        if (start_ms + self.slice_ms).is_multiple_of(1000) {
            self.end_second(start_s, &second, each_second);
            used.push(second);
        } else {
            self.second = Some((start_s, second));
        }
        used
    }

    fn end_second(
        &mut self,
        start_s: u64,
        stats: &Stats,
        each_second: &mut dyn FnMut(Snapshot<'_>),
    ) {
        self.whole.stats.add(stats);
        let interval = Interval {
            start_s,
            ended: Ended::of(stats, self.open_loop),
            lag_p99_us: quantile_us(&stats.lag, 0.99),
        };
        each_second(Snapshot {
            interval: &interval,
            second: stats,
            total: &self.whole.stats,
        });
        self.whole.intervals.push(interval);
    }

    /// Everything, in order.
    pub(crate) fn finish(mut self, each_second: &mut dyn FnMut(Snapshot<'_>)) -> Pieces {
        for (slice, stats) in std::mem::take(&mut self.pending) {
            self.take(slice, stats, each_second);
        }
        if let Some((start_s, stats)) = self.second.take() {
            self.end_second(start_s, &stats, each_second);
        }
        // A thread's last part is often of a slice that had only just begun.
        let whole = &mut self.whole;
        while whole
            .intervals
            .pop_if(|last| last.ended.is_nothing())
            .is_some()
        {}
        while whole
            .slices
            .pop_if(|last| last.ended.is_nothing())
            .is_some()
        {}
        self.whole
    }
}

/// In microseconds; none of nothing.
pub(crate) fn quantile_us(times: &Times, quantile: f64) -> Option<f64> {
    (!times.is_empty()).then(|| times.value_at_quantile(quantile) as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(thread: u32, slice: u64, latency_ns: u64) -> Part {
        let mut stats = Stats::new(1);
        stats.at_once.record(latency_ns).unwrap();
        stats.count_status(200);
        Part {
            thread,
            slice,
            stats,
            last: false,
        }
    }

    fn last(part: Part) -> Part {
        Part { last: true, ..part }
    }

    /// The seconds that each part completed, and all of it.
    fn series(threads: u32, slice_ms: u64, parts: Vec<Part>) -> (Vec<Vec<u64>>, Pieces) {
        let mut series = Series::new(threads, slice_ms, false, 1);
        let mut told = Vec::new();
        for part in parts {
            let mut seconds = Vec::new();
            series.add(part, &mut Vec::new(), &mut |snapshot| {
                seconds.push(snapshot.interval.start_s);
            });
            told.push(seconds);
        }
        (told, series.finish(&mut |_| {}))
    }

    #[test]
    fn a_second_is_complete_when_every_thread_has_reported() {
        let parts = vec![part(0, 0, 1_000), part(0, 1, 5_000), part(1, 0, 3_000)];
        let (told, whole) = series(2, 1000, parts);
        assert_eq!(
            told,
            [vec![], vec![], vec![0]],
            "the other thread is behind"
        );
        let counts: Vec<_> = whole
            .intervals
            .iter()
            .map(|interval| (interval.start_s, interval.ended.responses))
            .collect();
        assert_eq!(counts, [(0, 2), (1, 1)]);
        let max_us = whole.intervals[0].ended.max_us.unwrap();
        assert!((max_us - 3.0).abs() < 0.003, "to three digits: {max_us}");
        assert_eq!(whole.stats.responses(), 3);
        assert!(whole.slices.is_empty(), "they are the seconds");
    }

    #[test]
    fn slices_add_up_to_seconds() {
        let parts = (0..12).map(|slice| part(0, slice, 1_000)).collect();
        let (told, whole) = series(1, 100, parts);
        assert_eq!(told[9], [0], "the tenth slice ends the second");
        assert_eq!(told.concat(), [0]);
        let counts: Vec<_> = whole
            .intervals
            .iter()
            .map(|one| one.ended.responses)
            .collect();
        assert_eq!(counts, [10, 2]);
        let starts: Vec<_> = whole.slices.iter().map(|slice| slice.start_ms).collect();
        assert_eq!(starts, (0..12).map(|slice| slice * 100).collect::<Vec<_>>());
    }

    #[test]
    fn a_thread_that_ended_or_left_slices_out_holds_nothing_up() {
        // Thread 1 ends in the second slice; thread 0 is kept from running for most of a second.
        let parts = vec![
            part(0, 0, 1_000),
            part(1, 0, 1_000),
            last(part(1, 1, 1_000)),
            part(0, 14, 1_000),
        ];
        let (told, whole) = series(2, 100, parts);
        assert_eq!(told, [vec![], vec![], vec![], vec![0]]);
        assert_eq!(whole.stats.responses(), 4);
        assert_eq!(whole.slices.len(), 3);
    }

    #[test]
    fn counts_are_used_again_empty() {
        let mut series = Series::new(2, 1000, false, 1);
        let mut spare = Vec::new();
        for slice in 0..100 {
            series.add(part(0, slice, 1_000), &mut spare, &mut |_| {});
            series.add(part(1, slice, 1_000), &mut spare, &mut |_| {});
        }
        assert_eq!(spare.len(), 200, "all of them");
        let left: u64 = spare
            .iter()
            .map(|one| one.responses() + one.at_once.len())
            .sum();
        assert_eq!(left, 0);
    }

    #[test]
    fn nothing_measured_has_no_latency() {
        let mut part = part(0, 0, 1_000);
        part.stats = Stats::new(1);
        part.stats.warmup_requests = 7;
        let (_, whole) = series(1, 1000, vec![part]);
        assert_eq!(
            (
                whole.intervals[0].ended.warmup,
                whole.intervals[0].ended.p50_us
            ),
            (7, None)
        );
    }
}
