//! Serving a request on a kept connection allocates nothing: a real worker, real sockets, limits, metrics and log on.

#![expect(
    unsafe_code,
    reason = "a global allocator can be counted in no other way"
)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the test's own threads wait for sockets"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use gateway::config::{ConfigSource, load};
use gateway::data::plan::{Addresses, Plan};
use gateway::data::upstream::AddressCell;
use gateway::data::worker::{Command, Event, Setup, run};
use gateway::telemetry::ring::{RING_BYTES, ring};
use gateway::telemetry::{MetricsShape, WorkerMetrics};
use limiter::KeyHasher;
use runtime::{Choice, Options};

const WARM_UP: usize = 200;
const REQUESTS: usize = 10_000;

struct Counting;

/// Allocations of the threads that count.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local that needs no
// allocation and no destructor, and an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `System`, see `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoNames;

impl Addresses for NoNames {
    fn cell(&mut self, host: &str, _port: u16) -> AddressCell {
        panic!("no name is configured, but {host}");
    }

    fn demo(&self) -> Option<SocketAddr> {
        None
    }
}

/// Answers whatever ends in an empty line, on as many connections as come.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                while read_to(&mut stream, b"\r\n\r\n") {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: test\r\n\r\nok";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Reads until the bytes so far end in `end`; false: they ended before.
fn read_to(stream: &mut TcpStream, end: &[u8]) -> bool {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !seen.ends_with(end) {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => seen.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
    true
}

fn plan(upstream: SocketAddr) -> Plan {
    let text = format!(
        "version = 1\n[[listeners]]\nname = 'web'\naddress = '127.0.0.1:0'\n\
         [limits.one]\nrate = '1000000/s'\nburst = 1000000\n[limits.two]\nrate = '2000000/s'\nburst = 1000000\n\
         [upstreams.up]\nendpoints = [{{ address = '{upstream}' }}]\n\
         [[routes]]\nname = 'all'\nlimits = ['one', 'two']\nupstream = 'up'\n"
    );
    let source = ConfigSource::Text {
        name: "test",
        text: &text,
    };
    let config = load(source, &|_| None).unwrap();
    Plan::new(
        &config,
        1,
        KeyHasher::random(),
        Instant::now(),
        &mut NoNames,
    )
    .unwrap()
}

fn requests_allocate_nothing(choice: Choice) {
    let listener = runtime::listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = TcpListener::from(listener.try_clone().unwrap())
        .local_addr()
        .unwrap();
    let plan = Arc::new(plan(upstream()));
    let shape = MetricsShape {
        listeners: 1,
        upstreams: 1,
        limits: 2,
        network_lists: 0,
        filters: 0,
    };
    let metrics = WorkerMetrics::new(0, shape);
    let (log, mut records) = ring(0, RING_BYTES, thread::current());
    let (commands, inbox) = flume::unbounded();
    let setup = Setup {
        index: 0,
        options: Options {
            choice,
            entries: 256,
        },
        listeners: vec![listener],
        plan,
        metrics,
        log: Some(log),
        inbox,
    };
    let (started, starting) = flume::unbounded();
    let worker = thread::spawn(move || {
        COUNTS.set(true);
        run(setup, |event| match event {
            Event::Started(_) => started.send(()).unwrap(),
            Event::Drained => {}
            event => panic!("{event:?}"),
        });
    });
    starting.recv().unwrap();

    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    let mut taken = 0;
    let mut send = |requests| {
        for _ in 0..requests {
            let request = b"GET /a/path?and=query HTTP/1.1\r\nHost: test\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
            client.write_all(request).unwrap();
            assert!(read_to(&mut client, b"\r\n\r\nok"));
            while records.next_record().is_some() {
                taken += 1;
            }
        }
    };
    send(WARM_UP);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(
        before > 0,
        "starting and connecting allocate: the count works"
    );
    send(REQUESTS);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    assert!(taken >= WARM_UP + REQUESTS - 1, "{taken} records");
    commands.send(Command::Drain(None)).unwrap();
    drop(client);
    worker.join().unwrap();
}

/// One test for both, since the count is of the process.
#[test]
fn a_request_on_a_kept_connection_allocates_nothing() {
    requests_allocate_nothing(Choice::Epoll);
    requests_allocate_nothing(Choice::Auto);
}
