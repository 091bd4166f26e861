//! Choices with chance and time of the test's own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::super::Met;
use super::super::endpoint::Target;
use super::*;
use crate::config::{ConfigSource, EndpointAddress, EndpointConfig, load};

/// An upstream of endpoints with these weights, and lines of its section.
fn upstream(weights: &[u32], lines: &str) -> Upstream {
    let text = format!(
        "listeners = [{{ name = 'a', address = '[::]:0' }}]\n[upstreams.u]\nendpoints = [{{ address = '10.0.0.1:80' }}]\n{lines}\n"
    );
    let source = ConfigSource::Text {
        name: "x",
        text: &text,
    };
    let config = load(source, &|_| None).unwrap().upstreams.remove(0);
    let endpoint = |(number, weight): (usize, &u32)| {
        let name = format!("10.0.0.{number}:80");
        let target = Target::Tcp(name.parse().unwrap());
        let config = EndpointConfig {
            address: EndpointAddress::Demo,
            weight: NonZeroU32::new(*weight).unwrap(),
            priority: 0,
        };
        Arc::new(Endpoint::new(target, name.clone(), name, &config, 1024))
    };
    let endpoints = weights.iter().enumerate().map(endpoint).collect();
    Upstream::new(&config, endpoints, 1)
}

/// A choice whose chance is always the same.
fn balancer(upstream: &Upstream) -> Balancer {
    let mut balancer = Balancer::new(upstream, 0);
    balancer.random = fastrand::Rng::with_seed(7);
    balancer
}

fn turns(weights: &[u32], lines: &str, count: usize) -> Vec<usize> {
    let upstream = upstream(weights, lines);
    let mut balancer = balancer(&upstream);
    let turn = |_| balancer.next(&upstream, None, &[]).unwrap();
    (0..count).map(turn).collect()
}

fn share_of(endpoint: usize, turns: &[usize]) -> f64 {
    turns.iter().filter(|&&each| each == endpoint).count() as f64 / turns.len() as f64
}

#[test]
fn turns_follow_the_weights_and_are_spread_out() {
    assert_eq!(
        turns(&[5, 1, 1], "", 14),
        [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]
    );
}

