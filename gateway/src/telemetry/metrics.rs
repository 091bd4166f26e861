//! Per-worker counters: one writer each, summed by whoever renders them.
//!
//! A worker counts with a plain load and store, both relaxed: no lock prefix, no line shared with another worker.
//! Readers see each value a little late and never torn, which is all that a scrape needs.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::counter::{Counter, Histogram, Spent};
use super::kinds::{
    AskOutcome, FilterOutcome, LimitOutcome, Method, NetworkOutcome, Timeout,
    UpstreamConnectionState as State, UpstreamError,
};
use super::series::{SERIES_MAX, Series, SeriesIndex, SeriesKey};

/// Reasons that a worker keeps of each kind: of refusals (a test holds that all have room), of what a listener only
/// counts, of what an upstream is forgiven.
pub const REASONS_MAX: usize = 160;

/// How many of each thing the configuration names; fixes the size of the counters.
#[derive(Clone, Copy, Debug)]
pub struct MetricsShape {
    /// Listeners.
    pub listeners: usize,
    /// Upstreams.
    pub upstreams: usize,
    /// Limits.
    pub limits: usize,
    /// Lists of networks.
    pub network_lists: usize,
    /// Filters of all kinds.
    pub filters: usize,
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
    pub(super) network_lists: Box<[NetworkCounters]>,
    pub(super) filters: Box<[FilterCounters]>,
    pub(super) upstreams: Box<[UpstreamCounters]>,
    pub(super) rejected: Reasons,
    pub(super) counted_only: Reasons,
    pub(super) tolerated: Reasons,
    pub(super) asked: Reasons,
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
            network_lists: filled(shape.network_lists),
            filters: filled(shape.filters),
            upstreams: filled(shape.upstreams),
            rejected: Reasons::new(),
            counted_only: Reasons::new(),
            tolerated: Reasons::new(),
            asked: Reasons::new(),
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

    /// An accept failed for want of something of the host's, such as descriptors.
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

    /// A request got its answer after `spent`, a `Duration` for one. `route`: its index, `None` if no route took it; `status`: 0 if the
    /// client left before it could be told one.
    pub fn request_finished(
        &self,
        route: Option<u16>,
        method: Method,
        status: u16,
        spent: impl Into<Spent>,
    ) {
        let key = SeriesKey::new(route, method, status);
        match self.series(key) {
            Some(series) => series.durations.observe(spent.into()),
            None => self.shared.series_overflow.add(1),
        }
    }

    /// A request did not get what it asked for; `reason` is a stable identifier.
    pub fn rejected(&self, reason: &'static str) {
        self.count(&self.shared.rejected, 0, reason);
    }

    /// A request broke a rule that its listener only counts.
    pub fn counted_only(&self, listener: usize, reason: &'static str) {
        self.count(&self.shared.counted_only, listener, reason);
    }

    /// A response was forwarded in spite of a fault that its upstream is forgiven.
    pub fn response_tolerated(&self, upstream: usize, fault: &'static str) {
        self.count(&self.shared.tolerated, upstream, fault);
    }

    /// An authenticator elsewhere was asked.
    pub fn asked(&self, authenticator: usize, outcome: AskOutcome) {
        self.count(&self.shared.asked, authenticator, outcome.name());
    }

