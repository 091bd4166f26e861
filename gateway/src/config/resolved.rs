//! The configuration as the program uses it: every value checked, every name resolved to an index.
//!
//! A value of these types cannot be invalid: the reader (`config::load`) is the only place that builds them from
//! text, and reports everything wrong at once. Nothing here does I/O.

mod route;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
pub use limiter::Rate;

pub use route::{
    AccessConfig, Action, FixedResponse, HeaderEdits, HostPattern, HostRewrite, PathRewrite,
    ROUTE_LIMITS_MAX, ROUTE_NETWORK_LISTS_MAX, Redirect, Rewrite, RouteConfig, SPLIT_MAX,
    SplitPart,
};

use super::balancing::Balance;
use super::bans::BanConfig;
use super::basic_auth::BasicConfig;
use super::cors::CorsConfig;
use super::error::{ConfigWarnings, Position};
use super::error_bodies::ErrorBodiesConfig;
use super::filters::FilterConfig;
use super::forward_auth::ForwardAuthConfig;
use super::health::{HealthConfig, OutlierConfig};
use super::jwt::JwtConfig;
use super::network_lists::NetworkListConfig;
use super::retry::RetryConfig;
use super::security_headers::SecurityHeadersConfig;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads and their rings.
    pub runtime: RuntimeConfig,
    /// Where the admin endpoints listen; `None`: nowhere.
    pub admin: Option<AdminConfig>,
    /// The access log.
    pub access_log: AccessLogConfig,
    /// How a client is recognised.
    pub client_ip: ClientIpConfig,
    /// Listeners in the order of the file; never empty.
    pub listeners: Vec<ListenerConfig>,
    /// Upstreams by index; routes refer to them by that index.
    pub upstreams: Vec<UpstreamConfig>,
    /// Limits by index; routes refer to them by that index.
    pub limits: Vec<LimitConfig>,
    /// Lists of networks by index; routes refer to them by that index.
    pub network_lists: Vec<NetworkListConfig>,
    /// Policies for pages of other origins by index; routes refer to them by that index.
    pub cors: Vec<CorsConfig>,
    /// What requests must be like, by index; routes refer to them by that index.
    pub filters: Vec<FilterConfig>,
    /// Penalties by index; listeners refer to them by that index.
    pub bans: Vec<BanConfig>,
    /// What refusals say by index; listeners and routes refer to them by that index.
    pub error_bodies: Vec<ErrorBodiesConfig>,
    /// Response fields for browsers by index; routes refer to them by that index.
    pub security_headers: Vec<SecurityHeadersConfig>,
    /// Consumers by name, in the order of the file.
    pub consumers: Vec<ConsumerConfig>,
    /// Authenticators by index; routes refer to them by that index. No two have one name.
    pub authenticators: Vec<AuthenticatorConfig>,
    /// Routes in the order of the file.
    pub routes: Vec<RouteConfig>,
    /// What is doubtful and yet served.
    pub warnings: ConfigWarnings,
}

/// One of `[consumers.NAME]`.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Unique name.
    pub name: String,
    /// Groups it belongs to, at most [`GROUPS_MAX`].
    pub groups: Vec<String>,
    /// Its plan.
    pub plan: Option<String>,
}

/// Most groups of a consumer, and of those that a route lets in.
pub const GROUPS_MAX: usize = 32;
/// Most authenticators of a route.
pub const ROUTE_AUTH_MAX: usize = 4;

/// What tells who a caller is.
#[derive(Clone, Debug)]
pub struct AuthenticatorConfig {
    /// Unique among all authenticators.
    pub name: String,
    /// Credentials go on to the upstream.
    pub forward_credentials: bool,
    /// How it tells.
    pub kind: AuthenticatorKind,
}

/// The kinds of authenticators.
#[derive(Clone, Debug)]
pub enum AuthenticatorKind {
    /// One of `[api_keys.NAME]`.
    ApiKeys(ApiKeysConfig),
    /// One of `[jwt.NAME]`.
    Jwt(Box<JwtConfig>),
    /// One of `[basic_auth.NAME]`.
    Basic(BasicConfig),
    /// One of `[forward_auth.NAME]`.
    Forward(Box<ForwardAuthConfig>),
}

macro_rules! algorithms {
    ($($name:ident = $text:literal)+) => {
        /// An algorithm of signatures (RFC 7518, section 3.1, and RFC 8037).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum JwtAlgorithm {
            $(#[doc = $text] $name,)+
        }

        impl JwtAlgorithm {
            /// All of them with their names.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($text, Self::$name),)+];
        }
    };
}

