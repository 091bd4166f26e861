//! What a scrape shows of what workers counted.

mod exposition;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use exposition::Exposition;
use gateway::telemetry::names::METRICS;
use gateway::telemetry::process::ProcessSample;
use gateway::telemetry::{
    EndpointSample, Labels, LimitOutcome, LimitSample, Method, MetricsShape, ProcessMetrics,
    Timeout, UpstreamConnectionState, UpstreamError, UpstreamSamples, WorkerMetrics, render,
};

fn labels() -> Labels {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Labels {
        listeners: names(&["web", "internal"]),
        routes: names(&["users", "odd \"name\"\\\n}"]),
        upstreams: names(&["api"]),
        limits: names(&["per_client"]),
        authenticators: Vec::new(),
        network_lists: Vec::new(),
        filters: Vec::new(),
    }
}

fn workers(count: usize) -> Vec<Arc<WorkerMetrics>> {
    let shape = MetricsShape {
        listeners: 2,
        upstreams: 1,
        limits: 1,
        network_lists: 0,
        filters: 0,
    };
    (0..count)
        .map(|worker| WorkerMetrics::new(worker, shape))
        .collect()
}

fn page(workers: &[Arc<WorkerMetrics>]) -> Exposition {
    let sample = ProcessSample::read();
    Exposition::parse(&render(
        workers,
        &ProcessMetrics::default(),
        &labels(),
        &[LimitSample {
            keys: 7,
            capacity_keys: 155_000,
            overflowed: 3,
        }],
        &UpstreamSamples {
            pending: vec![("users".to_owned(), 5)],
            endpoints: vec![EndpointSample {
                upstream: "users".to_owned(),
                endpoint: "unix:/run/\"users\".sock".to_owned(),
                healthy: true,
                ejections: 2,
                checks: [9, 4],
            }],
        },
        &sample,
    ))
}

#[test]
fn every_declared_family_is_on_an_untouched_page() {
    let page = page(&workers(1));
    for metric in METRICS {
        let kind = page.families.get(metric.name).map(String::as_str);
        assert_eq!(kind, Some(metric.kind.name()), "{}", metric.name);
    }
    assert_eq!(page.families.len(), METRICS.len());
}

#[test]
fn counts_of_workers_on_their_threads_are_summed() {
    let workers = workers(3);
    thread::scope(|scope| {
        for (index, worker) in workers.iter().enumerate() {
            scope.spawn(move || {
                let metrics = worker.writer();
                metrics.driver("epoll", String::new());
                metrics.connection_opened(0);
                for _ in 0..=index {
                    metrics.received(10);
                    let duration = Duration::from_millis(2);
                    metrics.request_finished(Some(0), Method::Get, 200, duration);
                }
                metrics.rejected("bare_lf");
            });
        }
    });
    let page = page(&workers);
    let series =
        "http_route=\"users\",http_request_method=\"GET\",http_response_status_code=\"200\"";
    let duration = "http_server_request_duration_seconds";
    assert_eq!(page.value(&format!("{duration}_count{{{series}}}")), 6.0);
    assert_eq!(page.value(&format!("{duration}_sum{{{series}}}")), 0.012);
    assert_eq!(
        page.value(&format!("{duration}_bucket{{{series},le=\"0.001\"}}")),
        0.0
    );
    assert_eq!(
        page.value(&format!("{duration}_bucket{{{series},le=\"0.0025\"}}")),
        6.0
    );
    assert_eq!(page.value("ringgate_received_bytes_total"), 60.0);
    assert_eq!(
        page.value("ringgate_rejected_requests_total{reason=\"bare_lf\"}"),
        3.0
    );
    assert_eq!(
        page.value("ringgate_connections_accepted_total{listener=\"web\"}"),
        3.0
    );
    assert_eq!(
        page.value("ringgate_connections{listener=\"web\",worker=\"2\"}"),
        1.0
    );
    assert_eq!(
        page.value("ringgate_connections{listener=\"internal\",worker=\"2\"}"),
        0.0
    );
    assert_eq!(page.value("ringgate_workers"), 3.0);
    assert_eq!(
        page.value("ringgate_io_driver{driver=\"epoll\",flags=\"\"}"),
        3.0
    );
}

#[test]
fn each_call_moves_its_own_sample() {
    let workers = workers(1);
    let metrics = workers[0].writer();
    metrics.driver("io_uring", "single_issuer,coop_taskrun".to_owned());
    metrics.request_began();
    metrics.request_began();
    metrics.request_ended();
    metrics.sent(5);
    metrics.accept_failed(1);
    metrics.connection_opened(1);
    metrics.connection_closed(1);
    metrics.connection_panicked();
    metrics.timed_out(Timeout::UpstreamFirstByte);
    metrics.limit_decided(0, LimitOutcome::ShadowLimited);
    metrics.upstream_connection_opened(0);
    metrics.upstream_connection_pooled(0);
    metrics.upstream_connection_reused(0);
    metrics.upstream_connection_opened(0);
    metrics.upstream_connection_pooled(0);
    metrics.upstream_connection_opened(0);
    metrics.upstream_connection_closed(0, UpstreamConnectionState::Active);
    metrics.upstream_finished(0, Duration::from_secs(60));
    metrics.upstream_failed(0, UpstreamError::Reset);
    metrics.upstream_retried(0, UpstreamError::Reset);
    metrics.access_log_dropped();
    let page = page(&workers);
    for (sample, value) in AFTER_EACH_CALL {
        assert_eq!(page.value(sample), *value, "{sample}");
    }
}

