//! What all workers share about an upstream: its endpoints, and how many connections and requests each has.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::health::{Health, HealthSample};
use super::maglev::Maglev;
use super::pending::Pending;
use crate::config::{Balance, EndpointConfig, UpstreamConfig};

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
    /// Endpoints of the lowest number that are healthy get the requests.
    pub priority: u8,
    /// Most connections at once, over all workers.
    pub connections_max: u32,
    pub(super) health: Health,
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
        config: &EndpointConfig,
        connections_max: u32,
    ) -> Self {
        Self {
            target,
            label,
            authority,
            weight: config.weight.get(),
            priority: config.priority,
            connections_max,
            health: Health::default(),
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

    /// Counts a request until [`Self::leave`], unless there are `most`. Relaxed, as for connections.
    #[must_use]
    pub(super) fn enter(&self, most: Option<NonZeroU32>) -> bool {
        let requests = &self.counts.requests;
        let Some(most) = most else {
            requests.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let one_more = |count| (count < most.get()).then_some(count + 1);
        requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
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
    /// Endpoints that are ejected.
    pub(super) ejected: AtomicUsize,
    /// For a choice by key.
    table: Option<Maglev>,
    counts_requests: bool,
    /// Those who wait for a place, where they may.
    pub(super) pending: Option<Arc<Pending>>,
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
            ejected: AtomicUsize::new(0),
            table,
            counts_requests: config.max_requests.is_some()
                || matches!(config.balance, Balance::LeastRequest | Balance::TwoChoices),
            pending: (config.max_pending > 0)
                .then(|| Arc::new(Pending::new(config.max_pending, workers))),
        }
    }

    /// Requests that wait for a place; `None`: none may.
    #[must_use]
    pub fn pending(&self) -> Option<u32> {
        self.pending.as_ref().map(|pending| pending.waiting())
    }

    /// Changes when something has changed that decides which endpoints take part.
    ///
    /// Acquire pairs with the release of whoever changed it: who sees the new epoch sees what is new.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Something has changed that decides which endpoints take part. Release pairs with [`Self::epoch`].
    pub(super) fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// What is known of an endpoint's health.
    #[must_use]
    pub fn health(&self, endpoint: usize) -> HealthSample {
        self.endpoints[endpoint].health.sample()
    }

    /// The priority whose endpoints get the requests, and whether all of them do, whatever is known of them: the first of which
    /// `panic_threshold` are healthy, else all of that with the largest share.
    #[must_use]
    pub fn tier(&self) -> (u8, bool) {
        let threshold = usize::from(self.config.panic_threshold);
        let (mut best, mut best_up, mut best_all) = (0, 0, 0);
        let mut priority = self.next_priority(0);
        while let Some(this) = priority {
            let of_it = || self.endpoints.iter().filter(|each| each.priority == this);
            let up = of_it().filter(|each| each.health.is_up()).count();
            let all = of_it().count();
            if up > 0 && up * 100 >= threshold * all {
                return (this, false);
            }
            if best_all == 0 || up * best_all > best_up * all {
                (best, best_up, best_all) = (this, up, all);
            }
            priority = this
                .checked_add(1)
                .and_then(|from| self.next_priority(from));
        }
        (best, threshold > 0)
    }

    /// The lowest priority from `from` on that an endpoint has.
    fn next_priority(&self, from: u8) -> Option<u8> {
        let priorities = self.endpoints.iter().map(|endpoint| endpoint.priority);
        priorities.filter(|&priority| priority >= from).min()
    }

    /// For a choice by key.
    pub(super) fn table(&self) -> Option<&Maglev> {
        self.table.as_ref()
    }

    /// Requests in flight are counted.
    #[must_use]
    pub const fn counts_requests(&self) -> bool {
        self.counts_requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_holds_and_places_come_back() {
        let target = Target::Unix("/nowhere".into());
        let config = EndpointConfig {
            address: crate::config::EndpointAddress::Demo,
            weight: NonZeroU32::MIN,
            priority: 0,
        };
        let endpoint = Arc::new(Endpoint::new(target, "x".into(), "x".into(), &config, 2));
        let first = endpoint.admit();
        let second = endpoint.admit();
        assert!(first.is_some() && second.is_some() && endpoint.admit().is_none());
        drop(first);
        assert!(endpoint.admit().is_some(), "the place of the first");
        assert_eq!(endpoint.connections(), 1);
    }
}
