//! The codec against RFC 9110 (HTTP semantics), by section. Each test says the clause in its own words.

#![expect(clippy::expect_used, reason = "helpers of tests")]

mod codec_support;

use codec_support::{FORWARD, RULES, accept, accept_under, forward, forward_as, refusal};
use gateway::config::{ResponseFaults, UnderscoreHeaders};
use gateway::data::codec::{
    BodyFraming, Edits, Fields, ForwardRequest, ForwardResponse, Method, RequestContext,
    RequestError, RequestRules, ResponseHead, Scheme, Version, is_idempotent, parse_response,
    write_response_head,
};

const GET: RequestContext<'static> = RequestContext {
    method: Method::Get,
    upgrade: None,
    fields_max: 128,
    tolerate: ResponseFaults::NONE,
};

fn answer(head: &str, context: &RequestContext<'_>) -> Result<ResponseHead, &'static str> {
    parse_response(head.as_bytes(), context, &mut Fields::new()).map_err(|error| error.name())
}

/// What the client gets of a response head.
fn relay(head: &str, context: &RequestContext<'_>, decide: &ForwardResponse<'_>) -> String {
    let mut fields = Fields::new();
    let response = parse_response(head.as_bytes(), context, &mut fields).expect("a valid response");
    let decide = ForwardResponse {
        body: response.framing,
        ..*decide
    };
    let mut out = Vec::new();
    write_response_head(&mut out, head.as_bytes(), &response, &fields, &decide);
    assert!(
        out.len() <= decide.size_max(head.len(), fields.len()),
        "more than its bound"
    );
    String::from_utf8(out).expect("an ASCII head")
}

const KEEP: ForwardResponse<'static> = ForwardResponse {
    body: BodyFraming::None,
    client_version: Version::Http11,
    keep_alive: true,
    trailers: false,
    date: None,
    via: None,
    edits: Edits::NONE,
};

mod s2_5_protocol_version {
    use super::*;

    /// A message is understood as the version it names; one that is not understood is answered 505.
    #[test]
    fn versions_other_than_1_0_and_1_1_are_unsupported() {
        for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0"] {
            let name = refusal(format!("GET / {version}\r\nHost: a.test\r\n\r\n"));
            assert_eq!(name, "version_unsupported", "{version}");
        }
        assert_eq!(RequestError::VersionUnsupported.status().as_u16(), 505);
    }
}

mod s4_2_4_userinfo {
    use super::*;

    /// A recipient should treat a user in an http URI as an error: it hides the true host.
    #[test]
    fn a_user_in_the_authority_is_refused() {
        let target = "GET http://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(refusal(target), "target_authority");
        assert_eq!(refusal("GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n"), "host");
    }
}

mod s5_1_field_names {
    use super::*;

    /// A field name is a token.
    #[test]
    fn every_token_octet_is_accepted_and_every_other_refused() {
        for byte in 0x21..=0xff_u8 {
            let mut head = b"GET / HTTP/1.1\r\nHost: a.test\r\nX".to_vec();
            head.push(byte);
            head.extend_from_slice(b"Y: 1\r\n\r\n");
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            // `X:Y: 1` is a field called X.
            let good = token || byte == b':';
            assert_eq!(accept(&head).is_ok(), good, "{byte:#x}");
        }
    }
}

mod s5_5_field_values {
    use super::*;

    /// CR, LF and NUL in a value must be refused or replaced; the other controls are invalid too. None is repaired.
    #[test]
    fn controls_are_refused_and_obs_text_passes() {
        for byte in 0..=255_u8 {
            let mut head = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a".to_vec();
            head.push(byte);
            head.extend_from_slice(b"b\r\n\r\n");
            let good = byte == b'\t' || (b' '..=b'~').contains(&byte) || byte >= 0x80;
            assert_eq!(accept(&head).is_ok(), good, "{byte:#x}");
        }
        for (bytes, name) in [
            ("a\0b", "nul"),
            ("a\rb", "bare_cr"),
            ("a\nb", "bare_lf"),
            ("a\x01b", "control"),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {bytes}\r\n\r\n");
            assert_eq!(refusal(head), name, "{bytes:?}");
        }
    }

