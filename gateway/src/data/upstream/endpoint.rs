//! What all workers share about an upstream: its endpoints, and how many connections each has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;

use crate::config::UpstreamConfig;

/// The addresses of a host name, kept fresh by the control thread. Workers read it when they connect.
pub type AddressCell = Arc<ArcSwap<Vec<SocketAddr>>>;

/// Where an endpoint's connections go.
#[derive(Debug)]
pub enum Target {
    /// One address.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
    /// The first address that connects, starting with a different one each time.
    Host(AddressCell),
}

/// One endpoint, shared by all workers.
#[derive(Debug)]
pub struct Endpoint {
    /// Where to connect to.
    pub target: Target,
    /// The address as written in the config, for logs.
    pub label: String,
    /// Host and port for a request that names none.
    pub authority: String,
    /// Share of requests relative to the others.
    pub weight: u32,
    /// Most connections at once, over all workers.
    pub connections_max: u32,
    connections: AtomicU32,
}

impl Endpoint {
    /// An endpoint without connections.
    #[must_use]
    pub fn new(
        target: Target,
        label: String,
        authority: String,
        weight: u32,
        connections_max: u32,
    ) -> Self {
        Self {
            target,
            label,
            authority,
            weight,
            connections_max,
            connections: AtomicU32::new(0),
        }
    }

    /// Open connections of the process to it, idle ones included.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes a place for a new connection, unless there are `connections_max`.
    ///
    /// Relaxed is enough: the count guards no other memory.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Permit> {
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < self.connections_max).then_some(count + 1)
            })
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }
}

/// A place among an endpoint's connections, given back on drop.
#[derive(Debug)]
pub(super) struct Permit(Arc<Endpoint>);

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.0.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more places given back than taken");
    }
}

/// One upstream, shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    /// What the config says: name and times.
    pub config: UpstreamConfig,
    /// The endpoints in the order of the config; never empty.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Idle connections that each worker keeps for an endpoint: `keepalive_max`, but never so many that those of one
    /// worker leave another no place among `max_connections`.
    pub idle_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_holds_and_places_come_back() {
        let target = Target::Unix("/nowhere".into());
        let endpoint = Arc::new(Endpoint::new(target, "x".into(), "x".into(), 1, 2));
        let first = endpoint.admit();
        let second = endpoint.admit();
        assert!(first.is_some() && second.is_some() && endpoint.admit().is_none());
        drop(first);
        assert!(endpoint.admit().is_some(), "the place of the first");
        assert_eq!(endpoint.connections(), 1);
    }
}
