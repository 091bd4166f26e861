//! API keys: who gets in, what the upstream and the log see of it, and what an attacker can try.

use std::fs;

use gateway::config::entry;

use crate::support::{
    Client, Driver, Folder, Gateway, Launch, Request, Response, Upstream, eventually, ok, send,
};

const KEY: &str = "mobile-key-0123456789";
/// A key less a letter.
const NEAR: &str = "obile-key-0123456789";
const OTHER: &str = "batch-key-0123456789";

/// What lives as long as a gateway.
struct Kept {
    folder: Folder,
    _upstream: Upstream,
}

/// A gateway before an upstream that answers with what it got, and the folder of the file of keys.
fn gateway(driver: Driver, section: &str, route: &str, more: &str) -> (Gateway, Kept) {
    let folder = Folder::new();
    let file = folder.path().join("keys");
    fs::write(&file, keys(&[("mobile", KEY), ("batch", OTHER)])).unwrap();
    let upstream = Upstream::answering(|request, _| ok(&shown(request)));
    let gateway = Launch::new(driver)
        .rest(&format!(
            "[upstreams.up]\nendpoints = [{{ address = \"{}\" }}]\n\
             [consumers.mobile]\ngroups = [\"apps\", \"beta\"]\nplan = \"gold\"\n\
             [api_keys.keys]\nfile = \"{}\"\n{section}\n{more}\n\
             [[routes]]\nname = \"open\"\npath_prefix = \"/open\"\nupstream = \"up\"\n\
             [[routes]]\nname = \"all\"\nauth = [\"keys\"]\nupstream = \"up\"\n{route}\n",
            upstream.address,
            file.display()
        ))
        .start();
    let kept = Kept {
        folder,
        _upstream: upstream,
    };
    (gateway, kept)
}

fn keys(of: &[(&str, &str)]) -> String {
    let lines = of
        .iter()
        .map(|(name, key)| entry(name, key.as_bytes()).unwrap() + "\n");
    lines.collect()
}

fn shown(request: &Request) -> String {
    let fields = request
        .fields
        .iter()
        .map(|(name, value)| format!("\n{name}: {value}"));
    format!("{}{}", request.line, fields.collect::<String>())
}

/// Asks for `target` with these field lines.
fn ask(gateway: &Gateway, target: &str, lines: &str) -> Response {
    send(
        gateway.address,
        &format!("GET {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"),
    )
}

/// Asserts a refusal, and that none of it says what was sent.
#[track_caller]
fn refused(response: &Response, status: u16, reason: &str, challenge: &str) {
    assert_eq!(response.problem(status), reason);
    let challenges = response.values("www-authenticate");
    assert_eq!(
        challenges,
        if challenge.is_empty() {
            vec![]
        } else {
            vec![challenge]
        }
    );
}

const CHALLENGE: &str = "ApiKey realm=\"keys\"";

