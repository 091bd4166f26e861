//! Limits on what is in flight at once, by key, in a table of the same kind: a bucket counts places instead of time.

use std::num::NonZeroU64;
use std::ops::Deref;

use crate::key::Key;
use crate::options::{TableError, TableOptions, capacity_keys};
use crate::quota::WORD_SPARE_BITS;
use crate::table::{Outcome, Rule, Table};

/// One place in a bucket's word.
const PLACE: u64 = 1 << WORD_SPARE_BITS;

/// At most so many requests in flight for each key, exact over all threads that share it.
///
/// A key whose requests have all ended takes no room. A key that finds no room shares the places of its group, and keeps to
/// them until the whole group has left them, so that moving gains nothing.
#[derive(Debug)]
pub struct Concurrency {
    places: NonZeroU64,
    table: Table,
}

impl Concurrency {
    /// A limit of `places` for each key; above 2^60 - 1 it is that.
    ///
    /// # Errors
    ///
    /// [`TableError`] where the budget is out of bounds or the system lacks the room.
    pub fn new(places: NonZeroU64, options: &TableOptions) -> Result<Self, TableError> {
        let table = Table::new(options.geometry()?).map_err(TableError::Memory)?;
        if options.prefault {
            (0..table.shards()).for_each(|shard| table.touch(shard));
        }
        Ok(Self {
            places: places.min(NonZeroU64::new(u64::MAX / PLACE).unwrap_or(places)),
            table,
        })
    }

    /// Places of each key.
    #[must_use]
    pub const fn places(&self) -> u64 {
        self.places.get()
    }

    /// The shard in which a key's places lie.
    #[must_use]
    pub fn shard_of(&self, key: Key) -> usize {
        self.table.shard_of(key)
    }

    /// Puts the memory of a shard in place near the calling thread's core, as `Limiter::touch_shard`.
    pub fn touch_shard(&self, shard: usize) {
        self.table.touch(shard);
    }

    /// Takes a place; it comes back when the permit is dropped.
    ///
    /// The permit holds the limiter by whatever reference is given: a borrow, or an `Arc` where it must outlive the call.
    ///
    /// # Errors
    ///
    /// [`Full`] where all places of the key are taken; nothing was written then.
    pub fn enter<L: Deref<Target = Self>>(limiter: L, key: Key) -> Result<Permit<L>, Full> {
        let rule = Enter {
            places: limiter.places.get(),
        };
        let Outcome {
            taken, overflow, ..
        } = limiter.table.take(key, &rule);
        if taken {
            Ok(Permit {
                limiter,
                key,
                overflow,
            })
        } else {
            Err(Full { overflow })
        }
    }

    /// Requests in flight of a key, or of its group where the key has no slot.
    #[must_use]
    pub fn in_flight(&self, key: Key) -> u64 {
        // A limit of all there can be refuses nothing and adds one.
        let sight = self.table.look(
            key,
            &Enter {
                places: u64::MAX / PLACE,
            },
        );
        let outcome = sight.outcome;
        (outcome.bucket / PLACE).saturating_sub(u64::from(outcome.taken))
    }

    /// Keys that may have requests in flight while fewer than one in a thousand overflows.
    #[must_use]
    pub fn capacity_keys(&self) -> u64 {
        capacity_keys(self.table.slots())
    }

    /// Requests that were let through on the places of a group, since the start.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.table.overflowed()
    }
}

/// All places of a key are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    overflow: bool,
}

impl Full {
    /// Whether the key has no slot of its own and its group's places are taken.
    #[must_use]
    pub const fn is_overflow(self) -> bool {
        self.overflow
    }
}

/// A place taken; dropping it gives it back.
#[derive(Debug)]
#[must_use = "the place is given back when the permit is dropped"]
pub struct Permit<L: Deref<Target = Concurrency>> {
    limiter: L,
    key: Key,
    overflow: bool,
}

impl<L: Deref<Target = Concurrency>> Drop for Permit<L> {
    fn drop(&mut self) {
        // The bucket is still where it was: one that counts a place is never given to another key.
        self.limiter
            .table
            .adjust(self.key, self.overflow, |count| count.checked_sub(PLACE));
    }
}

/// Takes one place.
struct Enter {
    places: u64,
}

impl Rule for Enter {
    fn full(&self) -> u64 {
        0
    }

    fn idle(&self, bucket: u64) -> Option<u64> {
        // A count has no age.
        (bucket == 0).then_some(0)
    }

    fn step(&self, bucket: u64) -> Option<u64> {
        (bucket / PLACE < self.places).then_some(bucket + PLACE)
    }

    fn undo(&self, bucket: u64) -> u64 {
        bucket.saturating_sub(PLACE)
    }

    fn may_leave(&self, overflow: u64) -> bool {
        overflow == 0
    }
}
