//! When a request is sent again: `upstreams.NAME.retry`.

use std::time::Duration;

use super::key::{Key, Keys, Nested, OneOrMore, Optional};
use super::kind::{Integer, Percent, Text, Time};
use super::nearest::did_you_mean;
use super::section::Section;

/// `upstreams.NAME.retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// How often a request is sent again at most; not counted: once on a new connection, where a kept one had gone stale.
    pub attempts: u8,
    /// An endpoint that cannot be connected to sends the request, of which nothing was sent, to another.
    pub connect: bool,
    /// Again where the connection broke before the first byte of the response.
    pub reset: bool,
    /// Again where the response head was not there in time.
    pub timeout: bool,
    /// Again where the response has one of these statuses.
    pub statuses: Vec<u16>,
    /// How long the head of a response may take that can still be asked for again; `None`: `first_byte_timeout`.
    pub per_try_timeout: Option<Duration>,
    /// Requests sent again for each hundred requests.
    pub budget: u8,
    /// The file says something of it: then an endpoint may be asked again that is the only one.
    pub written: bool,
}

/// A cause of `on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Connect,
    Reset,
    Timeout,
    Status(u16),
}

pub(super) static RETRY: Nested = Nested {
    name: "retry",
    expects: "a table such as { attempts = 2, on = [\"connect\", \"503\"] }",
    absent: "its defaults",
    text: "When a request is sent again, see `upstreams.NAME.retry`.",
};

pub(super) static RETRY_KEYS: Keys = Keys {
    header: "upstreams.NAME.retry",
    text: "When a request is sent again, to another endpoint where there is one: `retry = { attempts = 2, on = [\"connect\", \"reset_before_response\", \"503\"] }`. Only what can be repeated is: a request of which nothing was sent yet, or one without a body whose method is idempotent (RFC 9110, 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT, DELETE); and never after the client got a byte of its final response. More in [upstreams.md](upstreams.md#retries).",
    rows: &[&ATTEMPTS, &ON, &PER_TRY_TIMEOUT, &BUDGET],
    unsupported: &["backoff", "methods", "hedge", "timeout"],
};

/// Most times that a request is sent again.
pub const RETRIES_MAX: usize = 5;

static ATTEMPTS: Key<Integer<u8>> = Key {
    name: "attempts",
    kind: Integer::new(0, RETRIES_MAX as u64),
    default: 1,
    text: "How often a request is sent again at most; 0 never. Not counted: the one new connection where a kept one had gone stale.",
};

/// Most causes.
const CAUSES_MAX: usize = 16;
const CAUSE_EXPECTS: &str =
    "\"connect\", \"reset_before_response\", \"timeout\" or a status from \"400\" to \"599\"";

static ON: OneOrMore<Text<Cause>> = OneOrMore {
    name: "on",
    item: Text {
        expects: CAUSE_EXPECTS,
        parse: parse_cause,
        show: |cause| match cause {
            Cause::Connect => "connect".to_owned(),
            Cause::Reset => "reset_before_response".to_owned(),
            Cause::Timeout => "timeout".to_owned(),
            Cause::Status(status) => status.to_string(),
        },
    },
    max: CAUSES_MAX,
    default: None,
    text: "What for: `connect` (refused or not in time; up to three endpoints are tried, and it costs no budget), `reset_before_response` (the connection broke before the first byte of the response), `timeout` (the response head was not there in time), or the response's status.",
};

static PER_TRY_TIMEOUT: Optional<Time> = Optional {
    name: "per_try_timeout",
    kind: Time {
        min: Duration::from_millis(1),
        max: Duration::from_secs(86_400),
    },
    absent: "that of `first_byte_timeout`",
    text: "How long the response head may take as long as the request can be sent once more; the last try has `first_byte_timeout`. All tries together have `routes.timeout`.",
};

static BUDGET: Key<Percent> = Key {
    name: "budget",
    kind: Percent { min: 0, max: 100 },
    default: 20,
    text: "Requests sent again for each hundred requests, on each worker, so that retries cannot become the load; up to 100 are saved up, and one in a second is free.",
};

fn parse_cause(text: &str) -> Result<Cause, String> {
    let status = text
        .parse()
        .ok()
        .filter(|status| (400..=599).contains(status));
    match (text, status) {
        ("connect", _) => Ok(Cause::Connect),
        ("reset_before_response", _) => Ok(Cause::Reset),
        ("timeout", _) => Ok(Cause::Timeout),
        (_, Some(status)) => Ok(Cause::Status(status)),
        _ => {
            let near = did_you_mean(text, ["connect", "reset_before_response", "timeout"]);
            Err(format!("`{text}` is not one of {CAUSE_EXPECTS}{near}"))
        }
    }
}

/// Reads `retry`, or what holds without it.
pub(super) fn read(upstream: &Section<'_>) -> RetryConfig {
    let section = upstream.table(&RETRY, &RETRY_KEYS);
    let causes = match section.has(ON.name) {
        true => section.one_or_more(&ON).unwrap_or_default(),
        false => Vec::new(),
    };
    let causes: Vec<Cause> = causes.into_iter().map(|cause| cause.value).collect();
    let absent = !section.has(ON.name);
    let status = |cause: &Cause| match cause {
        Cause::Status(status) => Some(*status),
        _ => None,
    };
    RetryConfig {
        attempts: section.get(&ATTEMPTS),
        connect: absent || causes.contains(&Cause::Connect),
        reset: absent || causes.contains(&Cause::Reset),
        timeout: causes.contains(&Cause::Timeout),
        statuses: causes.iter().filter_map(status).collect(),
        per_try_timeout: section.find(&PER_TRY_TIMEOUT).map(|time| time.value),
        budget: section.get(&BUDGET),
        written: upstream.has(RETRY.name),
    }
}
