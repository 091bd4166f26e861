//! Whole connections against [`oracle`](super::oracle), a reading of the RFC that shares no code with the codec: what one
//! accepts the other does, with the same boundaries, and what is sent on means to both what was received.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must panic"
)]

use gateway::config::{ConfigSource, PathPolicy, ResponseFaults, UnderscoreHeaders, load};
use gateway::data::codec::{
    Additions, BodyFraming, ChunkedOutput, ChunkedReader, Edits, Fields, ForwardRequest,
    HeadLimits, HeadScanner, Method, Normalised, RequestContext, RequestHead, RequestRules,
    ResponseHead, Scheme, TargetForm, check_query, normalise_path, parse_request, parse_response,
    write_request_head,
};

use super::oracle::{self, Message, Reading};

const LIMITS: HeadLimits = HeadLimits {
    start_line_max: 8192,
    head_max: 65_536,
    fields_max: 128,
};

const RULES: RequestRules = RequestRules {
    fields_max: 128,
    underscore: UnderscoreHeaders::Drop,
    scheme: Scheme::Http,
    rewrite_host: false,
};

/// Refusals that no grammar knows; they need a message that is large.
const LIMIT_NAMES: [&str; 6] = [
    "start_line_too_long",
    "head_too_large",
    "too_many_fields",
    "chunk_overhead",
    "trailers_too_large",
    "chunk_extension_too_long",
];

/// What the codec makes of the start of a connection's bytes.
enum Verdict {
    Waits,
    Refuses(&'static str),
    Accepts(Box<Accepted>),
}

struct Accepted {
    request: RequestHead,
    head: Vec<u8>,
    body: Vec<u8>,
    /// The message as it goes on.
    sent: Vec<u8>,
    end: usize,
}

/// Finds the head as it arrives, in pieces of `step` octets.
fn find(
    mut scanner: HeadScanner,
    data: &[u8],
    step: usize,
) -> Result<Option<std::ops::Range<usize>>, &'static str> {
    let mut end = 0;
    loop {
        end = data.len().min(end + step);
        let part = data.get(..end).expect("within the data");
        match scanner.scan(part, &LIMITS) {
            Ok(None) if end < data.len() => {}
            done => return done.map_err(|error| error.name()),
        }
    }
}

fn read(data: &[u8], step: usize) -> Verdict {
    let range = match find(HeadScanner::for_request(), data, step) {
        Ok(Some(range)) => range,
        Ok(None) => return Verdict::Waits,
        Err(name) => return Verdict::Refuses(name),
    };
    let head = data.get(range.clone()).expect("within the data").to_vec();
    let rest = data.get(range.end..).expect("within the data");
    match accept(head, rest, step) {
        Ok(Some(mut accepted)) => {
            accepted.end += range.end;
            Verdict::Accepts(accepted)
        }
        Ok(None) => Verdict::Waits,
        Err(name) => Verdict::Refuses(name),
    }
}

/// `None`: the body is not all there.
fn accept(head: Vec<u8>, rest: &[u8], step: usize) -> Result<Option<Box<Accepted>>, &'static str> {
    let mut fields = Fields::new();
    let request = parse_request(&head, &RULES, &mut fields).map_err(|error| error.name())?;
    let mut path = Vec::new();
    if request.form != TargetForm::Asterisk {
        let query = request.query.unwrap_or_default();
        check_query(query.of(&head), PathPolicy::Standard).map_err(|error| error.name())?;
        let sent = request.path.of(&head);
        let normal = normalise_path(sent, PathPolicy::Standard, &mut path);
        if normal.map_err(|error| error.name())? == Normalised::AsIs {
            path = sent.to_vec();
        }
    }
    let forward = ForwardRequest {
        path: &path,
        host: request.authority.map_or(b"up.test", |span| span.of(&head)),
        client: b"192.0.2.7",
        trusted: false,
        scheme: Scheme::Http,
        request_id: b"r1",
        underscore: UnderscoreHeaders::Drop,
        trailers: false,
        te_trailers: request.te_trailers,
        upgrade: None,
        expect_continue: true,
        additions: Additions::NONE,
        via: None,
        edits: Edits::NONE,
        forwarded: b"",
    };
    let mut sent = Vec::new();
    write_request_head(&mut sent, &head, &request, &fields, &forward);
    let (mut body, mut end) = (Vec::new(), 0);
    match request.framing {
        BodyFraming::None => {}
        BodyFraming::Length(length) => {
            let whole = usize::try_from(length).ok().and_then(|end| rest.get(..end));
            let Some(whole) = whole else { return Ok(None) };
            body.extend_from_slice(whole);
            sent.extend_from_slice(whole);
            end = whole.len();
        }
        BodyFraming::Chunked => {
            let chunked = ChunkedOutput::Chunked { trailers: false };
            match dechunk(rest, step, chunked, &mut sent)? {
                Some(consumed) => end = consumed,
                None => return Ok(None),
            }
            dechunk(rest, step, ChunkedOutput::Bare, &mut body)?.expect("as above");
        }
        BodyFraming::UntilClose => return Err("until_close"),
    }
    Ok(Some(Box::new(Accepted {
        request,
        head,
        body,
        sent,
        end,
    })))
}

