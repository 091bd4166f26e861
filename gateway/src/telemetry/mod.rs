//! Every metric name and log field in one place, the per-worker counters, and the access record on its way out of a
//! worker. A leaf: imports nothing of the gateway, so that both planes may use it.

mod counter;
mod endpoints;
pub mod kinds;
pub mod log;
pub mod metrics;
pub mod names;
pub mod process;
pub mod record;
pub mod render;
pub mod ring;
mod series;
pub mod time;
pub mod top;

pub use counter::{BUCKET_BOUNDS_NS, Spent};
pub use endpoints::{EndpointSample, UpstreamSamples};
pub use kinds::{
    AskOutcome, End, FilterOutcome, LimitOutcome, Method, NetworkOutcome, Scheme, Timeout,
    UpstreamConnectionState, UpstreamError, Version,
};
pub use metrics::{
    KeySetCounts, MetricsShape, MetricsWriter, ProcessMetrics, REASONS_MAX, WorkerMetrics,
};
pub use record::{AccessRecord, RecordAddress};
pub use render::{Labels, LimitSample, render};
pub use ring::{LogReader, LogWriter};
pub use series::SERIES_MAX;
