//! Counters as Prometheus text, format 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use super::UpstreamSamples;
use super::counter::{BUCKET_BOUNDS_NS, Counter, Histogram};
use super::kinds::{
    FilterOutcome, LimitOutcome, NetworkOutcome, Timeout, UpstreamConnectionState, UpstreamError,
};
use super::metrics::{
    KeySetCounts, ListenerCounters, ProcessMetrics, Reasons, UpstreamCounters, WorkerMetrics,
};
use super::names::{self, Metric};
use super::process::ProcessSample;

/// The value of `Content-Type` that goes with [`render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names by index, as the configuration gives them.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// Listeners.
    pub listeners: Vec<String>,
    /// Routes.
    pub routes: Vec<String>,
    /// Upstreams.
    pub upstreams: Vec<String>,
    /// Limits.
    pub limits: Vec<String>,
    /// Lists of networks.
    pub network_lists: Vec<String>,
    /// Filters of all kinds: the section that each is of, and its name there.
    pub filters: Vec<(&'static str, String)>,
    /// Authenticators.
    pub authenticators: Vec<String>,
}

/// How full the tables of a limit are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSample {
    /// Keys that have used units not refilled yet.
    pub keys: u64,
    /// Keys that there is memory for.
    pub capacity_keys: u64,
    /// Requests let through on the bucket of a group, since the start.
    pub overflowed: u64,
}

/// Everything that can be scraped; `limits` in the order of the labels. Costs time and memory linear in the number of series; for the control thread only.
#[must_use]
pub fn render(
    workers: &[Arc<WorkerMetrics>],
    process: &ProcessMetrics,
    labels: &Labels,
    limits: &[LimitSample],
    upstream_samples: &UpstreamSamples,
    sample: &ProcessSample,
) -> String {
    let mut page = Page {
        text: String::with_capacity(16 * 1024),
    };
    requests(&mut page, workers, labels);
    connections(&mut page, workers, labels);
    refusals(&mut page, workers, labels);
    tables(&mut page, limits, labels);
    networks(&mut page, workers, labels);
    filters(&mut page, workers, labels);
    upstreams(&mut page, workers, labels);
    super::endpoints::endpoints(&mut page, upstream_samples);
    own(&mut page, workers, process, labels);
    kernel(&mut page, sample);
    page.text
}

fn requests(page: &mut Page, workers: &[Arc<WorkerMetrics>], labels: &Labels) {
    let mut series = BTreeMap::new();
    for one in workers
        .iter()
        .flat_map(|worker| worker.series.iter().map_while(OnceLock::get))
    {
        series
            .entry(one.key)
            .or_insert_with(Distribution::default)
            .add(&one.durations);
    }
    page.family(&names::SERVER_REQUEST_DURATION);
    for (key, distribution) in &series {
        let route = key
            .route()
            .map_or("", |route| name(&labels.routes, usize::from(route)));
        let status = match key.status() {
            0 => String::new(),
            status => status.to_string(),
        };
        let values = [route, key.method().name(), &status];
        page.histogram(&names::SERVER_REQUEST_DURATION, &values, distribution);
    }
    page.single(
        &names::SERVER_ACTIVE_REQUESTS,
        sum(workers, |worker| &worker.active_requests),
    );
    page.single(
        &names::RECEIVED_BYTES,
        sum(workers, |worker| &worker.received_bytes),
    );
    page.single(
        &names::SENT_BYTES,
        sum(workers, |worker| &worker.sent_bytes),
    );
}

fn connections(page: &mut Page, workers: &[Arc<WorkerMetrics>], labels: &Labels) {
    page.family(&names::CONNECTIONS);
    for (listener, label) in labels.listeners.iter().enumerate() {
        for worker in workers {
            if let Some(counters) = worker.listeners.get(listener) {
                let index = worker.worker.to_string();
                page.sample(&names::CONNECTIONS, &[label, &index], counters.open.get());
            }
        }
    }
    page.family(&names::WORKER_IMBALANCE);
    for (listener, label) in labels.listeners.iter().enumerate() {
        let counters = workers.iter().filter_map(|w| w.listeners.get(listener));
        let accepted: Vec<u64> = counters.map(|c| c.accepted.get()).collect();
        page.sample(&names::WORKER_IMBALANCE, &[label], imbalance(&accepted));
    }
    type Pick = fn(&ListenerCounters) -> &Counter;
    let mut by_listener = |metric: &Metric, pick: Pick| {
        page.family(metric);
        for (listener, label) in labels.listeners.iter().enumerate() {
            let total = sum_at(workers, |worker| worker.listeners.get(listener).map(pick));
            page.sample(metric, &[label], total);
        }
    };
    by_listener(&names::CONNECTIONS_ACCEPTED, |counters| &counters.accepted);
    by_listener(&names::ACCEPT_ERRORS, |counters| &counters.accept_errors);
    page.single(
        &names::CONNECTION_PANICS,
        sum(workers, |worker| &worker.panics),
    );
}

