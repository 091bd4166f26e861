//! The table: shards of lines of slots, two candidate lines for a key, and the overflow for keys without a slot.
//!
//! # Layout, and why
//!
//! A slot has two words of 64 bits, four slots to a cache line. The other layout considered, one word with a tag of 24 bits
//! beside 40 bits of time, holds three times as many keys in the same memory and needs no proof of two words belonging
//! together; but one new key in two million would share a stranger's bucket, time would be counted in 1,024ths of an
//! interval, so that a unit may come that much too early, and at a million units per second it would wrap every 18 minutes.
//! Sixteen bytes buy a bucket that is exactly the key's, at exact times, for 27 bytes per live key; the price is the
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
use crate::slot::{Line, SLOTS, Seen, Slot, State};
use crate::sync::{AtomicU64, Ordering, fence};

/// Free slots with which the first line is taken without a look at the second.
///
/// At 60 % fill 0.05 % of the keys find both lines full (0.03 % if the emptier were always taken) and 21 % live in their
/// second line (28 %), where a lookup costs a second cache line.
const FREE_ENOUGH: usize = 3;
/// Claims after which a key that is always robbed of them goes to the overflow.
const CLAIMS_MAX: usize = 8;
/// Multiplier that gives the second line from the same hash (MMIX by Knuth).
const SECOND_LINE: u64 = 6_364_136_223_846_793_005;
/// Low bits of the hash which the tag leaves to the choice of the line.
const TAG_BITS_DROPPED: u32 = 16;
/// Memory of a page, or less where pages are larger.
const PAGE_BYTES: usize = 4096;

/// What a bucket means; the functions are pure, for they are repeated when another thread was faster.
pub(crate) trait Rule {
    /// A new bucket.
    fn full(&self) -> u64;
    /// Whether a bucket equals a new one.
    fn is_free(&self, bucket: u64) -> bool;
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
    shards: Box<[Lines]>,
    overflow: Overflow,
}

