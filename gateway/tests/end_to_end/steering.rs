//! Which worker serves a client under each kind of steering, and that limits are exact under all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, skip, to_upstream};

/// Of every gateway here, however many cores there are.
const WORKERS: usize = 4;
const OWN: &str = "[[routes]]\nname = \"own\"\npath = \"/own\"\nrespond = { body = \"own\" }\n";
/// So low that clients on the busiest machine ask for more.
const RATE_PER_SECOND: f64 = 20.0;
/// Two seconds' worth: no pause of a worker's replacement lets the bucket fill up.
const BURST: f64 = 40.0;
/// How long a client presses.
const PRESSURE: Duration = Duration::from_secs(1);
const THREADS: usize = 8;
const REQUESTS_PER_CONNECTION: usize = 10;
/// The gateway ends at the fourth.
const DEATHS: usize = 3;

on_both_drivers! {
    fn an_address_has_one_worker_and_addresses_spread_over_all(driver) {
        // The second is an IPv6 socket that takes IPv4.
        for address in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
            if address.starts_with('[') && !has_ipv6() {
                continue;
            }
            let gateway = steered(driver, "source_ip").listen(address).rest(OWN).start();
            for client in (2..66).map(loopback) {
                ask(&gateway, client, 3);
            }
            let workers = workers_by_client(&gateway, 64 * 3);
            assert_eq!(workers.len(), 64);
            assert!(workers.values().all(|workers| workers.len() == 1), "{workers:?}");
            let all: BTreeSet<usize> = workers.into_values().flatten().collect();
            assert_eq!(all, (0..WORKERS).collect());
            assert!(imbalance(&gateway) < 2.0);
        }
    }

    fn an_ipv6_address_has_one_worker(driver) {
        if has_ipv6() {
            let gateway = steered(driver, "source_ip").listen("[::1]:0").rest(OWN).start();
            ask(&gateway, Ipv6Addr::LOCALHOST.into(), 40);
            assert_eq!(workers_by_client(&gateway, 40)["::1"].len(), 1);
        }
    }

    fn all_traffic_from_one_address_is_on_one_core_and_the_metric_says_so(driver) {
        let gateway = steered(driver, "source_ip").rest(OWN).start();
        assert_eq!(imbalance(&gateway), 1.0);
        ask(&gateway, loopback(2), 10);
        assert_eq!(imbalance(&gateway), WORKERS as f64);
    }

    fn by_hash_the_connections_of_one_address_spread_over_all_workers(driver) {
        let gateway = steered(driver, "hash").rest(OWN).start();
        ask(&gateway, loopback(2), 100);
        assert_eq!(workers_by_client(&gateway, 100)["127.0.0.2"], (0..WORKERS).collect());
        assert!(imbalance(&gateway) < 2.0);
    }

    fn by_cpu_a_connection_is_served_on_the_core_where_its_packets_arrive(driver) {
        if !groups_heed_the_core() {
            return;
        }
        let gateway = steered(driver, "cpu").rest(OWN).start();
        let cores = runtime::cores::for_workers();
        let clients = (2..).map(loopback).zip(&cores).take(WORKERS);
        for (client, &core) in clients.clone() {
            // What a thread sends over loopback arrives on its core.
            let pinned = || {
                assert!(core_affinity::set_for_current(core));
                ask(&gateway, client, 20);
            };
            thread::scope(|scope| scope.spawn(pinned).join().unwrap());
        }
        let workers = workers_by_client(&gateway, 20 * clients.clone().count());
        for (place, (client, core)) in clients.enumerate() {
            let workers = &workers[&client.to_string()];
            let on_core = |worker: &usize| worker % cores.len() == place;
            assert!(workers.iter().all(on_core), "{workers:?} served {core:?} of {cores:?}");
        }
    }

    fn cpu_without_pinned_workers_is_warned_of(driver) {
        let gateway = steered(driver, "cpu").runtime("pin_cores = false").rest(OWN).start();
        assert!(gateway.said().iter().any(|line| line.contains("does nothing while pin_cores is false")));
    }

    fn limits_are_exact_by_hash(driver) {
        let gateway = admits_exactly(driver, "hash", 0);
        assert!(imbalance(&gateway) < WORKERS as f64, "one worker had it all");
    }

    fn limits_are_exact_by_source_address(driver) {
        let gateway = admits_exactly(driver, "source_ip", 0);
        assert_eq!(imbalance(&gateway), WORKERS as f64);
    }

    fn limits_are_exact_by_cpu(driver) {
        admits_exactly(driver, "cpu", 0);
    }

    fn limits_are_exact_by_hash_while_workers_die(driver) {
        admits_exactly(driver, "hash", DEATHS);
    }

    fn limits_are_exact_by_source_address_while_their_worker_dies(driver) {
        let gateway = admits_exactly(driver, "source_ip", DEATHS);
        assert_eq!(imbalance(&gateway), WORKERS as f64, "a replacement has its predecessor's place");
    }

    fn limits_are_exact_by_cpu_while_workers_die(driver) {
        admits_exactly(driver, "cpu", DEATHS);
    }
}

fn steered(driver: Driver, steer: &str) -> Launch {
    let steer = format!("steer = \"{steer}\"");
    Launch::new(driver).workers(WORKERS).listener(&steer)
}

fn loopback(host: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, host])
}

