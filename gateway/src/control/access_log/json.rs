//! A record as a JSON object. A line is made of few runs: names of fields with what surrounds them are constants, names of
//! configured things are escaped once, the second's text is kept, and a text that needs no escape is copied whole.
//!
//! Texts may be any bytes: what is not UTF-8 becomes U+FFFD, control characters are escaped.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::telemetry::names::field;
use crate::telemetry::{
    AccessRecord, End, Labels, LimitOutcome, RecordAddress, Scheme, Version, time,
};

/// Seconds of Unix time never reach it.
const NEVER: u64 = u64::MAX;
const MICROS_PER_SECOND: u64 = 1_000_000;

/// What lines have in common.
#[derive(Debug)]
pub(super) struct Json {
    routes: Members,
    listeners: Members,
    upstreams: Members,
    limits: Members,
    schemes: Members,
    versions: Members,
    outcomes: Members,
    ends: Members,
    /// The second of the last line, and its text up to the fraction.
    second: u64,
    second_text: Vec<u8>,
    /// The last Host, and what it was written as.
    host: Vec<u8>,
    host_text: Vec<u8>,
}

/// `,"name":"value"` by the index of the value.
type Members = Vec<Vec<u8>>;

/// The name of a field with what stands around it: `{"` or `,"` before, `":` and the quote of a text behind.
macro_rules! key {
    ($before:literal $name:ident $after:literal) => {{
        const LENGTH: usize = $before.len() + field::$name.len() + $after.len();
        const KEY: [u8; LENGTH] = joined([$before, field::$name, $after]);
        &KEY
    }};
    ($name:ident text) => {
        key!(",\"" $name "\":\"")
    };
    ($name:ident) => {
        key!(",\"" $name "\":")
    };
}

const fn joined<const N: usize>(parts: [&str; 3]) -> [u8; N] {
    let mut all = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let (bytes, mut byte) = (parts[part].as_bytes(), 0);
        while byte < bytes.len() {
            all[at] = bytes[byte];
            at += 1;
            byte += 1;
        }
        part += 1;
    }
    assert!(at == N);
    all
}

impl Json {
    pub(super) fn new(labels: &Labels) -> Self {
        let end = End::ALL.iter().map(|end| end.name());
        let scheme = Scheme::ALL.iter().map(|scheme| scheme.name());
        let version = Version::ALL.iter().map(|version| version.name());
        let outcome = LimitOutcome::ALL.iter().map(|outcome| outcome.name());
        Self {
            routes: members(key!(ROUTE text), labels.routes.iter()),
            listeners: members(key!(LISTENER text), labels.listeners.iter()),
            upstreams: members(key!(UPSTREAM text), labels.upstreams.iter()),
            limits: members(key!(LIMIT_NAME text), labels.limits.iter()),
            schemes: members(key!(SCHEME text), scheme),
            versions: members(key!(VERSION text), version),
            outcomes: members(key!(LIMIT_OUTCOME text), outcome),
            ends: members(key!(END text), end),
            second: NEVER,
            second_text: Vec::new(),
            host: Vec::new(),
            host_text: Vec::new(),
        }
    }

    /// Appends the object.
    pub(super) fn object(&mut self, record: &AccessRecord<'_>, worker: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(key!("{\"" TIMESTAMP "\":\""));
        self.timestamp(record.unix_us, out);
        self.request(record, out);
        addresses(record, out);
        self.server(record.host, out);
        let texts: [(&[u8], &[u8]); 5] = [
            (key!(USER_AGENT text), record.user_agent),
            (key!(REFERER text), record.referer),
            (key!(REQUEST_ID text), record.request_id),
            (key!(ERROR_TYPE text), record.error_type.as_bytes()),
            (key!(CONSUMER text), record.consumer),
        ];
        for (key, value) in texts {
            if !value.is_empty() {
                quoted(key, value, out);
            }
        }
        if record.retries > 0 {
            number(key!(RESEND_COUNT), u64::from(record.retries), out);
        }
        member(&self.listeners, Some(record.listener), out);
        member(&self.upstreams, record.upstream, out);
        match record.upstream_address {
            RecordAddress::None => {}
            RecordAddress::Socket(address) => {
                out.extend_from_slice(key!(UPSTREAM_ADDRESS text));
                socket(address, out);
                out.push(b'"');
            }
            RecordAddress::Unix(path) => quoted(key!(UPSTREAM_ADDRESS text), path, out),
        }
        micros(key!(DURATION_US), Some(record.duration), out);
        micros(key!(CONNECT_US), record.connect, out);
        micros(key!(FIRST_BYTE_US), record.first_byte, out);
        if let Some((limit, outcome)) = record.limit {
            member(&self.limits, Some(limit), out);
            member(&self.outcomes, Some(outcome as u16), out);
        }
        let worker = u64::try_from(worker).unwrap_or(u64::MAX);
        number(key!(WORKER), worker, out);
        member(&self.ends, Some(record.end as u16), out);
        out.push(b'}');
    }

