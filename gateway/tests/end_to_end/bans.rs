//! Clients that are refused again and again are refused for a time: for what, whom it concerns, and when it is over.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::{
    Client, Driver, Gateway, Launch, Response, Upstream, eventually, ok, to_upstream,
};

const ROUTES: &str = "[api_keys.keys]\nfile = \"/dev/null\"\n[limits.one]\nrate = \"1/h\"\nburst = 1\n\
     [[routes]]\nname = \"in\"\npath = \"/in\"\nrespond = { body = \"in\" }\n\
     [[routes]]\nname = \"own\"\npath = \"/own\"\nrespond = { status = 403 }\n\
     [[routes]]\nname = \"keys\"\npath = \"/keys\"\nauth = [\"keys\"]\nrespond = {}\n\
     [[routes]]\nname = \"limited\"\npath = \"/limited\"\nlimits = [\"one\"]\nrespond = {}\n";

fn launch(driver: Driver, ban: &str) -> Launch {
    Launch::new(driver)
        .listener("ban = \"b\"")
        .rest(&format!("[bans.b]\n{ban}\n{ROUTES}"))
}

/// The answer to a client at 127.0.0.LAST on a connection of its own.
fn from(gateway: &Gateway, last: u8, target: &str) -> Response {
    client(gateway, last).get(target)
}

fn client(gateway: &Gateway, last: u8) -> Client {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    Client::connect_from(address, gateway.address)
}

fn decisions(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("kind", "bans"), ("filter", "b"), ("outcome", outcome)];
    gateway.metric("ringgate_filter_decisions_total", &labels)
}

