//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt of 2020): who a connection came from, said before
//! its first byte.

use std::net::{IpAddr, SocketAddr};

use bytes::BufMut;

use super::write::put_decimal;
use crate::config::ProxyProtocol;

/// Longest line of version 1, with its CRLF.
const V1_BYTES_MAX: usize = 107;
/// Most bytes behind the fixed part of version 2: addresses and what else a proxy says, which is skipped.
const V2_REST_MAX: usize = 4096;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// Longest header that is read.
pub const PROXY_BYTES_MAX: usize = V2_FIXED + V2_REST_MAX;

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes.
    pub length: usize,
    /// Where the connection came from; `None`: from the proxy itself (its own health check), or it does not know.
    pub source: Option<SocketAddr>,
}

/// What came is no header of an accepted version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotProxy;

/// Reads a header of one of the versions that `accepted` names from the start of `bytes`; `None`: more is needed.
///
/// # Errors
/// What came is no such header, or is longer than [`PROXY_BYTES_MAX`].
pub fn parse_proxy(bytes: &[u8], accepted: ProxyProtocol) -> Result<Option<ProxyHeader>, NotProxy> {
    let begins = |signature: &[u8]| {
        let common = bytes.len().min(signature.len());
        bytes.get(..common) == signature.get(..common)
    };
    let (first, second) = match accepted {
        ProxyProtocol::Off => (false, false),
        ProxyProtocol::V1 => (true, false),
        ProxyProtocol::V2 => (false, true),
        ProxyProtocol::Any => (true, true),
    };
    if first && begins(b"PROXY ") {
        parse_v1(bytes)
    } else if second && begins(V2_SIGNATURE) {
        parse_v2(bytes)
    } else {
        Err(NotProxy)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, NotProxy> {
    let seen = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if seen.len() < V1_BYTES_MAX {
            Ok(None)
        } else {
            Err(NotProxy)
        };
    };
    let line = seen.get(..end).and_then(|line| str::from_utf8(line).ok());
    let mut words = line.ok_or(NotProxy)?.split(' ').skip(1);
    let length = end.saturating_add(2);
    let family = words.next().ok_or(NotProxy)?;
    // Whatever follows UNKNOWN is to be ignored.
    if family == "UNKNOWN" {
        return Ok(Some(ProxyHeader {
            length,
            source: None,
        }));
    }
    let mut address = || words.next()?.parse::<IpAddr>().ok();
    let (source, destination) = (address(), address());
    let mut port = || {
        let digits = words.next()?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = digits == "0" || !digits.starts_with('0');
        digits.parse::<u16>().ok().filter(|_| plain && canonical)
    };
    let (source_port, destination_port) = (port(), port());
    let is_v4 = match family {
        "TCP4" => true,
        "TCP6" => false,
        _ => return Err(NotProxy),
    };
    match (
        source,
        destination,
        source_port,
        destination_port,
        words.next(),
    ) {
        (Some(source), Some(destination), Some(port), Some(_), None)
            if source.is_ipv4() == is_v4 && destination.is_ipv4() == is_v4 =>
        {
            Ok(Some(ProxyHeader {
                length,
                source: Some(SocketAddr::new(source.to_canonical(), port)),
            }))
        }
        _ => Err(NotProxy),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, NotProxy> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let rest_length = usize::from(u16::from_be_bytes([high, low]));
    if rest_length > V2_REST_MAX {
        return Err(NotProxy);
    }
    let known = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(NotProxy),
    };
    let Some(rest) = rest.get(..rest_length) else {
        return Ok(None);
    };
    let source = match (known, family) {
        // LOCAL, UNSPEC, and streams over Unix sockets: there is no address to learn.
        (false, _) | (true, 0x00 | 0x31) => None,
        (true, 0x11) => Some(v2_source::<4, 12>(rest)?),
        (true, 0x21) => Some(v2_source::<16, 36>(rest)?),
        _ => return Err(NotProxy),
    };
    Ok(Some(ProxyHeader {
        length: V2_FIXED.saturating_add(rest_length),
        source,
    }))
}

/// The source of `SIZE` octets and its port among the first `ALL`: two addresses and two ports.
fn v2_source<const SIZE: usize, const ALL: usize>(rest: &[u8]) -> Result<SocketAddr, NotProxy>
where
    IpAddr: From<[u8; SIZE]>,
{
    let addresses = rest.first_chunk::<ALL>().ok_or(NotProxy)?;
    let source = addresses.first_chunk::<SIZE>().ok_or(NotProxy)?;
    let ports = addresses.last_chunk::<4>().ok_or(NotProxy)?;
    let [high, low, ..] = *ports;
    let source = IpAddr::from(*source).to_canonical();
    Ok(SocketAddr::new(source, u16::from_be_bytes([high, low])))
}

/// Writes the header that says to an upstream where a connection comes from and went to. `version`: 1 or 2, else nothing.
pub fn write_proxy(
    out: &mut impl BufMut,
    version: ProxyProtocol,
    source: SocketAddr,
    destination: SocketAddr,
) {
    // Both addresses are of one family.
    let both_v4 = source.is_ipv4() && destination.is_ipv4();
    match version {
        ProxyProtocol::Off => {}
        ProxyProtocol::V1 => {
            out.put_slice(if both_v4 {
                b"PROXY TCP4 "
            } else {
                b"PROXY TCP6 "
            });
            for address in [source.ip(), destination.ip()] {
                put_address(out, address, both_v4);
                out.put_slice(b" ");
            }
            put_decimal(out, u64::from(source.port()));
            out.put_slice(b" ");
            put_decimal(out, u64::from(destination.port()));
            out.put_slice(b"\r\n");
        }
        ProxyProtocol::V2 | ProxyProtocol::Any => {
            out.put_slice(V2_SIGNATURE);
            out.put_slice(&[0x21, if both_v4 { 0x11 } else { 0x21 }]);
            out.put_u16(if both_v4 { 12 } else { 36 });
            for address in [source.ip(), destination.ip()] {
                match address {
                    IpAddr::V4(v4) if both_v4 => out.put_slice(&v4.octets()),
                    IpAddr::V4(v4) => out.put_slice(&v4.to_ipv6_mapped().octets()),
                    IpAddr::V6(v6) => out.put_slice(&v6.octets()),
                }
            }
            out.put_u16(source.port());
            out.put_u16(destination.port());
        }
    }
}

/// Longest header that [`write_proxy`] writes.
pub const PROXY_WRITTEN_MAX: usize = V1_BYTES_MAX;

fn put_address(out: &mut impl BufMut, address: IpAddr, as_v4: bool) {
    use std::fmt::Write as _;
    let address = match address {
        IpAddr::V4(v4) if !as_v4 => IpAddr::V6(v4.to_ipv6_mapped()),
        address => address,
    };
    let mut text = arrayvec::ArrayString::<46>::new();
    // The longest address has 45 characters.
    let written = write!(text, "{address}");
    debug_assert!(written.is_ok(), "an address fits");
    out.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<ProxyHeader>, NotProxy> {
        parse_proxy(bytes, ProxyProtocol::Any)
    }

    fn source(bytes: &[u8]) -> Result<Option<String>, NotProxy> {
        let header = read(bytes)?.expect("a whole header");
        Ok(header.source.map(|source| source.to_string()))
    }

    #[test]
    fn version_1_is_read_as_it_is_specified() {
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nGET",
                Ok(Some("192.0.2.1:1000")),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
                Ok(Some("[2001:db8::1]:0")),
            ),
            ("PROXY UNKNOWN\r\n", Ok(None)),
            ("PROXY UNKNOWN anything at all\r\n", Ok(None)),
            ("PROXY TCP4 2001:db8::1 ::1 1 2\r\n", Err(NotProxy)),
            ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Err(NotProxy)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n", Err(NotProxy)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", Err(NotProxy)),
            ("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", Err(NotProxy)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Err(NotProxy)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", Err(NotProxy)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", Err(NotProxy)),
            ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", Err(NotProxy)),
            ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(NotProxy)),
            ("PROXY\r\n", Err(NotProxy)),
            ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Err(NotProxy)),
            ("GET / HTTP/1.1\r\n", Err(NotProxy)),
        ] {
            let expected = expected.map(|source| source.map(str::to_owned));
            assert_eq!(source(line.as_bytes()), expected, "{line}");
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(100));
        assert_eq!(read(endless.as_bytes()), Err(NotProxy));
        assert_eq!(read(b"PROXY TCP4 192.0.2.1"), Ok(None));
    }

    #[test]
    fn version_2_is_read_as_it_is_specified() {
        let header = |command: u8, family: u8, rest: &[u8]| {
            let mut bytes = V2_SIGNATURE.to_vec();
            bytes.extend([command, family]);
            bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
            bytes.extend(rest);
            bytes
        };
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x10, 0, 0, 80];
        let more = [&v4[..], &[0x04, 0, 2, 7, 7]].concat();
        assert_eq!(
            source(&header(0x21, 0x11, &v4)),
            Ok(Some("192.0.2.1:4096".into()))
        );
        assert_eq!(
            source(&header(0x21, 0x11, &more)),
            Ok(Some("192.0.2.1:4096".into()))
        );
        assert_eq!(source(&header(0x20, 0x11, &v4)), Ok(None), "LOCAL");
        assert_eq!(source(&header(0x20, 0x00, &[])), Ok(None));
        assert_eq!(source(&header(0x21, 0x00, &[])), Ok(None), "UNSPEC");
        assert_eq!(source(&header(0x21, 0x31, &[0; 216])), Ok(None), "Unix");
        for (command, family, rest) in [
            (0x11, 0x11, &v4[..]),
            (0x22, 0x11, &v4),
            (0x21, 0x12, &v4),
            (0x21, 0x11, &v4[..11]),
            (0x21, 0x21, &v4),
            (0x21, 0x41, &v4),
        ] {
            assert_eq!(read(&header(command, family, rest)), Err(NotProxy));
        }
        assert_eq!(
            read(&header(0x21, 0x11, &[0; V2_REST_MAX + 1])),
            Err(NotProxy)
        );
        let whole = header(0x21, 0x11, &more);
        for end in 1..whole.len() {
            assert_eq!(read(&whole[..end]), Ok(None), "{end} bytes");
        }
    }

    #[test]
    fn only_the_accepted_version_is_read() {
        let first = b"PROXY UNKNOWN\r\n";
        assert!(parse_proxy(first, ProxyProtocol::V1).is_ok());
        assert_eq!(parse_proxy(first, ProxyProtocol::V2), Err(NotProxy));
        assert_eq!(parse_proxy(V2_SIGNATURE, ProxyProtocol::V1), Err(NotProxy));
        assert_eq!(parse_proxy(first, ProxyProtocol::Off), Err(NotProxy));
    }

    fn an_address() -> impl Strategy<Value = SocketAddr> {
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ];
        (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source in an_address(), destination in an_address(), first in any::<bool>()) {
            let version = if first { ProxyProtocol::V1 } else { ProxyProtocol::V2 };
            let mut out = Vec::new();
            write_proxy(&mut out, version, source, destination);
            prop_assert!(out.len() <= PROXY_WRITTEN_MAX);
            let length = out.len();
            out.extend(b"GET / HTTP/1.1\r\n");
            let header = ProxyHeader { length, source: Some(source) };
            prop_assert_eq!(read(&out), Ok(Some(header)));
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(
            start in prop_oneof![Just(b"PROXY ".to_vec()), Just(V2_SIGNATURE.to_vec()), Just(Vec::new())],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [start, rest].concat();
            if let Ok(Some(header)) = read(&bytes) {
                prop_assert!(header.length <= bytes.len());
            }
        }
    }
}
