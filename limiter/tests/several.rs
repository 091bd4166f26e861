//! Several limits on one request against what the documentation says of them, put together from the calls for one limit.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::num::NonZeroU64;
use std::time::Duration;

use limiter::{
    Budget, Check, Decision, Key, KeyHasher, Limiter, LimiterOptions, Mode, Period, Quota,
    TableOptions, Timestamp, check_all,
};
use proptest::prelude::*;

/// More keys than the tables have slots for, so that some are on the bucket of their group.
const KEYS: u8 = 200;

/// One limit of a request: which of the limiters, which key, how much, and what a refusal does.
#[derive(Clone, Debug)]
struct Asked {
    limiter: usize,
    key: u8,
    cost: u64,
    shadow: bool,
}

/// What is told of a decision: allowed, remaining, until it is full, on the group's bucket.
type Told = (bool, u64, Duration, bool);

fn limiters() -> Vec<Limiter> {
    let make = |(units, burst)| {
        Limiter::new(LimiterOptions {
            quota: Quota::new(units, Period::Second, burst).unwrap(),
            table: TableOptions::new(Budget::Keys(NonZeroU64::new(50).unwrap())),
        })
        .unwrap()
    };
    [(1, 2), (10, 3), (100, 20)].map(make).into()
}

fn key(number: u8) -> Key {
    KeyHasher::with_secret(5).bytes(&[number])
}

fn mode(asked: &Asked) -> Mode {
    if asked.shadow {
        Mode::Shadow
    } else {
        Mode::Enforce
    }
}

fn told(decision: &Decision<'_>) -> Told {
    (
        decision.is_allowed(),
        decision.remaining(),
        decision.reset_after(),
        decision.is_overflow(),
    )
}

fn wait(decision: &Decision<'_>) -> Option<Duration> {
    match decision {
        Decision::Refused(refused) => Some(refused.retry_after().unwrap_or(Duration::MAX)),
        Decision::Allowed(_) => None,
    }
}

/// All or nothing, by calls for one limit each.
fn one_by_one(
    limiters: &[Limiter],
    asked: &[Asked],
    now: Timestamp,
) -> (Result<(), usize>, Vec<Told>) {
    let looks = asked.iter();
    let looks = looks.map(|each| limiters[each.limiter].look(key(each.key), each.cost, now));
    let looks: Vec<_> = looks.collect();
    let refusing = (0..asked.len()).filter(|&at| !asked[at].shadow && !looks[at].is_allowed());
    if let Some(longest) = refusing.max_by_key(|&at| wait(&looks[at])) {
        return (Err(longest), looks.iter().map(told).collect());
    }
    let mut charges = Vec::new();
    let mut all: Vec<_> = looks.iter().map(told).collect();
    for (at, each) in asked.iter().enumerate() {
        let decision = limiters[each.limiter].check(key(each.key), each.cost, now);
        all[at] = told(&decision);
        match decision {
            Decision::Allowed(allowed) => charges.push((each.limiter, allowed.charge())),
            Decision::Refused(_) if each.shadow => {}
            Decision::Refused(_) => {
                for (limiter, charge) in charges {
                    limiters[limiter].settle(charge, 0, now);
                }
                return (Err(at), all);
            }
        }
    }
    (Ok(()), all)
}

fn requests() -> impl Strategy<Value = Vec<(u64, Vec<Asked>)>> {
    let cost = prop_oneof![6 => Just(1_u64), 1 => Just(0), 2 => 0..5_u64, 1 => 15..25_u64];
    let key = prop_oneof![0..4_u8, 0..KEYS];
    let asked =
        (0..3_usize, key, cost, any::<bool>()).prop_map(|(limiter, key, cost, shadow)| Asked {
            limiter,
            key,
            cost,
            shadow,
        });
    let pause = prop_oneof![Just(0_u64), 0..1_000_000_000_u64];
    prop::collection::vec((pause, prop::collection::vec(asked, 0..5)), 1..300)
}

proptest! {
    #[test]
    fn all_limits_together_decide_as_each_would_in_turn(requests in requests()) {
        let (together, apart) = (limiters(), limiters());
        let mut now = Timestamp::from_nanos(1_000_000_000);
        for (pause, asked) in requests {
            now = now.saturating_add(Duration::from_nanos(pause));
            let mut checks: Vec<_> = asked
                .iter()
                .map(|each| {
                    let mut check = Check::new(&together[each.limiter], key(each.key));
                    (check.cost, check.mode) = (each.cost, mode(each));
                    check
                })
                .collect();
            let result = check_all(&mut checks, now);
            let decisions = checks.iter().map(|check| told(&check.decision().unwrap()));
            let (expected, all) = one_by_one(&apart, &asked, now);
            prop_assert_eq!(result, expected);
            // Of a request that the taking refused, those behind were not asked again.
            prop_assert_eq!(decisions.collect::<Vec<_>>(), all);
        }
    }
}
