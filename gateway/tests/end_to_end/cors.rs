//! Pages of other origins: what a browser is told, and that nobody else is told it.

use std::sync::mpsc;

use crate::support::{
    Client, Driver, Folder, Gateway, LONG, Launch, Response, Upstream, to_upstream,
};

const APP: &str = "https://app.example.com";
const POLICY: &str = "[cors.web]\norigins = [\"https://app.example.com\", \"https://*.example.org\", \"http://localhost:3000\"]\n\
     methods = [\"GET\", \"PUT\"]\nheaders = [\"Content-Type\", \"x-token\"]\nexposed_headers = [\"ETag\"]\n\
     credentials = true\nmax_age = \"1m30s\"\n";
const ANY: &str = "[cors.web]\norigins = [\"*\"]\nmethods = [\"*\"]\nheaders = [\"*\", \"authorization\"]\nexposed_headers = [\"*\"]\n";

/// Two routes by method with a policy, both with a fixed answer.
fn fixed(driver: Driver, policy: &str) -> Gateway {
    Launch::new(driver)
        .rest(&format!(
            "{policy}\n[[routes]]\nname = \"read\"\npath_prefix = \"/a\"\nmethods = [\"GET\"]\ncors = \"web\"\nrespond = {{ body = \"in\" }}\n\
             [[routes]]\nname = \"write\"\npath_prefix = \"/a\"\nmethods = [\"PUT\", \"DELETE\"]\ncors = \"web\"\nrespond = {{ body = \"put\" }}\n\
             [[routes]]\nname = \"plain\"\npath_prefix = \"/plain\"\nrespond = {{ body = \"plain\" }}\n"
        ))
        .start()
}

fn ask(gateway: &Gateway, method: &str, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(gateway.address);
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n"
    ));
    client.response()
}

fn preflight(
    gateway: &Gateway,
    target: &str,
    origin: &str,
    method: &str,
    headers: &str,
) -> Response {
    let headers = if headers.is_empty() {
        String::new()
    } else {
        format!("Access-Control-Request-Headers: {headers}\r\n")
    };
    let fields =
        format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n{headers}");
    ask(gateway, "OPTIONS", target, &fields)
}

/// The names of all `Access-Control-` fields, in lower case.
fn told(response: &Response) -> Vec<String> {
    let names = response
        .fields
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase());
    names
        .filter(|name| name.starts_with("access-control-"))
        .collect()
}

fn decisions(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("kind", "cors"), ("filter", "web"), ("outcome", outcome)];
    gateway.metric("ringgate_filter_decisions_total", &labels)
}

