//! Endpoints that are out of order: found by checks and by failed requests, left out, and back when they are well.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    Client, Driver, Folder, Gateway, Launch, Upstream, eventually, get, ok, to_upstream,
};

/// An upstream that answers with its name, and 503 to everything or to checks only while it is told to.
struct Patient {
    upstream: Upstream,
    sick: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Patient {
    /// `checks_only`: requests are answered well all the same.
    fn new(name: &'static str, checks_only: bool) -> Self {
        let sick = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let (its, count) = (Arc::clone(&sick), Arc::clone(&served));
        let upstream = Upstream::answering(move |request, _| {
            let check = request.target() == "/healthz";
            count.fetch_add(usize::from(!check), Ordering::Relaxed);
            if its.load(Ordering::Relaxed) && (check || !checks_only) {
                return "HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n".to_owned();
            }
            ok(name)
        });
        Self {
            upstream,
            sick,
            served,
        }
    }

    fn set_sick(&self, sick: bool) {
        self.sick.store(sick, Ordering::Relaxed);
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

fn start(driver: Driver, patients: &[Patient], lines: &str) -> Gateway {
    let addresses = patients.iter().map(|patient| patient.upstream.address);
    let addresses: Vec<_> = addresses.collect();
    Launch::new(driver)
        .rest(&to_upstream(&addresses, lines))
        .start()
}

/// The endpoints on the page of the admin address.
fn endpoints(gateway: &Gateway) -> Vec<Value> {
    let page: Value = serde_json::from_str(get(gateway.admin, "/upstreams").text()).unwrap();
    page["upstreams"][0]["endpoints"]
        .as_array()
        .unwrap()
        .clone()
}

fn state(gateway: &Gateway, endpoint: usize) -> String {
    endpoints(gateway)[endpoint]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn wait_for_state(gateway: &Gateway, endpoint: usize, wanted: &str) {
    eventually(&format!("endpoint {endpoint} to be {wanted}"), || {
        (state(gateway, endpoint) == wanted).then_some(())
    });
}

fn wait_until_said(gateway: &Gateway, text: &str) {
    eventually(&format!("the line: {text}"), || {
        let lines = gateway.said();
        lines.iter().any(|line| line.contains(text)).then_some(())
    });
}

const CHECKS: &str = "health = { path = \"/healthz\", interval = \"50ms\", timeout = \"5s\" }";

fn failing_checks_take_it_out(driver: Driver) {
    let patients = [Patient::new("a", true), Patient::new("b", true)];
    let gateway = start(driver, &patients, CHECKS);
    wait_for_state(&gateway, 0, "healthy");
    patients[0].set_sick(true);
    wait_for_state(&gateway, 0, "fails_checks");
    let address = patients[0].upstream.address.to_string();
    let healthy = |expected| {
        let labels = [("upstream", "up"), ("endpoint", address.as_str())];
        assert_eq!(
            gateway.metric("ringgate_upstream_healthy", &labels),
            expected
        );
    };
    healthy(0.0);
    wait_until_said(&gateway, "an endpoint fails its checks");
    let before = patients[0].served();
    for _ in 0..20 {
        assert_eq!(gateway.get("/").text(), "b");
    }
    assert_eq!(patients[0].served(), before);
    patients[0].set_sick(false);
    wait_for_state(&gateway, 0, "healthy");
    healthy(1.0);
    eventually("a request to it", || {
        (gateway.get("/").text() == "a").then_some(())
    });
    wait_until_said(&gateway, "an endpoint passes its checks again");
    let failed = [("endpoint", address.as_str()), ("outcome", "failed")];
    assert!(gateway.metric("ringgate_upstream_checks_total", &failed) >= 2.0);
}

fn too_few_healthy(driver: Driver) {
    let patients = [Patient::new("a", true), Patient::new("b", true)];
    patients.iter().for_each(|patient| patient.set_sick(true));
    let all_out = |gateway: &Gateway| {
        wait_for_state(gateway, 0, "fails_checks");
        wait_for_state(gateway, 1, "fails_checks");
    };
    let gateway = start(driver, &patients, CHECKS);
    all_out(&gateway);
    let page: Value = serde_json::from_str(get(gateway.admin, "/upstreams").text()).unwrap();
    assert_eq!(page["upstreams"][0]["panic"], true);
    for name in ["a", "b"] {
        eventually("an answer of each", || {
            (gateway.get("/").text() == name).then_some(())
        });
    }
    let gateway = start(
        driver,
        &patients,
        &format!("{CHECKS}\npanic_threshold = \"0%\""),
    );
    all_out(&gateway);
    let mut client = Client::connect(gateway.address);
    let answer = client.get("/");
    assert!(answer.value("retry-after") >= "1");
    assert_eq!(answer.problem(503), "no_healthy_endpoint");
    assert_eq!(gateway.record_of("/")["ringgate.end"], "upstream_unhealthy");
}

fn a_tier_takes_over(driver: Driver) {
    let patients = [Patient::new("first", true), Patient::new("second", true)];
    let endpoint = |patient: &Patient, priority| {
        format!(
            "{{ address = \"{}\", priority = {priority} }}",
            patient.upstream.address
        )
    };
    let rest = to_upstream(&[], CHECKS).replace(
        "endpoints = []",
        &format!(
            "endpoints = [{}, {}]",
            endpoint(&patients[0], 0),
            endpoint(&patients[1], 1)
        ),
    );
    let gateway = Launch::new(driver).rest(&rest).start();
    wait_for_state(&gateway, 0, "healthy");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "first");
    }
    patients[0].set_sick(true);
    wait_for_state(&gateway, 0, "fails_checks");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "second");
    }
    patients[0].set_sick(false);
    wait_for_state(&gateway, 0, "healthy");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "first");
    }
}

