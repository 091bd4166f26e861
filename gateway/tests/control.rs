//! The control thread through real sockets: admin pages and the demo upstream.

#![expect(clippy::unwrap_used, reason = "test helpers")]
#![expect(clippy::disallowed_types, reason = "tests may wait for sockets")]

mod control_support;
mod exposition;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use exposition::Exposition;
use gateway::control::admin::{self, AdminState};
use gateway::control::lifecycle::{Lifecycle, Phase};
use gateway::control::resolve::Resolver;
use gateway::control::{ControlHandle, ControlSetup, demo};
use gateway::telemetry::process::ProcessSample;
use gateway::telemetry::{Labels, Method, MetricsShape, ProcessMetrics, WorkerMetrics};
use serde_json::Value;

struct Running {
    control: ControlHandle,
    admin: SocketAddr,
    demo: SocketAddr,
    state: AdminState,
}

fn start(resolver: Resolver) -> Running {
    let shape = MetricsShape {
        listeners: 1,
        upstreams: 0,
        limits: 0,
        network_lists: 0,
        filters: 0,
    };
    let state = AdminState {
        lifecycle: Arc::new(Lifecycle::default()),
        workers: [0, 1]
            .map(|worker| WorkerMetrics::new(worker, shape))
            .into(),
        process: Arc::new(ProcessMetrics::default()),
        plan: control_support::plan(),
        commands: [].into(),
        labels: Arc::new(Labels {
            routes: vec!["users".to_owned()],
            ..Labels::default()
        }),
    };
    let admin_listener = admin::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let demo_listener = demo::bind().unwrap();
    let admin = admin_listener.local_addr().unwrap();
    let demo = demo_listener.local_addr().unwrap();
    let control = ControlHandle::start(ControlSetup {
        admin: Some(admin_listener),
        demo: Some(demo_listener),
        resolver,
        credentials: Default::default(),
        key_sets: Default::default(),
        state: state.clone(),
        on_signal: Box::new(|_| {}),
    });
    Running {
        control: control.unwrap(),
        admin,
        demo,
        state,
    }
}

/// Sends a request and reads to the end; status, head and body.
fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    split(&answer)
}

fn get(address: SocketAddr, path: &str) -> (u16, String, Vec<u8>) {
    exchange(address, &format!("GET {path} HTTP/1.1"), b"")
}

fn split(answer: &[u8]) -> (u16, String, Vec<u8>) {
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

#[test]
fn readiness_follows_the_lifecycle_and_liveness_does_not() {
    let running = start(Resolver::default());
    for (phase, status, word) in [
        (Phase::Starting, 503, "starting\n"),
        (Phase::Ready, 200, "ready\n"),
        (Phase::Draining, 503, "draining\n"),
    ] {
        running.state.lifecycle.advance(phase);
        let (ready, _, body) = get(running.admin, "/readyz");
        assert_eq!((ready, body), (status, word.as_bytes().to_vec()));
        assert_eq!(get(running.admin, "/healthz").0, 200);
    }
    running.control.stop();
}

#[test]
fn metrics_are_served_as_prometheus_text() {
    let running = start(Resolver::default());
    for worker in running.state.workers.iter() {
        let metrics = worker.writer();
        metrics.request_finished(Some(0), Method::Get, 200, Duration::from_millis(1));
    }
    let (status, head, body) = get(running.admin, "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    let page = Exposition::parse(str::from_utf8(&body).unwrap());
    let series =
        "http_route=\"users\",http_request_method=\"GET\",http_response_status_code=\"200\"";
    let count = format!("http_server_request_duration_seconds_count{{{series}}}");
    assert_eq!(page.value(&count), 2.0);
    assert_eq!(
        page.starting("http_server_request_duration_seconds_count")
            .count(),
        1
    );
    assert!(page.value("process_resident_memory_bytes") > 0.0);
    running.control.stop();
}

#[test]
fn the_admin_root_lists_what_there_is_and_nothing_else_is_there() {
    let running = start(Resolver::default());
    let (status, _, body) = get(running.admin, "/");
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 200);
    for admin::Page { path, text, .. } in admin::PAGES {
        assert!(
            body.contains(&format!("{path:<11}{text}\n")),
            "{path}: {body}"
        );
        assert_ne!(get(running.admin, path).0, 404, "{path}");
        assert_eq!(
            exchange(running.admin, &format!("POST {path} HTTP/1.1"), b"x").0,
            405
        );
    }
    assert_eq!(get(running.admin, "/nothing").0, 404);
    running.control.stop();
}

#[test]
fn every_page_for_operators_is_in_the_documents() {
    let paths = admin::paths();
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!(" ({paths})\n")), "the banner");
    assert!(readme.contains(&format!("# {paths}\n")), "the example");
    let keys = include_str!("../../docs/configuration.md");
    let (_, section) = keys.split_once("### `[admin]`\n\n").unwrap();
    let sentence = section.lines().next().unwrap();
    for path in paths.split(' ') {
        assert!(
            sentence.contains(&format!("`{path}`")),
            "{path}: {sentence}"
        );
        let row = format!("\n| `{path}` |");
        assert!(
            include_str!("../../docs/observability.md").contains(&row),
            "{path}"
        );
    }
}

