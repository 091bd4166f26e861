//! Names for requests, to find them again in logs on both sides of the gateway.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Makes 128-bit identifiers: 64 random bits of the worker, then a counter scrambled so that neighbours look apart.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: [u8; 16],
    counter: Cell<u64>,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            prefix: hex(random.hash_one(0_u8)),
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
        let (front, back) = text.split_at_mut(16);
        front.copy_from_slice(&self.prefix);
        back.copy_from_slice(&hex(mixed));
        text
    }
}

/// The digits of all bytes, two for each.
static DIGITS: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

fn hex(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    let (pairs, _) = text.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(number.to_be_bytes()) {
        *pair = DIGITS[usize::from(byte)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_formatter() {
        for number in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef, 1 << 63] {
            assert_eq!(hex(number).to_vec(), format!("{number:016x}").into_bytes());
        }
    }

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