fn failures_eject(driver: Driver) {
    let patients = [Patient::new("a", false), Patient::new("b", false)];
    let lines = "outlier = { failures = 3, statuses = [503], eject_time = \"300ms\" }";
    let gateway = start(driver, &patients, lines);
    patients.iter().for_each(|patient| patient.set_sick(true));
    // Of two one may be out, and the other goes on getting requests.
    eventually("one to be ejected", || {
        assert_eq!(gateway.get("/").status, 503);
        let states = [state(&gateway, 0), state(&gateway, 1)];
        states.iter().any(|state| state == "ejected").then_some(())
    });
    assert!(state(&gateway, 0) != "ejected" || state(&gateway, 1) != "ejected");
    patients.iter().for_each(|patient| patient.set_sick(false));
    wait_for_state(&gateway, 0, "healthy");
    wait_for_state(&gateway, 1, "healthy");
    for name in ["a", "b"] {
        eventually("an answer of each", || {
            (gateway.get("/").text() == name).then_some(())
        });
    }
    assert!(gateway.metric("ringgate_upstream_ejections_total", &[("upstream", "up")]) >= 1.0);
    wait_until_said(&gateway, "an endpoint is ejected");
    wait_until_said(&gateway, "an endpoint is no longer ejected");
}

fn one_good_answer_begins_anew(driver: Driver) {
    let patients = [Patient::new("a", false), Patient::new("b", false)];
    let lines =
        "outlier = { failures = 3, statuses = [503] }\nbalance = \"hash\"\nhash_key = \"path\"";
    let gateway = start(driver, &patients, lines);
    let mut client = Client::connect(gateway.address);
    for _ in 0..5 {
        for sick in [true, true, false] {
            patients.iter().for_each(|patient| patient.set_sick(sick));
            client.get("/");
        }
    }
    assert_eq!(
        gateway.metric("ringgate_upstream_ejections_total", &[]),
        0.0
    );
}

