//! Upstreams: which endpoint gets a request, and a lease of a connection to it.
//!
//! A lease is an exclusive HTTP/1.1 connection today. Callers see a [`Lease`] and what it reads and writes, so that
//! a stream of a shared connection can take its place.

mod balance;
mod budget;
mod endpoint;
mod health;
mod maglev;
mod pending;
mod pool;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::{Deadline, Reader, Socket};

pub use balance::SHARE_WHOLE;
pub use endpoint::{AddressCell, Endpoint, Target, Upstream};
pub use health::{HealthSample, Met};
pub(super) use maglev::hasher;
pub use pending::Waiting;
pub use pool::{Pool, Turn};

use super::Why;
use crate::telemetry::{MetricsWriter, UpstreamConnectionState};
use endpoint::Permit;
use pending::Pending;

/// A leased connection to an endpoint. Dropping it closes the connection; [`Pool::give_back`] keeps it.
#[derive(Debug)]
pub struct Lease {
    /// The reading side; its buffer is empty when the lease begins.
    pub reader: Reader,
    /// The connection's deadline.
    pub deadline: Deadline<Why>,
    /// Index of the endpoint in its upstream.
    pub endpoint: usize,
    /// The connection was used before, so the endpoint may have closed it meanwhile.
    pub reused: bool,
    /// How long connecting took; zero for a reused one.
    pub connect_time: Duration,
    /// The address that it was made to, of an endpoint with a name.
    resolved: Option<SocketAddr>,
    place: Place,
}

impl Lease {
    /// The connection's socket.
    #[must_use]
    pub fn socket(&self) -> &Rc<Socket> {
        self.reader.socket()
    }
}

/// A connection's place among its endpoint's and in the metrics; dropping it gives both back.
#[derive(Debug)]
struct Place {
    permit: Permit,
    /// The request that uses it is counted at its endpoint.
    counted: bool,
    metrics: Rc<MetricsWriter>,
    upstream: usize,
    state: UpstreamConnectionState,
    /// Last, so that it is dropped when the place is free.
    free: Free,
}

/// Calls who waits for a place when it is dropped, or before.
#[derive(Debug)]
struct Free(Option<Arc<Pending>>);

impl Free {
    fn call(&self) {
        if let Some(pending) = &self.0 {
            pending.place_is_free();
        }
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        self.call();
    }
}

impl Place {
    fn new(
        permit: Permit,
        metrics: Rc<MetricsWriter>,
        upstream: usize,
        pending: Option<Arc<Pending>>,
    ) -> Self {
        metrics.upstream_connection_opened(upstream);
        Self {
            permit,
            counted: false,
            metrics,
            upstream,
            state: UpstreamConnectionState::Active,
            free: Free(pending),
        }
    }

    fn begin_use(&mut self) {
        self.state = UpstreamConnectionState::Active;
        self.metrics.upstream_connection_reused(self.upstream);
    }

    fn end_use(&mut self) {
        self.state = UpstreamConnectionState::Idle;
        self.metrics.upstream_connection_pooled(self.upstream);
        self.uncount();
    }

    /// Its endpoint has as many connections as it may.
    fn is_scarce(&self) -> bool {
        let endpoint = self.permit.endpoint();
        endpoint.connections() >= endpoint.connections_max
    }

    fn uncount(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.permit.endpoint().leave();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.uncount();
        self.metrics
            .upstream_connection_closed(self.upstream, self.state);
    }
}

/// Why there is no connection. Nothing of the request was sent.
#[derive(Debug)]
pub enum LeaseError {
    /// The endpoint refused, is unreachable or reset the handshake.
    Refused(io::Error),
    /// The handshake took longer than `connect_timeout`.
    ConnectTimeout,
    /// Every endpoint has `max_connections` or `max_requests`, and nobody more may wait.
    Full,
    /// The wait for a place took longer than `pending_timeout`.
    PendingTimeout,
    /// No endpoint is healthy, and none that is not may be used.
    Unhealthy,
    /// The endpoint's name has not been resolved yet, or has no address.
    NoAddress,
    /// The gateway has no descriptor or memory left for a connection.
    Exhausted(io::Error),
}
