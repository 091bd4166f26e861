//! A record as a line: JSON, or the common and combined formats of Apache and nginx.
//!
//! Texts in a record may be any bytes. In JSON, what is not UTF-8 becomes U+FFFD and control characters are escaped;
//! in the other formats everything but printable ASCII, and `"` and `\`, becomes `\xHH` as nginx writes it. So a
//! client can neither start a line nor leave its field.

use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::LogFormat;
use crate::telemetry::names::field;
use crate::telemetry::{AccessRecord, Labels, RecordAddress, time};

/// Appends the record and a newline. `worker` made the record; `labels` name its indices.
pub(super) fn line(
    format: LogFormat,
    record: &AccessRecord<'_>,
    worker: usize,
    labels: &Labels,
    out: &mut Vec<u8>,
) {
    match format {
        LogFormat::Json => json(record, worker, labels, out),
        LogFormat::Common => common(record, out),
        LogFormat::Combined => {
            common(record, out);
            for text in [record.referer, record.user_agent] {
                out.extend_from_slice(b" \"");
                if text.is_empty() {
                    out.push(b'-');
                }
                escape_printable(text, out);
                out.push(b'"');
            }
        }
    }
    out.push(b'\n');
}

fn json(record: &AccessRecord<'_>, worker: usize, labels: &Labels, out: &mut Vec<u8>) {
    let mut object = Object { out };
    object.begin(field::TIMESTAMP);
    object.out.push(b'"');
    time::rfc3339(record.unix_us, object.out);
    object.out.push(b'"');
    object.text(field::METHOD, record.method);
    object.text(field::SCHEME, record.scheme.name().as_bytes());
    object.text(field::PATH, record.path);
    if let Some(query) = record.query {
        object.text(field::QUERY, query);
    }
    object.label(field::ROUTE, &labels.routes, record.route);
    if record.status != 0 {
        object.number(field::STATUS, record.status);
    }
    object.number(field::REQUEST_BODY_BYTES, record.request_body_bytes);
    object.number(field::RESPONSE_BODY_BYTES, record.response_body_bytes);
    object.text(field::VERSION, record.version.name().as_bytes());
    if let Some(client) = record.client {
        object.display(field::CLIENT_ADDRESS, client);
    }
    if let Some(peer) = record.peer {
        object.display(field::PEER_ADDRESS, peer.ip());
        object.number(field::PEER_PORT, peer.port());
    }
    let (host, port) = split_host(record.host);
    object.text_unless_empty(field::SERVER_ADDRESS, host);
    if let Some(port) = port {
        object.number(field::SERVER_PORT, port);
    }
    object.text_unless_empty(field::USER_AGENT, record.user_agent);
    object.text_unless_empty(field::REFERER, record.referer);
    object.text_unless_empty(field::REQUEST_ID, record.request_id);
    object.text_unless_empty(field::ERROR_TYPE, record.error_type.as_bytes());
    if record.retries > 0 {
        object.number(field::RESEND_COUNT, record.retries);
    }
    object.text_unless_empty(field::CONSUMER, record.consumer);
    object.label(field::LISTENER, &labels.listeners, Some(record.listener));
    object.label(field::UPSTREAM, &labels.upstreams, record.upstream);
    match record.upstream_address {
        RecordAddress::None => {}
        RecordAddress::Socket(address) => object.display(field::UPSTREAM_ADDRESS, address),
        RecordAddress::Unix(path) => object.text(field::UPSTREAM_ADDRESS, path),
    }
    object.micros(field::DURATION_US, Some(record.duration));
    object.micros(field::CONNECT_US, record.connect);
    object.micros(field::FIRST_BYTE_US, record.first_byte);
    if let Some((limit, outcome)) = record.limit {
        object.label(field::LIMIT_NAME, &labels.limits, Some(limit));
        object.text(field::LIMIT_OUTCOME, outcome.name().as_bytes());
    }
    object.number(field::WORKER, worker);
    object.text(field::END, record.end.name().as_bytes());
    out.push(b'}');
}

