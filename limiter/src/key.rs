//! What a limit counts by, as a keyed hash: SipHash-1-3 with a secret of the process.
//!
//! The secret keeps clients from choosing keys that meet in one line of the table. Two keys share a bucket only if all 64
//! bits of their hashes agree: with ten million live keys a chance of 3 in a million that any two do.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// What the steering program multiplies by (2^32 over the golden ratio, made odd).
pub const STEER_MULTIPLIER: u32 = 0x9E37_79B1;
/// IPv4 clients that share an overflow bucket: a /24.
const GROUP_BITS_V4: u32 = 24;
/// IPv6 clients that share an overflow bucket: a /48.
const GROUP_BITS_V6: u32 = 48;

/// A hashed key: 14 bytes that say which bucket, which overflow bucket and which shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub(crate) hash: u64,
    pub(crate) group: u32,
    pub(crate) steer: u16,
}

impl Key {
    /// The 64 bits that identify the key, for logs and reports; it says nothing of the key to who lacks the secret.
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:016x})", self.hash)
    }
}

/// Hashes keys with a secret; one per process, so that all its limits agree on the shard of a client.
///
/// Hashing allocates nothing.
///
/// ```
/// use limiter::KeyHasher;
///
/// let hasher = KeyHasher::random();
/// let client = hasher.address("192.0.2.7".parse()?, 64);
/// assert_eq!(client, hasher.address("::ffff:192.0.2.7".parse()?, 64));
/// assert_ne!(client, hasher.bytes(b"192.0.2.7"));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy)]
pub struct KeyHasher {
    secret: (u64, u64),
    group_multiplier: u64,
    steer_seed: u32,
}

impl KeyHasher {
    /// A hasher with a secret from the system's source of randomness.
    #[must_use]
    pub fn random() -> Self {
        // The standard library seeds its hash maps from the system; what its SipHash makes of fixed inputs is as secret.
        let random = RandomState::new();
        Self::new(random.hash_one(1_u8), random.hash_one(2_u8))
    }

    /// A hasher with a known secret: for tests, and where several processes must agree.
    #[must_use]
    pub fn with_secret(secret: u128) -> Self {
        Self::new(low_half(secret), low_half(secret >> 64))
    }

    fn new(k0: u64, k1: u64) -> Self {
        let derive = |purpose: &[u8; 8]| {
            let mut sip = Sip::new(k0, k1);
            sip.block(u64::from_le_bytes(*purpose));
            sip.finish(8 << 56)
        };
        Self {
            secret: (k0, k1),
            group_multiplier: derive(b"grouping") | 1,
            steer_seed: low_word(derive(b"steering")),
        }
    }

