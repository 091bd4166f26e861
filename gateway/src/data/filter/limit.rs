//! Rate limits: which bucket a request takes from, and what they say together.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use arrayvec::ArrayVec;
use ipnet::IpNet;
use limiter::{
    Budget, Check, Decision, Key, KeyHasher, Limiter, LimiterOptions, Mode, Period, Quota,
    TableOptions, TableSize, Timestamp, check_all,
};

use super::key::{KeyPlan, Subject};
use super::overrides::{Overrides, Treatment};
use crate::config::{
    KeyPart, LimitConfig, LimitMode, MaxKeys, OverrideConfig, OverrideKey, ROUTE_LIMITS_MAX, Rate,
};
use crate::data::error::{Error, Refusal};
use crate::telemetry::{LimitOutcome, LimitSample};

/// A limit, shared by all workers.
#[derive(Debug)]
pub struct LimitPlan {
    /// The limit's own, then one for each rate and burst of its overrides.
    buckets: Vec<Buckets>,
    overrides: Overrides,
    /// There are overrides.
    has_overrides: bool,
    /// What it counts by.
    pub key: Vec<KeyPart>,
    mode: LimitMode,
    /// Status of a refusal.
    pub status: u16,
    /// The name as a quoted string of structured fields (RFC 9651), which is one of JSON too.
    pub quoted_name: String,
}

/// The buckets of a limit, or of those of its overrides that share a rate and burst.
#[derive(Debug)]
pub struct Buckets {
    limiter: Limiter,
    /// The value of `RateLimit-Policy`.
    pub policy: String,
    /// What a refusal by these says, once [`LimitPlan::write_refusals`] was called.
    refusal: Option<RefusalText>,
}

/// The answer to who is refused, with places for what differs from one to the next.
#[derive(Debug)]
pub(in crate::data) struct RefusalText {
    pub(in crate::data) bytes: Box<[u8]>,
    /// Where the date begins.
    pub(in crate::data) date: usize,
    /// Where the seconds are, one digit each.
    pub(in crate::data) seconds: [usize; 2],
    /// Where the fields end, before the empty line.
    pub(in crate::data) fields_end: usize,
    /// Where the identifier of the request begins, in the body.
    pub(in crate::data) id: usize,
}

/// A limit as one route asks it.
#[derive(Clone, Debug)]
pub struct RouteLimit {
    /// Index of the limit.
    pub(in crate::data) limit: usize,
    key: KeyPlan,
}

impl RouteLimit {
    /// The limit with this index, `plan`, on the route of this name. `hasher`: that of the plan.
    #[must_use]
    pub fn new(limit: usize, plan: &LimitPlan, hasher: &KeyHasher, route: &str) -> Self {
        let key = KeyPlan::new(&plan.key, hasher, route);
        Self { limit, key }
    }
}

impl LimitPlan {
    /// Makes the tables of `config` for `workers` workers.
    ///
    /// # Errors
    ///
    /// A table's memory is too small or cannot be had, or a quota cannot be counted; the text names the limit.
    pub fn new(
        config: &LimitConfig,
        workers: usize,
        hasher: &KeyHasher,
        ipv6_prefix: u8,
    ) -> Result<Self, String> {
        let describe = |error: &dyn std::fmt::Display| format!("limits.{}: {error}", config.name);
        let quoted_name = format!("\"{}\"", config.name);
        let make = |options: LimiterOptions| {
            let quota = options.quota;
            let limiter = Limiter::new(options).map_err(|error| describe(&error))?;
            let window = quota.refill_time().as_nanos().div_ceil(1_000_000_000);
            let policy = format!("{quoted_name};q={};w={}", quota.burst(), window.max(1));
            Ok::<_, String>(Buckets {
                limiter,
                policy,
                refusal: None,
            })
        };
        let options = tables(config, workers)?;
        let of_override = config.overrides.iter().map(|each| place(each, config));
        let overrides = Overrides::new(config, of_override, hasher, ipv6_prefix);
        Ok(Self {
            buckets: options.into_iter().map(make).collect::<Result<_, _>>()?,
            has_overrides: !overrides.is_empty(),
            overrides,
            key: config.key.clone(),
            mode: config.mode,
            status: config.status,
            quoted_name,
        })
    }

    /// Puts the shard that `worker` owns into memory near it.
    pub fn touch(&self, worker: usize) {
        if self.mode == LimitMode::Off {
            return;
        }
        for buckets in &self.buckets {
            buckets.limiter.touch_shard(worker);
        }
    }

    /// The value of `RateLimit-Policy` for who was refused by these of its buckets.
    pub(in crate::data) fn policy(&self, buckets: usize) -> &str {
        self.buckets
            .get(buckets)
            .map_or("", |buckets| &buckets.policy)
    }

