//! An allocator that counts for the threads that want it: each test has counters of its own, so that tests can run at once.

#![expect(
    unsafe_code,
    reason = "a global allocator can be counted in no other way"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Sizes of blocks that are counted apart; what is larger counts as one.
const CLASSES: usize = 1024 / 16 + 1;

/// What threads have allocated and not freed, as the gateway's allocator would have rounded it.
pub(crate) struct Counters {
    allocations: AtomicU64,
    bytes: AtomicI64,
    /// By size in units of 16 bytes.
    blocks: [AtomicI64; CLASSES],
}

thread_local! {
    static COUNTERS: Cell<Option<&'static Counters>> = const { Cell::new(None) };
}

impl Counters {
    /// For one test; as long as the process, since threads may outlive the test.
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            allocations: AtomicU64::new(0),
            bytes: AtomicI64::new(0),
            blocks: [const { AtomicI64::new(0) }; CLASSES],
        }))
    }

    /// Counts what this thread does from here on.
    pub(crate) fn follow_this_thread(&'static self) {
        COUNTERS.set(Some(self));
    }

    /// Allocations so far, freed or not.
    pub(crate) fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Bytes that are not freed.
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Blocks that are not freed, by size in units of 16 bytes.
    pub(crate) fn blocks(&self) -> Vec<i64> {
        let blocks = self.blocks.iter();
        blocks.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// What there is more of than `before`: for a message.
    pub(crate) fn grown(&self, before: &[i64]) -> String {
        let mut text = String::new();
        for (class, (now, before)) in self.blocks().iter().zip(before).enumerate() {
            if now - before >= 1 {
                let _infallible = write!(text, "{} of {} bytes, ", now - before, class * 16);
            }
        }
        text
    }

    fn count(&self, layout: Layout, sign: i64) {
        let size = rounded(layout.size());
        self.blocks[(size / 16).min(CLASSES - 1)].fetch_add(sign, Ordering::Relaxed);
        self.bytes
            .fetch_add(sign * i64::try_from(size).unwrap_or(0), Ordering::Relaxed);
    }
}

/// The size that jemalloc gives for `size`: multiples of 16 to 128, then four sizes between powers of two.
const fn rounded(size: usize) -> usize {
    if size <= 128 {
        return size.next_multiple_of(16);
    }
    let step = size.next_power_of_two() / 8;
    size.next_multiple_of(step)
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local that needs no
// allocation and no destructor, and atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(counters) = COUNTERS.get() {
            counters.allocations.fetch_add(1, Ordering::Relaxed);
            counters.count(layout, 1);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(counters) = COUNTERS.get() {
            counters.count(layout, -1);
        }
        // SAFETY: the block came from `System`, see `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
