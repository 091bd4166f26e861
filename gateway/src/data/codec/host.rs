//! `uri-host [":" port]` (RFC 3986 section 3.2), as strictly as a router needs it.

use std::net::Ipv6Addr;

use super::ascii::{hex_value, is_sub_delim, is_unreserved};

/// Longest host with its port, in octets: a DNS name has at most 253.
const HOST_MAX: usize = 255;

/// Whether `text` is a host, with or without port: no user, no blank, no comma, a port in 0..=65535.
pub(super) fn is_host(text: &[u8]) -> bool {
    if text.is_empty() || text.len() > HOST_MAX {
        return false;
    }
    let (host, port) = split(text);
    port.is_none_or(|digits| parse_port(digits).is_some()) && is_uri_host(host)
}

/// The host without its port: `a.test` of `a.test:80`, `[::1]` of `[::1]:80`. Costs one scan.
#[must_use]
pub fn host_of(authority: &[u8]) -> &[u8] {
    split(authority).0
}

/// The port, where one is written.
#[must_use]
pub fn port_of(authority: &[u8]) -> Option<u16> {
    split(authority).1.and_then(parse_port)
}

/// Host and port at the last colon outside brackets.
fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = text
        .iter()
        .rposition(|&byte| matches!(byte, b':' | b']'))
        .and_then(|at| text.split_at_checked(at));
    match end {
        Some((host, [b':', port @ ..])) => (host, Some(port)),
        _ => (text, None),
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u32, digit: &u8| {
        number
            .wrapping_mul(10)
            .wrapping_add(u32::from(digit.wrapping_sub(b'0')))
    };
    u16::try_from(digits.iter().fold(0, add)).ok()
}

fn is_uri_host(host: &[u8]) -> bool {
    match host {
        [] => false,
        [b'[', address @ .., b']'] => {
            str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        _ => is_reg_name(host),
    }
}

/// Octets of a `reg-name` that stand for themselves, without the comma.
#[expect(clippy::indexing_slicing, reason = "computed when compiling")]
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte != b',' && (is_unreserved(byte) || is_sub_delim(byte));
        byte = byte.wrapping_add(1);
    }
    table
};

fn is_plain(byte: u8) -> bool {
    PLAIN.get(usize::from(byte)) == Some(&true)
}

/// `reg-name` without the comma, which would make a list of it.
fn is_reg_name(host: &[u8]) -> bool {
    // All of most names, by one look at each octet.
    let plain = host.iter().position(|&byte| !is_plain(byte));
    let mut rest = plain
        .and_then(|plain| host.get(plain..))
        .unwrap_or_default();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let [high, low, after @ ..] = tail else {
                return false;
            };
            // An escaped ASCII octet is another spelling of a host, or a delimiter to whoever decodes it.
            if hex_value(*low)
                .and_then(|_| hex_value(*high))
                .is_none_or(|high| high < 8)
            {
                return false;
            }
            rest = after;
        } else if !is_plain(byte) {
            return false;
        }
    }
    true
}

/// Whether two authorities name the same place under `default_port`. Case of the host does not count.
pub(super) fn is_same(one: &[u8], other: &[u8], default_port: u16) -> bool {
    host_of(one).eq_ignore_ascii_case(host_of(other))
        && port_of(one).unwrap_or(default_port) == port_of(other).unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_addresses_and_ports() {
        for good in [
            "a",
            "a.test",
            "A.Test:80",
            "127.0.0.1:65535",
            "[::1]",
            "[2001:db8::7]:443",
            "0.0.0.0=5000",
            "x_y.test",
            "caf%C3%A9.test",
            "a.test:0",
            "a.test:00080",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn refuses_whatever_could_be_read_as_another_host() {
        for bad in [
            "",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "a\\b",
            "a:",
            "a:x",
            "a:80x",
            "a:80:81",
            "a:65536",
            "a:123456",
            "a:-1",
            "a:+1",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[::g]",
            "[fe80::1%25eth0]",
            "[]",
            "a]",
            "[a",
            "<script>",
            "a%",
            "a%2",
            "a%zz",
            "a%00",
            "a%2f",
            "a%2etest",
            "%61.test",
            "a%c3%a",
            "a%40b",
            "a\"b",
            "a\u{e9}",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
        assert!(is_host(&[b'a'; 255]));
        assert!(!is_host(&[b'a'; 256]));
    }

    #[test]
    fn splits_at_the_colon_outside_brackets() {
        assert_eq!((host_of(b"a:80"), port_of(b"a:80")), (&b"a"[..], Some(80)));
        assert_eq!(
            (host_of(b"[::1]"), port_of(b"[::1]")),
            (&b"[::1]"[..], None)
        );
        assert_eq!(
            (host_of(b"[::1]:8"), port_of(b"[::1]:8")),
            (&b"[::1]"[..], Some(8))
        );
    }

    #[test]
    fn the_default_port_is_the_same_place() {
        assert!(is_same(b"A.test:80", b"a.test", 80));
        assert!(!is_same(b"a.test:8080", b"a.test", 80));
        assert!(!is_same(b"a.test", b"b.test", 80));
    }
}
