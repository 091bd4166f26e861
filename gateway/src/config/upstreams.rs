//! `[upstreams.NAME]`: where requests are forwarded to.

use std::num::NonZeroU32;
use std::time::Duration;

use super::address::{parse_endpoint, parse_name};
use super::balancing::{self, BALANCE, HASH_KEY};
use super::health::{self, HEALTH, OUTLIER};
use super::key::{Key, Keys, List, Nested, Optional, Required};
use super::kind::{Integer, Percent, Text, Time, Word};
use super::resolved::{
    EndpointAddress, EndpointConfig, ProxyProtocol, ResponseFault, ResponseFaults, UpstreamConfig,
};
use super::retry::{self, RETRY};
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[upstreams.NAME]",
    text: "Servers that requests are forwarded to; routes name them. More in [upstreams.md](upstreams.md).",
    rows: &[
        &ENDPOINTS,
        &BALANCE,
        &HASH_KEY,
        &HEALTH,
        &OUTLIER,
        &PANIC_THRESHOLD,
        &SLOW_START,
        &RETRY,
        &CONNECT_TIMEOUT,
        &FIRST_BYTE_TIMEOUT,
        &IDLE_TIMEOUT,
        &KEEPALIVE_TIMEOUT,
        &KEEPALIVE_MAX,
        &MAX_CONNECTIONS,
        &MAX_REQUESTS,
        &MAX_PENDING,
        &PENDING_TIMEOUT,
        &TOLERATE,
        &PROXY_PROTOCOL,
    ],
    unsupported: &["tls", "http2"],
};

pub(super) static ENDPOINT_KEYS: Keys = Keys {
    header: "upstreams.NAME.endpoints",
    text: "One server: `endpoints = [{ address = \"10.0.0.1:8000\" }]`.",
    rows: &[&ADDRESS, &WEIGHT, &PRIORITY],
    unsupported: &["drain", "tls"],
};

/// Most endpoints of an upstream.
const ENDPOINTS_MAX: usize = 1024;

const TIMEOUT: Time = Time {
    min: Duration::from_millis(1),
    max: Duration::from_secs(86_400),
};

static ENDPOINTS: Nested = Nested {
    name: "endpoints",
    expects: "an array of tables such as [{ address = \"10.0.0.1:8000\" }]",
    absent: "required",
    text: "The servers, 1 to 1024.",
};

static ADDRESS: Required<Text<EndpointAddress>> = Required {
    name: "address",
    kind: Text {
        expects: "ip:port, host:port, unix:/path or builtin:demo",
        parse: parse_endpoint,
        show: show_endpoint,
    },
    text: "Where it listens. A host name is resolved on the control thread, never by a worker. `builtin:demo` is an echo service inside the gateway.",
};

static WEIGHT: Key<Integer<NonZeroU32>> = Key {
    name: "weight",
    kind: Integer::new(1, 1000),
    default: NonZeroU32::MIN,
    text: "Share of the requests relative to the other endpoints.",
};

static PRIORITY: Key<Integer<u8>> = Key {
    name: "priority",
    kind: Integer::new(0, 9),
    default: 0,
    text: "Endpoints of a higher number get requests only while too few of each lower one are healthy, see `panic_threshold`: 0 first, 1 as its backup (what others call `backup`).",
};

static PANIC_THRESHOLD: Key<Percent> = Key {
    name: "panic_threshold",
    kind: Percent { min: 0, max: 100 },
    default: 50,
    text: "Share of the endpoints of a priority that must be healthy for it to be used. Where no priority has it, that with the largest share is used with all of its endpoints, since the rest would be overrun or the checks be wrong. With \"0%\" one healthy endpoint is enough, and without one requests get 503.",
};

static SLOW_START: Optional<Time> = Optional {
    name: "slow_start",
    kind: Time {
        min: Duration::from_millis(100),
        max: Duration::from_secs(3600),
    },
    absent: "all of its weight at once",
    text: "An endpoint that was out begins with a tenth of its weight and has all of it after this time.",
};

static CONNECT_TIMEOUT: Key<Time> = Key {
    name: "connect_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(1),
    text: "A connection must be established in this time.",
};

static FIRST_BYTE_TIMEOUT: Key<Time> = Key {
    name: "first_byte_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(60),
    text: "The whole response head must be there this long after the request was sent; else 504.",
};

static IDLE_TIMEOUT: Key<Time> = Key {
    name: "idle_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(300),
    text: "A response body may pause this long; long polls and event streams need minutes.",
};

static KEEPALIVE_TIMEOUT: Key<Time> = Key {
    name: "keepalive_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(30),
    text: "An unused pooled connection is closed after this time. Keep it below the server's own.",
};

static KEEPALIVE_MAX: Key<Integer<u32>> = Key {
    name: "keepalive_max",
    kind: Integer::new(0, 65_536),
    default: 128,
    text: "Idle connections kept per endpoint and worker, a file descriptor each; 0 keeps none. \
           At most the worker's share of `max_connections`.",
};

static MAX_CONNECTIONS: Key<Integer<NonZeroU32>> = Key {
    name: "max_connections",
    kind: Integer::new(1, 1_000_000),
    default: NonZeroU32::new(1024).unwrap(),
    text: "Connections at once to each endpoint, over all workers; at the cap a request waits, see `max_pending`, or gets 503.",
};

static MAX_REQUESTS: Optional<Integer<NonZeroU32>> = Optional {
    name: "max_requests",
    kind: Integer::new(1, 1_000_000),
    absent: "as many as connections",
    text: "Requests in flight at once to each endpoint, over all workers, those that connect included; at the cap as for `max_connections`. One shared word per endpoint, as for `balance = \"least_request\"`.",
};

