//! The end of a gateway: what it was given in time is answered, and it ends in time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, Driver, Gateway, LONG, Launch, Upstream, eventually, get, ok, to_upstream,
};

/// An upstream that answers when it is told to, and how to tell it.
fn holding() -> (Upstream, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |mut exchange| {
        while exchange.request().is_some() {
            if released.lock().unwrap().recv_timeout(LONG).is_err() {
                return;
            }
            exchange.send(ok("late"));
        }
    });
    (upstream, release)
}

/// A gateway with a request that waits for its upstream, and the client that waits for it.
fn with_one_in_flight(driver: Driver, upstream: &Upstream, runtime: &str) -> (Gateway, Client) {
    let gateway = Launch::new(driver)
        .runtime(runtime)
        .rest(&to_upstream(&[upstream.address], ""))
        .start();
    let mut client = Client::connect(gateway.address);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request at the upstream", || {
        (upstream.requests() == 1).then_some(())
    });
    (gateway, client)
}

fn wait_until_draining(gateway: &Gateway) {
    eventually("readiness at 503", || {
        (get(gateway.admin, "/readyz").status == 503).then_some(())
    });
}

fn refuses_connections(address: SocketAddr) -> Option<()> {
    Client::try_connect(address).is_err().then_some(())
}

/// What a client under load saw.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicUsize,
    answered_after_signal: AtomicUsize,
    signalled: AtomicBool,
}

/// Sends requests without a pause, on one connection after the other, until nobody listens any more.
fn load(address: SocketAddr, seen: &Seen) {
    while let Ok(mut client) = Client::try_connect(address) {
        for turn in 0.. {
            // What is sent after the gateway's close is nobody's loss.
            if is_closed(&client) {
                break;
            }
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            let after = seen.signalled.load(Ordering::Relaxed);
            let answer = client.try_response(true);
            let answer = answer.unwrap_or_else(|| {
                panic!("request {turn} of a connection was sent before the close and not answered")
            });
            assert_eq!((answer.status, answer.text()), (200, "ok"));
            seen.answered.fetch_add(1, Ordering::Relaxed);
            if after {
                seen.answered_after_signal.fetch_add(1, Ordering::Relaxed);
            }
            if answer.closes() {
                break;
            }
        }
    }
}

/// The gateway's close has arrived.
fn is_closed(client: &Client) -> bool {
    let stream = client.stream();
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    matches!(peeked, Ok(0))
}

