//! The route table: which route a request takes, from its host and path alone. No I/O, no runtime types, no clock.
//!
//! Precedence, whatever the order of the file: the host first (exact, then the longest wildcard, then any), then the
//! path (exact, then the longest prefix by whole segments). A host whose routes hold none of the path does not end the
//! search: the less specific hosts are asked in turn, as in the Gateway API. So a catch-all for every host serves what
//! no route of `api.example.com` serves; a route `/` of that host keeps it out.

mod tree;

use std::collections::HashMap;

use crate::config::{Config, HostPattern, RouteConfig};

use tree::{PathMatch, PathTree};

/// An index into `Config::routes`.
pub type RouteIndex = usize;

/// Every route of a configuration, compiled once.
///
/// ```
/// use gateway::config::{ConfigSource, load};
/// use gateway::data::route::RouteTable;
///
/// let config = load(ConfigSource::builtin(), &|_| None).unwrap();
/// let table = RouteTable::new(&config);
/// let route = table.find(b"localhost", b"/hello").unwrap();
/// assert_eq!(config.routes[route].name, "hello");
/// ```
#[derive(Debug)]
pub struct RouteTable {
    /// One for each host pattern, and one for every host.
    groups: Vec<Group>,
    /// Groups by exact host.
    exact: HashMap<Box<[u8]>, usize>,
    /// Groups by wildcard, as `.example.com`.
    wildcard: HashMap<Box<[u8]>, usize>,
    /// Length of the longest wildcard: a longer suffix of a host is not looked up.
    wildcard_bytes_max: usize,
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct Group {
    /// Routes that mind case.
    paths: PathTree<false>,
    /// Routes that do not.
    folded: PathTree<true>,
    /// The group of the next less specific hosts, if any.
    next: Option<usize>,
}

/// The group of the routes without a host.
const EVERY_HOST: usize = 0;

impl RouteTable {
    /// Compiles the routes of `config`.
    ///
    /// Where two routes serve the same place, which the reader of configurations refuses, the later one is taken.
    pub fn new(config: &Config) -> Self {
        Self::of(&config.routes)
    }

    fn of(routes: &[RouteConfig]) -> Self {
        let mut table = Self {
            groups: vec![Group::default()],
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            wildcard_bytes_max: 0,
        };
        for (index, route) in routes.iter().enumerate() {
            if route.hosts.is_empty() {
                table.groups[EVERY_HOST].insert(route, index);
            }
            for host in &route.hosts {
                let group = table.group_of(host);
                table.groups[group].insert(route, index);
            }
        }
        table.link();
        table
    }

    /// The route of a request; `None`: no route serves it.
    ///
    /// `host` is in lower case and without port, `path` in normal form. Allocates nothing. Cost: one look-up per label
    /// of a host that is not named exactly, and one per segment of the path down to the deepest route; the number of
    /// routes does not matter.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<RouteIndex> {
        let mut group = self
            .exact
            .get(host)
            .copied()
            .or_else(|| self.find_wildcard(host));
        loop {
            let routes = &self.groups[group.unwrap_or(EVERY_HOST)];
            if let Some(found) = routes.find(path) {
                return Some(found);
            }
            group = match group {
                None | Some(EVERY_HOST) => return None,
                Some(_) => routes.next,
            };
        }
    }

    /// The group of the longest wildcard that holds `host`.
    fn find_wildcard(&self, host: &[u8]) -> Option<usize> {
        if self.wildcard.is_empty() {
            return None;
        }
        // A wildcard stands for at least one character, so the suffix never begins at 0.
        let first = host.len().saturating_sub(self.wildcard_bytes_max).max(1);
        (first..host.len())
            .filter(|&at| host[at] == b'.')
            .find_map(|at| self.wildcard.get(&host[at..]).copied())
    }

    /// The group of a host pattern, made where it is new.
    fn group_of(&mut self, host: &HostPattern) -> usize {
        let (map, name) = match host {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Suffix(name) => {
                self.wildcard_bytes_max = self.wildcard_bytes_max.max(name.len());
                (&mut self.wildcard, name)
            }
        };
        *map.entry(name.as_bytes().into()).or_insert_with(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        })
    }

    /// Points every group at that of the next less specific hosts.
    fn link(&mut self) {
        let named: Vec<_> = self.exact.iter().chain(&self.wildcard).collect();
        let links: Vec<(usize, Option<usize>)> = named
            .into_iter()
            .map(|(name, &group)| (group, self.find_wildcard(name)))
            .collect();
        for (group, next) in links {
            debug_assert_ne!(next, Some(group), "a group never follows itself");
            self.groups[group].next = next;
        }
    }
}

impl Group {
    fn insert(&mut self, route: &RouteConfig, index: RouteIndex) {
        if route.ignore_case {
            self.folded.insert(&route.path, index);
        } else {
            self.paths.insert(&route.path, index);
        }
    }

    fn find(&self, path: &[u8]) -> Option<RouteIndex> {
        let minding = self.paths.find(path);
        let ignoring = self.folded.find(path);
        // `max` takes the last of equals: the route that minds case.
        ignoring
            .into_iter()
            .chain(minding)
            .max_by_key(PathMatch::rank)
            .map(|found| found.route)
    }
}

#[cfg(test)]
mod tests;
