//! One slot: two words that belong together although they are written one at a time.
//!
//! `owner` is the key's tag (48 bits) and a generation (16 bits); `word` is the bucket (60 bits) and the low four bits of a
//! generation. What the slot is depends on how far the word's generation is ahead of the owner's:
//!
//! | ahead | state | meaning |
//! |---|---|---|
//! | 0 | [`State::Held`] | the word is the bucket of the key with that tag |
//! | 1 | [`State::Vacant`] | the owner is history; the slot may be claimed |
//! | -1 | [`State::Claimed`] | the key with that tag is about to move in; its bucket is still full |
//!
//! Four steps, each one compare-and-swap on one word, lead from state to state:
//!
//! ```text
//!              set (word, same generation)
//!             ┌────┐
//!             ▼    │      vacate (word, owner + 1)
//!           Held ──┴─────────────────────────────► Vacant
//!             ▲                                    │  ▲
//!             │ set (word, owner's generation)     │  │ vacate (word, owner + 1)
//!             └────────────── Claimed ◄────────────┘  │
//!                                │    claim (owner + 2)
//!                                └────────────────────┘
//! ```
//!
//! No state needs its maker to go on: a stopped core leaves a vacant slot that anyone may claim, or a claim that the same
//! key may finish and any key may vacate. Why a step never hits the wrong bucket:
//!
//! 1. Generations only grow: the owner's by two and only in `claim`, the word's in `vacate` and at the end of a claim.
//! 2. The owner changes only in a vacant slot, and a vacant slot's word never changes. So while the word of a held or
//!    claimed slot keeps its generation, the owner is frozen.
//! 3. [`Slot::see`] returns a pair that was there at one moment: it reads the owner on both sides of the word.
//! 4. A step on the word succeeds only if the word is as seen, hence of the same generation, hence (2) the owner is as seen.
//!    A step on the owner succeeds only if it is as seen, and then (1, 2) so is the word of the vacant slot.
//!
//! Generations wrap. To be fooled, a thread must stop between seeing a slot and its compare-and-swap while the slot changes
//! hands a multiple of 32,768 times and ends with the same key (the owner), or a multiple of 8 times and ends on the same
//! tick, a third of a nanosecond say, as the word it saw (the word).

use crate::quota::WORD_SPARE_BITS;
use crate::sync::{AtomicU64, Ordering};

/// Slots of a line. Loom tries every order of every access, so its lines are short.
pub(crate) const SLOTS: usize = if cfg!(loom) { 1 } else { 4 };

const OWNER_GENERATION_BITS: u32 = 16;
const OWNER_GENERATION: u64 = (1 << OWNER_GENERATION_BITS) - 1;
const WORD_GENERATION: u64 = (1 << WORD_SPARE_BITS) - 1;

/// One cache line of slots.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Line {
    pub(crate) slots: [Slot; SLOTS],
}

const _: () = assert!(
    cfg!(loom) || size_of::<Line>() == 64,
    "a lookup must touch one cache line"
);

impl Line {
    /// A line of vacated time: every slot held by nobody, its bucket full.
    #[cfg(any(loom, miri))]
    pub(crate) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Slot {
                owner: AtomicU64::new(0),
                word: AtomicU64::new(0),
            }),
        }
    }
}

/// A place for one bucket.
///
/// All zeroes is held by tag 0, which no key has, with a bucket that filled up long ago.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    owner: AtomicU64,
    word: AtomicU64,
}

/// What a slot is, see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The bucket of the key with the tag.
    Held,
    /// Free for any key.
    Vacant,
    /// About to be held by the key with the tag.
    Claimed,
}

/// Both words of a slot as they were at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    owner: u64,
    word: u64,
    state: State,
}

impl Seen {
    /// The tag of the owner, history in a vacant slot.
    #[inline]
    pub(crate) const fn tag(self) -> u64 {
        self.owner >> OWNER_GENERATION_BITS
    }

    /// Whether no key was ever here.
    #[inline]
    pub(crate) const fn is_untouched(self) -> bool {
        self.tag() == 0
    }

    /// The bucket, its low bits zero.
    #[inline]
    pub(crate) const fn bucket(self) -> u64 {
        self.word & !WORD_GENERATION
    }

    /// What the slot was.
    #[inline]
    pub(crate) const fn state(self) -> State {
        self.state
    }
}

impl Slot {
    /// Whether the slot's owner has this tag, as a hint: only [`see`](Self::see) says what the slot is.
    #[inline]
    pub(crate) fn may_belong_to(&self, tag: u64) -> bool {
        // Relaxed: nothing is concluded from a hit; a missed one is found again after the fence in `Table::admit`.
        self.owner.load(Ordering::Relaxed) >> OWNER_GENERATION_BITS == tag
    }

