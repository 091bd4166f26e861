//! Requests that are sent again, and those that must not be.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, Launch, Response, Upstream, ok, to_upstream};

const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";

fn busy() -> Upstream {
    Upstream::answering(|_, _| BUSY.to_owned())
}

/// Breaks every connection as soon as a request is there.
fn broken() -> Upstream {
    Upstream::start(|mut exchange| {
        drop(exchange.request());
        exchange.reset();
    })
}

/// One worker, so that it is known whose turn it is: the first endpoint's.
fn start(driver: Driver, upstreams: &[&Upstream], lines: &str) -> Gateway {
    let addresses: Vec<SocketAddr> = upstreams.iter().map(|upstream| upstream.address).collect();
    Launch::new(driver)
        .one_worker()
        .rest(&to_upstream(&addresses, lines))
        .start()
}

fn send(gateway: &Gateway, request: &str) -> Response {
    let mut client = Client::connect(gateway.address);
    client.send(request);
    client.response()
}

fn retries(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("ringgate_retries_total", &[("reason", reason)])
}

fn by_status(driver: Driver) {
    let (busy, free) = (busy(), Upstream::saying("free"));
    let lines = "retry = { attempts = 1, on = [\"503\"] }";
    let gateway = start(driver, &[&busy, &free], lines);
    assert_eq!(gateway.get("/again").text(), "free");
    assert_eq!(gateway.record_of("/again")["http.request.resend_count"], 1);
    assert_eq!(retries(&gateway, "status"), 1.0);
    assert_eq!((busy.requests(), free.requests()), (1, 1));
}

fn what_cannot_be_repeated(driver: Driver) {
    let (first, second) = (busy(), busy());
    let lines = "retry = { attempts = 5, on = [\"503\", \"reset_before_response\"] }";
    let gateway = start(driver, &[&first, &second], lines);
    for request in [
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n",
        "PATCH / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\na",
        "DELETE / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "BREW / HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        let before = first.requests() + second.requests();
        let answer = send(&gateway, request);
        assert_eq!((answer.status, answer.text()), (503, "busy"), "{request}");
        assert_eq!(
            first.requests() + second.requests(),
            before + 1,
            "{request}"
        );
    }
    // What can be is, as often as may be, and then it is passed on.
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let before = first.requests() + second.requests();
        let mut client = Client::connect(gateway.address);
        client.send(format!("{method} / HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.try_response(method != "HEAD").unwrap().status, 503);
        let sent = first.requests() + second.requests() - before;
        assert!(
            sent == 6 || retries(&gateway, "status") >= 10.0,
            "{method}: {sent}"
        );
    }
}

fn after_the_head(driver: Driver) {
    let cut = || {
        Upstream::start(|mut exchange| {
            drop(exchange.request());
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            exchange.close();
        })
    };
    let (first, second) = (cut(), cut());
    let lines = "retry = { attempts = 5, on = [\"503\", \"reset_before_response\", \"timeout\"] }";
    let gateway = start(driver, &[&first, &second], lines);
    let mut client = Client::connect(gateway.address);
    client.send("GET /cut HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(client.try_response(true).is_none(), "cut short");
    assert_eq!(first.requests() + second.requests(), 1);
    assert_eq!(gateway.record_of("/cut")["ringgate.end"], "upstream_reset");
}

fn by_reset(driver: Driver) {
    let (one, two, free) = (broken(), broken(), Upstream::saying("free"));
    let lines = "retry = { attempts = 2, on = [\"reset_before_response\"] }";
    let gateway = start(driver, &[&one, &two, &free], lines);
    assert_eq!(gateway.get("/again").text(), "free");
    assert_eq!(gateway.record_of("/again")["http.request.resend_count"], 2);
    let gateway = start(driver, &[&one, &two, &free], "retry = { attempts = 0 }");
    assert_eq!(gateway.get("/").problem(502), "closed_before_response");
}

fn by_time(driver: Driver) {
    let slow = Upstream::start(|mut exchange| {
        drop(exchange.request());
        exchange.wait_closed();
    });
    let free = Upstream::saying("free");
    let lines = "first_byte_timeout = \"20s\"\n\
                 retry = { on = [\"timeout\"], per_try_timeout = \"200ms\" }";
    let gateway = start(driver, &[&slow, &free], lines);
    let begun = Instant::now();
    assert_eq!(gateway.get("/").text(), "free");
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(10),
        "{took:?}"
    );
    assert_eq!(retries(&gateway, "first_byte_timeout"), 1.0);
    // The last try has the whole time, and the route's time bounds all of them.
    let only_slow = to_upstream(&[slow.address], lines) + "timeout = \"1s\"\n";
    let gateway = Launch::new(driver).one_worker().rest(&only_slow).start();
    assert_eq!(gateway.get("/").problem(504), "route_timeout");
    assert_eq!(retries(&gateway, "first_byte_timeout"), 1.0);
}

fn by_connect(driver: Driver) {
    let gone = {
        let upstream = Upstream::saying("gone");
        upstream.address
    };
    crate::support::eventually("the port to be closed", || {
        std::net::TcpStream::connect(gone).err()
    });
    let free = Upstream::saying("free");
    let rest = |lines| to_upstream(&[gone, free.address], lines);
    let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";
    let gateway = Launch::new(driver).one_worker().rest(&rest("")).start();
    for _ in 0..4 {
        // Of a request that was never sent nothing is repeated.
        assert_eq!(send(&gateway, post).text(), "free");
    }
    let lines = "retry = { on = [\"503\"] }";
    let gateway = Launch::new(driver).one_worker().rest(&rest(lines)).start();
    assert_eq!(gateway.get("/").problem(502), "connect_refused");
}

fn within_the_budget(driver: Driver) {
    let (first, second) = (busy(), busy());
    let lines = "retry = { attempts = 1, on = [\"503\"], budget = \"10%\" }";
    let gateway = start(driver, &[&first, &second], lines);
    let mut client = Client::connect(gateway.address);
    let begun = Instant::now();
    for _ in 0..300 {
        assert_eq!(client.get("/").status, 503);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let sent_again = retries(&gateway, "status");
    // A tenth, the ten that there are at first, and one each second.
    assert!(
        sent_again >= 39.0 && sent_again <= 41.0 + seconds,
        "{sent_again} in {seconds} s"
    );
    let exhausted = gateway.metric("ringgate_retry_budget_exhausted_total", &[]);
    assert_eq!(exhausted + sent_again, 300.0);
    assert_eq!(
        (first.requests() + second.requests()) as f64,
        300.0 + sent_again
    );
}

fn stale_is_free(driver: Driver) {
    let once = Upstream::start(|mut exchange| {
        // The first answer promises a connection that is gone when it is used.
        drop(exchange.request());
        exchange.send(ok("once"));
        drop(exchange.head());
        exchange.close();
    });
    let gateway = start(driver, &[&once], "retry = { attempts = 0 }");
    let mut client = Client::connect(gateway.address);
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "once");
    }
}

