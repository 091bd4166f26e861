//! Bodies pass while they are being sent, in bounded memory, byte for byte.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::support::{Client, Driver, Gateway, LONG, Launch, Upstream, ok, to_upstream};

/// How a body says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
}

const FRAMINGS: [Framing; 2] = [Framing::Length, Framing::Chunked];

impl Framing {
    /// The field for a body of `length` bytes.
    fn field(self, length: usize) -> String {
        match self {
            Self::Length => format!("Content-Length: {length}\r\n"),
            Self::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        }
    }

    /// A piece of a body.
    fn piece(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Length => data.to_vec(),
            Self::Chunked => [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat(),
        }
    }

    /// What follows the last piece.
    const fn end(self) -> &'static [u8] {
        match self {
            Self::Length => b"",
            Self::Chunked => b"0\r\n\r\n",
        }
    }
}

/// Reads exactly `data` as the next piece of a body.
macro_rules! expect_piece {
    ($reading:expr, $framing:expr, $data:expr) => {{
        let mut got = Vec::new();
        while got.len() < $data.len() {
            let piece = match $framing {
                Framing::Length => $reading.bytes($data.len() - got.len()),
                Framing::Chunked => $reading.chunk().unwrap_or_default(),
            };
            assert!(!piece.is_empty(), "cut after {} bytes", got.len());
            got.extend(piece);
        }
        assert!(got == $data, "other bytes");
    }};
}

fn halves() -> (Vec<u8>, Vec<u8>) {
    (vec![b'1'; 10_000], vec![b'2'; 90_000])
}

fn before(driver: Driver, upstream: &Upstream) -> Gateway {
    Launch::new(driver)
        .rest(&to_upstream(&[upstream.address], ""))
        .start()
}

/// Length of the large bodies.
const LARGE: usize = 100 << 20;
/// Resident memory that a gateway never goes beyond; a debug build measured 11 MB at the most.
const RESIDENT_MAX: u64 = 32 << 20;

/// Bytes that no shift by less than their number maps to themselves.
fn pattern() -> Vec<u8> {
    let mut state = 1_u32;
    let bytes = (0..65_521).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    bytes.collect()
}

/// Sends a body of `LARGE` bytes.
fn send_large(mut stream: impl Write, framing: Framing) {
    let pattern = pattern();
    let mut left = LARGE;
    while left > 0 {
        let piece = &pattern[..pattern.len().min(left)];
        if stream.write_all(&framing.piece(piece)).is_err() {
            return;
        }
        left -= piece.len();
    }
    drop(stream.write_all(framing.end()));
}

/// Compares a body of `LARGE` bytes with the pattern; `next` gives some of it.
fn check_large(mut next: impl FnMut(usize) -> Vec<u8>) {
    let pattern = pattern();
    let mut at = 0;
    while at < LARGE {
        let piece = next((LARGE - at).min(1 << 18));
        assert!(!piece.is_empty(), "cut after {at} bytes");
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let expected = &pattern[at % pattern.len()..];
            let count = expected.len().min(rest.len());
            assert!(rest[..count] == expected[..count], "other bytes after {at}");
            at += count;
            rest = &rest[count..];
        }
    }
    assert_eq!(at, LARGE);
}

