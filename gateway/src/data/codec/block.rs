//! Sixteen octets at a step: which of them are of a class, a bit each, the first octet's the lowest. Must not know what they
//! mean.
//!
//! Every x86-64 processor has the instructions that this is made of (SSE2), but the language has them called in unsafe blocks;
//! elsewhere the compiler makes what it can.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls of SSE2, which every x86-64 has; no pointer among them"
    )
)]

/// Octets of a step.
pub(super) const BLOCK: usize = 16;

/// Sixteen octets.
#[derive(Clone, Copy)]
pub(super) struct Block(lanes::Lanes);

/// A bit for each octet of a block; the upper half is empty.
pub(super) type Marks = u32;

impl Block {
    /// The block of `bytes` that begins at `from`. Behind the end of `bytes` it holds zeros.
    #[inline]
    pub(super) fn at(bytes: &[u8], from: usize) -> Self {
        let rest = bytes.get(from..).unwrap_or_default();
        match rest.first_chunk() {
            Some(whole) => Self(lanes::load(whole)),
            None => padded(rest),
        }
    }

    /// Those that are `byte`.
    #[inline]
    pub(super) fn equal(self, byte: u8) -> Marks {
        lanes::within(self.0, byte, byte)
    }

    /// Those in `first..=last`.
    #[inline]
    pub(super) fn within(self, first: u8, last: u8) -> Marks {
        lanes::within(self.0, first, last)
    }

    /// Those that are an ASCII letter.
    #[inline]
    pub(super) fn letters(self) -> Marks {
        lanes::letters(self.0)
    }

    /// The same with small letters for capitals.
    #[inline]
    pub(super) fn small(self) -> Self {
        Self(lanes::small(self.0))
    }

    /// Those that are the same in `other`.
    #[inline]
    pub(super) fn same(self, other: &[u8; BLOCK]) -> Marks {
        lanes::same(self.0, lanes::load(other))
    }

    /// Those that are no ASCII.
    #[inline]
    pub(super) fn beyond_ascii(self) -> Marks {
        lanes::beyond_ascii(self.0)
    }
}

#[inline(never)]
fn padded(rest: &[u8]) -> Block {
    let mut block = [0; BLOCK];
    block
        .iter_mut()
        .zip(rest)
        .for_each(|(to, from)| *to = *from);
    Block(lanes::load(&block))
}

