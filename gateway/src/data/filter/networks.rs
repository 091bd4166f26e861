//! Lists of networks, by the longest that holds an address: laid flat when they are compiled, so that a lookup is one search
//! among ranges and not one for each length of prefix.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{NetworkListConfig, NetworkMode, NetworkVerdict};
use crate::data::error::Error;
use crate::telemetry::NetworkOutcome;

/// A list compiled for workers.
#[derive(Debug)]
pub struct NetworkList {
    table: NetworkTable,
    mode: NetworkMode,
}

impl NetworkList {
    /// Compiles a list.
    #[must_use]
    pub fn new(config: &NetworkListConfig) -> Self {
        Self {
            table: NetworkTable::new(&config.networks, config.otherwise),
            mode: config.mode,
        }
    }
}

/// Asks the lists in `indices` about a client; calls `decided` with every decision. None of them is asked after a refusal.
///
/// # Errors
///
/// [`Error::Forbidden`]: one of them denies.
pub(in crate::data) fn check(
    lists: &[NetworkList],
    indices: &[usize],
    client: IpAddr,
    mut decided: impl FnMut(usize, NetworkOutcome),
) -> Result<(), Error> {
    for &index in indices {
        let list = &lists[index];
        match (list.table.find(client), list.mode) {
            (NetworkVerdict::Allow, _) => decided(index, NetworkOutcome::Allowed),
            (NetworkVerdict::Deny, NetworkMode::Shadow) => {
                decided(index, NetworkOutcome::ShadowDenied);
            }
            (NetworkVerdict::Deny, NetworkMode::Enforce) => {
                decided(index, NetworkOutcome::Denied);
                return Err(Error::Forbidden("network_denied"));
            }
        }
    }
    Ok(())
}

/// Ranges of IPv6 between two that are looked at first: those of one lie on a few lines of memory.
const STRIDE: usize = 32;

/// What is said of every address of both families.
#[derive(Debug)]
pub struct NetworkTable {
    /// For each first half of an IPv4 address, where its ranges begin in `v4`; and their end.
    v4_index: Box<[u32]>,
    /// The second half of the first address of each range. Every first half has a range that begins with it.
    v4: Box<[u16]>,
    v4_denies: Bits,
    v6: V6Ranges,
    v6_denies: Bits,
}

/// Ranges of IPv6 by their first addresses, in halves: a search by halves among words has no branch that could be mispredicted, which
/// one among addresses has at every step, and the first halves tell nearly all ranges apart.
#[derive(Debug)]
struct V6Ranges {
    /// Every [`STRIDE`]th of `high`.
    index: Box<[u64]>,
    /// The first is that of `::`.
    high: Box<[u64]>,
    low: Box<[u64]>,
}

impl V6Ranges {
    /// In order; the first is `::`.
    fn new(firsts: impl Iterator<Item = u128>) -> Self {
        let (high, low): (Vec<u64>, Vec<u64>) = firsts.map(halves).unzip();
        Self {
            index: high.iter().step_by(STRIDE).copied().collect(),
            high: high.into(),
            low: low.into(),
        }
    }

    /// The index of the range that holds `address`.
    fn find(&self, address: u128) -> usize {
        let (high, low) = halves(address);
        let block = self.index.partition_point(|&first| first <= high);
        let begin = block.saturating_sub(1) * STRIDE;
        let end = (begin + STRIDE).min(self.high.len());
        let after = self.high[begin..end].partition_point(|&first| first <= high);
        let at = (begin + after).saturating_sub(1);
        if self.high[at] != high {
            return at;
        }
        // Of ranges that begin in the same half the second ones tell.
        let begin = self.high[..at].partition_point(|&first| first < high);
        let after = self.low[begin..=at].partition_point(|&first| first <= low);
        (begin + after).saturating_sub(1)
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.high) + size_of_val(&*self.low)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "halves are meant")]
const fn halves(address: u128) -> (u64, u64) {
    ((address >> 64) as u64, address as u64)
}