#[test]
fn a_taken_admin_address_is_the_binders_error() {
    let taken = admin::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let error = admin::bind(taken.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn names_are_resolved_when_the_start_returns() {
    let mut resolver = Resolver::default();
    let cell = resolver.cell("localhost", 8000);
    let running = start(resolver);
    assert!(cell.load().iter().all(|address| address.ip().is_loopback()));
    assert!(!cell.load().is_empty());
    running.control.stop();
}

#[test]
fn a_stopped_control_thread_leaves_its_addresses() {
    let running = start(Resolver::default());
    running.control.stop();
    assert!(TcpStream::connect(running.admin).is_err());
    assert!(TcpStream::connect(running.demo).is_err());
}

#[test]
fn the_demo_upstream_reports_the_request_it_got() {
    let running = start(Resolver::default());
    let head = "PUT /any/path?q=%20 HTTP/1.1\r\nx-twice: one\r\nx-twice: two\r\nx-odd: \u{e9}";
    let (status, _, body) = exchange(running.demo, head, b"hello");
    let echo: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(echo["method"], "PUT");
    assert_eq!(echo["path"], "/any/path");
    assert_eq!(echo["query"], "q=%20");
    assert_eq!(echo["version"], "HTTP/1.1");
    assert_eq!(echo["body_bytes"], 5);
    let headers = echo["headers"].as_array().unwrap();
    for expected in [["x-twice", "one"], ["x-twice", "two"], ["x-odd", "\u{e9}"]] {
        assert!(
            headers.contains(&expected.as_slice().into()),
            "{expected:?}"
        );
    }
    assert!(echo["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    running.control.stop();
}

#[test]
fn the_demo_upstream_answers_with_a_chosen_status_size_and_delay() {
    let running = start(Resolver::default());
    assert_eq!(get(running.demo, "/status/503").0, 503);
    let (status, _, body) = get(running.demo, "/status/204");
    assert_eq!((status, body.len()), (204, 0));
    assert_eq!(get(running.demo, "/delay/1").0, 200);
    for size in [0, 1, 65_536, 200_000] {
        let (status, head, body) = get(running.demo, &format!("/bytes/{size}"));
        assert_eq!(status, 200);
        assert!(head.contains(&format!("content-length: {size}")), "{head}");
        assert!(
            body.iter()
                .enumerate()
                .all(|(at, byte)| usize::from(*byte) == at % 65_536 % 251)
        );
        assert_eq!(body.len(), size);
    }
    let (_, head, body) = exchange(running.demo, "HEAD /bytes/1000 HTTP/1.1", b"");
    assert!(head.contains("content-length: 1000") && body.is_empty());
    for bad in [
        "/status/199",
        "/status/600",
        "/status/x",
        "/bytes/1073741825",
        "/bytes/-1",
        "/delay/60001",
    ] {
        assert_eq!(get(running.demo, bad).0, 400, "{bad}");
    }
    running.control.stop();
}

#[test]
fn the_demo_upstream_keeps_its_connections() {
    let running = start(Resolver::default());
    let mut stream = TcpStream::connect(running.demo).unwrap();
    for round in 0..3 {
        stream
            .write_all(format!("GET /{round} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut piece = [0; 1024];
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "closed after {round}");
            answer.extend_from_slice(&piece[..count]);
        }
        assert!(
            String::from_utf8(answer)
                .unwrap()
                .contains(&format!("\"/{round}\""))
        );
    }
    running.control.stop();
}

#[test]
fn large_bodies_pass_the_demo_upstream_and_stay_nowhere() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 100;
    let running = start(Resolver::default());
    let memory = || ProcessSample::read().resident_memory_bytes.unwrap();
    let before = memory();
    let mut stream = TcpStream::connect(running.demo).unwrap();
    let length = PIECE * PIECES;
    let head = format!("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![7; PIECE];
    let mut peak = before;
    for _ in 0..PIECES {
        stream.write_all(&piece).unwrap();
        peak = peak.max(memory());
    }
    let next = "GET /bytes/104857600 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(next.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        let count = stream.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        if answer.len() < 4096 {
            answer.extend_from_slice(&piece[..count.min(4096)]);
        }
        total += count;
        peak = peak.max(memory());
    }
    assert!(String::from_utf8_lossy(&answer).contains("\"body_bytes\":104857600"));
    assert!(total > length);
    assert!(
        peak - before < 24 << 20,
        "{} KiB more",
        (peak - before) >> 10
    );
    running.control.stop();
}
