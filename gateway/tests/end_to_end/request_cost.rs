//! What a small request on a kept connection costs, counted over ten thousand of them with limits, metrics and the
//! access log on: operations of the ring and system calls. Allocations are counted in `allocations`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{
    Client, Driver, Gateway, Launch, Upstream, eventually, has_io_uring, ok, skip, to_upstream,
};

const REQUESTS: u64 = 10_000;
/// What is made once is there then: a connection to the upstream, series of metrics, pages of tables.
const WARM_UP: u64 = 100;
/// Operations that no request makes: a turn of the wake-up of other threads.
const OTHER_OPERATIONS_MAX: u64 = 20;
/// The log's writer is woken each time a quarter of a mebibyte of records is there: ten times for these.
const WAKES_MAX: usize = 40;

const LIMITS: &str = "[limits.one]\nrate = \"1000000/s\"\nburst = 1000000\n[limits.two]\nrate = \"2000000/s\"\nburst = 1000000\n";

fn launch(upstream: &Upstream) -> Launch {
    let route = to_upstream(&[upstream.address], "");
    let route = route.replace("[[routes]]\n", "[[routes]]\nlimits = [\"one\", \"two\"]\n");
    Launch::new(Driver::IoUring)
        .one_worker()
        .rest(LIMITS)
        .rest(&route)
}

fn send(client: &mut Client, requests: u64) {
    for _ in 0..requests {
        assert_eq!(client.get("/a?b=c").status, 200);
    }
}

/// Entries that the process has put into its ring so far. It has one: one worker, and only workers have rings.
pub(crate) fn ring_operations(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/fdinfo");
    let infos = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    let tails: Vec<u64> = infos
        .filter_map(|info| {
            let tail = info.lines().find_map(|line| line.strip_prefix("SqTail:"))?;
            Some(tail.trim().parse().unwrap())
        })
        .collect();
    assert_eq!(tails.len(), 1, "{tails:?}");
    tails[0]
}

#[test]
fn a_small_request_is_four_ring_operations() {
    if !has_io_uring("request_cost::a_small_request_is_four_ring_operations") {
        return;
    }
    let upstream = Upstream::saying("ok");
    let gateway = launch(&upstream).start();
    let mut client = Client::connect(gateway.address);
    send(&mut client, WARM_UP);
    let before = ring_operations(gateway.pid());
    send(&mut client, REQUESTS);
    let made = ring_operations(gateway.pid()) - before;
    let needed = 4 * REQUESTS;
    assert!(
        (needed - 4..=needed + OTHER_OPERATIONS_MAX).contains(&made),
        "{made} operations for {REQUESTS} requests"
    );
    assert_eq!(upstream.accepted(), 1, "one connection served them all");
}

#[test]
fn a_connection_for_one_request_is_four_ring_operations() {
    const CONNECTIONS: u64 = 500;
    if !has_io_uring("request_cost::a_connection_for_one_request_is_four_ring_operations") {
        return;
    }
    let upstream = Upstream::saying("ok");
    let gateway = launch(&upstream).start();
    let connect = |times: u64| {
        for _ in 0..times {
            let mut client = Client::connect(gateway.address);
            client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            assert_eq!(client.response().status, 200);
            assert!(client.is_closed());
        }
    };
    connect(WARM_UP);
    let before = ring_operations(gateway.pid());
    connect(CONNECTIONS);
    let made = ring_operations(gateway.pid()) - before;
    // The accept, the read, and the upstream's two: no read watches a client from whom nothing more will come, and the
    // answer and the close are system calls, in one turn.
    let needed = 4 * CONNECTIONS;
    assert!(
        (needed - 4..=needed + OTHER_OPERATIONS_MAX).contains(&made),
        "{made} operations for {CONNECTIONS} connections"
    );
}

/// Ring operations of so many times this request, when all is warm.
fn operations_of(times: u64, gateway: &Gateway, client: &mut Client, request: &str) -> u64 {
    let mut ask = |times: u64| {
        for _ in 0..times {
            client.send(request);
            assert_eq!(client.response().status, 200);
        }
    };
    ask(WARM_UP);
    let before = ring_operations(gateway.pid());
    ask(times);
    ring_operations(gateway.pid()) - before
}

