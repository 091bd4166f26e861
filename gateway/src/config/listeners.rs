//! `[[listeners]]`: addresses, and the bounds that hold for every client of one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::address::{overlap, parse_listen, parse_name};
use super::error_bodies;
use super::key::{Key, Keys, List, Optional, Required};
use super::kind::{Flag, Integer, Or, Size, Speed, Text, Time, Word, shown};
use super::resolved::{
    HostPattern, ListenerConfig, PathPolicy, ProxyProtocol, Steer, UnderscoreHeaders,
};
use super::routes::place::HOST_KIND;
use super::routes::resolve;
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[[listeners]]",
    text: "Addresses that clients connect to, and what they may do there. At least one.",
    rows: &[
        &NAME,
        &ADDRESS,
        &PROXY_PROTOCOL,
        &HEADER_TIMEOUT,
        &IDLE_TIMEOUT,
        &BODY_TIMEOUT,
        &WRITE_TIMEOUT,
        &MIN_BODY_RATE,
        &MIN_WRITE_RATE,
        &MAX_CONNECTIONS,
        &MAX_CONNECTIONS_PER_CLIENT,
        &HOSTS,
        &BAN,
        &error_bodies::NAME,
        &STEER,
        &PATH_POLICY,
        &UNDERSCORE_HEADERS,
        &REQUEST_LINE_MAX,
        &HEAD_MAX,
        &FIELDS_MAX,
        &ABORT_ON_CLIENT_FIN,
        &HOST_MISMATCH,
        &COUNT_ONLY,
        &VIA,
    ],
    unsupported: &["tls", "http2", "http3", "protocols", "backlog"],
};

/// Most hosts of a listener.
const HOSTS_MAX: usize = 256;

const TIMEOUT: Time = Time {
    min: Duration::from_millis(1),
    max: Duration::from_secs(86_400),
};
const SPEED: Or<Speed> = Or {
    word: "off",
    kind: Speed {
        min: 1,
        max: 1 << 30,
    },
};

static NAME: Required<Text<String>> = Required {
    name: "name",
    kind: Text {
        expects: "a name",
        parse: parse_name,
        show: String::clone,
    },
    text: "Unique name, for logs and metrics.",
};

static ADDRESS: Required<Text<SocketAddr>> = Required {
    name: "address",
    kind: Text {
        expects: "an IP address and port such as \"0.0.0.0:8080\"",
        parse: parse_listen,
        show: shown,
    },
    text: "Where to listen. Port 0 asks the kernel for a free one.",
};

pub(super) static PROXY_PROTOCOL: Key<Word<ProxyProtocol>> = Key {
    name: "proxy_protocol",
    kind: Word {
        words: &[
            ("off", ProxyProtocol::Off),
            ("v1", ProxyProtocol::V1),
            ("v2", ProxyProtocol::V2),
            ("any", ProxyProtocol::Any),
        ],
    },
    default: ProxyProtocol::Off,
    text: "Every connection must begin with a header of the PROXY protocol, and come from `client_ip.trusted_proxies`; others are closed. Who it names is the client, or, if trusted too, a proxy whose header is asked in turn; where it names nobody the peer is the client. `off`: such a header is a bad request.",
};

static HEADER_TIMEOUT: Key<Time> = Key {
    name: "header_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(10),
    text: "A request head must be complete this long after its first byte, and a new connection must send a byte in this time; else 408.",
};

static IDLE_TIMEOUT: Key<Time> = Key {
    name: "idle_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(60),
    text: "A kept connection is closed after this long without a request.",
};

static BODY_TIMEOUT: Key<Time> = Key {
    name: "body_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(30),
    text: "A request body may pause this long; else 408.",
};

static WRITE_TIMEOUT: Key<Time> = Key {
    name: "write_timeout",
    kind: TIMEOUT,
    default: Duration::from_secs(30),
    text: "A client may take nothing of its response for this long; then its connection is reset.",
};

static MIN_BODY_RATE: Key<Or<Speed>> = Key {
    name: "min_body_rate",
    kind: SPEED,
    default: Some(256),
    text: "Slowest request body, counted only while the gateway waits for the client.",
};

static MIN_WRITE_RATE: Key<Or<Speed>> = Key {
    name: "min_write_rate",
    kind: SPEED,
    default: Some(256),
    text: "Slowest reading of a response, counted only while a write is blocked; an event stream that is merely quiet is not slow.",
};

static MAX_CONNECTIONS: Key<Integer<NonZeroU32>> = Key {
    name: "max_connections",
    kind: Integer::new(1, 10_000_000),
    default: NonZeroU32::new(20_000).unwrap(),
    text: "Connections at once, over all workers; further ones are closed. Each takes a file descriptor, and buffers only while a request is under way.",
};

static MAX_CONNECTIONS_PER_CLIENT: Key<Or<Integer<NonZeroU32>>> = Key {
    name: "max_connections_per_client",
    kind: Or {
        word: "unlimited",
        kind: Integer::new(1, 10_000_000),
    },
    default: None,
    text: "Connections at once from one address, over all workers. It is that of the peer, before any proxy is believed: behind proxies leave it out.",
};

