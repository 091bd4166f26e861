//! How it is found out that an endpoint is not to get requests: `upstreams.NAME.health` asks it, `upstreams.NAME.outlier` goes
//! by what requests meet.

use std::num::NonZeroU32;
use std::time::Duration;

use super::key::{Key, Keys, List, Nested, OneOrMore, Optional};
use super::kind::{Integer, Percent, Text, Time};
use super::section::Section;

/// `upstreams.NAME.health`: a check of each endpoint, again and again.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// What is asked over HTTP; `None`: a connection is all that is asked for.
    pub http: Option<HttpCheck>,
    /// From one check to the next; up to a tenth less, by chance.
    pub interval: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// So many failed checks in a row, and the endpoint is out.
    pub unhealthy_after: NonZeroU32,
    /// So many passed checks in a row, and it is back.
    pub healthy_after: NonZeroU32,
}

/// A check over HTTP.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// The request's target.
    pub path: String,
    /// Its Host; `None`: the endpoint's address.
    pub host: Option<String>,
    /// Statuses that pass, as ranges with both ends.
    pub expect: Vec<(u16, u16)>,
}

/// `upstreams.NAME.outlier`: an endpoint that fails requests is left out for a time.
#[derive(Clone, Debug)]
pub struct OutlierConfig {
    /// So many failures in a row, on all workers together, and it is ejected.
    pub failures: NonZeroU32,
    /// Statuses that are failures too.
    pub statuses: Vec<u16>,
    /// How long at first; doubled each time in a row.
    pub eject_time: Duration,
    /// How long at most.
    pub max_eject_time: Duration,
    /// Share of the endpoints that may be ejected at once.
    pub max_ejected: u8,
}

pub(super) static HEALTH: Nested = Nested {
    name: "health",
    expects: "a table such as { path = \"/healthz\" }",
    absent: "no checks",
    text: "Checks of the endpoints by the control thread, see `upstreams.NAME.health`.",
};

pub(super) static HEALTH_KEYS: Keys = Keys {
    header: "upstreams.NAME.health",
    text: "Every endpoint is checked again and again, and gets no requests while it fails: `health = { path = \"/healthz\" }`; `health = {}` only connects. The first check decides at once. More in [upstreams.md](upstreams.md#checks).",
    rows: &[
        &PATH,
        &HOST,
        &EXPECT,
        &INTERVAL,
        &TIMEOUT,
        &UNHEALTHY_AFTER,
        &HEALTHY_AFTER,
    ],
    unsupported: &["port", "headers", "method", "body", "grpc"],
};

static PATH: Optional<Text<String>> = Optional {
    name: "path",
    kind: Text {
        expects: "a path such as \"/healthz\"",
        parse: parse_path,
        show: String::clone,
    },
    absent: "only a connection is made",
    text: "Target of a GET with `Connection: close`.",
};

static HOST: Optional<Text<String>> = Optional {
    name: "host",
    kind: Text {
        expects: "a host such as \"users.internal\"",
        parse: parse_host,
        show: String::clone,
    },
    absent: "the endpoint's address",
    text: "The Host field of the check.",
};

/// Most ranges of statuses, and most statuses of a list.
pub(super) const STATUSES_MAX: usize = 16;

static EXPECT: OneOrMore<Text<(u16, u16)>> = OneOrMore {
    name: "expect",
    item: Text {
        expects: "a status or range such as \"200\" or \"200-399\"",
        parse: parse_range,
        show: |(from, to)| format!("{from}-{to}"),
    },
    max: STATUSES_MAX,
    default: Some((200, 299)),
    text: "Statuses that pass.",
};

static INTERVAL: Key<Time> = Key {
    name: "interval",
    kind: Time {
        min: Duration::from_millis(50),
        max: Duration::from_secs(3600),
    },
    default: Duration::from_secs(5),
    text: "From one check of an endpoint to the next; up to a tenth less, by chance, so that gateways do not ask in step.",
};

static TIMEOUT: Key<Time> = Key {
    name: "timeout",
    kind: Time {
        min: Duration::from_millis(1),
        max: Duration::from_secs(600),
    },
    default: Duration::from_secs(1),
    text: "A check that takes longer has failed.",
};

static UNHEALTHY_AFTER: Key<Integer<NonZeroU32>> = Key {
    name: "unhealthy_after",
    kind: Integer::new(1, 100),
    default: NonZeroU32::new(2).unwrap(),
    text: "Failed checks in a row after which an endpoint gets no more requests.",
};

static HEALTHY_AFTER: Key<Integer<NonZeroU32>> = Key {
    name: "healthy_after",
    kind: Integer::new(1, 100),
    default: NonZeroU32::new(2).unwrap(),
    text: "Passed checks in a row after which it gets requests again.",
};

