//! What the benchmarks share: a table of results and its three forms (text, JSON, plot).

pub mod report;
