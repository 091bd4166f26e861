//! Per-worker counters: one writer each, summed by whoever renders them.
//!
//! A worker counts with a plain load and store, both relaxed: no lock prefix, no line shared with another worker.
//! Readers see each value a little late and never torn, which is all that a scrape needs.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::kinds::{
    LimitOutcome, Method, Timeout, UpstreamConnectionState as State, UpstreamError,
};

/// Series of (route, method, status) that a worker keeps; observations beyond them are only counted.
pub const SERIES_MAX: usize = 1024;
/// Reasons of refusals that a worker keeps.
pub const REASONS_MAX: usize = 64;
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

/// How many of each thing the configuration names; fixes the size of the counters.
#[derive(Clone, Copy, Debug)]
pub struct MetricsShape {
    /// Listeners.
    pub listeners: usize,
    /// Upstreams.
    pub upstreams: usize,
    /// Limits.
    pub limits: usize,
}

/// The counters of one worker. Everybody may read them; [`WorkerMetrics::writer`] gives the right to count.
///
/// Every block that a worker writes to starts its own pair of cache lines (the prefetcher takes two).
#[repr(align(128))]
pub struct WorkerMetrics {
    pub(super) active_requests: Counter,
    pub(super) received_bytes: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) panics: Counter,
    pub(super) log_dropped: Counter,
    pub(super) series_overflow: Counter,
    pub(super) timeouts: [Counter; Timeout::ALL.len()],
    pub(super) worker: usize,
    pub(super) driver: OnceLock<Driver>,
    pub(super) listeners: Box<[ListenerCounters]>,
    pub(super) limits: Box<[LimitCounters]>,
    pub(super) upstreams: Box<[UpstreamCounters]>,
    pub(super) reasons: Box<[OnceLock<Reason>]>,
    pub(super) series: Box<[OnceLock<Box<Series>>]>,
}

impl WorkerMetrics {
    /// Counters at zero for the worker with this index. Allocates all but the series, which come as they are needed.
    #[must_use]
    pub fn new(worker: usize, shape: MetricsShape) -> Arc<Self> {
        Arc::new(Self {
            active_requests: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            panics: Counter::default(),
            log_dropped: Counter::default(),
            series_overflow: Counter::default(),
            timeouts: Default::default(),
            worker,
            driver: OnceLock::new(),
            listeners: filled(shape.listeners),
            limits: filled(shape.limits),
            upstreams: filled(shape.upstreams),
            reasons: filled(REASONS_MAX),
            series: filled(SERIES_MAX),
        })
    }

    /// The right to count. Gauges start again at zero: what an earlier writer had open died with its thread.
    ///
    /// Only one writer may live at a time, and a replaced worker's thread must have ended before the next one calls
    /// this. Two would lose each other's counts; nothing worse happens.
    #[must_use]
    pub fn writer(self: &Arc<Self>) -> MetricsWriter {
        self.active_requests.set(0);
        for listener in &self.listeners {
            listener.open.set(0);
        }
        for upstream in &self.upstreams {
            upstream.connections.iter().for_each(|gauge| gauge.set(0));
        }
        let index = SeriesIndex::default();
        for (slot, series) in self.series.iter().map_while(OnceLock::get).enumerate() {
            index.insert(series.key, slot);
        }
        MetricsWriter {
            shared: Arc::clone(self),
            index,
        }
    }
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerMetrics")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

/// Counts for one worker; stays on its thread.
///
/// Every call costs a few loads and stores and never waits. Only the first request of a (route, method, status) and
/// the first use of a reason allocate. An index out of the shape counts nothing (and fails a debug build).
pub struct MetricsWriter {
    shared: Arc<WorkerMetrics>,
    index: SeriesIndex,
}

impl MetricsWriter {
    /// States the driver that the worker runs on, once: `io_uring` or `epoll`, and the ring flags in use.
    pub fn driver(&self, name: &'static str, flags: String) {
        // A replacement starts as its predecessor did; the first statement stands.
        drop(self.shared.driver.set(Driver { name, flags }));
    }

    /// A downstream connection was accepted.
    pub fn connection_opened(&self, listener: usize) {
        if let Some(listener) = at(&self.shared.listeners, listener) {
            listener.accepted.add(1);
            listener.open.add(1);
        }
    }

    /// A downstream connection ended.
    pub fn connection_closed(&self, listener: usize) {
        if let Some(listener) = at(&self.shared.listeners, listener) {
            listener.open.sub(1);
        }
    }