    /// The key of an address, an IPv6 one by its first `ipv6_prefix` bits (above 128 means all).
    ///
    /// An IPv4 address inside IPv6 (`::ffff:0:0/96`) counts as IPv4. Its group is the /24 or /48, and its shard the one
    /// that [`steer_seed`](Self::steer_seed) describes.
    #[must_use]
    pub fn address(&self, address: IpAddr, ipv6_prefix: u8) -> Key {
        let mut sip = self.sip();
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = u32::from(v4);
                let hash = sip.finish(5 << 56 | 4 << 32 | u64::from(bits));
                self.grouped(
                    hash,
                    u64::from(bits >> (32 - GROUP_BITS_V4)) | 4 << 56,
                    bits,
                )
            }
            IpAddr::V6(v6) => {
                let drop = 128 - u32::from(ipv6_prefix.min(128));
                let bits = u128::MAX.checked_shl(drop).unwrap_or(0) & u128::from(v6);
                let (high, low) = (low_half(bits >> 64), low_half(bits));
                sip.block(high);
                sip.block(low);
                let hash = sip.finish(17 << 56 | 6 << 8 | u64::from(ipv6_prefix.min(128)));
                let group = low_half(bits >> (128 - GROUP_BITS_V6)) | 6 << 56;
                self.grouped(hash, group, low_word(high >> 32) ^ low_word(high))
            }
        }
    }

    /// The key of some bytes (a header's value, a name).
    #[must_use]
    pub fn bytes(&self, bytes: &[u8]) -> Key {
        self.parts().part(bytes).finish()
    }

    /// Begins a key of several parts, whose order and boundaries count.
    #[inline]
    pub fn parts(&self) -> KeyParts {
        KeyParts { sip: self.sip() }
    }

    /// What a program that steers connections to the worker of their shard must compute, with 32-bit unsigned numbers that
    /// wrap: `h = ((x ^ steer_seed) * STEER_MULTIPLIER) >> 16`, shard `(h * shards) >> 16`, where `x` is the IPv4 address
    /// or the exclusive or of the first two words of the IPv6 address (which fits keys of 64 bits and more).
    #[must_use]
    pub const fn steer_seed(&self) -> u32 {
        self.steer_seed
    }

    fn sip(&self) -> Sip {
        Sip::new(self.secret.0, self.secret.1)
    }

    fn grouped(&self, hash: u64, group: u64, steer_input: u32) -> Key {
        // One multiplication folded onto itself is enough to spread groups: who makes two of them meet gains a smaller
        // share of the overflow for both.
        let product = u128::from(group ^ self.secret.0).wrapping_mul(self.group_multiplier.into());
        let folded = low_half(product) ^ low_half(product >> 64);
        let steer = (steer_input ^ self.steer_seed).wrapping_mul(STEER_MULTIPLIER);
        Key {
            hash,
            group: low_word(folded >> 32) ^ low_word(folded),
            steer: high_quarter(steer),
        }
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

/// A key under construction, see [`KeyHasher::parts`].
#[derive(Clone)]
#[must_use]
pub struct KeyParts {
    sip: Sip,
}

impl KeyParts {
    /// Adds a part.
    pub fn part(mut self, bytes: &[u8]) -> Self {
        let (blocks, tail) = bytes.as_chunks::<8>();
        for block in blocks {
            self.sip.block(u64::from_le_bytes(*block));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        self.sip.block(u64::from_le_bytes(last));
        // The length comes after its part, so that no two lists of parts give the same blocks.
        self.sip.block(bytes.len() as u64);
        self
    }

    /// Adds the key of an address or of other parts.
    #[inline]
    pub fn key(mut self, key: Key) -> Self {
        self.sip.block(key.hash);
        self.sip.block(u64::MAX);
        self
    }

    /// Adds something in the place of a part that is none, such as "absent"; equal to no part and no other mark.
    #[inline]
    pub fn mark(mut self, mark: u8) -> Self {
        self.sip.block(u64::from(mark));
        self.sip.block(u64::MAX - 1);
        self
    }

    /// The key; keys that share a set of the table share its overflow bucket.
    #[inline]
    #[must_use]
    pub fn finish(mut self) -> Key {
        let hash = self.sip.finish(1 << 56);
        Key {
            hash,
            group: low_word(hash),
            steer: high_quarter(low_word(hash >> 24)),
        }
    }
}

impl fmt::Debug for KeyParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyParts").finish_non_exhaustive()
    }
}

/// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with one and three rounds).
#[derive(Clone)]
struct Sip {
    v: [u64; 4],
}

impl Sip {
    const fn new(k0: u64, k1: u64) -> Self {
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    #[inline]
    const fn block(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }

    /// Takes the last block, whose top byte is the length of the input modulo 256.
    #[inline]
    const fn finish(&mut self, last: u64) -> u64 {
        self.block(last);
        self.v[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }

    #[inline]
    const fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
const fn low_half(wide: u128) -> u64 {
    wide as u64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
const fn low_word(wide: u64) -> u32 {
    wide as u32
}

const fn high_quarter(word: u32) -> u16 {
    (word >> 16) as u16
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn a_mark_is_no_part_and_no_other_mark() {
        let hasher = KeyHasher::with_secret(7);
        let keys = [
            hasher.parts().finish(),
            hasher.parts().part(b"").finish(),
            hasher.parts().part(&[0; 8]).finish(),
            hasher.parts().mark(0).finish(),
            hasher.parts().mark(1).finish(),
            hasher.parts().mark(0).part(b"").finish(),
            hasher.parts().part(b"").mark(0).finish(),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|each| each == key), Some(at));
        }
    }

    #[test]
    fn sip_agrees_with_the_standard_library() {
        for words in 0..4_u64 {
            let mut ours = Sip::new(0, 0);
            let mut theirs = DefaultHasher::new();
            for word in 0..words {
                ours.block(word.wrapping_mul(0x0123_4567_89AB_CDEF));
                theirs.write(&word.wrapping_mul(0x0123_4567_89AB_CDEF).to_le_bytes());
            }
            assert_eq!(ours.finish((words * 8) << 56), theirs.finish());
        }
    }
}
