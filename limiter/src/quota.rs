//! What a key may use: so many units in a period, and so many at once.
//!
//! Time inside a bucket is counted in *ticks*, a whole number to the nanosecond, chosen for each quota such that both a
//! nanosecond and the interval between two units are whole: at 3,000 per second a tick is a third of a nanosecond and the
//! interval 1,000,000 ticks. Sums of ticks are then exact, where whole nanoseconds would admit one unit too many every
//! 333 seconds. A rate that would need more than [`TICKS_PER_NANO_MAX`] ticks gets that many and its interval rounded up,
//! so that it never admits too much: at a million units per second it loses at most one in four million.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// Bits at the low end of a bucket's word which are not time (the slot keeps its generation there).
pub(crate) const WORD_SPARE_BITS: u32 = 4;
/// Most ticks in a nanosecond. More would bring the wrap of the 60 bits of ticks below three days.
pub const TICKS_PER_NANO_MAX: u64 = 4096;
/// Longest time to refill a bucket, in ticks: a sixteenth of the range, which leaves room for arrears and for the past.
const SPAN_TICKS_MAX: u128 = 1 << 56;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The period to which the units of a [`Quota`] relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// One second.
    Second,
    /// Sixty seconds.
    Minute,
    /// Sixty minutes.
    Hour,
    /// Twenty-four hours.
    Day,
}

impl Period {
    /// Its length.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        })
    }
}

impl TryFrom<Duration> for Period {
    type Error = QuotaError;

    /// # Errors
    ///
    /// [`QuotaError::Period`] unless the duration is exactly one second, minute, hour or day.
    fn try_from(duration: Duration) -> Result<Self, QuotaError> {
        [Self::Second, Self::Minute, Self::Hour, Self::Day]
            .into_iter()
            .find(|period| period.duration() == duration)
            .ok_or(QuotaError::Period { duration })
    }
}

/// Why numbers make no quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuotaError {
    /// No units per period: nothing would ever be admitted.
    ZeroUnits,
    /// No units at once: nothing would ever be admitted.
    ZeroBurst,
    /// More than one unit per nanosecond.
    RateTooHigh {
        /// The units asked for.
        units: u64,
        /// Their period.
        period: Period,
    },
    /// The burst takes longer than 2.2 years to refill.
    BurstTooLong {
        /// The burst asked for.
        burst: u64,
    },
    /// The period is not one second, minute, hour or day.
    Period {
        /// The period asked for.
        duration: Duration,
    },
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroUnits => write!(f, "a rate of zero admits nothing"),
            Self::ZeroBurst => write!(f, "a burst of zero admits nothing"),
            Self::RateTooHigh { units, period } => {
                write!(
                    f,
                    "{units} per {period:?} is more than one unit per nanosecond"
                )
            }
            Self::BurstTooLong { burst } => {
                write!(
                    f,
                    "a burst of {burst} takes longer than 2.2 years to refill at this rate"
                )
            }
            Self::Period { duration } => {
                write!(
                    f,
                    "a period is one second, minute, hour or day, not {duration:?}"
                )
            }
        }
    }
}

impl Error for QuotaError {}

/// A rate and a burst: over any time `t` a key is admitted at most `burst + rate * t` units.
///
/// ```
/// use limiter::{Period, Quota};
///
/// let quota = Quota::new(3_000, Period::Second, 200)?;
/// assert_eq!(quota.burst(), 200);
/// # Ok::<(), limiter::QuotaError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    units: NonZeroU64,
    period: Period,
    burst: NonZeroU64,
    /// Word steps (sixteenths of a tick) in a nanosecond.
    scale: NonZeroU64,
    /// Word steps from one unit to the next.
    interval: NonZeroU64,
    /// Word steps of a whole burst, below 2^61.
    capacity: u64,
}

impl Quota {
    /// `units` per `period`, of which `burst` may come at once.
    ///
    /// # Errors
    ///
    /// [`QuotaError`] names the bound that the numbers break: neither may be zero, the rate at most one unit per
    /// nanosecond, and the burst must refill within 2.2 years.
    pub fn new(units: u64, period: Period, burst: u64) -> Result<Self, QuotaError> {
        let units = NonZeroU64::new(units).ok_or(QuotaError::ZeroUnits)?;
        let burst = NonZeroU64::new(burst).ok_or(QuotaError::ZeroBurst)?;
        let period_ns = period.duration().as_secs().saturating_mul(NANOS_PER_SECOND);
        if units.get() > period_ns {
            return Err(QuotaError::RateTooHigh {
                units: units.get(),
                period,
            });
        }
        let (ticks_per_nano, interval) = ticks(units, period_ns, burst.get())
            .ok_or_else(|| QuotaError::BurstTooLong { burst: burst.get() })?;
        let scale = ticks_per_nano
            .checked_mul(1 << WORD_SPARE_BITS)
            .and_then(NonZeroU64::new);
        let interval = interval
            .checked_mul(1 << WORD_SPARE_BITS)
            .and_then(NonZeroU64::new);
        let capacity = interval.and_then(|interval| interval.get().checked_mul(burst.get()));
        match (scale, interval, capacity) {
            (Some(scale), Some(interval), Some(capacity)) => Ok(Self {
                units,
                period,
                burst,
                scale,
                interval,
                capacity,
            }),
            _ => Err(QuotaError::BurstTooLong { burst: burst.get() }),
        }
    }

    /// Units per [`period`](Self::period).
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.units.get()
    }

    /// The period of [`units`](Self::units).
    #[must_use]
    pub const fn period(&self) -> Period {
        self.period
    }

    /// Units that may come at once: what a key that rested finds in its bucket.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst.get()
    }

    /// Time in which an empty bucket fills up, rounded up to a nanosecond.
    #[must_use]
    pub fn refill_time(&self) -> Duration {
        self.duration_up(self.capacity())
    }

    /// Word steps in a nanosecond.
    pub(crate) const fn scale(&self) -> u64 {
        self.scale.get()
    }

    /// Word steps from one unit to the next.
    pub(crate) const fn interval(&self) -> u64 {
        self.interval.get()
    }

    /// Word steps of a whole burst.
    pub(crate) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whole units in a number of word steps, rounded down.
    pub(crate) fn units_in(&self, steps: u64) -> u64 {
        steps / self.interval
    }

    /// The time of a number of word steps, rounded up to a nanosecond.
    pub(crate) fn duration_up(&self, steps: u64) -> Duration {
        Duration::from_nanos(steps.div_ceil(self.scale.get()))
    }
}

/// Ticks per nanosecond and per unit; `None` where the burst takes too long to refill.
fn ticks(units: NonZeroU64, period_ns: u64, burst: u64) -> Option<(u64, u64)> {
    let common = gcd(units.get(), period_ns);
    let exact = units.get().checked_div(common)?;
    let span_ns = u128::from(burst)
        .checked_mul(u128::from(period_ns))?
        .div_ceil(u128::from(units.get()));
    let most = u64::try_from(SPAN_TICKS_MAX.checked_div(span_ns)?).unwrap_or(u64::MAX);
    let per_nano = exact.min(TICKS_PER_NANO_MAX).min(most);
    let interval = u128::from(period_ns)
        .checked_mul(u128::from(per_nano))?
        .div_ceil(u128::from(units.get()));
    let span = interval.checked_mul(u128::from(burst))?;
    // Rounding the interval up may have lengthened the span, but by no more than its double.
    (per_nano > 0 && span <= SPAN_TICKS_MAX.checked_mul(2)?)
        .then_some((per_nano, u64::try_from(interval).ok()?))
}

const fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}
