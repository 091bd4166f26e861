//! The buffer type: one owner, reused through a per-thread pool, handed to the kernel and back.
//!
//! A [`Buf`] is a window `begin..end` of readable bytes in a block of memory; a read appends behind `end`, a write
//! sends the window. All of the block is initialised when it is allocated, so the bytes are always defined.
//!
//! This is the only module of the crate, beside `socket`, that may hold unsafe code: monoio's and bytes' buffer
//! traits are unsafe to implement.
#![expect(
    unsafe_code,
    reason = "IoBuf, IoBufMut and BufMut are unsafe traits; the proofs are beside each"
)]

use std::cell::RefCell;
use std::fmt;

use bytes::buf::UninitSlice;
use monoio::buf::{IoBuf, IoBufMut};

use crate::spare::Spare;

/// A request or response head and a small body.
pub const SMALL_BYTES: usize = 4 * 1024;
/// A message of 16 KiB with its head, or a body in pieces.
pub const MEDIUM_BYTES: usize = 20 * 1024;
/// The largest block the pool keeps.
pub const LARGE_BYTES: usize = 64 * 1024;

/// Room before what is read, in which a message's head is written anew: by so much it may grow, and the body behind it
/// need not be copied.
pub const HEADROOM_BYTES: usize = 256;

/// Blocks of each size that one thread keeps for reuse; more are freed. 2 MiB, 5 MiB and 8 MiB at most, of which
/// [`trim_blocks`] keeps what a load that goes on needs: two for each of 64 large bodies under way, and with fewer kept each
/// piece of a body would begin in memory that is cleared for it.
const POOL_BLOCKS_MAX: [usize; 3] = [512, 256, 128];
const SIZES: [usize; 3] = [SMALL_BYTES, MEDIUM_BYTES, LARGE_BYTES];

const _: () = assert!(SMALL_BYTES < MEDIUM_BYTES && MEDIUM_BYTES < LARGE_BYTES);

thread_local! {
    static POOL: RefCell<[Spare<Box<[u8]>>; 3]> = const { RefCell::new([Spare::new(), Spare::new(), Spare::new()]) };
}

/// Frees those of this thread's blocks that nobody has needed since the last call. For a sweeper.
pub(crate) fn trim_blocks() {
    POOL.with(|pool| pool.borrow_mut().iter_mut().for_each(Spare::trim));
}

/// The index of the pool that holds blocks of exactly `capacity` bytes.
fn class_of(capacity: usize) -> Option<usize> {
    SIZES.iter().position(|&size| size == capacity)
}

fn take_block(at_least: usize) -> Box<[u8]> {
    let Some(class) = SIZES.iter().position(|&size| size >= at_least) else {
        return vec![0; at_least].into_boxed_slice();
    };
    POOL.try_with(|pool| pool.borrow_mut()[class].take())
        .ok()
        .flatten()
        .unwrap_or_else(|| vec![0; SIZES[class]].into_boxed_slice())
}

fn give_block(block: Box<[u8]>) {
    let Some(class) = class_of(block.len()) else {
        return;
    };
    // The pool is gone while the thread ends; the block is freed then. This runs inside the driver's completion
    // loop too (a cancelled read gives its buffer back there), so it must not call into the runtime.
    let _gone = POOL.try_with(|pool| {
        pool.borrow_mut()[class].give(block, POOL_BLOCKS_MAX[class]);
    });
}