pub(super) static OUTLIER: Nested = Nested {
    name: "outlier",
    expects: "a table such as { failures = 5 }",
    absent: "no endpoint is ejected",
    text: "Leaves out endpoints that fail requests, see `upstreams.NAME.outlier`.",
};

pub(super) static OUTLIER_KEYS: Keys = Keys {
    header: "upstreams.NAME.outlier",
    text: "An endpoint that fails several requests in a row, counted over all workers, gets none for a time: `outlier = { failures = 5 }`. Failures are connections that are refused or time out, connections that break before the response is whole, responses that are late or are no HTTP, and the `statuses`. Not one: a kept connection that the endpoint had closed meanwhile.",
    rows: &[
        &FAILURES,
        &STATUSES,
        &EJECT_TIME,
        &MAX_EJECT_TIME,
        &MAX_EJECTED,
    ],
    unsupported: &[
        "success_rate",
        "failure_percentage",
        "consecutive_5xx",
        "interval",
    ],
};

static FAILURES: Key<Integer<NonZeroU32>> = Key {
    name: "failures",
    kind: Integer::new(1, 10_000),
    default: NonZeroU32::new(5).unwrap(),
    text: "Failures in a row after which an endpoint is ejected; any other response begins the count anew.",
};

static STATUSES: List<Integer<u16>> = List {
    name: "statuses",
    item: Integer::new(400, 599),
    text: "Responses with these statuses are failures too, at most 16; many take `[502, 503, 504]`.",
};

static EJECT_TIME: Key<Time> = Key {
    name: "eject_time",
    kind: EJECT_TIMES,
    default: Duration::from_secs(10),
    text: "How long an endpoint is left out at first; twice as long each time it comes in a row. It is back within 0.1 s after.",
};

static MAX_EJECT_TIME: Key<Time> = Key {
    name: "max_eject_time",
    kind: EJECT_TIMES,
    default: Duration::from_secs(300),
    text: "How long at most.",
};

const EJECT_TIMES: Time = Time {
    min: Duration::from_millis(100),
    max: Duration::from_secs(86_400),
};

static MAX_EJECTED: Key<Percent> = Key {
    name: "max_ejected",
    kind: Percent { min: 1, max: 100 },
    default: 50,
    text: "Share of the upstream's endpoints that may be ejected at once, rounded down; at least one of two or more, and never the only one.",
};

/// Reads `health`.
pub(super) fn read_health(upstream: &Section<'_>) -> Option<HealthConfig> {
    upstream.has(HEALTH.name).then(|| {
        let section = upstream.table(&HEALTH, &HEALTH_KEYS);
        let path = section.find(&PATH).map(|path| path.value);
        let host = section.find(&HOST).map(|host| host.value);
        let expect = section.one_or_more(&EXPECT).unwrap_or_default();
        if !section.has(PATH.name) {
            for name in [HOST.name, EXPECT.name] {
                if section.has(name) {
                    section.problem(name, "has no meaning without `path`");
                }
            }
        }
        HealthConfig {
            http: path.map(|path| HttpCheck {
                path,
                host,
                expect: expect.into_iter().map(|range| range.value).collect(),
            }),
            interval: section.get(&INTERVAL),
            timeout: section.get(&TIMEOUT),
            unhealthy_after: section.get(&UNHEALTHY_AFTER),
            healthy_after: section.get(&HEALTHY_AFTER),
        }
    })
}

/// Reads `outlier`.
pub(super) fn read_outlier(upstream: &Section<'_>) -> Option<OutlierConfig> {
    upstream.has(OUTLIER.name).then(|| {
        let section = upstream.table(&OUTLIER, &OUTLIER_KEYS);
        let statuses = section.list(&STATUSES);
        if statuses.len() > STATUSES_MAX {
            let message = format!("at most {STATUSES_MAX} statuses; found {}", statuses.len());
            section.problem(STATUSES.name, message);
        }
        let (eject_time, max_eject_time) = (section.get(&EJECT_TIME), section.get(&MAX_EJECT_TIME));
        if eject_time > max_eject_time {
            section.problem(MAX_EJECT_TIME.name, "is shorter than `eject_time`");
        }
        OutlierConfig {
            failures: section.get(&FAILURES),
            statuses: statuses.into_iter().map(|status| status.value).collect(),
            eject_time,
            max_eject_time,
            max_ejected: section.get(&MAX_EJECTED),
        }
    })
}

fn parse_path(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if text.starts_with('/') && text.len() <= 2048 && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a path: it begins with `/` and has no blanks; write one such as \"/healthz\""
        ))
    }
}

fn parse_host(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if (1..=255).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a host"))
    }
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        text.parse()
            .ok()
            .filter(|status| (100..=599).contains(status))
    };
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(format!(
            "`{text}` is not a status or range such as \"200\" or \"200-399\""
        )),
    }
}
