//! What holds for any octets at all. Property tests, fuzz targets and the fuzzers' corpus run the same checks; each
//! panics where something does not hold.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must panic"
)]

use gateway::config::{ClientHeader, PathPolicy, ProxyProtocol, ResponseFaults, UnderscoreHeaders};
use gateway::data::codec::{
    Additions, BodyFraming, ChunkError, ChunkedOutput, ChunkedReader, Edits, Fields,
    ForwardRequest, ForwardResponse, HOPS_MAX, HeadError, HeadLimits, HeadScanner, Hops, Method,
    Normalised, RequestContext, RequestHead, RequestRules, Scheme, Version, check_query,
    most_generous_form, normalise_path, parse_proxy, parse_request, parse_response, write_proxy,
    write_request_head, write_response_head,
};

/// Small, so that limits are met.
const LIMITS: HeadLimits = HeadLimits {
    start_line_max: 200,
    head_max: 1000,
    fields_max: 20,
};

const RULES: RequestRules = RequestRules {
    fields_max: 20,
    underscore: UnderscoreHeaders::Drop,
    scheme: Scheme::Http,
    rewrite_host: false,
};

/// Feeds growing prefixes of `data` to `scanner` and says what came of it.
fn scan_in_steps(
    mut scanner: HeadScanner,
    data: &[u8],
    step: usize,
) -> Result<Option<std::ops::Range<usize>>, HeadError> {
    let mut end = 0;
    while end < data.len() {
        end = data.len().min(end + step);
        match scanner.scan(data.get(..end).unwrap_or_default(), &LIMITS) {
            Ok(None) => {}
            done => return done,
        }
    }
    scanner.scan(data, &LIMITS)
}

/// The head at the start of `data`, the same however it arrives.
fn find_head(scanner: &HeadScanner, data: &[u8]) -> Option<Vec<u8>> {
    let whole = scanner.clone().scan(data, &LIMITS);
    for step in [1, 2, 7] {
        assert_eq!(
            scan_in_steps(scanner.clone(), data, step),
            whole,
            "in steps of {step}"
        );
    }
    let head = data
        .get(whole.ok()??)
        .expect("a range within the data")
        .to_vec();
    assert!(head.len() <= 1000 && head.ends_with(b"\r\n\r\n"));
    Some(head)
}

/// A second reading of a head, as simple as can be: lower-case names with trimmed values.
fn plain_fields(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let lines = text
        .split("\r\n")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let fields = lines.map(|line| {
        let (name, value) = line
            .split_once(':')
            .expect("a colon in each line that was accepted");
        let value = value.trim_matches([' ', '\t']).chars();
        let value = value
            .map(|char| u8::try_from(char).expect("one octet each"))
            .collect();
        (name.to_ascii_lowercase(), value)
    });
    fields.collect()
}

fn plain_values<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields
        .iter()
        .filter(|field| field.0 == name)
        .map(|field| field.1.as_slice())
        .collect()
}

/// Framing by the second reading; panics where a message with faulty framing was accepted.
fn plain_framing(fields: &[(String, Vec<u8>)]) -> BodyFraming {
    let lengths = plain_values(fields, "content-length");
    let codings = plain_values(fields, "transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => BodyFraming::None,
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => BodyFraming::Chunked,
        ([length], []) => {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit));
            let length = str::from_utf8(length).expect("digits").parse::<i64>();
            BodyFraming::Length(length.expect("a length that fits").cast_unsigned())
        }
        _ => panic!("faulty framing was accepted"),
    }
}

/// A header of the PROXY protocol is read alike from every prefix that holds it, and from none that does not.
pub(crate) fn proxy_header(data: &[u8]) {
    let whole = parse_proxy(data, ProxyProtocol::Any);
    for end in 0..data.len().min(300) {
        match parse_proxy(&data[..end], ProxyProtocol::Any) {
            Ok(Some(header)) => {
                assert!(header.length <= end);
                assert_eq!(whole, Ok(Some(header)));
            }
            Ok(None) => {}
            Err(error) => assert_eq!(whole, Err(error)),
        }
    }
    if let Ok(Some(header)) = whole
        && let Some(source) = header.source
    {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let mut out = Vec::new();
            write_proxy(&mut out, version, source, source);
            let again = parse_proxy(&out, version).expect("what was written is read");
            assert_eq!(again.map(|header| header.source), Some(Some(source)));
        }
    }
}

/// Whatever proxies say: the hops that are believed are the last ones, and each but the first is trusted.
pub(crate) fn forwarded(data: &[u8]) {
    let (header, name) = match data.split_first() {
        Some((0..128, _)) => (ClientHeader::Forwarded, "Forwarded"),
        _ => (ClientHeader::XForwardedFor, "X-Forwarded-For"),
    };
    let mut head = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: ").into_bytes();
    let value = data.get(1..).unwrap_or_default().iter();
    head.extend(value.filter(|&&byte| byte > 0x1f && byte != 0x7f));
    head.extend(b"\r\n\r\n");
    let mut fields = Fields::new();
    let Ok(_) = parse_request(&head, &RULES, &mut fields) else {
        return;
    };
    let hops = Hops::read(header, &head, &fields);
    let is_trusted = |hop: std::net::IpAddr| hop.is_ipv4();
    let believed: Vec<_> = hops.believed(is_trusted).collect();
    assert!(believed.len() <= HOPS_MAX);
    assert!(believed.iter().skip(1).all(|hop| is_trusted(*hop)));
}

