//! The keyed limiter: a quota, a table, and the decisions they give.

use crate::bucket::Bucket;
use crate::clock::Timestamp;
use crate::decision::{Allowed, Charge, Decision, Refused, Standing};
use crate::key::Key;
use crate::options::{TableError, TableOptions, capacity_keys};
use crate::quota::Quota;
use crate::table::{Outcome, Rule, Sight, Table};

/// Lines that an estimate of the occupancy reads in each shard: 64 KiB, a standard error of at most 0.8 % of the slots.
const SAMPLE_LINES: usize = 1024;

/// What a limiter is made of; limiters with equal options may stand in for each other, buckets included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimiterOptions {
    /// What each key may use.
    pub quota: Quota,
    /// Where its buckets are kept.
    pub table: TableOptions,
}

/// A limit of so many units for each key, exact over all threads that share it.
///
/// Over any time `t` a key is admitted at most `burst + rate * t` units, whichever threads its requests come to, and a key
/// that keeps to that is never refused. The second half has one exception: a key that finds no room in the table shares a
/// bucket with its group, see [`Decision::is_overflow`].
///
/// No call waits, locks or allocates. A decision reads one cache line, or two; a refusal writes nothing.
#[derive(Debug)]
pub struct Limiter {
    options: LimiterOptions,
    table: Table,
}

impl Limiter {
    /// A limiter whose keys all find full buckets.
    ///
    /// Allocates all memory there will ever be, without touching it unless asked to pre-fault.
    ///
    /// # Errors
    ///
    /// [`TableError`] where the budget is out of bounds or the system lacks the room.
    pub fn new(options: LimiterOptions) -> Result<Self, TableError> {
        let table = Table::new(options.table.geometry()?).map_err(TableError::Memory)?;
        if options.table.prefault {
            (0..table.shards()).for_each(|shard| table.touch(shard));
        }
        Ok(Self { options, table })
    }

    /// What it was made of.
    #[must_use]
    pub const fn options(&self) -> &LimiterOptions {
        &self.options
    }

    /// What each key may use.
    #[must_use]
    pub const fn quota(&self) -> &Quota {
        &self.options.quota
    }

    /// The shard in which a key's bucket lies, `0..shards`.
    #[must_use]
    pub fn shard_of(&self, key: Key) -> usize {
        self.table.shard_of(key)
    }

    /// Puts the memory of a shard in place near the calling thread's core; does nothing for a shard that does not exist.
    ///
    /// Each worker calls it once for its own shard, before requests come.
    pub fn touch_shard(&self, shard: usize) {
        self.table.touch(shard);
    }

