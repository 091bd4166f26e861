//! What a worker calls for each request allocates nothing once its series exist.

use std::thread;
use std::time::Duration;

use gateway::config::LogFormat;
use gateway::control::access_log::format::Lines;
use gateway::telemetry::ring::{RING_BYTES, ring};
use gateway::telemetry::top::{Label, LimitTop};
use gateway::telemetry::{
    AccessRecord, Labels, LimitOutcome, LogWriter, Method, MetricsShape, MetricsWriter,
    RecordAddress, Timeout, UpstreamConnectionState, UpstreamError, WorkerMetrics,
};

use crate::counting::Counters;

/// A decision on a key that was there and on one that was not.
fn two_decisions(top: &LimitTop, number: u32) {
    let label = || {
        let mut label = Label::default();
        label.push_address([192, 0, 2, 1].into());
        label.push_text(&[b'x'; 100]);
        label
    };
    // By the second, so that windows end as well.
    let now_s = number / 10;
    top.count(1, true, now_s, label);
    let hash = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    top.count(hash, true, now_s, label);
}

fn one_request(metrics: &MetricsWriter, log: &LogWriter, path: &[u8]) {
    metrics.connection_opened(0);
    metrics.request_began();
    metrics.received(100);
    metrics.limit_decided(0, LimitOutcome::Allowed);
    metrics.upstream_connection_opened(0);
    metrics.upstream_connection_pooled(0);
    metrics.upstream_connection_reused(0);
    metrics.upstream_failed(0, UpstreamError::Reset);
    metrics.upstream_retried(0, UpstreamError::Reset);
    metrics.upstream_finished(0, Duration::from_millis(1));
    metrics.upstream_connection_closed(0, UpstreamConnectionState::Active);
    metrics.timed_out(Timeout::Body);
    metrics.rejected("bare_lf");
    metrics.request_finished(Some(0), Method::Get, 200, Duration::from_millis(1));
    metrics.request_ended();
    metrics.connection_closed(0);
    let record = AccessRecord {
        path,
        query: Some(path),
        user_agent: path,
        error_type: "bare_lf",
        upstream_address: RecordAddress::Unix(path),
        peer: Some(([127, 0, 0, 1], 80).into()),
        ..AccessRecord::default()
    };
    if !log.push(&record) {
        metrics.access_log_dropped();
    }
}

#[test]
fn counting_and_recording_a_request_allocates_nothing() {
    let shape = MetricsShape {
        listeners: 1,
        upstreams: 1,
        limits: 1,
        network_lists: 0,
        filters: 0,
    };
    let worker = WorkerMetrics::new(0, shape);
    let metrics = worker.writer();
    let (log, mut reader) = ring(0, RING_BYTES, thread::current());
    let path = vec![b'x'; 10_000];

    let counters = Counters::new();
    counters.follow_this_thread();
    let before = counters.allocations();
    one_request(&metrics, &log, &path);
    assert!(
        counters.allocations() > before,
        "the first request makes its series: the count works"
    );

    let top = LimitTop::new(0);
    let before = counters.allocations();
    let mut taken = 0;
    for number in 0..2000 {
        two_decisions(&top, number);
        // Until the ring is full, then against the full ring.
        one_request(&metrics, &log, &path);
    }
    assert_eq!(counters.allocations(), before);
    let mut lines = Lines::new(LogFormat::Json, &Labels::default());
    let mut line = Vec::with_capacity(64 * 1024);
    reader.take(1, |record| lines.line(record, 0, &mut line));
    let before = counters.allocations();
    let mut write = |record: &AccessRecord<'_>| {
        taken += 1;
        line.clear();
        lines.line(record, 0, &mut line);
    };
    while reader.take(10, &mut write) > 0 {}
    assert!((1..2000).contains(&taken));
    assert_eq!(
        counters.allocations(),
        before,
        "neither does reading and writing"
    );
    assert!(top.report(200).busiest.keys.len() > 32);
}
