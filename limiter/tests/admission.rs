//! What a single thread sees of a limiter on a clock that tests move.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use limiter::{
    Budget, Check, Clock, Decision, Key, KeyHasher, Limiter, LimiterOptions, ManualClock, Mode,
    Period, Quota, QuotaError, TableError, TableOptions, Timestamp, check_all,
};

fn hasher() -> KeyHasher {
    KeyHasher::with_secret(0x0123_4567_89ab_cdef_0011_2233_4455_6677)
}

fn key(name: u64) -> Key {
    hasher().bytes(&name.to_le_bytes())
}

fn limiter(units: u64, period: Period, burst: u64) -> Limiter {
    with_keys(units, period, burst, 1_000)
}

#[expect(clippy::unwrap_used, reason = "test helper")]
fn with_keys(units: u64, period: Period, burst: u64, keys: u64) -> Limiter {
    let budget = Budget::Keys(NonZeroU64::new(keys).unwrap());
    let options = LimiterOptions {
        quota: Quota::new(units, period, burst).unwrap(),
        table: TableOptions::new(budget),
    };
    Limiter::new(options).unwrap()
}

fn allows(limiter: &Limiter, key: Key, cost: u64, now: Timestamp) -> bool {
    limiter.check(key, cost, now).is_allowed()
}

fn at(duration: Duration) -> Timestamp {
    Timestamp::from_nanos(0).saturating_add(duration)
}

/// Requests of one unit at `now` until one is refused.
fn drain(limiter: &Limiter, key: Key, now: Timestamp) -> u64 {
    (0..).take_while(|_| allows(limiter, key, 1, now)).count() as u64
}

