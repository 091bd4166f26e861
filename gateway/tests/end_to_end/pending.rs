//! Upstreams with all that they may have: who waits for a place, in which order, and who is refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, ok, to_upstream};

/// Answers a request when it is let, and keeps the order in which requests came.
struct Gate {
    upstream: Upstream,
    let_through: Arc<AtomicUsize>,
    order: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    fn new() -> Self {
        let let_through = Arc::new(AtomicUsize::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let (its, list) = (Arc::clone(&let_through), Arc::clone(&order));
        let upstream = Upstream::answering(move |request, _| {
            let number = {
                let mut list = list.lock().unwrap();
                list.push(request.target().to_owned());
                list.len()
            };
            eventually("the gate to open", || {
                (its.load(Ordering::Relaxed) >= number).then_some(())
            });
            ok("through")
        });
        Self {
            upstream,
            let_through,
            order,
        }
    }

    /// One more gets its answer.
    fn open_for_one(&self) {
        self.let_through.fetch_add(1, Ordering::Relaxed);
    }

    fn open(&self) {
        self.let_through.store(usize::MAX, Ordering::Relaxed);
    }

    fn order(&self) -> Vec<String> {
        self.order.lock().unwrap().clone()
    }
}

fn start(driver: Driver, gate: &Gate, lines: &str) -> Gateway {
    Launch::new(driver)
        .rest(&to_upstream(&[gate.upstream.address], lines))
        .start()
}

fn waiting(gateway: &Gateway) -> f64 {
    gateway.metric("ringgate_upstream_pending", &[("upstream", "up")])
}

/// Sends a request and waits until it has arrived where it stays: at the upstream, or in the queue.
fn ask(gateway: &Gateway, gate: &Gate, target: &str) -> Client {
    let before = (gate.order().len(), waiting(gateway));
    let mut client = Client::connect(gateway.address);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    eventually("the request to be somewhere", || {
        ((gate.order().len(), waiting(gateway)) != before).then_some(())
    });
    client
}

/// `cap`: a line that lets one request through at a time. More connections than workers, so that both wait.
fn in_order(driver: Driver, cap: &str) {
    const CLIENTS: usize = 12;
    let gate = Gate::new();
    let lines = format!("{cap}\nmax_pending = 100\npending_timeout = \"60s\"");
    let gateway = start(driver, &gate, &lines);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| ask(&gateway, &gate, &format!("/{number}")))
        .collect();
    assert_eq!(gate.order(), ["/0"]);
    assert_eq!(waiting(&gateway), (CLIENTS - 1) as f64);
    for (number, client) in clients.iter_mut().enumerate() {
        gate.open_for_one();
        assert_eq!(client.response().text(), "through");
        eventually("the next", || {
            (gate.order().len() == (number + 2).min(CLIENTS)).then_some(())
        });
    }
    let expected: Vec<String> = (0..CLIENTS).map(|number| format!("/{number}")).collect();
    assert_eq!(
        gate.order(),
        expected,
        "first come, first served, on both workers"
    );
    assert_eq!(waiting(&gateway), 0.0);
    // And then there are places as before.
    gate.open();
    assert_eq!(gateway.get("/after").text(), "through");
}

fn a_full_queue_refuses(driver: Driver) {
    let gate = Gate::new();
    let lines = "max_requests = 1\nmax_pending = 2\npending_timeout = \"60s\"";
    let gateway = start(driver, &gate, lines);
    let mut clients: Vec<Client> = ["/1", "/2", "/3"]
        .map(|target| ask(&gateway, &gate, target))
        .into();
    let mut refused = Client::connect(gateway.address);
    let answer = refused.get("/4");
    assert_eq!(answer.value("retry-after"), "1");
    assert_eq!(answer.problem(503), "upstream_full");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "through");
    }
}

fn waiting_ends(driver: Driver) {
    let gate = Gate::new();
    let lines = "max_requests = 1\nmax_pending = 2\npending_timeout = \"300ms\"";
    let gateway = start(driver, &gate, lines);
    let mut first = ask(&gateway, &gate, "/1");
    let begun = Instant::now();
    let answer = gateway.get("/2");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(answer.problem(503), "pending_timeout");
    assert_eq!(gateway.record_of("/2")["ringgate.end"], "upstream_busy");
    assert_eq!(waiting(&gateway), 0.0);
    gate.open();
    assert_eq!(first.response().text(), "through");
    assert_eq!(gateway.get("/3").text(), "through");
}

/// Many clients on few places: all get their answer, and never are there more than may be.
fn under_load(driver: Driver, cap: &str) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (its, peak) = (Arc::clone(&now), Arc::clone(&most));
    let upstream = Upstream::answering(move |_, _| {
        let requests = its.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(requests, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1));
        its.fetch_sub(1, Ordering::SeqCst);
        ok("through")
    });
    let lines = format!("{cap}\nmax_pending = 100\npending_timeout = \"60s\"");
    let gateway = Launch::new(driver)
        .rest(&to_upstream(&[upstream.address], &lines))
        .start();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address);
                for _ in 0..50 {
                    assert_eq!(client.get("/").text(), "through");
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?}");
    eventually("nobody to wait", || {
        (waiting(&gateway) == 0.0).then_some(())
    });
}

fn without_a_queue(driver: Driver) {
    let gate = Gate::new();
    let gateway = start(driver, &gate, "max_requests = 1");
    let mut client = Client::connect(gateway.address);
    client.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it to be there", || (gate.order().len() == 1).then_some(()));
    assert_eq!(gateway.get("/2").problem(503), "upstream_full");
    gate.open();
    assert_eq!(client.response().text(), "through");
}

on_both_drivers! {
    fn who_waits_for_a_request_to_end_is_served_in_order(driver) {
        in_order(driver, "max_requests = 1");
    }

    fn who_waits_for_a_connection_is_served_in_order(driver) {
        in_order(driver, "max_connections = 1");
    }

    fn more_than_may_wait_are_refused(driver) {
        a_full_queue_refuses(driver);
    }

    fn who_waits_too_long_is_refused(driver) {
        waiting_ends(driver);
    }

    fn few_places_serve_many_clients(driver) {
        under_load(driver, "max_requests = 3");
        under_load(driver, "max_connections = 3");
    }

    fn without_a_queue_a_request_too_many_is_refused(driver) {
        without_a_queue(driver);
    }
}
