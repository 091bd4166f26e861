//! A thousand clients, few of them busy and most of them rare: each gets what its limit allows, over all workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Launch, Upstream, eventually, ok, to_upstream};

const CLIENTS: usize = 1_000;
const RATE_PER_SECOND: f64 = 40.0;
const BURST: f64 = 10.0;
const THREADS: usize = 4;
/// At least so many connections on each of the two workers.
const CONNECTIONS: f64 = 4.0;
const TIME: Duration = Duration::from_secs(2);

/// The k-th of the clients as often as 1/k says.
struct Zipf {
    cumulative: Vec<f64>,
    random: u64,
}

impl Zipf {
    fn new(seed: u64) -> Self {
        let weights = (1..=CLIENTS).map(|rank| 1.0 / rank as f64);
        let cumulative = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self {
            cumulative: cumulative.collect(),
            random: seed,
        }
    }

    fn next(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let unit = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        let wanted = unit * self.cumulative[CLIENTS - 1];
        self.cumulative
            .partition_point(|&sum| sum < wanted)
            .min(CLIENTS - 1)
    }
}

/// When a bucket was full again, at the earliest and at the latest: a decision falls between the sending and the answer.
#[derive(Default)]
struct Bounds {
    earliest_s: f64,
    latest_s: f64,
    through: usize,
    refused: usize,
}

impl Bounds {
    /// Checks one answer against the ideal bucket (one request every 1/40 s, ten at once), whenever it was decided on.
    fn check(&mut self, client: usize, through: bool, sent_s: f64, answered_s: f64) {
        let (interval_s, span_s) = (1.0 / RATE_PER_SECOND, (BURST - 1.0) / RATE_PER_SECOND);
        if through {
            let early_s = self.earliest_s - span_s - answered_s;
            assert!(
                early_s <= 1e-6,
                "client {client}: let through {early_s} s early"
            );
            self.earliest_s = self.earliest_s.max(sent_s) + interval_s;
            self.latest_s = self.latest_s.max(answered_s) + interval_s;
            self.through += 1;
        } else {
            let late_s = sent_s + span_s - self.latest_s;
            assert!(
                late_s <= 1e-6,
                "client {client}: refused {late_s} s after it was due"
            );
            self.refused += 1;
        }
    }
}

/// Asks for clients of its own, each request over the next connection, so that a client's come to both workers.
fn ask(mut connections: Vec<Client>, number: usize, start: Instant) -> HashMap<usize, Bounds> {
    let mut zipf = Zipf::new(0x9E37_79B9 + number as u64);
    let mut clients = HashMap::<usize, Bounds>::new();
    for turn in 0.. {
        let client = zipf.next() / THREADS * THREADS + number;
        let next = turn % connections.len();
        let connection = &mut connections[next];
        let sent = start.elapsed();
        connection.send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\nX-Client: {client}\r\n\r\n"
        ));
        let status = connection.response().status;
        let answered = start.elapsed();
        assert!(status == 200 || status == 429, "status {status}");
        let bounds = clients.entry(client).or_default();
        let (sent_s, answered_s) = (sent.as_secs_f64(), answered.as_secs_f64());
        bounds.check(client, status == 200, sent_s, answered_s);
        if answered > TIME {
            break;
        }
    }
    clients
}

on_both_drivers! {
    fn each_of_a_thousand_clients_gets_what_its_limit_allows_to_the_request(driver) {
        let seen = Arc::new(Mutex::new(HashMap::<usize, usize>::new()));
        let counting = Arc::clone(&seen);
        let upstream = Upstream::answering(move |request, _| {
            let client = request.values("x-client")[0].parse().unwrap();
            *counting.lock().unwrap().entry(client).or_default() += 1;
            ok("ok")
        });
        let gateway = Launch::new(driver)
            .rest("[limits.per_key]\nkey = \"header:x-client\"\nrate = \"40/s\"\nburst = 10\n")
            .rest(&to_upstream(&[upstream.address], ""))
            .rest("limits = [\"per_key\"]\n")
            .start();
        let mut connections = Vec::new();
        eventually("connections on both workers", || {
            connections.push(Client::connect(gateway.address));
            let metrics = gateway.metrics();
            let on = |worker| metrics.sum("ringgate_connections", &[("worker", worker)]) >= CONNECTIONS;
            (on("0") && on("1")).then_some(())
        });
        let mut dealt: Vec<Vec<Client>> = (0..THREADS).map(|_| Vec::new()).collect();
        for (number, connection) in connections.into_iter().enumerate() {
            dealt[number % THREADS].push(connection);
        }
        let start = Instant::now();
        let threads: Vec<_> = dealt
            .into_iter()
            .enumerate()
            .map(|(number, connections)| thread::spawn(move || ask(connections, number, start)))
            .collect();
        let clients: HashMap<usize, Bounds> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let seen = seen.lock().unwrap();
        for (client, bounds) in &clients {
            let got = seen.get(client).copied().unwrap_or(0);
            assert_eq!(got, bounds.through, "what reached the upstream of client {client}");
        }
        let refused = clients.values().filter(|bounds| bounds.refused > 0).count();
        let free = clients.values().filter(|bounds| bounds.refused == 0).count();
        assert!(refused > 0 && free > 10 * refused, "{refused} limited, {free} not: no such population");
    }
}