algorithms! {
    Rs256 = "RS256" Rs384 = "RS384" Rs512 = "RS512"
    Ps256 = "PS256" Ps384 = "PS384" Ps512 = "PS512"
    Es256 = "ES256" Es384 = "ES384" EdDsa = "EdDSA"
    Hs256 = "HS256" Hs384 = "HS384" Hs512 = "HS512"
}

impl JwtAlgorithm {
    /// The one with this name; case counts. `none` is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(each, _)| *each == name);
        found.map(|(_, algorithm)| *algorithm)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, each)| *each == self);
        found.map_or("", |(name, _)| *name)
    }

    /// Whether it is made with a secret that both sides know.
    #[must_use]
    pub const fn is_hmac(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// The shortest secret in bytes; 0: it has none.
    #[must_use]
    pub const fn secret_bytes_min(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 0,
        }
    }
}

/// What is particular to `[api_keys.NAME]`.
#[derive(Clone, Debug)]
pub struct ApiKeysConfig {
    /// Where a request holds its key.
    pub from: CredentialPlace,
    /// The file of hashed keys, which is read again while the gateway runs.
    pub file: PathBuf,
    /// What it held when the configuration was read.
    pub keys: Vec<ApiKey>,
    /// The file's state before that.
    pub state: Option<FileState>,
}

/// When a file was last written, its size, and which file it is: what changes when it is written or another takes its
/// place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState(pub(super) (SystemTime, u64, u64));

/// Where a request holds a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialPlace {
    /// In the header with this name, in lower case; in `authorization` after `Bearer`.
    Header(String),
    /// In the query parameter with this name.
    Query(String),
    /// In the cookie with this name.
    Cookie(String),
    /// In `authorization` after `Basic`.
    Basic,
}

/// A line of a file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Whose it is.
    pub consumer: String,
    /// SHA-256 of the key.
    pub digest: [u8; 32],
}

/// `[runtime]`.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Worker threads; `None`: one per core that the process may use (`workers = "auto"`).
    pub workers: Option<NonZeroUsize>,
    /// Pin each worker to its core.
    pub pin_cores: bool,
    /// Which driver to start on.
    pub driver: DriverChoice,
    /// Submission queue entries of each ring, a power of two in 256..=32768.
    pub ring_entries: u32,
    /// After TERM: how long to go on accepting with readiness at 503.
    pub drain_delay: Duration,
    /// After `drain_delay`: how long requests in flight may take.
    pub drain_timeout: Duration,
}

/// `runtime.driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring, or epoll where the ring is refused.
    Auto,
    /// io_uring or no start.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where metrics and the other pages for operators are served.
    pub listen: SocketAddr,
}

/// `[log.access]`.
#[derive(Clone, Debug)]
pub struct AccessLogConfig {
    /// Where records go.
    pub sink: LogSink,
    /// How a record is written.
    pub format: LogFormat,
    /// Where the sink is written, if it is.
    pub position: Option<Position>,
}

/// Where access-log records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSink {
    /// Nowhere: workers make no records.
    Off,
    /// Standard output.
    Stdout,
    /// A file, opened for append and opened again on USR1.
    File(PathBuf),
}

/// How an access-log record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, fields named as OpenTelemetry names them.
    Json,
    /// The combined format of Apache and nginx.
    Combined,
    /// The common format of Apache and nginx.
    Common,
}

/// `[client_ip]`.
#[derive(Clone, Debug)]
pub struct ClientIpConfig {
    /// IPv6 addresses that share this many leading bits are one client; 1..=128.
    pub ipv6_prefix: u8,
    /// Peers that are believed about who their clients are.
    pub trusted_proxies: Vec<IpNet>,
    /// What they say it in.
    pub header: ClientHeader,
}

/// `client_ip.header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientHeader {
    /// X-Forwarded-For.
    XForwardedFor,
    /// Forwarded (RFC 7239).
    Forwarded,
    /// Nothing: the peer is the client, or who the PROXY protocol names.
    Off,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None.
    Off,
    /// The line of text.
    V1,
    /// The binary header.
    V2,
    /// Either, for reading.
    Any,
}