impl NetworkTable {
    /// Lays networks flat; `otherwise` holds between them. Costs a sort of them.
    #[must_use]
    pub fn new(networks: &[(IpNet, NetworkVerdict)], otherwise: NetworkVerdict) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, verdict) in networks {
            let (first, last) = (network.network(), network.broadcast());
            let entry = |first, last| Entry {
                first,
                last,
                bits: network.prefix_len(),
                verdict: *verdict,
            };
            match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    v4.push(entry(first.to_bits().into(), last.to_bits().into()));
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    v6.push(entry(first.to_bits(), last.to_bits()));
                }
                _ => debug_assert!(false, "a network is of one family"),
            }
        }
        let v4 = flat(v4, otherwise);
        let v6 = flat(v6, otherwise);
        let (v4_index, v4, v4_denies) = by_halves(&v4);
        Self {
            v4_index,
            v4,
            v4_denies,
            v6_denies: v6.iter().map(|(_, verdict)| *verdict).collect(),
            v6: V6Ranges::new(v6.into_iter().map(|(first, _)| first)),
        }
    }

    /// What is said of an address, IPv4 also where it comes mapped into IPv6.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> NetworkVerdict {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                let high = usize::from(u16::from_be_bytes([a, b]));
                let low = u16::from_be_bytes([c, d]);
                let begin = self.v4_index[high] as usize;
                let end = self.v4_index[high + 1] as usize;
                let after = self.v4[begin..end].partition_point(|first| *first <= low);
                self.v4_denies.verdict((begin + after).saturating_sub(1))
            }
            IpAddr::V6(v6) => self.v6_denies.verdict(self.v6.find(v6.to_bits())),
        }
    }

    /// Its memory in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.v4_index)
            + size_of_val(&*self.v4)
            + size_of_val(&*self.v4_denies.0)
            + self.v6.bytes()
            + size_of_val(&*self.v6_denies.0)
    }
}

/// A bit for each range: it is denied.
#[derive(Debug)]
struct Bits(Box<[u64]>);

impl Bits {
    fn verdict(&self, at: usize) -> NetworkVerdict {
        if self.0[at / 64] >> (at % 64) & 1 == 1 {
            NetworkVerdict::Deny
        } else {
            NetworkVerdict::Allow
        }
    }
}

impl FromIterator<NetworkVerdict> for Bits {
    fn from_iter<T: IntoIterator<Item = NetworkVerdict>>(verdicts: T) -> Self {
        let mut words = Vec::new();
        for (at, verdict) in verdicts.into_iter().enumerate() {
            if at % 64 == 0 {
                words.push(0);
            }
            if let (Some(word), NetworkVerdict::Deny) = (words.last_mut(), verdict) {
                *word |= 1 << (at % 64);
            }
        }
        Self(words.into())
    }
}

struct Entry {
    first: u128,
    last: u128,
    bits: u8,
    verdict: NetworkVerdict,
}

/// The first address of each range with what is said of it; the first range begins at 0.
fn flat(mut entries: Vec<Entry>, otherwise: NetworkVerdict) -> Vec<(u128, NetworkVerdict)> {
    // A network comes before those in it; of two that are the same the denial comes last and covers the other.
    entries.sort_unstable_by_key(|entry| (entry.first, entry.bits, entry.verdict));
    let mut ranges = vec![(0, otherwise)];
    let mut put = |at: u128, verdict: NetworkVerdict| match ranges.last_mut() {
        Some(last) if last.0 == at => last.1 = verdict,
        Some(last) if last.1 == verdict => {}
        _ => ranges.push((at, verdict)),
    };
    // The networks around the place that was reached, from the outermost.
    let mut around: Vec<(u128, NetworkVerdict)> = Vec::new();
    let outside = |around: &[(u128, NetworkVerdict)]| around.last().map_or(otherwise, |it| it.1);
    for entry in entries {
        while let Some((last, _)) = around.pop_if(|(last, _)| *last < entry.first) {
            put(last + 1, outside(&around));
        }
        put(entry.first, entry.verdict);
        around.push((entry.last, entry.verdict));
    }
    while let Some((last, _)) = around.pop() {
        if let Some(next) = last.checked_add(1) {
            put(next, outside(&around));
        }
    }
    ranges
}