on_both_drivers! {
    fn a_preflight_is_answered_for_the_route_of_the_request_that_is_to_come(driver) {
        let gateway = fixed(driver, POLICY);
        for method in ["GET", "PUT"] {
            let answer = preflight(&gateway, "/a/x", APP, method, "x-token,content-type");
            assert_eq!((answer.status, answer.body.len()), (204, 0), "{method}");
            assert_eq!(answer.value("access-control-allow-origin"), APP);
            assert_eq!(answer.value("access-control-allow-credentials"), "true");
            assert_eq!(answer.value("access-control-allow-methods"), "GET, PUT");
            assert_eq!(answer.value("access-control-allow-headers"), "content-type, x-token");
            assert_eq!(answer.value("access-control-max-age"), "90");
            assert_eq!(
                answer.value("vary"),
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
            );
        }
        assert_eq!(decisions(&gateway, "allowed"), 2.0);
        // OPTIONS that is no preflight is a request as any other, and one to a route without a policy too.
        assert_eq!(ask(&gateway, "OPTIONS", "/a", &format!("Origin: {APP}\r\n")).problem(405), "method_not_allowed");
        let plain = preflight(&gateway, "/plain", APP, "GET", "");
        assert_eq!((plain.status, plain.text()), (200, "plain"));
        assert!(told(&plain).is_empty());
    }

    fn a_preflight_for_what_is_not_let_in_is_refused_and_says_nothing(driver) {
        let gateway = fixed(driver, POLICY);
        for (origin, method, headers, reason) in [
            ("https://app.example.com.evil.test", "GET", "", "cors_origin"),
            ("https://evil.test", "GET", "", "cors_origin"),
            ("http://app.example.com", "GET", "", "cors_origin"),
            ("https://example.org", "GET", "", "cors_origin"),
            ("https://evil.test/.example.org", "GET", "", "cors_origin"),
            ("null", "GET", "", "cors_origin"),
            ("*", "GET", "", "cors_origin"),
            (APP, "DELETE", "", "cors_method"),
            (APP, "put", "", "cors_method"),
            (APP, "GET", "x-token, x-other", "cors_header"),
            (APP, "GET", "authorization", "cors_header"),
        ] {
            let answer = preflight(&gateway, "/a", origin, method, headers);
            let what = format!("{origin} {method} {headers}");
            if method == "put" {
                // No route takes it, so it is OPTIONS, which none takes either.
                assert_eq!(answer.problem(405), "method_not_allowed", "{what}");
                continue;
            }
            assert_eq!(answer.problem(403), reason, "{what}");
            assert!(told(&answer).is_empty(), "{what} {answer:?}");
            assert!(answer.value("vary").starts_with("Origin"));
        }
        assert_eq!(decisions(&gateway, "denied"), 10.0);
        let rejected = gateway.metric("ringgate_rejected_requests_total", &[("reason", "cors_origin")]);
        assert_eq!(rejected, 7.0);
        // Of two origins nobody can say which is meant.
        let two = format!("Origin: {APP}\r\nOrigin: https://evil.test\r\nAccess-Control-Request-Method: GET\r\n");
        assert_eq!(ask(&gateway, "OPTIONS", "/a", &two).problem(403), "cors_origin");
    }

    fn only_a_listed_origin_may_read_an_answer(driver) {
        let gateway = fixed(driver, POLICY);
        for origin in [APP, "https://a.example.org", "https://a.b.example.org", "http://localhost:3000"] {
            let answer = ask(&gateway, "GET", "/a", &format!("Origin: {origin}\r\n"));
            assert_eq!((answer.status, answer.text()), (200, "in"));
            assert_eq!(answer.value("access-control-allow-origin"), origin);
            assert_eq!(answer.value("access-control-allow-credentials"), "true");
            assert_eq!(answer.value("access-control-expose-headers"), "etag");
            assert_eq!(answer.value("vary"), "Origin");
        }
        // The request is made all the same; and a cache is told that the answer is not for everybody.
        for fields in ["Origin: https://evil.test\r\n", "Origin: null\r\n", "Origin: https://app.example.com\r\nOrigin: x\r\n", ""] {
            let answer = ask(&gateway, "GET", "/a", fields);
            assert_eq!((answer.status, answer.text()), (200, "in"), "{fields}");
            assert!(told(&answer).is_empty(), "{fields}");
            assert_eq!(answer.value("vary"), "Origin");
        }
        // Browsers name the origin of a page also where it is the very one that is asked.
        let own = ask(&gateway, "PUT", "/a", "Origin: https://api.test\r\nContent-Length: 0\r\n");
        assert_eq!((own.status, told(&own).len()), (200, 0));
        assert_eq!((decisions(&gateway, "allowed"), decisions(&gateway, "denied")), (4.0, 3.0));
    }

    fn every_page_may_where_the_policy_says_so_but_as_nobody(driver) {
        let gateway = fixed(driver, ANY);
        for origin in ["https://evil.test", "null"] {
            let answer = preflight(&gateway, "/a", origin, "DELETE", "x-any, Authorization");
            assert_eq!(answer.status, 204);
            assert_eq!(answer.value("access-control-allow-origin"), "*");
            assert_eq!(answer.value("access-control-allow-methods"), "*");
            assert_eq!(answer.value("access-control-allow-headers"), "*, authorization");
            assert!(answer.values("access-control-allow-credentials").is_empty());
            let answer = ask(&gateway, "GET", "/a", &format!("Origin: {origin}\r\n"));
            assert_eq!(answer.value("access-control-allow-origin"), "*");
            assert_eq!(answer.value("access-control-expose-headers"), "*");
        }
        // The same without an origin: a cache may give it to everybody.
        let answer = ask(&gateway, "GET", "/a", "");
        assert_eq!(answer.value("access-control-allow-origin"), "*");
        assert!(answer.values("vary").is_empty());
    }

    fn what_the_upstream_says_of_it_is_left_out(driver) {
        let upstream = Upstream::answering(|_, _| {
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\n\
             Access_Control_Allow_Origin: *\r\nAccess-Control-Expose-Headers: x-secret\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nok"
                .to_owned()
        });
        let gateway = Launch::new(driver)
            .rest(POLICY)
            .rest(&format!("{}cors = \"web\"\n", to_upstream(&[upstream.address], "")))
            .start();
        let answer = ask(&gateway, "GET", "/", &format!("Origin: {APP}\r\n"));
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.value("access-control-allow-origin"), APP);
        assert_eq!(answer.value("access-control-expose-headers"), "etag");
        assert_eq!(answer.values("vary"), ["Accept", "Origin"]);
        let answer = ask(&gateway, "GET", "/", "Origin: https://evil.test\r\n");
        assert!(told(&answer).is_empty(), "{answer:?}");
        assert!(answer.values("access_control_allow_origin").is_empty());
        assert_eq!(preflight(&gateway, "/", APP, "GET", "").status, 204);
        assert_eq!(upstream.requests(), 2);
    }

    fn a_page_may_read_why_it_was_refused(driver) {
        let folder = Folder::new();
        let file = folder.path().join("keys");
        std::fs::write(&file, "").unwrap();
        let gateway = Launch::new(driver)
            .rest(POLICY)
            .rest(&format!(
                "[api_keys.keys]\nfile = \"{}\"\n[[routes]]\nname = \"r\"\ncors = \"web\"\nauth = [\"keys\"]\nmax_body = \"1B\"\nrespond = {{}}\n",
                file.display()
            ))
            .start();
        // Preflights come without credentials, and are answered before anybody asks for them.
        assert_eq!(preflight(&gateway, "/", APP, "PUT", "x-token").status, 204);
        let refused = ask(&gateway, "GET", "/", &format!("Origin: {APP}\r\n"));
        assert_eq!(refused.problem(401), "credentials_missing");
        assert_eq!(refused.value("access-control-allow-origin"), APP);
        let refused = ask(&gateway, "PUT", "/", &format!("Origin: {APP}\r\nContent-Length: 2\r\n"));
        assert_eq!(refused.problem(413), "body_too_large");
        assert_eq!(refused.value("access-control-allow-origin"), APP);
    }

    fn a_policy_in_shadow_counts_and_changes_nothing(driver) {
        let (requests, received) = mpsc::channel();
        let upstream = Upstream::answering(move |request, _| {
            drop(requests.send(request.line.clone()));
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n".to_owned()
        });
        let route = to_upstream(&[upstream.address], "");
        for (mode, counted) in [("shadow", (1.0, 2.0)), ("off", (0.0, 0.0))] {
            let gateway = Launch::new(driver)
                .rest(&format!("{POLICY}mode = \"{mode}\"\n{route}cors = \"web\"\n"))
                .start();
            assert_eq!(preflight(&gateway, "/", "https://evil.test", "GET", "").status, 200);
            assert_eq!(received.recv_timeout(LONG).unwrap(), "OPTIONS / HTTP/1.1");
            for origin in [APP, "https://evil.test"] {
                let answer = ask(&gateway, "GET", "/", &format!("Origin: {origin}\r\n"));
                assert_eq!(answer.value("access-control-allow-origin"), "*");
                assert_eq!(received.recv_timeout(LONG).unwrap(), "GET / HTTP/1.1");
            }
            assert_eq!((decisions(&gateway, "allowed"), decisions(&gateway, "shadow_denied")), counted, "{mode}");
            assert_eq!(decisions(&gateway, "denied"), 0.0);
        }
    }
}
