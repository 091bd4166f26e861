//! The configuration: TOML text in, checked values out. A leaf: imports nothing of the gateway.
//!
//! [`load`] reads a file in one pass and reports everything wrong with it at once. Each section has a file of its own
//! that holds one row per key (name, bounds, default, text; see `key`); the reader, its messages and the reference
//! page are made from the rows.

mod address;
mod api_keys;
mod balancing;
mod bans;
mod basic_auth;
mod conditions;
mod consumers;
mod cors;
mod credentials;
mod error;
mod error_bodies;
mod filters;
mod forward_auth;
mod health;
mod interpolate;
mod jwt;
mod key;
mod key_file;
mod key_set;
mod key_url;
mod kind;
mod kind_template;
mod limit_key;
mod limits;
mod listeners;
mod load;
mod matching;
mod nearest;
mod network_lists;
mod password_file;
mod reference;
mod resolved;
mod respond;
mod retry;
mod rewrite;
mod routes;
mod runtime;
mod section;
mod security_headers;
mod telemetry;
mod template;
mod twice;
mod units;
mod upstreams;

pub use balancing::{Balance, HashKey};
pub use bans::{BanAnswer, BanCause, BanConfig};
pub use basic_auth::BasicConfig;
pub use cors::{CORS_FIELDS, CorsConfig, OriginPattern};
pub use error::{ConfigErrors, ConfigWarnings, Position, Problem};
pub use error_bodies::{BodyPiece, ErrorBodiesConfig, ErrorBody, ErrorStatus, Escape};
pub use filters::{FilterConfig, FilterMode, MediaType, ROUTE_FILTERS_MAX, RouteFilters};
pub use forward_auth::{AskMethod, AskTarget, ForwardAuthConfig};
pub use health::{HealthConfig, HttpCheck, OutlierConfig};
pub use jwt::{JwtConfig, JwtKeys};
pub use key_file::{digest, entry, read as read_key_file, state as file_state};
pub use key_set::{KEY_SET_BYTES_MAX, KeySet, Material, VerifyKey, read as read_key_set};
pub use key_url::KeyUrl;
pub use load::{ConfigSource, load};
pub use matching::{
    CLIENT_NETWORKS_MAX, CONDITIONS_MAX, Conditions, EXTENSION_METHODS_MAX, HeaderCondition,
    PATH_CAPTURES_MAX, PATH_REGEXES_PER_HOST_MAX, PATH_SEGMENTS_MAX, PathPattern, PathTemplate,
    Pattern, ROUTES_PER_PATH_MAX, TemplateSegment, ValuePattern,
};
pub(crate) use nearest::did_you_mean;
pub use network_lists::{NetworkListConfig, NetworkMode, NetworkVerdict};
pub use password_file::{
    Hashing, Password, PasswordHash, entry as password_entry, hash as hash_password,
    read as read_password_file,
};
pub use reference::reference;
pub use resolved::{
    AccessConfig, AccessLogConfig, Action, AdminConfig, ApiKey, ApiKeysConfig, AuthenticatorConfig,
    AuthenticatorKind, ClientHeader, ClientIpConfig, Config, ConsumerConfig, CredentialPlace,
    DriverChoice, EndpointAddress, EndpointConfig, FileState, FixedResponse, GROUPS_MAX,
    HeaderEdits, HostPattern, HostRewrite, JwtAlgorithm, KeyPart, LIMIT_KEY_PARTS_MAX,
    LIMIT_OVERRIDES_MAX, LimitConfig, LimitMode, ListenerConfig, LogFormat, LogSink, MaxKeys,
    OverrideConfig, OverrideKey, OverrideValue, PathPolicy, PathRewrite, ProxyProtocol,
    ROUTE_AUTH_MAX, ROUTE_LIMITS_MAX, ROUTE_NETWORK_LISTS_MAX, Rate, Redirect, ResponseFault,
    ResponseFaults, Rewrite, RouteConfig, RuntimeConfig, SPLIT_MAX, SplitPart, Steer,
    UnderscoreHeaders, UpstreamConfig,
};
pub use retry::{RETRIES_MAX, RetryConfig};
pub use security_headers::SecurityHeadersConfig;
pub use template::{Piece, Template, Variable};
