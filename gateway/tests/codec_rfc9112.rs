//! The codec against RFC 9112 (HTTP/1.1), by section. Each test says the clause in its own words.

mod codec_support;

use codec_support::{FORWARD, LIMITS, RULES, accept, accept_under, forward, forward_as, refusal};
use gateway::config::ResponseFaults;
use gateway::data::codec::{
    BodyFraming, Fields, ForwardRequest, HeadError, HeadLimits, HeadScanner, Method,
    RequestContext, RequestError, RequestRules, ResponseHead, TargetForm, parse_response,
};

fn answer_to(method: Method, head: &str) -> Result<ResponseHead, &'static str> {
    let range = HeadScanner::for_response().scan(head.as_bytes(), &LIMITS);
    let range = range.map_err(|error| error.name())?.ok_or("waits")?;
    let context = RequestContext {
        method,
        upgrade: None,
        fields_max: 128,
        tolerate: ResponseFaults::NONE,
    };
    let head = head.as_bytes().get(range).unwrap_or_default();
    parse_response(head, &context, &mut Fields::new()).map_err(|error| error.name())
}

fn answer(head: &str) -> Result<ResponseHead, &'static str> {
    answer_to(Method::Get, head)
}

fn with_field(field: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{field}\r\n\r\n")
}

mod s2_2_message_parsing {
    use super::*;

    /// A line ends in CRLF. A LF alone may be taken for an end by others, so it is refused; so is a CR alone.
    #[test]
    fn bare_cr_and_bare_lf_are_refused_wherever_they_stand() {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n";
        let ends: Vec<usize> = head.match_indices("\r\n").map(|(at, _)| at).collect();
        for at in ends {
            let mut without_cr = head.to_owned();
            without_cr.remove(at);
            assert_eq!(refusal(&without_cr), "bare_lf", "{without_cr:?}");
            let mut without_lf = head.to_owned();
            without_lf.remove(at + 1);
            let name = refusal(&without_lf);
            assert!(
                name == "bare_cr" || name == "waits",
                "{without_lf:?} {name}"
            );
        }
    }

    /// A server should ignore at least one empty line before the request line; here two, and none before a response.
    #[test]
    fn two_leading_empty_lines_are_ignored_and_no_more() {
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        for (lines, name) in [
            (0, "accepted"),
            (1, "accepted"),
            (2, "accepted"),
            (3, "leading_empty_lines"),
        ] {
            assert_eq!(refusal("\r\n".repeat(lines) + request), name);
        }
        let response = "\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(answer(response).err(), Some("leading_empty_lines"));
    }

    /// White space before the first field must not be taken for a field or ignored.
    #[test]
    fn white_space_before_the_first_field_is_refused() {
        for blank in [" ", "\t"] {
            let head = format!("GET / HTTP/1.1\r\n{blank}Host: a.test\r\nHost: a.test\r\n\r\n");
            assert_eq!(refusal(head), "field_fold");
        }
    }
}

mod s2_3_version {
    use super::*;

    /// The version is `HTTP/` in this case, a digit, a dot and a digit.
    #[test]
    fn what_is_no_version_is_a_bad_request() {
        for version in [
            "http/1.1",
            "HTTP/1",
            "HTTP/1.",
            "HTTP/11.1",
            "HTTP/1.10",
            "HTTP-1.1",
            "RTSP/1.0",
        ] {
            assert_eq!(
                refusal(format!("GET / {version}\r\nHost: a.test\r\n\r\n")),
                "version",
                "{version}"
            );
        }
        assert_eq!(refusal("GET /\r\nHost: a.test\r\n\r\n"), "request_line");
    }
}

mod s3_request_line {
    use super::*;

    /// Three parts, one SP between them, nothing around: other white space splits differently for others.
    #[test]
    fn only_single_spaces_separate_the_three_parts() {
        for line in [
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET\t/ HTTP/1.1",
            "GET /\tHTTP/1.1",
            "GET / x HTTP/1.1",
            "GET HTTP/1.1",
            "GET  HTTP/1.1",
            "/ HTTP/1.1",
            "GET",
        ] {
            let name = refusal(format!("{line}\r\nHost: a.test\r\n\r\n"));
            assert!(
                ["request_line", "method", "target"].contains(&name),
                "{line:?} {name}"
            );
        }
    }

