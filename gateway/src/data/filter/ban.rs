//! Clients that are refused again and again are refused for a time. Two tables of buckets without locks, one for the process
//! and all workers: in the first each refusal takes its share, and when a client's is empty the whole of its bucket in the second
//! is taken, which is full again when the penalty is over.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use limiter::{Budget, Key, Limiter, LimiterOptions, Period, Quota, TableOptions, Timestamp};

use crate::config::{BanAnswer, BanCause, BanConfig, FilterMode, MaxKeys};
use crate::telemetry::End;

/// A ban, shared by all workers.
#[derive(Debug)]
pub(in crate::data) struct BanPlan {
    /// Where its decisions are counted.
    pub(in crate::data) counter: usize,
    pub(in crate::data) mode: FilterMode,
    causes: Vec<BanCause>,
    answer: BanAnswer,
    /// A refusal costs `window_s`, of a bucket that holds that for each of them and refills in that time.
    refusals: Limiter,
    window_s: u64,
    /// A unit is a second.
    penalties: Limiter,
    penalty_s: u64,
}

/// A client that is under a penalty.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) struct Banned {
    /// What it is told; `None`: nothing.
    pub(in crate::data) status: Option<u16>,
    /// How long it lasts still.
    pub(in crate::data) left: Duration,
}

impl BanPlan {
    /// Makes the tables for `workers` workers.
    ///
    /// # Errors
    ///
    /// Their memory is too small or cannot be had; the text names the ban.
    pub(in crate::data) fn new(
        config: &BanConfig,
        workers: usize,
        counter: usize,
    ) -> Result<Self, String> {
        let describe = |error: &dyn std::fmt::Display| format!("bans.{}: {error}", config.name);
        let shards = NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN);
        let budget = match (config.mode, config.max_keys) {
            (FilterMode::Off, _) => Budget::Keys(NonZeroU64::MIN),
            (_, MaxKeys::Bytes(bytes)) => Budget::Bytes(bytes),
            (_, MaxKeys::Keys(keys)) => Budget::Keys(keys),
        };
        let table = TableOptions::new(budget).with_shards(shards);
        let limiter = |units: u64, burst: u64| {
            let quota = Quota::new(units, Period::Second, burst);
            let quota = quota.map_err(|error| describe(&error))?;
            Limiter::new(LimiterOptions { quota, table }).map_err(|error| describe(&error))
        };
        let window_s = u64::from(config.window_s.get());
        let penalty_s = u64::from(config.penalty_s.get());
        let refusals = u64::from(config.refusals.get());
        Ok(Self {
            counter,
            mode: config.mode,
            causes: config.causes.clone(),
            answer: config.answer,
            refusals: limiter(refusals, refusals * window_s)?,
            window_s,
            penalties: limiter(1, penalty_s)?,
            penalty_s,
        })
    }

    /// Puts the shard that `worker` owns into memory near it.
    pub(in crate::data) fn touch(&self, worker: usize) {
        if self.mode != FilterMode::Off {
            self.refusals.touch_shard(worker);
            self.penalties.touch_shard(worker);
        }
    }

    /// Brings buckets that nobody used for long up to date, see [`Limiter::sweep`]; not for the path of a request.
    pub(in crate::data) fn sweep(&self, now: Timestamp) {
        for limiter in [&self.refusals, &self.penalties] {
            for shard in 0..limiter.options().table.shards.get() {
                limiter.sweep(shard, now);
            }
        }
    }

    /// Whether a client is under the penalty. Costs a look-up.
    pub(in crate::data) fn find(&self, client: Key, now: Timestamp) -> Option<Banned> {
        let decision = self.penalties.look(client, self.penalty_s, now);
        // Who has no slot is looked up in the bucket of a group, which others may have emptied.
        if decision.is_allowed() || decision.is_overflow() {
            return None;
        }
        Some(Banned {
            status: match self.answer {
                BanAnswer::TooManyRequests => Some(429),
                BanAnswer::Forbidden => Some(403),
                BanAnswer::Close => None,
            },
            left: decision.reset_after(),
        })
    }

    /// Whether a request that ended so counts.
    pub(in crate::data) fn counts(&self, end: End) -> bool {
        let cause = match end {
            End::BadRequest => BanCause::BadRequest,
            End::Unauthorized => BanCause::Unauthorized,
            End::Forbidden => BanCause::Forbidden,
            End::Filtered => BanCause::Filtered,
            End::Limited => BanCause::Limited,
            End::NoRoute => BanCause::NoRoute,
            _ => return false,
        };
        self.causes.contains(&cause)
    }

    /// Counts a refusal of a client. True: its penalty begins.
    pub(in crate::data) fn count(&self, client: Key, now: Timestamp) -> bool {
        let counted = self.refusals.check(client, self.window_s, now);
        let is_over = !counted.is_allowed() || counted.remaining() < self.window_s;
        // A client without a slot of its own has been counted together with others, and is not to pay for them.
        if !is_over || counted.is_overflow() {
            return false;
        }
        let begun = self.penalties.check(client, self.penalty_s, now);
        begun.is_allowed() && !begun.is_overflow()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use limiter::KeyHasher;

    use super::*;

    fn ban(refusals: u32, window_s: u32, penalty_s: u32, keys: u64) -> BanPlan {
        let number = |number| NonZeroU32::new(number).unwrap();
        let config = BanConfig {
            name: "a".to_owned(),
            causes: vec![BanCause::Limited],
            refusals: number(refusals),
            window_s: number(window_s),
            penalty_s: number(penalty_s),
            answer: BanAnswer::Forbidden,
            max_keys: MaxKeys::Keys(NonZeroU64::new(keys).unwrap()),
            mode: FilterMode::Enforce,
        };
        BanPlan::new(&config, 1, 0).unwrap()
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(1_000_000_000_000 + milliseconds * 1_000_000)
    }

    #[test]
    fn the_penalty_begins_with_the_last_refusal_and_lasts_as_long_as_it_says() {
        let (ban, hasher) = (ban(3, 60, 10, 100), KeyHasher::with_secret(1));
        let (client, other) = (hasher.bytes(b"a"), hasher.bytes(b"b"));
        assert_eq!(
            [0, 10, 20].map(|time| ban.count(client, at(time))),
            [false, false, true]
        );
        assert!(ban.find(other, at(21)).is_none());
        let left = ban.find(client, at(20)).map(|banned| banned.left);
        assert_eq!(left, Some(Duration::from_secs(10)));
        // More refusals do not prolong it.
        assert!(!ban.count(client, at(5000)));
        assert!(ban.find(client, at(10_019)).is_some());
        assert!(ban.find(client, at(10_021)).is_none());
    }

    #[test]
    fn refusals_are_forgotten_in_the_window() {
        let (ban, client) = (ban(3, 60, 10, 100), KeyHasher::with_secret(1).bytes(b"a"));
        // One in twenty seconds comes back: two at once, then one each time, is never the third.
        assert!(!ban.count(client, at(0)));
        for number in 0..100 {
            assert!(!ban.count(client, at(number * 20_001)), "{number}");
        }
        assert!(ban.count(client, at(99 * 20_001 + 1)));
    }

    #[test]
    fn a_flood_of_clients_bans_nobody_who_was_refused_less() {
        let (ban, hasher) = (ban(5, 60, 60, 1), KeyHasher::with_secret(1));
        let mut banned = 0_usize;
        for number in 0..100_000_u32 {
            let client = hasher.bytes(&number.to_be_bytes());
            banned += usize::from(ban.count(client, at(0)));
            banned += usize::from(ban.find(client, at(0)).is_some());
        }
        assert_eq!(banned, 0);
    }
}
