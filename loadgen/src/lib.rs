//! `ringgate-load`: a load generator whose numbers can be trusted.
//!
//! Requests start on an absolute schedule (open loop) or when the last one was answered (closed loop); latency is
//! counted from the intended start and, separately, from the actual send. The generator measures how late it was
//! itself and says when it was the bottleneck.
#![forbid(unsafe_code)]

pub mod accuracy;
mod chunked;
pub mod cli;
mod clock;
mod compare;
mod connection;
mod gateway_config;
pub mod keys;
mod live;
mod nearest;
pub mod plan;
pub mod rate;
pub mod replay;
pub mod report;
pub mod request;
mod response;
mod run;
mod scenario;
pub mod schedule;
pub mod search;
pub mod series;
pub mod slo;
#[cfg(test)]
mod stalled;
mod stats;
pub mod target;
mod template;
mod timer;
pub mod units;
pub mod upstream;
mod worker;
