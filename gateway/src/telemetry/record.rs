//! One access record per request, and its binary form between a worker and the log writer.
//!
//! Encoding copies bytes and formats nothing: the writer's thread pays for JSON, not the worker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::kinds::{End, LimitOutcome, Scheme, Version};

/// Longest path and query kept, in bytes; what is longer is cut, not refused.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest Referer kept, in bytes.
pub const REFERER_BYTES_MAX: usize = 2048;
/// Longest User-Agent kept, in bytes.
pub const USER_AGENT_BYTES_MAX: usize = 1024;
/// Longest of every other text kept, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// Longest encoded record, in bytes.
pub const RECORD_BYTES_MAX: usize = FIXED_BYTES
    + 2 * PATH_BYTES_MAX
    + REFERER_BYTES_MAX
    + USER_AGENT_BYTES_MAX
    + 6 * TEXT_BYTES_MAX;
/// The numbers, the addresses and the lengths of the ten texts of a record, in bytes.
const FIXED_BYTES: usize = 6 * 8 + 5 * 2 + 7 + 3 * IP_BYTES + 2 * 2 + 10 * 2;
const IP_BYTES: usize = 1 + 16;

/// What is known of a request at its end; borrows its texts, which may be any bytes.
///
/// ```
/// use gateway::telemetry::{AccessRecord, End};
/// let record = AccessRecord { method: b"GET", path: b"/", status: 200, end: End::Ok, ..AccessRecord::default() };
/// assert_eq!(record.retries, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRecord<'a> {
    /// Start of the request in Unix time, in microseconds.
    pub unix_us: u64,
    /// From its first byte until its response is sent, or about to be where it came whole.
    pub duration: Duration,
    /// Method as received.
    pub method: &'a [u8],
    /// Scheme of the listener.
    pub scheme: Scheme,
    /// Path as received, without the query.
    pub path: &'a [u8],
    /// Query as received, without `?`.
    pub query: Option<&'a [u8]>,
    /// Version of the request.
    pub version: Version,
    /// Index of the route.
    pub route: Option<u16>,
    /// Status sent; 0: none.
    pub status: u16,
    /// Bytes of the request body received.
    pub request_body_bytes: u64,
    /// Bytes of the response body sent.
    pub response_body_bytes: u64,
    /// Address of the client, after `client_ip`.
    pub client: Option<IpAddr>,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    /// Host, with its port if it has one; empty: none.
    pub host: &'a [u8],
    /// User-Agent; empty: none.
    pub user_agent: &'a [u8],
    /// Referer; empty: none.
    pub referer: &'a [u8],
    /// X-Request-Id; empty: none.
    pub request_id: &'a [u8],
    /// Name of the consumer; empty: nobody knows.
    pub consumer: &'a [u8],
    /// Index of the listener.
    pub listener: u16,
    /// Index of the upstream.
    pub upstream: Option<u16>,
    /// The endpoint that was tried last.
    pub upstream_address: RecordAddress<'a>,
    /// How the request ended.
    pub end: End,
    /// A stable identifier of what went wrong; empty: nothing.
    pub error_type: &'a str,
    /// How often the request was sent again.
    pub retries: u8,
    /// Index of the limit that decided and what it said; of several, the one that refused or came nearest to it.
    pub limit: Option<(u16, LimitOutcome)>,
    /// Time to connect to the upstream; `None`: a pooled connection, or none.
    pub connect: Option<Duration>,
    /// From the lease to the upstream's response head.
    pub first_byte: Option<Duration>,
}

/// The address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordAddress<'a> {
    /// No endpoint was tried.
    None,
    /// An IP address and port.
    Socket(SocketAddr),
    /// A path.
    Unix(&'a [u8]),
}

impl Default for AccessRecord<'_> {
    fn default() -> Self {
        Self {
            unix_us: 0,
            duration: Duration::ZERO,
            method: b"",
            scheme: Scheme::Http,
            path: b"",
            query: None,
            version: Version::Http11,
            route: None,
            status: 0,
            request_body_bytes: 0,
            response_body_bytes: 0,
            client: None,
            peer: None,
            host: b"",
            user_agent: b"",
            referer: b"",
            request_id: b"",
            consumer: b"",
            listener: 0,
            upstream: None,
            upstream_address: RecordAddress::None,
            end: End::Ok,
            error_type: "",
            retries: 0,
            limit: None,
            connect: None,
            first_byte: None,
        }
    }
}