/// The first `count` octets of a block; all of them from sixteen on.
#[inline]
pub(super) const fn first(count: usize) -> Marks {
    let all = (1 << BLOCK) - 1;
    if count < BLOCK { !(!0 << count) } else { all }
}

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::__m128i;

    use super::{BLOCK, Marks, sse2};

    pub(super) type Lanes = __m128i;

    /// Makes functions that anybody may call of those of [`sse2`].
    macro_rules! lift {
        ($(fn $name:ident($($given:ident: $type:ty),+) -> $out:ty;)+) => {
            $(
                #[inline]
                pub(super) fn $name($($given: $type),+) -> $out {
                    // SAFETY: SSE2 is part of x86-64, for which alone this is compiled, and nothing else is asked for.
                    unsafe { sse2::$name($($given),+) }
                }
            )+
        };
    }

    lift! {
        fn load(block: &[u8; BLOCK]) -> Lanes;
        fn within(lanes: Lanes, first: u8, last: u8) -> Marks;
        fn letters(lanes: Lanes) -> Marks;
        fn small(lanes: Lanes) -> Lanes;
        fn same(one: Lanes, other: Lanes) -> Marks;
        fn beyond_ascii(lanes: Lanes) -> Marks;
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set_epi64x, _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::{BLOCK, Marks};

    #[inline]
    #[target_feature(enable = "sse2")]
    #[expect(clippy::cast_possible_truncation, reason = "a half of it each")]
    pub(super) fn load(block: &[u8; BLOCK]) -> __m128i {
        let both = i128::from_le_bytes(*block);
        _mm_set_epi64x((both >> 64) as i64, both as i64)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn within(lanes: __m128i, first: u8, last: u8) -> Marks {
        marks(if first == last {
            _mm_cmpeq_epi8(lanes, all(first))
        } else {
            is_within(lanes, first, last)
        })
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn letters(lanes: __m128i) -> Marks {
        marks(is_within(_mm_or_si128(lanes, all(0x20)), b'a', b'z'))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn small(lanes: __m128i) -> __m128i {
        let is_capital = is_within(lanes, b'A', b'Z');
        _mm_or_si128(lanes, _mm_and_si128(is_capital, all(0x20)))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn same(one: __m128i, other: __m128i) -> Marks {
        marks(_mm_cmpeq_epi8(one, other))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn beyond_ascii(lanes: __m128i) -> Marks {
        marks(lanes)
    }

    /// What is below `first` wraps to the top.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn is_within(lanes: __m128i, first: u8, last: u8) -> __m128i {
        let above = _mm_sub_epi8(lanes, all(first));
        _mm_cmpeq_epi8(_mm_min_epu8(above, all(last.wrapping_sub(first))), above)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn all(byte: u8) -> __m128i {
        _mm_set1_epi8(byte.cast_signed())
    }

    /// The highest bit of each.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn marks(lanes: __m128i) -> Marks {
        _mm_movemask_epi8(lanes).cast_unsigned()
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod lanes {
    use super::{BLOCK, Marks};

    pub(super) type Lanes = [u8; BLOCK];

    #[inline]
    pub(super) fn load(block: &[u8; BLOCK]) -> Lanes {
        *block
    }

    #[inline]
    fn marks(lanes: Lanes, is: impl Fn(u8) -> bool) -> Marks {
        let bits = lanes.iter().rev();
        bits.fold(0, |marks, &byte| marks << 1 | Marks::from(is(byte)))
    }

    #[inline]
    pub(super) fn within(lanes: Lanes, first: u8, last: u8) -> Marks {
        marks(lanes, |byte| (first..=last).contains(&byte))
    }

    #[inline]
    pub(super) fn letters(lanes: Lanes) -> Marks {
        marks(lanes, |byte| byte.is_ascii_alphabetic())
    }

    #[inline]
    pub(super) fn small(lanes: Lanes) -> Lanes {
        lanes.map(|byte| byte.to_ascii_lowercase())
    }

    #[inline]
    pub(super) fn same(one: Lanes, other: Lanes) -> Marks {
        let bits = one.iter().zip(&other).rev();
        bits.fold(0, |marks, (one, other)| {
            marks << 1 | Marks::from(one == other)
        })
    }

    #[inline]
    pub(super) fn beyond_ascii(lanes: Lanes) -> Marks {
        marks(lanes, |byte| !byte.is_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_octet_is_marked_by_its_class_in_each_place() {
        for place in 0..BLOCK {
            for byte in 0..=255_u8 {
                let mut text = [b'+'; BLOCK];
                text[place] = byte;
                let block = Block::at(&text, 0);
                let plain = |is: &dyn Fn(u8) -> bool| {
                    let marks = text.iter().enumerate().filter(|(_, byte)| is(**byte));
                    marks.fold(0, |marks, (place, _)| marks | 1 << place)
                };
                for (first, last) in [(0, 0x1f), (b'-', b':'), (0x7f, 0x80), (0, 255), (7, 7)] {
                    let inside = |byte: u8| (first..=last).contains(&byte);
                    assert_eq!(block.within(first, last), plain(&inside), "{place} {byte}");
                }
                assert_eq!(block.equal(byte), plain(&|other| other == byte));
                let mut other = *b"+-+-+-+-+-+-+-+-";
                assert_eq!(
                    block.same(&other),
                    text.iter()
                        .zip(&other)
                        .enumerate()
                        .fold(0, |marks, (place, (one, other))| {
                            marks | u32::from(one == other) << place
                        })
                );
                other = text;
                other.make_ascii_lowercase();
                assert_eq!(block.small().same(&other), first(BLOCK));
                assert_eq!(block.letters(), plain(&|byte| byte.is_ascii_alphabetic()));
                assert_eq!(block.beyond_ascii(), plain(&|byte| !byte.is_ascii()));
            }
        }
    }

    #[test]
    fn behind_the_end_there_are_zeros() {
        let text = b"abcdefghijklmnopqrst";
        for from in 0..24 {
            let block = Block::at(text, from);
            let left = text.len().saturating_sub(from);
            assert_eq!(block.letters(), first(left), "{from}");
            assert_eq!(block.equal(0), first(BLOCK) & !first(left), "{from}");
        }
    }
}