on_both_drivers! {
    fn refusals_begin_a_penalty_on_every_connection_of_the_client_and_on_no_other(driver) {
        let gateway = launch(driver, "causes = [\"no_route\", \"unauthorized\"]\nrefusals = 3").start();
        let mut kept = client(&gateway, 2);
        assert_eq!(from(&gateway, 2, "/nothing").status, 404);
        assert_eq!(kept.get("/keys").status, 401);
        assert_eq!(kept.get("/in").text(), "in");
        assert_eq!(from(&gateway, 2, "/nothing").status, 404);
        // Two workers, and many connections: wherever they are.
        for _ in 0..8 {
            let answer = from(&gateway, 2, "/in");
            assert_eq!(answer.problem(429), "banned");
            let seconds: u64 = answer.value("retry-after").parse().unwrap();
            assert!((590..=600).contains(&seconds), "{seconds}");
            assert_eq!(
                answer.json()["type"],
                "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
            );
            assert!(answer.closes());
        }
        assert_eq!(kept.get("/in").problem(429), "banned");
        assert!(kept.is_closed());
        assert_eq!(from(&gateway, 3, "/in").text(), "in");
        assert_eq!((decisions(&gateway, "banned"), decisions(&gateway, "denied")), (1.0, 9.0));
        let rejected = gateway.metric("ringgate_rejected_requests_total", &[("reason", "banned")]);
        assert_eq!(rejected, 9.0);
        let record = eventually("the record", || {
            gateway.records().into_iter().find(|record| record["error.type"] == "banned")
        });
        assert_eq!((&record["ringgate.end"], &record["client.address"]), (&"banned".into(), &"127.0.0.2".into()));
    }

    fn only_what_is_named_counts_and_nothing_that_an_upstream_says(driver) {
        let upstream = Upstream::answering(|_, _| ok("").replace("200 OK", "403 Forbidden"));
        let gateway = launch(driver, "refusals = 2")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        for target in ["/", "/own", "/in", "/"] {
            from(&gateway, 2, target);
            from(&gateway, 2, target);
        }
        assert_eq!(from(&gateway, 2, "/in").status, 200);
        // What is no head at all, what is no request, and what a limit refuses.
        for last in [3, 4, 5] {
            for _ in 0..2 {
                let mut client = client(&gateway, last);
                let status = match last {
                    3 => { client.send("GET\n"); client.response().status }
                    4 => { client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"); client.response().status }
                    _ => { client.get("/limited"); client.get("/limited").status }
                };
                assert_eq!(status, if last == 5 { 429 } else { 400 });
            }
            assert_eq!(from(&gateway, last, "/in").problem(429), "banned", "{last}");
        }
    }

    fn a_banned_client_is_told_as_much_as_the_ban_says(driver) {
        let gateway = launch(driver, "causes = [\"no_route\"]\nrefusals = 1\nanswer = \"403\"").start();
        assert_eq!(from(&gateway, 2, "/nothing").status, 404);
        let answer = from(&gateway, 2, "/in");
        assert_eq!(answer.problem(403), "banned");
        assert!(answer.values("retry-after").is_empty());
        let gateway = launch(driver, "causes = [\"no_route\"]\nrefusals = 1\nanswer = \"close\"").start();
        assert_eq!(from(&gateway, 2, "/nothing").status, 404);
        let mut client = client(&gateway, 2);
        client.send("GET /in HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(client.try_response(true).is_none());
        assert_eq!(decisions(&gateway, "denied"), 1.0);
    }

    fn the_penalty_ends(driver) {
        let gateway = launch(driver, "causes = [\"no_route\"]\nrefusals = 1\npenalty = \"1s\"").start();
        assert_eq!(from(&gateway, 2, "/nothing").status, 404);
        assert_eq!(from(&gateway, 2, "/in").status, 429);
        // What it asks meanwhile does not prolong it.
        eventually("the end of the penalty", || (from(&gateway, 2, "/in").status == 200).then_some(()));
    }

    fn a_client_behind_a_proxy_pays_for_itself_alone(driver) {
        let gateway = launch(driver, "causes = [\"no_route\", \"bad_request\"]\nrefusals = 1\n[client_ip]\ntrusted_proxies = [\"127.0.0.2\"]").start();
        let ask = |target: &str, told: &str| {
            let mut client = client(&gateway, 2);
            client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n{told}\r\n"));
            client.response().status
        };
        assert_eq!(ask("/nothing", "X-Forwarded-For: 192.0.2.1\r\n"), 404);
        assert_eq!(ask("/in", "X-Forwarded-For: 192.0.2.1\r\n"), 429);
        assert_eq!(ask("/in", "X-Forwarded-For: 192.0.2.2\r\n"), 200);
        // Nobody else can be told from the proxy's own requests, so these do not count.
        assert_eq!(ask("/nothing", ""), 404);
        assert_eq!(ask("/in b", ""), 400);
        assert_eq!(ask("/in", ""), 200);
        // Who is not believed says what he wants, and is banned himself.
        let mut stranger = client(&gateway, 3);
        stranger.send("GET /nothing HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 192.0.2.2\r\n\r\n");
        assert_eq!(stranger.response().status, 404);
        assert_eq!(from(&gateway, 3, "/in").status, 429);
        assert_eq!(ask("/in", "X-Forwarded-For: 192.0.2.2\r\n"), 200);
    }

    fn a_ban_in_shadow_counts_and_refuses_nobody(driver) {
        for (mode, counted) in [("shadow", (1.0, 1.0)), ("off", (0.0, 0.0))] {
            let gateway = launch(driver, &format!("causes = [\"no_route\"]\nrefusals = 1\nmode = \"{mode}\"")).start();
            assert_eq!(from(&gateway, 2, "/nothing").status, 404);
            assert_eq!(from(&gateway, 2, "/in").status, 200);
            assert_eq!((decisions(&gateway, "banned"), decisions(&gateway, "shadow_denied")), counted, "{mode}");
            assert_eq!(decisions(&gateway, "denied"), 0.0);
        }
    }

    fn a_host_that_the_listener_does_not_serve_gets_421(driver) {
        let route = "[[routes]]\nname = \"all\"\nrespond = { body = \"in\" }\n";
        let hosts = "hosts = [\"api.test\", \"*.example.com\"]";
        let gateway = Launch::new(driver).listener(hosts).rest(route).start();
        let ask = |gateway: &Gateway, head: &str| {
            let mut client = Client::connect(gateway.address);
            client.send(head);
            client.response()
        };
        for (host, status) in [
            ("api.test", 200), ("API.test:81", 200), ("a.b.example.com", 200),
            ("example.com", 421), (".example.com", 421), ("other.test", 421), ("api.test.evil", 421), ("127.0.0.1", 421),
        ] {
            let answer = ask(&gateway, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            if status == 421 && answer.status != 400 {
                assert_eq!(answer.problem(421), "host_unlisted", "{host}");
            } else {
                assert_eq!(answer.status, if host.starts_with('.') { 400 } else { status }, "{host}");
            }
        }
        assert_eq!(ask(&gateway, "GET / HTTP/1.0\r\n\r\n").problem(421), "host_unlisted");
        assert_eq!(ask(&gateway, "GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n").problem(421), "host_unlisted");
        let counting = Launch::new(driver)
            .listener(&format!("{hosts}\ncount_only = [\"host_unlisted\"]"))
            .rest(route)
            .start();
        assert_eq!(ask(&counting, "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").status, 200);
        let labels = [("listener", "web"), ("reason", "host_unlisted")];
        assert_eq!(counting.metric("ringgate_counted_only_total", &labels), 1.0);
    }
}
