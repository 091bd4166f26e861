//! Host names of endpoints, resolved on the control thread and published to workers.
//!
//! A worker loads the cell when it connects and never waits for a resolver. The last good answer stands until there
//! is another, so that a failing resolver takes no upstream away.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinSet;

use crate::telemetry::{ProcessMetrics, log};

/// The addresses of one name; empty until its first answer.
pub type ResolvedCell = Arc<ArcSwap<Vec<SocketAddr>>>;

/// Addresses kept of one answer.
const ADDRESSES_MAX: usize = 64;
/// From the end of one pass to the begin of the next.
const INTERVAL: Duration = Duration::from_secs(10);
/// A name that takes longer counts as failed in its pass.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The names to resolve.
#[derive(Debug, Default)]
pub struct Resolver {
    names: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    host: Arc<str>,
    port: u16,
    cell: ResolvedCell,
    failing: bool,
}

impl Resolver {
    /// The cell of this name; endpoints that share a name share it.
    pub fn cell(&mut self, host: &str, port: u16) -> ResolvedCell {
        let known = self
            .names
            .iter()
            .find(|name| &*name.host == host && name.port == port);
        if let Some(name) = known {
            return Arc::clone(&name.cell);
        }
        let cell = ResolvedCell::default();
        let name = Name {
            host: host.into(),
            port,
            cell: Arc::clone(&cell),
            failing: false,
        };
        self.names.push(name);
        cell
    }

    /// Resolves every name once, all at the same time.
    pub(super) async fn pass(&mut self, process: &ProcessMetrics) {
        let mut lookups = JoinSet::new();
        for (index, name) in self.names.iter().enumerate() {
            let (host, port) = (Arc::clone(&name.host), name.port);
            // getaddrinfo waits on one of the runtime's few blocking threads.
            lookups.spawn(async move {
                let lookup = tokio::net::lookup_host((&*host, port));
                let answer = tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await;
                let answer = answer.unwrap_or_else(|late| Err(late.into()));
                (index, answer.map(|all| all.take(ADDRESSES_MAX).collect()))
            });
        }
        while let Some(done) = lookups.join_next().await {
            if let Ok((index, answer)) = done
                && let Some(name) = self.names.get_mut(index)
            {
                name.learn(answer, process);
            }
        }
    }

    /// Resolves again and again; never returns.
    pub(super) async fn run(mut self, process: Arc<ProcessMetrics>) {
        if self.names.is_empty() {
            return;
        }
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.pass(&process).await;
        }
    }
}

impl Name {
    fn learn(&mut self, answer: io::Result<Vec<SocketAddr>>, process: &ProcessMetrics) {
        let name = format!("{}:{}", self.host, self.port);
        let answer = match answer {
            Ok(addresses) if addresses.is_empty() => Err("no addresses".to_owned()),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(addresses) => {
                if self.failing {
                    log::info("endpoint name is resolved again", &[("name", &name)]);
                }
                self.failing = false;
                if **self.cell.load() != addresses {
                    self.cell.store(Arc::new(addresses));
                }
            }
            Err(error) => {
                process.resolve_failed();
                if !self.failing {
                    let kept = self.cell.load().len();
                    let fields: log::Fields<'_> = &[
                        ("name", &name),
                        ("error", &error),
                        ("addresses_kept", &kept),
                    ];
                    log::warn("endpoint name not resolved", fields);
                }
                self.failing = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use super::Resolver;
    use crate::telemetry::ProcessMetrics;

    #[test]
    fn the_last_good_answer_outlives_failures_and_they_are_counted() {
        let mut resolver = Resolver::default();
        let process = ProcessMetrics::default();
        let cell = resolver.cell("users.example", 80);
        let addresses: Vec<SocketAddr> = vec!["192.0.2.1:80".parse().unwrap()];
        let name = &mut resolver.names[0];
        name.learn(Ok(addresses.clone()), &process);
        name.learn(Err(io::Error::other("no resolver")), &process);
        name.learn(Ok(Vec::new()), &process);
        assert_eq!(**cell.load(), addresses);
        assert_eq!(process.resolve_failures_total(), 2);

        let moved: Vec<SocketAddr> = vec!["192.0.2.2:80".parse().unwrap()];
        name.learn(Ok(moved.clone()), &process);
        assert_eq!(**cell.load(), moved);
    }

    #[test]
    fn an_unchanged_answer_is_not_published_again() {
        let mut resolver = Resolver::default();
        let process = ProcessMetrics::default();
        let cell = resolver.cell("users.example", 80);
        let addresses: Vec<SocketAddr> = vec!["192.0.2.1:80".parse().unwrap()];
        resolver.names[0].learn(Ok(addresses.clone()), &process);
        let first = cell.load_full();
        resolver.names[0].learn(Ok(addresses), &process);
        assert!(std::sync::Arc::ptr_eq(&first, &cell.load_full()));
    }

    #[test]
    fn endpoints_with_one_name_share_a_cell() {
        let mut resolver = Resolver::default();
        let one = resolver.cell("users.example", 80);
        let same = resolver.cell("users.example", 80);
        let other = resolver.cell("users.example", 81);
        assert!(std::sync::Arc::ptr_eq(&one, &same));
        assert!(!std::sync::Arc::ptr_eq(&one, &other));
    }

    #[tokio::test]
    async fn localhost_is_a_loopback_address() {
        let mut resolver = Resolver::default();
        let cell = resolver.cell("localhost", 8080);
        resolver.pass(&ProcessMetrics::default()).await;
        let addresses = cell.load();
        assert!(!addresses.is_empty());
        assert!(
            addresses
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 8080)
        );
    }
}