/// One of `[[listeners]]`.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Unique name.
    pub name: String,
    /// TCP address; port 0 asks the kernel for one.
    pub address: SocketAddr,
    /// The header that every connection must begin with.
    pub proxy_protocol: ProxyProtocol,
    /// A request head must be complete this long after its first byte (and a new connection must send one).
    pub header_timeout: Duration,
    /// A kept connection may be idle this long between requests.
    pub idle_timeout: Duration,
    /// A request body may pause this long.
    pub body_timeout: Duration,
    /// A response write may make no progress this long.
    pub write_timeout: Duration,
    /// Slowest request body, bytes per second, counted while the gateway waits for the client; 0: no bound.
    pub min_body_rate: u64,
    /// Slowest response read by a client, bytes per second, counted while a write is blocked; 0: no bound.
    pub min_write_rate: u64,
    /// Connections at once, over all workers.
    pub max_connections: NonZeroU32,
    /// Connections at once from one client address, over all workers; `None`: no such cap.
    pub max_connections_per_client: Option<NonZeroU32>,
    /// Hosts that are served; empty: every one.
    pub hosts: Vec<HostPattern>,
    /// The penalty for clients that are refused again and again: index into `Config::bans`.
    pub ban: Option<usize>,
    /// What its refusals say: index into `Config::error_bodies`.
    pub error_bodies: Option<usize>,
    /// Which worker gets a new connection.
    pub steer: Steer,
    /// How paths are normalised and what is refused.
    pub path_policy: PathPolicy,
    /// What happens to header names with `_`.
    pub underscore_headers: UnderscoreHeaders,
    /// Longest request line in bytes (longer: 414).
    pub request_line_max: u32,
    /// Longest request head in bytes (longer: 431).
    pub head_max: u32,
    /// Most header fields in a request (more: 431).
    pub fields_max: u16,
    /// A client's FIN after a complete request ends the request (otherwise it still gets its answer).
    pub abort_on_client_fin: bool,
    /// An absolute-form target with another authority than Host is served as the target says, not refused.
    pub rewrite_host: bool,
    /// Rules that a request may break here: it is served and counted. Names of reasons.
    pub count_only: Vec<&'static str>,
    /// The gateway's name in `Via`; `None`: no `Via`.
    pub via: Option<String>,
}

/// `listeners.steer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// The kernel's hash of the connection.
    Hash,
    /// By source address, to the worker that owns the client's shard of the limiter.
    SourceIp,
    /// By the core that received the SYN.
    Cpu,
}

/// `listeners.path_policy`, rules 19 to 21 of robustness.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPolicy {
    /// Accepts what real applications send.
    Standard,
    /// Refuses whatever two parsers could read in two ways.
    Strict,
}

/// `listeners.underscore_headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderscoreHeaders {
    /// Not forwarded.
    Drop,
    /// The request gets 400.
    Reject,
    /// Forwarded.
    Allow,
}

/// One of `[upstreams.NAME]`.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Unique name.
    pub name: String,
    /// Where it is; never empty.
    pub endpoints: Vec<EndpointConfig>,
    /// Which of them gets a request.
    pub balance: Balance,
    /// How its endpoints are checked; `None`: not at all.
    pub health: Option<HealthConfig>,
    /// When an endpoint that fails requests is left out; `None`: never.
    pub outlier: Option<OutlierConfig>,
    /// When a request is sent again.
    pub retry: RetryConfig,
    /// How long an endpoint takes to get all of its weight after it was out; `None`: it has it at once.
    pub slow_start: Option<Duration>,
    /// Share of the endpoints of a priority that must be healthy for it to be used.
    pub panic_threshold: u8,
    /// A connection must be established in this time.
    pub connect_timeout: Duration,
    /// The whole response head must be there this long after the request was sent.
    pub first_byte_timeout: Duration,
    /// A response body may pause this long.
    pub idle_timeout: Duration,
    /// An unused pooled connection is closed after this time.
    pub keepalive_timeout: Duration,
    /// Idle connections kept per endpoint and worker.
    pub keepalive_max: u32,
    /// Connections at once to each endpoint, over all workers.
    pub max_connections: NonZeroU32,
    /// Requests in flight at once to each endpoint, over all workers; `None`: no such cap.
    pub max_requests: Option<NonZeroU32>,
    /// Requests that may wait for a place at once, over all workers.
    pub max_pending: u32,
    /// How long one may wait.
    pub pending_timeout: Duration,
    /// The header that every connection begins with; never [`ProxyProtocol::Any`].
    pub proxy_protocol: ProxyProtocol,
    /// Faults of its responses that are forgiven.
    pub tolerate: ResponseFaults,
}

/// A fault of a response that an upstream can be forgiven: its meaning is clear even so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResponseFault {
    /// Content-Length more than once, the same each time.
    DuplicateContentLength,
    /// Both Content-Length and `Transfer-Encoding: chunked`; the latter counts (RFC 9112 section 6.3).
    LengthAndEncoding,
    /// `Transfer-Encoding: chunked` in HTTP/1.0.
    EncodingInHttp10,
    /// White space between a field's name and the colon; it is removed (RFC 9112 section 5.1).
    BlankBeforeColon,
}

