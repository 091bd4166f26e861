//! Authenticators that do not answer, answer too late, too much or half, and those that are killed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{CONSUMER, ask, echo, outcomes, saying, start};
use crate::support::{Client, Driver, Exchange, Gateway, LONG, Launch, Upstream, eventually, get};

/// Answers that are none, and what the log calls them.
fn silences() -> Vec<(Upstream, &'static str)> {
    let broken = Upstream::start(|mut exchange: Exchange| {
        drop(exchange.request());
        exchange.reset();
    });
    let cut = Upstream::start(|mut exchange: Exchange| {
        drop(exchange.request());
        exchange.send("HTTP/1.1 200 O");
        exchange.close();
    });
    let mute = Upstream::start(|mut exchange: Exchange| {
        drop(exchange.request());
        exchange.wait_closed();
    });
    vec![
        (
            saying("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"),
            "auth_answer",
        ),
        (
            saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nno"),
            "auth_answer",
        ),
        (
            saying("HTTP/1.1 200 OK\r\nX-User: a\0b\r\n\r\n"),
            "auth_answer",
        ),
        (
            saying("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            "auth_answer",
        ),
        (saying("SSH-2.0-nobody\r\n\r\n"), "auth_answer"),
        (cut, "auth_answer"),
        (broken, "auth_unreachable"),
        (mute, "auth_timeout"),
    ]
}

fn nobody_listens(driver: Driver) {
    let (up, gone) = (echo(), Upstream::saying(""));
    let address = gone.address;
    drop(gone);
    eventually("the end of the authenticator", || {
        Client::try_connect(address).is_err().then_some(())
    });
    for (lines, status, counts) in [
        ("", 503, [0.0, 0.0, 1.0, 0.0]),
        ("on_error = \"allow\"", 200, [0.0, 0.0, 0.0, 1.0]),
    ] {
        let gateway = Launch::new(driver)
            .one_worker()
            .rest(&format!(
                "[upstreams.up]\nendpoints = [{{ address = \"{}\" }}]\n\
                 [upstreams.sso]\nendpoints = [{{ address = \"{address}\" }}]\n\
                 [forward_auth.gate]\nupstream = \"sso\"\n{lines}\n\
                 [[routes]]\nname = \"all\"\nupstream = \"up\"\nauth = [\"gate\"]\n",
                up.address
            ))
            .start();
        assert_eq!(ask(&gateway, "").status, status);
        assert_eq!(gateway.record_of("/")["error.type"], "auth_unreachable");
        assert_eq!(outcomes(&gateway), counts);
    }
}

fn silence(driver: Driver) {
    let up = echo();
    for (sso, reason) in silences() {
        let closed = start(driver, &up, &sso, "timeout = \"100ms\"", "");
        let refused = ask(&closed, "");
        assert_eq!(refused.problem(503), reason);
        assert_eq!(refused.value("retry-after"), "1");
        let record = closed.record_of("/");
        assert_eq!(record["ringgate.end"], "auth_unavailable");
        assert_eq!(outcomes(&closed), [0.0, 0.0, 1.0, 0.0]);
        let lines = format!("timeout = \"100ms\"\non_error = \"allow\"\n{CONSUMER}");
        let open = start(driver, &up, &sso, &lines, "");
        let answer = ask(
            &open,
            "X-Tenant: mine\r\nX_Tenant: mine\r\nX-User: me\r\nX-Consumer: me\r\n",
        );
        assert_eq!(answer.status, 200, "{reason}");
        let text = answer.text().to_lowercase();
        assert!(
            !text.contains("tenant") && !text.contains("x-consumer") && !text.contains("x-user"),
            "{text}"
        );
        let record = open.record_of("/");
        assert_eq!(
            (&record["error.type"], &record["ringgate.end"]),
            (&reason.into(), &"ok".into())
        );
        assert_eq!(outcomes(&open), [0.0, 0.0, 0.0, 1.0]);
    }
}

fn long_answers(driver: Driver) {
    let (up, big) = (echo(), "b".repeat(100_000));
    let told = Arc::new(AtomicUsize::new(0));
    for (status, framing) in [
        (401, "length"),
        (401, "chunks"),
        (200, "length"),
        (401, "cut"),
    ] {
        let (body, told) = (big.clone(), Arc::clone(&told));
        let sso = Upstream::start(move |mut exchange: Exchange| {
            while exchange.request().is_some() {
                told.fetch_add(1, Ordering::Relaxed);
                let head = format!("HTTP/1.1 {status} X\r\nContent-Type: text/x-mine\r\n");
                match framing {
                    "chunks" => exchange.send(format!(
                        "{head}Transfer-Encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"
                    )),
                    "cut" => {
                        exchange.send(format!("{head}Content-Length: 10\r\n\r\nabc"));
                        return exchange.close();
                    }
                    _ => exchange.send(format!(
                        "{head}Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    )),
                };
            }
        });
        let gateway = start(
            driver,
            &up,
            &sso,
            "max_body = \"64KiB\"\non_error = \"allow\"",
            "",
        );
        let answer = ask(&gateway, "");
        if status == 200 {
            assert_eq!(answer.status, 200);
        } else {
            // The verdict stands; of its words nothing is told that would not be all of them.
            assert_eq!(answer.problem(401), "auth_denied", "{framing}");
        }
        assert_eq!(ask(&gateway, "").status, status);
        assert_eq!(
            sso.accepted(),
            2,
            "a connection with a rest of an answer is not used again"
        );
    }
    assert_eq!(told.load(Ordering::Relaxed), 8);
}

/// Clients that ask without a pause until `stop`; the statuses that they got.
fn load(gateway: &Gateway, stop: &Arc<AtomicBool>) -> thread::JoinHandle<Vec<u16>> {
    let (address, stop) = (gateway.address, Arc::clone(stop));
    thread::spawn(move || {
        let mut client = Client::connect(address);
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            seen.push(client.get("/").status);
        }
        seen
    })
}

fn killed_under_load(driver: Driver) {
    for (lines, after) in [("", 503), ("on_error = \"allow\"", 200)] {
        let up = echo();
        let dead = Arc::new(AtomicBool::new(false));
        let is_dead = Arc::clone(&dead);
        let answer = move |mut exchange: Exchange| {
            while exchange.request().is_some() {
                if is_dead.load(Ordering::Relaxed) {
                    return exchange.reset();
                }
                exchange.send("HTTP/1.1 200 OK\r\nX-User: ada\r\nContent-Length: 0\r\n\r\n");
            }
        };
        let sso = Upstream::start(answer.clone());
        let gateway = start(driver, &up, &sso, lines, "");
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4).map(|_| load(&gateway, &stop)).collect();
        eventually("some that are let in", || {
            (outcomes(&gateway)[0] > 50.0).then_some(())
        });
        let address = sso.address;
        dead.store(true, Ordering::Relaxed);
        drop(sso);
        let failed = || outcomes(&gateway)[2] + outcomes(&gateway)[3];
        eventually("some that nobody judged", || {
            (failed() > 50.0).then_some(())
        });
        dead.store(false, Ordering::Relaxed);
        let _back = Upstream::start_at(address, answer);
        let before = outcomes(&gateway)[0];
        eventually("some that are let in again", || {
            (outcomes(&gateway)[0] > before + 50.0).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let seen = client.join().unwrap();
            let odd: Vec<&u16> = seen
                .iter()
                .filter(|status| ![200, after].contains(*status))
                .collect();
            assert!(odd.is_empty(), "{odd:?}");
            assert_eq!(seen.contains(&503), after == 503);
        }
    }
}

/// An authenticator that lets in whoever asks, each time one is released.
fn held_back() -> (Upstream, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let sso = Upstream::start(move |mut exchange: Exchange| {
        while exchange.request().is_some() {
            let _gone = released.lock().unwrap().recv_timeout(LONG);
            exchange.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    (sso, release)
}

fn on_the_way_to_its_end(driver: Driver) {
    let up = echo();
    let (sso, release) = held_back();
    let gateway = start(driver, &up, &sso, "timeout = \"1m\"", "");
    let mut client = Client::connect(gateway.address);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the question", || (sso.requests() == 1).then_some(()));
    gateway.signal(libc::SIGTERM);
    eventually("readiness at 503", || {
        (get(gateway.admin, "/readyz").status == 503).then_some(())
    });
    release.send(()).unwrap();
    assert_eq!(client.response().status, 200);
}

fn pipelined(driver: Driver) {
    let up = echo();
    let (sso, release) = held_back();
    let more = "[[routes]]\nname = \"free\"\npath = \"/free\"\nrespond = { body = \"free\" }";
    let gateway = start(driver, &up, &sso, "timeout = \"1m\"", more);
    let mut client = Client::connect(gateway.address);
    client.send("GET /free HTTP/1.1\r\nHost: t\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.response().text(), "free");
    release.send(()).unwrap();
    assert_eq!(client.response().status, 200);
    // Who leaves meanwhile takes nobody along: the verdict is heard, and the connection to the authenticator stays.
    let mut gone = Client::connect(gateway.address);
    gone.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    eventually("its question", || (sso.requests() == 2).then_some(()));
    drop(gone);
    release.send(()).unwrap();
    eventually("its end", || {
        (gateway.metric("http_server_active_requests", &[]) == 0.0).then_some(())
    });
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    release.send(()).unwrap();
    assert_eq!(client.response().status, 200);
    assert_eq!(sso.accepted(), 1);
}

fn the_time(driver: Driver) {
    let up = echo();
    // An answer that never ends, a byte at a time.
    let sso = Upstream::start(|mut exchange: Exchange| {
        while exchange.request().is_some() {
            exchange.send("HTTP/1.1 200 OK\r\n");
            for _ in 0..600 {
                thread::sleep(Duration::from_millis(50));
                if !exchange.send("X: y\r\n") {
                    return;
                }
            }
        }
    });
    let gateway = start(driver, &up, &sso, "timeout = \"300ms\"", "");
    let began = Instant::now();
    assert_eq!(ask(&gateway, "").problem(503), "auth_timeout");
    // A tick or two of the sweeper, and what a busy machine adds; the answer would take half a minute.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let passed = |kind| gateway.metric("ringgate_timeouts_total", &[("kind", kind)]);
    assert_eq!((passed("auth"), passed("route")), (1.0, 0.0));
}

on_both_drivers! {
    fn what_is_no_answer_is_refused_or_let_in_as_the_file_says(driver) {
        silence(driver);
    }

    fn an_authenticator_that_is_not_there_is_no_answer(driver) {
        nobody_listens(driver);
    }

    fn a_long_or_cut_answer_is_not_passed_on_and_its_verdict_stands(driver) {
        long_answers(driver);
    }

    fn killed_under_load_it_lets_in_nobody_or_everybody_and_comes_back(driver) {
        killed_under_load(driver);
    }

    fn a_request_that_waits_for_its_verdict_is_served_while_the_gateway_drains(driver) {
        on_the_way_to_its_end(driver);
    }

    fn neither_an_answer_before_nor_a_client_that_leaves_disturbs_the_question(driver) {
        pipelined(driver);
    }

    fn an_answer_that_drips_ends_with_the_time_of_the_question(driver) {
        the_time(driver);
    }
}