/// Octets of the chunked body at the start of `data`; `None`: it is not all there.
fn dechunk(
    data: &[u8],
    step: usize,
    output: ChunkedOutput,
    out: &mut Vec<u8>,
) -> Result<Option<usize>, &'static str> {
    let mut reader = ChunkedReader::new();
    let (mut taken, mut end) = (0, 0);
    loop {
        end = data.len().min(end + step);
        let part = data.get(taken..end).expect("within the data");
        let done = reader.transcode(part, output, out);
        taken += done.map_err(|error| error.name())?.consumed;
        if reader.is_ended() {
            return Ok(Some(taken));
        }
        if end == data.len() {
            return Ok(None);
        }
    }
}

/// The bytes of a client's connection: the first says in what steps they come, the others are requests in a row.
pub(crate) fn connection(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else {
        return;
    };
    let step = match first {
        0..=63 => usize::from(first) + 1,
        _ => usize::MAX / 2,
    };
    while !rest.is_empty() {
        let plain = oracle::request(rest);
        match (read(rest, step), plain) {
            (Verdict::Accepts(ours), Reading::Whole(theirs)) => {
                compare(&ours, &theirs);
                if !ours.request.keep_alive {
                    return;
                }
                rest = rest.get(ours.end..).expect("within the data");
            }
            (Verdict::Accepts(ours), theirs) => {
                panic!("accepted, but {theirs:?}: {}", ours.head.escape_ascii())
            }
            (Verdict::Refuses(name), Reading::Whole(theirs)) => {
                let large = rest.len() > 4000 || theirs.fields.len() > 120;
                assert!(
                    theirs.doubt.is_some() || (large && LIMIT_NAMES.contains(&name)),
                    "{name} for a valid request: {}",
                    rest.escape_ascii()
                );
                return;
            }
            (Verdict::Waits, Reading::Whole(_)) => {
                panic!("waits for more of a whole request: {}", rest.escape_ascii())
            }
            (Verdict::Refuses(_) | Verdict::Waits, _) => return,
        }
    }
}

/// Both have read the same request, and what goes on is that request and nothing else.
fn compare(ours: &Accepted, theirs: &Message) {
    let shown = ours.head.escape_ascii();
    assert_eq!(ours.end, theirs.end, "another end: {shown}");
    assert_eq!(ours.body, theirs.body, "another body: {shown}");
    assert_eq!(ours.request.method_span.of(&ours.head), theirs.start[0]);
    let is_chunked = ours.request.framing == BodyFraming::Chunked;
    assert_eq!(is_chunked, theirs.chunked, "{shown}");
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let parsed = httparse::Request::new(&mut slots).parse(&ours.head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(ours.head.len())));

    let sent = ours.sent.escape_ascii();
    let Reading::Whole(again) = oracle::request(&ours.sent) else {
        panic!("what goes on is no request: {sent}");
    };
    assert_eq!(again.end, ours.sent.len(), "more than one request: {sent}");
    assert_eq!(again.body, theirs.body, "{sent}");
    assert_eq!(again.chunked, theirs.chunked, "{sent}");
    assert_eq!(again.start[0], theirs.start[0], "{sent}");
    assert_eq!(again.start[2], b"HTTP/1.1", "{sent}");
    assert_eq!(again.values("host").len(), 1, "{sent}");
    let expects = again.values("expect").len();
    assert_eq!(expects, usize::from(ours.request.expect_continue), "{sent}");
    // A query goes on as it came, a path never with an octet that is not in the grammar.
    let path = again.start[1].split(|&byte| byte == b'?').next();
    assert!(
        path.is_some_and(|path| path.iter().all(u8::is_ascii_graphic)),
        "{sent}"
    );
    let allowed = [
        "octets of the target",
        "a path that has rules of its own",
        "an unusual host",
        "Max-Forwards",
    ];
    assert!(
        again.doubt.is_none_or(|doubt| allowed.contains(&doubt)),
        "{again:?}"
    );
    let (mut kept, mut wanted) = (oracle::forwarded(&again), oracle::forwarded(theirs));
    if ours.request.max_forwards.is_some() {
        kept.retain(|field| field.0 != b"max-forwards");
        wanted.retain(|field| field.0 != b"max-forwards");
    }
    assert_eq!(kept, wanted, "{shown} became {sent}");
}

