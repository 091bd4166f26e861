//! Clients and upstreams that send in pieces of chance, at times of chance, and break off where chance will: no byte is
//! lost, doubled, or given to somebody else.
//!
//! Each exchange has a number, and both of its bodies are made from it, so that a byte of another exchange is seen. The
//! seed is printed by a test that fails; `RINGGATE_SEED` repeats it.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use crate::support::{Client, Driver, Launch, Upstream, to_upstream};

const CLIENTS: u64 = 8;
const EXCHANGES: u64 = 60;
/// Most bytes of a body; larger than what is copied into one send, and than a buffer.
const BODY_MAX: u64 = 200_000;

/// A generator of numbers that depend on the seed alone (xorshift64*).
#[derive(Clone, Copy)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Small more often than large.
    fn size(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => self.below(20),
            2 => self.below(5_000),
            _ => self.below(BODY_MAX),
        }
    }

    /// Sends all of `bytes` in pieces, now and then after a moment; false: the other side is gone.
    fn send(&mut self, stream: &mut TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let most = if self.one_in(3) { 10 } else { 100_000 };
            let count = (1 + self.below(most)).min(bytes.len() as u64);
            let (piece, rest) = bytes.split_at(usize::try_from(count).unwrap());
            if stream.write_all(piece).is_err() {
                return false;
            }
            bytes = rest;
            if self.one_in(8) {
                thread::sleep(Duration::from_micros(self.below(2_000)));
            }
        }
        true
    }
}

/// The bytes of exchange `number`, one way or the other.
fn body(number: u64, down: bool, size: u64) -> Vec<u8> {
    let mut chance = Chance((number << 1 | u64::from(down)) + 0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap() + 8);
    while (bytes.len() as u64) < size {
        bytes.extend_from_slice(&chance.next().to_le_bytes());
    }
    bytes.truncate(usize::try_from(size).unwrap());
    bytes
}

/// `content` in a framing of chance: the fields, and the bytes on the wire.
fn framed(chance: &mut Chance, content: &[u8]) -> (String, Vec<u8>) {
    if chance.one_in(2) {
        return (
            format!("Content-Length: {}\r\n", content.len()),
            content.to_vec(),
        );
    }
    let mut wire = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let most = if chance.one_in(2) { 30 } else { 60_000 };
        let count = (1 + chance.below(most)).min(rest.len() as u64);
        let (piece, after) = rest.split_at(usize::try_from(count).unwrap());
        let extension = if chance.one_in(9) { ";a=\"b\"" } else { "" };
        write!(wire, "{count:X}{extension}\r\n").unwrap();
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
        rest = after;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    ("Transfer-Encoding: chunked\r\n".to_owned(), wire)
}

/// What a target asks of the upstream: `/NUMBER/REQUEST_SIZE/RESPONSE_SIZE/SEED/CUT`.
struct Order {
    number: u64,
    up: u64,
    down: u64,
    seed: u64,
    /// Break off inside the response.
    cut: bool,
}

impl Order {
    fn target(&self) -> String {
        let Self {
            number,
            up,
            down,
            seed,
            cut,
        } = self;
        format!("/{number}/{up}/{down}/{seed}/{}", u64::from(*cut))
    }

    fn parse(target: &str) -> Option<Self> {
        let mut parts = target
            .strip_prefix('/')?
            .split('/')
            .map(|part| part.parse::<u64>().ok());
        let mut next = || parts.next().flatten();
        Some(Self {
            number: next()?,
            up: next()?,
            down: next()?,
            seed: next()?,
            cut: next()? == 1,
        })
    }
}

/// An upstream that checks what it gets and answers as ordered; complaints go to `faults`.
fn upstream(faults: &Arc<Mutex<Vec<String>>>) -> Upstream {
    let faults = Arc::clone(faults);
    Upstream::start(move |mut exchange| {
        let complain = |text: String| faults.lock().unwrap().push(text);
        while let Some(request) = exchange.head() {
            let Some(order) = Order::parse(request.target()) else {
                return complain(format!("a request that nobody sent: {request:?}"));
            };
            // A client may break off.
            let Some(got) = exchange.reading.body(&request.fields, false) else {
                return;
            };
            if got != body(order.number, false, order.up) {
                complain(format!(
                    "another body of {} bytes to {}",
                    got.len(),
                    request.target()
                ));
            }
            let mut chance = Chance(order.seed | 1);
            let (fields, wire) = framed(&mut chance, &body(order.number, true, order.down));
            let head = format!(
                "HTTP/1.1 200 OK\r\nX-Number: {}\r\n{fields}\r\n",
                order.number
            );
            let mut response = [head.as_bytes(), &wire].concat();
            if order.cut {
                response.truncate(usize::try_from(chance.below(response.len() as u64)).unwrap());
            }
            if !chance.send(&mut exchange.reading.stream, &response) {
                return;
            }
            if order.cut {
                return if chance.one_in(2) {
                    exchange.reset()
                } else {
                    exchange.close()
                };
            }
        }
    })
}

