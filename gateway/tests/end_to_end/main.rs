//! The gateway from outside: the real binary, real sockets, and every claim on io_uring and on epoll.
//!
//! One binary for all subjects, so that the helpers are built once and the tests of all of them share the cores.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by a panic"
)]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests are threads that wait for sockets, files and the clock"
)]

#[macro_use]
mod support;

mod access_log;
mod admin;
mod api_keys;
mod balancing;
mod bans;
mod basic_auth;
mod bench;
mod bounds;
mod client_address;
mod closing;
mod cors;
mod descriptors;
mod drain;
mod error_bodies;
mod exceptions;
mod faults;
mod filters;
mod forward_auth;
mod health;
mod jwks;
mod jwt;
mod leaks;
mod limit_keys;
mod limits;
mod names;
mod network_lists;
mod peers;
mod pending;
mod populations;
mod reasons;
mod regression;
mod request_cost;
mod request_path;
mod retries;
mod rewriting;
mod robustness;
mod routes_explained;
mod routing;
mod security_headers;
mod short_way;
mod startup;
mod steering;
mod streaming;
mod tools;
mod tunnels;
mod turns;
mod workers;