fn by_route(driver: Driver) {
    let (busy, free) = (busy(), Upstream::saying("free"));
    let addresses = [busy.address, free.address];
    let lines = "retry = { attempts = 2, on = [\"503\"] }";
    let gateway = Launch::new(driver)
        .one_worker()
        .rest(&to_upstream(&addresses, lines))
        .rest("retries = 1\n[[routes]]\nname = \"once\"\npath = \"/once\"\nupstream = \"up\"\nretries = 0\n")
        .start();
    // In turn; who meets the busy one first is sent on, but not from the route that says never.
    let statuses = |path: &str| [gateway.get(path).status, gateway.get(path).status];
    assert_eq!(statuses("/again"), [200, 200]);
    let before = retries(&gateway, "status");
    assert!(before >= 1.0);
    let mut once = statuses("/once");
    once.sort_unstable();
    assert_eq!(once, [200, 503]);
    assert_eq!(retries(&gateway, "status"), before);
}

on_both_drivers! {
    fn a_route_may_allow_fewer_or_none(driver) {
        by_route(driver);
    }

    fn a_status_that_is_listed_sends_the_request_to_another_endpoint(driver) {
        by_status(driver);
    }

    fn only_what_can_be_repeated_is_and_the_last_answer_is_passed_on(driver) {
        what_cannot_be_repeated(driver);
    }

    fn nothing_is_sent_again_once_the_client_has_the_head(driver) {
        after_the_head(driver);
    }

    fn a_reset_before_the_response_is_retried_as_often_as_may_be(driver) {
        by_reset(driver);
    }

    fn a_late_try_is_given_up_and_the_route_bounds_all_of_them(driver) {
        by_time(driver);
    }

    fn an_endpoint_that_refuses_costs_nothing_unless_connect_is_left_out(driver) {
        by_connect(driver);
    }

    fn no_more_than_the_budget_is_sent_again(driver) {
        within_the_budget(driver);
    }

    fn a_stale_connection_is_replaced_without_an_attempt(driver) {
        stale_is_free(driver);
    }
}