    /// A request line that is too long is answered 414, a head that is too large 431.
    #[test]
    fn limits_are_enforced_while_reading() {
        let limits = HeadLimits {
            start_line_max: 20,
            head_max: 60,
            fields_max: 2,
        };
        let scan = |text: &str| HeadScanner::for_request().scan(text.as_bytes(), &limits);
        assert_eq!(scan("GET /34567 HTTP/1.1\r\n"), Ok(None));
        assert_eq!(scan("GET /345678 HTTP/1.1\r"), Ok(None));
        assert_eq!(
            scan("GET /3456789 HTTP/1.1"),
            Err(HeadError::StartLineTooLong)
        );
        assert_eq!(
            scan("GET / HTTP/1.1\r\na: b\r\nc: d\r\n\r\n"),
            Ok(Some(0..30))
        );
        assert_eq!(
            scan("GET / HTTP/1.1\r\na: b\r\nc: d\r\ne: f\r\n"),
            Err(HeadError::TooManyFields)
        );
        let padded = |length: usize| format!("GET / HTTP/1.1\r\na: {}", "x".repeat(length));
        assert_eq!(scan(&(padded(37) + "\r\n\r\n")), Ok(Some(0..60)));
        assert_eq!(
            scan(&(padded(38) + "\r\n\r\n")),
            Err(HeadError::HeadTooLarge)
        );
        assert_eq!(scan(&padded(41)), Ok(None));
        assert_eq!(scan(&padded(42)), Err(HeadError::HeadTooLarge));
        assert_eq!(HeadError::StartLineTooLong.status().as_u16(), 414);
        assert_eq!(HeadError::HeadTooLarge.status().as_u16(), 431);
        assert_eq!(HeadError::TooManyFields.status().as_u16(), 431);
        let few = RequestRules {
            fields_max: 1,
            ..RULES
        };
        let two = "GET / HTTP/1.1\r\nHost: a.test\r\na: b\r\n\r\n";
        assert_eq!(accept_under(two, &few).err(), Some("too_many_fields"));
    }
}

mod s3_2_request_target {
    use super::*;

