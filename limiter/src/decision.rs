//! The answer to a request, with the numbers that a client is told.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::key::Key;

/// Whether a request is within its limit.
///
/// The numbers are computed when they are asked for, so that who does not ask does not pay.
#[derive(Debug)]
#[must_use]
pub enum Decision<'a> {
    /// The units were taken.
    Allowed(Allowed<'a>),
    /// Nothing was taken or written.
    Refused(Refused<'a>),
}

impl<'a> Decision<'a> {
    /// Whether the units were taken.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The limit: units that may come at once.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.standing().bucket.quota().burst()
    }

    /// Whole units that the key could have at this moment, after this request.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.standing().remaining()
    }

    /// Time until the bucket is full again, rounded up to a nanosecond.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        self.standing().reset_after()
    }

    /// Whether the key has no slot of its own and the decision is its group's.
    #[must_use]
    pub const fn is_overflow(&self) -> bool {
        self.standing().overflow
    }

    const fn standing(&self) -> &Standing<'a> {
        match self {
            Self::Allowed(allowed) => &allowed.standing,
            Self::Refused(refused) => &refused.standing,
        }
    }
}

/// A bucket at the moment of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) bucket: Bucket<'a>,
    pub(crate) word: u64,
    pub(crate) overflow: bool,
}

impl Standing<'_> {
    fn remaining(&self) -> u64 {
        let quota = self.bucket.quota();
        quota.units_in(quota.capacity().saturating_sub(self.bucket.debt(self.word)))
    }

    fn reset_after(&self) -> Duration {
        self.bucket.quota().duration_up(self.bucket.debt(self.word))
    }
}

/// A request that was let through.
#[derive(Debug)]
pub struct Allowed<'a> {
    pub(crate) standing: Standing<'a>,
    pub(crate) key: Key,
    pub(crate) cost: u64,
}

impl Allowed<'_> {
    /// Whole units left at this moment.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.standing.remaining()
    }

    /// Time until the bucket is full again, rounded up to a nanosecond.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        self.standing.reset_after()
    }

    /// What was taken, to be settled once the real cost is known (`Limiter::settle`).
    pub const fn charge(self) -> Charge {
        Charge {
            key: self.key,
            end: self.standing.word,
            cost: self.cost,
            overflow: self.standing.overflow,
        }
    }
}

/// A request that was not let through.
#[derive(Debug)]
pub struct Refused<'a> {
    pub(crate) standing: Standing<'a>,
    /// Word steps of the cost; `None` where it exceeds the burst.
    pub(crate) steps: Option<u64>,
}

impl Refused<'_> {
    /// Whole units that a cheaper request could still have.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.standing.remaining()
    }

    /// Time until the bucket is full again, rounded up to a nanosecond.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        self.standing.reset_after()
    }

    /// Time after which the same request will fit if nothing else comes, rounded up to a nanosecond, never zero; `None`
    /// where its cost exceeds the burst, so that it never will.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let Standing { bucket, word, .. } = self.standing;
        let wanted = bucket.debt(word).saturating_add(self.steps?);
        let missing = wanted.saturating_sub(bucket.quota().capacity());
        Some(bucket.quota().duration_up(missing.max(1)))
    }

    /// [`retry_after`](Self::retry_after) in whole seconds, rounded up, for a `Retry-After` field (RFC 9110 section 10.2.3).
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<NonZeroU64> {
        let after = self.retry_after()?;
        let up = after
            .as_secs()
            .saturating_add(u64::from(after.subsec_nanos() > 0));
        Some(NonZeroU64::new(up).unwrap_or(NonZeroU64::MIN))
    }
}

/// Units that were taken and may yet be settled; dropping it leaves the charge as it is.
///
/// It can be settled once only, and only with the limiter that gave it.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    pub(crate) key: Key,
    /// The bucket just after the charge.
    pub(crate) end: u64,
    pub(crate) cost: u64,
    pub(crate) overflow: bool,
}

impl Charge {
    /// Units that were taken.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }
}
