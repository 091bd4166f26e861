//! What is allocated, counted by an allocator that notes what single threads ask it for: nothing for a request, few bytes for an
//! idle connection, and no more for a list of networks than the documentation says.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests' own threads wait for sockets"
)]

mod counting;
mod idle_connections;
mod network_lists;
mod requests;
mod support;
mod telemetry;