/// An upstream that can be ended, connections and all, and started again where it was.
struct Mortal {
    upstream: Option<Upstream>,
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Mortal {
    fn new() -> Self {
        let streams = Arc::default();
        let upstream = Self::live(&streams, None);
        Self {
            address: upstream.address,
            upstream: Some(upstream),
            streams,
        }
    }

    fn live(streams: &Arc<Mutex<Vec<TcpStream>>>, at: Option<SocketAddr>) -> Upstream {
        let streams = Arc::clone(streams);
        let script = move |mut exchange: crate::support::Exchange| {
            let stream = exchange.reading.stream.try_clone().unwrap();
            streams.lock().unwrap().push(stream);
            while exchange.request().is_some() && exchange.send(ok("alive")) {}
        };
        match at {
            Some(address) => Upstream::start_at(address, script),
            None => Upstream::start(script),
        }
    }

    fn kill(&mut self) {
        // The listener first, as when a process ends: then nobody new gets in.
        self.upstream = None;
        eventually("the port to be closed", || {
            TcpStream::connect(self.address).err()
        });
        for stream in self.streams.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn revive(&mut self) {
        self.upstream = Some(Self::live(&self.streams, Some(self.address)));
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn killed_under_load(driver: Driver) {
    const INTERVAL: Duration = Duration::from_millis(500);
    const CLIENTS: usize = 4;
    let mut mortals = [Mortal::new(), Mortal::new(), Mortal::new()];
    let addresses = [0, 1, 2].map(|index: usize| mortals[index].address);
    let lines = "health = { path = \"/healthz\", interval = \"500ms\" }";
    let gateway = Launch::new(driver)
        .rest(&to_upstream(&addresses, lines))
        .start();
    let stop = AtomicBool::new(false);
    let requests = AtomicUsize::new(0);
    let one_client = || {
        let mut client = Client::connect(gateway.address);
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let answer = client.get("/");
            requests.fetch_add(1, Ordering::Relaxed);
            if answer.status != 200 {
                failed.push(answer);
            }
        }
        failed
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one_client)).collect();
        // Also where this thread gives up.
        let load = SetOnDrop(&stop);
        let more = |what: &str| {
            let before = requests.load(Ordering::Relaxed);
            eventually(what, || {
                (requests.load(Ordering::Relaxed) > before + 200).then_some(())
            });
        };
        more("load");
        mortals[0].kill();
        let killed = Instant::now();
        wait_for_state(&gateway, 0, "fails_checks");
        let out_after = killed.elapsed();
        // Two intervals, and a second for a busy machine.
        assert!(
            out_after < 2 * INTERVAL + Duration::from_secs(1),
            "{out_after:?}"
        );
        more("load without it");
        mortals[0].revive();
        wait_for_state(&gateway, 0, "healthy");
        let revived = mortals[0].upstream.as_ref().unwrap();
        let checks = revived.requests();
        eventually("its share of the load", || {
            (revived.requests() > checks + 50).then_some(())
        });
        drop(load);
        for client in clients {
            let failed = client.join().unwrap();
            assert!(failed.is_empty(), "{failed:?}");
        }
    });
}

fn a_unix_socket_is_checked(driver: Driver) {
    let folder = Folder::new();
    let path = folder.path().join("up.sock");
    let serve = || {
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                thread::spawn(move || {
                    let mut piece = [0; 4096];
                    while matches!(stream.read(&mut piece), Ok(1..)) {
                        if stream.write_all(ok("unix").as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    };
    serve();
    let rest = to_upstream(&[], CHECKS).replace(
        "endpoints = []",
        &format!("endpoints = [{{ address = \"unix:{}\" }}]", path.display()),
    );
    let gateway = Launch::new(driver).rest(&rest).start();
    wait_for_state(&gateway, 0, "healthy");
    assert_eq!(gateway.get("/").text(), "unix");
    std::fs::remove_file(&path).unwrap();
    wait_for_state(&gateway, 0, "fails_checks");
    serve();
    wait_for_state(&gateway, 0, "healthy");
    assert_eq!(gateway.get("/").text(), "unix");
}

on_both_drivers! {
    fn an_endpoint_that_fails_its_checks_gets_nothing_and_is_back_when_it_passes(driver) {
        failing_checks_take_it_out(driver);
    }

    fn with_too_few_healthy_all_get_requests_unless_that_is_turned_off(driver) {
        too_few_healthy(driver);
    }

    fn the_next_priority_takes_over_and_gives_back(driver) {
        a_tier_takes_over(driver);
    }

    fn an_endpoint_that_fails_requests_is_ejected_for_a_time_but_not_all_are(driver) {
        failures_eject(driver);
    }

    fn a_good_answer_begins_the_count_of_failures_anew(driver) {
        one_good_answer_begins_anew(driver);
    }

    fn an_endpoint_killed_under_load_costs_no_request_and_is_back_when_it_lives(driver) {
        killed_under_load(driver);
    }

    fn a_unix_socket_is_checked_too(driver) {
        a_unix_socket_is_checked(driver);
    }
}
