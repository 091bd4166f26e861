//! What a lookup in a list of networks costs: 100,000 prefixes of each family, addresses that come in no order.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway::config::NetworkVerdict;
use gateway::data::filter::networks::NetworkTable;

const PREFIXES: u32 = 100_000;
/// Addresses asked about in turn: more than caches of a core hold what they lead to.
const ADDRESSES: usize = 1 << 16;

/// Numbers that look random and are the same each time (SplitMix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// An address of IPv4, or of the part of IPv6 that is given out.
fn address(v6: bool, state: &mut u64) -> IpAddr {
    if v6 {
        let high = u128::from(random(state) >> 3 | 1 << 61);
        IpAddr::from((high << 64 | u128::from(random(state))).to_be_bytes())
    } else {
        let [a, b, c, d, ..] = random(state).to_be_bytes();
        IpAddr::from([a, b, c, d])
    }
}

fn networks(criterion: &mut Criterion) {
    for (family, v6, bits) in [("ipv4", false, 16..=32_u64), ("ipv6", true, 32..=64)] {
        let mut state = 7;
        let spread = bits.end() - bits.start() + 1;
        let prefixes: Vec<_> = (0..PREFIXES)
            .map(|_| {
                let length = bits.start() + random(&mut state) % spread;
                let length = u8::try_from(length).unwrap_or(0);
                let network = ipnet::IpNet::new(address(v6, &mut state), length);
                let verdict = match random(&mut state) % 4 {
                    0 => NetworkVerdict::Allow,
                    _ => NetworkVerdict::Deny,
                };
                (
                    network.map(|network| network.trunc()).unwrap_or_default(),
                    verdict,
                )
            })
            .collect();
        let table = NetworkTable::new(&prefixes, NetworkVerdict::Allow);
        let addresses: Vec<_> = (0..ADDRESSES).map(|_| address(v6, &mut state)).collect();
        let mut next = addresses.iter().cycle();
        let name = format!(
            "networks/{family}/{PREFIXES} prefixes, {} bytes",
            table.bytes()
        );
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| next.next().map(|address| black_box(table.find(*address))));
        });
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
