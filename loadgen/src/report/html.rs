//! The report as one HTML file: no script, no font, nothing loaded; light or dark as the reader's system is.

use std::fmt::{self, Write};

use super::chart::{Axis, Chart, Line, Scale};
use super::text::{text, time};
use super::{Latency, Report};
use crate::series::{Ended, SLICE_S};

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2330;--soft:#5b6675;--grid:#dde2e9;--s1:#1f5fc4;--s2:#b4500a;--s3:#5a7d1a}\
@media(prefers-color-scheme:dark){:root{--bg:#14181f;--fg:#e4e8ee;--soft:#9aa5b4;--grid:#2b323d;--s1:#7fb0ff;--s2:#ffab66;--s3:#a9d15a}}\
body{background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em}\
h1{font-size:1.3em;margin:0 0 .2em;overflow-wrap:anywhere}p.mode{color:var(--soft);margin:0 0 1em}\
pre{font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--grid);border-radius:6px;padding:1em}\
.verdict{font-weight:600}svg{width:100%;height:auto;margin:1em 0}svg text{fill:var(--fg);font:11px system-ui,sans-serif}\
svg .title{font-weight:600;font-size:13px}.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--grid);fill:none}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}.s1{stroke:var(--s1)}.s2{stroke:var(--s2);stroke-dasharray:7 3}\
.s3{stroke:var(--s3);stroke-dasharray:2 3}";

/// The report as a page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    let written = write_page(&mut page, report);
    debug_assert!(written.is_ok(), "writing to a string does not fail");
    page
}

fn write_page(page: &mut String, report: &Report) -> fmt::Result {
    let title = escape(&format!("{} - {}", report.target, report.request));
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - ringgate-load</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n"
    )?;
    write!(
        page,
        "<p class=\"mode\">{} loop, {:.1} s, {}; ringgate-load {}</p>\n<p class=\"verdict\">{}</p>\n",
        report.mode,
        report.measured_s,
        report.driver,
        report.version,
        escape(&verdict(report))
    )?;
    let from = match report.latency_from_intended {
        Some(_) => "from the intended start",
        None => "from the send (closed loop)",
    };
    writeln!(page, "{}", by_percentile(report))?;
    let pieces = pieces(report);
    writeln!(page, "{}", over_time(&pieces, from))?;
    writeln!(page, "{}", throughput(&pieces))?;
    writeln!(page, "<pre>{}</pre>\n</body></html>", escape(&text(report)))
}

fn verdict(report: &Report) -> String {
    let verdict = &report.verdict;
    let mut sentences = vec![if verdict.clean {
        "No errors.".to_owned()
    } else {
        format!("{} requests failed.", report.requests.failed)
    }];
    match verdict.slo_held {
        Some(true) => sentences.push("All goals held.".into()),
        Some(false) => sentences.push("A goal was missed.".into()),
        None => {}
    }
    if verdict.generator_bound {
        sentences.push("The generator was the bottleneck.".into());
    }
    sentences.join(" ")
}

/// Latency against 1 / (1 - quantile), which gives each nine the same room.
fn by_percentile(report: &Report) -> Chart<'_> {
    let line = |name, latency: &Latency| Line {
        name,
        points: latency
            .curve
            .iter()
            .map(|&(quantile, us)| (1.0 / (1.0 - quantile), us))
            .collect(),
    };
    let mut lines = Vec::new();
    if let Some(latency) = &report.latency_from_intended {
        lines.push(line("from the intended start", latency));
    }
    lines.push(line("from the send", &report.latency_from_send));
    if let Some(lag) = &report.lag {
        lines.push(line("generator lag", lag));
    }
    Chart {
        title: "Latency by percentile",
        x: Axis {
            label: "percentile",
            scale: Scale::Decades,
            format: percentile,
        },
        y: Axis {
            label: "latency, log scale",
            scale: Scale::Decades,
            format: time,
        },
        lines,
    }
}

/// 1 is the 0th percentile, 10 the 90th, 100 the 99th.
fn percentile(inverse: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / inverse);
    let text = format!("{percent:.6}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A piece of the run as charts take it: a slice where there are slices, else a second.
struct Piece<'a> {
    start_s: f64,
    length_s: f64,
    ended: &'a Ended,
}

/// The pieces that lie wholly in the run: of a part of one, nothing per second can be said.
fn pieces(report: &Report) -> Vec<Piece<'_>> {
    let seconds = report.intervals.iter().map(|interval| Piece {
        start_s: interval.start_s as f64,
        length_s: 1.0,
        ended: &interval.ended,
    });
    let slices = report.slices.iter().map(|slice| Piece {
        start_s: slice.start_ms as f64 / 1e3,
        length_s: SLICE_S,
        ended: &slice.ended,
    });
    let end_s = report.warmup_s + report.measured_s + 1e-6;
    let inside = |piece: &Piece<'_>| piece.start_s + piece.length_s <= end_s;
    if report.slices.is_empty() {
        seconds.filter(inside).collect()
    } else {
        slices.filter(inside).collect()
    }
}

fn over_time<'a>(pieces: &[Piece<'_>], from: &'a str) -> Chart<'a> {
    let line = |name, value: fn(&Ended) -> Option<f64>| Line {
        name,
        // Where the warm-up ends, too few are left to speak of percentiles.
        points: pieces
            .iter()
            .filter(|piece| piece.ended.warmup == 0)
            .filter_map(|piece| value(piece.ended).map(|us| (piece.start_s, us)))
            .collect(),
    };
    Chart {
        title: "Latency over time",
        x: seconds(),
        y: Axis {
            label: from,
            scale: Scale::Decades,
            format: time,
        },
        lines: vec![
            line("p99", |ended| ended.p99_us),
            line("p50", |ended| ended.p50_us),
            line("max", |ended| ended.max_us),
        ],
    }
}

fn throughput(pieces: &[Piece<'_>]) -> Chart<'static> {
    let line = |name, value: fn(&Ended) -> u64| Line {
        name,
        points: pieces
            .iter()
            .map(|piece| (piece.start_s, value(piece.ended) as f64 / piece.length_s))
            .collect(),
    };
    Chart {
        title: "Throughput, warm-up included",
        x: seconds(),
        y: Axis {
            label: "per second",
            scale: Scale::Linear,
            format: |value| format!("{value:.0}"),
        },
        lines: vec![
            line("responses", |ended| ended.warmup + ended.responses),
            line("failed", |ended| ended.failed),
        ],
    }
}

const fn seconds() -> Axis<'static> {
    Axis {
        label: "seconds since the start of the warm-up",
        scale: Scale::Linear,
        format: |value| {
            // A quarter of a short run may be a fraction.
            if value.fract() == 0.0 {
                format!("{value:.0}")
            } else {
                format!("{value}")
            }
        },
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_written_without_trailing_zeros() {
        for (inverse, text) in [
            (1.0, "0 %"),
            (10.0, "90 %"),
            (1000.0, "99.9 %"),
            (1e6, "99.9999 %"),
        ] {
            assert_eq!(percentile(inverse), text);
        }
    }

    #[test]
    fn text_from_outside_is_escaped() {
        assert_eq!(escape("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