    /// An accept failed.
    pub fn accept_failed(&self, listener: usize) {
        if let Some(listener) = at(&self.shared.listeners, listener) {
            listener.accept_errors.add(1);
        }
    }

    /// A connection ended by a panic.
    pub fn connection_panicked(&self) {
        self.shared.panics.add(1);
    }

    /// Bytes came from a client.
    pub fn received(&self, bytes: u64) {
        self.shared.received_bytes.add(bytes);
    }

    /// Bytes went to a client.
    pub fn sent(&self, bytes: u64) {
        self.shared.sent_bytes.add(bytes);
    }

    /// A request began; [`Self::request_ended`] must follow, also when its task panics.
    pub fn request_began(&self) {
        self.shared.active_requests.add(1);
    }

    /// A request is over.
    pub fn request_ended(&self) {
        self.shared.active_requests.sub(1);
    }

    /// A request got its answer after `duration`. `route`: its index, `None` if no route took it; `status`: 0 if the
    /// client left before it could be told one.
    pub fn request_finished(
        &self,
        route: Option<u16>,
        method: Method,
        status: u16,
        duration: Duration,
    ) {
        let key = SeriesKey::new(route, method, status);
        match self.series(key) {
            Some(series) => series.durations.observe(duration),
            None => self.shared.series_overflow.add(1),
        }
    }

    /// A request was refused for `reason`, a stable identifier.
    pub fn rejected(&self, reason: &'static str) {
        for slot in &self.shared.reasons {
            let slot = slot.get_or_init(|| Reason {
                name: reason,
                count: Counter::default(),
            });
            if slot.name == reason {
                slot.count.add(1);
                return;
            }
        }
        self.shared.series_overflow.add(1);
    }

    /// A deadline passed.
    pub fn timed_out(&self, kind: Timeout) {
        self.shared.timeouts[kind as usize].add(1);
    }

    /// A limit decided.
    pub fn limit_decided(&self, limit: usize, outcome: LimitOutcome) {
        if let Some(limit) = at(&self.shared.limits, limit) {
            limit.outcomes[outcome as usize].add(1);
        }
    }

    /// An upstream connection was established and is in use.
    pub fn upstream_connection_opened(&self, upstream: usize) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.opened.add(1);
            upstream.connections[State::Active as usize].add(1);
        }
    }

    /// An upstream connection went back to its pool.
    pub fn upstream_connection_pooled(&self, upstream: usize) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.connections[State::Active as usize].sub(1);
            upstream.connections[State::Idle as usize].add(1);
        }
    }

    /// An upstream connection was taken from its pool.
    pub fn upstream_connection_reused(&self, upstream: usize) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.reused.add(1);
            upstream.connections[State::Idle as usize].sub(1);
            upstream.connections[State::Active as usize].add(1);
        }
    }

    /// An upstream connection was closed, in use or in its pool.
    pub fn upstream_connection_closed(&self, upstream: usize, state: State) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.connections[state as usize].sub(1);
        }
    }

    /// An upstream answered completely, `duration` after the lease.
    pub fn upstream_finished(&self, upstream: usize, duration: Duration) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.durations.observe(duration);
        }
    }

    /// An exchange failed on the upstream's side.
    pub fn upstream_failed(&self, upstream: usize, error: UpstreamError) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.errors[error as usize].add(1);
        }
    }

    /// A request is sent again because of `reason`.
    pub fn upstream_retried(&self, upstream: usize, reason: UpstreamError) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.retries[reason as usize].add(1);
        }
    }

    /// An access record found its ring full.
    pub fn access_log_dropped(&self) {
        self.shared.log_dropped.add(1);
    }

    fn series(&self, key: SeriesKey) -> Option<&Series> {
        let slot = self.index.find(key).or_else(|| {
            let slot = self.index.len();
            let series = Series {
                key,
                durations: Histogram::default(),
            };
            self.shared.series.get(slot)?.set(Box::new(series)).ok()?;
            self.index.insert(key, slot);
            Some(slot)
        })?;
        self.shared.series.get(slot)?.get().map(Box::as_ref)
    }
}

impl fmt::Debug for MetricsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsWriter")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// What the control plane counts; every thread may.
#[derive(Debug, Default)]
pub struct ProcessMetrics {
    pub(super) worker_restarts: AtomicU64,
    pub(super) resolve_failures: AtomicU64,
    pub(super) log_lost: AtomicU64,
}

impl ProcessMetrics {
    /// A dead worker was replaced.
    pub fn worker_restarted(&self) {
        self.worker_restarts.fetch_add(1, Relaxed);
    }

