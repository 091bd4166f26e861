//! What an idle connection costs in memory, to the byte: a real worker, real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use runtime::Choice;

use crate::counting::Counters;
use crate::support::{Running, config, plan};

const CONNECTIONS: i64 = 1_000;
/// On a ring, and on epoll, where the runtime keeps more for each socket. Rounded up to the sizes that the gateway's
/// allocator has.
const BYTES_EACH_MAX: [i64; 2] = [651, 697];

const CONFIG: &str = "[[listeners]]\nname = 'web'\naddress = '127.0.0.1:0'\n\
    header_timeout = '5m'\nidle_timeout = '5m'\n\
    [limits.one]\nrate = '1000000/s'\nburst = 1000000\n\
    [[routes]]\nname = 'all'\nlimits = ['one']\nrespond = { status = 200, body = 'ok' }\n";

fn idle_connections_are_small(choice: Choice, bytes_each_max: i64) {
    let counters = Counters::new();
    let worker = Running::start(choice, plan(&config(CONFIG)), None, counters);
    let client = || {
        let mut client = TcpStream::connect(worker.address).unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            let mut piece = [0; 1024];
            let count = client.read(&mut piece).unwrap();
            assert!(count > 0, "closed");
            answer.extend_from_slice(&piece[..count]);
        }
        client
    };
    let settled = |most: i64| {
        let end = Instant::now() + Duration::from_secs(20);
        while counters.bytes() > most && Instant::now() < end {
            thread::park_timeout(Duration::from_millis(20));
        }
    };
    // What is made once is there before the measurement.
    let warm: Vec<TcpStream> = (0..8).map(|_| client()).collect();
    drop(warm);
    let (bytes, before) = (counters.bytes(), counters.blocks());
    let clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| client()).collect();
    settled(bytes + CONNECTIONS * bytes_each_max);
    let each = (counters.bytes() - bytes) / CONNECTIONS;
    assert!(
        each <= bytes_each_max,
        "{each} bytes each: {}",
        counters.grown(&before)
    );
    worker.end(clients);
}

#[test]
fn an_idle_connection_holds_few_bytes_on_the_ring() {
    runtime::limits::raise_open_files().unwrap();
    idle_connections_are_small(Choice::Auto, BYTES_EACH_MAX[0]);
}

#[test]
fn an_idle_connection_holds_few_bytes_on_epoll() {
    runtime::limits::raise_open_files().unwrap();
    idle_connections_are_small(Choice::Epoll, BYTES_EACH_MAX[1]);
}