/// All that an upstream sends before it closes: the first byte says to what method, the rest is a response.
pub(crate) fn response(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let (method, name) = if first.is_multiple_of(4) {
        (Method::Head, "HEAD")
    } else {
        (Method::Get, "GET")
    };
    let step = usize::from(first >> 2) + 1;
    let theirs = oracle::response(data, name);
    let context = RequestContext {
        method,
        upgrade: None,
        fields_max: 128,
        tolerate: ResponseFaults::NONE,
    };
    let Ok(Some(range)) = find(HeadScanner::for_response(), data, step) else {
        let many = |plain: &Message| plain.fields.len() > 120;
        let large = data.len() > 4000 || theirs.as_ref().is_some_and(many);
        assert!(theirs.is_none() || large, "{}", data.escape_ascii());
        return;
    };
    let (head, rest) = data.split_at(range.end);
    let mut fields = Fields::new();
    let response = match parse_response(head, &context, &mut fields) {
        Ok(response) => response,
        Err(error) => {
            let allowed = [
                "response_connection",
                "response_too_many_fields",
                "response_unexpected_upgrade",
                "response_interim_too_large",
                "response_content_in_reset",
            ];
            assert!(
                allowed.contains(&error.name()) || theirs.is_none_or(|plain| plain.doubt.is_some()),
                "{error} for a valid response: {}",
                head.escape_ascii()
            );
            return;
        }
    };
    let Ok((body, end)) = response_body(&response, rest, step) else {
        let large = theirs.as_ref().is_some_and(|plain| plain.doubt.is_some());
        assert!(theirs.is_none() || large || data.len() > 4000);
        return;
    };
    let Some(plain) = theirs else {
        assert!(
            end.is_none(),
            "whole to one reader: {}",
            data.escape_ascii()
        );
        return;
    };
    // A 205 without a length is taken to have no content, and its connection is not used again.
    if response.status == 205 && response.framing == BodyFraming::None {
        assert!(!response.reusable || plain.body.is_empty());
        return;
    }
    let end = end.expect("whole to both readers");
    assert_eq!(head.len() + end, plain.end, "{}", data.escape_ascii());
    assert_eq!(body, plain.body, "{}", data.escape_ascii());
    assert_eq!(response.status.to_string().as_bytes(), plain.start[1]);
    let closes = plain
        .values("connection")
        .iter()
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|option| oracle::trim(option).eq_ignore_ascii_case(b"close"));
    let until_close = response.framing == BodyFraming::UntilClose;
    if closes || until_close || plain.start[0] == b"HTTP/1.0" {
        assert!(!response.reusable, "{}", head.escape_ascii());
    }
}

/// The body at the start of `rest` and how many octets it takes there; `None`: it is not all there.
fn response_body(
    response: &ResponseHead,
    rest: &[u8],
    step: usize,
) -> Result<(Vec<u8>, Option<usize>), &'static str> {
    let mut body = Vec::new();
    let end = match response.framing {
        BodyFraming::None => Some(0),
        BodyFraming::Length(length) => {
            let end = usize::try_from(length).ok();
            let whole = end.and_then(|end| rest.get(..end));
            whole.map(|whole| {
                body.extend_from_slice(whole);
                whole.len()
            })
        }
        BodyFraming::Chunked => dechunk(rest, step, ChunkedOutput::Bare, &mut body)?,
        BodyFraming::UntilClose => {
            body.extend_from_slice(rest);
            Some(rest.len())
        }
    };
    Ok((body, end))
}

/// Any text as a configuration: never a panic, and every complaint says something.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let variable = |name: &str| (!name.is_empty()).then(|| name.to_ascii_lowercase());
    let source = || ConfigSource::Text { name: "fuzz", text };
    match (load(source(), &variable), load(source(), &variable)) {
        (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
        (Err(one), Err(other)) => {
            let text = one.to_string();
            assert!(!text.is_empty() && text == other.to_string());
        }
        _ => panic!("one text was taken once and refused once"),
    }
}