on_both_drivers! {
    fn a_key_in_a_header_lets_its_consumer_in(driver) {
        let (gateway, _kept) = gateway(driver, "", "", "");
        let response = ask(&gateway, "/a", &format!("X-API-Key: {KEY}\r\nAccept: x\r\n"));
        assert_eq!(response.status, 200);
        let seen = response.text();
        assert!(seen.contains("\nX-Consumer: mobile\nX-Consumer-Groups: apps, beta\nX-Consumer-Plan: gold"), "{seen}");
        assert!(!seen.contains(KEY) && seen.contains("\nAccept: x"), "{seen}");
        // One without a section of its own.
        let response = ask(&gateway, "/b", &format!("x-api-key: {OTHER}\r\n"));
        assert!(response.text().ends_with("\nX-Consumer: batch"), "{}", response.text());
        assert_eq!(gateway.record_of("/a")["ringgate.consumer"], "mobile");
        assert_eq!(gateway.record_of("/b")["ringgate.consumer"], "batch");
    }

    fn who_shows_no_key_or_a_wrong_one_gets_401(driver) {
        let (gateway, _kept) = gateway(driver, "", "", "");
        refused(&ask(&gateway, "/none", ""), 401, "credentials_missing", CHALLENGE);
        let wrong = |value: &str| ask(&gateway, "/wrong", &format!("x-api-key: {value}\r\n"));
        let hash = entry("mobile", KEY.as_bytes()).unwrap();
        let digest = hash.rsplit(':').next().unwrap();
        // Cut, extended, in other case, the hash itself, the line of the file, nothing, quoted, two in one.
        for value in [
            NEAR, KEY.trim_end_matches('9'), &format!("{KEY}0"), &KEY.to_uppercase(), digest, &hash, "",
            &format!("\"{KEY}\""), &format!("{KEY}, {KEY}"), &format!("Bearer {KEY}"), "%6dobile-key-0123456789",
        ] {
            refused(&wrong(value), 401, "api_key_unknown", CHALLENGE);
        }
        let twice = format!("x-api-key: {KEY}\r\nx-api-key: {KEY}\r\n");
        refused(&ask(&gateway, "/twice", &twice), 401, "credentials_several", CHALLENGE);
        // In another place than the one that was named.
        refused(&ask(&gateway, &format!("/query?x-api-key={KEY}"), ""), 401, "credentials_missing", CHALLENGE);
        let record = gateway.record_of("/wrong");
        assert_eq!(record["ringgate.end"], "unauthorized");
        assert_eq!(record["error.type"], "api_key_unknown");
        assert!(record.get("ringgate.consumer").is_none());
        let rejected = |reason| gateway.metric("ringgate_rejected_requests_total", &[("reason", reason)]);
        assert_eq!((rejected("api_key_unknown"), rejected("credentials_missing")), (11.0, 2.0));
    }

    fn variables_know_the_consumer_and_never_a_withheld_key(driver) {
        let route = "[routes.request_headers]\nset = { x-who = \"${consumer.name}/${consumer.plan}\", x-query = \"${query}\" }";
        let (gateway, _kept) = gateway(driver, "query = \"key\"", route, "");
        let answer = ask(&gateway, &format!("/a?x=1&key={KEY}&y=2"), "");
        assert!(answer.text().contains("\nx-who: mobile/gold"), "{}", answer.text());
        assert!(answer.text().contains("\nx-query: x=1&y=2"), "{}", answer.text());
        assert!(!answer.text().contains(KEY), "{}", answer.text());
    }

    fn a_key_in_the_query_reaches_neither_upstream_nor_log(driver) {
        let (gateway, _kept) = gateway(driver, "query = \"key\"", "", "");
        let response = ask(&gateway, &format!("/a?x=1&k%65y={KEY}&y=2"), "");
        assert!(response.text().starts_with("GET /a?x=1&y=2 HTTP/1.1\n"), "{}", response.text());
        assert_eq!(gateway.record_of("/a")["url.query"], "x=1&y=2");
        let response = ask(&gateway, &format!("/alone?key={}", KEY.replace('-', "%2D")), "");
        assert!(response.text().starts_with("GET /alone HTTP/1.1\n"), "{}", response.text());
        // A wrong one is nearly a right one.
        assert_eq!(ask(&gateway, &format!("/near?key={}", NEAR), "").status, 401);
        assert_eq!(ask(&gateway, &format!("/two?key={KEY}&key={KEY}"), "").problem(401), "credentials_several");
        gateway.record_of("/two");
        let records = format!("{:?}", gateway.records());
        assert!(!records.contains(NEAR), "{records}");
    }

    fn a_key_in_a_cookie_is_taken_out_of_the_cookies(driver) {
        let (gateway, _kept) = gateway(driver, "cookie = \"key\"", "", "");
        let response = ask(&gateway, "/", &format!("Cookie: a=1; key={KEY}\r\nCookie: b=2\r\n"));
        assert!(response.text().contains("\nCookie: a=1; b=2") && !response.text().contains(KEY), "{}", response.text());
        let response = ask(&gateway, "/", &format!("Cookie: key={KEY}\r\n"));
        assert!(response.status == 200 && !response.text().contains("ookie"), "{}", response.text());
    }

    fn a_bearer_token_can_be_a_key(driver) {
        let (gateway, _kept) = gateway(driver, "header = \"Authorization\"", "", "");
        assert_eq!(ask(&gateway, "/", &format!("Authorization: Bearer {KEY}\r\n")).status, 200);
        assert_eq!(ask(&gateway, "/", &format!("authorization: bearer  {KEY}\r\n")).status, 200);
        let bare = "Bearer realm=\"keys\"";
        // Another scheme is no credential of ours.
        for other in [KEY.to_owned(), format!("Basic {KEY}"), format!("Bearer{KEY}")] {
            let response = ask(&gateway, "/", &format!("Authorization: {other}\r\n"));
            refused(&response, 401, "credentials_missing", bare);
        }
        let response = ask(&gateway, "/", "Authorization: Bearer wrong\r\n");
        refused(&response, 401, "api_key_unknown", "Bearer realm=\"keys\", error=\"invalid_token\"");
    }

    fn credentials_go_on_where_that_was_asked_for(driver) {
        let (gateway, _kept) = gateway(driver, "forward_credentials = true", "", "");
        let response = ask(&gateway, "/", &format!("X-Api-Key: {KEY}\r\n"));
        assert!(response.text().contains(&format!("\nX-Api-Key: {KEY}")), "{}", response.text());
    }

    fn nobody_says_for_himself_who_he_is(driver) {
        let (gateway, _kept) = {
            let listener = |launch: Launch| launch.listener("underscore_headers = \"allow\"");
            with_listener(driver, listener)
        };
        let spoofed = "X-Consumer: admin\r\nx-consumer-groups: root\r\nX-CONSUMER-PLAN: max\r\nX_Consumer: admin\r\n\
                       x_consumer-groups: root\r\nX-Consumers: kept\r\n";
        for target in ["/open", "/"] {
            let response = ask(&gateway, target, &format!("{spoofed}x-api-key: {OTHER}\r\n"));
            assert_eq!(response.status, 200);
            let seen = response.text().to_owned();
            assert!(!seen.contains("admin") && !seen.contains("root") && !seen.contains("max"), "{seen}");
            assert!(seen.contains("X-Consumers: kept"), "{seen}");
        }
    }

    fn a_route_may_ask_for_a_group(driver) {
        let (gateway, _kept) = gateway(driver, "", "groups = [\"beta\", \"admin\"]", "");
        assert_eq!(ask(&gateway, "/", &format!("x-api-key: {KEY}\r\n")).status, 200);
        let response = ask(&gateway, "/batch", &format!("x-api-key: {OTHER}\r\n"));
        refused(&response, 403, "group_missing", "");
        assert_eq!(gateway.record_of("/batch")["ringgate.end"], "forbidden");
        refused(&ask(&gateway, "/", ""), 401, "credentials_missing", CHALLENGE);
    }

    fn an_optional_key_must_be_right_where_it_is_shown(driver) {
        let (gateway, _kept) = gateway(driver, "", "auth_optional = true", "");
        let nobody = ask(&gateway, "/", "X-Consumer: admin\r\n");
        assert!(nobody.status == 200 && !nobody.text().contains("X-Consumer"), "{}", nobody.text());
        assert!(ask(&gateway, "/", &format!("x-api-key: {KEY}\r\n")).text().contains("X-Consumer: mobile"));
        refused(&ask(&gateway, "/", "x-api-key: wrong\r\n"), 401, "api_key_unknown", CHALLENGE);
    }

    fn a_limit_counts_by_consumer_and_gives_a_plan_its_own_quota(driver) {
        let limit = "[limits.each]\nkey = \"consumer\"\nrate = \"1/h\"\nburst = 1\n\
                     overrides = [{ plan = \"gold\", rate = \"1/h\", burst = 3 }]";
        let (gateway, _kept) = gateway(driver, "", "limits = [\"each\"]", limit);
        let statuses = |key: &str| -> Vec<u16> {
            (0..5).map(|_| ask(&gateway, "/", &format!("x-api-key: {key}\r\n")).status).collect()
        };
        assert_eq!(statuses(KEY), [200, 200, 200, 429, 429]);
        assert_eq!(statuses(OTHER), [200, 429, 429, 429, 429]);
        // Whom nobody knows is refused before he is counted.
        assert_eq!(statuses("wrong"), [401; 5]);
    }

    fn a_key_that_is_revoked_or_added_counts_without_a_restart(driver) {
        let (gateway, kept) = gateway(driver, "", "", "");
        let file = kept.folder.path().join("keys");
        let status = |key: &str| ask(&gateway, "/", &format!("x-api-key: {key}\r\n")).status;
        assert_eq!((status(KEY), status("a-third-key-01234")), (200, 401));
        let loads = |outcome| gateway.metric("ringgate_credential_loads_total", &[("outcome", outcome)]);
        // A mistake changes nothing.
        fs::write(&file, "mobile hunter2").unwrap();
        eventually("a failed load", || (loads("failed") == 1.0).then_some(()));
        assert_eq!(status(KEY), 200);
        let next = kept.folder.path().join("next");
        fs::write(&next, keys(&[("third", "a-third-key-01234")])).unwrap();
        fs::rename(&next, &file).unwrap();
        eventually("the new keys on both workers", || {
            let all = (0..8).all(|_| (status(KEY), status("a-third-key-01234")) == (401, 200));
            all.then_some(())
        });
        assert_eq!((loads("failed"), loads("ok")), (1.0, 1.0));
        let said = gateway.said().join("\n");
        assert!(said.contains("keys could not be read again") && !said.contains("hunter2"), "{said}");
    }

    fn a_request_with_a_body_is_refused_without_being_taken_for_the_next(driver) {
        let (gateway, _kept) = gateway(driver, "", "", "");
        let mut client = Client::connect(gateway.address);
        let hidden = format!("GET /hidden HTTP/1.1\r\nHost: test\r\nx-api-key: {KEY}\r\n\r\n");
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()));
        refused(&client.response(), 401, "credentials_missing", CHALLENGE);
        client.send(format!("GET /next HTTP/1.1\r\nHost: test\r\nx-api-key: {KEY}\r\n\r\n"));
        assert!(client.response().text().starts_with("GET /next "));
        assert!(gateway.records().iter().all(|record| record["url.path"] != "/hidden"));
    }

    fn what_was_taken_out_of_a_request_is_not_the_next_ones(driver) {
        let (gateway, _kept) = gateway(driver, "query = \"key\"", "", "");
        let mut client = Client::connect(gateway.address);
        // In one packet, each longer than the one before: a head is taken in one way if more than itself follows, in
        // another if not.
        let requests = [
            format!("GET /open/1?a=first&key={KEY} HTTP/1.1\r\nHost: test\r\n\r\n"),
            format!("GET /2?a=1&key={KEY} HTTP/1.1\r\nHost: test\r\nX-Pad: {}\r\n\r\n", "p".repeat(100)),
            format!("GET /open/3?b=2 HTTP/1.1\r\nHost: test\r\nX-Pad: {}\r\n\r\n", "p".repeat(300)),
            format!("GET /open/4 HTTP/1.1\r\nHost: test\r\nX-Pad: {}\r\n\r\n", "p".repeat(900)),
        ];
        client.send(requests.concat());
        let seen: Vec<String> = (0..4).map(|_| client.response().text().lines().next().unwrap().to_owned()).collect();
        let first = format!("GET /open/1?a=first&key={KEY} HTTP/1.1");
        assert_eq!(seen, [&first, "GET /2?a=1 HTTP/1.1", "GET /open/3?b=2 HTTP/1.1", "GET /open/4 HTTP/1.1"]);
        assert_eq!(gateway.record_of("/open/3")["url.query"], "b=2");
        assert!(gateway.record_of("/open/4")["url.query"].is_null());
    }

    fn another_spelling_of_a_path_does_not_lead_around_a_key(driver) {
        let (gateway, _kept) = gateway(driver, "", "", "");
        assert_eq!(ask(&gateway, "/open/x", "").status, 200);
        for target in ["/open/..%2fsecret", "/open/%2e%2e/secret", "/open/..;/secret", "/open/%252e%252e/secret", "//secret"] {
            let status = ask(&gateway, target, "").status;
            assert!(status == 400 || status == 401, "{target}: {status}");
        }
    }
}

/// As [`gateway`], with a listener of its own.
fn with_listener(driver: Driver, change: impl FnOnce(Launch) -> Launch) -> (Gateway, Kept) {
    let folder = Folder::new();
    let file = folder.path().join("keys");
    fs::write(&file, keys(&[("batch", OTHER)])).unwrap();
    let upstream = Upstream::answering(|request, _| ok(&shown(request)));
    let launch = change(Launch::new(driver)).rest(&format!(
        "[upstreams.up]\nendpoints = [{{ address = \"{}\" }}]\n[api_keys.keys]\nfile = \"{}\"\n\
         [[routes]]\nname = \"open\"\npath_prefix = \"/open\"\nupstream = \"up\"\n\
         [[routes]]\nname = \"all\"\nauth = [\"keys\"]\nupstream = \"up\"\n",
        upstream.address,
        file.display()
    ));
    let gateway = launch.start();
    let kept = Kept {
        folder,
        _upstream: upstream,
    };
    (gateway, kept)
}