    /// Has the refusals by its buckets written, by `write` for those with this index.
    pub(in crate::data) fn write_refusals(
        &mut self,
        write: impl Fn(&Self, usize) -> Option<RefusalText>,
    ) {
        for buckets in 0..self.buckets.len() {
            let text = write(self, buckets);
            self.buckets[buckets].refusal = text;
        }
    }

    /// What a refusal by these of its buckets says.
    pub(in crate::data) fn refusal_text(&self, buckets: usize) -> Option<&RefusalText> {
        self.buckets.get(buckets)?.refusal.as_ref()
    }

    /// How full its tables are, all together. Reads at most 64 KiB of each shard; not for the path of a request.
    #[must_use]
    pub fn sample(&self, now: Timestamp) -> LimitSample {
        let mut sum = LimitSample::default();
        for buckets in &self.buckets {
            let stats = buckets.limiter.stats(now);
            sum.keys += stats.live_keys;
            sum.capacity_keys += stats.capacity_keys;
            sum.overflowed += stats.overflowed;
        }
        sum
    }

    /// Brings buckets that nobody used for long up to date, see [`Limiter::sweep`]; not for the path of a request.
    pub fn sweep(&self, now: Timestamp) {
        for Buckets { limiter, .. } in &self.buckets {
            for shard in 0..limiter.options().table.shards.get() {
                limiter.sweep(shard, now);
            }
        }
    }

    /// The value of `RateLimit-Policy` that holds for a request, and whether it is refused nothing; `None`: the limit does
    /// not ask about it.
    pub(in crate::data) fn policy_for(
        &self,
        asked: &RouteLimit,
        subject: &Subject<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<(&str, bool)> {
        let key = subject.key(&asked.key, buffer);
        let (buckets, _, mode) = self.treatment(key, subject)?;
        Some((&buckets.policy, mode == Mode::Shadow))
    }

    /// How a key is treated; `None`: the limit does not ask.
    #[inline(always)]
    fn treatment(&self, key: Key, subject: &Subject<'_>) -> Option<(&Buckets, usize, Mode)> {
        let Treatment { buckets, mode } = if self.has_overrides {
            self.overridden(key, subject)
        } else {
            self.own()
        };
        let mode = match mode {
            LimitMode::Enforce => Mode::Enforce,
            LimitMode::Shadow => Mode::Shadow,
            LimitMode::Off => return None,
        };
        Some((self.buckets.get(buckets)?, buckets, mode))
    }

    const fn own(&self) -> Treatment {
        Treatment {
            buckets: 0,
            mode: self.mode,
        }
    }

    #[inline(never)]
    fn overridden(&self, key: Key, subject: &Subject<'_>) -> Treatment {
        let found = self.overrides.find(key, subject.client, subject.plan());
        found.unwrap_or_else(|| self.own())
    }
}

/// How large all tables of a limit are together; allocates nothing.
///
/// # Errors
///
/// As [`LimitPlan::new`], but for memory that cannot be had.
pub fn size(config: &LimitConfig, workers: usize) -> Result<TableSize, String> {
    let mut sum = TableSize {
        bytes: 0,
        capacity_keys: 0,
    };
    for options in tables(config, workers)? {
        let size = options
            .table
            .size()
            .map_err(|error| format!("limits.{}: {error}", config.name))?;
        sum.bytes += size.bytes;
        sum.capacity_keys += size.capacity_keys;
    }
    Ok(sum)
}

/// The quotas of a limit's overrides, each once; their buckets follow the limit's own in this order.
fn quotas(config: &LimitConfig) -> Vec<(Rate, NonZeroU64)> {
    let mut quotas = Vec::new();
    for quota in config.overrides.iter().filter_map(|each| each.quota) {
        if !quotas.contains(&quota) {
            quotas.push(quota);
        }
    }
    quotas
}

/// Index of an override's buckets.
fn place(each: &OverrideConfig, config: &LimitConfig) -> usize {
    let own = each.quota.and_then(|quota| {
        quotas(config)
            .iter()
            .position(|candidate| *candidate == quota)
    });
    own.map_or(0, |index| index + 1)
}

/// What the tables of a limit are made of: its own, then one for each quota of its overrides.
fn tables(config: &LimitConfig, workers: usize) -> Result<Vec<LimiterOptions>, String> {
    let shards = NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN);
    let table = |budget| TableOptions::new(budget).with_shards(shards);
    let own = match config.max_keys {
        MaxKeys::Bytes(bytes) => Budget::Bytes(bytes),
        MaxKeys::Keys(keys) => Budget::Keys(keys),
    };
    let describe = |error: &dyn std::fmt::Display| format!("limits.{}: {error}", config.name);
    let most = table(own).size().map_err(|error| describe(&error))?;
    let mut wanted = vec![((config.rate, config.burst), own)];
    for quota in quotas(config) {
        let keys = config.overrides.iter().filter(|o| o.quota == Some(quota));
        let keys = keys.fold(0_u64, |sum, each| sum.saturating_add(keys_of(&each.key)));
        let budget = NonZeroU64::new(keys.min(most.capacity_keys)).map_or(own, Budget::Keys);
        wanted.push((quota, budget));
    }
    wanted
        .into_iter()
        .map(|(quota, budget)| {
            let quota = quota_of(quota).map_err(|error| describe(&error))?;
            Ok(LimiterOptions {
                quota,
                table: table(budget),
            })
        })
        .collect()
}