fn connect(gateway: &Gateway, client: IpAddr) -> Client {
    let to = match client {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    Client::connect_from(
        SocketAddr::new(client, 0),
        SocketAddr::new(to, gateway.address.port()),
    )
}

/// Sends a request on each of so many connections.
fn ask(gateway: &Gateway, client: IpAddr, connections: usize) {
    for _ in 0..connections {
        assert_eq!(connect(gateway, client).get("/own").text(), "own");
    }
}

/// Which workers served each client, when there are so many records.
fn workers_by_client(gateway: &Gateway, records: usize) -> BTreeMap<String, BTreeSet<usize>> {
    let records = eventually("all records", || {
        let so_far = gateway.records();
        (so_far.len() == records).then_some(so_far)
    });
    let mut workers = BTreeMap::<_, BTreeSet<_>>::new();
    for record in records {
        let client = record["client.address"].as_str().unwrap().to_owned();
        let worker = record["ringgate.worker"].as_u64().unwrap();
        workers
            .entry(client)
            .or_default()
            .insert(usize::try_from(worker).unwrap());
    }
    workers
}

fn imbalance(gateway: &Gateway) -> f64 {
    gateway.metric("ringgate_worker_imbalance_ratio", &[("listener", "web")])
}

/// One client on many connections at once is let through as often as its limit allows, to the one, while so many
/// workers die.
///
/// A refusal says that less than one request was left at its moment, which is known within one round trip. So between
/// two refusals `rate * t` are let through, give or take one, and before the last `burst + rate * t` at most.
fn admits_exactly(driver: Driver, steer: &str, deaths: usize) -> Gateway {
    let upstream = Upstream::saying("ok");
    let limit = format!("[limits.per_client]\nrate = \"{RATE_PER_SECOND}/s\"\nburst = {BURST}\n");
    let gateway = steered(driver, steer)
        .environment("RINGGATE_FAULTS", "1")
        .rest(&limit)
        .rest(&to_upstream(&[upstream.address], ""))
        .rest("limits = [\"per_client\"]\n")
        .rest(OWN)
        .start();
    let client = loopback(2);
    let start = Instant::now();
    let first = until_refused(&mut connect(&gateway, client));
    let pressed = thread::scope(|scope| {
        let press = || press(&gateway, client, first.answered + PRESSURE);
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(press)).collect();
        for death in 1..=deaths {
            kill_worker_of(&gateway, client, death);
        }
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    });
    let last = until_refused(&mut connect(&gateway, client));

    let allowed = gateway.metric(
        "ringgate_ratelimit_decisions_total",
        &[("outcome", "allowed")],
    );
    let refilled = |time: Duration| RATE_PER_SECOND * time.as_secs_f64();
    let least = first.through as f64 + refilled(last.sent - first.answered) - 1.0;
    let most = BURST + refilled(last.answered - start);
    assert!(
        least <= allowed && allowed <= most,
        "{allowed} of {least:.3} to {most:.3}"
    );
    // A worker may die over a request that it let through, before it is sent or answered.
    let (through, lost) = (first.through + pressed.0 + last.through, pressed.1);
    assert!(lost == 0 || deaths > 0, "{lost} requests without an answer");
    let got = upstream.requests();
    assert!(
        through <= got && got as f64 <= allowed,
        "{through} answers, {got} of {allowed}"
    );
    assert!(
        allowed <= (through + lost) as f64,
        "{allowed} of {through} and {lost} more"
    );
    gateway
}

struct Refusal {
    sent: Instant,
    answered: Instant,
    /// Requests let through before it.
    through: usize,
}

fn until_refused(client: &mut Client) -> Refusal {
    let mut through = 0;
    loop {
        let sent = Instant::now();
        if !is_let_through(client).unwrap() {
            let answered = Instant::now();
            return Refusal {
                sent,
                answered,
                through,
            };
        }
        through += 1;
    }
}

/// Asks on one connection after the other; how many requests were let through and how many had no answer.
fn press(gateway: &Gateway, client: IpAddr, until: Instant) -> (usize, usize) {
    let (mut through, mut lost) = (0, 0);
    while Instant::now() < until {
        let mut connection = connect(gateway, client);
        for _ in 0..REQUESTS_PER_CONNECTION {
            match is_let_through(&mut connection) {
                Some(yes) => through += usize::from(yes),
                None => {
                    lost += 1;
                    break;
                }
            }
        }
    }
    (through, lost)
}

/// `None`: the connection ended without an answer.
fn is_let_through(client: &mut Client) -> Option<bool> {
    let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    client.stream().write_all(request.as_bytes()).ok()?;
    match client.try_response(true)?.status {
        200 => Some(true),
        429 => Some(false),
        status => panic!("status {status}"),
    }
}

/// Ends the worker that a connection of `client` reaches, and waits for its replacement; it is the process's death of
/// this number.
fn kill_worker_of(gateway: &Gateway, client: IpAddr, number: usize) {
    let mut connection = connect(gateway, client);
    connection.send("GET /own HTTP/1.1\r\nHost: test\r\nX-Ringgate-Fault: worker\r\n\r\n");
    while connection.try_response(true).is_some() {}
    eventually("a replacement", || {
        let restarts = gateway.metric("ringgate_worker_restarts_total", &[]);
        (restarts == number as f64).then_some(())
    });
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skip("IPv6", thread::current().name().unwrap());
    }
    has
}

/// Whether the kernel is as new as Linux 6.2.
fn groups_heed_the_core() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (6, 2) {
        skip("Linux 6.2", thread::current().name().unwrap());
    }
    version >= (6, 2)
}