    /// White space around a value is not part of it.
    #[test]
    fn blanks_around_a_value_are_dropped() {
        let sent =
            forward("GET / HTTP/1.1\r\nHost: a.test\r\nX: \t a \t b\t \r\nY:\r\nZ:z\r\n\r\n");
        assert_eq!(
            sent.as_deref(),
            Ok("GET / HTTP/1.1\r\nHost: a.test\r\nX: a \t b\r\nY:\r\nZ: z\r\n\r\n")
        );
    }
}

mod s5_3_field_order {
    use super::*;

    /// A proxy must not change the order of fields with the same name; here no order or case changes at all.
    #[test]
    fn order_case_and_duplicates_are_kept() {
        let fields = "Cookie: a=1\r\nx-b: 2\r\nAccept: */*\r\nX-B: 1\r\nCookie: b=2\r\n";
        let sent = forward(format!("GET / HTTP/1.1\r\n{fields}Host: a.test\r\n\r\n"));
        assert_eq!(
            sent,
            Ok(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
        );
    }
}

mod s6_6_1_date {
    use super::*;

    const DATED: ForwardResponse<'static> = ForwardResponse {
        date: Some(b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ..KEEP
    };

    /// Who has a clock and passes on a response without Date adds when it was received.
    #[test]
    fn a_response_without_date_gets_one() {
        for status in ["200 OK", "304 Not Modified", "404 Not Found", "503 Busy"] {
            let got = relay(
                &format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nX: y\r\n\r\n"),
                &GET,
                &DATED,
            );
            let dated = "X: y\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
            assert!(got.contains(dated), "{got}");
        }
    }

    /// The origin's own Date is when it made the response, and stays.
    #[test]
    fn a_response_with_date_keeps_its_own() {
        let head =
            "HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(relay(head, &GET, &DATED), head);
    }

    /// A Date that Connection names was for this hop.
    #[test]
    fn a_date_of_the_hop_is_replaced() {
        let head = "HTTP/1.1 200 OK\r\nDate: then\r\nConnection: date\r\nContent-Length: 0\r\n\r\n";
        let got =
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        assert_eq!(relay(head, &GET, &DATED), got);
    }

    /// Who configures that there be none, or another, is obeyed.
    #[test]
    fn a_date_that_a_route_takes_out_is_not_put_back() {
        let head = "HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 0\r\n\r\n";
        let decide = ForwardResponse {
            edits: Edits {
                lines: b"",
                removed: &[Box::from(&b"date"[..])],
            },
            ..DATED
        };
        let got = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(relay(head, &GET, &decide), got);
    }

    /// An interim response is not stored by anybody.
    #[test]
    fn an_interim_response_is_passed_on_as_it_is() {
        let head = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(relay(head, &GET, &DATED), head);
    }

    /// In a request it says nothing to a gateway.
    #[test]
    fn a_date_of_a_request_is_passed_on() {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\n\r\n";
        assert!(
            forward(head)
                .is_ok_and(|sent| sent.contains("Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"))
        );
    }
}

mod s7_2_host {
    use super::*;

    /// A proxy that receives an absolute form must ignore Host and send the target's authority; a Host that disagrees
    /// would be another site to whoever does not, so it is refused.
    #[test]
    fn the_authority_of_the_target_decides() {
        let same = accept("GET http://A.test:80/ HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("valid");
        let authority = same
            .request
            .authority
            .map(|span| span.of(&same.head).to_vec());
        assert_eq!(authority.as_deref(), Some(&b"A.test:80"[..]));
        let other = "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(refusal(other), "host_mismatch");
    }
}

mod s7_4_misdirected_requests {
    use super::*;

    /// A request for https over a connection without TLS is answered 421.
    #[test]
    fn the_scheme_must_be_the_connections() {
        let request = "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(refusal(request), "scheme_mismatch");
        let tls = RequestRules {
            scheme: Scheme::Https,
            ..RULES
        };
        assert!(accept_under(request, &tls).is_ok());
        assert_eq!(RequestError::SchemeMismatch.status().as_u16(), 421);
    }
}

mod s7_6_1_connection {
    use super::*;

