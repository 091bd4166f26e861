//! Which endpoint gets a request: by requests in flight, by key, by weight; on all workers alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, ok, to_upstream};

fn start(driver: Driver, upstreams: &[Upstream], lines: &str) -> Gateway {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    Launch::new(driver)
        .rest(&to_upstream(&addresses, lines))
        .start()
}

/// How long each of `requests` took, in order of length. Eight clients share them, so that all are busy to the end: of idle
/// endpoints nobody knows which is slow.
fn durations(gateway: &Gateway, requests: usize) -> Vec<Duration> {
    let begun = AtomicUsize::new(0);
    let one_client = || {
        let mut client = Client::connect(gateway.address);
        let mut all = Vec::new();
        while begun.fetch_add(1, Ordering::Relaxed) < requests {
            let start = Instant::now();
            assert_eq!(client.get("/").status, 200);
            all.push(start.elapsed());
        }
        all
    };
    let mut all: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(one_client)).collect();
        let each = clients.into_iter().map(|client| client.join().unwrap());
        each.flatten().collect()
    });
    all.sort_unstable();
    all
}

fn slow_endpoint_is_spared(driver: Driver) {
    const SLOW: Duration = Duration::from_secs(1);
    // Ten endpoints of ten speeds, the last far behind.
    let of_speed = |each| {
        Upstream::answering(move |_, _| {
            thread::sleep(Duration::from_millis(each));
            ok("fast")
        })
    };
    let mut upstreams: Vec<Upstream> = (0..9).map(of_speed).collect();
    upstreams.push(Upstream::answering(|_, _| {
        thread::sleep(SLOW);
        ok("slow")
    }));
    let p99 = |policy, requests| {
        let gateway = start(driver, &upstreams, &format!("balance = \"{policy}\""));
        let all = durations(&gateway, requests);
        all[all.len() * 99 / 100]
    };
    assert!(p99("round_robin", 80) >= SLOW, "a tenth of them wait");
    for policy in ["least_request", "p2c"] {
        let p99 = p99(policy, 1_600);
        assert!(p99 < SLOW / 2, "{policy}: {p99:?}");
    }
}

/// A request that an endpoint does not answer is known to all workers.
fn counts_are_shared(driver: Driver, policy: &str) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let stuck = Upstream::answering(move |request, _| {
        if request.target() == "/stuck" {
            eventually("the gate", || gate.load(Ordering::Relaxed).then_some(()));
        }
        ok("stuck")
    });
    let upstreams = [stuck, Upstream::saying("free")];
    let gateway = start(driver, &upstreams, &format!("balance = \"{policy}\""));
    let address = gateway.address;
    // Until one of them is caught; the other endpoint answers it at once.
    let counts = || (upstreams[0].requests(), upstreams[1].requests());
    let mut waiting = None;
    for _ in 0..100 {
        let before = counts();
        let mut client = Client::connect(address);
        client.send("GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("an endpoint to have it", || {
            (counts() != before).then_some(())
        });
        if counts().0 > before.0 {
            waiting = Some(client);
            break;
        }
        assert_eq!(client.response().text(), "free");
    }
    let mut waiting = waiting.expect("one of a hundred goes to each");
    for _ in 0..40 {
        // The last one's client may have its answer before it is counted as over.
        eventually("one request in flight", || {
            let active = [("state", "active")];
            (gateway.metric("ringgate_upstream_connections", &active) == 1.0).then_some(())
        });
        // Each on a connection of its own, so that both workers get some.
        assert_eq!(gateway.get("/").text(), "free", "{policy}");
    }
    open.store(true, Ordering::Relaxed);
    assert_eq!(waiting.response().text(), "stuck");
    eventually("a request to who is free again", || {
        (gateway.get("/").text() == "stuck").then_some(())
    });
}

/// Names of the endpoints that answer requests with these heads.
fn answers(gateway: &Gateway, heads: &[String]) -> Vec<String> {
    let answer = |head: &String| {
        let mut client = Client::connect(gateway.address);
        client.send(format!("{head}\r\n\r\n"));
        client.response().text().to_owned()
    };
    heads.iter().map(answer).collect()
}

fn keys_stick(driver: Driver) {
    let names = ["a", "b", "c", "d", "e"];
    let upstreams: Vec<Upstream> = names.map(Upstream::saying).into();
    for (key, head) in [
        (
            "header:X-User",
            "GET /N HTTP/1.1\r\nHost: test\r\nX-User: u#",
        ),
        (
            "cookie:sid",
            "GET /N HTTP/1.1\r\nHost: test\r\nCookie: a=b; sid=u#",
        ),
        ("query:id", "GET /N?x=N&id=u# HTTP/1.1\r\nHost: test"),
        ("path:2", "GET /N/u# HTTP/1.1\r\nHost: test"),
        ("path", "GET /a/u# HTTP/1.1\r\nHost: test"),
    ] {
        let lines = format!("balance = \"hash\"\nhash_key = \"{key}\"");
        // The same on every worker, and in another gateway.
        let gateways = [0, 1].map(|_| start(driver, &upstreams, &lines));
        let heads = |salt: &str| -> Vec<String> {
            let head = |user: usize| {
                let head = head.replace('N', salt);
                head.replace('#', &user.to_string())
            };
            (0..100).map(head).collect()
        };
        let first = answers(&gateways[0], &heads("1"));
        assert_eq!(first, answers(&gateways[0], &heads("2")), "{key}");
        assert_eq!(first, answers(&gateways[1], &heads("3")), "{key}");
        for name in names {
            assert!(
                first.iter().any(|answer| answer == name),
                "{key}: {first:?}"
            );
        }
    }
}

fn one_client_sticks(driver: Driver) {
    let upstreams: Vec<Upstream> = ["a", "b", "c"].map(Upstream::saying).into();
    let lines = "balance = \"hash\"\nhash_key = \"client_ip\"";
    let gateway = start(driver, &upstreams, lines);
    let head = "GET / HTTP/1.1\r\nHost: test".to_owned();
    let answers = answers(&gateway, &vec![head; 20]);
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

fn without_value_spreads(driver: Driver) {
    let names = ["a", "b", "c"];
    let upstreams: Vec<Upstream> = names.map(Upstream::saying).into();
    let lines = "balance = \"hash\"\nhash_key = \"header:x-user\"";
    let gateway = start(driver, &upstreams, lines);
    let head = "GET / HTTP/1.1\r\nHost: test".to_owned();
    // By chance: that one of three gets none of 60 happens once in 10^10.
    let answers = answers(&gateway, &vec![head; 60]);
    for name in names {
        assert!(answers.iter().any(|answer| answer == name), "{answers:?}");
    }
}

on_both_drivers! {
    fn least_request_and_two_choices_spare_a_slow_endpoint(driver) {
        slow_endpoint_is_spared(driver);
    }

    fn a_request_in_flight_is_known_to_all_workers(driver) {
        counts_are_shared(driver, "least_request");
        counts_are_shared(driver, "p2c");
    }

    fn a_key_sticks_to_its_endpoint_on_all_workers_and_gateways(driver) {
        keys_stick(driver);
    }

    fn a_client_sticks_to_its_endpoint(driver) {
        one_client_sticks(driver);
    }

    fn requests_without_the_key_are_spread(driver) {
        without_value_spreads(driver);
    }
}