static STEER: Key<Word<Steer>> = Key {
    name: "steer",
    kind: Word {
        words: &[
            ("hash", Steer::Hash),
            ("source_ip", Steer::SourceIp),
            ("cpu", Steer::Cpu),
        ],
    },
    default: Steer::Hash,
    text: "Which worker gets a new connection: by the kernel's hash, by source address (puts a load balancer's whole traffic on one core), or by the core that received the packet. See [limits](limits.md#steering).",
};

static PATH_POLICY: Key<Word<PathPolicy>> = Key {
    name: "path_policy",
    kind: Word {
        words: &[
            ("standard", PathPolicy::Standard),
            ("strict", PathPolicy::Strict),
        ],
    },
    default: PathPolicy::Standard,
    text: "`standard` takes what real applications send. `strict` answers 400 to encoded slashes, double encoding and `//`.",
};

static UNDERSCORE_HEADERS: Key<Word<UnderscoreHeaders>> = Key {
    name: "underscore_headers",
    kind: Word {
        words: &[
            ("drop", UnderscoreHeaders::Drop),
            ("reject", UnderscoreHeaders::Reject),
            ("allow", UnderscoreHeaders::Allow),
        ],
    },
    default: UnderscoreHeaders::Drop,
    text: "Header names with `_`, which many applications take for `-`: not forwarded, refused with 400, or forwarded.",
};

static REQUEST_LINE_MAX: Key<Size<u32>> = Key {
    name: "request_line_max",
    kind: Size::new(64, 1 << 20),
    default: 8 << 10,
    text: "Longest request line; longer: 414. Not above `head_max`.",
};

static HEAD_MAX: Key<Size<u32>> = Key {
    name: "head_max",
    kind: Size::new(128, 1 << 20),
    default: 64 << 10,
    text: "Longest request head; longer: 431. A connection that sends one buffers at most this much.",
};

static FIELDS_MAX: Key<Integer<u16>> = Key {
    name: "fields_max",
    kind: Integer::new(1, 1024),
    default: 128,
    text: "Most header fields in a request; more: 431.",
};

static HOSTS: List<Text<HostPattern>> = List {
    name: "hosts",
    item: HOST_KIND,
    text: "Hosts that are served here, at most 256, without port; `*.example.com` holds every name below. Others, and requests without Host, get 421. Empty: every host.",
};

static BAN: Optional<Text<String>> = Optional {
    name: "ban",
    kind: Text {
        expects: "the name of a ban",
        parse: parse_name,
        show: String::clone,
    },
    absent: "no penalty",
    text: "The penalty for clients that are refused again and again, see `[bans.NAME]`. Costs a look-up for each request.",
};

static ABORT_ON_CLIENT_FIN: Key<Flag> = Key {
    name: "abort_on_client_fin",
    kind: Flag,
    default: false,
    text: "End a request when its client closes its sending side. Off: a half-closed client still gets its answer.",
};

static HOST_MISMATCH: Key<Word<bool>> = Key {
    name: "host_mismatch",
    kind: Word {
        words: &[("reject", false), ("rewrite", true)],
    },
    default: false,
    text: "A request whose target names another authority than its Host: 400, or served as the target says, with Host rewritten to it.",
};

/// Rules that two servers cannot disagree on in a way that moves the end of a message; never one of those that frame.
static COUNT_ONLY: List<Word<&'static str>> = List {
    name: "count_only",
    item: Word {
        words: &[
            ("path_encoded_slash", "path_encoded_slash"),
            ("path_double_encoding", "path_double_encoding"),
            ("path_encoded_control", "path_encoded_control"),
            ("path_empty_segment", "path_empty_segment"),
            ("path_ambiguous", "path_ambiguous"),
            ("query_octet", "query_octet"),
            ("field_underscore", "field_underscore"),
            ("host_unlisted", "host_unlisted"),
        ],
    },
    text: "Rules of `path_policy = \"strict\"`, `underscore_headers = \"reject\"` and `hosts` that refuse nothing yet: what breaks them is counted and served as without them. For a look at what would be refused.",
};

static VIA: Optional<Text<String>> = Optional {
    name: "via",
    kind: Text {
        expects: "a name such as \"edge\"",
        parse: parse_name,
        show: String::clone,
    },
    absent: "no `Via`",
    text: "Add `Via: 1.1 NAME` to requests and responses.",
};

/// The names that listeners refer to, with their indices.
pub(super) struct Names<'a> {
    /// Penalties.
    pub bans: BTreeMap<&'a str, usize>,
    /// What refusals say.
    pub error_bodies: BTreeMap<&'a str, usize>,
}

/// Why two addresses that [`overlap`] are one.
pub(super) fn held(one: SocketAddr, other: SocketAddr) -> &'static str {
    match one.is_ipv6() == other.is_ipv6() {
        true => "the wildcard is every address of its port",
        false => "`[::]` takes IPv4, too",
    }
}

