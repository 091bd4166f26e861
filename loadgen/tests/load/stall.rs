//! The reason for an open loop: a server that stalls shows in the latency from the intended start.
#![expect(
    clippy::disallowed_methods,
    reason = "a server that tells when requests came reads a clock"
)]

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::{self, DRIVERS, Run, read_head, run, scripted};

/// A server that answers at once, but for its `number`th request, which it keeps for `stall`. It tells when each came and when
/// its answer went.
fn stalling(number: u32, stall: Duration) -> (String, Receiver<(Instant, Instant)>) {
    let (times, noted) = channel();
    let address = scripted(move |_, stream| {
        let mut served = 0;
        while read_head(stream).is_some() {
            let came = Instant::now();
            served += 1;
            if served == number {
                let (_never, nothing) = channel::<()>();
                let _ = nothing.recv_timeout(stall);
            }
            let went = Instant::now();
            if stream.write_all(support::OK).is_err() {
                return;
            }
            let _ignored = times.send((came, went));
        }
    });
    (address, noted)
}

/// How late the generator may be, in microseconds, before a run measures that and not the stall.
const LAG_MAX_US: f64 = 5_000.0;

/// 1000 requests a second on one connection.
fn run_on_one_connection(driver: &str, address: &str, duration: &str) -> Run {
    let url = format!("http://{address}/");
    let run = run(&[
        "--driver",
        driver,
        "--rate",
        "1k",
        "-d",
        duration,
        "-t",
        "1",
        "-c",
        "1",
        "--connections-max",
        "1",
        &url,
    ]);
    assert_eq!(run.code, 0, "{:#}", run.report);
    run
}

#[test]
fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
    for driver in DRIVERS {
        let (address, _noted) = stalling(300, Duration::from_millis(200));
        // While the server stalls for 200 ms, 200 requests are due; the k-th of them waits 200 - k ms and so a tenth of all
        // waits 100 ms or more.
        // A run in which the generator did not get its processor is made again.
        let run = (0..5)
            .map(|_| run_on_one_connection(driver, &address, "1s"))
            .find(|run| run.number("/lag/p99_us") < LAG_MAX_US);
        let run = run.expect("a run in which the generator was in time");
        assert_eq!(run.report["latency_from_intended"]["count"], 1000);
        let p90_us = run.number("/latency_from_intended/p90_us");
        assert!((98_000.0..150_000.0).contains(&p90_us), "{:#}", run.report);
        assert!(run.number("/latency_from_intended/max_us") >= 199_000.0);
        // From the send only one request was slow, and that is what a closed loop would have reported.
        assert!(
            run.number("/latency_from_send/p99_us") < 100_000.0,
            "{:#}",
            run.report
        );
        assert!(run.number("/latency_from_send/max_us") >= 199_000.0);
        assert!(run.number("/requests/waited") >= 190.0);
    }
}

#[test]
fn a_stall_of_100_ms_shows_in_the_999th_thousandth_as_the_server_saw_it() {
    for driver in DRIVERS {
        let (address, noted) = stalling(1000, Duration::from_millis(100));
        // The 100 requests that are due in it are one in twenty; the two slowest are above the 99.9th percentile.
        let run = run_on_one_connection(driver, &address, "2s");
        let times: Vec<(Instant, Instant)> = noted.try_iter().collect();
        assert_eq!(times.len(), 2000);
        // wrk2's method, from the server's side: the n-th request is due n milliseconds after the first. The generator's
        // start is before the first request came, and an answer arrives after it went: it can only say more.
        let start = times[0].0;
        let mut waits: Vec<Duration> = (0_u32..)
            .zip(&times)
            .map(|(number, (_, went))| {
                let intended = start + Duration::from_millis(1) * number;
                went.saturating_duration_since(intended)
            })
            .collect();
        waits.sort_unstable();
        let seen_us = waits[1997].as_secs_f64() * 1e6;
        let told_us = run.number("/latency_from_intended/p99_9_us");
        assert!(seen_us > 90_000.0, "the server stalled: {seen_us}");
        // Beyond the histogram's three digits, what a busy machine adds on the way back.
        assert!(
            (seen_us * 0.999..seen_us + 20_000.0).contains(&told_us),
            "{driver}: {told_us} us told, {seen_us} us seen"
        );
    }
}
