//! Real threads, real clocks, and floods.
#![expect(clippy::unwrap_used, reason = "test helpers")]
#![expect(clippy::cast_possible_truncation, reason = "units of a test")]

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use limiter::{
    Budget, Check, Clock, Concurrency, Key, KeyHasher, Limiter, LimiterOptions, MonotonicClock,
    Period, Quota, TableOptions, Timestamp, check_all,
};

fn hasher() -> KeyHasher {
    KeyHasher::with_secret(0xfeed)
}

fn key(name: u64) -> Key {
    hasher().bytes(&name.to_le_bytes())
}

fn keys(keys: u64, shards: usize) -> TableOptions {
    TableOptions::new(Budget::Keys(NonZeroU64::new(keys).unwrap()))
        .with_shards(NonZeroUsize::new(shards).unwrap())
}

fn limiter(units: u64, period: Period, burst: u64, table: TableOptions) -> Limiter {
    let quota = Quota::new(units, period, burst).unwrap();
    Limiter::new(LimiterOptions { quota, table }).unwrap()
}

fn drain(limiter: &Limiter, key: Key, now: Timestamp) -> u64 {
    (0..)
        .take_while(|_| limiter.check(key, 1, now).is_allowed())
        .count() as u64
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos(0).saturating_add(Duration::from_secs_f64(seconds))
}

