//! The table: shards of lines of slots, two candidate lines for a key, and the overflow for keys without a slot.
//!
//! # Layout, and why
//!
//! A slot has two words of 64 bits, four slots to a cache line. The other layout considered, one word with a tag of 24 bits
//! beside 40 bits of time, holds three times as many keys in the same memory and needs no proof of two words belonging
//! together; but one new key in two million would share a stranger's bucket, time would be counted in 1,024ths of an
//! interval, so that a unit may come that much too early, and at a million units per second it would wrap every 18 minutes.
//! Sixteen bytes buy a bucket that is exactly the key's, at exact times, for 30 bytes per live key; the price is the
//! protocol in `slot` and the admission below.
//!
//! # One bucket per key
//!
//! A key has at most one held slot. A thread that finds none claims a vacant one, looks through all candidate slots once
//! more, and only then moves in:
//!
//! * Claim, fence, look. Of two threads that claim two slots for one key, the one whose fence is later sees the other's claim.
//! * Who sees another held slot of the key gives its claim up. Who sees another claim has the one that comes later in the
//!   order of candidates vacated before it moves in, and vacating and moving in exclude each other: both write the word.
//!
//! So two slots of one key are never held at the same time. The same fence stands between a charge to the overflow and the
//! look for the key's slot: either the charge sees the claim, and is taken back, or the claim sees the charge, and inherits.

use std::io;

use crate::key::Key;
use crate::memory::Lines;
use crate::overflow::Overflow;
use crate::places::{Places, first_line, glance, tag};
use crate::slot::{Line, SLOTS, Seen, Slot, State};
use crate::sync::{Ordering, fence};

/// Claims after which a key that is always robbed of them goes to the overflow.
const CLAIMS_MAX: usize = 8;
/// Memory of a page, or less where pages are larger.
const PAGE_BYTES: usize = 4096;

/// What a bucket means; the functions are pure, for they are repeated when another thread was faster.
pub(crate) trait Rule {
    /// A new bucket.
    fn full(&self) -> u64;
    /// For how long a bucket has equalled a new one, in steps of its own; `None` while it does not.
    fn idle(&self, bucket: u64) -> Option<u64>;
    /// The bucket after this request; `None` refuses it.
    fn step(&self, bucket: u64) -> Option<u64>;
    /// The bucket with this request's step taken back at once.
    fn undo(&self, bucket: u64) -> u64;
    /// Whether a key may leave an overflow bucket in this state for a slot, which then starts from it.
    fn may_leave(&self, overflow: u64) -> bool;
}

/// What came of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// The bucket after the request, or as it was when it refused.
    pub(crate) bucket: u64,
    /// Whether the request was let through.
    pub(crate) taken: bool,
    /// Whether the bucket is the group's and not the key's.
    pub(crate) overflow: bool,
}

impl Outcome {
    /// What `rule` makes of a bucket that is only looked at.
    #[inline]
    fn of_look(bucket: u64, overflow: bool, rule: &impl Rule) -> Self {
        let after = rule.step(bucket);
        Self {
            bucket: after.unwrap_or(bucket),
            taken: after.is_some(),
            overflow,
        }
    }
}

/// What a look found, and the slot in which it can be made true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) outcome: Outcome,
    /// The key's slot as it was seen; `None` where it was not found at first glance.
    held: Option<(&'a Slot, Seen)>,
}

impl Sight<'_> {
    /// As it is when there is nothing to take; `fits`: since the request costs nothing, and not more than any bucket holds.
    #[cold]
    pub(crate) fn of_nothing(mut self, fits: bool) -> Self {
        self.outcome.taken &= fits;
        self.held = None;
        self
    }

    /// Of what is done already.
    pub(crate) const fn done(outcome: Outcome) -> Self {
        Self {
            outcome,
            held: None,
        }
    }

    /// Writes the bucket that was looked at as it is after the request; false, and nothing is written, where that is not
    /// to be done at once: the request was refused, or has no slot yet, or the slot has changed since.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        match self.held {
            Some((slot, seen)) if self.outcome.taken => slot.set(seen, self.outcome.bucket),
            _ => false,
        }
    }
}

/// The memory of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) shards: usize,
    pub(crate) lines_per_shard: usize,
    pub(crate) overflow_buckets: usize,
    pub(crate) huge_pages: bool,
}

