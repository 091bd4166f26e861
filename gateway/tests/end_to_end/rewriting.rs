//! What a route makes of a request and its response: paths, hosts, header fields, redirects, shares of upstreams.

use std::net::SocketAddr;
use std::sync::mpsc;

use crate::support::{Client, Driver, Gateway, LONG, Launch, Request, Upstream, ok, send};

/// An upstream that answers 200 with fields to edit, and hands over what it got.
fn recording() -> (Upstream, mpsc::Receiver<Request>) {
    let (requests, received) = mpsc::channel();
    let upstream = Upstream::answering(move |request, _| {
        drop(requests.send(request.clone()));
        "HTTP/1.1 200 OK\r\nServer: secret/1.2\r\nX-Powered-By: x\r\nx_powered_by: y\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
            .to_owned()
    });
    (upstream, received)
}

/// A route to the upstream at `address` with these lines.
fn to(address: SocketAddr, lines: &str) -> String {
    format!(
        "[upstreams.up]\nendpoints = [{{ address = \"{address}\" }}]\n[[routes]]\nname = \"r\"\nupstream = \"up\"\n{lines}\n"
    )
}

fn start(driver: Driver, rest: &str) -> Gateway {
    Launch::new(driver).rest(rest).start()
}

/// A route with a redirect.
fn redirect(path: &str, target: &str) -> String {
    let name = path.trim_matches(['/', '{', '}']);
    format!("[[routes]]\nname = \"{name}\"\npath_prefix = \"{path}\"\nredirect = {target}\n")
}

