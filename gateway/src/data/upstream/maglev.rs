//! Consistent hashing: which endpoint a key stands for, whoever asks.
//!
//! The table of Maglev (Eisenbud et al., NSDI 2016, section 3.4): a lookup is one load, however many endpoints there are,
//! and endpoints get their shares to within a few percent; with weights, an endpoint has so many turns to fill slots. A ring
//! (ketama) needs a search and hundreds of points per endpoint to be as even; rendezvous hashing has no table, but asks
//! every endpoint. Maglev's weakness is that taking an endpoint away moves some keys of the others. Here the table is
//! built once, from all endpoints that are configured, and never again: a key whose endpoint is out is hashed once more, so that
//! no other key moves, and it comes back with its endpoint.

use limiter::KeyHasher;

/// Slots of a table for up to [`SMALL_ENDPOINTS_MAX`] endpoints: a prime, 100 slots for each as the paper advises.
const SMALL_SLOTS: usize = 65_537;
const SMALL_ENDPOINTS_MAX: usize = 655;
/// Slots of a table for more.
const LARGE_SLOTS: usize = 655_373;

/// Makes the hashes of keys and endpoints. One for all gateways and all time, so that they agree on where a key goes.
pub(in crate::data) fn hasher() -> KeyHasher {
    KeyHasher::with_secret(0x5269_6e67_6761_7465_2d6d_6167_6c65_7631)
}

/// A table from hashes to endpoints. 128 KiB, or 1.3 MiB for more than 655 endpoints.
#[derive(Debug)]
pub(super) struct Maglev(Box<[u16]>);

impl Maglev {
    /// Fills a table for endpoints with these names and weights (at least 1). There must be one, and at most 65,535.
    pub(super) fn new(endpoints: &[(&str, u32)]) -> Self {
        let hasher = hasher();
        let endpoints: Vec<(u64, u64)> = endpoints
            .iter()
            .map(|&(name, weight)| (hasher.bytes(name.as_bytes()).hash(), u64::from(weight)))
            .collect();
        let slots = if endpoints.len() <= SMALL_ENDPOINTS_MAX {
            SMALL_SLOTS
        } else {
            LARGE_SLOTS
        };
        Self(fill(&endpoints, slots))
    }

    /// Index of the endpoint that a hash stands for.
    pub(super) fn find(&self, hash: u64) -> usize {
        let slot = usize::try_from(hash % self.0.len() as u64).unwrap_or(0);
        usize::from(self.0[slot])
    }
}

/// Another hash of the same key (the finalizer of splitmix64).
pub(super) const fn rehash(hash: u64) -> u64 {
    let mut x = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Turn by turn every endpoint takes the next slot of its own permutation that is free; the heaviest has a turn in each round.
fn fill(endpoints: &[(u64, u64)], slots: usize) -> Box<[u16]> {
    const FREE: u16 = u16::MAX;
    let size = slots as u64;
    let heaviest = endpoints
        .iter()
        .map(|&(_, weight)| weight)
        .max()
        .unwrap_or(1);
    // Where each stands in its permutation, how far it steps, and what it has saved for its next turn.
    let mut turns: Vec<(u64, u64, u64)> = endpoints
        .iter()
        .map(|&(hash, _)| (hash % size, rehash(hash) % (size - 1) + 1, 0))
        .collect();
    let mut table = vec![FREE; slots].into_boxed_slice();
    let mut left = slots;
    while left > 0 && !endpoints.is_empty() {
        for (index, turn) in turns.iter_mut().enumerate() {
            let (at, step, saved) = turn;
            *saved += endpoints[index].1;
            if *saved < heaviest {
                continue;
            }
            *saved -= heaviest;
            // The step is prime to the size, so that every slot is visited and a free one is found.
            let free = loop {
                let slot = usize::try_from(*at).unwrap_or(0);
                *at = (*at + *step) % size;
                if table[slot] == FREE {
                    break slot;
                }
            };
            table[free] = u16::try_from(index).unwrap_or(0);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("10.0.0.{number}:80"))
            .collect()
    }

    fn table(names: &[String], weight: impl Fn(usize) -> u32) -> Maglev {
        let weighted = names.iter().enumerate();
        let weighted: Vec<_> = weighted
            .map(|(index, name)| (name.as_str(), weight(index)))
            .collect();
        Maglev::new(&weighted)
    }

    fn slots_of(table: &Maglev, endpoint: u16) -> f64 {
        let count = table.0.iter().filter(|&&slot| slot == endpoint).count();
        count as f64 / table.0.len() as f64
    }

    #[test]
    fn slots_are_shared_by_weight() {
        let names = names(10);
        let even = table(&names, |_| 1);
        for endpoint in 0..10 {
            assert!((slots_of(&even, endpoint) - 0.1).abs() < 0.001);
        }
        let uneven = table(&names, |index| if index == 3 { 11 } else { 1 });
        assert!((slots_of(&uneven, 3) - 0.55).abs() < 0.001);
        assert!((slots_of(&uneven, 4) - 0.05).abs() < 0.001);
    }

    #[test]
    fn another_list_moves_few_keys_of_the_endpoints_that_stay() {
        let names = names(10);
        let (all, fewer) = (table(&names, |_| 1), table(&names[..9], |_| 1));
        let moved = all
            .0
            .iter()
            .zip(&fewer.0)
            .filter(|&(&before, &after)| before != 9 && before != after)
            .count();
        let moved = moved as f64 / all.0.len() as f64;
        assert!(moved < 0.10, "{moved} beyond the tenth that must");
    }
}
