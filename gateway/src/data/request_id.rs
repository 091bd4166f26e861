//! Names for requests, to find them again in logs on both sides of the gateway.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Makes 128-bit identifiers: 64 random bits of the worker, then a counter scrambled so that neighbours look apart.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: u64,
    counter: Cell<u64>,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            prefix: random.hash_one(0_u8),
            counter: Cell::new(random.hash_one(1_u8)),
        }
    }

    /// 32 hexadecimal digits. Costs no system call and no allocation.
    pub(super) fn next(&self) -> [u8; 32] {
        // An odd step visits every value once; the mixing is one-to-one (the finaliser of SplitMix64).
        let counter = self.counter.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.counter.set(counter);
        let mut mixed = counter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let mut text = [0; 32];
        put_hex(&mut text[..16], self.prefix);
        put_hex(&mut text[16..], mixed);
        text
    }
}

fn put_hex(out: &mut [u8], number: u64) {
    for (digit, shift) in out.iter_mut().zip((0..16).rev()) {
        let nibble = (number >> (shift * 4)) & 0xf;
        *digit = b"0123456789abcdef"[usize::try_from(nibble).unwrap_or(0)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_differ_and_are_hexadecimal() {
        let ids = RequestIds::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let id = ids.next();
            assert!(id.iter().all(|digit| digit.is_ascii_hexdigit()));
            assert!(seen.insert(id));
        }
    }
}
