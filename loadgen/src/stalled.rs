//! A server that stalls once, on a manual clock: what the histograms say is what wrk2's method gives, to their precision.
//!
//! wrk2 takes a request's latency from the time that the constant rate has for it to the end of its response, whenever it was
//! sent. Here schedule and counts are the program's own; server, connection and clock are a loop of ten lines, and the
//! expectation is computed apart, from that definition and from a closed form.

use crate::connection::Flight;
use crate::keys::Key;
use crate::rate::RateSpec;
use crate::schedule::{Arrival, Next, Process, Schedule, Share};
use crate::stats::Stats;

const MS: u64 = 1_000_000;
/// One request a millisecond, for ten seconds.
const RATE: &str = "1000";
const REQUESTS: u64 = 10_000;
/// What the server takes for each.
const SERVICE_NS: u64 = 50_000;
/// When it stalls, and for how long.
const STALL_AT_NS: u64 = 5_000 * MS;
const STALL_NS: u64 = 100 * MS;
/// Three significant digits.
const PRECISION: f64 = 1e-3;

/// When a server that is free at `now_ns` has answered.
fn answered(now_ns: u64) -> u64 {
    let stalled = (STALL_AT_NS..STALL_AT_NS + STALL_NS).contains(&now_ns);
    let begins = if stalled {
        STALL_AT_NS + STALL_NS
    } else {
        now_ns
    };
    begins + SERVICE_NS
}

/// Sends the schedule over one connection, each request when it is due and the one before was answered.
fn run() -> Stats {
    let rate: RateSpec = RATE.parse().unwrap();
    let profile = rate.profile(0, REQUESTS * MS).unwrap();
    let alone = Share {
        thread: 0,
        threads: 1,
    };
    let mut schedule = Schedule::open(profile, Process::Constant, alone, 1, (0, u64::MAX));
    let mut stats = Stats::new(1);
    let mut now_ns = 0;
    loop {
        let arrival = match schedule.next(now_ns) {
            Next::Due(arrival) => arrival,
            Next::At(at_ns) => {
                now_ns = at_ns;
                continue;
            }
            Next::Over => return stats,
        };
        now_ns = send(&mut stats, arrival, now_ns);
    }
}

fn send(stats: &mut Stats, arrival: Arrival, now_ns: u64) -> u64 {
    let end_ns = answered(now_ns);
    let flight = Flight {
        arrival,
        kind: 0,
        key: Key::default(),
        head: false,
        sent_ns: now_ns,
        first_byte_ns: None,
    };
    stats.record_times(&flight, end_ns, true);
    end_ns
}

/// All latencies by wrk2's definition, least first.
fn expected() -> Vec<u64> {
    let mut free_ns = 0;
    let mut latencies: Vec<u64> = (0..REQUESTS)
        .map(|number| {
            let intended_ns = number * MS;
            free_ns = answered(intended_ns.max(free_ns));
            free_ns - intended_ns
        })
        .collect();
    latencies.sort_unstable();
    latencies
}

#[test]
fn every_percentile_is_that_of_wrk2s_method_to_the_histograms_precision() {
    let (stats, expected) = (run(), expected());
    assert_eq!(stats.from_intended.len(), REQUESTS);
    for rank in [1, 5_000, 9_000, 9_900, 9_950, 9_990, 9_999, REQUESTS] {
        let exact = expected[usize::try_from(rank).unwrap() - 1] as f64;
        let quantile = rank as f64 / REQUESTS as f64;
        let measured = stats.from_intended.value_at_quantile(quantile) as f64;
        assert!(
            (measured - exact).abs() <= exact * PRECISION,
            "{rank}: {measured} and not {exact}"
        );
    }
}

#[test]
fn a_stall_of_100_ms_is_90_55_ms_in_the_999th_thousandth() {
    // 100 requests are due in the stall. The k-th waits 100 - k ms, and for the k before it and itself to be served;
    // ten of ten thousand may be above the 99.9th percentile, so it is the one with k = 10.
    let exact_ns = (100.0 - 10.0) * 1e6 + 11.0 * SERVICE_NS as f64;
    let measured = run().from_intended.value_at_quantile(0.999) as f64;
    assert!(
        (measured - exact_ns).abs() <= exact_ns * PRECISION,
        "{measured}"
    );
}

#[test]
fn from_the_send_only_one_request_was_slow() {
    let sent = run().since_send();
    assert!(sent.value_at_quantile(0.9999) as f64 <= SERVICE_NS as f64 * (1.0 + PRECISION));
    assert!(sent.max() >= STALL_NS);
}
