//! What a run shows while it runs: a panel that is written over each second, or a line each second where that cannot be.
//!
//! The main thread draws, from what the threads hand in anyhow: looking costs the threads nothing. Everything goes to standard
//! error, so that standard output has the result alone. The panel stands below what is on the terminal already and goes
//! when the summary comes; nothing is asked of the terminal, and no mode of it is changed, so there is none to restore.

mod panel;

use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

use crate::plan::Plan;
use crate::report::time;
use crate::series::{Interval, Snapshot};
use panel::Panel;

/// Whether and how to show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Show {
    /// On a terminal only.
    #[default]
    Auto,
    /// On a terminal the panel, elsewhere a line per second.
    Always,
    /// Not at all.
    Never,
}

/// A terminal narrower than this gets lines.
const COLUMNS_MIN: usize = 60;
/// What is assumed of one that does not say how wide it is.
const COLUMNS: usize = 80;

/// The view of one run after another.
#[derive(Debug)]
pub(crate) struct Live {
    kind: Kind,
    /// Colours are welcome.
    coloured: bool,
    panel: Panel,
    /// Lines of the panel that are on the terminal, and how wide it was.
    drawn: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    Lines,
    Panel,
}

impl Live {
    /// A view of runs like `plan`.
    pub(crate) fn new(show: Show, plan: &Plan) -> Self {
        let terminal = io::stderr().is_terminal();
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = variable("TERM").is_none_or(|name| name == "dumb");
        Self {
            kind: match show {
                Show::Never => Kind::Nothing,
                Show::Auto if !terminal => Kind::Nothing,
                Show::Auto | Show::Always if !terminal || dumb => Kind::Lines,
                Show::Auto | Show::Always => Kind::Panel,
            },
            coloured: variable("NO_COLOR").is_none(),
            panel: Panel::new(plan),
            drawn: (0, 0),
        }
    }

    /// A run begins; `remark` is what to say of it beside what the plan does.
    pub(crate) fn begin(&mut self, plan: &Plan, remark: &str) {
        self.panel.begin(plan, remark);
        if self.kind == Kind::Panel {
            self.draw();
        } else if self.kind == Kind::Lines && !remark.is_empty() {
            drop(writeln!(io::stderr(), "{remark}"));
        }
    }

    /// Shows one more second.
    pub(crate) fn show(&mut self, snapshot: Snapshot<'_>) {
        match self.kind {
            Kind::Nothing => {}
            Kind::Lines => drop(writeln!(io::stderr(), "{}", line(snapshot.interval))),
            Kind::Panel => {
                self.panel.add(snapshot);
                self.draw();
            }
        }
    }

    /// Leaves the terminal clean for what is printed next.
    pub(crate) fn end(&mut self) {
        let (lines, _) = std::mem::take(&mut self.drawn);
        if lines > 0 {
            // A terminal that is gone is no reason to end a run.
            drop(write!(io::stderr(), "\x1b[{lines}A\r\x1b[J"));
        }
    }

    fn draw(&mut self) {
        let size = tcgetwinsize(io::stderr()).ok();
        let (columns, rows) = size.map_or((COLUMNS, usize::MAX), |size| {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        });
        // Some say 0 for what they do not know.
        let columns = if columns == 0 { COLUMNS } else { columns };
        let rows = if rows == 0 { usize::MAX } else { rows };
        let lines = self.panel.lines(columns.saturating_sub(1));
        if columns < COLUMNS_MIN || rows.saturating_sub(1) < lines.len() {
            // Lines that wrap, or that have scrolled away, cannot be written over.
            self.end();
            self.kind = Kind::Lines;
            return;
        }
        let (before, width_before) = std::mem::replace(&mut self.drawn, (lines.len(), columns));
        let mut text = String::new();
        if before > 0 && columns >= width_before {
            text = format!("\x1b[{before}A\r");
        }
        for line in &lines {
            text.push_str("\x1b[2K");
            line.write(&mut text, self.coloured);
            text.push_str("\r\n");
        }
        text.push_str("\x1b[J");
        let mut err = io::stderr().lock();
        drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
    }
}

/// A second as a line.
fn line(interval: &Interval) -> String {
    let count = interval.ended.responses + interval.ended.warmup;
    let phase = if interval.ended.warmup > interval.ended.responses {
        "  warm-up"
    } else {
        ""
    };
    let time = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), time);
    let lag = interval.lag_p99_us.map_or_else(String::new, |_| {
        format!("  lag {:>7}", time(interval.lag_p99_us))
    });
    format!(
        "{:>4} s {count:>8}/s  p50 {:>7}  p99 {:>7}  max {:>7}{lag}  {} failed{phase}",
        interval.start_s + 1,
        time(interval.ended.p50_us),
        time(interval.ended.p99_us),
        time(interval.ended.max_us),
        interval.ended.failed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Ended;

    #[test]
    fn a_plain_line_is_short() {
        let interval = Interval {
            start_s: 3599,
            ended: Ended {
                warmup: 0,
                responses: 1_000_000,
                failed: 1000,
                p50_us: Some(999.0),
                p90_us: Some(999.0),
                p99_us: Some(999_000.0),
                p99_9_us: Some(999_000.0),
                max_us: Some(1e6),
            },
            lag_p99_us: Some(999.0),
        };
        let line = line(&interval);
        assert!(line.chars().count() <= 100, "{line}");
        assert!(line.contains("1000 failed"), "{line}");
    }
}
