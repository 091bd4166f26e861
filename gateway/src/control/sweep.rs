//! Once a day the limits' tables are gone through, so that the time in buckets nobody used cannot wrap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{Instant as Moment, interval_at};

use crate::data::plan::Plan;

/// Well within the three days of `limiter::Limiter::sweep`.
const EVERY: Duration = Duration::from_secs(86_400);

/// Sweeps for ever. Reads all of the tables, some 0.3 s for a GiB, on a thread that may wait.
pub(super) async fn run(plan: Arc<Plan>) {
    let mut days = interval_at(Moment::now() + EVERY, EVERY);
    loop {
        days.tick().await;
        let plan = Arc::clone(&plan);
        let swept = tokio::task::spawn_blocking(move || {
            let now = plan.limits_time(now());
            plan.sweep(now);
        });
        // Fails at the end of the process alone.
        drop(swept.await);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "days are outside of what tests put on a manual clock"
)]
fn now() -> Instant {
    Instant::now()
}
