//! The threads that verify passwords: few, since each takes a core and up to 128 MiB for as long as a verification lasts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::data::verify::Verifications;
use crate::telemetry::log;

/// At once, for the process.
const THREADS: usize = 2;

/// Starts them; they end with the process.
pub(super) fn start(verifications: &Verifications) {
    for number in 0..THREADS {
        let queue = verifications.queue.clone();
        // One that panics is wrong: who asked sees that nobody answers.
        let verify = move || {
            for job in queue.iter() {
                drop(catch_unwind(AssertUnwindSafe(|| job.run())));
            }
        };
        let name = format!("ringgate-p{number}");
        if let Err(error) = thread::Builder::new().name(name).spawn(verify) {
            let fields: log::Fields<'_> = &[("problem", &error)];
            log::warn("a thread that verifies passwords cannot be had", fields);
        }
    }
}