fn forward(head: &[u8], request: &RequestHead, fields: &Fields, path: &[u8]) -> Vec<u8> {
    let forward = ForwardRequest {
        path,
        host: request.authority.map_or(b"up.test", |span| span.of(head)),
        client: b"192.0.2.7",
        forwarded: b"",
        trusted: false,
        scheme: Scheme::Http,
        request_id: b"r1",
        underscore: UnderscoreHeaders::Drop,
        trailers: true,
        te_trailers: request.te_trailers,
        upgrade: None,
        expect_continue: true,
        additions: Additions::NONE,
        via: None,
        edits: Edits::NONE,
    };
    let mut out = Vec::new();
    write_request_head(&mut out, head, request, fields, &forward);
    assert!(
        out.len() <= forward.size_max(head.len(), fields.len()),
        "more than its bound"
    );
    out
}

/// Requests: any arrival gives the same answer; what is accepted httparse accepts too, and a second reading agrees;
/// what is forwarded is accepted, means the same, and forwarded again does not change.
pub(crate) fn request_head(data: &[u8]) {
    let Some(head) = find_head(&HeadScanner::for_request(), data) else {
        return;
    };
    let mut fields = Fields::new();
    let Ok(request) = parse_request(&head, &RULES, &mut fields) else {
        return;
    };
    let mut slots = [httparse::EMPTY_HEADER; 20];
    let second = httparse::Request::new(&mut slots).parse(&head);
    assert_eq!(second, Ok(httparse::Status::Complete(head.len())));
    let plain = plain_fields(&head);
    assert_eq!(plain.len(), fields.len());
    assert_eq!(plain_framing(&plain), request.framing);
    let hosts = plain_values(&plain, "host").len();
    assert!(hosts == 1 || (hosts == 0 && request.version == Version::Http10));
    let sent = forward(&head, &request, &fields, b"/x");
    let limits = HeadLimits {
        start_line_max: 4000,
        head_max: 4000,
        fields_max: 40,
    };
    let found = HeadScanner::for_request().scan(&sent, &limits);
    assert_eq!(found, Ok(Some(0..sent.len())), "{}", sent.escape_ascii());
    let rules = RequestRules {
        fields_max: 40,
        ..RULES
    };
    let mut sent_fields = Fields::new();
    let again = parse_request(&sent, &rules, &mut sent_fields).expect("what was sent is accepted");
    assert_eq!(again.framing, request.framing);
    assert_eq!(again.method, request.method);
    assert_eq!(again.expect_continue, request.expect_continue);
    assert!(again.keep_alive && again.upgrade.is_none());
    let query =
        |request: &RequestHead, head: &[u8]| request.query.map(|span| span.of(head).to_vec());
    assert_eq!(query(&again, &sent), query(&request, &head));
    // Without Host the gateway's own becomes the client's; Max-Forwards counts down.
    if again.max_forwards.is_none() && request.authority.is_some() {
        let twice = forward(&sent, &again, &sent_fields, b"/x");
        assert_eq!(
            twice.escape_ascii().to_string(),
            sent.escape_ascii().to_string()
        );
    }
}

/// Responses: as requests, to GET and to HEAD.
pub(crate) fn response_head(data: &[u8]) {
    let Some(head) = find_head(&HeadScanner::for_response(), data) else {
        return;
    };
    for method in [Method::Get, Method::Head] {
        let context = RequestContext {
            method,
            upgrade: Some(b"websocket"),
            fields_max: 20,
            tolerate: ResponseFaults::NONE,
        };
        let mut fields = Fields::new();
        let Ok(response) = parse_response(&head, &context, &mut fields) else {
            continue;
        };
        let mut slots = [httparse::EMPTY_HEADER; 20];
        let second = httparse::Response::new(&mut slots).parse(&head);
        assert_eq!(second, Ok(httparse::Status::Complete(head.len())));
        let plain = plain_fields(&head);
        assert_eq!(plain.len(), fields.len());
        let framing = plain_framing(&plain);
        let none = method == Method::Head || matches!(response.status, 100..=199 | 204 | 205 | 304);
        match response.framing {
            BodyFraming::None => assert!(none),
            BodyFraming::UntilClose => assert!(framing == BodyFraming::None && !response.reusable),
            other => assert_eq!(other, framing),
        }
        let keep_alive = response.framing != BodyFraming::UntilClose;
        let client_version = Version::Http11;
        let decide = ForwardResponse {
            body: response.framing,
            client_version,
            keep_alive,
            trailers: true,
            date: Some(b"Sun, 06 Nov 1994 08:49:37 GMT"),
            via: None,
            edits: Edits::NONE,
        };
        let mut sent = Vec::new();
        write_response_head(&mut sent, &head, &response, &fields, &decide);
        assert!(
            sent.len() <= decide.size_max(head.len(), fields.len()),
            "more than its bound"
        );
        let limits = HeadLimits {
            start_line_max: 4000,
            head_max: 4000,
            fields_max: 40,
        };
        let found = HeadScanner::for_response().scan(&sent, &limits);
        assert_eq!(found, Ok(Some(0..sent.len())), "{}", sent.escape_ascii());
        let context = RequestContext {
            fields_max: 40,
            ..context
        };
        let again =
            parse_response(&sent, &context, &mut fields).expect("what was sent is accepted");
        assert_eq!(again.status, response.status);
        assert_eq!(again.framing, response.framing);
        assert!(again.reusable || again.is_upgrade() || !keep_alive);
    }
}