/// Units that `threads` take of one key in `time`, and how many were due.
fn race(units: u64, threads: usize, time: Duration) -> (u64, u64) {
    let burst = units;
    let limiter = limiter(units, Period::Second, burst, keys(1_000, 2));
    let clock = MonotonicClock::new();
    let start = clock.now();
    // From an empty bucket, which cannot fill up again within `time` however slow the threads are.
    assert!(limiter.check(key(1), burst, start).is_allowed());
    let mut admitted = burst;
    let end = start.saturating_add(time);
    let latest = AtomicU64::new(0);
    thread::scope(|scope| {
        let run = || {
            let mut admitted = 0;
            loop {
                let now = clock.now();
                admitted += u64::from(limiter.check(key(1), 1, now).is_allowed());
                latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
                if now >= end {
                    return admitted;
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        admitted += workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum::<u64>();
    });
    let last = Timestamp::from_nanos(latest.into_inner());
    admitted += drain(&limiter, key(1), last);
    let elapsed = u128::from(last.as_nanos() - start.as_nanos());
    (
        admitted,
        burst + (elapsed * u128::from(units) / 1_000_000_000) as u64,
    )
}

#[test]
fn threads_on_one_key_are_admitted_what_is_due_within_one_unit() {
    for units in [10, 3_000, 1_000_000] {
        for threads in [1, 2, 8] {
            let (admitted, due) = race(units, threads, Duration::from_millis(400));
            assert!(
                admitted <= due,
                "{units}/s, {threads} threads: {admitted} of {due}"
            );
            assert!(
                admitted + 1 >= due,
                "{units}/s, {threads} threads: {admitted} of {due}"
            );
        }
    }
}

#[test]
fn threads_that_bring_new_keys_to_a_table_find_one_bucket_for_each() {
    // All threads walk the same keys at once; buckets run full and are given away from round to round.
    let limiter = limiter(1, Period::Second, 3, keys(2_000, 2));
    for round in 0..20_u64 {
        let now = at(10.0 * round as f64);
        let admitted: Vec<AtomicU64> = (0..1_500).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (name, count) in admitted.iter().enumerate() {
                        let key = key(round * 1_500 + name as u64);
                        for _ in 0..2 {
                            let allowed = limiter.check(key, 1, now).is_allowed();
                            count.fetch_add(u64::from(allowed), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let wrong = admitted
            .iter()
            .filter(|count| count.load(Ordering::Relaxed) > 3)
            .count();
        assert_eq!(
            wrong, 0,
            "keys admitted more than their burst in round {round}"
        );
        let short = admitted
            .iter()
            .filter(|count| count.load(Ordering::Relaxed) < 3)
            .count();
        let overflowed = limiter.stats(now).overflowed;
        assert!(
            short as u64 <= overflowed,
            "{short} keys starved, {overflowed} overflowed"
        );
    }
}

#[test]
fn a_refused_key_stays_refused_while_ten_times_the_capacity_floods_the_table() {
    let limiter = limiter(1, Period::Minute, 5, keys(2_000, 2));
    let capacity = limiter.stats(at(0.0)).capacity_keys;
    let refused: Vec<Key> = (0..100).map(key).collect();
    for &key in &refused {
        assert_eq!(drain(&limiter, key, at(0.0)), 5);
    }
    for name in 0..capacity * 10 {
        let now = at(50.0 * name as f64 / (capacity * 10) as f64);
        let _flood = limiter.check(key(1_000 + name), 1, now);
        if name % 64 == 0 {
            assert!(
                !limiter
                    .check(refused[(name / 64) as usize % 100], 1, now)
                    .is_allowed()
            );
        }
    }
    for &key in &refused {
        let decision = limiter.check(key, 1, at(59.9));
        assert!(
            !decision.is_allowed() && !decision.is_overflow(),
            "{key:?} was forgotten"
        );
        assert!(
            limiter.check(key, 1, at(60.0)).is_allowed(),
            "{key:?} owes what it did not take"
        );
    }
    let stats = limiter.stats(at(50.0));
    assert!(stats.overflowed > 0 && stats.live_keys <= stats.slots);
}

#[test]
fn a_key_that_leaves_the_overflow_for_a_slot_takes_its_debt_along() {
    let limiter = limiter(1, Period::Second, 10, keys(1, 1));
    let address = |n: u32| hasher().address(IpAddr::V4(Ipv4Addr::from(n << 8)), 64);
    for name in 0..90 {
        let _filler = limiter.check(key(name), 1, at(0.0));
    }
    let mut moved = 0;
    for client in (0..5_000).map(address) {
        let full = limiter.look(client, 0, at(0.0));
        if !full.is_overflow() || full.remaining() < 10 {
            continue;
        }
        assert_eq!(drain(&limiter, client, at(0.0)), 10);
        // All slots are free again; the overflow has refilled two units.
        let later = limiter.check(client, 1, at(2.0));
        assert!(later.is_allowed() && !later.is_overflow());
        assert_eq!(drain(&limiter, client, at(2.0)), 1);
        moved += 1;
        break;
    }
    assert_eq!(moved, 1, "no client came to an unused overflow bucket");
}

#[test]
fn clients_of_one_network_share_an_overflow_bucket_and_others_do_not() {
    let limiter = limiter(1, Period::Hour, 10, keys(1, 1));
    for name in 0..90 {
        let _filler = limiter.check(key(name), 1, at(0.0));
    }
    let client = |a, b| hasher().address(IpAddr::V4(Ipv4Addr::new(198, 51, a, b)), 64);
    let network = (0..255)
        .find(|&net| limiter.look(client(net, 1), 0, at(0.0)).remaining() == 10)
        .expect("an overflow bucket that no filler uses");
    assert_eq!(drain(&limiter, client(network, 1), at(0.0)), 10);
    assert_eq!(drain(&limiter, client(network, 2), at(0.0)), 0);
    let others = (0..255).filter(|&net| limiter.look(client(net, 1), 1, at(0.0)).is_allowed());
    assert!(others.count() > 0);
}

#[test]
fn fewer_than_one_key_in_a_thousand_overflows_at_thirty_two_bytes_each() {
    for shards in [1, 2, 8] {
        let limiter = limiter(1, Period::Day, 5, keys(100_000, shards));
        let stats = limiter.stats(at(0.0));
        let bytes = stats.slots * 16 + stats.slots / 32 * 8;
        assert!(bytes <= 32 * stats.capacity_keys, "{bytes} bytes");
        for name in 0..stats.capacity_keys {
            assert!(limiter.check(key(name), 1, at(0.0)).is_allowed());
        }
        let overflowed = limiter.stats(at(0.0)).overflowed;
        assert!(
            overflowed * 1_000 < stats.capacity_keys,
            "{overflowed} overflowed"
        );
        let live: usize = (0..shards).map(|shard| limiter.sweep(shard, at(0.0))).sum();
        assert_eq!(live as u64 + overflowed, stats.capacity_keys);
        let estimate = limiter.stats(at(0.0)).live_keys as f64;
        assert!(
            (estimate / live as f64 - 1.0).abs() < 0.05,
            "estimated {estimate} of {live}"
        );
    }
}

#[test]
fn keys_that_pause_find_their_slot_again_while_there_is_room() {
    let limiter = limiter(1_000, Period::Second, 1, keys(10_000, 1));
    for round in 0..5 {
        for name in 0..5_000 {
            let now = at(f64::from(round) * 100.0);
            assert!(limiter.check(key(name), 1, now).is_allowed());
        }
    }
    assert_eq!(limiter.stats(at(500.0)).overflowed, 0);
}

#[test]
fn all_or_nothing_holds_under_races() {
    // Each pair of units is taken together; what one limit ran out of must not be missing from the other in the end.
    let narrow = limiter(1, Period::Hour, 500, keys(100, 1));
    let wide = limiter(1, Period::Hour, 1_000, keys(100, 1));
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    let mut checks = [Check::new(&wide, key(1)), Check::new(&narrow, key(1))];
                    let allowed = check_all(&mut checks, at(0.0)).is_ok();
                    taken.fetch_add(u64::from(allowed), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 500);
    assert_eq!(drain(&narrow, key(1), at(0.0)), 0);
    assert_eq!(drain(&wide, key(1), at(0.0)), 500);
}

#[test]
fn places_in_flight_never_exceed_the_limit_and_all_come_back() {
    let limiter = Concurrency::new(NonZeroU64::new(3).unwrap(), &keys(100, 2)).unwrap();
    let (inside, entered) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if let Ok(permit) = Concurrency::enter(&limiter, key(1)) {
                        entered.fetch_add(1, Ordering::Relaxed);
                        let with_me = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(with_me <= 3);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!(entered.into_inner() > 3);
    assert_eq!(limiter.in_flight(key(1)), 0);
}

#[test]
fn a_key_in_the_overflow_has_no_second_set_of_places() {
    let limiter = Concurrency::new(NonZeroU64::new(4).unwrap(), &keys(1, 1)).unwrap();
    let mut fillers: Vec<_> = (100..190)
        .map(|n| Concurrency::enter(&limiter, key(n)))
        .collect();
    let client = |n: u32| hasher().address(IpAddr::V4(Ipv4Addr::from(n << 8)), 64);
    // A client without a slot, in a group without anyone in flight.
    let overflows = |&key: &Key| {
        let before = limiter.overflowed();
        let idle = limiter.in_flight(key) == 0;
        idle && Concurrency::enter(&limiter, key).is_ok() && limiter.overflowed() > before
    };
    let client = (0..5_000).map(client).find(overflows).unwrap();
    let enter = || Concurrency::enter(&limiter, client).unwrap();
    let mut permits = vec![enter(), enter()];
    // The table empties, but the group still has two in flight.
    fillers.clear();
    permits.extend([enter(), enter()]);
    assert!(Concurrency::enter(&limiter, client).is_err());
    permits.clear();
    let fresh: Vec<_> = (0..4)
        .map(|_| Concurrency::enter(&limiter, client).unwrap())
        .collect();
    assert!(Concurrency::enter(&limiter, client).is_err());
    drop(fresh);
    assert_eq!(limiter.in_flight(client), 0);
}