    /// Both words if the slot is held by this tag; `None` also where another thread is changing that.
    #[inline]
    pub(crate) fn held_by(&self, tag: u64) -> Option<Seen> {
        // Orderings as in `see`.
        let owner = self.owner.load(Ordering::Acquire);
        let word = self.word.load(Ordering::Acquire);
        let again = self.owner.load(Ordering::Acquire);
        let same = owner == again && owner >> OWNER_GENERATION_BITS == tag;
        let held = (owner ^ word) & WORD_GENERATION == 0;
        (same && held).then_some(Seen {
            owner,
            word,
            state: State::Held,
        })
    }

    /// Both words as they were at one moment; never waits for one thread, tries again only when another one made a step.
    #[inline]
    pub(crate) fn see(&self) -> Seen {
        // Acquire: pairs with the release in `claim`, so that the word is not older than the vacancy which was claimed.
        let mut owner = self.owner.load(Ordering::Acquire);
        loop {
            // Acquire: pairs with the release in `set` and `vacate`, so that the owner read next is not older than the one
            // this word was written for; it also keeps that read behind this one.
            let word = self.word.load(Ordering::Acquire);
            // Acquire: as the first; it is the first of the next round.
            let again = self.owner.load(Ordering::Acquire);
            if owner == again {
                let state = match word.wrapping_sub(owner) & WORD_GENERATION {
                    0 => Some(State::Held),
                    1 => Some(State::Vacant),
                    WORD_GENERATION => Some(State::Claimed),
                    _ => None,
                };
                if let Some(state) = state {
                    return Seen { owner, word, state };
                }
            }
            owner = again;
        }
    }

    /// Writes the bucket of a held slot, or moves the claimer in; false where the slot has changed since it was seen.
    #[inline]
    pub(crate) fn set(&self, seen: Seen, bucket: u64) -> bool {
        debug_assert!(seen.state != State::Vacant, "nobody's bucket");
        debug_assert!(
            bucket & WORD_GENERATION == 0,
            "the low bits are the generation's"
        );
        self.swap_word(seen, bucket | seen.owner & WORD_GENERATION)
            .is_ok()
    }

    /// [`set`](Self::set) to what `step` makes of the bucket, as often as only the bucket has changed meanwhile.
    ///
    /// The bucket written, or the one that `step` refused with false; `None` where the slot has changed hands.
    #[inline]
    pub(crate) fn advance(
        &self,
        mut seen: Seen,
        step: impl Fn(u64) -> Option<u64>,
    ) -> Option<(u64, bool)> {
        loop {
            let Some(bucket) = step(seen.bucket()) else {
                return Some((seen.bucket(), false));
            };
            let Err(word) = self.swap_word(seen, bucket | seen.owner & WORD_GENERATION) else {
                return Some((bucket, true));
            };
            // The word that was faster is a consistent pair with the owner if that has not changed either; `see` again
            // would cost another turn of the line on a bucket that cores fight for.
            // Acquire: as the last read in `see`.
            let same_owner = self.owner.load(Ordering::Acquire) == seen.owner;
            if !same_owner || (word ^ seen.word) & WORD_GENERATION != 0 {
                return None;
            }
            seen.word = word;
        }
    }

    /// Takes the slot from its owner or claimer; `None` where it has changed since it was seen.
    ///
    /// The caller has checked that the bucket is full or the slot only claimed, so that nothing is forgotten.
    pub(crate) fn vacate(&self, seen: Seen) -> Option<Seen> {
        debug_assert!(seen.state != State::Vacant, "it is vacant already");
        let word = seen.bucket() | seen.owner.wrapping_add(1) & WORD_GENERATION;
        self.swap_word(seen, word).is_ok().then_some(Seen {
            word,
            state: State::Vacant,
            ..seen
        })
    }

    /// Claims a vacant slot for a tag; `None` where another was faster.
    pub(crate) fn claim(&self, seen: Seen, tag: u64) -> Option<Seen> {
        debug_assert!(seen.state == State::Vacant, "it belongs to another key");
        let generation = seen.owner.wrapping_add(2) & OWNER_GENERATION;
        let owner = tag << OWNER_GENERATION_BITS | generation;
        // Release: pairs with the acquire of the owner in `see`. Acquire: what vacated the slot is seen by the claimer.
        // Relaxed on failure: nothing is read from it.
        self.owner
            .compare_exchange(seen.owner, owner, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            .then_some(Seen {
                owner,
                state: State::Claimed,
                ..seen
            })
    }

    #[inline]
    fn swap_word(&self, seen: Seen, word: u64) -> Result<u64, u64> {
        // Release: pairs with the acquire of the word in `see`: who reads this word also sees the owner it was written for.
        // Acquire: orders the steps of one bucket; on failure it is the acquire of the word in `see`, for `advance`.
        self.word
            .compare_exchange(seen.word, word, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Has the memory of the slot put in place by this thread.
    pub(crate) fn touch(&self) {
        // Relaxed: the value stays as it is.
        let _unchanged = self.owner.fetch_or(0, Ordering::Relaxed);
    }
}
