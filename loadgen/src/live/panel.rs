//! What stands on the panel: text only, given what happened; where it goes is not its business.

use std::collections::VecDeque;

use crate::plan::{Mode, Plan};
use crate::report::time;
use crate::series::{Interval, Snapshot, quantile_us};
use crate::stats::{Stats, Times};

/// Seconds in the little charts.
const SPARKS: usize = 40;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Cells of the bar of progress.
const PROGRESS: usize = 24;

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
}

/// A line in pieces.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<(Look, String)>);

impl Line {
    fn with(mut self, look: Look, text: impl Into<String>) -> Self {
        self.0.push((look, text.into()));
        self
    }

    /// Cut to a width.
    fn within(mut self, columns: usize) -> Self {
        let mut left = columns;
        for (_, text) in &mut self.0 {
            let cut: String = text.chars().take(left).collect();
            left -= cut.chars().count();
            *text = cut;
        }
        self
    }

    /// Appends it to `page`.
    pub(super) fn write(&self, page: &mut String, coloured: bool) {
        for (look, text) in &self.0 {
            let code = match look {
                Look::Plain => None,
                Look::Bold => Some("1"),
                Look::Dim => Some("2"),
                Look::Good => Some("32"),
                Look::Bad => Some("1;31"),
            };
            match code.filter(|_| coloured && !text.is_empty()) {
                Some(code) => {
                    page.push_str("\x1b[");
                    page.push_str(code);
                    page.push('m');
                    page.push_str(text);
                    page.push_str("\x1b[0m");
                }
                None => page.push_str(text),
            }
        }
    }
}

/// A run as it stands.
#[derive(Debug)]
pub(super) struct Panel {
    title: String,
    remark: String,
    open_loop: bool,
    warmup_s: u64,
    /// With the warm-up.
    whole_s: Option<u64>,
    /// Instead of a time.
    requests: Option<u64>,
    /// What the rate should be.
    intended: Option<f64>,
    lag_max_us: f64,
    seconds: u64,
    rates: VecDeque<f64>,
    p99_us: VecDeque<f64>,
    last: Option<Second>,
    total: Option<Total>,
}

/// The last second.
#[derive(Debug)]
struct Second {
    interval: Interval,
    latency: Row,
}

/// What happened so far.
#[derive(Debug)]
struct Total {
    ended: u64,
    failed: u64,
    errors: String,
    waited: u64,
    latency: Row,
    lag: Option<f64>,
}

/// Some percentiles, in microseconds.
#[derive(Debug)]
struct Row([Option<f64>; 5]);

const COLUMNS: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

impl Row {
    fn of(times: &Times) -> Self {
        Self(COLUMNS.map(|(_, quantile)| quantile_us(times, quantile)))
    }

    fn text(row: Option<&Self>) -> String {
        let cells = row.map_or([None; 5], |row| row.0);
        cells
            .iter()
            .map(|us| format!("{:>9}", or_dash(*us)))
            .collect()
    }
}

