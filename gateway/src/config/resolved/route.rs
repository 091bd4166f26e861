//! Routes as the program uses them, and what each does with its requests.

use std::time::Duration;

use crate::config::filters::RouteFilters;
use crate::config::matching::{Conditions, PathPattern};
use crate::config::template::Template;

/// One of `[[routes]]`.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Unique name.
    pub name: String,
    /// Hosts it serves; empty: every host that no other route names.
    pub hosts: Vec<HostPattern>,
    /// Paths it serves.
    pub path: PathPattern,
    /// The path is compared without ASCII case.
    pub ignore_case: bool,
    /// What a request must have besides.
    pub conditions: Conditions,
    /// What is done with a request.
    pub action: Action,
    /// Indices into `Config::network_lists`, asked in this order; at most [`ROUTE_NETWORK_LISTS_MAX`].
    pub network_lists: Vec<usize>,
    /// What else may refuse a request.
    pub filters: RouteFilters,
    /// Who may use it.
    pub access: AccessConfig,
    /// Indices into `Config::limits`, in the order of the file; at most [`ROUTE_LIMITS_MAX`].
    pub limits: Vec<usize>,
    /// Longest request body; `None`: unlimited.
    pub max_body: Option<u64>,
    /// The whole exchange must end in this time; `None`: no such limit.
    pub timeout: Option<Duration>,
    /// How often a request is sent again at most; `None`: as often as its upstream would.
    pub retries: Option<u8>,
    /// Protocols to which a request may be upgraded, lower case (`websocket`).
    pub upgrade: Vec<String>,
    /// Trailer fields pass in both directions, whether or not the receiver asked for them.
    pub trailers: bool,
    /// Longest request head in bytes; `None`: the listener's.
    pub max_head: Option<u32>,
    /// What goes upstream in place of path and host.
    pub rewrite: Rewrite,
    /// Changes of the request's header fields.
    pub request_headers: HeaderEdits,
    /// Changes of the response's header fields.
    pub response_headers: HeaderEdits,
    /// What its refusals say: index into `Config::error_bodies`.
    pub error_bodies: Option<usize>,
}

impl RouteConfig {
    /// Trailers of requests pass. Not where callers are told apart: a client could say in a trailer what only who judges it
    /// may say, and no list of names could hold all that an upstream would believe.
    #[must_use]
    pub fn passes_trailers_up(&self) -> bool {
        self.trailers && self.access.auth.is_empty()
    }
}

/// Most lists of networks of a route.
pub const ROUTE_NETWORK_LISTS_MAX: usize = 4;

/// Who may use a route.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// Indices into `Config::authenticators`, asked in this order; at most `ROUTE_AUTH_MAX` of them. Empty: everybody may.
    pub auth: Vec<usize>,
    /// A request without credentials passes as nobody's.
    pub optional: bool,
    /// The caller is in one of these; empty: whoever it is.
    pub groups: Vec<String>,
}

/// `routes.rewrite`.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The path; `None`: it stays.
    pub path: Option<PathRewrite>,
    /// The Host; `None`: it stays.
    pub host: Option<HostRewrite>,
}

/// How a path is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// By its start. Both without a final slash, so empty where nothing is done.
    Prefix {
        /// What is taken off; the route's path begins with it.
        strip: String,
        /// What is put on.
        add: String,
    },
    /// As a whole.
    Whole(Template),
}

/// What Host goes upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// This one.
    Fixed(String),
    /// The endpoint's address.
    Endpoint,
}

/// Changes of header fields; each name valid and there once.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// Fields that are there once, with this value.
    pub set: Vec<(String, Template)>,
    /// Lines that are added.
    pub add: Vec<(String, Template)>,
    /// Fields that are left out.
    pub remove: Vec<String>,
}

/// `routes.redirect`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Where to, without the query.
    pub to: Template,
    /// The request's query is added.
    pub with_query: bool,
}

/// One of `routes.split`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitPart {
    /// Index of the upstream.
    pub upstream: usize,
    /// Its share relative to the others.
    pub weight: u32,
}

/// Most parts of a split.
pub const SPLIT_MAX: usize = 64;

/// Most limits of a route.
pub const ROUTE_LIMITS_MAX: usize = 8;

/// A host of a route, lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name.
    Exact(String),
    /// `*.NAME`: any name one or more labels below it. Holds `.NAME` with the leading dot.
    Suffix(String),
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward it to the upstream with this index.
    Upstream(usize),
    /// Forward it to one of these.
    Split(Vec<SplitPart>),
    /// Answer it.
    Respond(FixedResponse),
    /// Answer it with a redirect.
    Redirect(Redirect),
}

/// An answer written in the config.
#[derive(Clone, Debug)]
pub struct FixedResponse {
    /// 200..=599.
    pub status: u16,
    /// Header fields in the order of the file, names and values valid; never framing or hop-by-hop fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}