#[test]
fn bodies_of_four_kibibytes_either_way_are_four_ring_operations_too() {
    const POSTS: u64 = 1_000;
    if !has_io_uring(
        "request_cost::bodies_of_four_kibibytes_either_way_are_four_ring_operations_too",
    ) {
        return;
    }
    let body = "b".repeat(4096);
    let answer = ok(&body);
    let upstream = Upstream::answering(move |_, _| answer.clone());
    let gateway = launch(&upstream).start();
    let mut client = Client::connect(gateway.address);
    let request = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4096\r\n\r\n{body}");
    let made = operations_of(POSTS, &gateway, &mut client, &request);
    let needed = 4 * POSTS;
    assert!(
        (needed - 4..=needed + OTHER_OPERATIONS_MAX).contains(&made),
        "{made} operations for {POSTS} requests"
    );
}

#[test]
fn a_long_body_is_read_by_large_blocks_once_it_flows() {
    const POSTS: u64 = 300;
    if !has_io_uring("request_cost::a_long_body_is_read_by_large_blocks_once_it_flows") {
        return;
    }
    let upstream = Upstream::saying("ok");
    let gateway = launch(&upstream).start();
    let mut client = Client::connect(gateway.address);
    let body = "b".repeat(60 * 1024);
    let request = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 61440\r\n\r\n{body}");
    let made = operations_of(POSTS, &gateway, &mut client, &request);
    // Two reads and sends of the body and two of the answer; a third where the client was interrupted while it sent. By
    // blocks of 20 KiB it would be eight at least.
    assert!(
        (6 * POSTS - 4..7 * POSTS).contains(&made),
        "{made} operations for {POSTS} requests"
    );
}

/// The thread of the worker.
fn worker_of(gateway: &Gateway) -> String {
    let tasks = format!("/proc/{}/task", gateway.pid());
    let mut threads = fs::read_dir(tasks)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_worker = |path: &Path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "ringgate-w0")
    };
    let worker = threads.find(|path| is_worker(path)).unwrap();
    worker.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The calls that a trace of `strace -f` shows of `thread`.
fn calls_of<'a>(trace: &'a str, thread: &str) -> Vec<&'a str> {
    let lines = trace
        .lines()
        .filter_map(|line| line.strip_prefix(thread)?.strip_prefix(' '));
    // `name(...) = 0`, or `name(... <unfinished ...>` and later `<... name resumed>`, which is the same call.
    let lines = lines
        .map(str::trim_start)
        .filter(|line| !line.starts_with('<') && !line.starts_with(['+', '-']));
    lines
        .map(|line| line.split('(').next().unwrap_or_default())
        .collect()
}

#[test]
fn a_request_makes_no_system_call_but_that_of_the_ring() {
    let name = "request_cost::a_request_makes_no_system_call_but_that_of_the_ring";
    if !has_io_uring(name) {
        return;
    }
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("strace", name);
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trace-{}", std::process::id()));
    let path = file.to_str().unwrap();
    let upstream = Upstream::saying("ok");
    // -D: the gateway is our child, and strace is beside it.
    let gateway = launch(&upstream)
        .through(&["strace", "-D", "-f", "-qq", "-o", path])
        .start();
    let worker = worker_of(&gateway);
    let mut client = Client::connect(gateway.address);
    send(&mut client, WARM_UP);
    let read = || String::from_utf8(fs::read(&file).unwrap()).unwrap();
    let before = calls_of(&read(), &worker).len();
    assert!(before > 100, "the trace is written as it is made");
    send(&mut client, REQUESTS);
    let trace = read();
    let calls = &calls_of(&trace, &worker)[before..];
    let enters = calls
        .iter()
        .filter(|&&call| call == "io_uring_enter")
        .count();
    let wakes = calls.iter().filter(|&&call| call == "futex").count();
    let others: Vec<_> = calls
        .iter()
        .filter(|&&call| call != "io_uring_enter" && call != "futex")
        .collect();
    assert!(
        enters as u64 >= REQUESTS,
        "{enters} enters: a client that waits for each answer leaves nothing to batch"
    );
    assert!(wakes <= WAKES_MAX, "{wakes} wakes of the log's writer");
    assert!(others.is_empty(), "{others:?}");
    drop(gateway);
    eventually("the end of strace", || fs::remove_file(&file).ok());
}

/// Many at once, so that the end of a send and the answer to it come in one turn of the worker.
fn connections_stay(driver: Driver) {
    const CLIENTS: usize = 32;
    let upstream = Upstream::saying("ok");
    let route = to_upstream(&[upstream.address], "");
    let gateway = Launch::new(driver).one_worker().rest(&route).start();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address);
                for _ in 0..200 {
                    assert!(!client.get("/").closes());
                }
            });
        }
    });
    let accepted = upstream.accepted();
    assert!(
        accepted <= CLIENTS,
        "{accepted} connections to the upstream"
    );
}

on_both_drivers! {
    fn clients_at_once_keep_their_connections_and_the_upstreams(driver) {
        connections_stay(driver);
    }
}