impl Panel {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut panel = Self {
            title: plan.target.to_string(),
            remark: String::new(),
            open_loop: plan.mode.is_open(),
            warmup_s: 0,
            whole_s: None,
            requests: None,
            intended: None,
            lag_max_us: f64::INFINITY,
            seconds: 0,
            rates: VecDeque::with_capacity(SPARKS),
            p99_us: VecDeque::with_capacity(SPARKS),
            last: None,
            total: None,
        };
        panel.begin(plan, "");
        panel
    }

    /// Another run begins; the charts go on.
    pub(super) fn begin(&mut self, plan: &Plan, remark: &str) {
        let duration = plan.duration;
        self.remark = if remark.is_empty() {
            describe(plan)
        } else {
            remark.to_owned()
        };
        self.warmup_s = plan.warmup.as_secs();
        self.whole_s = duration.map(|duration| {
            let whole = plan.warmup.saturating_add(duration).as_secs_f64().ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a duration is not below 0; beyond what fits, the greatest will do"
            )]
            let whole = whole as u64;
            whole
        });
        self.requests = plan.requests;
        self.intended = duration.and_then(|duration| plan.mode.mean_per_second(duration));
        self.lag_max_us = plan.lag_max.as_secs_f64() * 1e6;
        self.seconds = 0;
        self.last = None;
        self.total = None;
    }

    /// One more second.
    pub(super) fn add(&mut self, snapshot: Snapshot<'_>) {
        let Snapshot {
            interval,
            second,
            total,
        } = snapshot;
        self.seconds = interval.start_s + 1;
        let latency = second.latency(self.open_loop);
        push(
            &mut self.rates,
            (interval.ended.responses + interval.ended.warmup) as f64,
        );
        push(&mut self.p99_us, interval.ended.p99_us.unwrap_or_default());
        self.last = Some(Second {
            interval: interval.clone(),
            latency: Row::of(&latency),
        });
        self.total = Some(Total {
            ended: total.responses() + total.failed(),
            failed: total.failed(),
            errors: errors(total),
            waited: total.waited,
            latency: Row::of(&total.latency(self.open_loop)),
            lag: quantile_us(&total.lag, 0.99),
        });
    }

    /// As it looks on a terminal of so many columns.
    pub(super) fn lines(&self, columns: usize) -> Vec<Line> {
        let line = || Line::default();
        let label = |text: &str| line().with(Look::Dim, format!(" {text:<10}"));
        let names: String = COLUMNS
            .iter()
            .map(|(name, _)| format!("{name:>9}"))
            .collect();
        let last = self.last.as_ref();
        let total = self.total.as_ref();
        let mut lines = vec![
            line()
                .with(Look::Bold, format!(" {}", self.title))
                .with(Look::Plain, format!("  {}", self.remark)),
            self.progress(),
            self.rate(label("rate")),
            label("latency").with(Look::Dim, names),
            label("  now").with(Look::Plain, Row::text(last.map(|last| &last.latency))),
            label("  so far").with(Look::Plain, Row::text(total.map(|total| &total.latency))),
            label("  p99").with(Look::Plain, sparkline(&self.p99_us)),
            errors_line(label("errors"), total),
        ];
        if self.open_loop {
            lines.push(self.lag(label("lag")));
        }
        lines.into_iter().map(|line| line.within(columns)).collect()
    }

    fn progress(&self) -> Line {
        let ended = self.total.as_ref().map_or(0, |total| total.ended);
        let time_share = self.whole_s.map(|whole| share(self.seconds, whole));
        let count_share = self.requests.map(|all| share(ended, all));
        // Whichever comes first ends the run.
        let done = time_share
            .into_iter()
            .chain(count_share)
            .fold(0.0, f64::max);
        let phase = if self.seconds < self.warmup_s {
            "warm-up"
        } else {
            ""
        };
        let of = match (self.whole_s, self.requests) {
            (_, Some(all)) => format!(" {} s, {ended} of {all} requests", self.seconds),
            (Some(whole), None) => format!(" {} of {whole} s", self.seconds),
            (None, None) => format!(" {} s", self.seconds),
        };
        Line::default()
            .with(Look::Good, format!(" {}", bar(done)))
            .with(Look::Plain, of)
            .with(Look::Dim, format!("  {phase}"))
    }

    fn rate(&self, line: Line) -> Line {
        let now = self
            .last
            .as_ref()
            .map(|last| last.interval.ended.responses + last.interval.ended.warmup);
        let of = match self.intended {
            Some(intended) if self.open_loop => format!(" of {:<9}", format!("{intended:.0}/s")),
            _ => " ".repeat(13),
        };
        line.with(
            Look::Bold,
            format!(
                "{:>11}",
                now.map_or_else(|| "-".into(), |now| format!("{now}/s"))
            ),
        )
        .with(Look::Plain, of)
        .with(Look::Plain, sparkline(&self.rates))
    }

    fn lag(&self, line: Line) -> Line {
        let now = self.last.as_ref().and_then(|last| last.interval.lag_p99_us);
        let total = self.total.as_ref();
        let bound = total
            .and_then(|total| total.lag)
            .is_some_and(|lag| lag > self.lag_max_us);
        let look = if bound { Look::Bad } else { Look::Plain };
        let waited = total.map_or(0, |total| total.waited);
        let waits = if waited > 0 {
            format!("  {waited} requests waited for a connection")
        } else {
            String::new()
        };
        line.with(Look::Plain, format!("p99{:>8} now", or_dash(now)))
            .with(
                look,
                format!(
                    "{:>9} so far{}",
                    or_dash(total.and_then(|total| total.lag)),
                    if bound { ": generator-bound" } else { "" }
                ),
            )
            .with(Look::Plain, waits)
    }
}

fn errors_line(line: Line, total: Option<&Total>) -> Line {
    match total {
        Some(total) if total.failed > 0 => {
            let percent = total.failed as f64 / total.ended.max(1) as f64 * 100.0;
            line.with(Look::Bad, format!("{:>9} ({percent:.3} %)", total.failed))
                .with(Look::Plain, format!("  {}", total.errors))
        }
        Some(_) => line.with(Look::Good, format!("{:>9}", 0)),
        None => line.with(Look::Plain, format!("{:>9}", "-")),
    }
}

/// What a run does, in a few words.
fn describe(plan: &Plan) -> String {
    match &plan.mode {
        Mode::Closed => format!("closed loop, {} connections", plan.connections),
        Mode::Open { rate, .. } => format!("open loop, {rate}/s"),
        Mode::Replay { log, .. } => format!("replay of {}", log.file.display()),
    }
}

fn errors(stats: &Stats) -> String {
    let kinds = stats.failures.iter();
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    kinds.join(", ")
}

fn push(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == SPARKS {
        values.pop_front();
    }
    values.push_back(value);
}

fn share(part: u64, whole: u64) -> f64 {
    (part as f64 / whole.max(1) as f64).min(1.0)
}