    /// A name could not be resolved.
    pub fn resolve_failed(&self) {
        self.resolve_failures.fetch_add(1, Relaxed);
    }

    /// The log's sink did not take so many records.
    pub fn access_log_lost(&self, records: u64) {
        self.log_lost.fetch_add(records, Relaxed);
    }

    /// Names that could not be resolved.
    #[must_use]
    pub fn resolve_failures_total(&self) -> u64 {
        self.resolve_failures.load(Relaxed)
    }

    /// Records that the log's sink did not take.
    #[must_use]
    pub fn access_log_lost_total(&self) -> u64 {
        self.log_lost.load(Relaxed)
    }
}

/// A number with one writer. Relaxed throughout: no other memory is published through it.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    fn sub(&self, n: u64) {
        debug_assert!(self.get() >= n, "a gauge went below zero");
        self.set(self.get().saturating_sub(n));
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
pub(super) struct Driver {
    pub(super) name: &'static str,
    pub(super) flags: String,
}

#[derive(Default)]
#[repr(align(128))]
pub(super) struct ListenerCounters {
    pub(super) open: Counter,
    pub(super) accepted: Counter,
    pub(super) accept_errors: Counter,
}

#[derive(Default)]
#[repr(align(128))]
pub(super) struct LimitCounters {
    pub(super) outcomes: [Counter; LimitOutcome::ALL.len()],
}

#[derive(Default)]
#[repr(align(128))]
pub(super) struct UpstreamCounters {
    pub(super) connections: [Counter; State::ALL.len()],
    pub(super) opened: Counter,
    pub(super) reused: Counter,
    pub(super) errors: [Counter; UpstreamError::ALL.len()],
    pub(super) retries: [Counter; UpstreamError::ALL.len()],
    pub(super) durations: Histogram,
}

pub(super) struct Reason {
    pub(super) name: &'static str,
    pub(super) count: Counter,
}

#[repr(align(128))]
pub(super) struct Series {
    pub(super) key: SeriesKey,
    pub(super) durations: Histogram,
}

/// Durations by bucket; the last bucket has no upper bound.
#[derive(Default)]
pub(super) struct Histogram {
    pub(super) buckets: [Counter; BUCKET_BOUNDS_NS.len() + 1],
    pub(super) sum_ns: Counter,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKET_BOUNDS_NS.partition_point(|bound| *bound < ns);
        self.buckets[bucket].add(1);
        self.sum_ns.add(ns);
    }
}

/// Route, method and status in one word, in the order of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesKey(u32);

impl SeriesKey {
    const NO_ROUTE: u16 = u16::MAX;
    const STATUS_BITS: u32 = 10;
    const METHOD_BITS: u32 = 4;

    fn new(route: Option<u16>, method: Method, status: u16) -> Self {
        const { assert!(Method::ALL.len() <= 1 << Self::METHOD_BITS) };
        debug_assert!(status < 1 << Self::STATUS_BITS && route != Some(Self::NO_ROUTE));
        let status = u32::from(status) & ((1 << Self::STATUS_BITS) - 1);
        let route = u32::from(route.unwrap_or(Self::NO_ROUTE));
        Self((((route << Self::METHOD_BITS) | method as u32) << Self::STATUS_BITS) | status)
    }

    pub(super) fn route(self) -> Option<u16> {
        let route = u16::try_from(self.0 >> (Self::METHOD_BITS + Self::STATUS_BITS)).ok()?;
        (route != Self::NO_ROUTE).then_some(route)
    }

    pub(super) fn method(self) -> Method {
        let number = (self.0 >> Self::STATUS_BITS) & ((1 << Self::METHOD_BITS) - 1);
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        Method::from_number(number).unwrap_or(Method::Other)
    }

    pub(super) fn status(self) -> u32 {
        self.0 & ((1 << Self::STATUS_BITS) - 1)
    }
}

/// A key and its slot.
type Entry = (SeriesKey, u16);

/// Where a series is: an open-addressed table at most half full, for the writer's eyes only.
struct SeriesIndex {
    entries: Box<[Cell<Option<Entry>>]>,
    len: Cell<usize>,
}

impl SeriesIndex {
    const ENTRIES: usize = SERIES_MAX * 2;

    fn len(&self) -> usize {
        self.len.get()
    }

    fn find(&self, key: SeriesKey) -> Option<usize> {
        let (found, slot) = self.entries[self.entry(key)].get()?;
        debug_assert_eq!(found, key);
        Some(usize::from(slot))
    }

