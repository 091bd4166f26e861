//! The limiter against a reference in wide integers, on requests, costs, settlements and clocks at random.

#![expect(clippy::unwrap_used, reason = "test helpers")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "the reference counts in wider numbers"
)]

use std::num::NonZeroU64;
use std::time::Duration;

use limiter::{
    Allowed, Budget, Charge, Decision, Key, KeyHasher, Limiter, LimiterOptions, Period, Quota,
    TableOptions, Timestamp,
};
use proptest::prelude::*;

/// The virtual scheduling algorithm with one nanosecond as `units` ticks, so that nothing is ever rounded.
struct Reference {
    units: u128,
    period: u128,
    capacity: u128,
    tat: u128,
}

impl Reference {
    fn new(units: u64, period: Period, burst: u64) -> Self {
        let period = period.duration().as_nanos();
        Self {
            units: units.into(),
            period,
            capacity: u128::from(burst) * period,
            tat: 0,
        }
    }

    fn debt(&self, now: u64) -> u128 {
        self.tat.saturating_sub(u128::from(now) * self.units)
    }

    /// The end of the charge, if the bucket holds it.
    fn take(&mut self, now: u64, cost: u64) -> Option<u128> {
        let debt = self.debt(now) + u128::from(cost) * self.period;
        (debt <= self.capacity).then(|| {
            self.tat = u128::from(now) * self.units + debt;
            self.tat
        })
    }

    fn refund(&mut self, now: u64, end: u128, units: u64) {
        let left = end.saturating_sub(u128::from(now) * self.units);
        let back = (u128::from(units) * self.period)
            .min(left)
            .min(self.debt(now));
        self.tat -= back;
    }

    fn overdraw(&mut self, now: u64, units: u64) {
        let debt = self.debt(now);
        let after = (debt + u128::from(units) * self.period).min(debt.max(4 * self.capacity));
        self.tat = u128::from(now) * self.units + after;
    }

    fn remaining(&self, now: u64) -> u64 {
        (self.capacity.saturating_sub(self.debt(now)) / self.period) as u64
    }

