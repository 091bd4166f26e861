//! What an idle connection costs in memory, to the byte: a real worker, real sockets, an allocator that counts.

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
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway::config::{ConfigSource, load};
use gateway::data::plan::{Addresses, Plan};
use gateway::data::upstream::AddressCell;
use gateway::data::worker::{Command, Event, Setup, run};
use gateway::telemetry::{MetricsShape, WorkerMetrics};
use limiter::KeyHasher;
use runtime::{Choice, Options};

const CONNECTIONS: i64 = 1_000;
/// On a ring, and on epoll, where the runtime keeps more for each socket. Rounded up to the sizes that the gateway's
/// allocator has.
const BYTES_EACH_MAX: [i64; 2] = [656, 704];

/// Sizes of blocks that are counted apart; what is larger counts as one.
const CLASSES: usize = 1024 / 16 + 1;

struct Counting;

/// Blocks that the counting thread has and has not freed, by size in units of 16 bytes.
static BLOCKS: [AtomicI64; CLASSES] = [const { AtomicI64::new(0) }; CLASSES];
/// Bytes of those.
static BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

/// The size that jemalloc gives for `size`: multiples of 16 to 128, then four sizes between powers of two.
const fn rounded(size: usize) -> usize {
    if size <= 128 {
        return size.next_multiple_of(16);
    }
    let step = size.next_power_of_two() / 8;
    size.next_multiple_of(step)
}

fn count(layout: Layout, sign: i64) {
    if COUNTS.get() {
        let size = rounded(layout.size());
        BLOCKS[(size / 16).min(CLASSES - 1)].fetch_add(sign, Ordering::Relaxed);
        BYTES.fetch_add(sign * i64::try_from(size).unwrap_or(0), Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local that needs no
// allocation and no destructor, and atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout, -1);
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

fn plan() -> Plan {
    let text = "version = 1\n[[listeners]]\nname = 'web'\naddress = '127.0.0.1:0'\n\
                header_timeout = '5m'\nidle_timeout = '5m'\n\
                [limits.one]\nrate = '1000000/s'\nburst = 1000000\n\
                [[routes]]\nname = 'all'\nlimits = ['one']\nrespond = { status = 200, body = 'ok' }\n";
    let source = ConfigSource::Text { name: "test", text };
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

fn blocks() -> Vec<i64> {
    BLOCKS
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect()
}

/// What there is more of than `before`: for a message.
fn grown(before: &[i64]) -> String {
    let mut text = String::new();
    for (class, (now, before)) in blocks().iter().zip(before).enumerate() {
        if now - before >= 1 {
            let _infallible = write!(text, "{} of {} bytes, ", now - before, class * 16);
        }
    }
    text
}

fn idle_connections_are_small(choice: Choice, bytes_each_max: i64) {
    let listener = runtime::listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = TcpListener::from(listener.try_clone().unwrap())
        .local_addr()
        .unwrap();
    let shape = MetricsShape {
        listeners: 1,
        upstreams: 0,
        limits: 1,
        network_lists: 0,
        filters: 0,
    };
    let (commands, inbox) = flume::unbounded();
    let setup = Setup {
        index: 0,
        options: Options {
            choice,
            entries: 256,
        },
        listeners: vec![listener],
        plan: Arc::new(plan()),
        metrics: WorkerMetrics::new(0, shape),
        log: None,
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

    let client = || {
        let mut client = TcpStream::connect(address).unwrap();
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
        while BYTES.load(Ordering::Relaxed) > most && Instant::now() < end {
            thread::park_timeout(Duration::from_millis(20));
        }
    };
    // What is made once is there before the measurement.
    let warm: Vec<TcpStream> = (0..8).map(|_| client()).collect();
    drop(warm);
    let (bytes, before) = (BYTES.load(Ordering::Relaxed), blocks());
    let clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| client()).collect();
    settled(bytes + CONNECTIONS * bytes_each_max);
    let each = (BYTES.load(Ordering::Relaxed) - bytes) / CONNECTIONS;
    assert!(
        each <= bytes_each_max,
        "{each} bytes each: {}",
        grown(&before)
    );
    commands.send(Command::Drain(None)).unwrap();
    drop(clients);
    worker.join().unwrap();
}

/// One test for both, since the count is of the process.
#[test]
fn an_idle_connection_holds_few_bytes() {
    runtime::limits::raise_open_files().unwrap();
    let [ring, epoll] = BYTES_EACH_MAX;
    idle_connections_are_small(Choice::Auto, ring);
    idle_connections_are_small(Choice::Epoll, epoll);
}