/// Ranges of IPv4 by the first halves of addresses.
fn by_halves(ranges: &[(u128, NetworkVerdict)]) -> (Box<[u32]>, Box<[u16]>, Bits) {
    const HALVES: usize = 1 << 16;
    let mut index = Vec::with_capacity(HALVES + 1);
    let (mut firsts, mut verdicts) = (Vec::new(), Vec::new());
    let mut rest = ranges.iter().peekable();
    let mut before = NetworkVerdict::Deny;
    for high in 0..HALVES as u128 {
        index.push(u32::try_from(firsts.len()).unwrap_or(u32::MAX));
        let begin = high << 16;
        if rest.peek().is_none_or(|(first, _)| *first != begin) {
            firsts.push(0);
            verdicts.push(before);
        }
        while let Some((first, verdict)) = rest.next_if(|(first, _)| first >> 16 == high) {
            firsts.push(u16::try_from(first - begin).unwrap_or(u16::MAX));
            verdicts.push(*verdict);
            before = *verdict;
        }
    }
    index.push(u32::try_from(firsts.len()).unwrap_or(u32::MAX));
    (index.into(), firsts.into(), verdicts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn an_address() -> impl Strategy<Value = IpAddr> {
        let v4 =
            (9_u8..12, 0_u8..3, any::<u8>()).prop_map(|(a, c, d)| IpAddr::from([a, 255, c, d]));
        let v6 = (0_u16..3, any::<u16>())
            .prop_map(|(high, low)| IpAddr::from([0x2001, 0xdb8, high, 0, 0, 0, 0, low]));
        let ends = prop_oneof![
            Just("0.0.0.0"),
            Just("255.255.255.255"),
            Just("::"),
            Just("10.0.0.0"),
            Just("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            Just("9.255.255.255"),
        ];
        prop_oneof![4 => v4, 4 => v6, 1 => ends.prop_map(|text| text.parse().unwrap())]
    }

    fn a_network() -> impl Strategy<Value = (IpNet, NetworkVerdict)> {
        (an_address(), 0_u8..=128, any::<bool>()).prop_map(|(address, bits, deny)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let network = IpNet::new(address, bits.min(most)).unwrap().trunc();
            let verdict = if deny {
                NetworkVerdict::Deny
            } else {
                NetworkVerdict::Allow
            };
            (network, verdict)
        })
    }

    proptest! {
        #[test]
        fn the_longest_network_decides_and_of_two_the_denial(
            networks in vec(a_network(), 0..80),
            addresses in vec(an_address(), 1..40),
            denies in any::<bool>(),
        ) {
            let otherwise = if denies { NetworkVerdict::Deny } else { NetworkVerdict::Allow };
            let table = NetworkTable::new(&networks, otherwise);
            for address in addresses {
                let holding = networks.iter().filter(|(network, _)| network.contains(&address));
                let longest = holding.max_by_key(|(network, verdict)| (network.prefix_len(), *verdict));
                let model = longest.map_or(otherwise, |(_, verdict)| *verdict);
                prop_assert_eq!(table.find(address), model, "{} {:?}", address, networks);
            }
        }
    }

    #[test]
    fn an_address_that_comes_mapped_is_the_same_one() {
        let denied = [("192.0.2.0/24".parse().unwrap(), NetworkVerdict::Deny)];
        let table = NetworkTable::new(&denied, NetworkVerdict::Allow);
        assert_eq!(
            table.find("::ffff:192.0.2.7".parse().unwrap()),
            NetworkVerdict::Deny
        );
        assert_eq!(
            table.find("::ffff:192.0.3.7".parse().unwrap()),
            NetworkVerdict::Allow
        );
    }

    #[test]
    fn a_hundred_thousand_networks_of_each_family_fit_into_eight_mebibytes() {
        let mut networks = Vec::new();
        for number in 0..100_000_u32 {
            let v4 = IpAddr::from((number.wrapping_mul(2_654_435_761)).to_be_bytes());
            let v6 = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            networks.push((IpNet::new(v4, 24).unwrap().trunc(), NetworkVerdict::Deny));
            let v6 = IpNet::new(IpAddr::from(v6.to_be_bytes()), 48)
                .unwrap()
                .trunc();
            networks.push((v6, NetworkVerdict::Deny));
        }
        let table = NetworkTable::new(&networks, NetworkVerdict::Allow);
        assert!(table.bytes() < 8 << 20, "{}", table.bytes());
        assert!(
            networks
                .iter()
                .all(|(network, _)| table.find(network.addr()) == NetworkVerdict::Deny)
        );
    }
}
