//! The route table: which route takes a request. No I/O, no runtime types, no clock.
//!
//! Precedence is that of the Kubernetes Gateway API, where it has one. The host first: exact, then the longest wildcard,
//! then any. Then the path: exact, then a template (of two the one that names the first segment in which they differ),
//! then a regular expression (the longest text first), then the longest prefix by whole segments. Then a method, the
//! number of header fields, the number of query parameters, client networks; then the order of the file.
//!
//! A route whose conditions a request does not fulfil does not end the search, and neither does a host none of whose
//! routes takes it: whatever is less specific is asked in turn. So a catch-all for every host serves what no route of
//! `api.example.com` serves; a route `/` of that host keeps it out.

mod captures;
mod conditions;
mod methods;
mod tree;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use regex::bytes::{CaptureLocations, Regex};

use crate::config::{HostPattern, PathPattern, RouteConfig};
use crate::data::codec::Fields;

pub use captures::Captures;
pub use conditions::Unmet;
pub use methods::Methods;

use conditions::Conditions;
use methods::MethodNames;
use tree::{PathTree, Place, Walk};

/// An index into `Config::routes`.
pub type RouteIndex = usize;

/// Every route of a configuration, compiled once.
///
/// ```
/// use gateway::config::{ConfigSource, load};
/// use gateway::data::codec::Fields;
/// use gateway::data::route::{Asked, Captures, RouteTable};
///
/// let config = load(ConfigSource::builtin(), &|_| None).unwrap();
/// let table = RouteTable::new(&config.routes);
/// let asked = Asked {
///     host: b"localhost",
///     path: b"/hello",
///     query: None,
///     method: table.method(b"GET"),
///     client: [127, 0, 0, 1].into(),
///     head: b"",
///     fields: &Fields::new(),
/// };
/// let found = table.find(&asked, &table.matchers(), &mut Captures::default(), &mut ());
/// assert_eq!(config.routes[found.unwrap()].name, "hello");
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
    /// Of each route.
    conditions: Vec<Conditions>,
    method_names: MethodNames,
    /// Of paths and header fields.
    regexes: Vec<Regex>,
}

/// What a route is found by.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// In lower case, without port; empty where the request has none.
    pub host: &'a [u8],
    /// In its one form.
    pub path: &'a [u8],
    /// Without `?`.
    pub query: Option<&'a [u8]>,
    /// From [`RouteTable::method`].
    pub method: Methods,
    /// The client's address.
    pub client: IpAddr,
    /// The request head that `fields` points into.
    pub head: &'a [u8],
    /// Its fields.
    pub fields: &'a Fields,
}

impl Asked<'_> {
    /// Values of the fields called `name` that go on to the upstream.
    fn header(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.fields
            .iter()
            .filter(|field| !field.named_by_connection)
            .filter(move |field| field.name.of(self.head).eq_ignore_ascii_case(name))
            .map(|field| field.value.of(self.head))
    }
}

/// Sees how a route is found. `()` sees nothing and costs nothing.
pub trait Watch {
    /// A segment, or a regular expression, was compared.
    fn probed(&mut self) {}
    /// A route that has the host and path was asked; `None`: it takes the request.
    fn tried(&mut self, _route: RouteIndex, _unmet: Option<Unmet>) {}
}

impl Watch for () {}

/// The regular expressions of a table with memory to match in: one for each worker, so that none waits for another.
#[derive(Debug)]
pub struct Matchers {
    regexes: Vec<Regex>,
    /// Where groups matched, of each.
    locations: Vec<RefCell<CaptureLocations>>,
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct Group {
    /// Routes that mind case.
    paths: PathTree<false>,
    /// Routes that do not.
    folded: PathTree<true>,
    /// There are any of those.
    folds: bool,
    /// Routes by regular expressions, the longest first.
    patterns: Vec<PatternPlace>,
    /// The group of the next less specific hosts, if any.
    next: Option<usize>,
}

/// The routes of one regular expression.
#[derive(Debug)]
struct PatternPlace {
    text: String,
    ignore_case: bool,
    /// An index into the table's regular expressions.
    regex: usize,
    /// Numbers of the named groups.
    groups: Box<[usize]>,
    /// The most specific first.
    routes: Vec<RouteIndex>,
}

/// The group of the routes without a host.
const EVERY_HOST: usize = 0;

/// One search: what is asked, and what was missed by its method alone.
struct Search<'a, W> {
    table: &'a RouteTable,
    asked: &'a Asked<'a>,
    matchers: &'a Matchers,
    missed: Methods,
    watch: &'a mut W,
}

