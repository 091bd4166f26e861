//! Where a key's slot may be: two lines, and which slot of them a new key gets.

use crate::slot::{Line, SLOTS, Seen, Slot, State};
use crate::table::Rule;

/// Free slots with which the first line is taken without a look at the second.
///
/// At 54 % fill 0.07 % of the keys find both lines full and 11 % live in their second line, where a lookup costs a second
/// cache line. With three it would be 0.01 % and 20 %; with one, 4 % but 0.6 % without a slot.
const FREE_ENOUGH: usize = 2;
/// Free slots in each line with which the choice is by age.
const ROOM_IN_BOTH: usize = 2;
/// Multiplier that gives the second line from the same hash (MMIX by Knuth).
const SECOND_LINE: u64 = 6_364_136_223_846_793_005;
/// Low bits of the hash which the tag leaves to the choice of the line.
const TAG_BITS_DROPPED: u32 = 16;

/// The tag of a hash: its top 48 bits. Zero means a slot that no key ever had.
#[inline]
pub(crate) const fn tag(hash: u64) -> u64 {
    let tag = hash >> TAG_BITS_DROPPED;
    if tag == 0 { 1 } else { tag }
}

/// The number of the first candidate line among `len`.
///
/// The bits that the tag lacks come first, so that tag and line together tell all 64 bits apart once there are 65,536 lines.
#[inline]
pub(crate) fn first_line(hash: u64, len: usize) -> usize {
    scale(hash.rotate_right(TAG_BITS_DROPPED), len)
}

/// The held slot of a tag in one line, found without a branch for each slot.
///
/// Such branches would be guessed wrong at random, which costs more than all the comparisons. A hit that is not the held
/// slot hides others; the caller then asks [`Places`].
#[inline]
pub(crate) fn glance(line: &Line, tag: u64) -> Option<(&Slot, Seen)> {
    let hits = line
        .slots
        .iter()
        .enumerate()
        .fold(0_usize, |hits, (n, slot)| {
            hits | usize::from(slot.may_belong_to(tag)) << n
        });
    if hits == 0 {
        return None;
    }
    let slot = &line.slots[hits.trailing_zeros() as usize % SLOTS];
    slot.held_by(tag).map(|seen| (slot, seen))
}

/// The top 32 bits of `hash`, scaled to `0..len`.
#[inline]
pub(crate) fn scale(hash: u64, len: usize) -> usize {
    debug_assert!(u32::try_from(len).is_ok(), "the product must fit");
    // The product of two numbers of 32 bits cannot wrap.
    ((hash >> 32) as usize).wrapping_mul(len) >> 32
}

/// The candidate slots of a key.
pub(crate) struct Places<'a> {
    first: &'a Line,
    second: &'a Line,
    tag: u64,
}

impl<'a> Places<'a> {
    /// The candidates of a hash among the lines of its shard.
    pub(crate) fn new(lines: &'a [Line], hash: u64) -> Self {
        Self {
            first: &lines[first_line(hash, lines.len())],
            second: &lines[scale(hash.wrapping_mul(SECOND_LINE), lines.len())],
            tag: tag(hash),
        }
    }

    /// The tag of the key's slots.
    pub(crate) const fn tag(&self) -> u64 {
        self.tag
    }

    /// All candidates, each once, in an order that all threads share.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &'a Slot> {
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
    pub(crate) fn held(&self) -> Option<(&'a Slot, Seen)> {
        self.find_in(self.first)
            .or_else(|| self.find_in(self.second))
    }

    fn find_in(&self, line: &'a Line) -> Option<(&'a Slot, Seen)> {
        line.slots
            .iter()
            .find_map(|slot| Some((slot, slot.held_by(self.tag)?)))
    }

    /// The first slot that some thread has claimed for the key.
    pub(crate) fn claimed(&self) -> Option<(&'a Slot, Seen)> {
        self.slots()
            .map(|slot| (slot, slot.see()))
            .find(|(_, seen)| seen.tag() == self.tag && seen.state() == State::Claimed)
    }

    /// Claims a slot whose bucket is full; last, one that another key has claimed and not moved into.
    ///
    /// The emptier line keeps keys out of the overflow. While both lines have room it is rather the slot that has been idle
    /// for longest, so that keys which pause for a while find their slot again.
    pub(crate) fn claim(&self, rule: &impl Rule) -> Option<(&'a Slot, Seen)> {
        let idle = |seen: Seen| match seen.state() {
            State::Vacant => Some(u64::MAX),
            State::Held if seen.is_untouched() => Some(u64::MAX),
            State::Held => rule.idle(seen.bucket()),
            State::Claimed => None,
        };
        let free = |line: &Line| {
            line.slots
                .iter()
                .filter(|s| idle(s.see()).is_some())
                .count()
        };
        let (in_first, in_second) = (free(self.first), free(self.second));
        let lines = if in_first >= FREE_ENOUGH || in_first >= in_second {
            [self.first, self.second]
        } else {
            [self.second, self.first]
        };
        let eligible = if in_first.min(in_second) >= ROOM_IN_BOTH {
            2
        } else {
            1
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
        // Reversed, for of equals `max_by_key` takes the last.
        let longest_idle = lines[..eligible]
            .iter()
            .flat_map(|line| &line.slots)
            .map(|slot| (slot, slot.see()))
            .filter_map(|(slot, seen)| idle(seen).map(|idle| (idle, slot, seen)))
            .rev()
            .max_by_key(|(idle, ..)| *idle);
        longest_idle
            .and_then(|(_, slot, seen)| claim(slot, seen))
            .or_else(|| {
                // Another thread was faster there, or nothing is free: any slot will do.
                self.slots()
                    .map(|slot| (slot, slot.see()))
                    .find_map(|(slot, seen)| {
                        let free = seen.state() == State::Claimed || idle(seen).is_some();
                        if free { claim(slot, seen) } else { None }
                    })
            })
    }
}
