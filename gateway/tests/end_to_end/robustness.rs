//! Upstreams and clients that break off, break the protocol or do not move: the right status or a cut connection, in
//! time, and never another's bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, ok, to_upstream};

/// What a client sees of a timeout may come this much later: two turns of the sweeper, and a busy machine.
const LATE: Duration = Duration::from_secs(1);

fn before(driver: Driver, upstream: &Upstream) -> Gateway {
    Launch::new(driver)
        .one_worker()
        .rest(&to_upstream(&[upstream.address], ""))
        .start()
}

/// Runs `work` and checks that it took from `least` to a second more, in one of three tries: a machine that is busy
/// with other tests may hold up the rest.
#[track_caller]
fn takes(least: Duration, mut work: impl FnMut()) {
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        work();
        let took = start.elapsed();
        assert!(took >= least, "{took:?} is before {least:?}");
        if took < least + LATE {
            return;
        }
        times.push(took);
    }
    panic!("{times:?}, {least:?} expected");
}

/// What an upstream sends in place of an answer, before it closes; and what becomes of it.
const BROKEN_STARTS: [(&str, &str); 16] = [
    ("", "closed_before_response"),
    ("HTTP/1.1 200 OK\r\nContent-Le", "response_truncated"),
    ("SSH-2.0-OpenSSH_9.6\r\n\r\n", ""),
    ("<html>HTTP/0.9</html>\r\n\r\n", ""),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    ("HTTP/2.0 200 OK\r\n\r\n", ""),
    ("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", ""),
    ("HTTP/1.1 999999 OK\r\nContent-Length: 0\r\n\r\n", ""),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "",
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nabc", ""),
    ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ""),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
        "",
    ),
    ("HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 0\r\n\r\n", ""),
    (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "",
    ),
    // The head is good, but nothing of it has been passed on when the body is seen to be broken.
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        "chunk_size",
    ),
    (
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
        "chunk_data_end",
    ),
];

