//! Who a request came from, by what proxies say of it: X-Forwarded-For, and Forwarded (RFC 7239).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;

use super::ascii::{is_token_text, list, trim_ows};
use super::field::{FieldKind, Fields};
use crate::config::ClientHeader;

/// Most hops that are looked at, from the last.
pub const HOPS_MAX: usize = 32;

/// The last hops that a request names, the first of them first; `None`: one that is no address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hops(ArrayVec<Option<IpAddr>, HOPS_MAX>);

impl Hops {
    /// Reads the header that `header` names. Allocates nothing; time is linear in its fields.
    #[must_use]
    pub fn read(header: ClientHeader, head: &[u8], fields: &Fields) -> Self {
        let mut hops = Self::default();
        for field in fields.iter() {
            let value = field.value.of(head);
            match (header, field.kind) {
                (ClientHeader::XForwardedFor, FieldKind::XForwardedFor) => {
                    list(value)
                        .filter(|hop| !hop.is_empty())
                        .for_each(|hop| hops.push(parse_node(hop)));
                }
                (ClientHeader::Forwarded, FieldKind::ClientIdentity)
                    if field.name.of(head).eq_ignore_ascii_case(b"forwarded") =>
                {
                    read_forwarded(value, &mut hops);
                }
                _ => {}
            }
        }
        hops
    }

    fn push(&mut self, hop: Option<IpAddr>) {
        if self.0.is_full() {
            self.0.remove(0);
        }
        self.0.push(hop);
    }

    /// The hops to be believed, the client first, where `peer` is trusted and says them: from the last backwards as long
    /// as `is_trusted`, and the one that is not. Empty where not even the last is an address; then the peer is the client.
    pub fn believed(&self, is_trusted: impl Fn(IpAddr) -> bool) -> impl Iterator<Item = IpAddr> {
        let mut first = self.0.len();
        for (place, hop) in self.0.iter().enumerate().rev() {
            let Some(address) = hop else { break };
            first = place;
            if !is_trusted(*address) {
                break;
            }
        }
        self.0.iter().skip(first).filter_map(|hop| *hop)
    }
}

/// The `for` of each element of a Forwarded field. A value that breaks the grammar says nothing that could be believed.
fn read_forwarded(value: &[u8], hops: &mut Hops) {
    let mut rest = value;
    loop {
        match element(rest) {
            Some((node, after)) => {
                hops.push(node);
                match after.split_first() {
                    Some((b',', after)) => rest = after,
                    _ => return,
                }
            }
            None => return hops.push(None),
        }
    }
}

/// RFC 7239, section 4: `forwarded-element`, and what follows it; `None`: it breaks the grammar.
fn element(value: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let mut node = None;
    let mut seen = false;
    let mut rest = trim_ows(value);
    loop {
        // Neighbouring semicolons and an empty element are allowed.
        if let Some(after) = rest.strip_prefix(b";") {
            rest = after;
            continue;
        }
        if rest.is_empty() || rest.first() == Some(&b',') {
            return Some((node, rest));
        }
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        let (name, after) = rest.split_at_checked(equals)?;
        if !is_token_text(name) {
            return None;
        }
        let (text, quoted, after) = parameter(after.get(1..)?)?;
        if name.eq_ignore_ascii_case(b"for") {
            if seen {
                return None;
            }
            seen = true;
            // An IPv6 address, or a port, needs the quotes.
            let bare = !quoted && text.iter().any(|byte| matches!(byte, b':' | b'['));
            node = parse_node(text).filter(|_| !bare);
        }
        rest = trim_ows(after);
        if !matches!(rest.first(), None | Some(b',' | b';')) {
            return None;
        }
    }
}

/// A token or what is inside of a quoted string, whether it was one, and what follows. Escapes are refused: no address
/// needs one.
fn parameter(value: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    if let Some(inside) = value.strip_prefix(b"\"") {
        let end = inside.iter().position(|&byte| byte == b'"')?;
        let (text, after) = inside.split_at_checked(end)?;
        let plain = !text.contains(&b'\\');
        return plain.then(|| (text, true, after.get(1..).unwrap_or_default()));
    }
    let end = value
        .iter()
        .position(|byte| matches!(byte, b';' | b',' | b' ' | b'\t'));
    let (text, after) = value.split_at_checked(end.unwrap_or(value.len()))?;
    // Ports and brackets without quotes are told apart above.
    let token = |text: &[u8]| !text.is_empty() && !text.contains(&b'"');
    token(text).then_some((text, false, after))
}