const AFTER_EACH_CALL: &[(&str, f64)] = &[
    ("http_server_active_requests", 1.0),
    ("ringgate_sent_bytes_total", 5.0),
    ("ringgate_accept_errors_total{listener=\"internal\"}", 1.0),
    (
        "ringgate_connections{listener=\"internal\",worker=\"0\"}",
        0.0,
    ),
    (
        "ringgate_connections_accepted_total{listener=\"internal\"}",
        1.0,
    ),
    ("ringgate_connection_panics_total", 1.0),
    ("ringgate_timeouts_total{kind=\"upstream_first_byte\"}", 1.0),
    (
        "ringgate_ratelimit_decisions_total{limit=\"per_client\",outcome=\"shadow_limited\"}",
        1.0,
    ),
    (
        "ringgate_ratelimit_decisions_total{limit=\"per_client\",outcome=\"allowed\"}",
        0.0,
    ),
    (
        "ringgate_upstream_connections{upstream=\"api\",state=\"active\"}",
        1.0,
    ),
    (
        "ringgate_upstream_connections{upstream=\"api\",state=\"idle\"}",
        1.0,
    ),
    (
        "ringgate_upstream_connections_opened_total{upstream=\"api\"}",
        3.0,
    ),
    (
        "ringgate_upstream_connections_reused_total{upstream=\"api\"}",
        1.0,
    ),
    (
        "http_client_request_duration_seconds_bucket{upstream=\"api\",le=\"10\"}",
        0.0,
    ),
    (
        "http_client_request_duration_seconds_bucket{upstream=\"api\",le=\"+Inf\"}",
        1.0,
    ),
    (
        "ringgate_upstream_errors_total{upstream=\"api\",kind=\"reset\"}",
        1.0,
    ),
    (
        "ringgate_retries_total{upstream=\"api\",reason=\"reset\"}",
        1.0,
    ),
    (
        "ringgate_access_log_dropped_total{reason=\"ring_full\"}",
        1.0,
    ),
    (
        "ringgate_io_driver{driver=\"io_uring\",flags=\"single_issuer,coop_taskrun\"}",
        1.0,
    ),
];

#[test]
fn imbalance_is_the_busiest_workers_share_of_what_was_accepted() {
    let workers = workers(4);
    let ratio = |listener| {
        let sample = format!("ringgate_worker_imbalance_ratio{{listener=\"{listener}\"}}");
        page(&workers).value(&sample)
    };
    assert_eq!(ratio("web"), 1.0, "nothing is even");
    for (worker, accepted, expected) in [
        (0, 3, 4.0),
        (1, 1, 3.0),
        (2, 3, 12.0 / 7.0),
        (3, 5, 20.0 / 12.0),
    ] {
        let metrics = workers[worker].writer();
        for _ in 0..accepted {
            metrics.connection_opened(0);
            metrics.connection_closed(0);
        }
        assert_eq!(ratio("web"), expected);
    }
    assert_eq!(ratio("internal"), 1.0, "listeners are apart");
}

#[test]
fn labels_are_escaped_and_absent_ones_empty() {
    let workers = workers(1);
    let metrics = workers[0].writer();
    metrics.request_finished(Some(1), Method::from_bytes(b"BREW\"}"), 200, Duration::ZERO);
    metrics.request_finished(None, Method::Get, 0, Duration::ZERO);
    let page = page(&workers);
    let count = "http_server_request_duration_seconds_count";
    let odd = "http_route=\"odd \\\"name\\\"\\\\\\n}\",http_request_method=\"_OTHER\"";
    assert_eq!(
        page.value(&format!(
            "{count}{{{odd},http_response_status_code=\"200\"}}"
        )),
        1.0
    );
    let none = "http_route=\"\",http_request_method=\"GET\",http_response_status_code=\"\"";
    assert_eq!(page.value(&format!("{count}{{{none}}}")), 1.0);
    assert_eq!(page.starting(count).count(), 2);
}

#[test]
fn the_fill_of_a_limits_table_is_a_sample_of_its_limit() {
    let page = page(&workers(1));
    for (name, value) in [
        ("ringgate_ratelimit_keys", 7.0),
        ("ringgate_ratelimit_capacity_keys", 155_000.0),
        ("ringgate_ratelimit_overflow_total", 3.0),
    ] {
        assert_eq!(
            page.value(&format!("{name}{{limit=\"per_client\"}}")),
            value
        );
    }
}