on_both_drivers! {
    fn prefixes_go_and_come(driver) {
        let (upstream, received) = recording();
        let gateway = start(driver, &to(
            upstream.address,
            "path_prefix = \"/v1\"\nrewrite = { strip_prefix = \"/v1\", add_prefix = \"/app\" }",
        ));
        for (target, expected) in [
            ("/v1/a/b?c=/v1/d", "/app/a/b?c=/v1/d"),
            ("/v1", "/app"),
            ("/v1//x", "/app//x"),
            ("/v1/%61%2F..", ""),
            ("/v1/a/%2E%2E/b", "/app/b"),
        ] {
            let answer = gateway.get(target);
            if expected.is_empty() {
                // A hidden dot segment is refused before anything is rewritten.
                assert_eq!(answer.status, 400, "{target}");
                continue;
            }
            assert_eq!(answer.status, 200, "{target}");
            assert_eq!(received.recv_timeout(LONG).unwrap().target(), expected);
        }
        // What is logged and counted is the request as it came.
        assert_eq!(gateway.record_of("/v1")["http.route"], "r");
    }

    fn what_is_left_of_a_path_never_begins_with_two_slashes(driver) {
        let (upstream, received) = recording();
        let gateway = start(driver, &to(
            upstream.address,
            "path_prefix = \"/v1\"\nrewrite = { strip_prefix = \"/v1\" }",
        ));
        assert_eq!(gateway.get("/v1//evil.test/x").status, 200);
        assert_eq!(received.recv_timeout(LONG).unwrap().target(), "/evil.test/x");
        assert_eq!(gateway.get("/v1").status, 200);
        assert_eq!(received.recv_timeout(LONG).unwrap().target(), "/");
    }

    fn a_path_is_made_of_captures_as_they_came(driver) {
        let (upstream, received) = recording();
        let gateway = start(driver, &to(
            upstream.address,
            "path = \"/users/{id}/{what}\"\nrewrite = { path = \"/${path.what}/of/${path.id}\", host = \"users.internal:8000\" }",
        ));
        assert_eq!(gateway.get("/users/a%2Fb%0D%0Ac/x%20y?q").status, 200);
        let request = received.recv_timeout(LONG).unwrap();
        assert_eq!(request.target(), "/x%20y/of/a%2Fb%0D%0Ac?q");
        assert_eq!(request.values("host"), ["users.internal:8000"]);
        assert_eq!(request.values("x-forwarded-host"), ["test"]);
    }

    fn a_path_by_regular_expression_cannot_be_made_a_dot_segment(driver) {
        let (upstream, received) = recording();
        let gateway = start(driver, &to(
            upstream.address,
            "path_regex = \"/f/x(?P<rest>.*)\"\nrewrite = { path = \"/files/.${path.rest}\" }",
        ));
        assert_eq!(gateway.get("/f/xa/b").status, 200);
        assert_eq!(received.recv_timeout(LONG).unwrap().target(), "/files/.a/b");
        assert_eq!(gateway.get("/f/x./secret").problem(400), "path_rewrite");
        assert_eq!(gateway.get("/f/x%2E/secret").problem(400), "path_rewrite");
        assert_eq!(upstream.requests(), 1);
    }

    fn request_fields_are_set_added_and_removed(driver) {
        let (upstream, received) = recording();
        let gateway = Launch::new(driver)
            .listener("underscore_headers = \"allow\"")
            .rest(&to(
                upstream.address,
                "path = \"/users/{id}\"\nrewrite = { host = \"upstream\" }\n[routes.request_headers]\n\
                 set = { x-user = \"${path.id}\", X-Seen = \"${method} ${scheme}://${host}${path}?${query} $$5\", x-from = \"${client.address} ${request.id} ${route}\" }\n\
                 add = { x-more = \"2\" }\nremove = [\"X-Internal\", \"cookie\"]",
            ))
            .start();
        send(
            gateway.address,
            "GET /users/%37?a=b HTTP/1.1\r\nHost: A.Test:80\r\nX-User: root\r\nx_user: root\r\nX-More: 1\r\n\
             x-internal: 1\r\nx_internal: 2\r\nCookie: a=b\r\nX-Kept: 1\r\n\r\n",
        );
        let request = received.recv_timeout(LONG).unwrap();
        assert_eq!(request.values("x-user"), ["7"]);
        assert_eq!(request.values("x_user"), [""; 0]);
        assert_eq!(request.values("x-seen"), ["GET http://a.test/users/7?a=b $5"]);
        let id = request.values("x-request-id")[0].to_owned();
        assert_eq!(request.values("x-from"), [format!("127.0.0.1 {id} r")]);
        assert_eq!(request.values("x-more"), ["1", "2"]);
        for gone in ["x-internal", "x_internal", "cookie"] {
            assert_eq!(request.values(gone), [""; 0], "{gone}");
        }
        assert_eq!(request.values("x-kept"), ["1"]);
        assert_eq!(request.values("host"), [upstream.address.to_string()]);
    }

    fn response_fields_are_set_added_and_removed_on_every_answer_of_the_route(driver) {
        let (upstream, _received) = recording();
        let gateway = start(driver, &(to(
            upstream.address,
            "max_body = \"2B\"\n[routes.response_headers]\nset = { server = \"ringgate\", content-type = \"text/plain\", x-id = \"${request.id}\" }\n\
             add = { X-Kept = \"2\" }\nremove = [\"x-powered-by\"]",
        ) + "[[routes]]\nname = \"fixed\"\npath = \"/fixed\"\nrespond = { headers = { X-A = \"1\", x-b = \"1\" } }\n\
             response_headers = { set = { x-a = \"2\" } }\n"));
        let answer = gateway.get("/");
        assert_eq!(answer.value("server"), "ringgate");
        assert_eq!(answer.value("x-id").len(), 32);
        assert_eq!(answer.values("x-kept"), ["1", "2"]);
        assert_eq!(answer.values("x-powered-by"), [""; 0]);
        assert_eq!(answer.values("x_powered_by"), [""; 0]);
        let refused = send(
            gateway.address,
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc",
        );
        assert_eq!((refused.status, refused.json()["detail"].as_str()), (413, Some("body_too_large")));
        assert_eq!(refused.value("server"), "ringgate");
        assert_eq!(refused.values("content-type"), ["text/plain"]);
        let fixed = gateway.get("/fixed");
        assert_eq!((fixed.value("x-a"), fixed.value("x-b")), ("2", "1"));
    }

    fn redirects_lead_where_they_are_written_to(driver) {
        let gateway = Launch::new(driver)
            .rest(&redirect("/secure", "{ to = \"https://${host}${path}\" }"))
            .rest(&redirect("/moved", "{ to = \"https://new.test/x?from=${path}\", status = 301 }"))
            .rest(&redirect("/here", "{ to = \"${path}\", status = 307 }"))
            .rest("[[routes]]\nname = \"tail\"\npath_regex = \"/go(?P<to>/.*)\"\nredirect = { to = \"/${path.to}\" }\n")
            .start();
        let mut client = Client::connect(gateway.address);
        for (host, target, status, location) in [
            ("A.test:8080", "/secure/a%20b?x=1&y", 308, "https://a.test/secure/a%20b?x=1&y"),
            ("a.test", "/secure/%0d%0aSet-Cookie:x", 308, "https://a.test/secure/%0D%0ASet-Cookie:x"),
            ("a.test", "/secure/\"<x>", 308, "https://a.test/secure/%22%3Cx%3E"),
            ("a.test", "/moved/a?b", 301, "https://new.test/x?from=/moved/a"),
            ("a.test", "/here?a=b", 307, "/here?a=b"),
            // Not to the host evil.test.
            ("a.test", "/go//evil.test/x", 308, "/evil.test/x"),
            ("a.test", "/go///evil.test/x", 308, "/evil.test/x"),
        ] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let answer = client.response();
            assert_eq!((answer.status, answer.value("location")), (status, location), "{target}");
            assert_eq!(answer.value("content-length"), "0");
        }
        let nameless = send(gateway.address, "GET /secure/evil.test HTTP/1.0\r\n\r\n");
        assert_eq!(nameless.problem(400), "path_rewrite");
    }

    fn a_split_shares_requests_by_weight(driver) {
        let (old, new) = (Upstream::saying("old"), Upstream::saying("new"));
        let gateway = Launch::new(driver)
            .one_worker()
            .rest(&format!(
                "[upstreams.old]\nendpoints = [{{ address = \"{}\" }}]\n[upstreams.new]\nendpoints = [{{ address = \"{}\" }}]\n\
                 [upstreams.none]\nendpoints = [{{ address = \"{}\" }}]\n[[routes]]\nname = \"r\"\n\
                 split = [{{ upstream = \"new\", weight = 10 }}, {{ upstream = \"none\", weight = 0 }}, {{ upstream = \"old\", weight = 90 }}]\n",
                old.address, new.address, old.address,
            ))
            .start();
        let mut client = Client::connect(gateway.address);
        let mut to_new = 0;
        for _ in 0..200 {
            let answer = client.get("/");
            assert_eq!(answer.status, 200);
            to_new += usize::from(answer.text() == "new");
        }
        assert!((18..=22).contains(&to_new), "{to_new} of 200 at 10 %");
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("http_client_request_duration_seconds_count", &[("upstream", "none")]), 0.0);
    }

    fn a_head_longer_than_the_route_takes_is_refused(driver) {
        let upstream = Upstream::answering(|_, _| ok("ok"));
        let gateway = start(driver, &to(upstream.address, "max_head = \"128B\""));
        assert_eq!(gateway.get("/").status, 200);
        let long = "x".repeat(128);
        let answer = send(
            gateway.address,
            &format!("GET / HTTP/1.1\r\nHost: test\r\nX-A: {long}\r\n\r\n"),
        );
        assert_eq!(answer.problem(431), "route_head_too_large");
        assert_eq!(upstream.requests(), 1);
    }
}
