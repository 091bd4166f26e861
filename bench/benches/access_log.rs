//! What the access log costs of a request, but for the writing to a file: the worker's part, and the line.
//!
//! To compare with one byte of a line written to a file, some 0.3 ns.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway::config::LogFormat;
use gateway::control::access_log::format::Lines;
use gateway::telemetry::ring::{RING_BYTES, ring};
use gateway::telemetry::{AccessRecord, Labels, LimitOutcome, RecordAddress};

const AGENT: &[u8] = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A request of a browser that an upstream answered.
fn record(client: IpAddr) -> AccessRecord<'static> {
    AccessRecord {
        unix_us: 1_700_000_000_123_456,
        duration: Duration::from_micros(1234),
        method: b"GET",
        path: b"/service-7/items/4711",
        query: Some(b"page=2&size=50"),
        route: Some(0),
        status: 200,
        response_body_bytes: 16_384,
        client: Some(client),
        peer: Some(SocketAddr::new(client, 50_123)),
        host: b"api.example.com",
        user_agent: AGENT,
        request_id: b"4ea7becdaa0430817ed7c9a77c0c2b05",
        upstream: Some(0),
        upstream_address: RecordAddress::Socket(SocketAddr::from(([10, 0, 0, 7], 8080))),
        limit: Some((0, LimitOutcome::Allowed)),
        first_byte: Some(Duration::from_micros(1100)),
        ..AccessRecord::default()
    }
}

fn labels() -> Labels {
    Labels {
        listeners: vec!["web".to_owned()],
        routes: vec!["service-7".to_owned()],
        upstreams: vec!["be".to_owned()],
        limits: vec!["per_client".to_owned()],
        ..Labels::default()
    }
}

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access_log_line");
    let (v4, v6) = (
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x1234, 7)),
    );
    for (name, format, client) in [
        ("json", LogFormat::Json, v4),
        ("json_ipv6", LogFormat::Json, v6),
        ("combined", LogFormat::Combined, v4),
    ] {
        let (record, mut lines) = (record(client), Lines::new(format, &labels()));
        let mut out = Vec::with_capacity(4096);
        lines.line(&record, 0, &mut out);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                lines.line(black_box(&record), 0, &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// One record into the ring and out of it, on one thread.
fn hand_over(criterion: &mut Criterion) {
    let record = record(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (writer, mut reader) = ring(0, RING_BYTES, thread::current());
    criterion.bench_function("access_log_record", |bencher| {
        bencher.iter(|| {
            assert!(writer.push(black_box(&record)));
            reader.take(1, |record| {
                black_box(record);
            })
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = lines, hand_over
}
criterion_main!(benches);
