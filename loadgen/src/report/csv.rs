//! The seconds of a run as CSV (RFC 4180), for a spreadsheet or a plot.

use std::fmt::Write;

use super::Report;

/// One line per second, with a header line; a cell is empty where there is nothing to say.
#[must_use]
pub fn csv(report: &Report) -> String {
    let mut page = String::from(
        "start_s,warmup,responses,failed,p50_us,p90_us,p99_us,p99_9_us,max_us,lag_p99_us\r\n",
    );
    let cell = |us: Option<f64>| us.map_or_else(String::new, |us| format!("{us:.3}"));
    for interval in &report.intervals {
        let written = write!(
            page,
            "{},{},{},{},{},{},{},{},{},{}\r\n",
            interval.start_s,
            interval.ended.warmup,
            interval.ended.responses,
            interval.ended.failed,
            cell(interval.ended.p50_us),
            cell(interval.ended.p90_us),
            cell(interval.ended.p99_us),
            cell(interval.ended.p99_9_us),
            cell(interval.ended.max_us),
            cell(interval.lag_p99_us)
        );
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
    page
}
