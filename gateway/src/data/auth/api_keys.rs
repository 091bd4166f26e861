//! API keys: whose a key is, by its SHA-256.

use std::collections::HashMap;

use hashbrown::HashTable;
use limiter::KeyHasher;
use subtle::ConstantTimeEq as _;

use super::Identity;
use crate::config::{ApiKey, ConsumerConfig, digest};

/// The keys of an authenticator, and whose they are.
pub struct KeyTable {
    keys: Vec<Known>,
    /// Indices of `keys` by the keyed hash of their digest.
    index: HashTable<u32>,
    identities: Vec<Identity>,
    hasher: KeyHasher,
}

struct Known {
    digest: [u8; 32],
    identity: u32,
}

impl KeyTable {
    /// Makes the table. `hasher`: the process's; what it hashes with is secret.
    #[must_use]
    pub fn new(keys: &[ApiKey], consumers: &[ConsumerConfig], hasher: KeyHasher) -> Self {
        let known: HashMap<&str, &ConsumerConfig> = consumers
            .iter()
            .map(|consumer| (&*consumer.name, consumer))
            .collect();
        let mut table = Self {
            keys: Vec::with_capacity(keys.len()),
            index: HashTable::with_capacity(keys.len()),
            identities: Vec::new(),
            hasher,
        };
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for (key, place) in keys.iter().zip(0..) {
            let next = u32::try_from(table.identities.len()).unwrap_or(u32::MAX);
            let identity = *numbers.entry(&key.consumer).or_insert(next);
            if identity == next {
                let config = known
                    .get(&*key.consumer)
                    .map(|config| std::slice::from_ref(*config));
                table
                    .identities
                    .push(Identity::of(&key.consumer, config.unwrap_or_default()));
            }
            let hash = table.hasher.bytes(&key.digest).hash();
            table.keys.push(Known {
                digest: key.digest,
                identity,
            });
            let keys = &table.keys;
            let rehash = |&at: &u32| hasher.bytes(&keys[at as usize].digest).hash();
            table.index.insert_unique(hash, place, rehash);
        }
        table
    }

    /// The identity of who holds `key`. Costs a SHA-256 and a lookup, whatever the key is: where it lies in the table is
    /// hidden by a keyed hash, and the digests of the one candidate are compared in a time that does not depend on them.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let digest = digest(key);
        let hash = self.hasher.bytes(&digest).hash();
        let is_it = |&at: &u32| bool::from(self.keys[at as usize].digest.ct_eq(&digest));
        let found = self.index.find(hash, is_it)?;
        Some(self.keys[*found as usize].identity as usize)
    }

    /// What is known of a holder.
    pub(super) fn identity(&self, identity: usize) -> &Identity {
        &self.identities[identity]
    }

    /// Keys in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl std::fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyTable")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(consumer: &str, key: &[u8]) -> ApiKey {
        ApiKey {
            consumer: consumer.into(),
            digest: digest(key),
        }
    }

    #[test]
    fn a_key_is_its_consumers_and_no_other_is() {
        let consumers = [ConsumerConfig {
            name: "b".into(),
            groups: vec!["x".into(), "y".into()],
            plan: Some("gold".into()),
        }];
        let keys = [key("a", b"one"), key("b", b"two"), key("a", b"three")];
        let table = KeyTable::new(&keys, &consumers, KeyHasher::with_secret(1));
        let name = |key: &[u8]| table.find(key).map(|at| &*table.identity(at).name);
        assert_eq!(name(b"one"), Some("a"));
        assert_eq!(name(b"two"), Some("b"));
        assert_eq!(name(b"three"), Some("a"));
        for wrong in [&b""[..], b"on", b"one ", b"One", b"one\0", &digest(b"one")] {
            assert_eq!(name(wrong), None, "{wrong:?}");
        }
        let known = table.identity(table.find(b"two").unwrap());
        assert_eq!(known.plan.as_deref(), Some("gold"));
        assert_eq!(
            &*known.lines,
            b"X-Consumer: b\r\nX-Consumer-Groups: x, y\r\nX-Consumer-Plan: gold\r\n"
        );
        assert_eq!(table.identities.len(), 2);
    }

    #[test]
    fn every_one_of_many_keys_is_found() {
        let keys: Vec<ApiKey> = (0..5000_u32)
            .map(|n| key(&(n % 7).to_string(), &n.to_le_bytes()))
            .collect();
        let table = KeyTable::new(&keys, &[], KeyHasher::random());
        for n in 0..5000_u32 {
            let at = table.find(&n.to_le_bytes()).unwrap();
            assert_eq!(*table.identity(at).name, (n % 7).to_string());
        }
        assert!((5000..9000_u32).all(|n| table.find(&n.to_le_bytes()).is_none()));
    }
}