/// The largest over the mean; 1 where all are equal, zero too.
#[expect(
    clippy::cast_precision_loss,
    reason = "a ratio; 2^53 connections have not been seen"
)]
fn imbalance(counts: &[u64]) -> f64 {
    let most = counts.iter().max().map_or(0, |most| *most);
    match counts.iter().sum::<u64>() {
        0 => 1.0,
        sum => most as f64 * counts.len() as f64 / sum as f64,
    }
}

fn refusals(page: &mut Page, workers: &[Arc<WorkerMetrics>], labels: &Labels) {
    page.family(&names::REJECTED_REQUESTS);
    for ((_, reason), total) in &by_reason(workers, |worker| &worker.rejected) {
        page.sample(&names::REJECTED_REQUESTS, &[reason], total);
    }
    page.family(&names::COUNTED_ONLY);
    for ((listener, reason), total) in &by_reason(workers, |worker| &worker.counted_only) {
        let listener = name(&labels.listeners, *listener);
        page.sample(&names::COUNTED_ONLY, &[listener, reason], total);
    }
    page.family(&names::TIMEOUTS);
    for kind in Timeout::ALL {
        let total = sum(workers, |worker| &worker.timeouts[*kind as usize]);
        page.sample(&names::TIMEOUTS, &[kind.name()], total);
    }
    page.family(&names::RATELIMIT_DECISIONS);
    for (limit, label) in labels.limits.iter().enumerate() {
        for outcome in LimitOutcome::ALL {
            let total = sum_at(workers, |worker| {
                Some(&worker.limits.get(limit)?.outcomes[*outcome as usize])
            });
            page.sample(&names::RATELIMIT_DECISIONS, &[label, outcome.name()], total);
        }
    }
}

/// Sums over the workers.
fn by_reason(
    workers: &[Arc<WorkerMetrics>],
    pick: impl Fn(&WorkerMetrics) -> &Reasons,
) -> BTreeMap<(usize, &'static str), u64> {
    let mut totals = BTreeMap::new();
    for reason in workers.iter().flat_map(|worker| pick(worker).iter()) {
        *totals.entry((reason.of, reason.name)).or_insert(0) += reason.count.get();
    }
    totals
}

fn networks(page: &mut Page, workers: &[Arc<WorkerMetrics>], labels: &Labels) {
    page.family(&names::NETWORK_DECISIONS);
    for (list, label) in labels.network_lists.iter().enumerate() {
        for outcome in NetworkOutcome::ALL {
            let total = sum_at(workers, |worker| {
                Some(&worker.network_lists.get(list)?.outcomes[*outcome as usize])
            });
            page.sample(&names::NETWORK_DECISIONS, &[label, outcome.name()], total);
        }
    }
}

fn filters(page: &mut Page, workers: &[Arc<WorkerMetrics>], labels: &Labels) {
    page.family(&names::FILTER_DECISIONS);
    for (filter, (kind, label)) in labels.filters.iter().enumerate() {
        for outcome in FilterOutcome::ALL {
            let total = sum_at(workers, |worker| {
                Some(&worker.filters.get(filter)?.outcomes[*outcome as usize])
            });
            let values = [*kind, label, outcome.name()];
            page.sample(&names::FILTER_DECISIONS, &values, total);
        }
    }
}

fn tables(page: &mut Page, limits: &[LimitSample], labels: &Labels) {
    type Pick = fn(&LimitSample) -> u64;
    let mut by_limit = |metric: &Metric, pick: Pick| {
        page.family(metric);
        for (label, sample) in labels.limits.iter().zip(limits) {
            page.sample(metric, &[label], pick(sample));
        }
    };
    by_limit(&names::RATELIMIT_KEYS, |sample| sample.keys);
    by_limit(&names::RATELIMIT_CAPACITY_KEYS, |sample| {
        sample.capacity_keys
    });
    by_limit(&names::RATELIMIT_OVERFLOW, |sample| sample.overflowed);
}