    /// An intermediary removes Connection and each field that it names, and those known to be for one hop.
    #[test]
    fn hop_by_hop_fields_are_not_forwarded() {
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nKeep-Alive: 9\r\nX-Keep: 1\r\nX-Gone: 1\r\n\
            Connection: close, x-gone\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nTE: gzip\r\n\
            Trailer: X\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nx-gone: 2\r\n\r\n";
        let sent = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Keep: 1\r\n\r\n";
        assert_eq!(forward(request).as_deref(), Ok(sent));
        let response = "HTTP/1.1 200 OK\r\nConnection: X-Gone, keep-alive\r\nX-Gone: 1\r\nKeep-Alive: 5\r\n\
            Proxy-Authenticate: x\r\nContent-Length: 2\r\nX-Keep: 1\r\n\r\n";
        let got = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Keep: 1\r\n\r\n";
        assert_eq!(relay(response, &GET, &KEEP), got);
    }

    /// A field that all recipients need must not be named: a client could so strip what protects the next hop.
    #[test]
    fn naming_a_protected_field_is_refused_in_requests() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "X-Forwarded-For",
            "x-forwarded-anything",
            "Forwarded",
            "Authorization",
            "X-Real-IP",
            "Cookie",
            "X-Request-Id",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: x, {name}\r\n\r\n");
            assert_eq!(refusal(head), "connection_names_protected", "{name}");
        }
    }

    /// The same from an upstream is passed over: the field reaches the client.
    #[test]
    fn naming_a_protected_field_has_no_effect_in_responses() {
        let response = "HTTP/1.1 200 OK\r\nConnection: set-cookie, content-length\r\nSet-Cookie: a\r\n\
            Content-Length: 0\r\n\r\n";
        let got = "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(relay(response, &GET, &KEEP), got);
    }

    /// Connection is a list of tokens, of a reasonable length.
    #[test]
    fn a_connection_that_is_no_list_is_refused() {
        for value in ["a b", "\"x\"", "a;b", "(x)"] {
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: {value}\r\n\r\n");
            assert_eq!(refusal(head), "connection", "{value}");
        }
        let long = |count: usize| "x,".repeat(count);
        let head =
            |list: String| format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: {list}x\r\n\r\n");
        assert_eq!(refusal(head(long(63))), "accepted");
        assert_eq!(refusal(head(long(64))), "connection");
        assert_eq!(refusal(head(", ,".to_owned())), "accepted");
    }
}

mod s7_6_2_max_forwards {
    use super::*;

    /// A proxy decrements Max-Forwards of OPTIONS and does not forward 0; for other methods it has no meaning.
    #[test]
    fn max_forwards_of_options_is_decremented() {
        let options = "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 3\r\n\r\n";
        let sent = "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 2\r\n\r\n";
        assert_eq!(forward(options).as_deref(), Ok(sent));
        let get = "GET / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 3\r\n\r\n";
        assert_eq!(forward(get).as_deref(), Ok(get));
        let last = "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n";
        assert_eq!(
            accept(last)
                .map(|accepted| accepted.request.max_forwards)
                .ok(),
            Some(Some(0))
        );
        let bad = "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: -1\r\n\r\n";
        assert_eq!(refusal(bad), "max_forwards");
    }
}

mod s7_8_upgrade {
    use super::*;

    fn offered(head: &str) -> Option<Vec<u8>> {
        let accepted = accept(head).expect("valid");
        accepted
            .request
            .upgrade
            .map(|span| span.of(&accepted.head).to_vec())
    }

    /// Upgrade counts only where Connection names it, and not in HTTP/1.0.
    #[test]
    fn upgrade_needs_the_connection_option_and_1_1() {
        let head = |version: &str, connection: &str| {
            format!(
                "GET / {version}\r\nHost: a.test\r\nUpgrade: websocket\r\nX: {connection}\r\n\r\n"
            )
        };
        let named = |version: &str| head(version, "").replace("X:", "Connection: upgrade");
        assert_eq!(
            offered(&named("HTTP/1.1")).as_deref(),
            Some(&b"websocket"[..])
        );
        assert_eq!(offered(&named("HTTP/1.0")), None);
        assert_eq!(offered(&head("HTTP/1.1", "")), None);
    }

