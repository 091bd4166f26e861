//! What an exchange says of the endpoint's health.

use super::Ended;
use crate::data::error::{Error, Fault};
use crate::data::upstream::{Lease, Met, Pool};

/// Tells the upstream of `pool` how the exchange on `lease` ended. `status`: of its response, where there was one.
#[inline]
pub(super) fn tell(pool: &Pool, lease: &Lease, result: &Result<Ended, Error>, status: u16) {
    let upstream = pool.upstream();
    if upstream.config.outlier.is_none() {
        return;
    }
    match result {
        Ok(Ended::Repeat(status)) => upstream.met(lease.endpoint, Met::Response(*status)),
        Ok(_) => upstream.met(lease.endpoint, Met::Response(status)),
        // An idle connection that the endpoint closed in its own time is no failure.
        Err(Error::Upstream(Fault::ClosedBeforeResponse)) if lease.reused => {}
        Err(Error::Upstream(_)) => upstream.met(lease.endpoint, Met::Failure),
        // The client's fault, or the time that is over is that of the route.
        Err(_) => {}
    }
}