on_both_drivers! {
    fn every_request_that_was_sent_is_answered_when_term_comes_under_load(driver) {
        let upstream = Upstream::saying("ok");
        let mut gateway = Launch::new(driver).rest(&to_upstream(&[upstream.address], "")).start();
        let seen = Arc::new(Seen::default());
        let loads: Vec<_> = (0..16)
            .map(|_| {
                let (address, seen) = (gateway.address, Arc::clone(&seen));
                thread::spawn(move || load(address, &seen))
            })
            .collect();
        eventually("load", || (seen.answered.load(Ordering::Relaxed) > 500).then_some(()));
        gateway.signal(libc::SIGTERM);
        seen.signalled.store(true, Ordering::Relaxed);
        for load in loads {
            load.join().unwrap();
        }
        assert_eq!(gateway.exit_code(), Some(0));
        let answered = seen.answered.load(Ordering::Relaxed);
        assert_eq!(upstream.requests(), answered);
        assert_eq!(gateway.all_records().len(), answered, "a record for each");
        assert!(seen.answered_after_signal.load(Ordering::Relaxed) > 0, "the signal came under load");
    }

    fn a_request_in_flight_is_finished_and_its_connection_closed(driver) {
        let (upstream, release) = holding();
        let (mut gateway, mut client) = with_one_in_flight(driver, &upstream, "");
        gateway.signal(libc::SIGTERM);
        wait_until_draining(&gateway);
        eventually("no listener", || refuses_connections(gateway.address));
        release.send(()).unwrap();
        let answer = client.response();
        assert!(answer.text() == "late" && answer.closes(), "{answer:?}");
        assert!(client.is_closed());
        assert_eq!(gateway.exit_code(), Some(0));
    }

    fn idle_connections_are_closed_in_order_and_nothing_else_holds_up_the_end(driver) {
        let upstream = Upstream::saying("ok");
        let mut gateway = Launch::new(driver).rest(&to_upstream(&[upstream.address], "")).start();
        let mut clients: Vec<_> = (0..10).map(|_| Client::connect(gateway.address)).collect();
        for client in &mut clients[..8] {
            assert_eq!(client.get("/").text(), "ok");
        }
        let start = Instant::now();
        gateway.signal(libc::SIGTERM);
        for client in &mut clients {
            assert!(client.is_closed(), "in order");
        }
        assert_eq!(gateway.exit_code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    fn int_drains_as_term_does(driver) {
        let (upstream, release) = holding();
        let (mut gateway, mut client) = with_one_in_flight(driver, &upstream, "");
        gateway.signal(libc::SIGINT);
        wait_until_draining(&gateway);
        release.send(()).unwrap();
        assert_eq!(client.response().text(), "late");
        assert_eq!(gateway.exit_code(), Some(0));
    }

    fn accepting_goes_on_during_the_drain_delay_with_readiness_at_503(driver) {
        let upstream = Upstream::saying("ok");
        let mut gateway = Launch::new(driver)
            .runtime("drain_delay = \"60s\"")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        assert_eq!(get(gateway.admin, "/readyz").status, 200);
        gateway.signal(libc::SIGTERM);
        wait_until_draining(&gateway);
        assert_eq!(get(gateway.admin, "/healthz").status, 200);
        for _ in 0..20 {
            let answer = gateway.get("/");
            assert!(answer.text() == "ok" && !answer.closes(), "{answer:?}");
        }
        // Not sixty seconds later.
        gateway.signal(libc::SIGTERM);
        assert_eq!(gateway.exit_code(), Some(0));
    }

    fn the_drain_delay_ends(driver) {
        let upstream = Upstream::saying("ok");
        let mut gateway = Launch::new(driver)
            .runtime("drain_delay = \"500ms\"")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let start = Instant::now();
        gateway.signal(libc::SIGTERM);
        assert_eq!(gateway.exit_code(), Some(0));
        assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    }

    fn the_deadline_cuts_what_does_not_end(driver) {
        let (upstream, _release) = holding();
        let (mut gateway, mut client) = with_one_in_flight(driver, &upstream, "drain_timeout = \"1s\"");
        let start = Instant::now();
        gateway.signal(libc::SIGTERM);
        client.is_closed();
        assert_eq!(gateway.exit_code(), Some(0));
        let took = start.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?}");
        let records = gateway.all_records();
        assert_eq!(records[0]["ringgate.end"], "drained", "{records:?}");
    }

    fn quit_drains_without_a_deadline(driver) {
        let (upstream, release) = holding();
        let (mut gateway, mut client) = with_one_in_flight(driver, &upstream, "drain_timeout = \"1ms\"");
        gateway.signal(libc::SIGQUIT);
        wait_until_draining(&gateway);
        eventually("no listener", || refuses_connections(gateway.address));
        // Another, told later to keep to the deadline of one millisecond, has ended by it.
        let (other_upstream, _never) = holding();
        let (mut other, _cut) = with_one_in_flight(driver, &other_upstream, "drain_timeout = \"1ms\"");
        other.signal(libc::SIGTERM);
        assert_eq!(other.exit_code(), Some(0));
        assert!(gateway.is_running());
        release.send(()).unwrap();
        assert_eq!(client.response().text(), "late");
        assert_eq!(gateway.exit_code(), Some(0));
    }

    fn a_second_signal_ends_at_once(driver) {
        for (first, second) in [(libc::SIGTERM, libc::SIGTERM), (libc::SIGINT, libc::SIGTERM), (libc::SIGQUIT, libc::SIGINT)] {
            let (upstream, _release) = holding();
            let (mut gateway, mut client) = with_one_in_flight(driver, &upstream, "");
            gateway.signal(first);
            wait_until_draining(&gateway);
            let start = Instant::now();
            gateway.signal(second);
            assert_eq!(gateway.exit_code(), Some(0));
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
            client.is_closed();
        }
    }
}