    fn insert(&self, key: SeriesKey, slot: usize) {
        let entry = &self.entries[self.entry(key)];
        debug_assert!(entry.get().is_none() && slot < SERIES_MAX);
        if let Ok(slot) = u16::try_from(slot) {
            entry.set(Some((key, slot)));
            self.len.set(self.len() + 1);
        }
    }

    /// The entry that holds `key`, or the free one where it would go.
    fn entry(&self, key: SeriesKey) -> usize {
        const { assert!(Self::ENTRIES.is_power_of_two() && SERIES_MAX <= 1 << 16) };
        // Fibonacci hashing; keys are made by the configuration and the protocol, not by clients.
        let hash = key.0.wrapping_mul(0x9E37_79B9) >> (u32::BITS - Self::ENTRIES.ilog2());
        let mut entry = hash as usize;
        while self.entries[entry]
            .get()
            .is_some_and(|(other, _)| other != key)
        {
            entry = (entry + 1) % Self::ENTRIES;
        }
        entry
    }
}

impl Default for SeriesIndex {
    fn default() -> Self {
        Self {
            entries: filled(Self::ENTRIES),
            len: Cell::new(0),
        }
    }
}

fn filled<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

fn at<T>(counters: &[T], index: usize) -> Option<&T> {
    debug_assert!(index < counters.len(), "no counters for index {index}");
    counters.get(index)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{BUCKET_BOUNDS_NS, Histogram, MetricsShape, SERIES_MAX, SeriesKey, WorkerMetrics};
    use crate::telemetry::Method;

    const SHAPE: MetricsShape = MetricsShape {
        listeners: 1,
        upstreams: 1,
        limits: 1,
    };

    #[test]
    fn a_bucket_holds_its_upper_bound() {
        for (bucket, bound) in BUCKET_BOUNDS_NS.iter().enumerate() {
            let histogram = Histogram::default();
            histogram.observe(Duration::from_nanos(*bound));
            histogram.observe(Duration::from_nanos(*bound + 1));
            assert_eq!(histogram.buckets[bucket].get(), 1);
            assert_eq!(histogram.buckets[bucket + 1].get(), 1);
        }
        assert!(BUCKET_BOUNDS_NS.is_sorted());
    }

    #[test]
    fn series_are_bounded_and_what_is_beyond_is_counted() {
        let metrics = WorkerMetrics::new(0, SHAPE);
        let writer = metrics.writer();
        let extra = 7;
        for _ in 0..2 {
            for number in 0..SERIES_MAX + extra {
                let route = Some(u16::try_from(number).unwrap());
                writer.request_finished(route, Method::Get, 200, Duration::ZERO);
            }
        }
        assert_eq!(metrics.series_overflow.get(), 2 * extra as u64);
        for (number, slot) in metrics.series.iter().enumerate() {
            let series = slot.get().unwrap();
            assert_eq!(series.key.route().map(usize::from), Some(number));
            assert_eq!(series.durations.buckets[0].get(), 2);
        }
    }

    #[test]
    fn a_second_writer_goes_on_counting_and_starts_its_gauges_anew() {
        let metrics = WorkerMetrics::new(0, SHAPE);
        let first = metrics.writer();
        first.request_began();
        first.connection_opened(0);
        first.upstream_connection_opened(0);
        first.request_finished(Some(1), Method::Get, 200, Duration::ZERO);
        drop(first);
        let second = metrics.writer();
        second.request_finished(Some(1), Method::Get, 200, Duration::ZERO);
        assert_eq!(metrics.active_requests.get(), 0);
        assert_eq!(metrics.listeners[0].open.get(), 0);
        assert_eq!(metrics.listeners[0].accepted.get(), 1);
        assert_eq!(metrics.upstreams[0].connections[0].get(), 0);
        assert_eq!(
            metrics.series[0].get().unwrap().durations.buckets[0].get(),
            2
        );
        assert!(metrics.series[1].get().is_none());
    }

    proptest! {
        #[test]
        fn a_series_key_gives_back_its_parts(
            route in prop::option::of(0..u16::MAX),
            method in 0..Method::ALL.len(),
            status in 0..1000u16,
        ) {
            let key = SeriesKey::new(route, Method::ALL[method], status);
            prop_assert_eq!(key.route(), route);
            prop_assert_eq!(key.method(), Method::ALL[method]);
            prop_assert_eq!(key.status(), u32::from(status));
        }
    }
}