/// A pooled buffer. Readable bytes are `begin..end`; a read from a socket appends at `end`.
///
/// Cost: taking and dropping one is a push or pop on a per-thread stack. An empty `Buf` ([`Buf::empty`]) owns no
/// block.
pub struct Buf {
    block: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Buf {
    /// A buffer without a block: capacity 0. Reading into it is a mistake (a read of no bytes looks like the end).
    #[must_use]
    pub fn empty() -> Self {
        Self {
            block: Box::default(),
            begin: 0,
            end: 0,
        }
    }

    /// A buffer of at least `capacity` bytes, from the pool up to [`LARGE_BYTES`].
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            block: take_block(capacity),
            begin: 0,
            end: 0,
        }
    }

    /// A buffer of [`SMALL_BYTES`].
    #[must_use]
    pub fn small() -> Self {
        Self::with_capacity(SMALL_BYTES)
    }

    /// A buffer that holds a copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::with_capacity(bytes.len().max(SMALL_BYTES));
        buf.extend(bytes);
        buf
    }

    /// A buffer that holds a copy of `bytes` in a block of just that size, which is not pooled: for what is kept long.
    #[must_use]
    pub fn exactly(bytes: &[u8]) -> Self {
        Self {
            block: bytes.into(),
            begin: 0,
            end: bytes.len(),
        }
    }

    /// The readable bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.block[self.begin..self.end]
    }

    /// The readable bytes, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.begin..self.end]
    }

    /// Readable bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.begin
    }

    /// No readable bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Bytes the block holds in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Bytes that may be appended without moving anything.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.block.len() - self.end
    }

    /// Forgets the first `count` readable bytes; all of them where there are fewer.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "consumed {count} of {}", self.len());
        self.begin = (self.begin + count).min(self.end);
        if self.begin == self.end {
            self.begin = 0;
            self.end = 0;
        }
    }

    /// Shows again the last `count` bytes that were consumed. For one who consumed them and did nothing else since.
    pub(crate) fn unconsume(&mut self, count: usize) {
        debug_assert!(count <= self.begin, "shows bytes that were never there");
        self.begin = self.begin.saturating_sub(count);
    }

    /// Moves the start of the window, without forgetting what lies before it.
    pub(crate) fn skip(&mut self, count: usize) {
        self.begin = (self.begin + count).min(self.end);
    }

    /// Keeps only the first `count` readable bytes.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.begin + count);
    }

    /// Forgets all readable bytes.
    pub fn clear(&mut self) {
        self.begin = 0;
        self.end = 0;
    }

    /// Makes room for `additional` more bytes: moves the readable bytes to the front, or to a larger block.
    #[inline]
    pub fn reserve(&mut self, additional: usize) {
        if self.spare() < additional {
            self.make_room(additional);
        }
    }

    #[cold]
    fn make_room(&mut self, additional: usize) {
        let len = self.len();
        if self.block.len() >= len + additional {
            self.block.copy_within(self.begin..self.end, 0);
        } else {
            let mut wanted = len + additional;
            if wanted > LARGE_BYTES {
                // So that appending stays linear.
                wanted = wanted.next_power_of_two();
            }
            let mut block = take_block(wanted);
            block[..len].copy_from_slice(self.data());
            give_block(std::mem::replace(&mut self.block, block));
        }
        self.begin = 0;
        self.end = len;
        debug_assert!(self.spare() >= additional);
    }

    /// Appends `bytes`, growing as needed. Callers bound what they append.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.end.wrapping_add(bytes.len());
        if let Some(room) = self.block.get_mut(self.end..end) {
            room.copy_from_slice(bytes);
            self.end = end;
        } else {
            self.extend_with_room_made(bytes);
        }
    }

    #[cold]
    fn extend_with_room_made(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.block[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Puts `bytes` before the readable bytes, if there is room for them; false: nothing was done.
    ///
    /// A read leaves [`HEADROOM_BYTES`] before it, and what was consumed is room as well.
    #[inline]
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(begin) = self.begin.checked_sub(bytes.len()) else {
            return false;
        };
        self.block[begin..self.begin].copy_from_slice(bytes);
        self.begin = begin;
        true
    }

    /// Leaves [`HEADROOM_BYTES`] before what will be appended. For an empty buffer.
    pub(crate) fn leave_headroom(&mut self) {
        debug_assert!(self.is_empty(), "bytes do not move");
        self.begin = HEADROOM_BYTES.min(self.block.len() / 2);
        self.end = self.begin;
    }

    /// Moves the bytes behind the first `count` into a buffer of their own and keeps the first `count`.
    ///
    /// Copies the tail. `self` must hold at least `count` bytes.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> Self {
        let tail = &self.data()[count.min(self.len())..];
        let rest = if tail.is_empty() {
            Self::empty()
        } else {
            Self::copy_of(tail)
        };
        self.truncate(count);
        rest
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if !self.block.is_empty() {
            give_block(std::mem::take(&mut self.block));
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}

// SAFETY: the pointer is into the heap block, which stays where it is when the `Buf` moves and is not freed before
// the `Buf` is dropped; `begin..end` lies inside it and is initialised, as all of the block is.
unsafe impl IoBuf for Buf {
    fn read_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as for `IoBuf`; the writable part is `end..capacity`, and `set_init(n)` comes after a read of `n` bytes at
// most `bytes_total` into it.
unsafe impl IoBufMut for Buf {
    fn write_ptr(&mut self) -> *mut u8 {
        self.block[self.end..].as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.spare()
    }

    unsafe fn set_init(&mut self, count: usize) {
        debug_assert!(count <= self.spare());
        self.end = (self.end + count).min(self.block.len());
    }
}

// SAFETY: `chunk_mut` is the spare part of the block, never empty after `reserve`; `advance_mut` stays inside it.
unsafe impl bytes::BufMut for Buf {
    fn remaining_mut(&self) -> usize {
        usize::MAX - self.len()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        assert!(count <= self.spare(), "advanced past the block");
        self.end += count;
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        if self.spare() == 0 {
            self.reserve(1);
        }
        UninitSlice::new(&mut self.block[self.end..])
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    #[test]
    fn a_dropped_block_is_taken_again() {
        let buf = Buf::small();
        let block = buf.block.as_ptr();
        drop(buf);
        assert_eq!(Buf::small().block.as_ptr(), block);
    }

    #[test]
    fn growing_keeps_the_readable_bytes() {
        let mut buf = Buf::small();
        buf.extend(&[7; 4000]);
        buf.consume(10);
        buf.extend(&[8; 100]);
        assert_eq!(
            buf.capacity(),
            SMALL_BYTES,
            "moved to the front, not to a larger block"
        );
        buf.extend(&[9; 5000]);
        assert_eq!(buf.capacity(), MEDIUM_BYTES);
        let expected: Vec<u8> = [vec![7; 3990], vec![8; 100], vec![9; 5000]].concat();
        assert_eq!(buf.data(), expected);
    }

    #[test]
    fn appending_through_bufmut_grows_past_the_pool() {
        let mut buf = Buf::empty();
        for _ in 0..LARGE_BYTES {
            buf.put_u16(0x4142);
        }
        assert_eq!(buf.len(), 2 * LARGE_BYTES);
        assert!(buf.data().chunks(2).all(|pair| pair == b"AB"));
    }

    #[test]
    fn what_fits_before_the_bytes_is_put_there() {
        let mut buf = Buf::small();
        buf.leave_headroom();
        buf.extend(b"head|body");
        buf.consume(5);
        assert!(!buf.prepend(&[b'x'; HEADROOM_BYTES + 6]));
        assert_eq!(buf.data(), b"body");
        assert!(buf.prepend(&[b'x'; HEADROOM_BYTES + 5]));
        assert_eq!(buf.len(), HEADROOM_BYTES + 9);
        assert!(buf.data().starts_with(b"xx") && buf.data().ends_with(b"xbody"));
        assert!(!buf.prepend(b"y") && !Buf::empty().prepend(b"y"));
    }

    #[test]
    fn a_split_gives_head_and_tail() {
        let mut head = Buf::copy_of(b"head|tail");
        let tail = head.split_off(5);
        assert_eq!((head.data(), tail.data()), (&b"head|"[..], &b"tail"[..]));
        assert_eq!(head.split_off(5).capacity(), 0);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_bound() {
        drop((0..1000).map(|_| Buf::small()).collect::<Vec<_>>());
        POOL.with(|pool| assert_eq!(pool.borrow()[0].len(), POOL_BLOCKS_MAX[0]));
    }
}
