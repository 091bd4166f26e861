//! A record as a line: JSON, or the common and combined formats of Apache and nginx.
//!
//! Texts in a record may be any bytes. In JSON, what is not UTF-8 becomes U+FFFD and control characters are escaped;
//! in the other formats everything but printable ASCII, and `"` and `\`, becomes `\xHH` as nginx writes it. So a
//! client can neither start a line nor leave its field.

use std::io::Write as _;
use std::net::SocketAddr;

use super::json::Json;
use crate::config::LogFormat;
use crate::telemetry::{AccessRecord, Labels, time};

/// Lines of one format.
#[derive(Debug)]
pub struct Lines {
    format: LogFormat,
    json: Json,
}

impl Lines {
    /// `labels` name the indices of records.
    #[must_use]
    pub fn new(format: LogFormat, labels: &Labels) -> Self {
        Self {
            format,
            json: Json::new(labels),
        }
    }

    /// Appends the record and a newline. `worker` made the record. Allocates nothing where `out` has the room.
    pub fn line(&mut self, record: &AccessRecord<'_>, worker: usize, out: &mut Vec<u8>) {
        match self.format {
            LogFormat::Json => self.json.object(record, worker, out),
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
}

/// `client - consumer [time] "METHOD target HTTP/version" status bytes`; `-` for what is not known.
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
    // Of what is no request nothing is known, its version included; what came in its place may hold a secret.
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        escape_printable(record.method, out);
        out.push(b' ');
        escape_printable(record.path, out);
        if let Some(query) = record.query {
            out.push(b'?');
            escape_printable(query, out);
        }
        drop(write!(out, " HTTP/{}", record.version.name()));
    }
    out.extend_from_slice(b"\" ");
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::Lines;
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
        Lines::new(format, &labels()).line(record, 1, &mut out);
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
    fn what_could_not_be_read_as_a_request_is_a_dash() {
        let record = AccessRecord {
            unix_us: 1_700_000_000_000_042,
            status: 400,
            response_body_bytes: 9,
            client: Some("192.0.2.1".parse().unwrap()),
            ..AccessRecord::default()
        };
        let common = "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"-\" 400 9";
        assert_eq!(text(LogFormat::Common, &record), format!("{common}\n"));
        let combined = format!("{common} \"-\" \"-\"\n");
        assert_eq!(text(LogFormat::Combined, &record), combined);
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
            Lines::new(LogFormat::Json, &labels()).line(&record, 0, &mut out);
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
                method: &bytes,
                path: &bytes,
                user_agent: &bytes,
                referer: &bytes,
                ..AccessRecord::default()
            };
            let mut out = Vec::new();
            Lines::new(LogFormat::Combined, &labels()).line(&record, 0, &mut out);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'"').count(), 6);
        }
    }
}