    fn count(&self, reasons: &Reasons, of: usize, name: &'static str) {
        if !reasons.count(of, name) {
            self.shared.series_overflow.add(1);
        }
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

    /// A list of networks decided.
    pub fn network_decided(&self, list: usize, outcome: NetworkOutcome) {
        if let Some(list) = at(&self.shared.network_lists, list) {
            list.outcomes[outcome as usize].add(1);
        }
    }

    /// A filter decided.
    pub fn filter_decided(&self, filter: usize, outcome: FilterOutcome) {
        if let Some(filter) = at(&self.shared.filters, filter) {
            filter.outcomes[outcome as usize].add(1);
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

    /// An upstream answered completely, `spent` after the request began.
    pub fn upstream_finished(&self, upstream: usize, spent: impl Into<Spent>) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.durations.observe(spent.into());
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

    /// A request was not sent again, since too many were.
    pub fn retry_budget_exhausted(&self, upstream: usize) {
        if let Some(upstream) = at(&self.shared.upstreams, upstream) {
            upstream.budget_exhausted.add(1);
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
    /// For each authenticator.
    credential_loads: Box<[CredentialLoads]>,
    /// For each authenticator.
    key_sets: Box<[KeySetCounts]>,
}

/// A set of keys that is fetched.
#[derive(Debug, Default)]
pub struct KeySetCounts {
    watched: AtomicBool,
    pub(super) early: AtomicU64,
    pub(super) keys: AtomicU64,
    pub(super) fetched_at: AtomicU64,
}

impl KeySetCounts {
    /// There is one: its numbers are shown.
    pub fn watched(&self) {
        self.watched.store(true, Relaxed);
    }

    /// A token had it fetched before its time.
    pub fn early_fetch(&self) {
        self.early.fetch_add(1, Relaxed);
    }

    /// It holds so many keys, as of this second of Unix time.
    pub fn fetched(&self, keys: usize, at: u64) {
        self.keys.store(keys as u64, Relaxed);
        self.fetched_at.store(at, Relaxed);
    }

    /// It is too old to be used.
    pub fn given_up(&self) {
        self.keys.store(0, Relaxed);
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Relaxed)
    }
}

/// How often what an authenticator knows was read again.
#[derive(Debug, Default)]
struct CredentialLoads {
    ok: AtomicU64,
    failed: AtomicU64,
}

impl ProcessMetrics {
    /// Counts for so many authenticators.
    #[must_use]
    pub fn new(authenticators: usize) -> Self {
        Self {
            credential_loads: filled(authenticators),
            key_sets: filled(authenticators),
            ..Self::default()
        }
    }

    /// What an authenticator knows was read again, or could not be.
    pub fn credentials_loaded(&self, authenticator: usize, ok: bool) {
        if let Some(loads) = at(&self.credential_loads, authenticator) {
            let count = if ok { &loads.ok } else { &loads.failed };
            count.fetch_add(1, Relaxed);
        }
    }

    /// The set of keys of an authenticator.
    #[must_use]
    pub fn key_set(&self, authenticator: usize) -> Option<&KeySetCounts> {
        at(&self.key_sets, authenticator)
    }

    /// Loads of each authenticator: those that succeeded, and those that failed.
    pub(super) fn credential_loads(&self) -> impl Iterator<Item = [u64; 2]> {
        let loads = self.credential_loads.iter();
        loads.map(|loads| [loads.ok.load(Relaxed), loads.failed.load(Relaxed)])
    }

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
pub(super) struct NetworkCounters {
    pub(super) outcomes: [Counter; NetworkOutcome::ALL.len()],
}

#[derive(Default)]
#[repr(align(128))]
pub(super) struct FilterCounters {
    pub(super) outcomes: [Counter; FilterOutcome::ALL.len()],
}

#[derive(Default)]
#[repr(align(128))]
pub(super) struct UpstreamCounters {
    pub(super) connections: [Counter; State::ALL.len()],
    pub(super) opened: Counter,
    pub(super) reused: Counter,
    pub(super) errors: [Counter; UpstreamError::ALL.len()],
    pub(super) retries: [Counter; UpstreamError::ALL.len()],
    pub(super) budget_exhausted: Counter,
    pub(super) durations: Histogram,
}

/// Counts by a reason and the index of whom it concerns; slots are taken as reasons appear.
pub(super) struct Reasons(Box<[OnceLock<Reason>]>);

pub(super) struct Reason {
    pub(super) of: usize,
    pub(super) name: &'static str,
    pub(super) count: Counter,
}

impl Reasons {
    fn new() -> Self {
        Self(filled(REASONS_MAX))
    }

    /// False: there is no room for another reason.
    fn count(&self, of: usize, name: &'static str) -> bool {
        for slot in &self.0 {
            let slot = slot.get_or_init(|| Reason {
                of,
                name,
                count: Counter::default(),
            });
            if slot.of == of && slot.name == name {
                slot.count.add(1);
                return true;
            }
        }
        false
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reason> {
        self.0.iter().map_while(OnceLock::get)
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

    use super::{MetricsShape, SERIES_MAX, WorkerMetrics};
    use crate::telemetry::Method;

    const SHAPE: MetricsShape = MetricsShape {
        listeners: 1,
        upstreams: 1,
        limits: 1,
        network_lists: 0,
        filters: 0,
    };

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
}
