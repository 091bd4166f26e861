//! `[admin]`, `[log.access]` and `[client_ip]`: what the gateway shows of itself and of its clients.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::address::parse_listen;
use super::error::Problem;
use super::key::{Key, Keys, List, Nested};
use super::kind::{Integer, Or, Text, Word, shown};
use super::limit_key::network;
use super::matching::CLIENT_NETWORKS_MAX;
use super::resolved::{
    AccessLogConfig, AdminConfig, ClientHeader, ClientIpConfig, LogFormat, LogSink,
};
use super::section::Section;

pub(super) static ADMIN_KEYS: Keys = Keys {
    header: "[admin]",
    text: "Where `/metrics`, `/healthz`, `/readyz`, `/upstreams` and `/top` are served.",
    rows: &[&LISTEN],
    unsupported: &["tls", "token", "token_file", "auth", "allow"],
};

pub(super) static LISTEN: Key<Or<Text<SocketAddr>>> = Key {
    name: "listen",
    kind: Or {
        word: "off",
        kind: Text {
            expects: "an IP address and port",
            parse: parse_listen,
            show: shown,
        },
    },
    default: Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9400))),
    text: "Address of the admin endpoints, served by the control thread. They ask for no password: keep them on loopback.",
};

pub(super) static LOG_KEYS: Keys = Keys {
    header: "[log]",
    text: "Logs.",
    rows: &[&ACCESS],
    unsupported: &["error", "level", "format"],
};

pub(super) static ACCESS: Nested = Nested {
    name: "access",
    expects: "a table",
    absent: "its defaults",
    text: "The access log, see `[log.access]`.",
};

pub(super) static ACCESS_KEYS: Keys = Keys {
    header: "[log.access]",
    text: "One record a request, written by a thread of its own; a full queue or disk costs records, never requests.",
    rows: &[&PATH, &FORMAT],
    unsupported: &["fields", "filters", "sampling", "redact", "drop", "slow"],
};

static PATH: Key<Text<LogSink>> = Key {
    name: "path",
    kind: Text {
        expects: "\"stdout\", \"off\" or a file's path",
        parse: parse_sink,
        show: show_sink,
    },
    default: LogSink::Stdout,
    text: "Where records go. A file is appended to, and opened again on USR1. `off`: workers make no records.",
};

static FORMAT: Key<Word<LogFormat>> = Key {
    name: "format",
    kind: Word {
        words: &[
            ("json", LogFormat::Json),
            ("combined", LogFormat::Combined),
            ("common", LogFormat::Common),
        ],
    },
    default: LogFormat::Json,
    text: "How a record is written: JSON with OpenTelemetry's names, or a line as Apache and nginx write it, with `-` for what is not known and `\\xHH` for what is not printable. Of what could not be read as a request its `\"-\"` is all.",
};

pub(super) static CLIENT_IP_KEYS: Keys = Keys {
    header: "[client_ip]",
    text: "Who a client is, for limits, logs, routes by network, and the upstream.",
    rows: &[&TRUSTED_PROXIES, &HEADER, &IPV6_PREFIX],
    unsupported: &["depth", "hops", "recursive"],
};

pub(super) static TRUSTED_PROXIES: List<Text<IpNet>> = List {
    name: "trusted_proxies",
    item: Text {
        expects: "an address or network such as \"10.0.0.0/8\"",
        parse: network,
        show: IpNet::to_string,
    },
    text: "Peers that are believed about who their clients are, at most 1024. From others what `header` names, X-Forwarded-Proto and X-Forwarded-Host are replaced.",
};

static HEADER: Key<Word<ClientHeader>> = Key {
    name: "header",
    kind: Word {
        words: &[
            ("x-forwarded-for", ClientHeader::XForwardedFor),
            ("forwarded", ClientHeader::Forwarded),
            ("off", ClientHeader::Off),
        ],
    },
    default: ClientHeader::XForwardedFor,
    text: "Where trusted proxies say it: read from the right, past addresses that are trusted themselves, to the first that is not; what is left of that is dropped. The last 32 are looked at. `forwarded`: RFC 7239, and such a field is sent on as well. `off`: only the PROXY protocol is believed.",
};

static IPV6_PREFIX: Key<Integer<u8>> = Key {
    name: "ipv6_prefix",
    kind: Integer::new(1, 128),
    default: 64,
    text: "IPv6 addresses that share this many leading bits are one client, since a subscriber gets a whole /64 or more.",
};

/// Reads `[admin]`; `None`: switched off.
pub(super) fn read_admin(section: &Section<'_>) -> Option<AdminConfig> {
    section.get(&LISTEN).map(|listen| AdminConfig { listen })
}

/// Reads `[log.access]`.
pub(super) fn read_access_log(log: &Section<'_>) -> AccessLogConfig {
    let section = log.table(&ACCESS, &ACCESS_KEYS);
    section.warn_near(PATH.name, &["stdout", "off"]);
    AccessLogConfig {
        sink: section.get(&PATH),
        position: section.position(PATH.name),
        format: section.get(&FORMAT),
    }
}

impl AccessLogConfig {
    /// What keeps the log from being opened on this machine as far as can be seen without opening it; for who checks a
    /// configuration, perhaps elsewhere than where it is served. The path is in no message, since it may be of the environment.
    #[must_use]
    pub fn doubt(&self) -> Option<Problem> {
        let LogSink::File(path) = &self.sink else {
            return None;
        };
        let parent = path.parent().filter(|each| !each.as_os_str().is_empty());
        let found = std::fs::metadata(parent.unwrap_or_else(|| Path::new(".")));
        let problem = match found {
            Ok(folder) if !folder.is_dir() => "what should be its folder is a file".to_owned(),
            Ok(_) if path.is_dir() => "it is a folder".to_owned(),
            Ok(_) => return None,
            Err(error) => format!("its folder cannot be used: {error}"),
        };
        Some(Problem {
            position: self.position,
            key: "log.access.path".into(),
            message: format!("{problem}; the gateway makes no folder, and would not start here"),
        })
    }
}

/// Reads `[client_ip]`.
pub(super) fn read_client_ip(section: &Section<'_>) -> ClientIpConfig {
    ClientIpConfig {
        ipv6_prefix: section.get(&IPV6_PREFIX),
        trusted_proxies: super::conditions::values(
            section,
            TRUSTED_PROXIES.name,
            CLIENT_NETWORKS_MAX,
            section.list(&TRUSTED_PROXIES),
        ),
        header: section.get(&HEADER),
    }
}

fn parse_sink(text: &str) -> Result<LogSink, String> {
    match text {
        "stdout" => Ok(LogSink::Stdout),
        "off" => Ok(LogSink::Off),
        "" => Err("an empty path; write \"stdout\", \"off\" or a file's path".into()),
        "stderr" | "-" => Err(format!(
            "`{text}` is not supported; write \"stdout\" or a file's path"
        )),
        _ if text.contains('\0') => Err("a path cannot hold NUL".into()),
        _ => Ok(LogSink::File(PathBuf::from(text))),
    }
}

fn show_sink(sink: &LogSink) -> String {
    match sink {
        LogSink::Off => "off".into(),
        LogSink::Stdout => "stdout".into(),
        LogSink::File(path) => path.display().to_string(),
    }
}
