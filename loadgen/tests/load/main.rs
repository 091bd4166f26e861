//! The program against real servers, by subject. One crate, so that it links once.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside test functions"
)]

mod browser;
mod compare;
mod errors;
mod exit_codes;
mod keys;
mod modes;
mod outputs;
mod replay;
mod scenario;
mod search;
mod stall;
mod support;
mod upstream;