fn upstreams(page: &mut Page, workers: &[Arc<WorkerMetrics>], labels: &Labels) {
    let labels = &labels.upstreams;
    page.family(&names::CLIENT_REQUEST_DURATION);
    for (upstream, label) in labels.iter().enumerate() {
        let mut distribution = Distribution::default();
        for counters in workers
            .iter()
            .filter_map(|worker| worker.upstreams.get(upstream))
        {
            distribution.add(&counters.durations);
        }
        page.histogram(&names::CLIENT_REQUEST_DURATION, &[label], &distribution);
    }
    type Pick = fn(&UpstreamCounters, usize) -> &Counter;
    let mut by_kind = |metric: &Metric, kinds: &[&str], pick: Pick| {
        page.family(metric);
        for (upstream, label) in labels.iter().enumerate() {
            for (kind, name) in kinds.iter().enumerate() {
                let total = sum_at(workers, |worker| {
                    Some(pick(worker.upstreams.get(upstream)?, kind))
                });
                let values = [label.as_str(), name];
                page.sample(metric, &values[..metric.labels.len()], total);
            }
        }
    };
    let states = UpstreamConnectionState::ALL
        .iter()
        .map(|kind| kind.name())
        .collect::<Vec<_>>();
    let errors = UpstreamError::ALL
        .iter()
        .map(|kind| kind.name())
        .collect::<Vec<_>>();
    by_kind(&names::UPSTREAM_CONNECTIONS, &states, |counters, kind| {
        &counters.connections[kind]
    });
    by_kind(&names::UPSTREAM_CONNECTIONS_OPENED, &[""], |counters, _| {
        &counters.opened
    });
    by_kind(&names::UPSTREAM_CONNECTIONS_REUSED, &[""], |counters, _| {
        &counters.reused
    });
    by_kind(&names::UPSTREAM_ERRORS, &errors, |counters, kind| {
        &counters.errors[kind]
    });
    by_kind(&names::RETRIES, &errors, |counters, kind| {
        &counters.retries[kind]
    });
    by_kind(&names::RETRY_BUDGET_EXHAUSTED, &[""], |counters, _| {
        &counters.budget_exhausted
    });
    page.family(&names::TOLERATED_RESPONSES);
    for ((upstream, fault), total) in &by_reason(workers, |worker| &worker.tolerated) {
        let upstream = name(labels, *upstream);
        page.sample(&names::TOLERATED_RESPONSES, &[upstream, fault], total);
    }
}

/// The labels of the two counts of [`ProcessMetrics::credential_loads`].
const LOAD_OUTCOMES: [&str; 2] = ["ok", "failed"];

