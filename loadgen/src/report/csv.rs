//! The seconds of a run as CSV (RFC 4180), for a spreadsheet or a plot.

use std::fmt::Write;

use super::Report;

/// One line per second, with a header line.
#[must_use]
pub fn csv(report: &Report) -> String {
    let mut page =
        String::from("start_s,warmup,responses,failed,p50_us,p99_us,max_us,lag_p99_us\r\n");
    for interval in &report.intervals {
        let written = write!(
            page,
            "{},{},{},{},{:.3},{:.3},{:.3},{:.3}\r\n",
            interval.start_s,
            interval.warmup,
            interval.responses,
            interval.failed,
            interval.p50_us,
            interval.p99_us,
            interval.max_us,
            interval.lag_p99_us
        );
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
    page
}
