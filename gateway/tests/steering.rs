//! Which worker serves a client under each kind of steering, and that limits are exact under all of them: the real
//! binary with four workers, real sockets, and an upstream that counts what it got.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests are threads that wait for sockets and the clock"
)]

mod exposition;
mod steering_support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use steering_support::{BURST, Client, Driver, Gateway, RATE_PER_SECOND, WORKERS, has_ipv6, skip};

/// How long clients press: some 150 requests more than the burst are allowed meanwhile.
const PRESSURE: Duration = Duration::from_millis(1_500);
const THREADS: usize = 8;
const REQUESTS_PER_CONNECTION: usize = 10;

/// Makes of each `fn claim(driver)` two tests, `claim::io_uring` and `claim::epoll`.
macro_rules! on_both_drivers {
    ($(fn $name:ident($driver:ident) $body:block)+) => {$(
        fn $name($driver: Driver) $body

        mod $name {
            use super::*;

            #[test]
            fn io_uring() {
                if Driver::IoUring.is_here() {
                    super::$name(Driver::IoUring);
                }
            }

            #[test]
            fn epoll() {
                super::$name(Driver::Epoll);
            }
        }
    )+};
}

on_both_drivers! {
    fn an_address_has_one_worker_and_addresses_spread_over_all(driver) {
        // The second is an IPv6 socket that takes IPv4.
        for listen in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
            if listen.starts_with('[') && !has_ipv6() {
                continue;
            }
            let gateway = Gateway::start(driver, "source_ip", listen);
            let mut seen = BTreeSet::new();
            for client in (2..66).map(loopback) {
                let workers = workers_of(&gateway, client, 3, 2);
                assert_eq!(workers.len(), 1, "{client} was served by {workers:?}");
                seen.extend(workers);
            }
            assert_eq!(seen, (0..WORKERS).collect());
            assert!(gateway.imbalance() < 2.0);
        }
    }

    fn an_ipv6_address_has_one_worker(driver) {
        if has_ipv6() {
            let gateway = Gateway::start(driver, "source_ip", "[::1]:0");
            let workers = workers_of(&gateway, Ipv6Addr::LOCALHOST.into(), 40, 1);
            assert_eq!(workers.len(), 1, "{workers:?}");
        }
    }

    fn all_traffic_from_one_address_is_on_one_core_and_the_metric_says_so(driver) {
        let gateway = Gateway::start(driver, "source_ip", "127.0.0.1:0");
        assert_eq!(gateway.imbalance(), 1.0);
        workers_of(&gateway, loopback(2), 10, 1);
        assert_eq!(gateway.imbalance(), WORKERS as f64);
    }

    fn by_hash_the_connections_of_one_address_spread_over_all_workers(driver) {
        let gateway = Gateway::start(driver, "hash", "127.0.0.1:0");
        let workers = workers_of(&gateway, loopback(2), 100, 1);
        assert_eq!(workers, (0..WORKERS).collect());
        assert!(gateway.imbalance() < 2.0);
    }

    fn by_cpu_a_connection_is_served_on_the_core_where_its_packets_arrive(driver) {
        if !groups_heed_the_core() {
            return;
        }
        let gateway = Gateway::start(driver, "cpu", "127.0.0.1:0");
        let cores = runtime::cores::for_workers();
        for (number, &core) in cores.iter().enumerate().take(WORKERS) {
            let workers = thread::scope(|scope| {
                let client = scope.spawn(|| {
                    // What a thread sends over loopback arrives on its core.
                    assert!(core_affinity::set_for_current(core));
                    workers_of(&gateway, loopback(2), 20, 1)
                });
                client.join().unwrap()
            });
            let on_core = |worker: &usize| worker % cores.len() == number;
            assert!(workers.iter().all(on_core), "{workers:?} of {cores:?} served {core:?}");
        }
    }

    fn limits_are_exact_by_hash(driver) {
        let gateway = Gateway::start(driver, "hash", "127.0.0.1:0");
        admits_exactly(&gateway, loopback(2));
        assert!(gateway.imbalance() < WORKERS as f64, "one worker had it all");
    }

    fn limits_are_exact_by_source_address(driver) {
        let gateway = Gateway::start(driver, "source_ip", "127.0.0.1:0");
        admits_exactly(&gateway, loopback(3));
        assert_eq!(gateway.imbalance(), WORKERS as f64);
    }

    fn limits_are_exact_by_cpu(driver) {
        let gateway = Gateway::start(driver, "cpu", "127.0.0.1:0");
        admits_exactly(&gateway, loopback(4));
    }
}

fn loopback(host: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, host])
}

/// Sends `requests` requests on each of `connections` connections; which workers served them.
fn workers_of(
    gateway: &Gateway,
    client: IpAddr,
    connections: usize,
    requests: usize,
) -> BTreeSet<usize> {
    for _ in 0..connections {
        let mut connection = Client::connect(client, gateway.port);
        for _ in 0..requests {
            assert_eq!(connection.get("/").0, 200);
        }
    }
    let records = (0..connections * requests).map(|_| gateway.next_record());
    let workers = records.map(|record| {
        assert_eq!(record["client.address"], client.to_string());
        usize::try_from(record["ringgate.worker"].as_u64().unwrap()).unwrap()
    });
    workers.collect()
}

/// One client, on many connections at once, gets what its limit allows since the first request, to the one.
///
/// With `n` requests admitted at `t` after the first, the next is refused where `n + 1 > burst + rate * t`; the last one
/// sent is refused, so `t` is known within one round trip.
fn admits_exactly(gateway: &Gateway, client: IpAddr) {
    let before_first = Instant::now();
    assert_eq!(Client::connect(client, gateway.port).get("/limited").0, 200);
    let after_first = Instant::now();
    let press = || {
        let mut admitted = 0;
        while after_first.elapsed() < PRESSURE {
            let mut connection = Client::connect(client, gateway.port);
            admitted += (0..REQUESTS_PER_CONNECTION)
                .filter(|_| is_admitted(&mut connection))
                .count() as u64;
        }
        admitted
    };
    let mut admitted = 1 + thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(press)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<u64>()
    });
    let mut connection = Client::connect(client, gateway.port);
    let before_last = loop {
        let before = Instant::now();
        if !is_admitted(&mut connection) {
            break before;
        }
        admitted += 1;
    };
    let after_last = Instant::now();
    let allowed_in = |time: Duration| BURST as f64 + RATE_PER_SECOND as f64 * time.as_secs_f64();
    let least = allowed_in(before_last - after_first) - 1.0;
    let most = allowed_in(after_last - before_first);
    assert_eq!(gateway.upstream_requests(), admitted);
    assert!(
        (least..=most).contains(&(admitted as f64)),
        "{admitted} of {least:.3} to {most:.3}"
    );
}

fn is_admitted(connection: &mut Client) -> bool {
    match connection.get("/limited").0 {
        200 => true,
        429 => false,
        status => panic!("status {status}"),
    }
}

/// Whether the kernel is as new as Linux 6.2.
fn groups_heed_the_core() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (6, 2) {
        skip("groups heed SO_INCOMING_CPU since Linux 6.2");
    }
    version >= (6, 2)
}
