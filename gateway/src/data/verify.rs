//! What a worker cannot verify by itself: passwords, for which there is a bounded queue between workers and a few threads, since
//! one takes as long as thousands of requests; and tokens whose key may be in a set that has to be fetched first.

use std::fmt;
use std::sync::Arc;

use super::auth::PasswordTable;

/// Verifications that may wait, from all workers together.
const QUEUE_MAX: usize = 64;

/// A password to verify.
pub struct Job {
    pub(super) table: Arc<PasswordTable>,
    pub(super) user: Box<str>,
    pub(super) password: Vec<u8>,
    pub(super) answer: flume::Sender<bool>,
}

impl fmt::Debug for Job {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

impl Job {
    /// Does it and tells who asked. Takes long.
    pub fn run(self) {
        let is_right = self.table.verify(&self.user, &self.password);
        // Who asked may have gone.
        let _gone = self.answer.send(is_right);
    }
}

/// Tokens that may wait for a newer set of keys, from all workers together.
const KEY_ASKS_MAX: usize = 64;

/// A token's wait for a newer set of keys. Dropping it ends the wait.
#[derive(Debug)]
pub struct KeyAsk {
    /// The authenticator, by its index in the plan.
    pub by: usize,
    /// Nothing is ever sent here.
    _waiting: flume::Sender<()>,
}

/// Where workers leave what needs a newer set of keys.
#[derive(Debug)]
pub struct KeyAsks {
    asks: flume::Sender<KeyAsk>,
    /// Where the control plane takes it.
    pub queue: flume::Receiver<KeyAsk>,
}

impl Default for KeyAsks {
    fn default() -> Self {
        let (asks, queue) = flume::bounded(KEY_ASKS_MAX);
        Self { asks, queue }
    }
}

impl KeyAsks {
    /// Waits until the keys of `by` have been fetched, or will not be now. At once where too many wait already.
    pub(super) async fn wait(&self, by: usize) {
        let (waiting, ended) = flume::bounded(0);
        let ask = KeyAsk {
            by,
            _waiting: waiting,
        };
        if self.asks.try_send(ask).is_ok() {
            // An error is what it waits for: the other side is gone.
            let _gone = ended.recv_async().await;
        }
    }
}

/// Where workers leave what is to be verified.
#[derive(Debug)]
pub struct Verifications {
    jobs: flume::Sender<Job>,
    /// Where the control plane's threads take it.
    pub queue: flume::Receiver<Job>,
}

impl Default for Verifications {
    fn default() -> Self {
        let (jobs, queue) = flume::bounded(QUEUE_MAX);
        Self { jobs, queue }
    }
}

impl Verifications {
    /// Leaves a job; `false`: too many wait already.
    pub(super) fn leave(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}