impl RouteTable {
    /// Compiles routes. Of two that serve the same place under the same conditions, which the reader of configurations
    /// refuses, the earlier one is taken.
    #[must_use]
    pub fn new(routes: &[RouteConfig]) -> Self {
        let method_names = MethodNames::new(routes);
        let mut regexes = Vec::new();
        let conditions = routes.iter().map(|route| {
            let methods = method_names.set(&route.conditions.methods);
            Conditions::new(&route.conditions, methods, &mut regexes)
        });
        let conditions = conditions.collect();
        let mut table = Self {
            groups: vec![Group::default()],
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            wildcard_bytes_max: 0,
            conditions,
            method_names,
            regexes,
        };
        for (index, route) in routes.iter().enumerate() {
            let regex = table.regexes.len();
            if let PathPattern::Regex(pattern) = &route.path {
                table.regexes.push(pattern.regex().clone());
            }
            if route.hosts.is_empty() {
                table.groups[EVERY_HOST].insert(route, index, regex, &table.conditions);
            }
            for host in &route.hosts {
                let group = table.group_of(host);
                table.groups[group].insert(route, index, regex, &table.conditions);
            }
        }
        table.link();
        table
    }

    /// Its regular expressions, for one worker.
    #[must_use]
    pub fn matchers(&self) -> Matchers {
        let locations = self.regexes.iter();
        Matchers {
            regexes: self.regexes.clone(),
            locations: locations
                .map(|regex| RefCell::new(regex.capture_locations()))
                .collect(),
        }
    }

    /// The set of one method, for [`Asked::method`].
    #[must_use]
    pub fn method(&self, method: &[u8]) -> Methods {
        self.method_names.of(method)
    }

    /// The names of a set of methods.
    pub fn method_names(&self, methods: Methods) -> impl Iterator<Item = &[u8]> {
        self.method_names.names(methods)
    }