fn own(page: &mut Page, workers: &[Arc<WorkerMetrics>], process: &ProcessMetrics, labels: &Labels) {
    let metric = &names::ACCESS_LOG_DROPPED;
    page.family(metric);
    let dropped = sum(workers, |worker| &worker.log_dropped);
    page.sample(metric, &[names::dropped::RING_FULL], dropped);
    page.sample(
        metric,
        &[names::dropped::SINK],
        process.access_log_lost_total(),
    );
    let overflow = sum(workers, |worker| &worker.series_overflow);
    page.single(&names::METRIC_SERIES_OVERFLOW, overflow);
    page.single(&names::WORKERS, workers.len());
    page.single(
        &names::WORKER_RESTARTS,
        process.worker_restarts.load(Relaxed),
    );
    let metric = &names::FORWARD_AUTH;
    page.family(metric);
    for ((authenticator, outcome), total) in &by_reason(workers, |worker| &worker.asked) {
        let authenticator = labels.authenticators.get(*authenticator);
        let authenticator = authenticator.map_or("", String::as_str);
        page.sample(metric, &[authenticator, outcome], total);
    }
    page.family(&names::CREDENTIAL_LOADS);
    for (authenticator, loads) in labels.authenticators.iter().zip(process.credential_loads()) {
        for (outcome, total) in LOAD_OUTCOMES.iter().zip(loads) {
            page.sample(&names::CREDENTIAL_LOADS, &[authenticator, outcome], total);
        }
    }
    key_sets(page, process, labels);
    page.single(&names::RESOLVE_FAILURES, process.resolve_failures_total());

    let mut drivers = BTreeMap::new();
    for driver in workers.iter().filter_map(|worker| worker.driver.get()) {
        *drivers.entry(driver).or_insert(0u64) += 1;
    }
    page.family(&names::IO_DRIVER);
    for (driver, workers) in drivers {
        page.sample(&names::IO_DRIVER, &[driver.name, &driver.flags], workers);
    }
    page.family(&names::BUILD_INFO);
    page.sample(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
}

fn key_sets(page: &mut Page, process: &ProcessMetrics, labels: &Labels) {
    type Pick = fn(&KeySetCounts) -> &AtomicU64;
    let all: [(&Metric, Pick); 3] = [
        (&names::KEY_SET_KEYS, |counts| &counts.keys),
        (&names::KEY_SET_FETCHED, |counts| &counts.fetched_at),
        (&names::KEY_SET_EARLY, |counts| &counts.early),
    ];
    for (metric, pick) in all {
        page.family(metric);
        for (index, label) in labels.authenticators.iter().enumerate() {
            let counts = process.key_set(index).filter(|it| it.is_watched());
            if let Some(counts) = counts {
                page.sample(metric, &[label], pick(counts).load(Relaxed));
            }
        }
    }
}

fn kernel(page: &mut Page, sample: &ProcessSample) {
    page.optional(&names::PROCESS_CPU, sample.cpu_seconds);
    page.optional(
        &names::PROCESS_RESIDENT_MEMORY,
        sample.resident_memory_bytes,
    );
    page.optional(&names::PROCESS_OPEN_FDS, sample.open_fds);
    page.optional(&names::PROCESS_MAX_FDS, sample.max_fds);
    page.optional(&names::PROCESS_THREADS, sample.threads);
    page.optional(&names::PROCESS_START_TIME, sample.start_time_seconds);
}

fn sum(workers: &[Arc<WorkerMetrics>], pick: impl Fn(&WorkerMetrics) -> &Counter) -> u64 {
    sum_at(workers, |worker| Some(pick(worker)))
}

fn sum_at(
    workers: &[Arc<WorkerMetrics>],
    pick: impl Fn(&WorkerMetrics) -> Option<&Counter>,
) -> u64 {
    workers
        .iter()
        .filter_map(|worker| pick(worker))
        .map(Counter::get)
        .sum()
}

/// The name with this index; a configuration names all that its workers count.
fn name(names: &[String], index: usize) -> &str {
    debug_assert!(index < names.len());
    names.get(index).map_or("", String::as_str)
}

/// A histogram over all workers.
#[derive(Default)]
struct Distribution {
    buckets: [u64; BUCKET_BOUNDS_NS.len() + 1],
    sum_ns: u64,
}

impl Distribution {
    fn add(&mut self, histogram: &Histogram) {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.get();
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.get());
    }
}

/// A page of metrics as it grows. Writing to a string cannot fail, so results are dropped.
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn family(&mut self, metric: &Metric) {
        let Metric {
            name,
            help,
            kind,
            labels: _,
        } = metric;
        let _ = write!(
            self.text,
            "# HELP {name} {help}\n# TYPE {name} {}\n",
            kind.name()
        );
    }

    fn single(&mut self, metric: &Metric, value: impl Display) {
        self.family(metric);
        self.sample(metric, &[], value);
    }

    fn optional(&mut self, metric: &Metric, value: Option<impl Display>) {
        if let Some(value) = value {
            self.single(metric, value);
        }
    }

    pub(super) fn sample(&mut self, metric: &Metric, values: &[&str], value: impl Display) {
        self.line(metric, "", values, None, value);
    }

    fn histogram(&mut self, metric: &Metric, values: &[&str], distribution: &Distribution) {
        let mut count = 0;
        for (bucket, observed) in distribution.buckets.iter().enumerate() {
            count += observed;
            let bound = BUCKET_BOUNDS_NS.get(bucket);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |ns| seconds(*ns).to_string());
            self.line(metric, "_bucket", values, Some(&bound), count);
        }
        self.line(metric, "_sum", values, None, seconds(distribution.sum_ns));
        // The count comes from the buckets, so that it agrees with them at any moment.
        self.line(metric, "_count", values, None, count);
    }

    fn line(
        &mut self,
        metric: &Metric,
        suffix: &str,
        values: &[&str],
        bound: Option<&str>,
        value: impl Display,
    ) {
        debug_assert_eq!(metric.labels.len(), values.len());
        self.text.push_str(metric.name);
        self.text.push_str(suffix);
        let pairs = metric
            .labels
            .iter()
            .zip(values)
            .map(|(name, value)| (*name, *value));
        for (place, (name, value)) in pairs.chain(bound.map(|bound| ("le", bound))).enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !(values.is_empty() && bound.is_none()) {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of 104 days fit in 53 bits; then it rounds"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