fn quota_of((rate, burst): (Rate, NonZeroU64)) -> Result<Quota, limiter::QuotaError> {
    Quota::new(
        rate.units.get(),
        Period::try_from(rate.period)?,
        burst.get(),
    )
}

/// How many buckets an override may need.
fn keys_of(key: &OverrideKey) -> u64 {
    match key {
        OverrideKey::Values(_) => 1,
        // As many as the limit itself may have to hold.
        OverrideKey::Plan(_) => u64::MAX,
        OverrideKey::Network(network) => {
            let host_bits = match network {
                IpNet::V4(v4) => 32 - v4.prefix_len(),
                IpNet::V6(v6) => 128 - v6.prefix_len(),
            };
            1_u64.checked_shl(host_bits.into()).unwrap_or(u64::MAX)
        }
    }
}

/// A decision of one limit.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) struct Decided {
    /// Index of the limit.
    pub(in crate::data) limit: usize,
    /// The key that it was about.
    pub(in crate::data) key: Key,
    /// What it said.
    pub(in crate::data) outcome: LimitOutcome,
}

/// Whether the limits of a route let a request through, which takes a unit from each: what a request asks, without the
/// reason of a refusal. Cost: one look-up for each limit.
pub fn admits(
    limits: &[LimitPlan],
    of_route: &[RouteLimit],
    subject: &Subject<'_>,
    buffer: &mut Vec<u8>,
    now: Timestamp,
) -> bool {
    check(limits, of_route, subject, buffer, now, |_, _| {}).is_ok()
}

/// Takes one unit from each of the limits of a route, or from none if one refuses. Calls `decided` with every decision.
///
/// `buffer`: memory that is used again, to decode parts of keys in.
///
/// # Errors
///
/// [`Error::Limited`] by the limit that wants the longest wait.
pub(in crate::data) fn check(
    limits: &[LimitPlan],
    of_route: &[RouteLimit],
    subject: &Subject<'_>,
    buffer: &mut Vec<u8>,
    now: Timestamp,
    mut decided: impl FnMut(Decided, &mut Vec<u8>),
) -> Result<(), Error> {
    let mut checks = ArrayVec::<Check<'_>, ROUTE_LIMITS_MAX>::new();
    let mut asked = ArrayVec::<(usize, usize), ROUTE_LIMITS_MAX>::new();
    for each in of_route.iter().take(ROUTE_LIMITS_MAX) {
        let limit = &limits[each.limit];
        if limit.mode == LimitMode::Off {
            continue;
        }
        let key = subject.key(&each.key, buffer);
        let Some((buckets, place, mode)) = limit.treatment(key, subject) else {
            continue;
        };
        let mut check = Check::new(&buckets.limiter, key);
        check.mode = mode;
        checks.push(check);
        asked.push((each.limit, place));
    }
    let result = check_all(&mut checks, now);
    for (check, &(limit, _)) in checks.iter().zip(&asked) {
        let outcome = match (check.is_allowed(), check.mode) {
            (Some(true), _) => LimitOutcome::Allowed,
            (Some(false), Mode::Enforce) => LimitOutcome::Limited,
            (Some(false), Mode::Shadow) => LimitOutcome::ShadowLimited,
            (None, _) => continue,
        };
        let key = check.key;
        decided(
            Decided {
                limit,
                key,
                outcome,
            },
            buffer,
        );
    }
    let Err(refuser) = result else { return Ok(()) };
    let retry_after = match checks[refuser].decision() {
        Some(Decision::Refused(refused)) => refused.retry_after(),
        _ => None,
    };
    // One unit always fits a burst of at least one.
    let retry_after = retry_after.unwrap_or(Duration::MAX);
    let (limit, buckets) = asked[refuser];
    Err(Error::Limited(Refusal {
        limit,
        buckets,
        retry_after,
    }))
}