/// `client - consumer [time] "METHOD target HTTP/version" status bytes`
fn common(record: &AccessRecord<'_>, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    match record
        .client
        .or_else(|| record.peer.as_ref().map(SocketAddr::ip))
    {
        Some(client) => drop(write!(out, "{client}")),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" - ");
    match record.consumer {
        b"" => out.push(b'-'),
        consumer => escape_printable(consumer, out),
    }
    out.extend_from_slice(b" [");
    time::common(record.unix_us, out);
    out.extend_from_slice(b"] \"");
    escape_printable(record.method, out);
    out.push(b' ');
    escape_printable(record.path, out);
    if let Some(query) = record.query {
        out.push(b'?');
        escape_printable(query, out);
    }
    drop(write!(out, " HTTP/{}\" ", record.version.name()));
    match record.status {
        0 => out.push(b'-'),
        status => drop(write!(out, "{status}")),
    }
    drop(write!(out, " {}", record.response_body_bytes));
}

fn escape_printable(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..b' ' | 0x7f.. => drop(write!(out, "\\x{byte:02X}")),
            byte => out.push(*byte),
        }
    }
}

/// A JSON object as it grows. Field names come from `names::field` and need no escape.
struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl Object<'_> {
    fn begin(&mut self, name: &str) {
        // The timestamp is always there and first.
        self.out.extend_from_slice(if name == field::TIMESTAMP {
            b"{\""
        } else {
            b",\""
        });
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn number(&mut self, name: &str, number: impl Display) {
        self.begin(name);
        drop(write!(self.out, "{number}"));
    }

    fn micros(&mut self, name: &str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.number(name, duration.as_micros());
        }
    }

    /// A value whose text needs no escape.
    fn display(&mut self, name: &str, value: impl Display) {
        self.begin(name);
        drop(write!(self.out, "\"{value}\""));
    }

    fn label(&mut self, name: &str, labels: &[String], index: Option<u16>) {
        if let Some(label) = index.and_then(|index| labels.get(usize::from(index))) {
            self.text(name, label.as_bytes());
        }
    }

    fn text_unless_empty(&mut self, name: &str, text: &[u8]) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        self.begin(name);
        self.out.push(b'"');
        for chunk in text.utf8_chunks() {
            self.escape(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        self.out.push(b'"');
    }

    /// RFC 8259 section 7; DEL is escaped too, for the sake of terminals.
    fn escape(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ' | 0x7f);
        while let Some(at) = rest.iter().position(special) {
            let (plain, tail) = rest.split_at(at);
            self.out.extend_from_slice(plain);
            match tail.first() {
                Some(byte @ (b'"' | b'\\')) => self.out.extend_from_slice(&[b'\\', *byte]),
                Some(byte) => drop(write!(self.out, "\\u{byte:04x}")),
                None => {}
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        self.out.extend_from_slice(rest);
    }
}

/// Host and port of a Host field; brackets around IPv6 go.
fn split_host(host: &[u8]) -> (&[u8], Option<u16>) {
    let split = host
        .iter()
        .rposition(|byte| *byte == b':')
        .and_then(|colon| {
            let port = str::from_utf8(host.get(colon + 1..)?).ok()?.parse().ok()?;
            let name = host.get(..colon)?;
            // Without brackets, the last group of an IPv6 address is not a port.
            (name.ends_with(b"]") || !name.contains(&b':')).then_some((name, port))
        });
    let (name, port) = split.map_or((host, None), |(name, port)| (name, Some(port)));
    let bare = name
        .strip_prefix(b"[")
        .and_then(|name| name.strip_suffix(b"]"));
    (bare.unwrap_or(name), port)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{line, split_host};
    use crate::config::LogFormat;
    use crate::telemetry::{AccessRecord, End, Labels, LimitOutcome, RecordAddress};

    fn labels() -> Labels {
        Labels {
            listeners: vec!["web".to_owned()],
            routes: vec!["users".to_owned()],
            upstreams: vec!["api \"1\"".to_owned()],
            limits: vec!["per_client".to_owned()],
            authenticators: Vec::new(),
            network_lists: Vec::new(),
            filters: Vec::new(),
        }
    }

    fn text(format: LogFormat, record: &AccessRecord<'_>) -> String {
        let mut out = Vec::new();
        line(format, record, 1, &labels(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            unix_us: 1_700_000_000_000_042,
            duration: Duration::from_micros(1500),
            method: b"GET",
            path: b"/v1/users",
            query: Some(b"q=\"1\""),
            route: Some(0),
            status: 200,
            request_body_bytes: 3,
            response_body_bytes: 12,
            client: Some("192.0.2.1".parse().unwrap()),
            peer: Some("127.0.0.1:4000".parse().unwrap()),
            host: b"api.example:8080",
            user_agent: b"curl/8 \\",
            request_id: b"r1",
            upstream: Some(0),
            upstream_address: RecordAddress::Socket("127.0.0.1:9".parse().unwrap()),
            limit: Some((0, LimitOutcome::Allowed)),
            connect: Some(Duration::from_micros(7)),
            first_byte: Some(Duration::from_micros(9)),
            ..AccessRecord::default()
        }
    }

    #[test]
    fn a_json_line_has_the_documented_fields() {
        let line = text(LogFormat::Json, &record());
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
        let expected = json!({
            "timestamp": "2023-11-14T22:13:20.000042Z",
            "http.request.method": "GET",
            "url.scheme": "http",
            "url.path": "/v1/users",
            "url.query": "q=\"1\"",
            "http.route": "users",
            "http.response.status_code": 200,
            "http.request.body.size": 3,
            "http.response.body.size": 12,
            "network.protocol.version": "1.1",
            "client.address": "192.0.2.1",
            "network.peer.address": "127.0.0.1",
            "network.peer.port": 4000,
            "server.address": "api.example",
            "server.port": 8080,
            "user_agent.original": "curl/8 \\",
            "request_id": "r1",
            "ringgate.listener": "web",
            "ringgate.upstream": "api \"1\"",
            "ringgate.upstream.address": "127.0.0.1:9",
            "ringgate.duration_us": 1500,
            "ringgate.phase.connect_us": 7,
            "ringgate.phase.first_byte_us": 9,
            "ringgate.limit.name": "per_client",
            "ringgate.limit.outcome": "allowed",
            "ringgate.worker": 1,
            "ringgate.end": "ok",
        });
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let record = AccessRecord {
            end: End::BadRequest,
            error_type: "two_lengths",
            ..AccessRecord::default()
        };
        let value: Value = serde_json::from_str(&text(LogFormat::Json, &record)).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(object["error.type"], "two_lengths");
        for absent in [
            "http.response.status_code",
            "http.route",
            "client.address",
            "url.query",
        ] {
            assert!(!object.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn common_and_combined_lines_are_those_of_apache() {
        let common = "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \
                      \"GET /v1/users?q=\\x221\\x22 HTTP/1.1\" 200 12";
        assert_eq!(text(LogFormat::Common, &record()), format!("{common}\n"));
        let combined = format!("{common} \"-\" \"curl/8 \\x5C\"\n");
        assert_eq!(text(LogFormat::Combined, &record()), combined);
    }

    #[test]
    fn a_host_is_split_from_its_port() {
        for (host, name, port) in [
            ("api.example", "api.example", None),
            ("api.example:80", "api.example", Some(80)),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("a:99999", "a:99999", None),
            ("", "", None),
        ] {
            assert_eq!(
                split_host(host.as_bytes()),
                (name.as_bytes(), port),
                "{host}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_valid_json_line(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            text in any::<String>(),
        ) {
            let lossy = String::from_utf8_lossy(&bytes).into_owned();
            let record = AccessRecord {
                method: &bytes,
                path: &bytes,
                query: Some(text.as_bytes()),
                user_agent: &bytes,
                upstream_address: RecordAddress::Unix(&bytes),
                ..AccessRecord::default()
            };
            let mut out = Vec::new();
            line(LogFormat::Json, &record, 0, &labels(), &mut out);
            prop_assert_eq!(out.iter().filter(|byte| **byte < b' ').count(), 1);
            let value: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(value["url.path"].as_str(), Some(&*lossy));
            prop_assert_eq!(value["url.query"].as_str(), Some(&*text));
        }

        #[test]
        fn any_bytes_make_one_line_of_printable_ascii(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let record = AccessRecord {
                path: &bytes,
                user_agent: &bytes,
                referer: &bytes,
                ..AccessRecord::default()
            };
            let mut out = Vec::new();
            line(LogFormat::Combined, &record, 0, &labels(), &mut out);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'"').count(), 6);
        }
    }
}
