//! What a run does while it runs: one line that is written over each second, or plain lines where that cannot be.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use crate::report::time;
use crate::series::Interval;

/// Whether and how to show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Show {
    /// On a terminal only.
    #[default]
    Auto,
    /// On a terminal one line that changes, elsewhere a line per second.
    Always,
    /// Not at all.
    Never,
}

/// Seconds in the little chart.
const SPARKS: usize = 24;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The view, on standard error, so that standard output has the result alone.
#[derive(Debug)]
pub(crate) struct Live {
    shown: bool,
    /// The line can be written over.
    rewrites: bool,
    p99_us: VecDeque<f64>,
}

impl Live {
    pub(crate) fn new(show: Show) -> Self {
        let rewrites = io::stderr().is_terminal();
        Self {
            shown: show == Show::Always || (show == Show::Auto && rewrites),
            rewrites,
            p99_us: VecDeque::with_capacity(SPARKS),
        }
    }

    /// Shows one more second.
    pub(crate) fn show(&mut self, interval: &Interval) {
        if !self.shown {
            return;
        }
        if self.p99_us.len() == SPARKS {
            self.p99_us.pop_front();
        }
        self.p99_us.push_back(interval.p99_us);
        let line = line(interval, &self.p99_us);
        let mut err = io::stderr().lock();
        // A terminal that is gone is no reason to end a run.
        drop(if self.rewrites {
            write!(err, "\r\x1b[2K{line}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{line}")
        });
    }

    /// Leaves the terminal clean for the summary.
    pub(crate) fn end(&self) {
        if self.shown && self.rewrites {
            drop(write!(io::stderr(), "\r\x1b[2K"));
        }
    }
}

fn line(interval: &Interval, p99_us: &VecDeque<f64>) -> String {
    let count = interval.responses + interval.warmup;
    let phase = if interval.warmup > interval.responses {
        "warm-up"
    } else {
        ""
    };
    format!(
        "{:>4} s {count:>8}/s  p50 {:>7}  p99 {:>7}  lag {:>7}  {} failed {phase} {}",
        interval.start_s + 1,
        time(interval.p50_us),
        time(interval.p99_us),
        time(interval.lag_p99_us),
        interval.failed,
        sparkline(p99_us)
    )
}

/// The last seconds' p99 as bars between their least and their greatest, on a scale of factors.
fn sparkline(values: &VecDeque<f64>) -> String {
    let logarithm = |value: &f64| value.max(1.0).ln();
    let low = values.iter().map(logarithm).fold(f64::INFINITY, f64::min);
    let high = values
        .iter()
        .map(logarithm)
        .fold(f64::NEG_INFINITY, f64::max);
    values
        .iter()
        .map(|value| {
            let share = (logarithm(value) - low) / (high - low).max(f64::MIN_POSITIVE);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 7"
            )]
            let bar = (share * 7.0).round() as usize;
            BARS[bar.min(7)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparkline_spans_least_to_greatest() {
        assert_eq!(sparkline(&VecDeque::from([1.0, 10.0, 100.0])), "▁▅█");
        assert_eq!(sparkline(&VecDeque::from([5.0, 5.0])), "▁▁");
        assert_eq!(sparkline(&VecDeque::new()), "");
    }

    #[test]
    fn a_line_fits_a_terminal() {
        let interval = Interval {
            start_s: 3599,
            warmup: 0,
            responses: 1_000_000,
            failed: 1000,
            p50_us: 999.0,
            p99_us: 999_000.0,
            max_us: 1e6,
            lag_p99_us: 999.0,
        };
        let line = line(&interval, &VecDeque::from([1.0; SPARKS]));
        assert!(line.chars().count() <= 110, "{line}");
        assert!(line.contains("1000 failed"), "{line}");
    }
}
