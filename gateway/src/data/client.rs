//! Who a request came from: the peer, or who trusted proxies say.

use std::io::Write as _;
use std::net::IpAddr;

use arrayvec::ArrayString;
use limiter::Key;

use super::codec::{Fields, Hops};
use super::plan::Plan;
use crate::config::ClientHeader;

/// Who a connection comes from, before any request says more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// The address, IPv4 also where it came mapped into IPv6.
    pub(super) client: IpAddr,
    /// Its key in limits by address.
    pub(super) key: Key,
    /// `client` as text.
    pub(super) text: &'a str,
    /// It is a proxy that is believed.
    pub(super) trusted: bool,
}

/// What is told of the client, as text; used again for each request.
#[derive(Debug, Default)]
pub(super) struct Told {
    chain: Vec<u8>,
    /// Length of the first address in `chain`.
    first: usize,
    forwarded: Vec<u8>,
}

impl Told {
    /// The value of X-Forwarded-For: the client, the hops that are believed, the peer.
    pub(super) fn chain(&self) -> &[u8] {
        &self.chain
    }

    /// The client's address.
    pub(super) fn client(&self) -> &[u8] {
        self.chain.get(..self.first).unwrap_or_default()
    }

    /// The value of Forwarded; empty: none goes upstream.
    pub(super) fn forwarded(&self) -> &[u8] {
        &self.forwarded
    }
}

/// An address as text. IPv4 by hand: the formatting of the standard library is a tenth of what a connection costs.
pub(super) fn text_of(address: IpAddr) -> Box<str> {
    let IpAddr::V4(v4) = address else {
        return address.to_string().into();
    };
    let mut text = ArrayString::<15>::new();
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(digit(octet / 100));
        }
        if octet >= 10 {
            text.push(digit(octet / 10 % 10));
        }
        text.push(digit(octet % 10));
    }
    text.as_str().into()
}

fn digit(number: u8) -> char {
    char::from(b'0' + number)
}

/// The client of a request and its key in limits by address; writes what is told of it to `told`.
///
/// From a peer that is not trusted this is one branch and the copy of its address.
#[inline]
pub(super) fn find(
    peer: &Peer<'_>,
    plan: &Plan,
    head: &[u8],
    fields: &Fields,
    told: &mut Told,
) -> (IpAddr, Key) {
    let header = plan.client_ip.header;
    told.chain.clear();
    told.forwarded.clear();
    told.first = peer.text.len();
    let mut found = (peer.client, peer.key);
    if peer.trusted {
        found = follow(header, plan, head, fields, told).unwrap_or(found);
    }
    told.chain.extend_from_slice(peer.text.as_bytes());
    put_node(header, peer.client, &mut told.forwarded);
    found
}

/// Who the believed hops say the client is, if there are any.
#[inline(never)]
fn follow(
    header: ClientHeader,
    plan: &Plan,
    head: &[u8],
    fields: &Fields,
    told: &mut Told,
) -> Option<(IpAddr, Key)> {
    let mut found = None;
    let hops = Hops::read(header, head, fields);
    let believed = hops.believed(|hop| plan.trusted_proxies.contains(hop));
    for (number, hop) in believed.enumerate() {
        // Writing to a Vec cannot fail.
        let _written = write!(told.chain, "{hop}");
        if number == 0 {
            told.first = told.chain.len();
            let prefix = plan.client_ip.ipv6_prefix;
            found = Some((hop, plan.hasher.address(hop, prefix)));
        }
        told.chain.extend_from_slice(b", ");
        put_node(header, hop, &mut told.forwarded);
    }
    found
}

/// RFC 7239, section 6: an IPv6 address stands in brackets and quotes.
#[inline]
fn put_node(header: ClientHeader, hop: IpAddr, out: &mut Vec<u8>) {
    if header == ClientHeader::Forwarded {
        put_forwarded_node(hop, out);
    }
}

#[inline(never)]
fn put_forwarded_node(hop: IpAddr, out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.extend_from_slice(b", ");
    }
    // Writing to a Vec cannot fail.
    let _written = match hop {
        IpAddr::V4(v4) => write!(out, "for={v4}"),
        IpAddr::V6(v6) => write!(out, "for=\"[{v6}]\""),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_the_standard_library_writes_it() {
        let each_octet = (0..=255).map(|octet| IpAddr::from([octet, 255 - octet, octet / 10, 0]));
        let others = ["::1", "2001:db8::ff"].map(|text| text.parse().unwrap());
        for address in each_octet.chain(others) {
            assert_eq!(*text_of(address), *address.to_string());
        }
    }
}
