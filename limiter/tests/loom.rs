//! Every order of every access in the races of a table of one set, by loom.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p limiter --test loom --release`. A set has two slots then (two lines of
//! one), or one, and there is one overflow bucket.
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::num::NonZeroU64;

use limiter::{
    Budget, Concurrency, Decision, Key, KeyHasher, Limiter, LimiterOptions, Period, Quota,
    TableOptions, Timestamp,
};
use loom::sync::Arc;
use loom::thread;

/// A limiter of `slots` slots that admits `burst` units and then nothing for a day.
fn limiter(slots: u64, burst: u64) -> Limiter {
    Limiter::new(LimiterOptions {
        quota: Quota::new(1, Period::Day, burst).unwrap(),
        table: table(slots),
    })
    .unwrap()
}

/// One shard of so many slots.
fn table(slots: u64) -> TableOptions {
    // A slot has a line of 64 bytes to itself; the overflow bucket takes 8.
    TableOptions::new(Budget::Bytes(NonZeroU64::new(slots * 65 + 8).unwrap()))
}

/// Keys whose first line is `first` of two and whose second is `second`.
fn key_in(nth: usize, first: usize, second: usize) -> Key {
    let hasher = KeyHasher::with_secret(7);
    let line = |hash: u64| usize::from(hash >> 63 == 1);
    (0_u64..)
        .map(|name| hasher.bytes(&name.to_le_bytes()))
        .filter(|key| {
            line(key.hash().rotate_left(48)) == first
                && line(key.hash().wrapping_mul(6_364_136_223_846_793_005)) == second
        })
        .nth(nth)
        .unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

const DAY: u64 = 86_400;

fn model(threads: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(threads);
}

/// Runs the closure on a second thread and on this one and adds up the units they say were admitted.
fn both(
    limiter: Limiter,
    one: impl Fn(&Limiter) -> u64 + Send + 'static,
    two: impl Fn(&Limiter) -> u64,
) -> (Arc<Limiter>, u64) {
    let limiter = Arc::new(limiter);
    let shared = Arc::clone(&limiter);
    let other = thread::spawn(move || one(&shared));
    let here = two(&limiter);
    let total = here + other.join().unwrap();
    (limiter, total)
}

fn units(limiter: &Limiter, key: Key, now: Timestamp) -> u64 {
    u64::from(limiter.check(key, 1, now).is_allowed())
}

#[test]
fn two_updates_of_one_bucket_both_count() {
    model(|| {
        let key = key_in(0, 0, 1);
        let limiter = limiter(2, 2);
        assert_eq!(units(&limiter, key, at(0)), 1);
        let (limiter, total) = both(
            limiter,
            move |l| units(l, key, at(0)),
            move |l| units(l, key, at(0)),
        );
        assert_eq!(total, 1);
        assert_eq!(limiter.look(key, 0, at(0)).remaining(), 0);
    });
}

#[test]
fn two_first_requests_of_a_key_find_one_bucket() {
    model(|| {
        let key = key_in(0, 0, 1);
        let (limiter, total) = both(
            limiter(2, 1),
            move |l| units(l, key, at(0)),
            move |l| units(l, key, at(0)),
        );
        assert_eq!(total, 1);
        assert_eq!(limiter.sweep(0, at(0)), 1);
        assert_eq!(limiter.stats(at(0)).overflowed, 0);
    });
}

#[test]
fn two_first_requests_that_see_different_lines_free_find_one_bucket() {
    // The second line belongs to a stranger until just when the two requests come, and their clocks differ.
    model(|| {
        let key = key_in(0, 0, 1);
        let stranger = key_in(0, 0, 0);
        let limiter = limiter(2, 1);
        assert_eq!(units(&limiter, stranger, at(0)), 1);
        let (limiter, total) = both(
            limiter,
            move |l| units(l, key, at(DAY - 1)),
            move |l| units(l, key, at(DAY)),
        );
        assert_eq!(total, 1);
        assert_eq!(limiter.sweep(0, at(DAY)), 1);
    });
}

#[test]
fn a_bucket_given_away_takes_no_update_of_its_old_key() {
    // The old key's bucket is full again; it and a stranger come at once for the only slot.
    model(|| {
        let (old, new) = (key_in(0, 0, 0), key_in(1, 0, 0));
        let limiter = limiter(1, 1);
        assert_eq!(units(&limiter, old, at(0)), 1);
        let now = at(DAY);
        let (limiter, total) = both(
            limiter,
            move |l| 10 * units(l, old, now) + units(l, old, now),
            move |l| 100 * units(l, new, now),
        );
        // The old key: once, never twice. One of the two keys has the slot and the other the overflow, unless the charge
        // to the overflow was seen when the slot was claimed: then the second key is refused with the group's debt.
        assert!([110, 10, 100].contains(&total), "{total}");
        assert_eq!(units(&limiter, old, now) + units(&limiter, new, now), 0);
    });
}

#[test]
fn two_keys_for_one_slot_get_one_bucket_each() {
    model(|| {
        let (a, b) = (key_in(0, 0, 0), key_in(1, 0, 0));
        let limiter = limiter(1, 1);
        let (limiter, total) = both(
            limiter,
            move |l| units(l, a, at(0)),
            move |l| 10 * units(l, b, at(0)),
        );
        assert!([11, 1, 10].contains(&total), "{total}");
        assert_eq!(units(&limiter, a, at(0)) + units(&limiter, b, at(0)), 0);
    });
}

#[test]
fn a_charge_to_the_overflow_is_not_escaped_by_a_slot_that_becomes_free() {
    // The only slot is a stranger's for one of the two requests of the key, and free for the other.
    model(|| {
        let (key, stranger) = (key_in(0, 0, 0), key_in(1, 0, 0));
        let limiter = limiter(1, 1);
        assert_eq!(units(&limiter, stranger, at(0)), 1);
        let (limiter, total) = both(
            limiter,
            move |l| units(l, key, at(DAY - 1)),
            move |l| units(l, key, at(DAY)),
        );
        assert_eq!(total, 1);
        assert_eq!(units(&limiter, key, at(DAY)), 0);
    });
}

#[test]
fn a_refund_beside_an_update_loses_neither() {
    model(|| {
        let key = key_in(0, 0, 1);
        let limiter = limiter(2, 3);
        let Decision::Allowed(allowed) = limiter.check(key, 2, at(0)) else {
            panic!("full")
        };
        let charge = std::sync::Mutex::new(Some(allowed.charge()));
        let (limiter, total) = both(
            limiter,
            move |l| {
                let charge = charge.lock().unwrap().take().unwrap();
                l.settle(charge, 0, at(0));
                0
            },
            move |l| units(l, key, at(0)) + units(l, key, at(0)),
        );
        assert!((1..=2).contains(&total), "{total}");
        assert_eq!(limiter.look(key, 0, at(0)).remaining(), 3 - total);
    });
}

#[test]
fn a_refund_beside_a_take_over_touches_only_its_own_key() {
    // The charge has refilled by the clock of the stranger, who takes the slot; by the refund's clock it has not.
    model(|| {
        let (key, stranger) = (key_in(0, 0, 0), key_in(1, 0, 0));
        let limiter = limiter(1, 1);
        let Decision::Allowed(allowed) = limiter.check(key, 1, at(0)) else {
            panic!("full")
        };
        let charge = std::sync::Mutex::new(Some(allowed.charge()));
        let (limiter, total) = both(
            limiter,
            move |l| {
                let charge = charge.lock().unwrap().take().unwrap();
                l.settle(charge, 0, at(DAY - 1));
                0
            },
            move |l| units(l, stranger, at(DAY)),
        );
        assert_eq!(total, 1);
        assert_eq!(units(&limiter, stranger, at(DAY)), 0);
    });
}

#[test]
fn places_are_never_taken_twice_and_all_come_back() {
    model(|| {
        let (key, stranger) = (key_in(0, 0, 0), key_in(1, 0, 0));
        let limiter = Arc::new(Concurrency::new(NonZeroU64::MIN, &table(1)).unwrap());
        let shared = Arc::clone(&limiter);
        let other = thread::spawn(move || {
            let _passing = Concurrency::enter(&*shared, stranger);
        });
        let first = Concurrency::enter(&*limiter, key);
        let second = Concurrency::enter(&*limiter, key);
        assert!(!(first.is_ok() && second.is_ok()));
        drop((first, second));
        other.join().unwrap();
        assert_eq!(limiter.in_flight(key) + limiter.in_flight(stranger), 0);
    });
}
