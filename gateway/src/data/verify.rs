//! Passwords that are verified elsewhere: a bounded queue between workers and a few threads, since one takes as long as
//! thousands of requests.

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