    /// The route that takes a request; where its path captures, `captures` holds what.
    ///
    /// Cost: one look-up per segment of the path and case, for each host pattern that holds the host (mostly one), and
    /// what the conditions of routes of the same path cost. Allocates nothing.
    ///
    /// # Errors
    ///
    /// No route takes it. The methods with which one would; none: whatever the method.
    pub fn find(
        &self,
        asked: &Asked<'_>,
        matchers: &Matchers,
        captures: &mut Captures,
        watch: &mut impl Watch,
    ) -> Result<RouteIndex, Methods> {
        let mut search = Search {
            table: self,
            asked,
            matchers,
            missed: Methods::default(),
            watch,
        };
        captures.clear();
        let exact = self.exact.get(asked.host).copied();
        let mut group = exact.or_else(|| self.find_wildcard(asked.host));
        loop {
            let routes = &self.groups[group.unwrap_or(EVERY_HOST)];
            if let Some(found) = routes.find(&mut search, captures) {
                return Ok(found);
            }
            group = match group {
                None | Some(EVERY_HOST) => return Err(search.missed),
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

impl<W: Watch> Search<'_, W> {
    /// The first of `routes` whose conditions are fulfilled.
    fn first(&mut self, routes: &[RouteIndex]) -> Option<RouteIndex> {
        for &route in routes {
            let conditions = &self.table.conditions[route];
            let checked = conditions.check(self.asked, &self.matchers.regexes);
            self.watch.tried(route, checked.err());
            match checked {
                Ok(()) => return Some(route),
                Err(Unmet::Method) => self.missed = self.missed.and(conditions.methods()),
                Err(_) => {}
            }
        }
        None
    }
}

impl Group {
    fn insert(
        &mut self,
        route: &RouteConfig,
        index: RouteIndex,
        regex: usize,
        conditions: &[Conditions],
    ) {
        let place = match &route.path {
            PathPattern::Exact(path) => Place::Exact(path),
            PathPattern::Prefix(path) => Place::Prefix(path),
            PathPattern::Template(template) => Place::Template(template),
            PathPattern::Regex(pattern) => {
                let (text, ignore_case) = (pattern.text(), route.ignore_case);
                let place = self.pattern(text, ignore_case, regex, pattern.regex());
                return insert_ranked(&mut place.routes, index, conditions);
            }
        };
        let routes = if route.ignore_case {
            self.folds = true;
            self.folded.routes_mut(place)
        } else {
            self.paths.routes_mut(place)
        };
        insert_ranked(routes, index, conditions);
    }

    /// The place of a regular expression, made where it is new: behind those as long and before the shorter ones.
    fn pattern(
        &mut self,
        text: &str,
        ignore_case: bool,
        index: usize,
        regex: &Regex,
    ) -> &mut PatternPlace {
        let same = |place: &PatternPlace| place.text == text && place.ignore_case == ignore_case;
        let at = self.patterns.iter().position(same).unwrap_or_else(|| {
            let rank = |text: &str, ignore_case| (Reverse(text.len()), ignore_case);
            let at = self.patterns.partition_point(|place| {
                rank(&place.text, place.ignore_case) <= rank(text, ignore_case)
            });
            let named = regex.capture_names().enumerate();
            let place = PatternPlace {
                text: text.to_owned(),
                ignore_case,
                regex: index,
                groups: named
                    .filter_map(|(number, name)| name.map(|_| number))
                    .collect(),
                routes: Vec::new(),
            };
            self.patterns.insert(at, place);
            at
        });
        &mut self.patterns[at]
    }

    fn find(
        &self,
        search: &mut Search<'_, impl Watch>,
        captures: &mut Captures,
    ) -> Option<RouteIndex> {
        let path = search.asked.path;
        let (mut minding, mut ignoring) = (Walk::default(), Walk::default());
        self.paths.walk(path, &mut minding, search.watch);
        if self.folds {
            self.folded.walk(path, &mut ignoring, search.watch);
        }
        let found = search
            .first(self.paths.exact(&minding))
            .or_else(|| search.first(self.folded.exact(&ignoring)));
        if found.is_some() {
            return found;
        }
        if self.paths.has_templates() || self.folded.has_templates() {
            let mut take = |routes: &[RouteIndex]| {
                search.watch.probed();
                search.first(routes)
            };
            let found = self.paths.templates(path, captures, &mut take);
            let found = found.or_else(|| self.folded.templates(path, captures, &mut take));
            if found.is_some() {
                return found;
            }
            captures.clear();
        }
        for place in &self.patterns {
            search.watch.probed();
            if search.matchers.regexes[place.regex].is_match(path)
                && let Some(found) = search.first(&place.routes)
            {
                place.capture(search.matchers, path, captures);
                return Some(found);
            }
        }
        self.find_prefix(search, &mut minding, &mut ignoring)
    }

    /// The longest prefix first; of two as long the one that minds case.
    fn find_prefix(
        &self,
        search: &mut Search<'_, impl Watch>,
        minding: &mut Walk,
        ignoring: &mut Walk,
    ) -> Option<RouteIndex> {
        loop {
            let routes = match (minding.last_prefix(), ignoring.last_prefix()) {
                (None, None) => return None,
                (own, other) if own >= other => self.paths.pop_prefix(minding),
                _ => self.folded.pop_prefix(ignoring),
            };
            if let Some(found) = search.first(routes) {
                return Some(found);
            }
        }
    }
}

impl PatternPlace {
    /// Notes where the named groups matched; one that did not is empty.
    fn capture(&self, matchers: &Matchers, path: &[u8], captures: &mut Captures) {
        if self.groups.is_empty() {
            return;
        }
        let mut locations = matchers.locations[self.regex].borrow_mut();
        let regex = &matchers.regexes[self.regex];
        let matched = regex.captures_read(&mut locations, path).is_some();
        for &group in &self.groups {
            let place = locations.get(group).filter(|_| matched);
            captures.push(place.map_or(0..0, |(from, to)| from..to));
        }
    }
}

/// Puts a route where it belongs among those of the same path.
fn insert_ranked(routes: &mut Vec<RouteIndex>, index: RouteIndex, conditions: &[Conditions]) {
    let rank = |route: RouteIndex| (Reverse(conditions[route].rank()), route);
    let at = routes.partition_point(|&other| rank(other) <= rank(index));
    routes.insert(at, index);
}

#[cfg(test)]
mod tests;
