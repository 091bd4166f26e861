//! The reason for an open loop: a server that stalls shows in the latency from the intended start.

use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::{self, DRIVERS, read_head, run, scripted};

const STALL: Duration = Duration::from_millis(200);

/// A server that answers at once, but for one request that it keeps for `STALL`.
fn stalling() -> String {
    scripted(|_, stream| {
        let mut served = 0;
        while read_head(stream).is_some() {
            served += 1;
            if served == 300 {
                let (_never, nothing) = channel::<()>();
                let _ = nothing.recv_timeout(STALL);
            }
            if stream.write_all(support::OK).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
    for driver in DRIVERS {
        let url = format!("http://{}/", stalling());
        // 1000 requests at 1000/s on one connection. While the server stalls for 200 ms, 200 are due; the k-th of them
        // waits 200 - k ms and so a tenth of all waits 100 ms or more.
        let run = run(&[
            "--driver",
            driver,
            "--rate",
            "1k",
            "-d",
            "1s",
            "-t",
            "1",
            "-c",
            "1",
            "--connections-max",
            "1",
            &url,
        ]);
        assert_eq!(run.code, 0, "{:#}", run.report);
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