    /// What the route allows is asked for anew; nothing else of an offer reaches the upstream.
    #[test]
    fn only_the_chosen_protocol_is_forwarded() {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: h2c, websocket\r\n\
            Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n\r\n";
        let accepted = accept(head).expect("valid");
        let decide = ForwardRequest {
            upgrade: Some(b"websocket"),
            ..FORWARD
        };
        let sent = forward_as(&accepted, &decide).expect("a plain path");
        assert!(
            sent.contains("Connection: upgrade\r\nUpgrade: websocket\r\n"),
            "{sent}"
        );
        assert!(!sent.contains("h2c") && !sent.contains("HTTP2"), "{sent}");
        let sent = forward_as(&accepted, &FORWARD).expect("a plain path");
        assert!(!sent.to_lowercase().contains("upgrade"), "{sent}");
    }

    /// A server switches only to a protocol that was asked for.
    #[test]
    fn a_101_that_was_not_asked_for_is_refused() {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        let asked = RequestContext {
            upgrade: Some(b"websocket"),
            ..GET
        };
        let response = answer(head, &asked).expect("what was asked for");
        assert!(response.is_upgrade() && !response.is_interim() && !response.reusable);
        assert_eq!(relay(head, &asked, &KEEP), head);
        assert_eq!(
            answer(head, &GET).err(),
            Some("response_unexpected_upgrade")
        );
        let other = RequestContext {
            upgrade: Some(b"foo"),
            ..GET
        };
        assert_eq!(
            answer(head, &other).err(),
            Some("response_unexpected_upgrade")
        );
        let none = "HTTP/1.1 101 X\r\nConnection: upgrade\r\n\r\n";
        assert_eq!(
            answer(none, &asked).err(),
            Some("response_unexpected_upgrade")
        );
    }
}

mod s8_6_content_length {
    use super::*;

    /// A length that stands as it would be written stays in its place; any other is written anew, once.
    #[test]
    fn a_length_is_forwarded_once_in_its_plain_form() {
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 42\r\nX: y\r\n\r\n";
        assert_eq!(relay(plain, &GET, &KEEP), plain);
        let last = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 42\r\n\r\n";
        assert_eq!(relay(&plain.replace("42", "042"), &GET, &KEEP), last);
        let request = |length| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{length}X: y\r\n\r\n");
        let plain = request("content-length: 0\r\n");
        assert_eq!(forward(&plain), Ok(plain));
        let sent = forward(request("Content-Length: 007\r\n"));
        assert!(sent.is_ok_and(|sent| sent.ends_with("X: y\r\nContent-Length: 7\r\n\r\n")));
    }

    /// 1xx and 204 have no Content-Length; HEAD and 304 have that of the answer to GET, without a body.
    #[test]
    fn a_length_without_a_body_is_kept_only_where_it_has_a_meaning() {
        let head = RequestContext {
            method: Method::Head,
            ..GET
        };
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 00042\r\n\r\n";
        assert_eq!(
            answer(ok, &head).map(|r| (r.framing, r.reusable)),
            Ok((BodyFraming::None, true))
        );
        assert_eq!(
            relay(ok, &head, &KEEP),
            "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"
        );
        let unchanged = "HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n";
        assert_eq!(
            answer(unchanged, &GET).map(|r| r.framing),
            Ok(BodyFraming::None)
        );
        assert_eq!(relay(unchanged, &GET, &KEEP), unchanged);
        for status in ["204 No Content", "103 Early Hints"] {
            let odd = format!("HTTP/1.1 {status}\r\nContent-Length: 42\r\n\r\n");
            assert_eq!(
                answer(&odd, &GET).map(|r| (r.framing, r.reusable)),
                Ok((BodyFraming::None, false))
            );
            assert_eq!(
                relay(&odd, &GET, &KEEP),
                format!("HTTP/1.1 {status}\r\n\r\n")
            );
        }
    }
}

mod s9_methods {
    use super::*;