/// What a body gave: octets written, end or error.
type Body = (Vec<u8>, Result<bool, ChunkError>);

fn dechunk(data: &[u8], step: usize, output: ChunkedOutput) -> Body {
    let mut reader = ChunkedReader::new();
    let (mut out, mut taken, mut end) = (Vec::new(), 0, 0);
    while end < data.len() {
        end = data.len().min(end + step);
        let input = data.get(taken..end).expect("within the data");
        let before = (reader, out.len());
        match reader.transcode(input, output, &mut out) {
            Ok(done) => {
                let mut other = before.0;
                assert_eq!(other.verify(input), Ok(done), "a look ahead agrees");
                let written = out.get(before.1..).expect("nothing is taken back");
                assert!(
                    written.len() <= done.consumed,
                    "never longer than the input"
                );
                if done.canonical && output != ChunkedOutput::Bare {
                    assert_eq!(Some(written), input.get(..done.consumed));
                }
                assert!(
                    input.len() - done.consumed <= 4096,
                    "what is left is bounded"
                );
                taken += done.consumed;
            }
            Err(error) => return (out, Err(error)),
        }
    }
    (out, Ok(reader.is_ended()))
}

/// Chunked bodies: any partition gives the same body or error; what is written is canonical and means the same.
pub(crate) fn chunked(data: &[u8]) {
    for output in [
        ChunkedOutput::Bare,
        ChunkedOutput::Chunked { trailers: false },
        ChunkedOutput::Chunked { trailers: true },
    ] {
        let (written, result) = dechunk(data, data.len().max(1), output);
        for step in [1, 3] {
            let other = dechunk(data, step, output);
            assert_eq!(other.1, result, "in steps of {step}");
            assert_eq!(other.0, written, "in steps of {step}");
        }
        if result != Ok(true) || output == ChunkedOutput::Bare {
            continue;
        }
        let (again, end) = dechunk(&written, written.len(), output);
        assert_eq!(
            (again, end),
            (written.clone(), Ok(true)),
            "canonical is stable"
        );
        let (one, _) = dechunk(data, data.len(), ChunkedOutput::Bare);
        let (other, _) = dechunk(&written, written.len(), ChunkedOutput::Bare);
        assert_eq!(one, other, "the payload is the same");
    }
}

/// Paths: normal forms are normal, hold no dot segment, are never longer, and strict accepts only what standard does.
pub(crate) fn path(data: &[u8]) {
    let mut out = Vec::new();
    let mut generous = Vec::new();
    most_generous_form(data, true, &mut generous);
    assert!(generous.starts_with(b"/") && !generous.windows(2).any(|pair| pair == b"//"));
    let dots = |path: &[u8]| {
        path.split(|&byte| byte == b'/')
            .any(|part| part == b"." || part == b"..")
    };
    assert!(!dots(&generous), "{}", generous.escape_ascii());
    let mut normal = |path: &[u8], policy| {
        normalise_path(path, policy, &mut out).map(|done| match done {
            Normalised::AsIs => path.to_vec(),
            Normalised::Rewritten => out.clone(),
        })
    };
    let standard = normal(data, PathPolicy::Standard);
    let strict = normal(data, PathPolicy::Strict);
    if strict.is_ok() {
        assert_eq!(strict, standard);
    }
    if let Ok(path) = standard {
        assert!(path.len() <= data.len().max(1));
        assert!(path.starts_with(b"/") && path.iter().all(u8::is_ascii_graphic) && !dots(&path));
        assert_eq!(
            normal(&path, PathPolicy::Standard).as_deref(),
            Ok(&path[..]),
            "normal is stable"
        );
        let mut of_normal = Vec::new();
        most_generous_form(&path, true, &mut of_normal);
        if !path.contains(&b'%') && !path.contains(&b';') {
            let plain = path.to_ascii_lowercase();
            let merged: Vec<u8> = plain.iter().copied().fold(Vec::new(), |mut merged, byte| {
                if byte != b'/' || merged.last() != Some(&b'/') {
                    merged.push(byte);
                }
                merged
            });
            let cut = merged
                .iter()
                .position(|&byte| byte == b'?')
                .unwrap_or(merged.len());
            assert_eq!(
                Some(&of_normal[..]),
                merged.get(..cut),
                "nothing was hidden"
            );
        }
    }
    if check_query(data, PathPolicy::Strict).is_ok() {
        assert_eq!(check_query(data, PathPolicy::Standard), Ok(()));
    }
}