impl ResponseFault {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::DuplicateContentLength,
        Self::LengthAndEncoding,
        Self::EncodingInHttp10,
        Self::BlankBeforeColon,
    ];

    /// As it is written in a file and shown by the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DuplicateContentLength => "duplicate-content-length",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::EncodingInHttp10 => "transfer-encoding-in-http-1-0",
            Self::BlankBeforeColon => "blank-before-colon",
        }
    }
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFaults(u8);

impl ResponseFaults {
    /// No fault.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub const fn insert(&mut self, fault: ResponseFault) {
        self.0 |= 1 << fault as u8;
    }

    /// Whether it is there.
    #[must_use]
    pub const fn contains(self, fault: ResponseFault) -> bool {
        self.0 & (1 << fault as u8) != 0
    }

    /// Those that are there.
    pub fn iter(self) -> impl Iterator<Item = ResponseFault> {
        ResponseFault::ALL
            .into_iter()
            .filter(move |&fault| self.contains(fault))
    }
}

/// One endpoint of an upstream.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Share of the requests relative to the others.
    pub weight: NonZeroU32,
    /// Endpoints of the lowest number that are healthy get the requests.
    pub priority: u8,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
    /// A name resolved on the control thread, and a port.
    Host(String, u16),
    /// The demo upstream built into the gateway (`address = "builtin:demo"`).
    Demo,
}

/// One of `[limits.NAME]`.
#[derive(Clone, Debug)]
pub struct LimitConfig {
    /// Unique name.
    pub name: String,
    /// What the limit counts by, all of it together: 1 to [`LIMIT_KEY_PARTS_MAX`] parts.
    pub key: Vec<KeyPart>,
    /// Units per period.
    pub rate: Rate,
    /// Units that may come at once.
    pub burst: NonZeroU64,
    /// What a refusal does.
    pub mode: LimitMode,
    /// Size of the table.
    pub max_keys: MaxKeys,
    /// Status of a refusal, 400..=599.
    pub status: u16,
    /// What some keys get instead, at most [`LIMIT_OVERRIDES_MAX`]; no key twice.
    pub overrides: Vec<OverrideConfig>,
}

/// Most parts of a limit's key.
pub const LIMIT_KEY_PARTS_MAX: usize = 4;
/// Most overrides of a limit.
pub const LIMIT_OVERRIDES_MAX: usize = 1024;

/// `limits.NAME.max_keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxKeys {
    /// As many keys as fit into so many bytes.
    Bytes(NonZeroU64),
    /// As many bytes as so many keys take.
    Keys(NonZeroU64),
}

/// One of `limits.NAME.overrides`: what a listed key gets instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideConfig {
    /// Whom it is for.
    pub key: OverrideKey,
    /// Rate and burst; `None`: those of the limit.
    pub quota: Option<(Rate, NonZeroU64)>,
    /// What a refusal does; `Off`: the key is not limited.
    pub mode: LimitMode,
}

/// Whom an override is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OverrideKey {
    /// Client addresses in a network (a single one has all bits); of several networks the longest counts.
    Network(IpNet),
    /// This key, with a value for each part.
    Values(Vec<OverrideValue>),
    /// Every consumer with this plan.
    Plan(String),
}

/// The value of one part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OverrideValue {
    /// Of a client's address.
    Address(IpAddr),
    /// Of any other part, as it is counted: decoded, a host in lower case.
    Text(String),
}

/// A part of what a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// The client's address (IPv6 by `client_ip.ipv6_prefix`).
    ClientIp,
    /// The value of the request header with this name, in lower case.
    Header(String),
    /// The value of the cookie with this name.
    Cookie(String),
    /// The value of the query parameter with this name.
    Query(String),
    /// The segment of the path with this number, from 1.
    Path(NonZeroU8),
    /// The host, in lower case and without port.
    Host,
    /// The route.
    Route,
    /// The consumer that an authenticator named.
    Consumer,
    /// That consumer's plan.
    Plan,
    /// A claim of the token that it came with.
    Claim(String),
}

impl KeyPart {
    /// Whether it is known only of a caller that an authenticator has named.
    #[must_use]
    pub const fn is_of_caller(&self) -> bool {
        matches!(self, Self::Consumer | Self::Plan | Self::Claim(_))
    }
}

impl fmt::Display for KeyPart {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path(number) => write!(f, "path:{number}"),
            Self::Host => f.write_str("host"),
            Self::Route => f.write_str("route"),
            Self::Consumer => f.write_str("consumer"),
            Self::Plan => f.write_str("plan"),
            Self::Claim(name) => write!(f, "jwt:{name}"),
        }
    }
}

/// What a refusal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitMode {
    /// Refuses the request.
    Enforce,
    /// Counts and logs, never refuses.
    Shadow,
    /// Nothing is decided.
    Off,
}