    /// Case counts; a method that is not known is forwarded, for the upstream to judge.
    #[test]
    fn methods_are_tokens_with_case() {
        let method = |name: &str| {
            accept(format!("{name} / HTTP/1.1\r\nHost: a.test\r\n\r\n")).map(|a| a.request.method)
        };
        assert_eq!(method("GET"), Ok(Method::Get));
        assert_eq!(method("get"), Ok(Method::Other));
        assert_eq!(method("PROPFIND"), Ok(Method::Other));
        assert_eq!(method("G(T"), Err("method"));
    }

    /// CONNECT would make a tunnel, TRACE would show what the gateway adds: neither is allowed.
    #[test]
    fn connect_and_trace_are_refused() {
        assert_eq!(
            refusal("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            "connect_refused"
        );
        assert_eq!(
            refusal("TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            "trace_refused"
        );
        assert_eq!(RequestError::ConnectRefused.status().as_u16(), 405);
    }

    /// Idempotent: PUT, DELETE and the safe methods.
    #[test]
    fn only_idempotent_methods_may_be_repeated() {
        use Method::{Delete, Get, Head, Options, Other, Patch, Post, Put};
        assert!(
            [Get, Head, Put, Delete, Options]
                .into_iter()
                .all(is_idempotent)
        );
        assert!(![Post, Patch, Other].into_iter().any(is_idempotent));
    }
}

mod s10_1_1_expect {
    use super::*;

    /// 100-continue is the one expectation; it needs a body and HTTP/1.1. Another is answered 417.
    #[test]
    fn expectations_are_100_continue_or_417() {
        let head = |version: &str, expect: &str, length: &str| {
            format!(
                "POST / {version}\r\nHost: a.test\r\nExpect: {expect}\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        let waits = |head: String| accept(head).map(|accepted| accepted.request.expect_continue);
        assert_eq!(waits(head("HTTP/1.1", "100-Continue", "5")), Ok(true));
        assert_eq!(waits(head("HTTP/1.1", "100-continue", "0")), Ok(false));
        assert_eq!(waits(head("HTTP/1.0", "100-continue", "5")), Ok(false));
        assert_eq!(waits(head("HTTP/1.1", "200-ok", "5")), Err("expectation"));
        assert_eq!(
            waits(head("HTTP/1.1", "x 100-continue", "5")),
            Err("expectation")
        );
        assert_eq!(RequestError::Expectation.status().as_u16(), 417);
        let sent = forward(head("HTTP/1.1", "100-continue", "5")).expect("valid");
        assert!(
            sent.contains("Content-Length: 5\r\nExpect: 100-continue\r\n"),
            "{sent}"
        );
    }
}

mod s10_1_4_te {
    use super::*;

    /// TE is for one hop: `trailers` is said anew where the gateway takes trailers, and named in Connection.
    #[test]
    fn te_trailers_is_said_anew_or_not_at_all() {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n";
        let accepted = accept(head).expect("valid");
        let sent = forward_as(
            &accepted,
            &ForwardRequest {
                te_trailers: true,
                ..FORWARD
            },
        );
        assert!(sent.is_ok_and(|sent| sent.contains("Connection: TE\r\nTE: trailers\r\n")));
        let sent = forward_as(&accepted, &FORWARD);
        assert!(sent.is_ok_and(|sent| !sent.contains("TE:") && !sent.contains("Connection")));
    }
}

mod s15_status {
    use super::*;

    /// A status is three digits, 100 to 599.
    #[test]
    fn statuses_outside_100_to_599_are_refused() {
        for status in ["99", "099", "600", "999", "1000", "-20", "2OO", "20"] {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            assert!(answer(&head, &GET).is_err(), "{status}");
        }
        assert_eq!(
            answer("HTTP/1.1 599 X\r\n\r\n", &GET).map(|r| r.status),
            Ok(599)
        );
    }

    /// 205 has no content; a body there would be the next response to some clients.
    #[test]
    fn a_205_has_no_content() {
        let head = |fields: &str| format!("HTTP/1.1 205 Reset Content\r\n{fields}\r\n");
        let with_body = answer(&head("Content-Length: 1\r\n"), &GET);
        assert_eq!(with_body.err(), Some("response_content_in_reset"));
        let bare = answer(&head(""), &GET).map(|r| (r.framing, r.reusable));
        assert_eq!(bare, Ok((BodyFraming::None, false)));
        assert_eq!(relay(&head(""), &GET, &KEEP), head("Content-Length: 0\r\n"));
    }

    /// An interim response is followed by another head; 100 and 103 keep their end-to-end fields.
    #[test]
    fn interim_responses_are_told_apart() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
        assert!(answer(hints, &GET).is_ok_and(|response| response.is_interim()));
        assert_eq!(relay(hints, &GET, &KEEP), hints);
        let large = format!("HTTP/1.1 103 X\r\nLink: {}\r\n\r\n", "x".repeat(17_000));
        assert_eq!(
            answer(&large, &GET).err(),
            Some("response_interim_too_large")
        );
    }
}

mod forwarded_for {
    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=10.0.0.1\r\nX-Request-Id: x\r\n\
        X-Auth-Token: t\r\nX_Forwarded_For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n\r\n";

    /// What an untrusted peer says about itself is replaced; names with `_` that back ends fold go with it.
    #[test]
    fn an_untrusted_peer_does_not_say_who_it_is() {
        let sent = forward(HEAD);
        assert_eq!(
            sent.as_deref(),
            Ok("GET / HTTP/1.1\r\nHost: a.test\r\nX-Auth-Token: t\r\n\r\n")
        );
    }

    /// What a trusted peer says of scheme and host is kept; of the client, what the caller believes stands there.
    #[test]
    fn a_trusted_peer_is_believed() {
        let accepted = accept(HEAD).expect("valid");
        let decide = ForwardRequest {
            trusted: true,
            client: b"10.0.0.2, 192.0.2.7",
            forwarded: b"for=10.0.0.2, for=192.0.2.7",
            ..FORWARD
        };
        let sent = forward_as(&accepted, &decide).expect("a plain path");
        assert_eq!(
            sent,
            "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: evil\r\nX-Auth-Token: t\r\n\
             X-Forwarded-For: 10.0.0.2, 192.0.2.7\r\nForwarded: for=10.0.0.2, for=192.0.2.7\r\n\
             X-Request-Id: r1\r\n\r\n"
        );
    }

    /// Names with `_` by policy: dropped, refused or forwarded.
    #[test]
    fn underscore_names_follow_the_policy() {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nX_Y: 1\r\n\r\n";
        assert_eq!(
            forward(head).as_deref(),
            Ok("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        );
        let reject = RequestRules {
            underscore: UnderscoreHeaders::Reject,
            ..RULES
        };
        assert_eq!(accept_under(head, &reject).err(), Some("field_underscore"));
        let accepted = accept(head).expect("valid");
        let allow = ForwardRequest {
            underscore: UnderscoreHeaders::Allow,
            ..FORWARD
        };
        assert!(forward_as(&accepted, &allow).is_ok_and(|sent| sent.contains("X_Y: 1\r\n")));
    }
}

mod responses_to_clients {
    use super::*;

    /// A connection that ends is said to end; HTTP/1.0 clients are told when it stays.
    #[test]
    fn connection_says_what_will_happen() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let close = ForwardResponse {
            keep_alive: false,
            ..KEEP
        };
        assert!(relay(head, &GET, &close).ends_with("Connection: close\r\n\r\n"));
        let old = ForwardResponse {
            client_version: Version::Http10,
            ..KEEP
        };
        assert!(relay(head, &GET, &old).ends_with("Connection: keep-alive\r\n\r\n"));
        assert_eq!(relay(head, &GET, &KEEP), head);
    }

    /// The gateway's own fields come last.
    #[test]
    fn extra_fields_are_added() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let decide = ForwardResponse {
            edits: Edits {
                lines: b"X-Request-Id: r1\r\nX-E:\r\n",
                removed: &[],
            },
            ..KEEP
        };
        let got = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Request-Id: r1\r\nX-E:\r\n\r\n";
        assert_eq!(relay(head, &GET, &decide), got);
    }
}