impl<'a> AccessRecord<'a> {
    /// Appends the binary form, at most [`RECORD_BYTES_MAX`] bytes; texts beyond their bounds are cut.
    /// Durations are kept in whole microseconds.
    ///
    /// What has the same size in each record comes first and is put together before it is appended, so that most of a
    /// record costs a few stores.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let before = out.len();
        let (limit, outcome) = self.limit.unwrap_or((ABSENT_INDEX, LimitOutcome::Allowed));
        let index = |index: Option<u16>| index.unwrap_or(ABSENT_INDEX);
        let (kind, socket, unix) = match self.upstream_address {
            RecordAddress::None => (0, None, &b""[..]),
            RecordAddress::Socket(address) => (1, Some(address), &b""[..]),
            RecordAddress::Unix(path) => (2, None, path),
        };
        // Identifiers are short ASCII, so that a cut never splits a character.
        debug_assert!(self.error_type.is_ascii());
        let texts = [
            cut(self.method, TEXT_BYTES_MAX),
            cut(self.path, PATH_BYTES_MAX),
            cut(self.query.unwrap_or_default(), PATH_BYTES_MAX),
            cut(self.host, TEXT_BYTES_MAX),
            cut(self.user_agent, USER_AGENT_BYTES_MAX),
            cut(self.referer, REFERER_BYTES_MAX),
            cut(self.request_id, TEXT_BYTES_MAX),
            cut(self.consumer, TEXT_BYTES_MAX),
            cut(self.error_type.as_bytes(), TEXT_BYTES_MAX),
            cut(unix, TEXT_BYTES_MAX),
        ];
        let mut fixed = Fixed::default();
        fixed.put(self.unix_us.to_le_bytes());
        fixed.put(micros(self.duration).to_le_bytes());
        fixed.put(self.request_body_bytes.to_le_bytes());
        fixed.put(self.response_body_bytes.to_le_bytes());
        fixed.put(self.connect.map_or(ABSENT, micros).to_le_bytes());
        fixed.put(self.first_byte.map_or(ABSENT, micros).to_le_bytes());
        fixed.put(self.status.to_le_bytes());
        fixed.put(self.listener.to_le_bytes());
        fixed.put(index(self.route).to_le_bytes());
        fixed.put(index(self.upstream).to_le_bytes());
        fixed.put(limit.to_le_bytes());
        fixed.put([
            self.scheme as u8,
            self.version as u8,
            self.end as u8,
            outcome as u8,
            self.retries,
            u8::from(self.query.is_some()),
            kind,
        ]);
        fixed.put(ip_bytes(self.client));
        fixed.put_socket(self.peer);
        fixed.put_socket(socket);
        for text in texts {
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            fixed.put(length.to_le_bytes());
        }
        debug_assert_eq!(fixed.length, FIXED_BYTES);
        out.extend_from_slice(&fixed.bytes);
        for text in texts {
            if !text.is_empty() {
                out.extend_from_slice(text);
            }
        }
        debug_assert!(out.len() - before <= RECORD_BYTES_MAX);
    }

    /// Reads what [`Self::encode`] wrote; `None`: these are not such bytes.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, mut rest) = bytes.split_first_chunk::<FIXED_BYTES>()?;
        let input = &mut Input(fixed);
        let unix_us = input.u64()?;
        let duration = Duration::from_micros(input.u64()?);
        let request_body_bytes = input.u64()?;
        let response_body_bytes = input.u64()?;
        let connect = input.duration()?;
        let first_byte = input.duration()?;
        let status = input.u16()?;
        let listener = input.u16()?;
        let route = input.index()?;
        let upstream = input.index()?;
        let limit = input.index()?;
        let [scheme, version, end, outcome, retries, query_present, kind] = input.array()?;
        let client = input.ip()?;
        let peer = input.socket()?;
        let socket = input.socket()?;
        let mut text = || {
            let (text, behind) = rest.split_at_checked(usize::from(input.u16()?))?;
            rest = behind;
            Some(text)
        };
        let method = text()?;
        let path = text()?;
        let query = text()?;
        let host = text()?;
        let user_agent = text()?;
        let referer = text()?;
        let request_id = text()?;
        let consumer = text()?;
        let error_type = text()?;
        let unix = text()?;
        let outcome = LimitOutcome::from_number(outcome)?;
        Some(Self {
            unix_us,
            duration,
            method,
            scheme: Scheme::from_number(scheme)?,
            path,
            query: (query_present == 1).then_some(query),
            version: Version::from_number(version)?,
            route,
            status,
            request_body_bytes,
            response_body_bytes,
            client,
            peer,
            host,
            user_agent,
            referer,
            request_id,
            consumer,
            listener,
            upstream,
            upstream_address: match kind {
                0 => RecordAddress::None,
                1 => RecordAddress::Socket(socket?),
                2 => RecordAddress::Unix(unix),
                _ => return None,
            },
            end: End::from_number(end)?,
            error_type: if error_type.is_empty() {
                ""
            } else {
                str::from_utf8(error_type).ok()?
            },
            retries,
            limit: limit.map(|limit| (limit, outcome)),
            connect,
            first_byte,
        })
    }
}