static MAX_PENDING: Key<Integer<u32>> = Key {
    name: "max_pending",
    kind: Integer::new(0, 65_536),
    default: 0,
    text: "Requests that may wait at once, over all workers, while every endpoint has `max_connections` or `max_requests`: the oldest of all gets the next place. More get 503 with Retry-After. With 0 none waits.",
};

static PENDING_TIMEOUT: Key<Time> = Key {
    name: "pending_timeout",
    kind: Time {
        min: Duration::from_millis(1),
        max: Duration::from_secs(600),
    },
    default: Duration::from_secs(1),
    text: "Who has waited so long gets 503.",
};

static TOLERATE: List<Word<ResponseFault>> = List {
    name: "tolerate",
    item: Word {
        words: &[
            (
                ResponseFault::DuplicateContentLength.name(),
                ResponseFault::DuplicateContentLength,
            ),
            (
                ResponseFault::LengthAndEncoding.name(),
                ResponseFault::LengthAndEncoding,
            ),
            (
                ResponseFault::EncodingInHttp10.name(),
                ResponseFault::EncodingInHttp10,
            ),
            (
                ResponseFault::BlankBeforeColon.name(),
                ResponseFault::BlankBeforeColon,
            ),
        ],
    },
    text: "Faults of this server's responses that are mended and counted in place of 502, for a server that cannot be mended.",
};

static PROXY_PROTOCOL: Key<Word<ProxyProtocol>> = Key {
    name: "proxy_protocol",
    kind: Word {
        words: &[
            ("off", ProxyProtocol::Off),
            ("v1", ProxyProtocol::V1),
            ("v2", ProxyProtocol::V2),
        ],
    },
    default: ProxyProtocol::Off,
    text: "Begin each connection with a header of the PROXY protocol that names the client. Such a connection belongs to one client, so that each request makes a new one and nothing is pooled.",
};

/// Reads every upstream, in the order of the file.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<UpstreamConfig> {
    sections
        .into_iter()
        .map(|(name, section)| read_one(name, &section))
        .collect()
}

fn read_one(name: Located<String>, section: &Section<'_>) -> UpstreamConfig {
    if let Err(message) = parse_name(&name.value) {
        section.reader().problem(name.at, "upstreams", message);
    }
    let (health, outlier) = (health::read_health(section), health::read_outlier(section));
    let slow_start = section.find(&SLOW_START).map(|time| time.value);
    if health.is_none() && outlier.is_none() && section.has(SLOW_START.name) {
        section.problem(
            SLOW_START.name,
            "has no meaning without `health` or `outlier`",
        );
    }
    UpstreamConfig {
        name: name.value,
        endpoints: read_endpoints(section),
        balance: balancing::read(section),
        health,
        outlier,
        slow_start,
        retry: retry::read(section),
        panic_threshold: section.get(&PANIC_THRESHOLD),
        connect_timeout: section.get(&CONNECT_TIMEOUT),
        first_byte_timeout: section.get(&FIRST_BYTE_TIMEOUT),
        idle_timeout: section.get(&IDLE_TIMEOUT),
        keepalive_timeout: section.get(&KEEPALIVE_TIMEOUT),
        keepalive_max: section.get(&KEEPALIVE_MAX),
        max_connections: section.get(&MAX_CONNECTIONS),
        max_requests: section.find(&MAX_REQUESTS).map(|requests| requests.value),
        max_pending: section.get(&MAX_PENDING),
        pending_timeout: section.get(&PENDING_TIMEOUT),
        tolerate: {
            let mut faults = ResponseFaults::NONE;
            for fault in section.list(&TOLERATE) {
                faults.insert(fault.value);
            }
            faults
        },
        proxy_protocol: section.get(&PROXY_PROTOCOL),
    }
}

fn read_endpoints(upstream: &Section<'_>) -> Vec<EndpointConfig> {
    let sections = upstream.tables(&ENDPOINTS, &ENDPOINT_KEYS);
    if !upstream.has(ENDPOINTS.name) {
        upstream.problem(
            ENDPOINTS.name,
            format!("missing; expected {}", ENDPOINTS.expects),
        );
    } else if upstream.is_empty_array(ENDPOINTS.name) {
        upstream.problem(ENDPOINTS.name, "an upstream needs at least one endpoint");
    } else if sections.len() > ENDPOINTS_MAX {
        let found = sections.len();
        let message = format!("an upstream has at most {ENDPOINTS_MAX} endpoints; found {found}");
        upstream.problem(ENDPOINTS.name, message);
    }
    let mut endpoints: Vec<EndpointConfig> = Vec::new();
    for section in sections {
        let (weight, priority) = (section.get(&WEIGHT), section.get(&PRIORITY));
        let Some(address) = section.require(&ADDRESS) else {
            continue;
        };
        if endpoints.iter().any(|other| other.address == address.value) {
            let shown = address.map(|address| show_endpoint(&address)).shown();
            section.problem(
                ADDRESS.name,
                format!("{shown} is there twice; use `weight` for a larger share"),
            );
            continue;
        }
        endpoints.push(EndpointConfig {
            address: address.value,
            weight,
            priority,
        });
    }
    endpoints
}

fn show_endpoint(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Unix(path) => format!("unix:{}", path.display()),
        EndpointAddress::Host(host, port) => format!("{host}:{port}"),
        EndpointAddress::Demo => "builtin:demo".into(),
    }
}
