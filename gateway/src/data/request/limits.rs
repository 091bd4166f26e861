//! The step that asks the limits of a route, and counts what they say. Does not wait.

use limiter::Timestamp;

use crate::data::connection::Connection;
use crate::data::error::Error;
use crate::data::filter::key::Subject;
use crate::data::filter::limit::{self, Decided};
use crate::data::log::Record;
use crate::data::worker::Served;
use crate::telemetry::LimitOutcome;

/// Asks the limits of the route, and counts what each says.
pub(super) fn ask_limits(
    connection: &Connection,
    served: &Served,
    route: usize,
    subject: &Subject<'_>,
    key_part: &mut Vec<u8>,
    record: &mut Record,
) -> Result<(), Error> {
    let plan = &*served.plan;
    let now = plan.limits_time(record.started);
    let now_s = whole_seconds(now);
    let limits = &plan.routes[route].limits;
    let decided = |decided: Decided, key_part: &mut Vec<u8>| {
        let Decided {
            limit,
            key,
            outcome,
        } = decided;
        connection.worker.metrics.limit_decided(limit, outcome);
        let refused = outcome != LimitOutcome::Allowed;
        served.top[limit].count(key.hash(), refused, now_s, || {
            subject.label(&plan.limits[limit].key, key_part)
        });
        if refused || record.limit.is_none() {
            record.limit = Some((limit, outcome));
        }
    };
    limit::check(&plan.limits, limits, subject, key_part, now, decided)
}

/// As `Plan::limits_seconds`, of a time that is there already.
fn whole_seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX)
}
