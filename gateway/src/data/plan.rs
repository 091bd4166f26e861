//! What the workers serve: the configuration compiled once, immutable but for a few counters.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use limiter::{Budget, Concurrency, Key, KeyHasher, Permit, TableOptions, Timestamp};

use super::auth::AuthPlan;
use super::codec::{HeadLimits, RequestError, RequestRules, Scheme};
use super::edit::HeaderPlan;
use super::filter::ban::BanPlan;
use super::filter::cors::CorsPlan;
use super::filter::hosts::HostSet;
use super::filter::limit::{LimitPlan, RouteLimit};
use super::filter::networks::NetworkList;
use super::filter::rules::FilterPlan;
use super::filter::security_headers::SecurityPlan;
use super::networks::Networks;
use super::respond::refusal;
use super::route::RouteTable;
use super::upstream::{AddressCell, Endpoint, Target, Upstream};
use super::verify::{KeyAsks, Verifications};
use crate::config::{
    Action, CORS_FIELDS, ClientIpConfig, Config, EndpointAddress, ErrorBodiesConfig, FilterMode,
    ListenerConfig, RouteConfig, UnderscoreHeaders,
};

/// A configuration compiled for workers.
#[derive(Debug)]
pub struct Plan {
    /// The listeners, in the order of the config.
    pub listeners: Vec<Arc<ListenerPlan>>,
    /// Finds routes.
    pub table: RouteTable,
    /// The routes, in the order of the config.
    pub routes: Vec<RoutePlan>,
    /// What requests must be like, in the order of the config.
    pub(super) filters: Vec<FilterPlan>,
    /// Where workers leave passwords to verify.
    pub verifications: Verifications,
    /// Where workers leave tokens that need a newer set of keys.
    pub key_asks: KeyAsks,
    /// Penalties, in the order of the config.
    pub(super) bans: Vec<BanPlan>,
    /// What refusals say, in the order of the config.
    pub(super) error_bodies: Vec<ErrorBodiesConfig>,
    /// Some route answers the questions of browsers before they come from other origins.
    pub(super) answers_preflights: bool,
    /// The upstreams, in the order of the config.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The limits, in the order of the config.
    pub limits: Vec<LimitPlan>,
    /// The lists of networks, in the order of the config.
    pub network_lists: Vec<NetworkList>,
    /// The authenticators, in the order of the config.
    pub authenticators: Vec<AuthPlan>,
    /// How a client is recognised.
    pub client_ip: ClientIpConfig,
    /// `client_ip.trusted_proxies`.
    pub(super) trusted_proxies: Networks,
    /// Makes the keys of the limits; one for the process.
    pub hasher: KeyHasher,
    /// Origin of the limits' time; one for the process.
    pub origin: Instant,
    /// Requests may ask for faults. Only for tests; see docs/testing.md.
    pub faults: bool,
}

const UNDERSCORE: &str = RequestError::FieldUnderscore.name();

/// A listener.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its number among the plan's.
    pub index: usize,
    /// What the config says.
    pub config: ListenerConfig,
    /// Hosts that are served.
    pub(super) hosts: HostSet,
    /// Bounds of a request head.
    pub head_limits: HeadLimits,
    /// Rules of a request head.
    pub rules: RequestRules,
    connections: AtomicU32,
    /// Connections of each client, where they are capped.
    clients: Option<Arc<Concurrency>>,
}

/// A route.
#[derive(Debug)]
pub struct RoutePlan {
    /// What the config says.
    pub config: RouteConfig,
    /// It answers with an error, or only to some: what must not be got around by writing a path another way.
    pub denies: bool,
    /// Changes of the request's header fields.
    pub(super) request_headers: HeaderPlan,
    /// Changes of the response's header fields.
    pub(super) response_headers: HeaderPlan,
    /// The policy for pages of other origins, unless it is off.
    pub(super) cors: Option<Arc<CorsPlan>>,
    /// Response fields for browsers.
    pub(super) security: SecurityPlan,
    /// Its limits, in the order of the config.
    pub limits: Vec<RouteLimit>,
}

