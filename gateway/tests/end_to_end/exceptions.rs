//! What an operator may allow or ask for beside the rules: named exceptions, each counted; trailers; `Via`.

use std::fs;
use std::sync::mpsc;

use gateway::config::entry;

use crate::reasons::STRICTER;
use crate::support::{
    Client, Driver, Folder, Gateway, LONG, Launch, Request, Upstream, send, to_upstream,
};

/// Responses with a fault that an upstream may be forgiven, and the body that is meant.
const FAULTY: [(&str, &str); 5] = [
    (
        "duplicate-content-length",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "duplicate-content-length",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    ),
    (
        "length-and-encoding",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "transfer-encoding-in-http-1-0",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "blank-before-colon",
        "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok",
    ),
];

/// An upstream that answers `/NUMBER` with that row.
fn faulty() -> Upstream {
    Upstream::answering(|request, _| {
        let number: usize = request.target().strip_prefix('/').unwrap().parse().unwrap();
        FAULTY[number].1.to_owned()
    })
}

/// An upstream that answers with trailers and hands over what it got.
fn with_trailers() -> (Upstream, mpsc::Receiver<(Request, Vec<String>)>) {
    let (requests, received) = mpsc::channel();
    let upstream = Upstream::start(move |mut exchange| {
        while let Some(request) = exchange.head() {
            let mut trailers = Vec::new();
            if request.values("transfer-encoding") == ["chunked"] {
                trailers = exchange.reading.chunks_and_trailers().unwrap();
            }
            drop(requests.send((request, trailers)));
            exchange.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\
                 Set-Cookie: a=b\r\n\r\n",
            );
        }
    });
    (upstream, received)
}

fn before(driver: Driver, upstream: &Upstream, listener: &str, route: &str) -> Gateway {
    Launch::new(driver)
        .one_worker()
        .listener(listener)
        .rest(&to_upstream(&[upstream.address], ""))
        .rest(route)
        .start()
}