/// Watches a gateway's resident memory while `work` is done; its most.
fn most_resident<T>(gateway: &Gateway, work: impl FnOnce() -> T) -> (T, u64) {
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(gateway.resident_bytes(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        // Also when `work` panics, or the scope would wait for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        result
    });
    let most = most.load(Ordering::Relaxed);
    match result {
        Ok(result) => (result, most),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

on_both_drivers! {
    fn the_upstream_gets_half_a_body_before_the_client_sends_the_rest(driver) {
        for framing in FRAMINGS {
            let (confirm, confirmed) = mpsc::channel();
            let upstream = Upstream::start(move |mut exchange| {
                let (one, two) = halves();
                exchange.head().unwrap();
                expect_piece!(exchange.reading, framing, one);
                confirm.send("half").unwrap();
                expect_piece!(exchange.reading, framing, two);
                if framing == Framing::Chunked {
                    assert!(exchange.reading.chunk().unwrap().is_empty());
                }
                exchange.send(ok("all"));
                exchange.wait_closed();
            });
            let gateway = before(driver, &upstream);
            let mut client = Client::connect(gateway.address);
            let (one, two) = halves();
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{}\r\n", framing.field(one.len() + two.len())));
            client.send(framing.piece(&one));
            confirmed.recv_timeout(LONG).expect("the first half at the upstream");
            client.send(framing.piece(&two));
            client.send(framing.end());
            assert_eq!(client.response().text(), "all", "{framing:?}");
        }
    }

    fn the_client_gets_half_a_body_before_the_upstream_sends_the_rest(driver) {
        for framing in FRAMINGS {
            let (confirm, confirmed) = mpsc::channel::<()>();
            let confirmed = Mutex::new(confirmed);
            let upstream = Upstream::start(move |mut exchange| {
                let (one, two) = halves();
                while exchange.head().is_some() {
                    exchange.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", framing.field(one.len() + two.len())));
                    exchange.send(framing.piece(&one));
                    confirmed.lock().unwrap().recv_timeout(LONG).expect("the first half at the client");
                    exchange.send(framing.piece(&two));
                    exchange.send(framing.end());
                }
            });
            let gateway = before(driver, &upstream);
            let mut client = Client::connect(gateway.address);
            for _ in 0..2 {
                let (one, two) = halves();
                client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                assert_eq!(client.head().unwrap().status, 200);
                expect_piece!(client.reading(), framing, one);
                confirm.send(()).unwrap();
                expect_piece!(client.reading(), framing, two);
                if framing == Framing::Chunked {
                    assert!(client.reading().chunk().unwrap().is_empty());
                }
            }
            assert_eq!(upstream.accepted(), 1, "{framing:?}: the connections stay");
        }
    }

    fn both_directions_at_once(driver) {
        // Each side answers a piece before the other sends the next: nothing may wait for the end of anything.
        let upstream = Upstream::start(|mut exchange| {
            exchange.head().unwrap();
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while let Some(chunk) = exchange.reading.chunk() {
                if chunk.is_empty() {
                    break;
                }
                exchange.send(Framing::Chunked.piece(&chunk));
            }
            exchange.send(Framing::Chunked.end());
            exchange.wait_closed();
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(client.head().unwrap().status, 200);
        for round in 0..100_u32 {
            let word = format!("piece {round}");
            client.send(Framing::Chunked.piece(word.as_bytes()));
            assert_eq!(client.reading().chunk().unwrap(), word.as_bytes());
        }
        client.send(Framing::Chunked.end());
        assert_eq!(client.reading().chunk().unwrap(), b"");
    }

    fn a_body_until_close_is_whole_and_keeps_the_clients_connection(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.head().unwrap();
            exchange.send("HTTP/1.1 200 OK\r\n\r\n");
            exchange.send(vec![b'x'; 100_000]);
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!(answer.value("transfer-encoding"), "chunked");
            assert_eq!(answer.body, vec![b'x'; 100_000]);
        }
        assert_eq!(upstream.accepted(), 3);
    }

    fn a_hundred_mebibytes_go_up_byte_for_byte_in_bounded_memory(driver) {
        let (checked, result) = mpsc::channel();
        let upstream = Upstream::start(move |mut exchange| {
            while let Some(request) = exchange.head() {
                if request.values("content-length").is_empty() {
                    check_large(|_| exchange.reading.chunk().unwrap_or_default());
                    assert!(exchange.reading.chunk().unwrap().is_empty());
                } else {
                    check_large(|most| exchange.reading.bytes(most));
                }
                checked.send(()).unwrap();
                exchange.send(ok("all"));
            }
        });
        let gateway = before(driver, &upstream);
        let ((), most) = most_resident(&gateway, || {
            let mut client = Client::connect(gateway.address);
            for framing in FRAMINGS {
                client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{}\r\n", framing.field(LARGE)));
                send_large(client.stream(), framing);
                assert_eq!(client.response().text(), "all", "{framing:?}");
                result.try_recv().unwrap();
            }
        });
        assert!(most < RESIDENT_MAX, "{most} bytes resident");
    }

    fn a_hundred_mebibytes_come_down_byte_for_byte_in_bounded_memory(driver) {
        let upstream = Upstream::start(|mut exchange| {
            while let Some(request) = exchange.head() {
                let framing = if request.target() == "/length" { Framing::Length } else { Framing::Chunked };
                exchange.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", framing.field(LARGE)));
                send_large(&exchange.reading.stream, framing);
            }
        });
        let gateway = before(driver, &upstream);
        let ((), most) = most_resident(&gateway, || {
            let mut client = Client::connect(gateway.address);
            client.send("GET /length HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.head().unwrap().status, 200);
            check_large(|most| client.reading().bytes(most));
            client.send("GET /chunked HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.head().unwrap().status, 200);
            check_large(|_| client.reading().chunk().unwrap_or_default());
            assert!(client.reading().chunk().unwrap().is_empty());
        });
        assert!(most < RESIDENT_MAX, "{most} bytes resident");
    }

    fn a_response_waits_for_its_reader_in_bounded_memory(driver) {
        let sent = Arc::new(AtomicU64::new(0));
        let sending = Arc::clone(&sent);
        let upstream = Upstream::start(move |mut exchange| {
            exchange.head().unwrap();
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            while exchange.send([0; 65_536]) {
                sending.fetch_add(65_536, Ordering::Relaxed);
            }
        });
        let gateway = before(driver, &upstream);
        let ((), most) = most_resident(&gateway, || {
            let mut client = Client::connect(gateway.address);
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.head().unwrap().status, 200);
            // Nothing moves any more once every buffer on the way is full: as many looks as make two seconds.
            let (mut last, mut still) = (0, 0);
            crate::support::eventually("back-pressure", || {
                let now = sent.load(Ordering::Relaxed);
                still = if now == last && now > 0 { still + 1 } else { 0 };
                last = now;
                (still == 400).then_some(())
            });
            assert!(last < LARGE as u64, "all of it was taken");
        });
        assert!(most < RESIDENT_MAX, "{most} bytes resident");
    }
}
