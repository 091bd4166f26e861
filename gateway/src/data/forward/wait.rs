//! A connection for a request that finds none at once: a new one, or one that somebody gives back.

use monoio::time::timeout;
use runtime::TICK;

use super::retry::Tries;
use super::timers::{Timers, ticks_of};
use super::{connect, find_for};
use crate::data::error::Error;
use crate::data::upstream::{Lease, LeaseError, Pool, Turn};
use crate::data::worker::Worker;

/// Connects where `found` is a turn; where every endpoint has what it may, waits in the queue as long as that is allowed.
pub(super) async fn lease<'a>(
    pool: &'a Pool,
    found: Result<Result<Box<Lease>, Turn<'a>>, Error>,
    worker: &Worker,
    timers: Timers<'_>,
    (key, tries, fresh): (Option<u64>, &'a Tries<'_>, bool),
) -> Result<Box<Lease>, Error> {
    let first = match found {
        Ok(Ok(lease)) => return Ok(lease),
        Ok(Err(turn)) => connect(pool, turn, worker, timers, fresh).await,
        Err(error) => Err(error),
    };
    let Err(Error::Lease(LeaseError::Full)) = first else {
        if first.is_err() {
            pool.call_next();
        }
        return first;
    };
    let Some(waiting) = pool.join_queue() else {
        return first;
    };
    let until = worker.deadlines.now() + ticks_of(pool.upstream().config.pending_timeout);
    let result = loop {
        let now = worker.deadlines.now();
        let ticks = u32::try_from(until.saturating_sub(now)).unwrap_or(u32::MAX);
        let left = TICK.saturating_mul(ticks);
        let route_left = timers.route_left(now).unwrap_or(left);
        if timeout(left.min(route_left), waiting.called())
            .await
            .is_err()
        {
            break Err(match route_left < left {
                true => Error::RouteTimeout,
                false => Error::Lease(LeaseError::PendingTimeout),
            });
        }
        let turn = pool.turn_of_waiting(key, tries.failed());
        let result = match find_for(pool, turn, fresh) {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(turn)) => connect(pool, turn, worker, timers, fresh).await,
            Err(error) => Err(error),
        };
        if !matches!(result, Err(Error::Lease(LeaseError::Full))) {
            break result;
        }
    };
    drop(waiting);
    if result.is_err() {
        pool.call_next();
    }
    result
}
