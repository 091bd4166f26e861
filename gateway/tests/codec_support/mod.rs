//! Reads and writes heads the way a connection does, for the tests of the codec.

#![expect(
    clippy::expect_used,
    clippy::panic_in_result_fn,
    reason = "test helpers"
)]

use gateway::config::{PathPolicy, UnderscoreHeaders};
use gateway::data::codec::{
    Additions, Edits, Fields, ForwardRequest, HeadLimits, HeadScanner, Normalised, RequestHead,
    RequestRules, Scheme, TargetForm, check_query, normalise_path, parse_request,
    write_request_head,
};

/// The defaults of a listener.
pub(crate) const LIMITS: HeadLimits = HeadLimits {
    start_line_max: 8192,
    head_max: 65_536,
    fields_max: 128,
};

/// The defaults of a listener without TLS.
pub(crate) const RULES: RequestRules = RequestRules {
    fields_max: 128,
    underscore: UnderscoreHeaders::Drop,
    scheme: Scheme::Http,
    rewrite_host: false,
};

/// A request that was accepted.
pub(crate) struct Accepted {
    /// The head without empty lines before it.
    pub(crate) head: Vec<u8>,
    /// What was understood.
    pub(crate) request: RequestHead,
    /// Its fields.
    pub(crate) fields: Fields,
}

/// Reads one whole request head; the error is the name of the rule broken.
pub(crate) fn accept(bytes: impl AsRef<[u8]>) -> Result<Accepted, &'static str> {
    accept_under(bytes, &RULES)
}

/// Reads one whole request head under other rules.
pub(crate) fn accept_under(
    bytes: impl AsRef<[u8]>,
    rules: &RequestRules,
) -> Result<Accepted, &'static str> {
    let bytes = bytes.as_ref();
    let found = HeadScanner::for_request()
        .scan(bytes, &LIMITS)
        .map_err(|error| error.name())?;
    let range = found.ok_or("waits")?;
    let head = bytes
        .get(range)
        .expect("a range within the buffer")
        .to_vec();
    let mut fields = Fields::new();
    let request = parse_request(&head, rules, &mut fields).map_err(|error| error.name())?;
    Ok(Accepted {
        head,
        request,
        fields,
    })
}

/// The name of the rule that a request breaks.
pub(crate) fn refusal(bytes: impl AsRef<[u8]>) -> &'static str {
    accept(bytes).err().unwrap_or("accepted")
}

/// What is sent upstream for a request under the default policy, from a peer that is not trusted.
pub(crate) fn forward(bytes: impl AsRef<[u8]>) -> Result<String, &'static str> {
    let accepted = accept(bytes)?;
    Ok(forward_as(&accepted, &FORWARD)?.replace(OWN_FIELDS, ""))
}

/// What the gateway adds of its own under [`FORWARD`], without X-Forwarded-Host.
pub(crate) const OWN_FIELDS: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.test\r\nX-Request-Id: r1\r\n";

/// The decisions that [`forward`] takes.
pub(crate) const FORWARD: ForwardRequest<'static> = ForwardRequest {
    path: b"",
    host: b"a.test",
    client: b"192.0.2.7",
    forwarded: b"",
    trusted: false,
    scheme: Scheme::Http,
    request_id: b"r1",
    underscore: UnderscoreHeaders::Drop,
    trailers: false,
    te_trailers: false,
    upgrade: None,
    expect_continue: true,
    additions: Additions::NONE,
    via: None,
    edits: Edits::NONE,
};

/// What is sent upstream under these decisions (`path` is filled in).
pub(crate) fn forward_as(
    accepted: &Accepted,
    forward: &ForwardRequest<'_>,
) -> Result<String, &'static str> {
    let Accepted {
        head,
        request,
        fields,
    } = accepted;
    let mut path = Vec::new();
    if request.form != TargetForm::Asterisk {
        let query = request.query.unwrap_or_default();
        check_query(query.of(head), PathPolicy::Standard).map_err(|error| error.name())?;
        let done = normalise_path(request.path.of(head), PathPolicy::Standard, &mut path);
        if done.map_err(|error| error.name())? == Normalised::AsIs {
            path = request.path.of(head).to_vec();
        }
    }
    let forward = ForwardRequest {
        path: &path,
        ..*forward
    };
    let mut out = Vec::new();
    write_request_head(&mut out, head, request, fields, &forward);
    assert!(
        out.len() <= forward.size_max(head.len(), fields.len()),
        "more than its bound"
    );
    Ok(String::from_utf8(out).expect("an ASCII head"))
}