#[test]
fn admits_the_burst_and_then_the_rate() {
    let limiter = limiter(10, Period::Second, 5);
    let clock = ManualClock::default();
    assert_eq!(drain(&limiter, key(1), clock.now()), 5);
    for _ in 0..20 {
        clock.advance(Duration::from_millis(99));
        assert_eq!(drain(&limiter, key(1), clock.now()), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(drain(&limiter, key(1), clock.now()), 1);
    }
    clock.advance(Duration::from_secs(60));
    assert_eq!(drain(&limiter, key(1), clock.now()), 5);
}

#[test]
fn keys_do_not_share_units() {
    let limiter = limiter(10, Period::Second, 3);
    let now = at(Duration::from_secs(1));
    for name in 0..500 {
        assert_eq!(drain(&limiter, key(name), now), 3, "key {name}");
    }
    for name in 0..500 {
        assert_eq!(drain(&limiter, key(name), now), 0, "key {name}");
    }
    assert_eq!(limiter.stats(now).overflowed, 0);
    assert_eq!(limiter.stats(now).live_keys, 500);
    assert_eq!(limiter.sweep(0, now), 500);
    assert_eq!(
        limiter.sweep(0, now.saturating_add(Duration::from_secs(1))),
        0
    );
}

#[test]
fn three_thousand_per_second_is_exact_to_the_nanosecond_at_any_uptime() {
    let limiter = limiter(3_000, Period::Second, 2);
    let key = key(1);
    // Every request comes at the first nanosecond at which the rate allows it. The burst of two keeps the bucket from
    // being full, whose time would start with the request.
    let due = |unit: u64| Timestamp::from_nanos((unit * 1_000_000).div_ceil(3));
    for start in [0, 3_000_000, 3_000_000_000] {
        assert_eq!(drain(&limiter, key, due(start)), 2);
        for unit in start + 1..start + 10_000 {
            let before = Timestamp::from_nanos(due(unit).as_nanos() - 1);
            assert!(!allows(&limiter, key, 1, before), "unit {unit} came early");
            assert!(
                allows(&limiter, key, 1, due(unit)),
                "unit {unit} was refused"
            );
        }
    }
}

#[test]
fn a_rate_per_day_is_exact_to_the_nanosecond() {
    let limiter = limiter(10_000, Period::Day, 1);
    let interval = 8_640_000_000_000 / 1_000;
    for unit in 0..1_000_u64 {
        let due = unit * interval;
        if due > 0 {
            assert!(!allows(&limiter, key(1), 1, Timestamp::from_nanos(due - 1)));
        }
        assert!(allows(&limiter, key(1), 1, Timestamp::from_nanos(due)));
    }
}

#[test]
fn a_million_per_second_is_exact_to_the_nanosecond() {
    let limiter = limiter(1_000_000, Period::Second, 1);
    for unit in 0..100_000_u64 {
        assert!(allows(
            &limiter,
            key(1),
            1,
            Timestamp::from_nanos(unit * 1_000)
        ));
        assert!(!allows(
            &limiter,
            key(1),
            1,
            Timestamp::from_nanos(unit * 1_000 + 999)
        ));
    }
}

#[test]
fn answers_are_correct_to_the_second_and_never_zero_on_refusal() {
    let limiter = limiter(6, Period::Minute, 3);
    let now = at(Duration::from_secs(100));
    let first = limiter.check(key(1), 1, now);
    assert!(first.is_allowed());
    assert_eq!((first.limit(), first.remaining()), (3, 2));
    assert_eq!(first.reset_after(), Duration::from_secs(10));
    assert!(limiter.check(key(1), 2, now).is_allowed());
    for late_ms in [0, 1, 5_000, 9_999] {
        let then = now.saturating_add(Duration::from_millis(late_ms));
        let Decision::Refused(refused) = limiter.check(key(1), 1, then) else {
            panic!("nothing has refilled");
        };
        assert_eq!(
            refused.retry_after(),
            Some(Duration::from_millis(10_000 - late_ms))
        );
        let seconds = refused.retry_after_seconds().map(NonZeroU64::get);
        assert_eq!(seconds, Some((10_000 - late_ms).div_ceil(1_000)));
        assert_eq!(refused.remaining(), 0);
        assert_eq!(
            refused.reset_after(),
            Duration::from_millis(30_000 - late_ms)
        );
    }
}

#[test]
fn retrying_when_told_succeeds_and_a_nanosecond_sooner_does_not() {
    for units in [7, 3_000, 999_983] {
        let limiter = limiter(units, Period::Second, 4);
        let now = at(Duration::from_secs(1));
        assert!(allows(&limiter, key(1), 3, now));
        let Decision::Refused(refused) = limiter.check(key(1), 3, now) else {
            panic!("one unit is left");
        };
        let wait = refused.retry_after().unwrap();
        assert!(!allows(
            &limiter,
            key(1),
            3,
            now.saturating_add(wait - Duration::from_nanos(1))
        ));
        assert!(allows(&limiter, key(1), 3, now.saturating_add(wait)));
    }
}

#[test]
fn a_cost_beyond_the_burst_is_never_admitted_and_says_so() {
    let limiter = limiter(10, Period::Second, 5);
    let Decision::Refused(refused) = limiter.check(key(1), 6, at(Duration::ZERO)) else {
        panic!("six do not fit in five");
    };
    assert_eq!(refused.retry_after(), None);
    assert_eq!(refused.retry_after_seconds(), None);
    assert_eq!(drain(&limiter, key(1), at(Duration::ZERO)), 5);
}

#[test]
fn a_cost_of_zero_takes_neither_units_nor_room() {
    let limiter = limiter(10, Period::Second, 5);
    let now = at(Duration::from_secs(1));
    assert_eq!(limiter.check(key(1), 0, now).remaining(), 5);
    assert_eq!(limiter.stats(now).live_keys, 0);
    assert_eq!(drain(&limiter, key(1), now), 5);
}

#[test]
fn a_refund_gives_back_only_what_has_not_refilled() {
    // With burst 10, reserving 10 at 0 s and settling to 0 at 5 s must not allow 20 at once.
    let limiter = limiter(1, Period::Second, 10);
    let Decision::Allowed(reserved) = limiter.check(key(1), 10, at(Duration::ZERO)) else {
        panic!("the bucket was full");
    };
    let later = at(Duration::from_secs(5));
    assert_eq!(drain(&limiter, key(1), later), 5);
    limiter.settle(reserved.charge(), 0, later);
    assert_eq!(drain(&limiter, key(1), later), 5);
}

#[test]
fn a_refund_at_once_gives_everything_back() {
    let limiter = limiter(1, Period::Second, 10);
    let now = at(Duration::from_secs(3));
    assert!(allows(&limiter, key(1), 2, now));
    let Decision::Allowed(reserved) = limiter.check(key(1), 7, now) else {
        panic!("eight were left");
    };
    limiter.settle(reserved.charge(), 1, now);
    assert_eq!(drain(&limiter, key(1), now), 7);
}

#[test]
fn an_extra_charge_makes_later_requests_wait() {
    let limiter = limiter(1, Period::Second, 10);
    let now = at(Duration::ZERO);
    let Decision::Allowed(reserved) = limiter.check(key(1), 1, now) else {
        panic!("the bucket was full");
    };
    limiter.settle(reserved.charge(), 15, now);
    assert_eq!(drain(&limiter, key(1), at(Duration::from_secs(5))), 0);
    assert_eq!(drain(&limiter, key(1), at(Duration::from_secs(6))), 1);
}

#[test]
fn an_extra_charge_is_cut_at_four_bursts_in_arrears() {
    let limiter = limiter(1, Period::Second, 10);
    let now = at(Duration::ZERO);
    let Decision::Allowed(reserved) = limiter.check(key(1), 1, now) else {
        panic!("the bucket was full");
    };
    limiter.settle(reserved.charge(), u64::MAX, now);
    assert_eq!(drain(&limiter, key(1), at(Duration::from_secs(30))), 0);
    assert_eq!(drain(&limiter, key(1), at(Duration::from_secs(31))), 1);
}

#[test]
fn an_extra_charge_reaches_a_key_whose_slot_was_given_away() {
    let limiter = with_keys(1, Period::Second, 10, 1);
    let Decision::Allowed(reserved) = limiter.check(key(1), 1, at(Duration::ZERO)) else {
        panic!("the bucket was full");
    };
    let later = at(Duration::from_secs(100));
    for name in 2..1_000 {
        let _filler = limiter.check(key(name), 1, later);
    }
    limiter.settle(reserved.charge(), 11, later);
    assert_eq!(drain(&limiter, key(1), later), 0);
}

#[test]
fn clock_readings_that_go_back_admit_nothing_more() {
    let limiter = limiter(10, Period::Second, 5);
    let now = at(Duration::from_secs(100));
    assert_eq!(drain(&limiter, key(1), now), 5);
    for back_ms in [1, 100, 1_000, 30_000, 59_000] {
        let earlier = Timestamp::from_nanos(now.as_nanos() - back_ms * 1_000_000);
        assert_eq!(drain(&limiter, key(1), earlier), 0, "{back_ms} ms back");
    }
    assert_eq!(drain(&limiter, key(1), now), 0);
}

#[test]
fn time_may_wrap_in_the_middle_of_a_debt() {
    // 4,096 ticks to the nanosecond wrap after 2^48 ns; the clock itself runs on.
    let limiter = limiter(999_983, Period::Second, 1_000);
    for wrap in 1..4_u64 {
        let edge = wrap << 48;
        let before = Timestamp::from_nanos(edge - 500_000);
        let after = Timestamp::from_nanos(edge + 400_000);
        assert_eq!(drain(&limiter, key(wrap), before), 1_000);
        assert_eq!(drain(&limiter, key(wrap), after), 899);
        assert_eq!(
            drain(
                &limiter,
                key(wrap),
                at(Duration::from_nanos(edge + 2_000_000))
            ),
            1_000
        );
    }
}

#[test]
fn an_untouched_table_has_room_at_every_time() {
    for edge in [1_u64 << 48, 3 << 48, u64::MAX] {
        let limiter = with_keys(999_983, Period::Second, 1_000, 100);
        let now = Timestamp::from_nanos(edge - 1_000);
        assert_eq!(drain(&limiter, key(edge), now), 1_000);
        assert_eq!(limiter.stats(now).overflowed, 0);
        assert_eq!(limiter.stats(now).live_keys, 1);
    }
}

#[test]
fn a_sweep_keeps_a_bucket_from_wearing_an_old_debt_after_a_wrap() {
    let limiter = limiter(999_983, Period::Second, 1_000);
    let start = 1_u64 << 40;
    assert_eq!(drain(&limiter, key(1), Timestamp::from_nanos(start)), 1_000);
    let wrapped = Timestamp::from_nanos(start + (1 << 48));
    assert_eq!(
        limiter.look(key(1), 1, wrapped).remaining(),
        0,
        "the case is real"
    );
    limiter.sweep(0, Timestamp::from_nanos(start + (1 << 47)));
    assert_eq!(drain(&limiter, key(1), wrapped), 1_000);
}

#[test]
fn all_limits_take_or_none_does() {
    let second = limiter(10, Period::Second, 2);
    let hour = limiter(100, Period::Hour, 3);
    let now = at(Duration::from_secs(1));
    let ask = |now| {
        let mut checks = [Check::new(&second, key(1)), Check::new(&hour, key(1))];
        let result = check_all(&mut checks, now);
        assert!(checks.iter().all(|check| check.decision().is_some()));
        result
    };
    assert_eq!(ask(now), Ok(()));
    assert_eq!(ask(now), Ok(()));
    assert_eq!(ask(now), Err(0));
    assert_eq!(hour.look(key(1), 0, now).remaining(), 1);
    let later = at(Duration::from_secs(2));
    assert_eq!(ask(later), Ok(()));
    assert_eq!(ask(later), Err(1));
    assert_eq!(second.look(key(1), 0, later).remaining(), 1);
}

#[test]
fn of_several_refusals_the_longest_wait_is_reported() {
    let day = limiter(1, Period::Day, 1);
    let second = limiter(1, Period::Second, 1);
    let now = at(Duration::ZERO);
    let mut checks = [Check::new(&day, key(1)), Check::new(&second, key(1))];
    assert_eq!(check_all(&mut checks, now), Ok(()));
    assert_eq!(check_all(&mut checks, now), Err(0));
    checks.reverse();
    assert_eq!(check_all(&mut checks, now), Err(1));
}

#[test]
fn one_limit_twice_on_a_request_gives_back_what_it_took() {
    // The looks see one unit each, so that the second taking is the one that fails.
    let limiter = limiter(1, Period::Hour, 1);
    let now = at(Duration::ZERO);
    let mut checks = [Check::new(&limiter, key(1)), Check::new(&limiter, key(1))];
    assert_eq!(check_all(&mut checks, now), Err(1));
    assert_eq!(limiter.look(key(1), 0, now).remaining(), 1);
}

#[test]
fn a_shadow_limit_decides_and_never_refuses() {
    let shadow = limiter(1, Period::Second, 1);
    let enforced = limiter(1, Period::Second, 3);
    let now = at(Duration::ZERO);
    let mut refused = 0;
    for _ in 0..3 {
        let mut checks = [Check::new(&shadow, key(1)), Check::new(&enforced, key(1))];
        checks[0].mode = Mode::Shadow;
        assert_eq!(check_all(&mut checks, now), Ok(()));
        refused += u32::from(!checks[0].decision().unwrap().is_allowed());
    }
    assert_eq!(refused, 2);
}

#[test]
fn the_shard_of_an_address_is_what_the_steering_formula_says() {
    let hasher = hasher();
    let shards = 7;
    let options = LimiterOptions {
        quota: Quota::new(1, Period::Second, 1).unwrap(),
        table: TableOptions::new(Budget::Keys(NonZeroU64::new(100).unwrap()))
            .with_shards(NonZeroUsize::new(shards).unwrap()),
    };
    let limiter = Limiter::new(options).unwrap();
    let mut seen = [0; 7];
    for host in 0..7_000_u32 {
        let v4 = std::net::Ipv4Addr::from(0xC000_0200 + host * 7);
        let mixed = (u32::from(v4) ^ hasher.steer_seed()).wrapping_mul(limiter::STEER_MULTIPLIER);
        let shard = limiter.shard_of(hasher.address(v4.into(), 64));
        assert_eq!(shard, ((mixed >> 16) as usize * shards) >> 16);
        seen[shard] += 1;
    }
    assert!(
        seen.iter().all(|&count| (500..1_500).contains(&count)),
        "{seen:?}"
    );
    let v6: std::net::Ipv6Addr = "2001:db8:1:2::3".parse().unwrap();
    let mixed = (0x2001_0db8 ^ 0x0001_0002_u32 ^ hasher.steer_seed()).wrapping_mul(0x9E37_79B1);
    let shard = limiter.shard_of(hasher.address(v6.into(), 64));
    assert_eq!(shard, ((mixed >> 16) as usize * shards) >> 16);
}

#[test]
fn addresses_of_one_ipv6_prefix_share_a_key() {
    let hasher = hasher();
    let key = |text: &str, prefix| hasher.address(text.parse().unwrap(), prefix);
    assert_eq!(key("2001:db8::1", 64), key("2001:db8::ffff:1", 64));
    assert_ne!(key("2001:db8::1", 64), key("2001:db8:0:1::1", 64));
    assert_ne!(key("2001:db8::1", 128), key("2001:db8::2", 128));
    assert_eq!(key("2001:db8::1", 0), key("2002::1", 0));
    assert_eq!(key("::ffff:192.0.2.1", 64), key("192.0.2.1", 64));
    assert_ne!(key("192.0.2.1", 64), key("192.0.2.2", 64));
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let hasher = hasher();
    let parts = |list: &[&[u8]]| {
        list.iter()
            .fold(hasher.parts(), |parts, part| parts.part(part))
            .finish()
    };
    assert_ne!(parts(&[b"ab", b"c"]), parts(&[b"a", b"bc"]));
    assert_ne!(parts(&[b"a"]), parts(&[b"a\0"]));
    assert_ne!(parts(&[b""]), parts(&[b"", b""]));
    assert_eq!(parts(&[b"abcdefgh"]), hasher.bytes(b"abcdefgh"));
    let other = KeyHasher::with_secret(1);
    assert_ne!(other.bytes(b"a"), hasher.bytes(b"a"));
}

#[test]
fn numbers_that_make_no_quota_are_refused_with_their_reason() {
    let new = Quota::new;
    assert_eq!(new(0, Period::Second, 1), Err(QuotaError::ZeroUnits));
    assert_eq!(new(1, Period::Second, 0), Err(QuotaError::ZeroBurst));
    assert!(new(1_000_000_000, Period::Second, 1_000_000_000).is_ok());
    let units = 1_000_000_001;
    let period = Period::Second;
    assert_eq!(
        new(units, period, 1),
        Err(QuotaError::RateTooHigh { units, period })
    );
    assert!(new(1, Period::Day, 800).is_ok());
    assert_eq!(
        new(1, Period::Day, 900),
        Err(QuotaError::BurstTooLong { burst: 900 })
    );
    assert!(matches!(
        new(3, Period::Day, u64::MAX),
        Err(QuotaError::BurstTooLong { .. })
    ));
    assert_eq!(
        Period::try_from(Duration::from_secs(60)),
        Ok(Period::Minute)
    );
    assert!(Period::try_from(Duration::from_secs(61)).is_err());
}

#[test]
fn budgets_are_kept_and_bounds_are_named() {
    let quota = Quota::new(1, Period::Second, 1).unwrap();
    let new = |budget, shards| {
        let table = TableOptions::new(budget).with_shards(NonZeroUsize::new(shards).unwrap());
        Limiter::new(LimiterOptions { quota, table })
    };
    let bytes = |bytes| Budget::Bytes(NonZeroU64::new(bytes).unwrap());
    let keys = |keys| Budget::Keys(NonZeroU64::new(keys).unwrap());
    for shards in [1, 2, 3, 8] {
        let min = 1_024 * shards as u64 + 512;
        assert!(matches!(
            new(bytes(min - 1), shards),
            Err(TableError::BudgetTooSmall { min: least, .. }) if least == min
        ));
        assert!(new(bytes(min), shards).is_ok());
    }
    let megabyte = new(bytes(1 << 20), 2).unwrap().stats(at(Duration::ZERO));
    assert!(megabyte.slots * 16 + megabyte.slots / 4 <= 1 << 20);
    assert!(megabyte.slots * 16 > (1 << 20) * 97 / 100);
    assert!(
        new(keys(10_000), 3)
            .unwrap()
            .stats(at(Duration::ZERO))
            .capacity_keys
            >= 10_000
    );
    assert!(matches!(
        new(keys(u64::MAX), 1),
        Err(TableError::BudgetTooLarge)
    ));
    assert!(matches!(
        new(keys(1), 1 << 20),
        Err(TableError::TooManyShards { .. })
    ));
}