    fn request(&self, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
        quoted(key!("\",\"" METHOD "\":\""), record.method, out);
        member(&self.schemes, Some(record.scheme as u16), out);
        quoted(key!(PATH text), record.path, out);
        if let Some(query) = record.query {
            quoted(key!(QUERY text), query, out);
        }
        member(&self.routes, record.route, out);
        if record.status != 0 {
            number(key!(STATUS), u64::from(record.status), out);
        }
        number(key!(REQUEST_BODY_BYTES), record.request_body_bytes, out);
        number(key!(RESPONSE_BODY_BYTES), record.response_body_bytes, out);
        member(&self.versions, Some(record.version as u16), out);
    }

    /// Most requests are for the host of the one before.
    fn server(&mut self, host: &[u8], out: &mut Vec<u8>) {
        if host != self.host {
            self.host.clear();
            self.host.extend_from_slice(host);
            self.host_text.clear();
            let (name, port) = split_host(host);
            if !name.is_empty() {
                quoted(key!(SERVER_ADDRESS text), name, &mut self.host_text);
            }
            if let Some(port) = port {
                number(key!(SERVER_PORT), u64::from(port), &mut self.host_text);
            }
        }
        out.extend_from_slice(&self.host_text);
    }

    fn timestamp(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        let second = unix_us / MICROS_PER_SECOND;
        if second != self.second {
            self.second = second;
            self.second_text.clear();
            time::rfc3339(second * MICROS_PER_SECOND, &mut self.second_text);
            // Without the fraction's digits and the `Z`.
            self.second_text
                .truncate(self.second_text.len().saturating_sub(7));
        }
        out.extend_from_slice(&self.second_text);
        let mut fraction = *b"000000Z";
        let mut rest = unix_us % MICROS_PER_SECOND;
        for digit in fraction.iter_mut().take(6).rev() {
            *digit = digit_of(rest);
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

fn addresses(record: &AccessRecord<'_>, out: &mut Vec<u8>) {
    let mut client_text = 0..0;
    if let Some(client) = record.client {
        out.extend_from_slice(key!(CLIENT_ADDRESS text));
        let begin = out.len();
        ip(client, out);
        client_text = begin..out.len();
        out.push(b'"');
    }
    if let Some(peer) = record.peer {
        out.extend_from_slice(key!(PEER_ADDRESS text));
        if record.client == Some(peer.ip()) {
            out.extend_from_within(client_text);
        } else {
            ip(peer.ip(), out);
        }
        number(key!("\",\"" PEER_PORT "\":"), u64::from(peer.port()), out);
    }
}

fn number(key: &[u8], number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    decimal(number, out);
}

fn micros(key: &[u8], duration: Option<Duration>, out: &mut Vec<u8>) {
    if let Some(duration) = duration {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        number(key, micros, out);
    }
}

fn member(members: &Members, index: Option<u16>, out: &mut Vec<u8>) {
    if let Some(member) = index.and_then(|index| members.get(usize::from(index))) {
        out.extend_from_slice(member);
    }
}

fn members(key: &[u8], values: impl Iterator<Item = impl AsRef<str>>) -> Members {
    let member = |value| {
        let mut member = Vec::new();
        quoted(key, AsRef::<str>::as_ref(&value).as_bytes(), &mut member);
        member
    };
    values.map(member).collect()
}

fn quoted(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    text(value, out);
    out.push(b'"');
}

fn text(text: &[u8], out: &mut Vec<u8>) {
    if needs_no_escape(text) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        escape(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// RFC 8259 section 7; DEL is escaped too, for the sake of terminals.
fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ' | 0x7f);
    while let Some(at) = rest.iter().position(special) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        match tail.first() {
            Some(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', *byte]),
            // Writing to a vector cannot fail.
            Some(byte) => drop(write!(out, "\\u{byte:04x}")),
            None => {}
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Printable ASCII other than `"` and `\`: eight bytes at a time, the last eight perhaps twice.
fn needs_no_escape(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        return text
            .iter()
            .all(|byte| matches!(byte, b' '..0x7f) && !matches!(byte, b'"' | b'\\'));
    };
    let (words, _) = text.as_chunks::<8>();
    let found = words
        .iter()
        .fold(special_in(*last), |found, word| found | special_in(*word));
    found == 0
}

/// The high bit of some byte is set if any of the eight is not printable ASCII, a quote or a backslash; of the others
/// the result says nothing. After "Determine if a word has a byte equal to n" in Anderson's "Bit Twiddling Hacks".
fn special_in(bytes: [u8; 8]) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_ne_bytes(bytes);
    let zero_in = |word: u64| word.wrapping_sub(LOW) & !word;
    let below_space = word.wrapping_sub(u64::from_ne_bytes([b' '; 8])) & !word;
    let quote = zero_in(word ^ u64::from_ne_bytes([b'"'; 8]));
    let backslash = zero_in(word ^ u64::from_ne_bytes([b'\\'; 8]));
    let delete = zero_in(word ^ u64::from_ne_bytes([0x7f; 8]));
    (word | below_space | quote | backslash | delete) & HIGH
}

fn ip(ip: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(ip) = ip else {
        drop(write!(out, "{ip}"));
        return;
    };
    let mut text = [b'.'; 16];
    let mut at = 0;
    for octet in ip.octets() {
        let octet = u64::from(octet);
        if octet >= 100 {
            text[at] = digit_of(octet / 100);
            at += 1;
        }
        if octet >= 10 {
            text[at] = digit_of(octet / 10);
            at += 1;
        }
        text[at] = digit_of(octet);
        // The dot is there.
        at += 2;
    }
    out.extend_from_slice(&text[..at - 1]);
}

fn socket(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(_) => {
            ip(address.ip(), out);
            out.push(b':');
            decimal(u64::from(address.port()), out);
        }
        SocketAddr::V6(_) => drop(write!(out, "{address}")),
    }
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The last digit of a number.
fn digit_of(number: u64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or(0)
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
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::{Json, ip, needs_no_escape, split_host};
    use crate::telemetry::{Labels, time};

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

    #[test]
    fn every_byte_at_every_place_is_told_apart() {
        for length in 1..20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    let plain = (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(needs_no_escape(&text), plain, "{byte} at {at} of {length}");
                }
            }
        }
        assert!(needs_no_escape(b""));
    }

    #[test]
    fn a_host_is_written_as_its_own_whatever_was_before() {
        let mut json = Json::new(&Labels::default());
        let mut texts = Vec::new();
        for host in ["a:1", "a:1", "", "[::1]:2", "", "a:1"] {
            let mut out = Vec::new();
            json.server(host.as_bytes(), &mut out);
            texts.push(String::from_utf8(out).unwrap());
        }
        let a = ",\"server.address\":\"a\",\"server.port\":1";
        let six = ",\"server.address\":\"::1\",\"server.port\":2";
        assert_eq!(texts, [a, a, "", six, "", a]);
    }

    #[test]
    fn a_timestamp_is_that_of_its_own_second_in_any_order() {
        let mut json = Json::new(&Labels::default());
        for unix_us in [
            0,
            999_999,
            1_000_000,
            1_700_000_000_000_042,
            1_700_000_000_999_999,
            42,
        ] {
            let (mut kept, mut whole) = (Vec::new(), Vec::new());
            json.timestamp(unix_us, &mut kept);
            time::rfc3339(unix_us, &mut whole);
            assert_eq!(kept, whole);
        }
    }

    proptest! {
        #[test]
        fn an_address_is_written_as_the_standard_library_does(octets: [u8; 4]) {
            let address = IpAddr::V4(Ipv4Addr::from(octets));
            let mut out = Vec::new();
            ip(address, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
        }
    }
}
