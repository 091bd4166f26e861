//! Whether an address is in one of some networks: ranges without overlaps, searched by halves. No I/O.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks of both families.
#[derive(Clone, Debug, Default)]
pub(in crate::data) struct Networks {
    /// First and last address of each range, in order and apart; IPv4 where IPv6 maps it.
    ranges: Box<[(u128, u128)]>,
}

impl Networks {
    /// These networks, and no other address.
    pub(in crate::data) fn new(networks: &[IpNet]) -> Self {
        let range = |network: &IpNet| (bits(network.network()), bits(network.broadcast()));
        let mut all: Vec<_> = networks.iter().map(range).collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                Some((_, before)) if first <= before.saturating_add(1) => {
                    *before = last.max(*before)
                }
                _ => ranges.push((first, last)),
            }
        }
        Self {
            ranges: ranges.into(),
        }
    }

    /// Whether there is none.
    pub(in crate::data) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether one of them holds `address`. Costs as many comparisons as their number has binary digits.
    pub(in crate::data) fn contains(&self, address: IpAddr) -> bool {
        let address = bits(address);
        let after = self.ranges.partition_point(|&(first, _)| first <= address);
        after
            .checked_sub(1)
            .is_some_and(|index| address <= self.ranges[index].1)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn an_address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0_u8..4, 0_u8..4).prop_map(|(high, low)| IpAddr::from([10, 0, high, low]));
        let v6 = (0_u16..3, 0_u16..3)
            .prop_map(|(high, low)| IpAddr::from([0x2001, 0xdb8, high, 0, 0, 0, 0, low]));
        prop_oneof![v4, v6]
    }

    fn a_network() -> impl Strategy<Value = IpNet> {
        (an_address(), 0_u8..=128).prop_map(|(address, bits)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, bits.min(most)).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn holds_what_one_of_the_networks_holds(
            networks in vec(a_network(), 0..8),
            addresses in vec(an_address(), 1..20),
        ) {
            let set = Networks::new(&networks);
            for address in addresses {
                let model = networks.iter().any(|network| network.contains(&address));
                // All of IPv6 holds IPv4 as well, where it is mapped.
                let mapped = address.is_ipv4() && networks.iter().any(|network| {
                    let IpAddr::V4(v4) = address else { return false };
                    network.contains(&IpAddr::V6(v4.to_ipv6_mapped()))
                });
                prop_assert_eq!(set.contains(address), model || mapped, "{} {:?}", address, networks);
            }
        }
    }

    #[test]
    fn an_empty_set_holds_nothing() {
        let none = Networks::new(&[]);
        assert!(none.is_empty());
        assert!(!none.contains([127, 0, 0, 1].into()));
    }
}