/// An address with or without port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:80`.
fn parse_node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let is_port = |port: &str| {
        (1..=5).contains(&port.len())
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    let address = if let Some(inside) = text.strip_prefix('[') {
        let (inside, after) = inside.split_once(']')?;
        if !after.is_empty() && !is_port(after.strip_prefix(':')?) {
            return None;
        }
        IpAddr::V6(inside.parse::<Ipv6Addr>().ok()?)
    } else if let Some((address, port)) =
        text.split_once(':').filter(|(_, port)| !port.contains(':'))
    {
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    } else {
        text.parse().ok()?
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::config::UnderscoreHeaders;
    use crate::data::codec::{RequestRules, Scheme, parse_request};

    fn hops(header: ClientHeader, lines: &str) -> Hops {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let rules = RequestRules {
            fields_max: 128,
            underscore: UnderscoreHeaders::Drop,
            rewrite_host: false,
            scheme: Scheme::Http,
        };
        let mut fields = Fields::new();
        parse_request(head.as_bytes(), &rules, &mut fields).unwrap();
        Hops::read(header, head.as_bytes(), &fields)
    }

    fn is_trusted(address: IpAddr) -> bool {
        address.to_string().starts_with("10.") || address.to_string().starts_with("fd00:")
    }

    /// The believed hops, the client first.
    fn believed(header: ClientHeader, lines: &str) -> String {
        let hops = hops(header, lines);
        let texts: Vec<_> = hops
            .believed(is_trusted)
            .map(|hop| hop.to_string())
            .collect();
        texts.join(" ")
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right() {
        for (lines, expected) in [
            ("", ""),
            ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: 1.1.1.1, 192.0.2.1\r\n", "192.0.2.1"),
            (
                "X-Forwarded-For: 1.1.1.1, 192.0.2.1, 10.0.0.2\r\n",
                "192.0.2.1 10.0.0.2",
            ),
            (
                "x-forwarded-for: 192.0.2.1\r\nX-FORWARDED-FOR:10.0.0.2,10.0.0.3\r\n",
                "192.0.2.1 10.0.0.2 10.0.0.3",
            ),
            // All of them trusted: the first is the client.
            (
                "X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n",
                "10.0.0.1 10.0.0.2",
            ),
            // What cannot be read ends the belief.
            ("X-Forwarded-For: 192.0.2.1, evil, 10.0.0.2\r\n", "10.0.0.2"),
            ("X-Forwarded-For: 192.0.2.1, evil\r\n", ""),
            (
                "X-Forwarded-For: 192.0.2.1,, 10.0.0.2,\r\n",
                "192.0.2.1 10.0.0.2",
            ),
            (
                "X-Forwarded-For: [2001:db8::1]:443, fd00::1\r\n",
                "2001:db8::1 fd00::1",
            ),
            ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1"),
            ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: 192.0.2.1:x\r\n", ""),
            ("X-Forwarded-For: 192.0.2.1:99999\r\n", ""),
            ("X-Forwarded-For: 192.0.2.01\r\n", ""),
            ("X-Forwarded-For: [192.0.2.1]\r\n", ""),
            ("Forwarded: for=192.0.2.1\r\n", ""),
        ] {
            assert_eq!(
                believed(ClientHeader::XForwardedFor, lines),
                expected,
                "{lines}"
            );
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (value, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            (
                "for=192.0.2.43, for=10.51.100.17",
                "192.0.2.43 10.51.100.17",
            ),
            (
                "for=192.0.2.43,for=\"10.0.0.2:80\";by=\"a,b;c\" , for=10.0.0.3",
                "192.0.2.43 10.0.0.2 10.0.0.3",
            ),
            // Obfuscated, unknown, absent: nobody knows.
            ("for=192.0.2.43, for=_hidden, for=10.0.0.3", "10.0.0.3"),
            ("for=192.0.2.43, for=unknown", ""),
            ("for=192.0.2.43, proto=http", ""),
            // Against the grammar.
            ("for=192.0.2.43;for=192.0.2.44", ""),
            ("for=2001:db8::1", ""),
            ("for=[2001:db8::1]", ""),
            ("for=\"192.0.2.1", ""),
            ("for=\"192.0.2.1\\\"", ""),
            ("for=\"192.0.2.1\"x", ""),
            ("for 192.0.2.1", ""),
            ("for=", ""),
            ("for=10.0.0.1, for=\"", ""),
        ] {
            let lines = format!("Forwarded: {value}\r\nX-Real-IP: 1.1.1.1\r\n");
            assert_eq!(
                believed(ClientHeader::Forwarded, &lines),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn the_last_hops_count_of_more_than_are_looked_at() {
        let many = vec!["10.0.0.1"; 100].join(", ");
        let hops = believed(
            ClientHeader::XForwardedFor,
            &format!("X-Forwarded-For: 192.0.2.1, {many}\r\n"),
        );
        assert_eq!(hops.split(' ').count(), HOPS_MAX);
    }

    proptest! {
        #[test]
        fn the_client_is_the_first_from_the_right_that_is_not_trusted(
            addresses in vec((any::<bool>(), any::<u8>()), 1..40),
            as_forwarded in any::<bool>(),
        ) {
            let texts: Vec<String> = addresses
                .iter()
                .map(|(trusted, last)| format!("{}.0.0.{last}", if *trusted { 10 } else { 192 }))
                .collect();
            let (header, line) = if as_forwarded {
                let each: Vec<_> = texts.iter().map(|text| format!("for={text}")).collect();
                (ClientHeader::Forwarded, format!("Forwarded: {}\r\n", each.join(",")))
            } else {
                (ClientHeader::XForwardedFor, format!("X-Forwarded-For: {}\r\n", texts.join(",")))
            };
            let last: Vec<_> = texts.iter().rev().take(HOPS_MAX).collect();
            let trusted = last.iter().take_while(|text| text.starts_with("10.")).count();
            let mut model: Vec<&str> =
                last.iter().take(trusted.saturating_add(1)).map(|text| text.as_str()).collect();
            model.reverse();
            prop_assert_eq!(believed(header, &line), model.join(" "));
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(value in "[ -~]{0,80}", as_forwarded in any::<bool>()) {
            let (header, name) = if as_forwarded {
                (ClientHeader::Forwarded, "Forwarded")
            } else {
                (ClientHeader::XForwardedFor, "X-Forwarded-For")
            };
            let _hops = believed(header, &format!("{name}: {value}\r\n"));
        }
    }
}