fn or_dash(us: Option<f64>) -> String {
    us.map_or_else(|| "-".to_owned(), time)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a few cells"
)]
fn bar(done: f64) -> String {
    let full = (done.clamp(0.0, 1.0) * PROGRESS as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(PROGRESS - full)
}

/// The last seconds as bars between their least and their greatest, on a scale of factors; nothing is a gap.
fn sparkline(values: &VecDeque<f64>) -> String {
    let logarithms = || {
        values
            .iter()
            .filter(|&&value| value > 0.0)
            .map(|value| value.ln())
    };
    let low = logarithms().fold(f64::INFINITY, f64::min);
    let high = logarithms().fold(f64::NEG_INFINITY, f64::max);
    let bar = |&value: &f64| {
        if value <= 0.0 {
            return ' ';
        }
        // Less than a tenth between least and greatest is flat: noise shall not look like mountains.
        let share = (value.ln() - low) / (high - low).max(0.1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 7"
        )]
        let bar = (share * 7.0).round() as usize;
        BARS[bar.min(7)]
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Part, Series};

    fn panel(open_loop: bool) -> Panel {
        Panel {
            title: "http://127.0.0.1:8080/".into(),
            remark: "open loop, 20k/s".into(),
            open_loop,
            warmup_s: 2,
            whole_s: Some(10),
            requests: None,
            intended: Some(20_000.0),
            lag_max_us: 5_000.0,
            seconds: 0,
            rates: VecDeque::new(),
            p99_us: VecDeque::new(),
            last: None,
            total: None,
        }
    }

    fn text(panel: &Panel, columns: usize) -> Vec<String> {
        let lines = panel.lines(columns);
        lines
            .iter()
            .map(|line| {
                let mut text = String::new();
                line.write(&mut text, false);
                text
            })
            .collect()
    }

    /// A second with 100 responses of 1 to 100 ms, sent 10 ms late, and two failures.
    fn second(panel: &mut Panel, second: u64) {
        let mut stats = Stats::new(1);
        for milliseconds in 1..=100_u64 {
            stats
                .from_intended
                .record(milliseconds * 1_000_000)
                .unwrap();
            stats.at_once.record(milliseconds * 1_000_000).unwrap();
            stats.lag.record(10_000_000).unwrap();
            stats.count_status(200);
        }
        stats.fail(crate::stats::Failure::Reset, String::new);
        stats.fail(crate::stats::Failure::Timeout, String::new);
        let mut series = Series::new(1, 1000, panel.open_loop, 1);
        let part = Part {
            thread: 0,
            slice: second,
            stats,
            last: false,
        };
        series.add(part, &mut Vec::new(), &mut |snapshot| panel.add(snapshot));
    }

    #[test]
    fn it_shows_rate_percentiles_errors_and_lag() {
        let mut panel = panel(true);
        for each in 0..3 {
            second(&mut panel, each);
        }
        let page = text(&panel, 100).join("\n");
        for part in [
            "http://127.0.0.1:8080/  open loop, 20k/s",
            "3 of 10 s",
            "100/s of 20000/s",
            "p50      p90      p99    p99.9      max",
            "50 ms    90 ms    99 ms   100 ms   100 ms",
            "2 (1.961 %)  reset 1, timeout 1",
            "generator-bound",
            "▁▁▁",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
    }

    #[test]
    fn it_has_its_lines_from_the_start_and_fits_any_width() {
        let mut panel = panel(true);
        let lines = text(&panel, 80).len();
        second(&mut panel, 0);
        for columns in [1, 60, 80, 300] {
            let page = text(&panel, columns);
            assert_eq!(page.len(), lines, "what is drawn over has as many lines");
            assert!(
                page.iter().all(|line| line.chars().count() <= columns),
                "{page:?}"
            );
        }
    }

    #[test]
    fn a_closed_loop_has_no_lag_and_the_warm_up_is_named() {
        let mut panel = panel(false);
        second(&mut panel, 0);
        let page = text(&panel, 80).join("\n");
        assert!(!page.contains("lag") && page.contains("warm-up"), "{page}");
    }

    #[test]
    fn colours_are_left_out_where_they_are_not_wanted() {
        let line = Line::default().with(Look::Bad, "x").with(Look::Plain, "y");
        let (mut plain, mut coloured) = (String::new(), String::new());
        line.write(&mut plain, false);
        line.write(&mut coloured, true);
        assert_eq!(
            (plain.as_str(), coloured.as_str()),
            ("xy", "\x1b[1;31mx\x1b[0my")
        );
    }

    #[test]
    fn the_sparkline_spans_least_to_greatest() {
        assert_eq!(sparkline(&VecDeque::from([1.0, 10.0, 100.0])), "▁▅█");
        assert_eq!(sparkline(&VecDeque::from([5.0, 5.01, 0.0])), "▁▁ ");
        assert_eq!(sparkline(&VecDeque::new()), "");
    }
}
