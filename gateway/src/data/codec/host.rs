//! `uri-host [":" port]` (RFC 3986 section 3.2), as strictly as a router needs it.

use std::net::Ipv6Addr;

use super::ascii::{hex_value, is_sub_delim, is_unreserved};
use super::block::{BLOCK, Block, first};
use super::field::Span;

/// Longest host with its port, in octets: a DNS name has at most 253.
const HOST_MAX: usize = 255;

/// Whether what is `at` in `head` is a host, with or without port: no user, no blank, no comma, a port in 0..=65535 or one of no
/// digits, which is none (RFC 9110 section 4.2.3).
#[inline]
pub(super) fn is_host(head: &[u8], at: Span) -> bool {
    is_plain_host(head, at) || is_any_host(at.of(head))
}

/// Whether it is one of letters, digits, dots and dashes, as nearly all are; false says nothing.
fn is_plain_host(head: &[u8], at: Span) -> bool {
    if at.len() > HOST_MAX {
        return false;
    }
    let mut place = at.start();
    let mut colon = None;
    while place < at.end() {
        let block = Block::at(head, place);
        let within = first(at.end().wrapping_sub(place));
        // From the dash to the colon there are all that may be, and the slash.
        let plain = block.letters() | block.within(b'-', b':') & !block.equal(b'/');
        if !plain & within != 0 {
            return false;
        }
        let colons = block.equal(b':') & within;
        if colons != 0 {
            colon = Some(place.wrapping_add(colons.trailing_zeros() as usize));
            break;
        }
        place = place.wrapping_add(BLOCK);
    }
    let Some(colon) = colon else {
        return !at.is_empty();
    };
    let digits = head.get(colon.wrapping_add(1)..at.end());
    colon > at.start() && digits.is_some_and(is_port)
}

fn is_any_host(text: &[u8]) -> bool {
    if text.is_empty() || text.len() > HOST_MAX {
        return false;
    }
    let (host, port) = split(text);
    port.is_none_or(is_port) && is_uri_host(host)
}

/// The host without its port: `a.test` of `a.test:80`, `[::1]` of `[::1]:80`. Costs one scan.
#[must_use]
pub fn host_of(authority: &[u8]) -> &[u8] {
    split(authority).0
}

/// `at` without a colon behind which there is no port (RFC 3986 section 3.2.3: "should omit the port component and its ":"
/// delimiter"), so that a host has one spelling less.
pub(super) fn without_empty_port(head: &[u8], at: Span) -> Span {
    match at.of(head) {
        [.., b':'] => Span::new(at.start(), at.end().saturating_sub(1)),
        _ => at,
    }
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

fn is_port(digits: &[u8]) -> bool {
    digits.is_empty() || parse_port(digits).is_some()
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        let digit = u32::from(digit.wrapping_sub(b'0'));
        (digit < 10).then(|| number.wrapping_mul(10).wrapping_add(digit))
    });
    u16::try_from(number?).ok()
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
    use proptest::prelude::*;

    use super::*;

    /// In a head and alone, by the plain way and by the other.
    fn is_host(text: &[u8]) -> bool {
        let any = is_any_host(text);
        let in_head = [b"Host: ", text, b"\r\n\r\n"].concat();
        let at = Span::locate(&in_head, &in_head[6..][..text.len()]);
        assert!(
            any || !is_plain_host(&in_head, at),
            "{}",
            text.escape_ascii()
        );
        assert_eq!(super::is_host(&in_head, at), any);
        assert_eq!(super::is_host(text, Span::new(0, text.len())), any);
        any
    }

    proptest! {
        #[test]
        fn a_plain_host_is_a_host(text in "[a-c.:0-9-]{0,40}|[a-z.-]{1,60}(:[0-9]{0,6})?|[a-c.:/\\[\\]@%_~\u{e9},-]{0,40}") {
            is_host(text.as_bytes());
        }

        #[test]
        fn a_host_of_any_octets_is_what_the_other_way_says(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            is_host(&text);
        }
    }

    #[test]
    fn most_hosts_are_plain() {
        for host in [
            "a",
            "127.0.0.1:23456",
            "api.example-service.production.example.com:8443",
            "A.B",
        ] {
            assert!(
                is_plain_host(host.as_bytes(), Span::new(0, host.len())),
                "{host}"
            );
        }
    }

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
            "a.test:",
            "[::1]:",
            "a_b:",
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
            ":",
            "a::",
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
        assert!(is_same(b"A.test:80", b"a.test:", 80));
        assert!(!is_same(b"a.test:8080", b"a.test:", 80));
        assert!(!is_same(b"a.test:8080", b"a.test", 80));
        assert!(!is_same(b"a.test", b"b.test", 80));
    }
}
