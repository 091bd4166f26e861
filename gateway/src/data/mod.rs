//! The data plane, in the order of a request's life. Runs on workers only; never imports `control`.

pub mod auth;
mod body;
mod client;
mod clock;
pub mod codec;
mod connection;
mod edit;
mod error;
pub mod explain;
mod fairness;
mod fault;
pub mod filter;
mod forward;
mod log;
mod networks;
mod page;
pub mod plan;
pub mod rehearse;
mod request;
mod request_id;
mod respond;
pub mod route;
mod spell;
mod tunnel;
pub mod upstream;
pub mod verify;
pub mod worker;

pub use error::reasons;

/// What a connection does, and so why its deadline was set: asked for at every end of file, since a deadline that
/// passes looks like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It works on a request and waits for somebody else.
    Busy,
    /// A client between requests.
    Idle,
    /// A client sends a request head.
    Head,
    /// A client sends a request body.
    Body,
    /// A client reads a response.
    Write,
    /// A client is given time to read an answer before the close.
    Linger,
    /// An upstream takes a request, or thinks about it.
    FirstByte,
    /// An upstream sends a response body.
    UpstreamIdle,
    /// The whole exchange has taken too long.
    Route,
    /// An upstream connection in the pool.
    PoolIdle,
    /// An upgraded connection.
    Tunnel,
    /// The worker drains.
    Drain,
    /// The worker ends.
    Stop,
}