impl Table {
    /// # Errors
    ///
    /// The system's error where it has no such room.
    pub(crate) fn new(geometry: Geometry) -> io::Result<Self> {
        let lines = || Lines::new(geometry.lines_per_shard, geometry.huge_pages);
        let shards = (0..geometry.shards)
            .map(|_| lines())
            .collect::<io::Result<_>>()?;
        Ok(Self {
            shards,
            overflow: Overflow::new(geometry.overflow_buckets),
        })
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn shard_of(&self, key: Key) -> usize {
        (usize::from(key.steer) * self.shards.len()) >> u16::BITS
    }

    pub(crate) fn slots(&self) -> usize {
        self.shards.iter().map(|lines| lines.len() * SLOTS).sum()
    }

    /// Decisions that let a request through on an overflow bucket.
    pub(crate) fn overflowed(&self) -> u64 {
        // Relaxed: a metric.
        self.overflow.charges.load(Ordering::Relaxed)
    }

    /// Puts the pages of a shard in place, from the calling thread.
    pub(crate) fn touch(&self, shard: usize) {
        let Some(lines) = self.shards.get(shard) else {
            return;
        };
        for line in lines.iter().step_by(PAGE_BYTES / size_of::<Line>()) {
            line.slots.first().inspect(|slot| slot.touch());
        }
    }

    /// Decides a request by the key's bucket and writes the bucket if it is let through.
    #[inline]
    pub(crate) fn take(&self, key: Key, rule: &impl Rule) -> Outcome {
        let places = self.places(key);
        let mut claims = 0;
        loop {
            if let Some((slot, seen)) = places.held() {
                match rule.step(seen.bucket()) {
                    None => {
                        return Outcome {
                            bucket: seen.bucket(),
                            taken: false,
                            overflow: false,
                        };
                    }
                    Some(bucket) if slot.set(seen, bucket) => {
                        return Outcome {
                            bucket,
                            taken: true,
                            overflow: false,
                        };
                    }
                    // Another thread was faster, so the whole made progress.
                    Some(_) => {}
                }
            } else if let Some(outcome) = self.admit(key, &places, rule, claims) {
                return outcome;
            } else {
                claims += 1;
            }
        }
    }

    /// What [`take`](Self::take) would find and decide, without writing.
    #[inline]
    pub(crate) fn look(&self, key: Key, rule: &impl Rule) -> Outcome {
        let (bucket, overflow) = match self.places(key).held() {
            Some((_, seen)) => (seen.bucket(), false),
            None => (self.overflow.inherited(key.group, rule), true),
        };
        match rule.step(bucket) {
            Some(bucket) => Outcome {
                bucket,
                taken: true,
                overflow,
            },
            None => Outcome {
                bucket,
                taken: false,
                overflow,
            },
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
            match change(seen.bucket()) {
                Some(bucket) if !slot.set(seen, bucket) => {}
                _ => return,
            }
        }
    }

    /// Counts the buckets of a shard that are not full, in `lines` of its lines, and brings the full ones up to date.
    pub(crate) fn sweep(&self, shard: usize, lines: usize, rule: &impl Rule) -> usize {
        let slots = self
            .shards
            .get(shard)
            .into_iter()
            .flat_map(|all| all.iter().take(lines));
        slots
            .flat_map(|line| &line.slots)
            .filter(|slot| {
                let seen = slot.see();
                let held = seen.state() == State::Held && !seen.is_untouched();
                let free = rule.is_free(seen.bucket());
                if held && free {
                    // A lost race means that the bucket has just been brought up to date.
                    let _won = slot.set(seen, rule.full());
                }
                held && !free
            })
            .count()
    }

    pub(crate) fn lines(&self, shard: usize) -> usize {
        self.shards.get(shard).map_or(0, |lines| lines.len())
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
            if seen.tag() != places.tag || seen.state() == State::Vacant {
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
        // Relaxed: ordered before the reads of others by the fence below, as is the charge.
        self.overflow.used.store(1, Ordering::Relaxed);
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
            while seen.tag() == places.tag && seen.state() == State::Claimed {
                if slot.vacate(seen).is_some() {
                    break;
                }
                seen = slot.see();
            }
            if seen.tag() == places.tag && seen.state() == State::Held {
                let _bucket = self
                    .overflow
                    .advance(key.group, |bucket| Some(rule.undo(bucket)));
                return None;
            }
        }
        // Relaxed: a metric.
        self.overflow.charges.fetch_add(1, Ordering::Relaxed);
        Some(Outcome {
            bucket,
            taken: true,
            overflow: true,
        })
    }

    #[inline]
    fn places(&self, key: Key) -> Places<'_> {
        let lines = &self.shards[self.shard_of(key)];
        // The bits that the tag lacks go to the top of the first line's number, so that tag and lines together tell all 64
        // bits apart once there are 65,536 lines.
        let first = scale(key.hash.rotate_left(48), lines.len());
        let second = scale(key.hash.wrapping_mul(SECOND_LINE), lines.len());
        Places {
            first: &lines[first],
            second: &lines[second],
            tag: (key.hash >> TAG_BITS_DROPPED).max(1),
        }
    }
}

/// The top 32 bits of `hash`, scaled to `0..len`.
#[inline]
fn scale(hash: u64, len: usize) -> usize {
    debug_assert!(u32::try_from(len).is_ok(), "the product must fit");
    ((hash >> 32) as usize * len) >> 32
}

/// The candidate slots of a key.
struct Places<'a> {
    first: &'a Line,
    second: &'a Line,
    tag: u64,
}