#[derive(Debug)]
pub(crate) struct Table {
    /// Those of the first shard, then those of the second, and so on.
    lines: Lines,
    lines_per_shard: usize,
    shards: usize,
    overflow: Overflow,
}

impl Table {
    /// # Errors
    ///
    /// The system's error where it has no such room.
    pub(crate) fn new(geometry: Geometry) -> io::Result<Self> {
        let Geometry {
            shards,
            lines_per_shard,
            overflow_buckets,
            huge_pages,
        } = geometry;
        let lines = lines_per_shard
            .checked_mul(shards)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            lines: Lines::new(lines, huge_pages)?,
            lines_per_shard,
            shards,
            overflow: Overflow::new(overflow_buckets),
        })
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    #[inline]
    pub(crate) fn shard_of(&self, key: Key) -> usize {
        // Sixteen bits times at most 4,096 shards cannot wrap.
        usize::from(key.steer).wrapping_mul(self.shards) >> u16::BITS
    }

    pub(crate) fn slots(&self) -> usize {
        self.lines.len() * SLOTS
    }

    /// Decisions that let a request through on an overflow bucket.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflow.charges()
    }

    /// Puts the pages of a shard in place, from the calling thread.
    pub(crate) fn touch(&self, shard: usize) {
        for line in self
            .shard(shard)
            .iter()
            .step_by(PAGE_BYTES / size_of::<Line>())
        {
            line.slots.first().inspect(|slot| slot.touch());
        }
    }

    /// Decides a request by the key's bucket and writes the bucket if it is let through.
    #[inline]
    pub(crate) fn take(&self, key: Key, rule: &impl Rule) -> Outcome {
        if let Some((slot, seen)) = self.glance(key)
            && let Some((bucket, taken)) = slot.advance(seen, |bucket| rule.step(bucket))
        {
            return Outcome {
                bucket,
                taken,
                overflow: false,
            };
        }
        self.take_anywhere(key, rule)
    }

    /// What [`take`](Self::take) would find and decide, without writing.
    #[inline(always)]
    pub(crate) fn look(&self, key: Key, rule: &impl Rule) -> Sight<'_> {
        let Some((slot, seen)) = self.glance(key) else {
            return Sight::done(self.look_anywhere(key, rule));
        };
        Sight {
            outcome: Outcome::of_look(seen.bucket(), false, rule),
            held: Some((slot, seen)),
        }
    }

    /// [`look`](Self::look) for a key whose slot is not found at first glance.
    #[inline(never)]
    fn look_anywhere(&self, key: Key, rule: &impl Rule) -> Outcome {
        let (bucket, overflow) = match self.places(key).held() {
            Some((_, seen)) => (seen.bucket(), false),
            None => (self.overflow.inherited(key.group, rule), true),
        };
        Outcome::of_look(bucket, overflow, rule)
    }

    /// [`take`](Self::take) for a key whose slot is not found at first glance.
    ///
    /// Not inlined: what it keeps in memory would delay every compare-and-swap of the common case, which waits for all
    /// earlier writes of its core.
    #[inline(never)]
    fn take_anywhere(&self, key: Key, rule: &impl Rule) -> Outcome {
        let places = self.places(key);
        let mut claims = 0;
        loop {
            if let Some((slot, seen)) = places.held() {
                if let Some((bucket, taken)) = slot.advance(seen, |bucket| rule.step(bucket)) {
                    return Outcome {
                        bucket,
                        taken,
                        overflow: false,
                    };
                }
                // The slot has changed hands, so another thread made progress.
            } else if let Some(outcome) = self.admit(key, &places, rule, claims) {
                return outcome;
            } else {
                claims += 1;
            }
        }
    }

    /// Rewrites the bucket that an earlier request was charged to; does nothing where the key holds none any more.
    pub(crate) fn adjust(&self, key: Key, overflow: bool, change: impl Fn(u64) -> Option<u64>) {
        if overflow {
            let _bucket = self.overflow.advance(key.group, change);
            return;
        }
        let places = self.places(key);
        while let Some((slot, seen)) = places.held() {
            if slot.advance(seen, &change).is_some() {
                return;
            }
        }
    }

    /// Counts the buckets of a shard that are not full, in `lines` of its lines, and brings the full ones up to date.
    pub(crate) fn sweep(&self, shard: usize, lines: usize, rule: &impl Rule) -> usize {
        self.shard(shard)
            .iter()
            .take(lines)
            .flat_map(|line| &line.slots)
            .filter(|slot| {
                let seen = slot.see();
                let held = seen.state() == State::Held && !seen.is_untouched();
                let free = rule.idle(seen.bucket()).is_some();
                if held && free {
                    // A lost race means that the bucket has just been brought up to date.
                    let _won = slot.set(seen, rule.full());
                }
                held && !free
            })
            .count()
    }

    pub(crate) fn lines_per_shard(&self) -> usize {
        self.lines_per_shard
    }

    /// Gives a key that holds no slot its first one, or charges its group's overflow; `None` asks to look again.
    #[cold]
    fn admit(
        &self,
        key: Key,
        places: &Places<'_>,
        rule: &impl Rule,
        claims: usize,
    ) -> Option<Outcome> {
        let inherited = self.overflow.inherited(key.group, rule);
        if rule.step(inherited).is_none() {
            // A refusal writes nothing, not even a claim.
            return Some(Outcome {
                bucket: inherited,
                taken: false,
                overflow: true,
            });
        }
        if !rule.may_leave(inherited) || claims >= CLAIMS_MAX {
            return self.charge_overflow(key, places, rule);
        }
        let Some((own, claim)) = places.claimed().or_else(|| places.claim(rule)) else {
            return self.charge_overflow(key, places, rule);
        };

        // SeqCst: pairs with itself in another thread that claims for this key, and with the fence in `charge_overflow`; of
        // two, the later one's reads below see what the earlier one wrote above it.
        fence(Ordering::SeqCst);
        let mut after_own = false;
        for slot in places.slots() {
            if std::ptr::eq(slot, own) {
                after_own = true;
                continue;
            }
            let seen = slot.see();
            if seen.tag() != places.tag() || seen.state() == State::Vacant {
                continue;
            }
            if after_own && seen.state() == State::Claimed {
                slot.vacate(seen)?;
            } else {
                let _lost = own.vacate(claim);
                return None;
            }
        }
        let inherited = self.overflow.inherited(key.group, rule);
        match rule.step(inherited) {
            Some(bucket) if rule.may_leave(inherited) => {
                own.set(claim, bucket).then_some(Outcome {
                    bucket,
                    taken: true,
                    overflow: false,
                })
            }
            _ => {
                let _lost = own.vacate(claim);
                None
            }
        }
    }

    /// Charges the overflow bucket of the key's group, unless the key turns out to hold a slot.
    #[cold]
    fn charge_overflow(&self, key: Key, places: &Places<'_>, rule: &impl Rule) -> Option<Outcome> {
        self.overflow.mark_used();
        let (bucket, taken) = self.overflow.advance(key.group, |bucket| rule.step(bucket));
        if !taken {
            return Some(Outcome {
                bucket,
                taken,
                overflow: true,
            });
        }
        // SeqCst: pairs with the fence in `admit`.
        fence(Ordering::SeqCst);
        for slot in places.slots() {
            let mut seen = slot.see();
            // A claim of this key may belong to a stopped thread; that one looks again when it finds the claim gone.
            while seen.tag() == places.tag() && seen.state() == State::Claimed {
                if slot.vacate(seen).is_some() {
                    break;
                }
                seen = slot.see();
            }
            if seen.tag() == places.tag() && seen.state() == State::Held {
                let _bucket = self
                    .overflow
                    .advance(key.group, |bucket| Some(rule.undo(bucket)));
                return None;
            }
        }
        self.overflow.count();
        Some(Outcome {
            bucket,
            taken: true,
            overflow: true,
        })
    }

    fn places(&self, key: Key) -> Places<'_> {
        Places::new(self.shard(self.shard_of(key)), key.hash)
    }

    /// The key's held slot, if it is in the first line and no history of the key stands before it.
    #[inline]
    fn glance(&self, key: Key) -> Option<(&Slot, Seen)> {
        let start = self.shard_of(key).wrapping_mul(self.lines_per_shard);
        let line = start.wrapping_add(first_line(key.hash, self.lines_per_shard));
        glance(&self.lines[line], tag(key.hash))
    }

    /// The lines of a shard, none where there is no such shard.
    fn shard(&self, shard: usize) -> &[Line] {
        let start = shard.saturating_mul(self.lines_per_shard);
        let end = start.saturating_add(self.lines_per_shard);
        self.lines.get(start..end).unwrap_or(&[])
    }
}