    fn reset_ns(&self, now: u64) -> u128 {
        self.debt(now).div_ceil(self.units)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take { cost: u64 },
    Settle { actual: u64 },
}

fn key() -> Key {
    KeyHasher::with_secret(3).bytes(b"the key")
}

fn limiter(units: u64, period: Period, burst: u64) -> Limiter {
    let keys = NonZeroU64::new(100).unwrap();
    let quota = Quota::new(units, period, burst).unwrap();
    Limiter::new(LimiterOptions {
        quota,
        table: TableOptions::new(Budget::Keys(keys)),
    })
    .unwrap()
}

fn periods() -> impl Strategy<Value = Period> {
    prop::sample::select(vec![
        Period::Second,
        Period::Minute,
        Period::Hour,
        Period::Day,
    ])
}

/// Rates whose intervals need at most 4,096 ticks to the nanosecond, and are therefore exact.
fn exact_units() -> impl Strategy<Value = u64> {
    prop_oneof![
        1..4_096_u64,
        prop::sample::select(vec![3_000, 10_000, 1_000_000, 3_000_000, 700_000, 999_000]),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    // Gaps in thousandths of an interval: mostly below one, sometimes long.
    let gap = prop_oneof![4 => 0..1_500_u64, 1 => 0..30_000_u64, 1 => Just(0)];
    let step = prop_oneof![
        4 => (1..6_u64).prop_map(|cost| Step::Take { cost }),
        1 => (0..12_u64).prop_map(|actual| Step::Settle { actual }),
    ];
    prop::collection::vec((gap, step), 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_answer_is_the_references(
        units in exact_units(),
        period in periods(),
        burst in 1..20_u64,
        start in 0..1_u64 << 61,
        steps in steps(),
    ) {
        let limiter = limiter(units, period, burst);
        let mut reference = Reference::new(units, period, burst);
        let interval_ns = period.duration().as_nanos() as u64 / units + 1;
        let mut now = start;
        let mut charges: Vec<(Charge, u128, u64)> = Vec::new();
        for (gap, step) in steps {
            now += interval_ns / 1_000 * gap + interval_ns % 1_000 * gap / 1_000;
            let at = Timestamp::from_nanos(now);
            match step {
                Step::Take { cost } => {
                    let decision = limiter.check(key(), cost, at);
                    let expected = reference.take(now, cost);
                    prop_assert_eq!(decision.is_allowed(), expected.is_some());
                    prop_assert_eq!(decision.remaining(), reference.remaining(now));
                    prop_assert_eq!(decision.reset_after().as_nanos(), reference.reset_ns(now));
                    match (decision, expected) {
                        (Decision::Allowed(allowed), Some(end)) => {
                            charges.push((Allowed::charge(allowed), end, cost));
                        }
                        (Decision::Refused(refused), _) => {
                            let wait = refused.retry_after();
                            prop_assert_eq!(wait.is_none(), cost > burst);
                            if let Some(wait) = wait {
                                let ns = wait.as_nanos() as u64;
                                prop_assert!(ns > 0);
                                let soon = Timestamp::from_nanos(now + ns - 1);
                                let then = Timestamp::from_nanos(now + ns);
                                prop_assert!(!limiter.look(key(), cost, soon).is_allowed());
                                prop_assert!(limiter.look(key(), cost, then).is_allowed());
                            }
                        }
                        _ => {}
                    }
                }
                Step::Settle { actual } => {
                    let Some((charge, end, cost)) = charges.pop() else { continue };
                    limiter.settle(charge, actual, at);
                    if actual < cost {
                        reference.refund(now, end, cost - actual);
                    } else if actual > cost {
                        reference.overdraw(now, actual - cost);
                    }
                    prop_assert_eq!(limiter.look(key(), 0, at).remaining(), reference.remaining(now));
                }
            }
        }
    }

    #[test]
    fn no_window_admits_more_than_burst_and_rate_at_any_rate(
        units in 1..=1_000_000_000_u64,
        period in periods(),
        burst in 1..50_u64,
        start in 0..1_u64 << 61,
        gaps in prop::collection::vec((0..2_000_u64, 1..4_u64), 1..200),
    ) {
        let limiter = limiter(units, period, burst);
        let period_ns = period.duration().as_nanos();
        let interval_ns = (period_ns as u64 / units).max(1);
        let mut now = start;
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (gap, cost) in gaps {
            now += (u128::from(interval_ns) * u128::from(gap) / 1_000) as u64;
            if limiter.check(key(), cost, Timestamp::from_nanos(now)).is_allowed() {
                admitted.push((now, cost));
            }
        }
        for (first, &(from, _)) in admitted.iter().enumerate() {
            let mut sum = 0_u128;
            for &(to, cost) in &admitted[first..] {
                sum += u128::from(cost);
                let refilled = u128::from(to - from) * u128::from(units);
                prop_assert!(sum * period_ns <= u128::from(burst) * period_ns + refilled);
            }
        }
    }

    #[test]
    fn a_rate_that_must_be_rounded_loses_at_most_one_unit_in_four_thousand_intervals_of_a_nanosecond(
        units in 1..=1_000_000_000_u64,
    ) {
        // Asked for at every nanosecond at which a unit could be due, for some time, from a bucket never full.
        let burst = 1_000;
        let limiter = limiter(units, Period::Second, burst);
        let start = Timestamp::from_nanos(1 << 40);
        let total = 200_000_u64;
        prop_assert!(limiter.check(key(), burst, start).is_allowed());
        let span_ns = u128::from(total) * 1_000_000_000 / u128::from(units);
        let end = start.saturating_add(Duration::from_nanos(span_ns as u64));
        let mut admitted = 0;
        let mut now = start;
        // In strides of half a burst, so that nothing is lost to a full bucket.
        let stride = Duration::from_nanos((u128::from(burst) * 500_000_000 / u128::from(units)) as u64);
        while now < end {
            now = now.saturating_add(stride.max(Duration::from_nanos(1))).min(end);
            let left = limiter.look(key(), 0, now).remaining();
            if left > 0 && limiter.check(key(), left, now).is_allowed() {
                admitted += left;
            }
        }
        let due = ((end.as_nanos() - start.as_nanos()) as u128 * u128::from(units) / 1_000_000_000) as u64;
        prop_assert!(admitted <= due);
        // The interval is at most 1/4096 ns too long, of 1e9 / units ns.
        let lost = u128::from(due) * u128::from(units) / (4_096 * 1_000_000_000) + 1;
        prop_assert!(u128::from(due - admitted) <= lost, "{} of {}", due - admitted, due);
    }
}
