//! What requests must be like: methods, header fields, media types; and how such a filter is introduced.

use crate::support::{Client, Driver, Gateway, Launch, Response};

fn gateway(driver: Driver, filter: &str) -> Gateway {
    Launch::new(driver)
        .listener("underscore_headers = \"allow\"")
        .rest(&format!(
            "[filters.f]\n{filter}\n[[routes]]\nname = \"all\"\nfilters = [\"f\"]\nrespond = {{ body = \"in\" }}\n\
             [[routes]]\nname = \"free\"\npath_prefix = \"/free\"\nrespond = {{ body = \"free\" }}\n"
        ))
        .start()
}

fn ask(gateway: &Gateway, method: &str, fields: &str, body: &str) -> Response {
    let mut client = Client::connect(gateway.address);
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    client.send(format!(
        "{method} / HTTP/1.1\r\nHost: t\r\n{length}{fields}\r\n{body}"
    ));
    if method == "HEAD" {
        client.response_to_head()
    } else {
        client.response()
    }
}

fn decisions(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("kind", "filters"), ("filter", "f"), ("outcome", outcome)];
    gateway.metric("ringgate_filter_decisions_total", &labels)
}

on_both_drivers! {
    fn only_listed_methods_are_let_in_and_the_answer_says_which(driver) {
        let gateway = gateway(driver, "methods = [\"GET\", \"POST\", \"QUERY\"]");
        for (method, status) in [("GET", 200), ("HEAD", 200), ("POST", 200), ("QUERY", 200), ("PUT", 405), ("get", 405), ("HEADS", 405), ("OPTIONS", 405)] {
            let answer = ask(&gateway, method, "", "");
            assert_eq!(answer.status, status, "{method}");
            if status == 405 {
                assert_eq!(answer.problem(405), "method_denied");
                assert_eq!(answer.value("allow"), "GET, HEAD, POST, QUERY");
            }
        }
        assert_eq!((decisions(&gateway, "allowed"), decisions(&gateway, "denied")), (4.0, 4.0));
        let rejected = gateway.metric("ringgate_rejected_requests_total", &[("reason", "method_denied")]);
        assert_eq!(rejected, 4.0);
        let record = gateway.record_of("/");
        assert!(record["ringgate.end"] == "ok" || record["ringgate.end"] == "filtered", "{record}");
        assert_eq!(gateway.get("/free").text(), "free");
        assert_eq!(decisions(&gateway, "allowed"), 4.0);
    }

    fn a_body_is_of_a_listed_type_or_refused(driver) {
        let gateway = gateway(driver, "content_types = [\"application/json\", \"image/*\"]");
        for (fields, body, status) in [
            ("", "", 200),
            ("Content-Type: text/html\r\n", "", 200),
            ("Content-Length: 0\r\n", "", 200),
            ("Content-Type: application/json\r\n", "{}", 200),
            ("Content-Type: Application/JSON; charset=utf-8\r\n", "{}", 200),
            ("Content-Type: application/json;\r\n", "{}", 200),
            ("Content-Type: image/svg+xml\r\n", "x", 200),
            ("", "{}", 415),
            ("Content-Type:\r\n", "{}", 415),
            ("Content-Type: application/jsonp\r\n", "{}", 415),
            ("Content-Type: application/json, text/html\r\n", "{}", 415),
            ("Content-Type: text/html; application/json\r\n", "{}", 415),
            ("Content-Type: image\r\n", "x", 415),
            ("Content-Type: image/\r\n", "x", 415),
            ("Content-Type: image/png, text/html\r\n", "x", 415),
            ("Content-Type: application/json\r\nContent-Type: text/html\r\n", "{}", 415),
            ("Content-Type: text/html\r\nContent-Type: application/json\r\n", "{}", 415),
            ("Content_Type: application/json\r\n", "{}", 415),
            ("X: application/json\r\n", "{}", 415),
        ] {
            let answer = ask(&gateway, "POST", fields, body);
            assert_eq!(answer.status, status, "{fields}");
            if status == 415 {
                assert_eq!(answer.problem(415), "content_type_denied");
                assert_eq!(answer.value("accept"), "application/json, image/*");
            }
        }
        // A body of unknown length is one.
        let mut client = Client::connect(gateway.address);
        client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert_eq!(client.response().problem(415), "content_type_denied");
        assert_eq!(client.get("/free").text(), "free");
    }

    fn a_field_that_must_be_there_is_right_on_every_line(driver) {
        let gateway = gateway(driver, "required_headers = { x-version = \"[0-9]+\", accept = \".*json.*\" }");
        let json = "Accept: application/json\r\n";
        for (fields, expected) in [
            ("X-Version: 12\r\n", ""),
            ("x-version: 1\r\nX-VERSION: 2\r\n", ""),
            ("", "header_required"),
            ("X-Version: \r\n", "header_value"),
            ("X-Version: 1a\r\n", "header_value"),
            ("X-Version: 1, 2\r\n", "header_value"),
            ("X-Version: 1\r\nX-Version: evil\r\n", "header_value"),
            // It would not go on to the upstream.
            ("Connection: x-version\r\nX-Version: 1\r\n", "header_required"),
            ("X_Version: 1\r\n", "header_required"),
        ] {
            let answer = ask(&gateway, "GET", &format!("{json}{fields}"), "");
            if expected.is_empty() {
                assert_eq!(answer.status, 200, "{fields}");
            } else {
                assert_eq!(answer.problem(400), expected, "{fields}");
            }
        }
        assert_eq!(ask(&gateway, "GET", "X-Version: 1\r\n", "").problem(400), "header_required");
        assert_eq!(ask(&gateway, "GET", "X-Version: 1\r\nAccept: text/html\r\n", "").problem(400), "header_value");
    }

    fn a_field_that_must_not_be_there_is_found_however_it_is_written(driver) {
        let gateway = gateway(driver, "forbidden_headers = { x-debug = \".*\", user-agent = \"(?i).*sqlmap.*\" }");
        for (fields, status) in [
            ("", 200),
            ("User-Agent: curl\r\n", 200),
            ("X-Debugger: 1\r\n", 200),
            ("X-Debug:\r\n", 403),
            ("x-DEBUG: 1\r\n", 403),
            ("X_Debug: 1\r\n", 403),
            ("X-Other: 1\r\nX-Debug: 1\r\n", 403),
            ("Connection: x-debug\r\nX-Debug: 1\r\n", 403),
            ("User-Agent: a SQLMap/1.8\r\n", 403),
            ("User-Agent: curl\r\nUser-Agent: sqlmap\r\n", 403),
        ] {
            let answer = ask(&gateway, "GET", fields, "");
            assert_eq!(answer.status, status, "{fields}");
            if status == 403 {
                assert_eq!(answer.problem(403), "header_denied");
            }
        }
    }

    fn a_filter_in_shadow_counts_and_refuses_nobody(driver) {
        for (mode, counted) in [("shadow", (1.0, 2.0)), ("off", (0.0, 0.0))] {
            let gateway = gateway(driver, &format!("methods = [\"GET\"]\nforbidden_headers = {{ x-a = \".*\" }}\nmode = \"{mode}\""));
            assert_eq!(ask(&gateway, "GET", "", "").status, 200);
            assert_eq!(ask(&gateway, "PUT", "", "").status, 200);
            assert_eq!(ask(&gateway, "GET", "X-A: 1\r\n", "").status, 200);
            assert_eq!((decisions(&gateway, "allowed"), decisions(&gateway, "shadow_denied")), counted, "{mode}");
            assert_eq!(decisions(&gateway, "denied"), 0.0);
        }
    }

    fn a_filter_is_asked_before_who_calls_and_all_of_several_must_let_in(driver) {
        let gateway = Launch::new(driver)
            .rest(
                "[filters.a]\nmethods = [\"GET\"]\n[filters.b]\nrequired_headers = { x-a = \"1\" }\n[api_keys.keys]\nfile = \"/dev/null\"\n\
                 [[routes]]\nname = \"r\"\nfilters = [\"a\", \"b\"]\nauth = [\"keys\"]\nrespond = {}\n",
            )
            .start();
        assert_eq!(ask(&gateway, "PUT", "X-A: 2\r\n", "").problem(405), "method_denied");
        assert_eq!(ask(&gateway, "GET", "X-A: 2\r\n", "").problem(400), "header_value");
        assert_eq!(ask(&gateway, "GET", "X-A: 1\r\n", "").problem(401), "credentials_missing");
    }
}
