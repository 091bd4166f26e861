//! Turns: a connection whose both ends are faster than the gateway must let others have the worker.

use std::time::Duration;

/// Rounds of a loop before it must wait once.
const ROUNDS_MAX: u32 = 64;

/// Counts the rounds of one connection's loop.
///
/// On a ring every operation waits for the next turn of the worker. On epoll one that can be done at once is done at
/// once, so that a loop over such operations would never let go. A short sleep and no yield: monoio 0.2.4 puts a task
/// that yields first in the queue again.
#[derive(Debug, Default)]
pub(super) struct Fairness {
    rounds: u32,
}

impl Fairness {
    /// The next round waits.
    pub(super) fn waits_next(&self) -> bool {
        self.rounds + 1 >= ROUNDS_MAX && monoio::utils::is_legacy()
    }

    /// One more round; now and then, on epoll, others have theirs.
    pub(super) async fn turn(&mut self) {
        self.rounds += 1;
        if self.rounds >= ROUNDS_MAX {
            self.rounds = 0;
            if monoio::utils::is_legacy() {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
