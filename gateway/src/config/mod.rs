//! The configuration: TOML text in, checked values out. A leaf: imports nothing of the gateway.

mod resolved;

pub use resolved::{
    AccessLogConfig, Action, AdminConfig, ClientIpConfig, Config, DriverChoice, EndpointAddress,
    EndpointConfig, FixedResponse, HostPattern, LimitConfig, LimitKey, LimitMode, ListenerConfig,
    LogFormat, LogSink, PathPattern, PathPolicy, Rate, RouteConfig, RuntimeConfig, Steer,
    UnderscoreHeaders, UpstreamConfig,
};