on_both_drivers! {
    fn a_stale_pooled_connection_is_replaced_without_the_clients_notice(driver) {
        // Answers once, and resets at the next request: what an idle timeout does that crosses a request.
        let upstream = Upstream::start(|mut exchange| {
            exchange.request();
            exchange.send(ok("first use"));
            if exchange.number == 0 {
                exchange.head();
                exchange.reset();
            } else {
                exchange.request();
                exchange.send(ok("second use"));
                exchange.wait_closed();
            }
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/1").text(), "first use");
        assert_eq!(client.get("/2").text(), "first use", "on a new connection");
        assert_eq!(upstream.accepted(), 2);
        assert_eq!(gateway.record_of("/2")["http.request.resend_count"], 1);
        assert_eq!(gateway.metric("ringgate_retries_total", &[("upstream", "up")]), 1.0);
        assert_eq!(client.get("/3").text(), "second use");
    }

    fn what_is_not_safe_to_repeat_is_not_repeated(driver) {
        let seen = std::sync::Arc::new(AtomicUsize::new(0));
        let posts = std::sync::Arc::clone(&seen);
        let upstream = Upstream::start(move |mut exchange| {
            while let Some((request, _)) = exchange.request() {
                if request.line.starts_with("POST") {
                    posts.fetch_add(1, Ordering::Relaxed);
                    return exchange.reset();
                }
                exchange.send(ok("ok"));
            }
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/").text(), "ok");
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response().problem(502), "closed_before_response");
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    }

    fn a_fresh_connection_that_breaks_is_not_tried_again(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.head();
            exchange.reset();
        });
        let gateway = before(driver, &upstream);
        assert_eq!(gateway.get("/").problem(502), "closed_before_response");
        assert_eq!(upstream.accepted(), 1);
    }

    fn a_response_that_is_none_is_a_502_and_the_client_goes_on(driver) {
        let turn = AtomicUsize::new(0);
        let upstream = Upstream::start(move |mut exchange| {
            exchange.request();
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            if turn.is_multiple_of(2) {
                exchange.send(BROKEN_STARTS[turn / 2].0);
            } else {
                exchange.send(ok("good"));
            }
            exchange.close();
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "keepalive_max = 0"))
            .start();
        let mut client = Client::connect(gateway.address);
        for (number, (bytes, detail)) in BROKEN_STARTS.iter().enumerate() {
            let mut answer = client.get(&format!("/{number}"));
            if answer.status == 103 {
                answer = client.response();
            }
            let given = answer.problem(502);
            assert!(detail.is_empty() || given == *detail, "{given} for {bytes:?}");
            assert!(!answer.closes(), "{bytes:?}");
            assert_eq!(client.get("/after").text(), "good", "after {bytes:?}");
            assert_eq!(gateway.record_of(&format!("/{number}"))["error.type"], given);
        }
    }

    fn a_response_that_is_cut_is_seen_to_be_cut(driver) {
        // What comes once the start has been read; a reset where that is nothing. Before that it would overtake the start.
        for (start, later) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Some("")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", Some("nonsense\r\n")),
            ("HTTP/1.1 200 OK\r\n\r\nhalf", Some("")),
        ] {
            let (seen, go_on) = std::sync::mpsc::channel::<()>();
            let go_on = std::sync::Mutex::new(go_on);
            let upstream = Upstream::start(move |mut exchange| {
                exchange.request();
                exchange.send(start);
                if let Some(later) = later {
                    go_on.lock().unwrap().recv_timeout(crate::support::LONG).unwrap();
                    match later {
                        "" => exchange.reset(),
                        later => drop(exchange.send(later)),
                    }
                }
            });
            let gateway = before(driver, &upstream);
            let mut client = Client::connect(gateway.address);
            client.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
            if later.is_some() {
                assert_eq!(client.head().unwrap().status, 200);
                seen.send(()).unwrap();
                let (rest, orderly) = client.reading().rest();
                assert!(!orderly, "{start:?}: {:?} ended in order", String::from_utf8_lossy(&rest));
                assert!(!rest.ends_with(b"0\r\n\r\n"), "{start:?}");
            } else {
                let answer = client.try_response(true);
                assert!(answer.is_none(), "{start:?}: {answer:?}");
            }
            assert_ne!(gateway.record_of("/x")["ringgate.end"], "ok", "{start:?}");
        }
    }

    fn bytes_after_a_response_reach_nobody(driver) {
        // Each connection answers once and adds an answer that nobody asked for.
        let upstream = Upstream::start(|mut exchange| {
            while let Some((request, _)) = exchange.request() {
                let own = ok(&format!("for {}", request.target()));
                exchange.send(own + &ok("for nobody"));
            }
        });
        let gateway = before(driver, &upstream);
        let mut clients: Vec<_> = (0..4).map(|_| Client::connect(gateway.address)).collect();
        for turn in 0..50 {
            for (number, client) in clients.iter_mut().enumerate() {
                let target = format!("/{number}/{turn}");
                assert_eq!(client.get(&target).text(), format!("for {target}"));
            }
        }
    }

    fn bytes_on_a_pooled_connection_reach_nobody(driver) {
        // As above, but the answer that nobody asked for comes when the connection lies in the pool.
        let (go_on, waiting) = std::sync::mpsc::channel::<()>();
        let waiting = std::sync::Mutex::new(waiting);
        let upstream = Upstream::start(move |mut exchange| {
            while let Some((request, _)) = exchange.request() {
                exchange.send(ok(&format!("for {}", request.target())));
                waiting.lock().unwrap().recv_timeout(crate::support::LONG).unwrap();
                exchange.send(ok("for nobody"));
            }
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        for turn in 0..20 {
            let target = format!("/{turn}");
            assert_eq!(client.get(&target).text(), format!("for {target}"));
            eventually("the connection in the pool", || {
                let idle = gateway.metric("ringgate_upstream_connections", &[("state", "idle")]);
                (idle == 1.0).then_some(())
            });
            go_on.send(()).unwrap();
            eventually("the pooled connection gone", || {
                (gateway.metric("ringgate_upstream_connections", &[]) == 0.0).then_some(())
            });
        }
    }

    fn an_answer_before_the_end_of_the_request_is_passed_on(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.head();
            exchange.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            exchange.close();
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nsome of it");
        let answer = client.response();
        assert_eq!((answer.status, answer.text()), (403, "no"));
        assert!(answer.closes(), "what is left of the body must not be taken for a request");
    }

    fn a_head_that_takes_too_long_gets_408(driver) {
        let gateway = Launch::new(driver).listener("header_timeout = \"1s\"").start();
        takes(Duration::from_secs(1), || {
            let mut client = Client::connect(gateway.address);
            client.send("GET / HTTP/1.1\r\nHo");
            let answer = client.response();
            assert_eq!(answer.problem(408), "header_timeout");
            assert!(answer.closes());
            client.is_closed();
        });
        eventually("the count", || {
            (gateway.metric("ringgate_timeouts_total", &[("kind", "header")]) >= 1.0).then_some(())
        });
    }

    fn a_head_that_trickles_gets_no_more_time(driver) {
        let gateway = Launch::new(driver).listener("header_timeout = \"1s\"").start();
        takes(Duration::from_secs(1), || {
            let mut client = Client::connect(gateway.address);
            client.send("GET / HTTP/1.1\r\nX: ");
            client.drip(b"x");
            assert_eq!(client.response().status, 408);
        });
    }

    fn idle_connections_are_closed_without_a_word(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver)
            .listener("header_timeout = \"1s\"\nidle_timeout = \"2s\"")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        // One that never said anything has the time of a head.
        takes(Duration::from_secs(1), || {
            assert!(Client::connect(gateway.address).is_closed());
        });
        takes(Duration::from_secs(2), || {
            let mut client = Client::connect(gateway.address);
            assert_eq!(client.get("/").text(), "ok");
            assert!(client.is_closed());
        });
        assert!(gateway.records().iter().all(|record| record["http.response.status_code"] == 200));
    }

    fn a_body_that_stops_gets_408_and_its_upstream_is_let_go(driver) {
        let (gone, went) = std::sync::mpsc::channel();
        let upstream = Upstream::start(move |mut exchange| {
            exchange.head();
            exchange.wait_closed();
            gone.send(()).unwrap_or_default();
        });
        let gateway = Launch::new(driver)
            .listener("body_timeout = \"1s\"")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        takes(Duration::from_secs(1), || {
            let mut client = Client::connect(gateway.address);
            client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf");
            let answer = client.response();
            assert_eq!(answer.problem(408), "body_timeout");
            assert!(answer.closes());
        });
        went.recv_timeout(crate::support::LONG).unwrap();
    }

    fn a_reader_that_does_not_read_is_cut_off(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.request();
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40));
            while exchange.send([0; 65_536]) {}
        });
        let gateway = Launch::new(driver)
            .listener("write_timeout = \"1s\"")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let files = gateway.open_files();
        let mut client = Client::connect(gateway.address);
        client.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
        let record = gateway.record_of("/x");
        assert_eq!(record["error.type"], "write_timeout");
        assert_eq!(record["ringgate.end"], "client_timeout");
        let (_, orderly) = client.reading().rest();
        assert!(!orderly, "a reset, so that the cut is seen and the kernel keeps nothing");
        eventually("the descriptors back", || (gateway.open_files() <= files).then_some(()));
    }

    fn a_client_that_leaves_takes_its_upstream_request_with_it(driver) {
        let (gone, went) = std::sync::mpsc::channel();
        let upstream = Upstream::start(move |mut exchange| {
            exchange.request();
            exchange.wait_closed();
            gone.send(()).unwrap_or_default();
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the request at the upstream", || (upstream.requests() == 1).then_some(()));
        client.abort();
        went.recv_timeout(crate::support::LONG).unwrap();
        assert_eq!(gateway.record_of("/x")["ringgate.end"], "client_closed");
    }

    fn a_client_that_leaves_with_a_request_half_sent_behind_its_own_is_missed(driver) {
        let (gone, went) = std::sync::mpsc::channel();
        let upstream = Upstream::start(move |mut exchange| {
            exchange.request();
            exchange.wait_closed();
            gone.send(()).unwrap_or_default();
        });
        let gateway = before(driver, &upstream);
        let first = "GET /x HTTP/1.1\r\nHost: test\r\n\r\n".to_owned();
        let mut sent = 0;
        // One byte of the next request, and more than is ever read before its turn.
        for more in ["G".to_owned(), "GET /y HTTP/1.1\r\nHost: test\r\n\r\n".repeat(4_000)] {
            takes(Duration::ZERO, || {
                let mut client = Client::connect(gateway.address);
                client.send(first.clone() + &more);
                sent += 1;
                eventually("the request at the upstream", || (upstream.requests() == sent).then_some(()));
                client.abort();
                went.recv_timeout(crate::support::LONG).unwrap();
            });
        }
        assert_eq!(gateway.record_of("/x")["ringgate.end"], "client_closed");
        gateway.wait_until_quiet();
    }

    fn a_client_that_ends_and_then_leaves_is_missed(driver) {
        let (gone, went) = std::sync::mpsc::channel();
        let upstream = Upstream::start(move |mut exchange| {
            exchange.request();
            exchange.wait_closed();
            gone.send(()).unwrap_or_default();
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
        client.finish_sending();
        eventually("the request at the upstream", || (upstream.requests() == 1).then_some(()));
        assert!(went.try_recv().is_err(), "who has sent all still gets its answer");
        client.abort();
        went.recv_timeout(crate::support::LONG).unwrap();
        assert_eq!(gateway.record_of("/x")["ringgate.end"], "client_closed");
    }

    fn a_client_that_has_sent_all_still_gets_its_answer(driver) {
        let (go_on, waiting) = std::sync::mpsc::channel::<()>();
        let waiting = std::sync::Mutex::new(waiting);
        let upstream = Upstream::start(move |mut exchange| {
            let Some((request, _)) = exchange.request() else { return };
            if request.target() == "/late" {
                waiting.lock().unwrap().recv_timeout(crate::support::LONG).unwrap();
            }
            exchange.send(ok("late"));
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send("GET /late HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the request at the upstream", || (upstream.requests() == 1).then_some(()));
        client.finish_sending();
        // The worker has seen the end when it has served somebody who came after it.
        assert_eq!(gateway.get("/").text(), "late");
        go_on.send(()).unwrap();
        assert_eq!(client.response().text(), "late");
        assert!(client.is_closed());
    }

    fn a_response_that_pauses_too_long_is_cut(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.request();
            exchange.send("HTTP/1.1 200 OK\r\n\r\nhalf of a body that ends with the connection");
            exchange.wait_closed();
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "idle_timeout = \"1s\""))
            .start();
        takes(Duration::from_secs(1), || {
            let mut client = Client::connect(gateway.address);
            client.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
            assert!(client.try_response(true).is_none(), "a cut body was taken for a whole one");
        });
        assert_eq!(gateway.record_of("/x")["error.type"], "upstream_idle_timeout");
    }

    fn connections_beyond_the_cap_are_closed_and_the_others_served(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver)
            .listener("max_connections = 8")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let mut inside: Vec<_> = (0..8).map(|_| Client::connect(gateway.address)).collect();
        for client in &mut inside {
            assert_eq!(client.get("/").text(), "ok");
        }
        for _ in 0..8 {
            Client::connect(gateway.address).is_closed();
        }
        for client in &mut inside {
            assert_eq!(client.get("/").text(), "ok");
        }
        drop(inside);
        gateway.wait_until_quiet();
        assert_eq!(gateway.get("/").text(), "ok");
    }
}
