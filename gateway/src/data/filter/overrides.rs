//! Which keys of a limit get something else than its rate: single keys by their hash, networks by the longest prefix.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use limiter::{Key, KeyHasher};

use super::key::in_hash_order;
use crate::config::{KeyPart, LimitConfig, LimitMode, OverrideKey, OverrideValue};

/// What a key gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Treatment {
    /// Index of its buckets among those of the limit.
    pub(super) buckets: usize,
    /// What a refusal does.
    pub(super) mode: LimitMode,
}

/// The overrides of a limit.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    by_hash: HashMap<u64, Treatment>,
    by_network: HashMap<IpNet, Treatment>,
    by_plan: Vec<(String, Treatment)>,
    /// Lengths of the prefixes in `by_network`, the longest first: IPv4, IPv6.
    lengths: [Vec<u8>; 2],
}

impl Overrides {
    /// Those of `config`, in whose order `buckets` gives the index of each one's buckets.
    pub(super) fn new(
        config: &LimitConfig,
        buckets: impl Iterator<Item = usize>,
        hasher: &KeyHasher,
        ipv6_prefix: u8,
    ) -> Self {
        let mut overrides = Self::default();
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for (each, buckets) in config.overrides.iter().zip(buckets) {
            let treatment = Treatment {
                buckets,
                mode: each.mode,
            };
            match &each.key {
                OverrideKey::Network(network) => {
                    lengths[family(network.addr())].insert(network.prefix_len());
                    overrides.by_network.insert(*network, treatment);
                }
                OverrideKey::Plan(plan) => overrides.by_plan.push((plan.clone(), treatment)),
                OverrideKey::Values(values) => {
                    let key = key_of(&config.key, values, hasher, ipv6_prefix);
                    overrides.by_hash.insert(key.hash(), treatment);
                }
            }
        }
        overrides.lengths = lengths.map(|set| set.into_iter().rev().collect());
        overrides
    }

    /// There are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_hash.is_empty() && self.by_plan.is_empty() && self.by_network.is_empty()
    }

    /// The one for a key of a client, and of a caller with this plan; a lookup for each length of prefix, or one.
    pub(super) fn find(&self, key: Key, client: IpAddr, plan: Option<&str>) -> Option<Treatment> {
        if !self.by_hash.is_empty()
            && let Some(treatment) = self.by_hash.get(&key.hash())
        {
            return Some(*treatment);
        }
        if !self.by_plan.is_empty()
            && let Some(plan) = plan
        {
            let found = self.by_plan.iter().find(|(name, _)| **name == *plan);
            return found.map(|(_, treatment)| *treatment);
        }
        self.of_network(client)
    }

    fn of_network(&self, client: IpAddr) -> Option<Treatment> {
        let lengths = self.lengths[family(client)].iter();
        lengths
            .filter_map(|&length| IpNet::new(client, length).ok())
            .find_map(|network| self.by_network.get(&network.trunc()).copied())
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// The key that a request with these values in the place of `parts` has; as in `key`.
fn key_of(parts: &[KeyPart], values: &[OverrideValue], hasher: &KeyHasher, ipv6_prefix: u8) -> Key {
    in_hash_order(parts.iter().zip(values))
        .fold(hasher.parts(), |hashed, (_, value)| match value {
            OverrideValue::Address(address) => hashed.key(hasher.address(*address, ipv6_prefix)),
            OverrideValue::Text(text) => hashed.part(text.as_bytes()),
        })
        .finish()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::config::{ConfigSource, load};

    fn overrides(lines: &str) -> (Overrides, KeyHasher) {
        let text = format!(
            "listeners = [{{ name = 'a', address = '[::]:0' }}]\n[limits.a]\nrate = '5/s'\n{lines}"
        );
        let source = ConfigSource::Text {
            name: "x",
            text: &text,
        };
        let config = load(source, &|_| None).unwrap();
        assert_eq!(config.limits[0].rate.units, NonZeroU64::new(5).unwrap());
        let hasher = KeyHasher::with_secret(1);
        (Overrides::new(&config.limits[0], 0.., &hasher, 64), hasher)
    }

    #[test]
    fn the_longest_network_of_an_address_counts() {
        let (overrides, hasher) = overrides(
            "overrides = [{ key = '10.0.0.0/8', mode = 'off' }, { key = '10.1.0.0/16', mode = 'off' },
             { key = '10.1.2.3', mode = 'off' }, { key = '2001:db8::/32', mode = 'off' },
             { key = '0.0.0.0/0', mode = 'off' }, { key = '::ffff:10.1.2.4', mode = 'off' }]",
        );
        let find = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let found = overrides.find(hasher.address(address, 64), address, None);
            found.map(|found| found.buckets)
        };
        assert_eq!(find("10.200.0.1"), Some(0));
        assert_eq!(find("10.1.255.255"), Some(1));
        assert_eq!(find("10.1.2.3"), Some(2));
        assert_eq!(find("10.1.2.4"), Some(5));
        assert_eq!(find("11.0.0.1"), Some(4));
        assert_eq!(find("2001:db8:ffff::1"), Some(3));
        assert_eq!(find("2001:db9::1"), None);
    }

    #[test]
    fn every_part_of_a_combination_must_agree() {
        let (overrides, hasher) = overrides(
            "key = ['client_ip', 'route']\noverrides = [{ key = ['2001:db8::1', 'users'], mode = 'shadow' }]\n[[routes]]\nname = 'users'\nrespond = {}",
        );
        let key = |address: &str, route: &str| {
            let client = hasher.address(address.parse().unwrap(), 64);
            hasher.parts().part(route.as_bytes()).key(client).finish()
        };
        let find = |key| overrides.find(key, [0; 4].into(), None);
        let found = find(key("2001:db8::1", "users")).unwrap();
        assert_eq!(found.mode, LimitMode::Shadow);
        // The client's prefix is its identity.
        assert!(find(key("2001:db8::2", "users")).is_some());
        assert!(find(key("2001:db8:0:1::1", "users")).is_none());
        assert!(find(key("2001:db8::1", "orders")).is_none());
    }
}