impl RoutePlan {
    fn new(config: &RouteConfig, whole: &Config, cors: &[Arc<CorsPlan>]) -> Self {
        let security = config.filters.security_headers;
        let security = security.and_then(|index| whole.security_headers.get(index));
        let cors = config.filters.cors.map(|index| Arc::clone(&cors[index]));
        let mut plan = Self {
            denies: !config.access.auth.is_empty()
                || !config.network_lists.is_empty()
                || matches!(&config.action, Action::Respond(answer) if answer.status >= 400),
            request_headers: HeaderPlan::new(&config.request_headers),
            response_headers: HeaderPlan::new(&config.response_headers),
            cors: cors.filter(|cors| cors.mode != FilterMode::Off),
            security: SecurityPlan::default(),
            limits: Vec::new(),
            config: config.clone(),
        };
        if let Some(headers) = security {
            let edits = &config.response_headers;
            let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
            let is_set = |name: &str| {
                let mut lines = edits.set.iter().chain(&edits.add);
                lines.any(|(each, _)| same(each, name))
            };
            let is_removed = |name: &str| edits.remove.iter().any(|each| same(each, name));
            plan.security = SecurityPlan::new(headers, is_set, is_removed);
            for name in plan.security.replaced() {
                plan.response_headers.remove(&[&name]);
            }
        }
        if plan.enforced_cors().is_some() {
            plan.response_headers.remove(&CORS_FIELDS);
        }
        plan
    }

    /// That policy, where it is in force.
    pub(super) fn enforced_cors(&self) -> Option<&CorsPlan> {
        let cors = self.cors.as_deref();
        cors.filter(|cors| cors.mode == FilterMode::Enforce)
    }
}

/// Where names and the demo upstream are found.
pub trait Addresses {
    /// The cell that holds the addresses of a name.
    fn cell(&mut self, host: &str, port: u16) -> AddressCell;
    /// Where the demo upstream listens.
    fn demo(&self) -> Option<SocketAddr>;
}

impl Plan {
    /// Compiles `config` for `workers` workers. `hasher`: the process's; `origin`: when the limits' time began.
    ///
    /// # Errors
    ///
    /// A limit's table cannot be had; the text names the limit.
    pub fn new(
        config: &Config,
        workers: usize,
        hasher: KeyHasher,
        origin: Instant,
        addresses: &mut dyn Addresses,
    ) -> Result<Self, String> {
        let upstreams = config.upstreams.iter().map(|upstream| {
            let endpoints = upstream.endpoints.iter().map(|endpoint| {
                let (target, label, authority) = resolve(&endpoint.address, addresses);
                let most = upstream.max_connections.get();
                Arc::new(Endpoint::new(target, label, authority, endpoint, most))
            });
            Arc::new(Upstream::new(upstream, endpoints.collect(), workers))
        });
        let upstreams = upstreams.collect();
        let cors: Vec<_> = config
            .cors
            .iter()
            .zip(0..)
            .map(|(each, counter)| Arc::new(CorsPlan::new(each, counter)))
            .collect();
        let routes = config
            .routes
            .iter()
            .map(|route| RoutePlan::new(route, config, &cors));
        let mut routes: Vec<_> = routes.collect();
        let ipv6_prefix = config.client_ip.ipv6_prefix;
        let mut limits = config
            .limits
            .iter()
            .map(|limit| LimitPlan::new(limit, workers, &hasher, ipv6_prefix))
            .collect::<Result<Vec<_>, _>>()?;
        let table = RouteTable::new(&config.routes);
        for limit in &mut limits {
            limit.write_refusals(|limit, buckets| refusal::write(limit, buckets, &table));
        }
        for route in &mut routes {
            let asked = route.config.limits.iter();
            let name = &route.config.name;
            route.limits = asked
                .map(|&limit| RouteLimit::new(limit, &limits[limit], &hasher, name))
                .collect();
        }
        let consumers = config.consumers.clone().into();
        let authenticators = config
            .authenticators
            .iter()
            .map(|each| AuthPlan::new(each, &consumers, hasher));
        Ok(Self {
            authenticators: authenticators.collect(),
            filters: config
                .filters
                .iter()
                .zip(config.cors.len()..)
                .map(|(each, counter)| FilterPlan::new(each, counter))
                .collect(),
            verifications: Verifications::default(),
            key_asks: KeyAsks::default(),
            bans: config
                .bans
                .iter()
                .zip(config.cors.len() + config.filters.len()..)
                .map(|(each, counter)| BanPlan::new(each, workers, counter))
                .collect::<Result<_, _>>()?,
            error_bodies: config.error_bodies.clone(),
            network_lists: config.network_lists.iter().map(NetworkList::new).collect(),
            listeners: config
                .listeners
                .iter()
                .enumerate()
                .map(|(index, listener)| ListenerPlan::new(index, listener, workers).map(Arc::new))
                .collect::<Result<_, _>>()?,
            table,
            answers_preflights: routes.iter().any(|route| route.enforced_cors().is_some()),
            routes,
            upstreams,
            limits,
            trusted_proxies: Networks::new(&config.client_ip.trusted_proxies),
            client_ip: config.client_ip.clone(),
            hasher,
            origin,
            faults: false,
        })
    }
}

impl Plan {
    /// Puts what `worker` owns of the tables into memory near it.
    pub fn touch(&self, worker: usize) {
        self.limits.iter().for_each(|limit| limit.touch(worker));
        self.bans.iter().for_each(|ban| ban.touch(worker));
    }

