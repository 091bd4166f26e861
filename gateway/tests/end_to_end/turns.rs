//! Turns on one worker: neither a crowd at the door nor one greedy connection keeps it from those that are being served.
//!
//! The load ends when the others have had theirs, and not before: where they starve, the test ends by its timeout.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::{Client, Driver, Gateway, Launch};

/// Requests that must be answered meanwhile.
const REQUESTS: usize = 200;

fn one_worker(driver: Driver) -> Gateway {
    Launch::new(driver)
        .one_worker()
        .access_log("path = \"off\"\n")
        .rest("[[routes]]\nname = \"all\"\nrespond = { status = 200, body = \"ok\" }\n")
        .start()
}

/// Answers requests on one connection while two threads make load, `more` after `more`, until there were enough of both:
/// `least` of the load, so that there was one.
fn is_served_beside(gateway: &Gateway, least: u64, more: impl Fn() + Sync) {
    let (made, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut client = Client::connect(gateway.address);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    more();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also where a request fails, the load must end, for the scope waits for it.
        let ended = Ended(&over);
        let mut served = 0;
        while served < REQUESTS || made.load(Ordering::Relaxed) < least {
            assert_eq!(client.get("/").text(), "ok");
            served += 1;
        }
        drop(ended);
    });
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

on_both_drivers! {
    fn a_storm_of_connections_does_not_keep_a_running_one_waiting(driver) {
        let gateway = one_worker(driver);
        is_served_beside(&gateway, 50, || {
            // Many at once wait to be accepted; a reset ends them, so that no port is left behind.
            let crowd: Vec<Client> = (0..64).map(|_| Client::connect(gateway.address)).collect();
            crowd.into_iter().for_each(Client::abort);
        });
        gateway.wait_until_quiet();
    }

    fn a_connection_that_never_pauses_leaves_others_their_turn(driver) {
        let gateway = one_worker(driver);
        let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(256);
        is_served_beside(&gateway, 8, || {
            let mut greedy = Client::connect(gateway.address);
            let mut answers = greedy.sender();
            // It reads what comes while it sends, so that the gateway never has to wait for it.
            thread::scope(|threads| {
                threads.spawn(|| {
                    let mut piece = [0; 65536];
                    while answers.read(&mut piece).is_ok_and(|count| count > 0) {}
                });
                for _ in 0..16 {
                    greedy.send(&request);
                }
                greedy.finish_sending();
            });
        });
        gateway.wait_until_quiet();
    }
}
