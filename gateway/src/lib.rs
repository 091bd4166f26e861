//! Ringgate, the gateway: everything but `main`, so that tests, benches and fuzzers reach it.

pub mod banner;
pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod data;
pub mod explain;
pub mod telemetry;