/// Stands for an absent duration; no request takes this many microseconds.
const ABSENT: u64 = u64::MAX;
/// Stands for an absent index; the configuration cannot name so many of anything.
const ABSENT_INDEX: u16 = u16::MAX;

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(ABSENT - 1)
        .min(ABSENT - 1)
}

fn cut(text: &[u8], bytes_max: usize) -> &[u8] {
    text.get(..bytes_max).unwrap_or(text)
}

/// The family, and an address or the beginning of the room for one.
fn ip_bytes(ip: Option<IpAddr>) -> [u8; IP_BYTES] {
    let mut bytes = [0; IP_BYTES];
    let (family, octets) = bytes.split_at_mut(1);
    match ip {
        None => {}
        Some(IpAddr::V4(ip)) => {
            family[0] = 4;
            octets[..4].copy_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            family[0] = 6;
            octets.copy_from_slice(&ip.octets());
        }
    }
    bytes
}

/// What has the same size in each record, as it is put together.
struct Fixed {
    bytes: [u8; FIXED_BYTES],
    length: usize,
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            bytes: [0; FIXED_BYTES],
            length: 0,
        }
    }
}

impl Fixed {
    /// Inline, so that places are constants and bounds are checked when compiling.
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.length..self.length + N].copy_from_slice(&bytes);
        self.length += N;
    }

    #[inline(always)]
    fn put_socket(&mut self, address: Option<SocketAddr>) {
        self.put(ip_bytes(address.map(|address| address.ip())));
        self.put(address.map_or(0, |address| address.port()).to_le_bytes());
    }
}

/// The rest of the part of fixed size.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn index(&mut self) -> Option<Option<u16>> {
        self.u16()
            .map(|index| (index != ABSENT_INDEX).then_some(index))
    }

    fn duration(&mut self) -> Option<Option<Duration>> {
        self.u64()
            .map(|us| (us != ABSENT).then_some(Duration::from_micros(us)))
    }

    fn ip(&mut self) -> Option<Option<IpAddr>> {
        let [family, a, b, c, d, rest @ ..] = self.array::<IP_BYTES>()?;
        match family {
            0 => Some(None),
            4 => Some(Some(Ipv4Addr::new(a, b, c, d).into())),
            6 => {
                let mut octets = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                octets[4..].copy_from_slice(&rest);
                Some(Some(Ipv6Addr::from(octets).into()))
            }
            _ => None,
        }
    }

    fn socket(&mut self) -> Option<Option<SocketAddr>> {
        let (ip, port) = (self.ip()?, self.u16()?);
        Some(ip.map(|ip| SocketAddr::new(ip, port)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AccessRecord, RecordAddress};
    use crate::telemetry::{End, LimitOutcome, Scheme, Version};
    use std::time::Duration;

    #[test]
    fn a_record_survives_its_binary_form() {
        let full = AccessRecord {
            unix_us: 1_700_000_000_000_000,
            duration: Duration::from_micros(1234),
            method: b"GET",
            scheme: Scheme::Https,
            path: b"/a\xff",
            query: Some(b""),
            version: Version::Http10,
            route: Some(0),
            status: 429,
            request_body_bytes: 1,
            response_body_bytes: u64::MAX,
            client: Some("2001:db8::1".parse().unwrap()),
            peer: Some("192.0.2.1:65535".parse().unwrap()),
            host: b"example",
            user_agent: b"agent",
            referer: b"referer",
            request_id: b"id",
            consumer: b"mobile",
            listener: 7,
            upstream: Some(9),
            upstream_address: RecordAddress::Socket("[::1]:80".parse().unwrap()),
            end: End::Limited,
            error_type: "rate",
            retries: 2,
            limit: Some((3, LimitOutcome::ShadowLimited)),
            connect: Some(Duration::ZERO),
            first_byte: Some(Duration::from_micros(5)),
        };
        let unix = RecordAddress::Unix(b"/run/u.sock");
        for record in [
            full,
            AccessRecord::default(),
            AccessRecord {
                upstream_address: unix,
                ..AccessRecord::default()
            },
        ] {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(AccessRecord::decode(&bytes), Some(record));
            for cut in 0..bytes.len() {
                assert_eq!(AccessRecord::decode(&bytes[..cut]), None, "cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = AccessRecord::decode(&bytes);
        }
    }
}