    /// Brings buckets that nobody used for long up to date; not for the path of a request.
    pub fn sweep(&self, now: Timestamp) {
        self.limits.iter().for_each(|limit| limit.sweep(now));
        self.bans.iter().for_each(|ban| ban.sweep(now));
    }

    /// The limits' time at `now`; the origin is one for the process, so that all workers agree.
    #[must_use]
    pub fn limits_time(&self, now: Instant) -> Timestamp {
        let since = now.saturating_duration_since(self.origin);
        Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The limits' time at `now` in whole seconds.
    #[must_use]
    pub fn limits_seconds(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.origin);
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    }
}

/// Where an endpoint is, its name in logs, and the Host of a request that has none.
fn resolve(address: &EndpointAddress, addresses: &mut dyn Addresses) -> (Target, String, String) {
    match address {
        EndpointAddress::Socket(address) => {
            let text = address.to_string();
            (Target::Tcp(*address), text.clone(), text)
        }
        EndpointAddress::Unix(path) => {
            let label = format!("unix:{}", path.display());
            (Target::Unix(path.clone()), label, "localhost".to_owned())
        }
        EndpointAddress::Host(host, port) => {
            let text = format!("{host}:{port}");
            let cell = addresses.cell(host, *port);
            (Target::Host(cell), text.clone(), text)
        }
        EndpointAddress::Demo => {
            let target = addresses
                .demo()
                .map_or_else(|| Target::Host(AddressCell::default()), Target::Tcp);
            (target, "builtin:demo".to_owned(), "localhost".to_owned())
        }
    }
}

impl ListenerPlan {
    fn new(index: usize, config: &ListenerConfig, workers: usize) -> Result<Self, String> {
        let clients = config.max_connections_per_client.map(|places| {
            // As many clients as connections, at most.
            let keys = Budget::Keys(config.max_connections.into());
            let shards = NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN);
            Concurrency::new(places.into(), &TableOptions::new(keys).with_shards(shards))
                .map(Arc::new)
                .map_err(|error| format!("listeners.{}: {error}", config.name))
        });
        Ok(Self {
            index,
            hosts: HostSet::new(&config.hosts),
            head_limits: HeadLimits {
                start_line_max: config.request_line_max,
                head_max: config.head_max,
                fields_max: config.fields_max,
            },
            rules: RequestRules {
                fields_max: config.fields_max,
                // Where a name is only counted, it is treated as by default.
                underscore: if config.count_only.contains(&UNDERSCORE) {
                    UnderscoreHeaders::Drop
                } else {
                    config.underscore_headers
                },
                scheme: Scheme::Http,
                rewrite_host: config.rewrite_host,
            },
            config: config.clone(),
            connections: AtomicU32::new(0),
            clients: clients.transpose()?,
        })
    }

    /// Takes a place for a connection of a client, whose key is asked for only where it counts. Given back on drop.
    ///
    /// # Errors
    ///
    /// The name of the cap that is reached: there are `max_connections`, or `max_connections_per_client` of this one.
    pub fn admit(self: &Arc<Self>, client: impl FnOnce() -> Key) -> Result<Place, &'static str> {
        let most = self.config.max_connections.get();
        let count = |count| (count < most).then_some(count + 1);
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            .map_err(|_full| "max_connections")?;
        // From here on dropping the place gives back what was taken.
        let mut place = Place {
            listener: Arc::clone(self),
            client: None,
        };
        if let Some(clients) = &self.clients {
            let permit = Concurrency::enter(Arc::clone(clients), client());
            let permit = permit.map_err(|_full| "max_connections_per_client")?;
            place.client = Some(Box::new(permit));
        }
        Ok(place)
    }

    /// Whether breaking the rule of this name is counted here, and nothing more.
    #[must_use]
    pub fn counts_only(&self, reason: &str) -> bool {
        self.config.count_only.contains(&reason)
    }

    /// Connections at this moment, over all workers.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A place among a listener's connections, and its client's; given back on drop.
#[derive(Debug)]
pub struct Place {
    listener: Arc<ListenerPlan>,
    /// In a box, since most listeners have no such cap and every idle connection has room for this.
    client: Option<Box<Permit<Arc<Concurrency>>>>,
}

impl Place {
    /// Whose place it is.
    #[must_use]
    pub fn listener(&self) -> &ListenerPlan {
        &self.listener
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.listener.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more places given back than taken");
    }
}

/// The address that stands for a client: IPv4 as it is (also where it came mapped into IPv6), IPv6 cut to a prefix.
#[must_use]
pub fn client_of(peer: IpAddr) -> IpAddr {
    peer.to_canonical()
}