/// Reads every listener with the place of its address; notes names and addresses that come twice.
///
/// A missing name or address is kept as a placeholder; its problem was noted, and a reading with problems is never used.
pub(super) fn read(sections: &[Section<'_>], names: &Names<'_>) -> Vec<Located<ListenerConfig>> {
    let mut listeners: Vec<Located<ListenerConfig>> = Vec::new();
    for section in sections {
        let name = section.require(&NAME);
        let address = section.require(&ADDRESS);
        if let Some(name) = &name
            && listeners.iter().any(|other| other.value.name == name.value)
        {
            section.problem(
                NAME.name,
                format!("another listener is named {} too", name.shown()),
            );
        }
        if let Some(address) = &address
            && let Some(other) = listeners
                .iter()
                .find(|other| overlap(other.value.address, address.value))
        {
            let other = other.value.address;
            let message = match other == address.value {
                true => format!("{} is the address of another listener too", address.shown()),
                false => {
                    let (shown, held) = (address.shown(), held(address.value, other));
                    format!("{shown} and `{other}` of another listener cannot both be had: {held}")
                }
            };
            section.problem(ADDRESS.name, message);
        }
        let name = name.map_or_else(String::new, |name| name.value);
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = address.unwrap_or(Located {
            value: unspecified,
            at: 0,
            secret: false,
        });
        listeners.push(address.map(|address| read_one(section, name, address, names)));
    }
    listeners
}

fn read_one(
    section: &Section<'_>,
    name: String,
    address: SocketAddr,
    names: &Names<'_>,
) -> ListenerConfig {
    let (request_line_max, head_max) = (section.get(&REQUEST_LINE_MAX), section.get(&HEAD_MAX));
    if request_line_max > head_max {
        let written = if section.has(HEAD_MAX.name) {
            &HEAD_MAX
        } else {
            &REQUEST_LINE_MAX
        };
        section.problem(
            written.name,
            "`head_max` must be at least `request_line_max`, which it includes",
        );
    }
    ListenerConfig {
        name,
        address,
        proxy_protocol: section.get(&PROXY_PROTOCOL),
        header_timeout: section.get(&HEADER_TIMEOUT),
        idle_timeout: section.get(&IDLE_TIMEOUT),
        body_timeout: section.get(&BODY_TIMEOUT),
        write_timeout: section.get(&WRITE_TIMEOUT),
        // A resolved speed of 0 is no bound.
        min_body_rate: section.get(&MIN_BODY_RATE).unwrap_or(0),
        min_write_rate: section.get(&MIN_WRITE_RATE).unwrap_or(0),
        max_connections: section.get(&MAX_CONNECTIONS),
        max_connections_per_client: section.get(&MAX_CONNECTIONS_PER_CLIENT),
        hosts: read_hosts(section),
        ban: section
            .find(&BAN)
            .and_then(|name| resolve(section, BAN.name, "ban", &name, &names.bans)),
        error_bodies: section.find(&error_bodies::NAME).and_then(|name| {
            let (key, known) = (error_bodies::NAME.name, &names.error_bodies);
            resolve(section, key, "set of error bodies", &name, known)
        }),
        steer: section.get(&STEER),
        path_policy: section.get(&PATH_POLICY),
        underscore_headers: section.get(&UNDERSCORE_HEADERS),
        request_line_max,
        head_max,
        fields_max: section.get(&FIELDS_MAX),
        abort_on_client_fin: section.get(&ABORT_ON_CLIENT_FIN),
        rewrite_host: section.get(&HOST_MISMATCH),
        count_only: read_count_only(section),
        via: section.find(&VIA).map(|name| name.value),
    }
}

fn read_hosts(section: &Section<'_>) -> Vec<HostPattern> {
    if section.is_empty_array(HOSTS.name) {
        let message = "an empty array; for every host leave the key out";
        section.problem(HOSTS.name, message);
    }
    let list = section.list(&HOSTS);
    if list.len() > HOSTS_MAX {
        let message = format!("at most {HOSTS_MAX}; found {}", list.len());
        section.problem(HOSTS.name, message);
    }
    list.into_iter().map(|host| host.value).collect()
}

/// The rules that are counted only; notes those that are not in force, since nothing would be counted.
fn read_count_only(section: &Section<'_>) -> Vec<&'static str> {
    let strict = section.get(&PATH_POLICY) == PathPolicy::Strict;
    let rejects = section.get(&UNDERSCORE_HEADERS) == UnderscoreHeaders::Reject;
    let mut rules = Vec::new();
    for rule in section.list(&COUNT_ONLY) {
        let (needs, holds) = match rule.value {
            "field_underscore" => ("underscore_headers = \"reject\"", rejects),
            "host_unlisted" => ("hosts", section.has(HOSTS.name)),
            _ => ("path_policy = \"strict\"", strict),
        };
        if !holds {
            let message = format!("{} counts nothing without `{needs}`", rule.shown());
            section.problem_at(rule.at, COUNT_ONLY.name, message);
        }
        rules.push(rule.value);
    }
    rules
}