impl<'a> Places<'a> {
    /// All candidates, each once, in an order that all threads share.
    fn slots(&self) -> impl Iterator<Item = &'a Slot> {
        let second = if std::ptr::eq(self.first, self.second) {
            None
        } else {
            Some(self.second)
        };
        self.first
            .slots
            .iter()
            .chain(second.into_iter().flat_map(|line| &line.slots))
    }

    /// The slot that the key holds.
    #[inline]
    fn held(&self) -> Option<(&'a Slot, Seen)> {
        self.find_in(self.first)
            .or_else(|| self.find_in(self.second))
    }

    #[inline]
    fn find_in(&self, line: &'a Line) -> Option<(&'a Slot, Seen)> {
        line.slots
            .iter()
            .filter(|slot| slot.may_belong_to(self.tag))
            .find_map(|slot| {
                let seen = slot.see();
                (seen.tag() == self.tag && seen.state() == State::Held).then_some((slot, seen))
            })
    }

    /// The first slot that some thread has claimed for the key.
    fn claimed(&self) -> Option<(&'a Slot, Seen)> {
        self.slots()
            .map(|slot| (slot, slot.see()))
            .find(|(_, seen)| seen.tag() == self.tag && seen.state() == State::Claimed)
    }

    /// Claims a slot whose bucket is full, in the emptier line; last, one that another key claimed and has not moved into.
    fn claim(&self, rule: &impl Rule) -> Option<(&'a Slot, Seen)> {
        let is_free = |seen: &Seen| match seen.state() {
            State::Vacant => true,
            State::Held => seen.is_untouched() || rule.is_free(seen.bucket()),
            State::Claimed => false,
        };
        let free = |line: &Line| {
            line.slots
                .iter()
                .filter(|slot| is_free(&slot.see()))
                .count()
        };
        let in_first = free(self.first);
        let first_is_emptier = in_first >= FREE_ENOUGH || in_first >= free(self.second);
        let lines = if first_is_emptier {
            [self.first, self.second]
        } else {
            [self.second, self.first]
        };

        let claim = |slot: &'a Slot, seen: Seen| {
            let vacant = if seen.state() == State::Vacant {
                Some(seen)
            } else {
                slot.vacate(seen)
            };
            vacant
                .and_then(|vacant| slot.claim(vacant, self.tag))
                .map(|claim| (slot, claim))
        };
        let seen = |slot: &'a Slot| (slot, slot.see());
        let slots = || lines.into_iter().flat_map(|line| &line.slots).map(seen);
        slots()
            .filter(|(_, seen)| is_free(seen))
            .find_map(|(slot, seen)| claim(slot, seen))
            .or_else(|| {
                slots()
                    .filter(|(_, seen)| seen.state() == State::Claimed)
                    .find_map(|(slot, seen)| claim(slot, seen))
            })
    }
}

/// The buckets for keys without a slot, one for many groups, never given to a single key.
#[derive(Debug)]
#[repr(align(64))]
struct Overflow {
    buckets: Box<[AtomicU64]>,
    /// Zero as long as no bucket was ever charged, so that admissions need not look.
    used: AtomicU64,
    charges: AtomicU64,
}

impl Overflow {
    fn new(buckets: usize) -> Self {
        debug_assert!(buckets > 0, "every group needs a bucket");
        Self {
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
            used: AtomicU64::new(0),
            charges: AtomicU64::new(0),
        }
    }

    /// The bucket from which a key of the group starts.
    fn inherited(&self, group: u32, rule: &impl Rule) -> u64 {
        // Relaxed: after the fence in `admit` neither is older than any charge whose look missed the claim.
        if self.used.load(Ordering::Relaxed) == 0 {
            rule.full()
        } else {
            self.bucket(group).load(Ordering::Relaxed)
        }
    }

    /// The bucket after `step`, or as it was when `step` refused, and which of both.
    fn advance(&self, group: u32, step: impl Fn(u64) -> Option<u64>) -> (u64, bool) {
        let word = self.bucket(group);
        // Relaxed: the word is all there is to the bucket; the fences around order it with the slots.
        let mut bucket = word.load(Ordering::Relaxed);
        loop {
            let Some(next) = step(bucket) else {
                return (bucket, false);
            };
            match word.compare_exchange_weak(bucket, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (next, true),
                Err(newer) => bucket = newer,
            }
        }
    }

    fn bucket(&self, group: u32) -> &AtomicU64 {
        &self.buckets[scale(u64::from(group) << 32, self.buckets.len())]
    }
}
