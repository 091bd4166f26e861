//! Every reason for which the gateway refuses or gives up: what brings it about, the status, the access log and the count.
//! The table has to name all of them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, to_upstream};

/// A request that is refused, under `path_policy = "standard"`, and with which status.
const REQUESTS: &[(&str, u16, &str)] = &[
    ("bare_cr", 400, "GET / HTTP/1.1\r\nHost: t\rX: y\r\n\r\n"),
    ("bare_lf", 400, "GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n"),
    ("nul", 400, "GET / HTTP/1.1\r\nHost: t\r\nX: a\0b\r\n\r\n"),
    (
        "control",
        400,
        "GET / HTTP/1.1\r\nHost: t\r\nX: a\x0bb\r\n\r\n",
    ),
    (
        "control",
        400,
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
    ),
    ("nul", 400, "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
    (
        "leading_empty_lines",
        400,
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "request_line",
        400,
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n",
    ),
    ("request_line", 400, "GET /\r\n"),
    ("request_line", 400, "GET  / HTTP/1.1\r\n"),
    ("request_line", 400, "SSH-2.0-OpenSSH_9.6\r\n"),
    ("method", 400, "G@T / HTTP/1.1\r\n"),
    (
        "connect_refused",
        405,
        "CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n",
    ),
    ("trace_refused", 405, "TRACE / HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("version", 400, "GET / HTTP/1.10\r\n"),
    ("version", 400, "GET / http/1.1\r\n"),
    ("version_unsupported", 505, "GET / HTTP/1.2\r\n"),
    (
        "version_unsupported",
        505,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
    ("target", 400, "GET t HTTP/1.1\r\nHost: t\r\n\r\n"),
    (
        "target_fragment",
        400,
        "GET /a#b HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    ("target_asterisk", 400, "GET * HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("scheme", 400, "GET ftp://t/ HTTP/1.1\r\nHost: t\r\n\r\n"),
    (
        "scheme_mismatch",
        421,
        "GET https://t/ HTTP/1.1\r\nHost: t:443\r\n\r\n",
    ),
    (
        "target_authority",
        400,
        "GET http://u@t/ HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    ("host_missing", 400, "GET / HTTP/1.1\r\n\r\n"),
    (
        "host_repeated",
        400,
        "GET / HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n",
    ),
    ("host", 400, "GET / HTTP/1.1\r\nHost: t:70000\r\n\r\n"),
    (
        "host_mismatch",
        400,
        "GET http://t/ HTTP/1.1\r\nHost: u\r\n\r\n",
    ),
    ("field_name", 400, "GET / HTTP/1.1\r\nHost: t\r\nX(: y\r\n"),
    (
        "field_name_empty",
        400,
        "GET / HTTP/1.1\r\nHost: t\r\n: y\r\n",
    ),
    (
        "field_name_blank",
        400,
        "GET / HTTP/1.1\r\nHost: t\r\nX : y\r\n",
    ),
    ("field_colon", 400, "GET / HTTP/1.1\r\nHost: t\r\nX\r\n"),
    (
        "field_fold",
        400,
        "GET / HTTP/1.1\r\nHost: t\r\nX: y\r\n z\r\n",
    ),
    (
        "content_length",
        400,
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: +1\r\n\r\n",
    ),
    (
        "content_length_repeated",
        400,
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    ),
    (
        "length_and_encoding",
        400,
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "transfer_encoding",
        400,
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ),
    (
        "transfer_encoding_repeated",
        400,
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "transfer_coding_unknown",
        501,
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ),
    (
        "transfer_encoding_in_http_1_0",
        400,
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "connection",
        400,
        "GET / HTTP/1.1\r\nHost: t\r\nConnection: a b\r\n\r\n",
    ),
    (
        "connection_names_protected",
        400,
        "GET / HTTP/1.1\r\nHost: t\r\nConnection: Authorization\r\n\r\n",
    ),
    (
        "expectation",
        417,
        "GET / HTTP/1.1\r\nHost: t\r\nExpect: more\r\n\r\n",
    ),
    (
        "max_forwards",
        400,
        "OPTIONS / HTTP/1.1\r\nHost: t\r\nMax-Forwards: x\r\n\r\n",
    ),
    ("path_octet", 400, "GET /\u{e9} HTTP/1.1\r\nHost: t\r\n\r\n"),
    (
        "path_backslash",
        400,
        "GET /a\\b HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    ("path_escape", 400, "GET /%zz HTTP/1.1\r\nHost: t\r\n\r\n"),
    (
        "path_encoded_nul",
        400,
        "GET /%00 HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "path_above_root",
        400,
        "GET /a/../../b HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "path_hidden_dot_segment",
        400,
        "GET /a/%252e%252e/b HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "path_empty_before_dot_dot",
        400,
        "GET /a//../b HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "path_ambiguous",
        400,
        "GET /own%2Fx HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    ("no_route", 404, "GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n"),
    (
        "limited",
        429,
        "GET /limited HTTP/1.1\r\nHost: t\r\n\r\nGET /limited HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "body_too_large",
        413,
        "POST /small HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\n",
    ),
    (
        "body_too_large",
        413,
        "POST /small HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n",
    ),
    (
        "body_too_large",
        413,
        "POST /small HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n",
    ),
];

/// A chunked body that is refused after its head went on to an upstream that says nothing yet.
const BODIES: &[(&str, u16, &str)] = &[
    ("chunk_size", 400, "x\r\n"),
    ("chunk_size", 400, "-1\r\n"),
    ("chunk_size_end", 400, "0x1\r\n"),
    ("chunk_size_end", 400, "1 \r\na\r\n0\r\n\r\n"),
    ("chunk_size_end", 400, "1_0\r\n"),
    ("chunk_size_end", 400, "1\na\r\n"),
    ("chunk_size_too_large", 400, "8000000000000000\r\n"),
    ("chunk_size_too_large", 400, "00000000000000001\r\n"),
    ("chunk_extension", 400, "1;\r\n"),
    ("chunk_extension", 400, "1;a\nb\r\n"),
    ("chunk_extension", 400, "1;a=\"\r\n"),
    ("chunk_data_end", 400, "1\r\nab\r\n"),
    ("chunk_data_end", 400, "1\r\na\n"),
    ("trailer", 400, "0\r\nX : y\r\n\r\n"),
    ("trailer", 400, "0\r\nX: y\n"),
];

/// What an upstream sends to `/REASON`, for which the client gets 502.
const RESPONSES: &[(&str, &str)] = &[
    ("response_status_line", "HTTP/1.1 2x0 OK\r\n\r\n"),
    ("response_version", "HTTP/2.0 200 OK\r\n\r\n"),
    ("response_status", "HTTP/1.1 600 OK\r\n\r\n"),
    ("response_field", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n"),
    (
        "response_content_length",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
    ),
    (
        "response_content_length_repeated",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "response_length_and_encoding",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "response_transfer_encoding",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ),
    (
        "response_transfer_encoding_in_http_1_0",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "response_connection",
        "HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n",
    ),
    (
        "response_unexpected_upgrade",
        "HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n",
    ),
    (
        "response_content_in_reset",
        "HTTP/1.1 205 R\r\nContent-Length: 1\r\n\r\na",
    ),
    ("closed_before_response", ""),
    ("response_truncated", "HTTP/1.1 200 OK\r\nContent"),
    ("bare_lf", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("nul", "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n"),
];

/// Reasons that other tests bring about, since they take time or more than one connection: reason, file, test.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "host_unlisted",
        include_str!("bans.rs"),
        "a_host_that_the_listener_does_not_serve_gets_421",
    ),
    (
        "path_rewrite",
        include_str!("rewriting.rs"),
        "a_path_by_regular_expression_cannot_be_made_a_dot_segment",
    ),
    (
        "route_head_too_large",
        include_str!("rewriting.rs"),
        "a_head_longer_than_the_route_takes_is_refused",
    ),
    (
        "proxy_protocol",
        include_str!("client_address.rs"),
        "a_connection_without_its_proxy_header_is_closed",
    ),
    (
        "method_not_allowed",
        include_str!("routing.rs"),
        "a_method_that_no_route_takes_gets_405_and_those_that_would_be_taken",
    ),
    (
        "header_timeout",
        include_str!("robustness.rs"),
        "a_head_that_takes_too_long_gets_408",
    ),
    (
        "body_timeout",
        include_str!("robustness.rs"),
        "a_body_that_stops_gets_408_and_its_upstream_is_let_go",
    ),
    (
        "write_timeout",
        include_str!("robustness.rs"),
        "a_reader_that_does_not_read_is_cut_off",
    ),
    (
        "client_gone",
        include_str!("robustness.rs"),
        "a_client_that_leaves_takes_its_upstream_request_with_it",
    ),
    (
        "upstream_idle_timeout",
        include_str!("robustness.rs"),
        "a_response_that_pauses_too_long_is_cut",
    ),
    (
        "max_connections",
        include_str!("robustness.rs"),
        "connections_beyond_the_cap_are_closed_and_the_others_served",
    ),
    (
        "max_connections_per_client",
        include_str!("limits.rs"),
        "a_client_has_no_more_connections_than_it_may_and_gets_its_places_back",
    ),
    (
        "connect_refused",
        include_str!("request_path.rs"),
        "an_upstream_that_refuses_is_a_502_with_its_reason_in_the_log",
    ),
    (
        "upstream_full",
        include_str!("request_path.rs"),
        "an_upstream_with_all_connections_taken_is_a_503",
    ),
    (
        "pending_timeout",
        include_str!("pending.rs"),
        "who_waits_too_long_is_refused",
    ),
    (
        "no_healthy_endpoint",
        include_str!("health.rs"),
        "with_too_few_healthy_all_get_requests_unless_that_is_turned_off",
    ),
    (
        "first_byte_timeout",
        include_str!("request_path.rs"),
        "an_upstream_that_thinks_too_long_is_a_504",
    ),
    (
        "route_timeout",
        include_str!("request_path.rs"),
        "a_route_has_a_time_for_the_whole_exchange",
    ),
    (
        "stopped",
        include_str!("drain.rs"),
        "the_deadline_cuts_what_does_not_end",
    ),
    (
        "no_descriptors",
        include_str!("bounds.rs"),
        "without_descriptors_an_upstream_is_out_of_reach",
    ),
    (
        "connect_timeout",
        include_str!("bounds.rs"),
        "a_connect_that_nobody_answers_is_504",
    ),
    (
        "no_address",
        include_str!("bounds.rs"),
        "a_name_without_an_address_is_502",
    ),
];

/// Rules that an earlier step keeps on the data path; the codec's own tests break them.
const NEVER: [&str; 5] = [
    // The scanner hands over whole heads only, counts fields first, and lets no control through.
    "head_incomplete",
    "response_head_incomplete",
    "response_too_many_fields",
    "field_value",
    // A target that begins otherwise has no path.
    "path_relative",
];

fn long_requests() -> Vec<(&'static str, u16, String)> {
    let get = "GET / HTTP/1.1\r\nHost: t\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut rows = vec![
        (
            "start_line_too_long",
            414,
            format!("GET /{}", "a".repeat(9000)),
        ),
        (
            "head_too_large",
            431,
            format!("{get}X: {}", "a".repeat(66_000)),
        ),
        (
            "too_many_fields",
            431,
            format!("{get}{}", "X: y\r\n".repeat(128)),
        ),
        (
            "chunk_extension_too_long",
            400,
            format!("{chunked}1;{}", "a".repeat(300)),
        ),
        (
            "trailers_too_large",
            431,
            format!("{chunked}0\r\nX: {}\r\n\r\n", "a".repeat(5000)),
        ),
        (
            "chunk_overhead",
            400,
            format!("{chunked}{}", "0000000000000001\r\nx\r\n".repeat(2000)),
        ),
    ];
    rows.extend(
        BODIES
            .iter()
            .map(|&(reason, status, body)| (reason, status, format!("{chunked}{body}"))),
    );
    rows.extend(
        REQUESTS
            .iter()
            .map(|&(reason, status, text)| (reason, status, text.to_owned())),
    );
    rows
}

fn long_responses() -> Vec<(&'static str, String)> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut rows = vec![
        (
            "response_interim_too_large",
            format!(
                "HTTP/1.1 103 Early\r\nX: {}\r\n\r\n{ok}",
                "a".repeat(17_000)
            ),
        ),
        (
            "too_many_interim_responses",
            "HTTP/1.1 102 P\r\n\r\n".repeat(9) + ok,
        ),
        (
            "start_line_too_long",
            format!("HTTP/1.1 200 {}\r\n\r\n", "a".repeat(9000)),
        ),
        (
            "head_too_large",
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(66_000)),
        ),
        (
            "too_many_fields",
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(129)),
        ),
    ];
    rows.extend(
        RESPONSES
            .iter()
            .map(|&(reason, text)| (reason, text.to_owned())),
    );
    rows
}

/// An upstream that answers `/response/NUMBER` with that row, and nothing else at all.
fn upstream() -> Upstream {
    Upstream::start(|mut exchange| {
        let Some(head) = exchange.head() else { return };
        let Some(number) = head.target().strip_prefix("/response/") else {
            return exchange.wait_closed();
        };
        exchange.send(&long_responses()[number.parse::<usize>().unwrap()].1);
        exchange.close();
    })
}

fn start(driver: Driver, upstream: &Upstream, listener: &str) -> Gateway {
    Launch::new(driver)
        .one_worker()
        .listener(listener)
        .rest("[limits.one]\nkey = \"client_ip\"\nrate = \"1/h\"\nburst = 1\n")
        .rest(&to_upstream(&[upstream.address], "keepalive_max = 0").replace("path_prefix", "host = \"t\"\npath_prefix"))
        .rest("[[routes]]\nname = \"own\"\nhost = \"t\"\npath_prefix = \"/own\"\nrespond = { status = 403 }\n")
        .rest("[[routes]]\nname = \"limited\"\nhost = \"t\"\npath = \"/limited\"\nlimits = [\"one\"]\nrespond = { status = 204 }\n")
        .rest("[[routes]]\nname = \"small\"\nhost = \"t\"\npath = \"/small\"\nupstream = \"up\"\nmax_body = \"10B\"\n")
        .start()
}

/// The status of the last answer, and the reason that it gives; `None`: the connection was cut.
fn ask(gateway: &Gateway, request: &str) -> Option<(u16, String)> {
    let mut client = Client::connect(gateway.address);
    client.send_what_goes(request);
    loop {
        let answer = client.try_response(true)?;
        if answer.status >= 400 {
            let json = answer.json();
            return Some((answer.status, json["detail"].as_str()?.to_owned()));
        }
    }
}

/// The access log and the count have `reason`.
fn is_noted(gateway: &Gateway, reason: &str, times: f64) {
    eventually(&format!("{reason} in the metrics"), || {
        let count = gateway.metric("ringgate_rejected_requests_total", &[("reason", reason)]);
        (count >= times).then_some(())
    });
    eventually(&format!("{reason} in the access log"), || {
        let has = |record: &Value| record["error.type"] == reason;
        gateway.records().iter().any(has).then_some(())
    });
}

on_both_drivers! {
    fn every_reason_is_answered_logged_and_counted(driver) {
        let upstream = upstream();
        let gateway = start(driver, &upstream, "");
        for (reason, status, request) in long_requests() {
            let shown: String = request.chars().take(120).collect();
            assert_eq!(ask(&gateway, &request), Some((status, reason.to_owned())), "{shown:?}");
            is_noted(&gateway, reason, 1.0);
        }
        for (number, (reason, _)) in long_responses().iter().enumerate() {
            let request = format!("GET /response/{number} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
            assert_eq!(ask(&gateway, &request), Some((502, (*reason).to_owned())));
            is_noted(&gateway, reason, 1.0);
        }
    }

    fn stricter_rules_are_answered_logged_and_counted(driver) {
        let upstream = upstream();
        let gateway = start(driver, &upstream, "path_policy = \"strict\"\nunderscore_headers = \"reject\"");
        for (reason, request) in STRICTER {
            assert_eq!(ask(&gateway, request), Some((400, (*reason).to_owned())), "{request:?}");
            is_noted(&gateway, reason, 1.0);
        }
    }
}

/// Requests that only a stricter listener refuses.
pub(crate) const STRICTER: &[(&str, &str)] = &[
    (
        "path_encoded_slash",
        "GET /a%2Fb HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "path_double_encoding",
        "GET /a%2541b HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "path_encoded_control",
        "GET /a%0Ab HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    (
        "path_empty_segment",
        "GET /a//b HTTP/1.1\r\nHost: t\r\n\r\n",
    ),
    ("path_ambiguous", "GET /small;x HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("query_octet", "GET /?\u{e9} HTTP/1.1\r\nHost: t\r\n\r\n"),
    (
        "field_underscore",
        "GET / HTTP/1.1\r\nHost: t\r\nX_Y: z\r\n\r\n",
    ),
];

#[test]
fn every_reason_has_a_test() {
    let mut tested: BTreeSet<&str> = NEVER.into();
    tested.extend(long_requests().iter().map(|row| row.0));
    tested.extend(long_responses().iter().map(|row| row.0));
    tested.extend(STRICTER.iter().map(|row| row.0));
    for (reason, file, test) in ELSEWHERE {
        assert!(
            file.contains(&format!("fn {test}(")),
            "{test} is not there for {reason}"
        );
        tested.insert(reason);
    }
    let all: BTreeSet<&str> = gateway::data::reasons().collect();
    assert_eq!(tested, all);
}