    /// Takes `cost` units of the key's bucket, or refuses and writes nothing.
    ///
    /// `now` may lie up to a minute behind other readings without harm. A cost of zero takes nothing and tells where the
    /// key stands.
    #[inline]
    pub fn check(&self, key: Key, cost: u64, now: Timestamp) -> Decision<'_> {
        let outcome = self.take(key, cost, now);
        self.decision(key, cost, now, outcome)
    }

    /// What [`check`](Self::check) would decide, without taking anything.
    pub fn look(&self, key: Key, cost: u64, now: Timestamp) -> Decision<'_> {
        let outcome = self.sight(key, cost, now).outcome;
        self.decision(key, cost, now, outcome)
    }

    /// [`check`](Self::check), without what can be told of it.
    #[inline]
    pub(crate) fn take(&self, key: Key, cost: u64, now: Timestamp) -> Outcome {
        let bucket = Bucket::new(self.quota(), now);
        match bucket.steps(cost) {
            Some(steps) if steps > 0 => self.table.take(key, &Take { bucket, steps }),
            _ => self.stand(key, cost, now),
        }
    }

    /// Where a key stands that takes nothing.
    #[cold]
    fn stand(&self, key: Key, cost: u64, now: Timestamp) -> Outcome {
        self.sight(key, cost, now).outcome
    }

    /// [`look`](Self::look), without what can be told of it, but with the slot that was looked at.
    /// Always inlined: what it gives is then written where it is kept, and not twice.
    #[inline(always)]
    pub(crate) fn sight(&self, key: Key, cost: u64, now: Timestamp) -> Sight<'_> {
        let bucket = Bucket::new(self.quota(), now);
        let wanted = bucket.steps(cost);
        let steps = wanted.unwrap_or(0);
        let sight = self.table.look(key, &Take { bucket, steps });
        if steps > 0 {
            sight
        } else {
            // Nothing is to be taken: where the key stands is all there is to say.
            sight.of_nothing(wanted.is_some())
        }
    }

    /// What can be told of an outcome.
    #[inline]
    pub(crate) fn decision(
        &self,
        key: Key,
        cost: u64,
        now: Timestamp,
        outcome: Outcome,
    ) -> Decision<'_> {
        answer(Bucket::new(self.quota(), now), key, cost, outcome)
    }

    /// Corrects a charge to what the request really cost.
    ///
    /// A lower cost gives the difference back, save what has refilled since; a higher one is charged whether the bucket
    /// holds it or not, up to four bursts in arrears, and later requests wait for it.
    pub fn settle(&self, charge: Charge, actual: u64, now: Timestamp) {
        let Charge {
            key,
            end,
            cost,
            overflow,
        } = charge;
        let bucket = Bucket::new(self.quota(), now);
        let interval = self.quota().interval();
        if actual < cost {
            // A cost that was charged fits a burst, whose steps do not overflow.
            let steps = (cost - actual).saturating_mul(interval);
            self.table
                .adjust(key, overflow, |word| bucket.refund(word, end, steps));
        } else if actual > cost {
            let steps = (actual - cost).saturating_mul(interval);
            let _always_taken = self.table.take(key, &Overdraw { bucket, steps });
        }
    }

    /// Estimates how much of the table is in use; exact up to 4,096 slots in each shard.
    ///
    /// Reads at most 64 KiB of each shard.
    #[must_use]
    pub fn stats(&self, now: Timestamp) -> Stats {
        let all = self.table.lines_per_shard();
        let lines = all.min(SAMPLE_LINES);
        let live: usize = (0..self.table.shards())
            .map(|shard| self.count(shard, lines, now))
            .sum();
        Stats {
            slots: self.table.slots() as u64,
            capacity_keys: capacity_keys(self.table.slots()),
            live_keys: (live as u64).saturating_mul(all as u64) / (lines.max(1) as u64),
            overflowed: self.table.overflowed(),
        }
    }

    /// Counts the live keys of a shard exactly and brings buckets that are long full up to date.
    ///
    /// Reads the whole shard. Nothing depends on it but a corner of very old buckets: one that is
    /// left alone for as long as the counting of time takes to wrap (36 years for most rates, never less than 3 days)
    /// would show its last debt again. A call within that time prevents it.
    pub fn sweep(&self, shard: usize, now: Timestamp) -> usize {
        self.count(shard, usize::MAX, now)
    }

    fn count(&self, shard: usize, lines: usize, now: Timestamp) -> usize {
        self.table.sweep(
            shard,
            lines,
            &Take {
                bucket: Bucket::new(self.quota(), now),
                steps: 0,
            },
        )
    }

    /// Takes back a charge of a moment ago.
    pub(crate) fn give_back(&self, allowed: &Allowed<'_>, now: Timestamp) {
        let Standing {
            word: end,
            overflow,
            ..
        } = allowed.standing;
        self.settle(
            Charge {
                key: allowed.key,
                end,
                cost: allowed.cost,
                overflow,
            },
            0,
            now,
        );
    }
}

/// How full a limiter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Slots of the table.
    pub slots: u64,
    /// Keys that may be live at once while fewer than one in a thousand overflows.
    pub capacity_keys: u64,
    /// Keys that are live: have used units which have not refilled yet.
    pub live_keys: u64,
    /// Requests that were let through on the bucket of a group, since the start.
    pub overflowed: u64,
}

#[inline]
fn answer(bucket: Bucket<'_>, key: Key, cost: u64, outcome: Outcome) -> Decision<'_> {
    let standing = Standing {
        bucket,
        word: outcome.bucket,
        overflow: outcome.overflow,
    };
    if outcome.taken {
        Decision::Allowed(Allowed {
            standing,
            key,
            cost,
        })
    } else {
        Decision::Refused(Refused {
            standing,
            steps: bucket.steps(cost),
        })
    }
}

/// Takes units that the bucket holds.
struct Take<'a> {
    bucket: Bucket<'a>,
    steps: u64,
}

impl Rule for Take<'_> {
    fn full(&self) -> u64 {
        self.bucket.full()
    }

    #[inline]
    fn idle(&self, bucket: u64) -> Option<u64> {
        self.bucket.idle(bucket)
    }

    #[inline]
    fn step(&self, bucket: u64) -> Option<u64> {
        self.bucket.charge(bucket, self.steps)
    }

    fn undo(&self, bucket: u64) -> u64 {
        bucket.wrapping_sub(self.steps)
    }

    fn may_leave(&self, _overflow: u64) -> bool {
        true
    }
}

/// Takes units whether the bucket holds them or not.
struct Overdraw<'a> {
    bucket: Bucket<'a>,
    steps: u64,
}

impl Rule for Overdraw<'_> {
    fn full(&self) -> u64 {
        self.bucket.full()
    }

    fn idle(&self, bucket: u64) -> Option<u64> {
        self.bucket.idle(bucket)
    }

    fn step(&self, bucket: u64) -> Option<u64> {
        Some(self.bucket.overdraw(bucket, self.steps))
    }

    /// The arrears may have cut the step short; rather than give too much back, the group keeps it.
    fn undo(&self, bucket: u64) -> u64 {
        bucket
    }

    fn may_leave(&self, _overflow: u64) -> bool {
        true
    }
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<Limiter>();
};