/// Exchanges of one client, on connections that it breaks off now and then.
fn talk(address: std::net::SocketAddr, client_number: u64, seed: u64) -> Result<(), String> {
    let mut chance = Chance(seed.wrapping_add(client_number.wrapping_mul(0x9e37_79b9)) | 1);
    let mut client = Client::connect(address);
    let mut number = client_number << 32;
    let last = number + EXCHANGES;
    while number < last {
        let orders: Vec<Order> = (0..1 + chance.below(3))
            .map(|_| {
                number += 1;
                Order {
                    number,
                    up: chance.size(),
                    down: chance.size(),
                    seed: chance.next() >> 1,
                    cut: chance.one_in(12),
                }
            })
            .collect();
        let mut wire = Vec::new();
        for order in &orders {
            let (fields, content) = framed(&mut chance, &body(order.number, false, order.up));
            write!(
                wire,
                "POST {} HTTP/1.1\r\nHost: test\r\n{fields}\r\n",
                order.target()
            )
            .unwrap();
            wire.extend_from_slice(&content);
        }
        let leaves = chance.one_in(6);
        if leaves {
            wire.truncate(usize::try_from(chance.below(wire.len() as u64)).unwrap());
        }
        // Sent beside the reading: both sides would wait for each other otherwise.
        let mut sender = client.sender();
        let mut pieces = chance;
        chance.next();
        let sending = thread::spawn(move || pieces.send(&mut sender, &wire));
        let goes_on = !leaves && check(&mut client, &orders)?;
        if goes_on {
            sending.join().expect("no panic");
            continue;
        }
        if leaves {
            sending.join().expect("no panic");
        } else {
            // What is left of the requests meets a closed connection.
            drop(client.stream().shutdown(std::net::Shutdown::Both));
            sending.join().expect("no panic");
        }
        if chance.one_in(2) {
            client.abort();
        }
        client = Client::connect(address);
    }
    Ok(())
}

/// Reads the answers to `orders`; true: the connection stays.
fn check(client: &mut Client, orders: &[Order]) -> Result<bool, String> {
    for order in orders {
        let Some(answer) = client.try_response(true) else {
            // Only an upstream that breaks off may have cut it.
            return if order.cut {
                Ok(false)
            } else {
                Err(format!("cut: {}", order.target()))
            };
        };
        if order.cut && answer.status == 502 {
            if answer.closes() {
                return Ok(false);
            }
            continue;
        }
        if answer.status != 200 {
            return Err(format!("{} for {}", answer.status, order.target()));
        }
        if answer.value("x-number") != order.number.to_string() {
            return Err(format!(
                "the answer of {} for {}",
                answer.value("x-number"),
                order.number
            ));
        }
        if answer.body != body(order.number, true, order.down) {
            return Err(format!(
                "another body of {} bytes for {}",
                answer.body.len(),
                order.target()
            ));
        }
    }
    Ok(true)
}

fn seed() -> u64 {
    let given = env::var("RINGGATE_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos()
    };
    given.unwrap_or_else(|| u64::try_from(now() & u128::from(u64::MAX)).unwrap())
}

fn talk_by_chance(driver: Driver, rounds: u64) {
    let seed = seed();
    let faults = Arc::new(Mutex::new(Vec::new()));
    let upstream = upstream(&faults);
    let gateway = Launch::new(driver)
        .access_log("path = \"off\"\n")
        .rest(&to_upstream(&[upstream.address], ""))
        .start();
    for round in 0..rounds {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|number| {
                let address = gateway.address;
                let number = round * CLIENTS + number;
                thread::spawn(move || talk(address, number, seed))
            })
            .collect();
        for client in clients {
            let result = client.join().expect("no panic");
            assert_eq!(result, Ok(()), "RINGGATE_SEED={seed}");
        }
        let faults = faults.lock().unwrap();
        assert!(faults.is_empty(), "RINGGATE_SEED={seed}: {faults:?}");
    }
    gateway.wait_until_quiet();
    let panics = gateway.metric("ringgate_connection_panics_total", &[]);
    assert_eq!(panics, 0.0, "RINGGATE_SEED={seed}");
}

on_both_drivers! {
    fn bytes_are_neither_lost_nor_doubled_nor_crossed(driver) {
        talk_by_chance(driver, 1);
    }

    #[ignore = "takes minutes: `cargo test -- --ignored soak`"]
    fn soak_bytes_are_neither_lost_nor_doubled_nor_crossed(driver) {
        talk_by_chance(driver, 40);
    }
}
