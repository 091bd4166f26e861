//! Rate limits: which bucket a request takes from, and what they say together.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use limiter::{
    Budget, Check, Decision, Key, Limiter, LimiterOptions, Mode, Period, Quota, TableOptions,
    Timestamp, check_all,
};

use crate::config::{LimitConfig, LimitKey, LimitMode};
use crate::data::error::{Error, Refusal};
use crate::telemetry::LimitOutcome;

/// Limits that one route may have; the config refuses more.
pub const LIMITS_PER_ROUTE_MAX: usize = 8;

/// A limit, shared by all workers.
#[derive(Debug)]
pub struct LimitPlan {
    /// Its buckets.
    limiter: Limiter,
    key: LimitKey,
    mode: LimitMode,
    /// Status of a refusal.
    pub status: u16,
    /// The name as a quoted string of structured fields (RFC 9651), which is one of JSON too.
    pub quoted_name: String,
    /// The value of `RateLimit-Policy`.
    pub policy: String,
}

impl LimitPlan {
    /// Makes the table of `config` for `workers` workers.
    ///
    /// # Errors
    ///
    /// The table's memory is too small or cannot be had, or the quota cannot be counted; the text names the limit.
    pub fn new(config: &LimitConfig, workers: usize) -> Result<Self, String> {
        let describe = |error: &dyn std::fmt::Display| format!("limits.{}: {error}", config.name);
        let (units, burst) = (config.rate.units.get(), config.burst.get());
        let period = [Period::Second, Period::Minute, Period::Hour, Period::Day]
            .into_iter()
            .find(|period| period.duration() == config.rate.period)
            .unwrap_or(Period::Second);
        let quota = Quota::new(units, period, burst).map_err(|error| describe(&error))?;
        let shards = NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN);
        let table = TableOptions::new(Budget::Bytes(config.table_bytes)).with_shards(shards);
        let limiter =
            Limiter::new(LimiterOptions { quota, table }).map_err(|error| describe(&error))?;
        let window = quota
            .refill_time()
            .as_nanos()
            .div_ceil(1_000_000_000)
            .max(1);
        let quoted_name = format!("\"{}\"", config.name);
        Ok(Self {
            limiter,
            key: config.key.clone(),
            mode: config.mode,
            status: config.status,
            policy: format!("{quoted_name};q={burst};w={window}"),
            quoted_name,
        })
    }

    /// Puts the shard that `worker` owns into memory near it.
    pub fn touch(&self, worker: usize) {
        self.limiter.touch_shard(worker);
    }
}

/// Takes one unit from each of the limits in `indices`, or from none if one refuses. Calls `count` with every decision.
///
/// `client`: the key of the client's address.
///
/// # Errors
///
/// [`Error::Limited`] by the limit that wants the longest wait.
pub(in crate::data) fn check(
    limits: &[LimitPlan],
    indices: &[usize],
    client: Key,
    now: Timestamp,
    mut count: impl FnMut(usize, LimitOutcome),
) -> Result<(), Error> {
    let mut checks = ArrayVec::<Check<'_>, LIMITS_PER_ROUTE_MAX>::new();
    let mut asked = ArrayVec::<usize, LIMITS_PER_ROUTE_MAX>::new();
    for &index in indices.iter().take(LIMITS_PER_ROUTE_MAX) {
        let limit = &limits[index];
        let mode = match limit.mode {
            LimitMode::Enforce => Mode::Enforce,
            LimitMode::Shadow => Mode::Shadow,
            LimitMode::Off => continue,
        };
        let key = match limit.key {
            LimitKey::ClientIp => client,
        };
        checks.push(Check {
            mode,
            ..Check::new(&limit.limiter, key)
        });
        asked.push(index);
    }
    let result = check_all(&mut checks, now);
    for (check, &index) in checks.iter().zip(&asked) {
        let outcome = match (&check.decision, check.mode) {
            (Some(Decision::Allowed(_)), _) => LimitOutcome::Allowed,
            (Some(Decision::Refused(_)), Mode::Enforce) => LimitOutcome::Limited,
            (Some(Decision::Refused(_)), Mode::Shadow) => LimitOutcome::ShadowLimited,
            (None, _) => continue,
        };
        count(index, outcome);
    }
    let Err(refuser) = result else { return Ok(()) };
    let retry_after = match &checks[refuser].decision {
        Some(Decision::Refused(refused)) => refused.retry_after(),
        _ => None,
    };
    // One unit always fits a burst of at least one.
    let retry_after = retry_after.unwrap_or(Duration::MAX);
    Err(Error::Limited(Refusal {
        limit: asked[refuser],
        retry_after,
    }))
}

/// The limiter's time at `now`. `origin` is one for the process, so that all workers agree.
#[must_use]
pub(in crate::data) fn timestamp(origin: Instant, now: Instant) -> Timestamp {
    let since = now.saturating_duration_since(origin);
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
