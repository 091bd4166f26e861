//! The whole path in one process: a client thread, the gateway's own worker, and an upstream thread, over loopback and with
//! the upstream behind a Unix socket pair. Time is of a turn in which every connection asks once and is answered once: with one
//! connection it is a round trip, with many it is the worker's throughput, shared by what the other threads need.
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "benchmarks; plain threads and sockets play client and upstream"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway::config::{ConfigSource, load};
use gateway::control::supervisor;

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
const BODY_BYTES: [usize; 2] = [128, 16 * 1024];
/// Connections of the client.
const CONNECTIONS: [usize; 2] = [1, 16];

/// Answers each request on a stream with `answer`; requests of these benchmarks come whole and one at a time.
fn answer_all(mut stream: impl Read + Write, answer: &[u8]) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

fn answer(body_bytes: usize) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + body_bytes, b'x');
    answer
}

fn tcp_upstream(body_bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).expect("a TCP option");
            thread::spawn(move || answer_all(stream, &answer(body_bytes)));
        }
    });
    address
}

/// As [`tcp_upstream`], over a Unix socket at a path in the build's own folder.
fn unix_upstream(body_bytes: usize) -> String {
    let name = format!("bench-{}-{body_bytes}.sock", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_all(stream, &answer(body_bytes)));
        }
    });
    format!("unix:{}", path.display())
}

/// Starts a gateway before `upstream` with one worker and two limits; it runs until the process ends.
fn gateway(upstream: &str) -> SocketAddr {
    let text = format!(
        "[runtime]\nworkers = 1\n[admin]\nlisten = \"off\"\n[log.access]\npath = \"off\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [upstreams.be]\nendpoints = [{{ address = \"{upstream}\" }}]\n\
         [limits.a]\nrate = \"1000000000/s\"\n[limits.b]\nkey = \"route\"\nrate = \"1000000000/s\"\n\
         [[routes]]\nname = \"all\"\nupstream = \"be\"\nlimits = [\"a\", \"b\"]\n",
    );
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let source = ConfigSource::Text {
            name: "bench.toml",
            text: &text,
        };
        let config = load(source, &|_| None).expect("a configuration without mistakes");
        let ended = supervisor::run(&config, |started| {
            tell.send(started.listeners[0]).expect("somebody waits");
        });
        ended.expect("a gateway");
    });
    told.recv_timeout(Duration::from_secs(10))
        .expect("a gateway that starts")
}

/// The head's end and the body's length of an answer.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>, body_bytes: usize) {
    buffer.clear();
    let mut piece = [0; 32 * 1024];
    loop {
        let count = stream.read(&mut piece).expect("an answer");
        assert!(count > 0, "closed before the answer was whole");
        buffer.extend_from_slice(&piece[..count]);
        let end = buffer
            .windows(4)
            .take(1024)
            .position(|four| four == b"\r\n\r\n");
        if end.is_some_and(|end| buffer.len() >= end + 4 + body_bytes) {
            break;
        }
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200 "));
}

fn proxy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proxy");
    for (name, make) in [
        ("loopback", tcp_upstream as fn(usize) -> String),
        ("unix_upstream", unix_upstream),
    ] {
        for body_bytes in BODY_BYTES {
            let address = gateway(&make(body_bytes));
            for connections in CONNECTIONS {
                let mut streams: Vec<TcpStream> = (0..connections)
                    .map(|_| {
                        let stream = TcpStream::connect(address).expect("a connection");
                        stream.set_nodelay(true).expect("a TCP option");
                        stream
                    })
                    .collect();
                let mut buffer = Vec::new();
                group.throughput(Throughput::Elements(connections as u64));
                let id = format!("{name}/{body_bytes}_bytes/{connections}_connections");
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        for stream in &mut streams {
                            stream.write_all(REQUEST).expect("a gateway that reads");
                        }
                        for stream in &mut streams {
                            read_answer(stream, &mut buffer, body_bytes);
                        }
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = proxy
}
criterion_main!(benches);