on_both_drivers! {
    fn a_fault_is_forgiven_where_its_name_is_listed_and_nowhere_else(driver) {
        let upstream = faulty();
        for (number, (fault, _)) in FAULTY.iter().enumerate() {
            let target = format!("/{number}");
            let strict = before(driver, &upstream, "", "");
            assert_eq!(strict.get(&target).status, 502, "{fault}");
            let others: Vec<String> = FAULTY
                .iter()
                .filter(|(other, _)| other != fault)
                .map(|(other, _)| format!("\"{other}\""))
                .collect();
            for (names, status) in [(others.join(","), 502), (format!("\"{fault}\""), 200)] {
                let lines = format!("tolerate = [{names}]");
                let gateway = Launch::new(driver)
                    .one_worker()
                    .rest(&to_upstream(&[upstream.address], &lines))
                    .start();
                let mut client = Client::connect(gateway.address);
                for _ in 0..2 {
                    let answer = client.get(&target);
                    assert_eq!(answer.status, status, "{fault} with {names}");
                    if status == 200 {
                        assert_eq!(answer.text(), "ok");
                        assert!(answer.fields.iter().all(|(name, _)| name.trim() == name));
                        let framing = answer.values("content-length").len()
                            + answer.values("transfer-encoding").len();
                        assert_eq!(framing, 1, "one framing goes on: {answer:?}");
                    }
                }
                let labels = [("upstream", "up"), ("fault", *fault)];
                let counted = gateway.metric("ringgate_tolerated_responses_total", &labels);
                assert_eq!(counted, if status == 200 { 2.0 } else { 0.0 });
                // Who is so mistaken may be mistaken about its end: no connection is used twice.
                let reused = gateway.metric("ringgate_upstream_connections_reused_total", &[]);
                assert_eq!(reused, 0.0, "{fault}");
            }
        }
    }

    fn what_a_listener_only_counts_is_served_and_counted(driver) {
        let upstream = Upstream::saying("served");
        let names: Vec<String> = STRICTER.iter().map(|(reason, _)| format!("\"{reason}\"")).collect();
        let listener = format!(
            "path_policy = \"strict\"\nunderscore_headers = \"reject\"\ncount_only = [{}]",
            names.join(",")
        );
        let small = "[[routes]]\nname = \"small\"\npath = \"/small\"\nupstream = \"up\"\n";
        let gateway = before(driver, &upstream, &listener, small);
        for (reason, request) in STRICTER {
            let mut client = Client::connect(gateway.address);
            client.send_what_goes(request);
            assert_eq!(client.response().text(), "served", "{request:?}");
            let labels = [("listener", "web"), ("reason", *reason)];
            assert_eq!(gateway.metric("ringgate_counted_only_total", &labels), 1.0, "{reason}");
        }
        assert_eq!(gateway.metric("ringgate_rejected_requests_total", &[]), 0.0);
        // What the standard policy refuses too is refused.
        assert_eq!(gateway.get("/a/%252e%252e/b").problem(400), "path_hidden_dot_segment");
        let plain = "path_policy = \"strict\"\ncount_only = [\"path_encoded_slash\"]";
        let gateway = before(driver, &upstream, plain, "");
        assert_eq!(gateway.get("/a//b").problem(400), "path_empty_segment");
        assert_eq!(gateway.get("/a%2Fb").text(), "served");
    }

    fn trailers_pass_by_what_the_receiver_or_the_route_says(driver) {
        let (upstream, received) = with_trailers();
        let post = |te: &str| {
            format!(
                "POST / HTTP/1.1\r\nHost: test\r\n{te}Transfer-Encoding: chunked\r\nTrailer: X-In\r\n\r\n1\r\na\r\n0\r\n\
                 X-In: 5\r\nAuthorization: x\r\nX-Forwarded-For: 6.6.6.6\r\nHost: evil\r\n\r\n"
            )
        };
        // Where callers are told apart a client must not say in a trailer who it is.
        let folder = Folder::new();
        let keys = folder.path().join("keys");
        fs::write(&keys, entry("somebody", b"a-key-0123456789").unwrap() + "\n").unwrap();
        let told_apart = format!(
            "trailers = true\nauth = [\"keys\"]\nauth_optional = true\n[api_keys.keys]\nfile = \"{}\"",
            keys.display()
        );
        for (route, te, up, down, asked) in [
            ("", "", false, false, false),
            ("", "TE: trailers\r\nConnection: TE\r\n", false, true, true),
            ("trailers = true", "", true, true, true),
            (&told_apart, "", false, true, true),
        ] {
            let gateway = before(driver, &upstream, "", route);
            let mut client = Client::connect(gateway.address);
            for _ in 0..2 {
                client.send(post(te));
                let answer = client.head().unwrap();
                let names: &[&str] = if down { &["X-Sum"] } else { &[] };
                assert_eq!(answer.values("trailer"), names, "{route} {te}");
                let got = client.reading().chunks_and_trailers().unwrap();
                assert_eq!(got, if down { vec!["X-Sum: 7"] } else { vec![] }, "{route} {te}");
                let (request, trailers) = received.recv_timeout(LONG).unwrap();
                assert_eq!(trailers, if up { vec!["X-In: 5"] } else { vec![] }, "{route} {te}");
                assert_eq!(request.values("te").len(), usize::from(asked), "{route} {te}");
                assert_eq!(request.values("trailer").len(), usize::from(up), "{route} {te}");
            }
        }
    }

    fn via_is_added_both_ways_behind_those_of_others_where_it_is_asked_for(driver) {
        let (requests, received) = mpsc::channel();
        let upstream = Upstream::answering(move |request, _| {
            drop(requests.send(request.clone()));
            "HTTP/1.1 200 OK\r\nVia: 1.0 inner\r\nContent-Length: 0\r\n\r\n".to_owned()
        });
        let gateway = before(driver, &upstream, "via = \"edge\"", "");
        let answer = send(gateway.address, "GET / HTTP/1.0\r\nHost: test\r\nVia: 1.1 outer\r\n\r\n");
        assert_eq!(answer.values("via"), ["1.0 inner", "1.1 edge"]);
        let request = received.recv_timeout(LONG).unwrap();
        assert_eq!(request.values("via"), ["1.1 outer", "1.0 edge"]);
        let silent = before(driver, &upstream, "", "");
        assert_eq!(silent.get("/").values("via"), ["1.0 inner"]);
        assert_eq!(received.recv_timeout(LONG).unwrap().values("via"), [""; 0]);
    }

    fn a_host_that_differs_from_the_target_is_rewritten_where_that_is_asked_for(driver) {
        let upstream = Upstream::answering(|request, _| {
            crate::support::ok(&format!("{:?}", request.values("host")))
        });
        let request = "GET http://one.test/x HTTP/1.1\r\nHost: two.test\r\n\r\n";
        let gateway = before(driver, &upstream, "host_mismatch = \"rewrite\"", "");
        assert_eq!(send(gateway.address, request).text(), "[\"one.test\"]");
        let gateway = before(driver, &upstream, "", "");
        assert_eq!(send(gateway.address, request).problem(400), "host_mismatch");
    }
}
