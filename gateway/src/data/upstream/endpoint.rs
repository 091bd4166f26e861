//! What all workers share about an upstream: its endpoints, and how many connections and requests each has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;

use super::maglev::Maglev;
use crate::config::{Balance, UpstreamConfig};

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
    counts: Counts,
}

/// What every worker writes to, apart from what all only read (the prefetcher takes two cache lines).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    connections: AtomicU32,
    /// Counted only where the upstream goes by it.
    requests: AtomicU32,
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
            counts: Counts::default(),
        }
    }

    /// Open connections of the process to it, idle ones included.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Requests of the process in flight to it, where its upstream counts them; those that wait for a connection included.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// Counts a request until [`Self::leave`]. Relaxed, as for connections.
    pub(super) fn enter(&self) {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was counted is over.
    pub(super) fn leave(&self) {
        let before = self.counts.requests.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more requests ended than began");
    }

    /// Takes a place for a new connection, unless there are `connections_max`.
    ///
    /// Relaxed is enough: the count guards no other memory.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Permit> {
        self.counts
            .connections
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

impl Permit {
    /// Whose place it is.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.0.counts.connections.fetch_sub(1, Ordering::Relaxed);
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
    /// Grows when something changes that decides which endpoints take part.
    epoch: AtomicU32,
    /// For a choice by key.
    table: Option<Maglev>,
}

impl Upstream {
    /// An upstream of these endpoints for `workers` workers.
    #[must_use]
    pub fn new(config: &UpstreamConfig, endpoints: Vec<Arc<Endpoint>>, workers: usize) -> Self {
        let share = config.max_connections.get() as usize / workers.max(1);
        let table = match config.balance {
            Balance::Hash(_) => {
                let each = endpoints.iter();
                let weighted = each.map(|endpoint| (endpoint.label.as_str(), endpoint.weight));
                Some(Maglev::new(&weighted.collect::<Vec<_>>()))
            }
            _ => None,
        };
        Self {
            config: config.clone(),
            endpoints,
            idle_max: share.min(config.keepalive_max as usize),
            epoch: AtomicU32::new(0),
            table,
        }
    }

    /// Changes when something has changed that decides which endpoints take part.
    ///
    /// Acquire pairs with the release of whoever changed it: who sees the new epoch sees what is new.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// For a choice by key.
    pub(super) fn table(&self) -> Option<&Maglev> {
        self.table.as_ref()
    }

    /// Requests in flight are counted.
    pub(super) fn counts_requests(&self) -> bool {
        matches!(
            self.config.balance,
            Balance::LeastRequest | Balance::TwoChoices
        )
    }
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