    fn target(target: &str) -> Result<(TargetForm, String, Option<String>), &'static str> {
        let method = if target.starts_with('*') {
            "OPTIONS"
        } else {
            "GET"
        };
        let accepted = accept(format!(
            "{method} {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"
        ))?;
        let text = |span: gateway::data::codec::Span| {
            String::from_utf8_lossy(span.of(&accepted.head)).into_owned()
        };
        let request = accepted.request;
        Ok((request.form, text(request.path), request.query.map(text)))
    }

    /// Origin form: a path and perhaps a query, split at the first `?`.
    #[test]
    fn origin_form_is_path_and_query() {
        let origin = TargetForm::Origin;
        assert_eq!(target("/a/b"), Ok((origin, "/a/b".into(), None)));
        assert_eq!(
            target("/a?"),
            Ok((origin, "/a".into(), Some(String::new())))
        );
        assert_eq!(
            target("/?a=b?c=%"),
            Ok((origin, "/".into(), Some("a=b?c=%".into())))
        );
        assert_eq!(
            target("//b.test/x"),
            Ok((origin, "//b.test/x".into(), None))
        );
    }

    /// Absolute form: scheme http or https, an authority, then as above; without a path it means `/`.
    #[test]
    fn absolute_form_is_taken_apart() {
        let absolute = TargetForm::Absolute;
        assert_eq!(
            target("HTTP://a.test/x?y"),
            Ok((absolute, "/x".into(), Some("y".into())))
        );
        assert_eq!(
            target("http://a.test?y"),
            Ok((absolute, String::new(), Some("y".into())))
        );
        let sent = forward("GET http://a.test?y HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(
            sent.as_deref(),
            Ok("GET /?y HTTP/1.1\r\nHost: a.test\r\n\r\n")
        );
        assert_eq!(target("ftp://a.test/"), Err("scheme"));
        assert_eq!(target("http:///x"), Err("target_authority"));
        assert_eq!(target("http://a.test:99999/"), Err("target_authority"));
        assert_eq!(target("http:/a.test/"), Err("target"));
    }

    /// Asterisk form belongs to OPTIONS, authority form to CONNECT; nothing else is a target, and none has a fragment.
    #[test]
    fn other_forms_are_refused() {
        assert_eq!(target("*"), Ok((TargetForm::Asterisk, "*".into(), None)));
        assert_eq!(
            refusal("GET * HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            "target_asterisk"
        );
        assert_eq!(
            refusal("GET a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            "target"
        );
        assert_eq!(
            refusal("GET a/b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            "target"
        );
        assert_eq!(target("/a#b"), Err("target_fragment"));
        assert_eq!(target("/a?b#c"), Err("target_fragment"));
    }

    /// OPTIONS on an absolute form without path and query becomes `*` at the last proxy.
    #[test]
    fn options_on_a_bare_authority_becomes_an_asterisk() {
        let sent = forward("OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(
            sent.as_deref(),
            Ok("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")
        );
        let sent = forward("OPTIONS http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(
            sent.as_deref(),
            Ok("OPTIONS / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        );
    }

    /// HTTP/1.1 needs exactly one valid Host; HTTP/1.0 at most one.
    #[test]
    fn host_is_exactly_one() {
        assert_eq!(refusal("GET / HTTP/1.1\r\n\r\n"), "host_missing");
        assert_eq!(
            refusal("GET http://a.test/ HTTP/1.1\r\n\r\n"),
            "host_missing"
        );
        assert_eq!(refusal("GET / HTTP/1.0\r\n\r\n"), "accepted");
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let twice = format!("GET / {version}\r\nHost: a.test\r\nhost: a.test\r\n\r\n");
            assert_eq!(refusal(twice), "host_repeated");
            assert_eq!(refusal(format!("GET / {version}\r\nHost:\r\n\r\n")), "host");
        }
    }

    /// `Host = uri-host [ ":" port ]`, and a port may have no digits: RFC 9110, section 4.2.3, calls "http://EXAMPLE.com:/" the
    /// place that "http://example.com:80/" is. It is not written.
    #[test]
    fn an_empty_port_is_none() {
        for request in [
            "GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a.test: \r\n\r\n",
            "GET http://a.test:/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://a.test:/ HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
        ] {
            let accepted = accept(request).expect("valid");
            let authority = accepted.request.authority.expect("one");
            assert_eq!(authority.of(&accepted.head), b"a.test", "{request}");
            let sent = forward(request).expect("valid");
            assert_eq!(sent, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "{request}");
        }
        for bad in [":", "a.test::", "a.test:80:", ":80"] {
            let request = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
            assert_eq!(refusal(request), "host");
        }
    }

    /// A request without Host goes upstream with one.
    #[test]
    fn a_request_without_host_is_given_one() {
        let accepted = accept("GET / HTTP/1.0\r\n\r\n").expect("valid");
        let sent = forward_as(
            &accepted,
            &ForwardRequest {
                host: b"up.test:8080",
                ..FORWARD
            },
        );
        assert!(sent.is_ok_and(|sent| {
            sent.starts_with("GET / HTTP/1.1\r\nHost: up.test:8080\r\nX-Forwarded-For")
        }));
    }
}

mod s4_status_line {
    use super::*;

    /// `HTTP/1.x SP 3DIGIT SP [reason]`; whatever else an upstream says is no HTTP.
    #[test]
    fn what_is_no_status_line_is_refused() {
        for line in [
            "lorem ipsum",
            "HTTP/2 200",
            "HTTP/2.0 200 OK",
            "HTTP/0.9 200 OK",
            "HTTP/01.1 200 OK",
            "HTTP/1.1\t200 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 200OK",
            "HTTP/1.1 2 OK",
            "ICY 200 OK",
            "RTSP/1.0 200 OK",
            "HTTP/1.1",
        ] {
            let result = answer(&format!("{line}\r\n\r\n"));
            let name = result.err().unwrap_or("accepted");
            assert!(name.starts_with("response_"), "{line} {name}");
        }
    }

    /// The reason phrase may be empty, and may hold octets that are not ASCII.
    #[test]
    fn any_reason_is_kept() {
        for (line, reason) in [
            ("200 OK", "OK"),
            ("200 ", ""),
            ("200", ""),
            ("200 Tr\u{e8}s bien", "Tr\u{e8}s bien"),
        ] {
            let head = format!("HTTP/1.1 {line}\r\n\r\n");
            let response = answer(&head).expect("a status line");
            assert_eq!(response.reason.of(head.as_bytes()), reason.as_bytes());
        }
    }
}

mod s5_field_syntax {
    use super::*;

    /// No white space between name and colon, no line folding, no line without colon or name.
    #[test]
    fn malformed_field_lines_are_refused() {
        for (line, name) in [
            ("X : 1", "field_name_blank"),
            ("X\t: 1", "field_name_blank"),
            ("X: a\r\n b", "field_fold"),
            ("X: a\r\n\tb", "field_fold"),
            (": 1", "field_name_empty"),
            ("X", "field_colon"),
            ("X 1", "field_colon"),
            ("X(1): 1", "field_name"),
            ("X Y: 1", "field_name"),
            ("\"X\": 1", "field_name"),
        ] {
            assert_eq!(refusal(with_field(line)), name, "{line:?}");
            let response = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
            assert_eq!(answer(&response).err(), Some("response_field"), "{line:?}");
        }
    }
}

mod s6_message_body {
    use super::*;

    fn framing(fields: &str) -> Result<BodyFraming, &'static str> {
        accept(with_field(fields)).map(|accepted| accepted.request.framing)
    }

    /// 6.1: chunked is the one coding, once, last, without parameters. Others are answered 501.
    #[test]
    fn transfer_encoding_is_chunked_or_refused() {
        assert_eq!(
            framing("Transfer-Encoding: chunked"),
            Ok(BodyFraming::Chunked)
        );
        assert_eq!(
            framing("transfer-encoding:\tCHUNKED \t"),
            Ok(BodyFraming::Chunked)
        );
        for coding in [
            "gzip",
            "gzip, chunked",
            "identity",
            "chunked, identity",
            "xchunked",
            "chunkedchunked",
        ] {
            let name = framing(&format!("Transfer-Encoding: {coding}"));
            assert_eq!(name, Err("transfer_coding_unknown"), "{coding}");
        }
        for coding in [
            "",
            ",",
            ", chunked",
            "chunked,",
            "chunked, chunked",
            "chunked;q=1",
            "\"chunked\"",
            "chunked x",
            "chunked\u{b}",
            "\u{a0}chunked",
        ] {
            let name = framing(&format!("Transfer-Encoding: {coding}")).expect_err(coding);
            assert!(
                ["transfer_encoding", "control"].contains(&name),
                "{coding:?} {name}"
            );
        }
        assert_eq!(
            framing("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Err("transfer_encoding_repeated")
        );
        assert_eq!(RequestError::TransferCodingUnknown.status().as_u16(), 501);
    }

    /// 6.1: HTTP/1.0 has no Transfer-Encoding; its framing there is faulty.
    #[test]
    fn transfer_encoding_in_1_0_is_refused() {
        let head = "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refusal(head), "transfer_encoding_in_http_1_0");
        let head = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            answer(head).err(),
            Some("response_transfer_encoding_in_http_1_0")
        );
    }

    /// 6.1 and 6.3: both framing fields together smell of smuggling.
    #[test]
    fn length_and_encoding_together_are_refused() {
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
        assert_eq!(framing(both), Err("length_and_encoding"));
        let swapped = "Transfer-Encoding: chunked\r\nContent-Length: 5";
        assert_eq!(framing(swapped), Err("length_and_encoding"));
        let head = format!("HTTP/1.1 200 OK\r\n{both}\r\n\r\n");
        assert_eq!(answer(&head).err(), Some("response_length_and_encoding"));
    }

    /// 6.2 and 6.3: a length is digits, once; several are unrecoverable even where they agree.
    #[test]
    fn content_length_is_digits_once() {
        for (value, length) in [
            ("0", 0),
            ("5", 5),
            ("005", 5),
            ("\t5 ", 5),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(
                framing(&format!("Content-Length: {value}")),
                Ok(BodyFraming::Length(length))
            );
        }
        assert_eq!(
            framing("Content-Length: 00000000000000000005"),
            Ok(BodyFraming::Length(5))
        );
        for value in [
            "",
            "+5",
            "-5",
            "5.0",
            "0x5",
            "5e0",
            "5 5",
            "5_0",
            "\u{665}",
            "9223372036854775808",
            "18446744073709551617",
            "000000000000000000005",
            "5;",
            "5\u{a0}",
        ] {
            assert_eq!(
                framing(&format!("Content-Length: {value}")),
                Err("content_length"),
                "{value:?}"
            );
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\n");
            assert_eq!(
                answer(&head).err(),
                Some("response_content_length"),
                "{value:?}"
            );
        }
        for fields in [
            "Content-Length: 5, 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5,",
        ] {
            assert_eq!(
                framing(fields),
                Err("content_length_repeated"),
                "{fields:?}"
            );
        }
    }

    /// What goes upstream has one canonical framing field.
    #[test]
    fn framing_is_written_anew() {
        let sent = forward(with_field("content-length:  0005")).expect("valid");
        assert_eq!(
            sent,
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n"
        );
        let sent = forward(with_field("transfer-ENCODING:CHUNKED")).expect("valid");
        assert_eq!(
            sent,
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
    }

    /// 6.3: a request without either has no body; a response reads until close; HEAD, 1xx, 204 and 304 have none.
    #[test]
    fn the_message_length_rules_hold() {
        assert_eq!(framing("X: y"), Ok(BodyFraming::None));
        let until_close = answer("HTTP/1.1 200 OK\r\n\r\n").expect("valid");
        assert_eq!(
            (until_close.framing, until_close.reusable),
            (BodyFraming::UntilClose, false)
        );
        let chunked = "Transfer-Encoding: chunked\r\n";
        for (status, length) in [
            ("204", "Content-Length: 4\r\n"),
            ("304", chunked),
            ("100", chunked),
        ] {
            let head = format!("HTTP/1.1 {status} X\r\n{length}\r\n");
            let response = answer(&head).expect("valid");
            assert_eq!(
                (response.framing, response.reusable),
                (BodyFraming::None, false),
                "{status}"
            );
        }
        let head = format!("HTTP/1.1 200 OK\r\n{chunked}\r\n");
        let to_head = answer_to(Method::Head, &head).expect("valid");
        assert_eq!(
            (to_head.framing, to_head.reusable),
            (BodyFraming::None, true)
        );
        let to_get = answer(&head).expect("valid");
        assert_eq!(
            (to_get.framing, to_get.reusable),
            (BodyFraming::Chunked, true)
        );
    }
}

mod s9_3_persistence {
    use super::*;

    /// 1.1 stays open unless close is said; 1.0 closes unless keep-alive is said; close wins.
    #[test]
    fn keep_alive_follows_version_and_connection() {
        for (version, connection, stays) in [
            ("HTTP/1.1", "X: y", true),
            ("HTTP/1.1", "Connection: Close", false),
            ("HTTP/1.1", "Connection: x\r\nConnection: close", false),
            ("HTTP/1.0", "X: y", false),
            ("HTTP/1.0", "Connection: Keep-Alive", true),
            ("HTTP/1.0", "Connection: keep-alive, close", false),
        ] {
            let head = format!("GET / {version}\r\nHost: a.test\r\n{connection}\r\n\r\n");
            let keep_alive = accept(head).map(|accepted| accepted.request.keep_alive);
            assert_eq!(keep_alive, Ok(stays), "{version} {connection}");
        }
        for (line, stays) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0", true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close",
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive",
                false,
            ),
        ] {
            let response = answer(&format!("{line}\r\n\r\n")).expect("valid");
            assert_eq!(response.reusable, stays, "{line}");
        }
    }
}
