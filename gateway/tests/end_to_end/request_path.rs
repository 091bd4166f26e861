//! One request through the gateway: which route takes it, what reaches the upstream, what comes back.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{
    Client, Driver, Gateway, LONG, Launch, Request, Upstream, eventually, get, ok, send,
    to_upstream,
};

/// A gateway in front of one upstream.
fn before(driver: Driver, upstream: &Upstream) -> Gateway {
    Launch::new(driver)
        .rest(&to_upstream(&[upstream.address], ""))
        .start()
}

/// An upstream that answers 200 and hands over what it got.
fn recording() -> (Upstream, mpsc::Receiver<Request>) {
    let (requests, received) = mpsc::channel();
    let upstream = Upstream::answering(move |request, _| {
        drop(requests.send(request.clone()));
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
    });
    (upstream, received)
}

/// A route with a fixed answer that is its name.
fn route(name: &str, lines: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\n{lines}\nrespond = {{ body = \"{name}\" }}\n")
}

/// An address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

on_both_drivers! {
    fn the_most_specific_host_and_path_win(driver) {
        let gateway = Launch::new(driver)
            .rest(&route("any", "path_prefix = \"/\""))
            .rest(&route("any-v1", "path_prefix = \"/v1\""))
            .rest(&route("any-v1-users", "path_prefix = \"/v1/users\""))
            .rest(&route("any-v1-exact", "path = \"/v1\""))
            .rest(&route("wild", "host = \"*.example.com\"\npath_prefix = \"/\""))
            .rest(&route("wild-deep", "host = \"*.a.example.com\"\npath_prefix = \"/\""))
            .rest(&route("exact", "host = \"api.example.com\"\npath_prefix = \"/api\""))
            .start();
        for (host, path, expected) in [
            ("other.org", "/", "any"),
            ("other.org", "/v1", "any-v1-exact"),
            ("other.org", "/v1/", "any-v1"),
            ("other.org", "/v1/users", "any-v1-users"),
            ("other.org", "/v1/users/7?x=/v2", "any-v1-users"),
            // Whole segments only.
            ("other.org", "/v1/usersandmore", "any-v1"),
            ("other.org", "/v10", "any"),
            // The one form of a path decides.
            ("other.org", "/v1/%75sers", "any-v1-users"),
            ("other.org", "/v1/x/../users", "any-v1-users"),
            ("www.example.com", "/v1/users", "wild"),
            ("WWW.Example.COM:8080", "/", "wild"),
            ("b.a.example.com", "/", "wild-deep"),
            ("example.com", "/", "any"),
            ("api.example.com", "/api/x", "exact"),
            // No path of the exact host fits: the next host's turn.
            ("api.example.com", "/v1", "wild"),
        ] {
            let answer = send(
                gateway.address,
                &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            );
            assert_eq!((answer.status, answer.text()), (200, expected), "{host} {path}");
        }
    }

    fn no_route_is_a_404_problem_and_the_connection_stays(driver) {
        let gateway = Launch::new(driver).rest(&route("one", "path = \"/one\"")).start();
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/two").problem(404), "no_route");
        assert_eq!(client.get("/one").text(), "one");
        let record = gateway.record_of("/two");
        assert_eq!(record["http.response.status_code"], 404);
        assert_eq!(record["error.type"], "no_route");
        assert_eq!(record["ringgate.end"], "no_route");
    }

    fn fields_keep_their_order_case_and_number(driver) {
        let (upstream, received) = recording();
        let gateway = before(driver, &upstream);
        send(
            gateway.address,
            "GET /a/b?c=d&e HTTP/1.1\r\nX-Zulu: 1\r\nhost: test\r\naCCept: x\r\nX-zulu:  2 \r\nX-ZULU: 3\r\n\r\n",
        );
        let request = received.recv_timeout(LONG).unwrap();
        assert_eq!(request.line, "GET /a/b?c=d&e HTTP/1.1");
        let sent: Vec<_> = request
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| ["x-zulu", "accept"].contains(&name.to_ascii_lowercase().as_str()))
            .collect();
        assert_eq!(sent, [("X-Zulu", "1"), ("aCCept", "x"), ("X-zulu", "2"), ("X-ZULU", "3")]);
        assert_eq!(request.values("host"), ["test"]);
    }

    fn a_response_without_date_gets_the_gateways(driver) {
        let upstream = Upstream::answering(|request, _| match request.target() {
            "/dated" => "HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "/early" => "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            _ => ok(""),
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], ""))
            .rest(&route("own", "path = \"/own\""))
            .start();
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/dated").value("date"), "Tue, 15 Nov 1994 08:12:31 GMT");
        let early = client.get("/early");
        assert_eq!((early.status, early.values("date").len()), (103, 0));
        assert_eq!(client.response().values("date").len(), 1);
        // The time of its own answers is that of `Date` as well; a second may have passed between the two.
        eventually("both at the same second", || {
            let (given, own) = (client.get("/plain"), client.get("/own"));
            (given.value("date") == own.value("date")).then_some(())
        });
        // And goes on.
        let first = client.get("/plain").value("date").to_owned();
        eventually("the next second", || (client.get("/plain").value("date") != first).then_some(()));
    }

    fn response_fields_keep_their_order_case_and_number(driver) {
        let upstream = Upstream::answering(|_, _| {
            "HTTP/1.1 201 Very Created\r\nSet-Cookie: b=1\r\nX-One: 1\r\nset-cookie: a=2\r\nSet-Cookie: b=3\r\n\
             Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0\r\n\r\n".to_owned()
        });
        let gateway = before(driver, &upstream);
        let answer = gateway.get("/");
        assert_eq!(answer.status, 201);
        let kept: Vec<_> = answer
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
            .collect();
        assert_eq!(
            kept,
            [
                ("Set-Cookie", "b=1"),
                ("X-One", "1"),
                ("set-cookie", "a=2"),
                ("Set-Cookie", "b=3"),
                ("Date", "Tue, 15 Nov 1994 08:12:31 GMT"),
            ]
        );
    }

    fn fields_of_the_hop_go_no_further(driver) {
        let (requests, received) = mpsc::channel();
        let upstream = Upstream::answering(move |request, _| {
            drop(requests.send(request.clone()));
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Theirs\r\nKeep-Alive: timeout=9\r\nX-Theirs: 1\r\n\
             Proxy-Authenticate: Basic\r\nX-Stays: 1\r\nContent-Length: 0\r\n\r\n".to_owned()
        });
        let gateway = before(driver, &upstream);
        let answer = send(
            gateway.address,
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTE: gzip\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAAA\r\nX-Stays: 1\r\n\r\n",
        );
        let request = received.recv_timeout(LONG).unwrap();
        for name in [
            "connection", "x-mine", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade",
            "http2-settings",
        ] {
            assert_eq!(request.values(name), [""; 0], "{name}");
        }
        assert_eq!(request.values("x-stays"), ["1"]);
        for name in ["connection", "keep-alive", "x-theirs", "proxy-authenticate"] {
            assert_eq!(answer.values(name), [""; 0], "{name}");
        }
        assert_eq!(answer.values("x-stays"), ["1"]);
    }

    fn the_upstream_is_told_of_the_client_and_not_what_the_client_claims(driver) {
        let (upstream, received) = recording();
        let gateway = before(driver, &upstream);
        send(
            gateway.address,
            "GET / HTTP/1.1\r\nHost: shop.example:81\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: mine\r\n\r\n",
        );
        let request = received.recv_timeout(LONG).unwrap();
        assert_eq!(request.values("host"), ["shop.example:81"]);
        assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(request.values("x-forwarded-proto"), ["http"]);
        assert_eq!(request.values("x-forwarded-host"), ["shop.example:81"]);
        assert_eq!(request.values("forwarded"), [""; 0]);
        assert_eq!(request.values("x-real-ip"), [""; 0]);
        let [id] = request.values("x-request-id")[..] else { panic!("{request:?}") };
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(gateway.record_of("/")["request_id"], id);
    }

    fn every_request_has_an_id_of_its_own(driver) {
        let (upstream, received) = recording();
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        for _ in 0..20 {
            client.get("/");
        }
        let ids: std::collections::HashSet<String> = received
            .try_iter()
            .map(|request| request.values("x-request-id")[0].to_owned())
            .collect();
        assert_eq!(ids.len(), 20);
    }

    fn head_has_the_fields_and_no_body(driver) {
        let upstream = Upstream::answering(|request, _| {
            assert!(request.line.starts_with("HEAD "), "{request:?}");
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-One: 1\r\n\r\n".to_owned()
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], ""))
            .rest(&route("own", "path = \"/own\""))
            .start();
        let mut client = Client::connect(gateway.address);
        for (path, length) in [("/", "1000"), ("/own", "3"), ("/", "1000")] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let answer = client.response_to_head();
            assert_eq!((answer.status, answer.value("content-length")), (200, length), "{path}");
        }
        assert_eq!(upstream.accepted(), 1, "the connection stayed");
    }

    fn interim_responses_are_relayed(driver) {
        let upstream = Upstream::answering(|_, _| {
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        for _ in 0..2 {
            let early = client.get("/");
            assert_eq!((early.status, early.value("link")), (103, "</a>"));
            assert_eq!(client.response().status, 102);
            let last = client.response();
            assert_eq!((last.status, last.text()), (200, "ok"));
        }
        // RFC 9110 section 15.2: "A server MUST NOT send a 1xx response to an HTTP/1.0 client."
        let old = send(gateway.address, "GET / HTTP/1.0\r\nHost: test\r\n\r\n");
        assert_eq!(old.status, 200);
    }

    fn a_body_waits_for_100_continue_from_the_upstream(driver) {
        let upstream = Upstream::start(|mut exchange| {
            let request = exchange.head().unwrap();
            assert_eq!(request.values("expect"), ["100-continue"]);
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = exchange.reading.body(&request.fields, false).unwrap();
            exchange.send(ok(std::str::from_utf8(&body).unwrap()));
            exchange.wait_closed();
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.response().status, 100);
        client.send("hello");
        assert_eq!(client.response().text(), "hello");
    }

    fn statuses_without_a_body_leave_the_connection_usable(driver) {
        let upstream = Upstream::answering(|request, _| match request.target() {
            "/204" => "HTTP/1.1 204 No Content\r\nX-One: 1\r\n\r\n".to_owned(),
            // RFC 9110 section 15.4.5: the length is the one that a 200 would have had.
            "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n".to_owned(),
            _ => ok("after"),
        });
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        for status in [204, 304] {
            let answer = client.get(&format!("/{status}"));
            assert_eq!(answer.status, status);
            if status == 204 {
                assert_eq!(answer.values("content-length"), [""; 0]);
            }
            assert_eq!(client.get("/").text(), "after");
        }
        assert_eq!(upstream.accepted(), 1, "the upstream's connection stayed, too");
    }

    fn connections_are_kept_on_both_sides(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = before(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        for _ in 0..50 {
            assert_eq!(client.get("/").text(), "ok");
        }
        assert_eq!(upstream.accepted(), 1);
        assert_eq!(gateway.metric("ringgate_connections_accepted_total", &[]), 1.0);
        assert_eq!(gateway.metric("ringgate_upstream_connections_reused_total", &[]), 49.0);
    }

    fn who_asks_for_a_close_gets_it(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = before(driver, &upstream);
        for request in [
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: test\r\n\r\n",
        ] {
            let mut client = Client::connect(gateway.address);
            client.send(request);
            let answer = client.response();
            assert!(answer.text() == "ok" && answer.closes(), "{answer:?}");
            assert!(client.is_closed(), "in order");
        }
        let mut client = Client::connect(gateway.address);
        client.send("GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.response().value("connection"), "keep-alive");
        assert_eq!(client.get("/").text(), "ok");
    }

    fn pipelined_requests_are_answered_in_their_order(driver) {
        let upstream = Upstream::answering(|request, body| {
            let text = std::str::from_utf8(body).unwrap();
            ok(&format!("{} {text}", request.target()))
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], ""))
            .rest(&route("own", "path = \"/own\""))
            .start();
        let mut client = Client::connect(gateway.address);
        let mut requests = String::new();
        for number in 0..30 {
            requests += &match number % 3 {
                0 => format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n"),
                1 => "GET /own HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
                _ => format!(
                    "POST /{number} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
                ),
            };
        }
        // Ends inside the last request, so that the answers before must not wait for it.
        let (most, last) = requests.split_at(requests.len() - 1);
        client.send(most);
        for number in 0..30 {
            if number == 29 {
                client.send(last);
            }
            let expected = match number % 3 {
                0 => format!("/{number} "),
                1 => "own".to_owned(),
                _ => format!("/{number} body"),
            };
            assert_eq!(client.response().text(), expected, "answer {number}");
        }
    }

    fn a_malformed_request_gets_400_in_its_turn_and_a_close(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = before(driver, &upstream);
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let before = upstream.requests();
            let mut client = Client::connect(gateway.address);
            client.send(format!("GET /first HTTP/1.1\r\nHost: test\r\n\r\n{bad}GET /after HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.response().text(), "ok", "{bad:?}");
            let answer = client.response();
            answer.problem(400);
            assert!(answer.closes(), "{bad:?}");
            client.is_closed();
            assert_eq!(upstream.requests(), before + 1, "{bad:?} reached the upstream");
        }
    }

    fn upstreams_take_turns(driver) {
        let one = Upstream::saying("one");
        let two = Upstream::saying("two");
        let gateway = Launch::new(driver)
            .one_worker()
            .rest(&to_upstream(&[one.address, two.address], ""))
            .start();
        let mut client = Client::connect(gateway.address);
        let turns: Vec<String> = (0..6).map(|_| client.get("/").text().to_owned()).collect();
        assert_eq!(turns, ["one", "two", "one", "two", "one", "two"]);
    }

    fn endpoints_are_addresses_unix_sockets_or_names(driver) {
        let upstream = Upstream::saying("ok");
        let folder = crate::support::Folder::new();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                drop(stream.read(&mut [0; 4096]));
                drop(stream.write_all(ok("unix").as_bytes()));
            }
        });
        let up = |name: &str, address: &str| {
            format!(
                "[upstreams.{name}]\nendpoints = [{{ address = \"{address}\" }}]\n\
                 [[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"{name}\"\n"
            )
        };
        let gateway = Launch::new(driver)
            .rest(&up("address", &upstream.address.to_string()))
            .rest(&up("unix", &format!("unix:{}", path.display())))
            .rest(&up("name", &format!("localhost:{}", upstream.address.port())))
            .start();
        for (path, expected) in [("/address", "ok"), ("/unix", "unix"), ("/name", "ok")] {
            assert_eq!(gateway.get(path).text(), expected, "{path}");
        }
    }

    fn an_upstream_that_refuses_is_a_502_with_its_reason_in_the_log(driver) {
        let gateway = Launch::new(driver).rest(&to_upstream(&[nobody()], "")).start();
        assert_eq!(gateway.get("/x").problem(502), "connect_refused");
        let record = gateway.record_of("/x");
        assert_eq!(record["http.response.status_code"], 502);
        assert_eq!(record["error.type"], "connect_refused");
        assert_eq!(record["ringgate.end"], "upstream_refused");
        assert_eq!(record["ringgate.upstream"], "up");
        assert_eq!(gateway.metric("ringgate_upstream_errors_total", &[("kind", "refused")]), 1.0);
    }

    fn another_endpoint_serves_where_one_refuses(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver).rest(&to_upstream(&[nobody(), upstream.address], "")).start();
        for _ in 0..4 {
            assert_eq!(get(gateway.address, "/").text(), "ok");
        }
    }

    fn an_upstream_with_all_connections_taken_is_a_503(driver) {
        let (release, released) = mpsc::channel::<()>();
        let released = std::sync::Mutex::new(released);
        let upstream = Upstream::start(move |mut exchange| {
            exchange.request().unwrap();
            released.lock().unwrap().recv_timeout(LONG).unwrap();
            exchange.send(ok("late"));
        });
        let gateway = Launch::new(driver).rest(&to_upstream(&[upstream.address], "max_connections = 1")).start();
        let mut first = Client::connect(gateway.address);
        first.send("GET /first HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the upstream's only place taken", || (upstream.requests() == 1).then_some(()));
        assert_eq!(gateway.get("/second").problem(503), "upstream_full");
        assert_eq!(gateway.record_of("/second")["ringgate.end"], "upstream_busy");
        release.send(()).unwrap();
        assert_eq!(first.response().text(), "late");
    }

    fn an_upstream_that_thinks_too_long_is_a_504(driver) {
        let upstream = Upstream::start(|mut exchange| exchange.wait_closed());
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "first_byte_timeout = \"300ms\""))
            .start();
        let start = std::time::Instant::now();
        assert_eq!(gateway.get("/x").problem(504), "first_byte_timeout");
        assert!(start.elapsed() >= Duration::from_millis(300));
        let record = gateway.record_of("/x");
        assert_eq!(record["error.type"], "first_byte_timeout");
        assert_eq!(record["ringgate.end"], "upstream_timeout");
    }

    fn a_route_has_a_time_for_the_whole_exchange(driver) {
        let upstream = Upstream::start(|mut exchange| exchange.wait_closed());
        let rest = to_upstream(&[upstream.address], "") + "timeout = \"300ms\"\n";
        let gateway = Launch::new(driver).rest(&rest).start();
        assert_eq!(gateway.get("/x").problem(504), "route_timeout");
        assert_eq!(gateway.record_of("/x")["ringgate.end"], "route_timeout");
    }
}