#[test]
fn equal_weights_take_turns() {
    assert_eq!(turns(&[1, 1, 1], "", 6), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn every_policy_shares_by_weight_while_nothing_is_in_flight() {
    for policy in ["round_robin", "random", "least_request", "p2c"] {
        let turns = turns(&[6, 3, 1], &format!("balance = '{policy}'"), 20_000);
        // Two choices favour nobody while all are idle, but never take the same one twice.
        let slack = if policy == "p2c" { 0.06 } else { 0.02 };
        for (endpoint, expected) in [0.6, 0.3, 0.1].into_iter().enumerate() {
            let share = share_of(endpoint, &turns);
            assert!(
                (share - expected).abs() < slack,
                "{policy} {endpoint}: {share}"
            );
        }
    }
}

#[test]
fn requests_in_flight_are_weighed() {
    for policy in ["least_request", "p2c"] {
        let upstream = upstream(&[1, 3], &format!("balance = '{policy}'"));
        let mut balancer = balancer(&upstream);
        for _ in 0..4_000 {
            let turn = balancer.next(&upstream, None, &[]).unwrap();
            assert!(upstream.endpoints[turn].enter(None));
        }
        let light = upstream.endpoints[0].requests();
        assert!((995..=1_005).contains(&light), "{policy}: {light} of 4000");
    }
}

#[test]
fn who_was_tried_is_passed_over_until_nobody_is_left() {
    for policy in ["round_robin", "random", "least_request", "p2c", "hash"] {
        let key = if policy == "hash" {
            "hash_key = 'path'"
        } else {
            ""
        };
        let upstream = upstream(&[1, 1, 1000], &format!("balance = '{policy}'\n{key}"));
        let mut balancer = balancer(&upstream);
        for hash in 0..50 {
            let mut next = |tried: &[usize]| balancer.next(&upstream, Some(hash), tried);
            assert_ne!(next(&[2]), Some(2), "{policy}");
            assert_eq!(next(&[2, 0]), Some(1), "{policy}");
            assert_eq!(next(&[2, 0, 1]), None, "{policy}");
        }
    }
}

#[test]
fn of_the_keys_only_those_of_the_endpoint_that_goes_move() {
    const KEYS: u64 = 100_000;
    let upstream = upstream(&[1; 10], "balance = 'hash'\nhash_key = 'path'");
    let mut balancer = balancer(&upstream);
    let (mut moved, mut to) = (0, [0; 10]);
    for key in 0..KEYS {
        let hash = rehash(key);
        let before = balancer.next(&upstream, Some(hash), &[]).unwrap();
        let after = balancer.next(&upstream, Some(hash), &[4]).unwrap();
        assert!(before == 4 || before == after, "the key of another moved");
        if before == 4 {
            moved += 1;
            to[after] += 1;
        }
    }
    let tenth = KEYS / 10;
    assert!(
        (tenth * 95 / 100..tenth * 105 / 100).contains(&moved),
        "{moved}"
    );
    for (endpoint, count) in to.into_iter().enumerate() {
        let even = if endpoint == 4 { 0 } else { moved / 9 };
        let slack = even / 5;
        assert!((even - slack..=even + slack).contains(&count), "{to:?}");
    }
}

/// What 99 of 100 requests take at most, in microseconds, with two workers that choose in turn: endpoints that serve one request at
/// a time, the first in 1 ms, the last in 10 ms; requests at times of chance, 950 a second.
fn p99_us(policy: &str) -> u64 {
    let upstream = upstream(&[1; 10], &format!("balance = '{policy}'"));
    let mut workers = [balancer(&upstream), balancer(&upstream)];
    workers[1].random = fastrand::Rng::with_seed(8);
    let mut random = fastrand::Rng::with_seed(9);
    let mut free_at = [0; 10];
    let mut ends = BinaryHeap::new();
    let mut durations = Vec::new();
    let mut now = 0;
    for request in 0..30_000 {
        let gap = Duration::from_secs_f64(-random.f64().max(1e-9).ln() / 950.0);
        now += u64::try_from(gap.as_micros()).unwrap();
        while let Some(&Reverse((end, endpoint))) = ends.peek() {
            if end > now {
                break;
            }
            ends.pop();
            let endpoint: &Arc<Endpoint> = &upstream.endpoints[endpoint];
            endpoint.leave();
        }
        let chosen = workers[request % 2].next(&upstream, None, &[]).unwrap();
        assert!(upstream.endpoints[chosen].enter(None));
        let end = free_at[chosen].max(now) + 1_000 * (chosen as u64 + 1);
        free_at[chosen] = end;
        ends.push(Reverse((end, chosen)));
        durations.push(end - now);
    }
    durations.sort_unstable();
    durations[durations.len() * 99 / 100]
}

#[test]
fn with_endpoints_at_unequal_speed_counting_requests_beats_taking_turns() {
    let turns = p99_us("round_robin");
    // In tenths of what they must be better by.
    for (policy, times) in [("least_request", 20), ("p2c", 15)] {
        let counted = p99_us(policy);
        assert!(
            counted * times < turns * 10,
            "{policy}: {counted} us, in turn {turns} us"
        );
    }
}

#[test]
fn keys_of_an_endpoint_that_is_out_are_lent_and_given_back() {
    let upstream = upstream(&[1; 10], "balance = 'hash'\nhash_key = 'path'");
    let mut balancer = balancer(&upstream);
    let mut all = || -> Vec<usize> {
        let one = |key| balancer.next(&upstream, Some(rehash(key)), &[]).unwrap();
        (0..10_000).map(one).collect()
    };
    let before = all();
    upstream.set_fails_checks(4, true);
    let without = all();
    for (before, without) in before.iter().zip(&without) {
        assert!(*without != 4 && (*before == 4 || before == without));
    }
    // While it warms up it has part of its own keys, and nobody else's.
    upstream.set_share(4, 300);
    upstream.set_fails_checks(4, false);
    let warming = all();
    let back = warming.iter().filter(|&&endpoint| endpoint == 4).count();
    assert!((240..360).contains(&back), "{back} of some 1000");
    for (before, warming) in before.iter().zip(&warming) {
        assert!(before == warming || *before == 4);
    }
    upstream.set_share(4, SHARE_WHOLE);
    assert_eq!(all(), before);
}

#[test]
fn who_warms_up_has_its_share_by_every_policy() {
    for policy in ["round_robin", "random", "least_request"] {
        let upstream = upstream(&[1, 1], &format!("balance = '{policy}'"));
        upstream.set_share(1, 250);
        let mut balancer = balancer(&upstream);
        let turn = |_| balancer.next(&upstream, None, &[]).unwrap();
        let turns: Vec<usize> = (0..10_000).map(turn).collect();
        let share = share_of(1, &turns);
        assert!((share - 0.2).abs() < 0.02, "{policy}: {share}");
    }
}

#[test]
fn too_few_healthy_endpoints_are_not_overrun() {
    let upstream = upstream(&[1; 4], "");
    let mut balancer = balancer(&upstream);
    let mut who = || -> std::collections::BTreeSet<usize> {
        let turns = 0..16;
        turns
            .filter_map(|_| balancer.next(&upstream, None, &[]))
            .collect()
    };
    upstream.set_fails_checks(0, true);
    upstream.set_fails_checks(1, true);
    assert_eq!(who(), [2, 3].into(), "half are enough");
    upstream.set_fails_checks(2, true);
    assert_eq!(who(), [0, 1, 2, 3].into(), "a quarter is not");
    assert_eq!(upstream.tier(), (0, true));
}

#[test]
fn failures_in_a_row_eject_no_more_than_may_be() {
    let upstream = upstream(&[1; 4], "outlier = { failures = 2, statuses = [503] }");
    let ejected = || {
        let all = 0..4;
        all.filter(|&index| upstream.health(index).ejected).count()
    };
    upstream.met(0, Met::Failure);
    upstream.met(0, Met::Response(200));
    upstream.met(0, Met::Failure);
    assert_eq!(ejected(), 0, "not in a row");
    for endpoint in [0, 1, 2, 3] {
        upstream.met(endpoint, Met::Failure);
        upstream.met(endpoint, Met::Response(503));
    }
    assert_eq!(ejected(), 2, "half of four");
    upstream.readmit(0);
    assert_eq!(ejected(), 1);
    upstream.met(3, Met::Failure);
    assert!(upstream.health(3).ejected, "there is room again");
}
