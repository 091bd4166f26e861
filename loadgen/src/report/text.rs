//! The summary for a terminal: it fits a screen of 80 columns.

use std::fmt::{self, Write};

use super::{Latency, Report};

/// The report as lines of text.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut page = String::new();
    let written = write_page(&mut page, report);
    debug_assert!(written.is_ok(), "writing to a string does not fail");
    page
}

/// One line on one run of a search.
#[must_use]
pub fn step(rate_per_second: f64, report: &Report, held: bool) -> String {
    let latency = report
        .latency_from_intended
        .as_ref()
        .unwrap_or(&report.latency_from_send);
    let verdict = match (held, report.verdict.generator_bound) {
        (true, _) => "held",
        (false, true) => "missed: generator-bound",
        (false, false) => "missed",
    };
    format!(
        "{rate_per_second:>10.0}/s  p50 {:>8}  p99 {:>8}  max {:>8}  {} failed  {verdict}",
        time(latency.p50_us),
        time(latency.p99_us),
        time(latency.max_us),
        report.requests.failed
    )
}

fn write_page(page: &mut String, report: &Report) -> fmt::Result {
    writeln!(page, "{}  ({})", report.target, report.address)?;
    writeln!(page, "{}", report.request)?;
    write_mode(page, report)?;
    writeln!(page, "{} ({})\n", report.driver, report.driver_flags)?;
    if let Some(reason) = &report.driver_fallback {
        write_note(page, reason)?;
    }
    let requests = &report.requests;
    writeln!(
        page,
        "requests   {} sent, {} as expected, {} failed",
        requests.sent, requests.succeeded, requests.failed
    )?;
    write!(
        page,
        "rate       {:.1} responses/s",
        report.responses_per_second
    )?;
    if let Some(intended) = report.rate_per_second_intended {
        write!(page, " of {intended:.1}/s intended")?;
    }
    writeln!(page, ", bodies {}/s", bytes(report.body_bytes_per_second))?;
    write!(page, "status    ")?;
    for (status, count) in &report.statuses {
        write!(page, " {status}: {count}")?;
    }
    writeln!(page)?;
    for (kind, count) in &report.errors {
        let example = report.error_examples.get(kind).map_or("", String::as_str);
        writeln!(page, "error      {kind}: {count}  ({example})")?;
    }
    write_latencies(page, report)?;
    let busy: Vec<String> = report
        .cpu
        .busy_ratios
        .iter()
        .map(|ratio| format!("{:.0} %", ratio * 100.0))
        .collect();
    write!(
        page,
        "cpu        {:.2} us per request; busy {}",
        report.cpu.per_request_us,
        busy.join(", ")
    )?;
    match report.memory_peak_bytes {
        Some(peak) => writeln!(page, "; memory at most {}", bytes(peak as f64))?,
        None => writeln!(page)?,
    }
    write_accuracy(page, report)?;
    for judgement in &report.verdict.slo {
        let held = if judgement.held { "held" } else { "MISSED" };
        writeln!(page, "goal       {}: {held}", judgement.goal)?;
    }
    for note in &report.verdict.notes {
        write_note(page, note)?;
    }
    Ok(())
}

/// A note, broken between words so that it fits 80 columns.
fn write_note(page: &mut String, note: &str) -> fmt::Result {
    const COLUMNS: usize = 80 - 11;
    let mut line = String::new();
    let mut head = "note";
    for word in note.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            writeln!(page, "{head:<10} {line}")?;
            line.clear();
            head = "";
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(page, "{head:<10} {line}")
}

fn write_accuracy(page: &mut String, report: &Report) -> fmt::Result {
    let (Some(limit), Some(accuracy)) = (&report.limit, &report.limiter_accuracy) else {
        return Ok(());
    };
    writeln!(
        page,
        "limit      {limit} for each of {} keys: {} granted, {} by the ideal bucket",
        accuracy.keys, accuracy.granted, accuracy.ideal
    )?;
    write!(
        page,
        "           over by {:.3} %, under by {:.3} %",
        accuracy.over_percent, accuracy.under_percent
    )?;
    for (name, worst) in [
        ("over", &accuracy.worst_over),
        ("under", &accuracy.worst_under),
    ] {
        if let Some(worst) = worst {
            write!(
                page,
                "; most {name}: key {} {} of {}",
                worst.key, worst.granted, worst.ideal
            )?;
        }
    }
    if let Some(worst) = &accuracy.worst_second {
        let off = worst.granted as f64 - worst.ideal as f64;
        write!(
            page,
            "\n           worst second: the one from {} s, {} of {} ({:+.2} %)",
            worst.start_s,
            worst.granted,
            worst.ideal,
            off / worst.ideal.max(1) as f64 * 100.0
        )?;
    }
    writeln!(page)
}

fn write_mode(page: &mut String, report: &Report) -> fmt::Result {
    match (&report.rate, report.arrivals, report.pacing) {
        (Some(log), Some("replay"), Some(pacing)) => {
            write!(page, "open loop, replay of {log} ({pacing})")?;
        }
        (Some(rate), Some(arrivals), Some(pacing)) => {
            write!(page, "open loop, {rate} requests/s ({arrivals}, {pacing})")?;
        }
        _ => write!(page, "closed loop")?,
    }
    writeln!(
        page,
        " for {:.1} s after {:.1} s of warm-up",
        report.measured_s, report.warmup_s
    )?;
    if report.connections_max > report.connections {
        write!(page, "{} to ", report.connections)?;
    }
    writeln!(
        page,
        "{}, {}",
        count(report.connections_max, "connection"),
        count(report.threads, "thread")
    )
}

fn count(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn write_latencies(page: &mut String, report: &Report) -> fmt::Result {
    write!(page, "\n{:<15}", "latency")?;
    for column in ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        write!(page, "{column:>9}")?;
    }
    writeln!(page)?;
    let lines = [
        (" from intended", report.latency_from_intended.as_ref()),
        (" from send", Some(&report.latency_from_send)),
        ("   to connect", Some(&report.connect)),
        ("   to 1st byte", Some(&report.first_byte)),
        ("   body", Some(&report.body)),
        (" generator lag", report.lag.as_ref()),
    ];
    for (name, latency) in lines {
        let Some(latency) = latency else { continue };
        write!(page, "{name:<15}")?;
        let Latency {
            mean_us,
            p50_us,
            p90_us,
            p99_us,
            p99_9_us,
            p99_99_us,
            max_us,
            ..
        } = latency;
        for time_us in [mean_us, p50_us, p90_us, p99_us, p99_9_us, p99_99_us, max_us] {
            write!(page, "{:>9}", time(*time_us))?;
        }
        writeln!(page)?;
    }
    for kind in &report.kinds {
        let failed = if kind.failed > 0 {
            format!("  {} failed", kind.failed)
        } else {
            String::new()
        };
        let latency = &kind.latency;
        writeln!(
            page,
            " {:<28}{:>10} responses  p50 {:>7}  p99 {:>7}{failed}",
            kind.name,
            kind.responses,
            time(latency.p50_us),
            time(latency.p99_us)
        )?;
    }
    if report.latency_from_intended.is_none() {
        writeln!(
            page,
            " (closed loop: a slow server is asked less often, which flatters it)"
        )?;
    }
    writeln!(page)
}

/// A time in the unit that gives three or four digits.
pub(crate) fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 0.001 => "0".into(),
        us if us < 10.0 => format!("{us:.2} us"),
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        us if us < 10_000_000.0 => format!("{:.2} s", us / 1e6),
        us => format!("{:.0} s", us / 1e6),
    }
}

fn bytes(number: f64) -> String {
    match number {
        bytes if bytes < 1024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / (1024.0 * 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_broken_between_words() {
        let mut page = String::new();
        write_note(&mut page, &"word ".repeat(40)).unwrap();
        assert!(page.lines().count() > 1, "{page}");
        assert!(page.lines().all(|line| line.len() <= 80), "{page}");
        assert_eq!(page.matches("note ").count(), 1);
        assert_eq!(page.matches("word").count(), 40);
    }

    #[test]
    fn times_keep_three_digits() {
        for (us, text) in [
            (0.5, "0.50 us"),
            (150.4, "150 us"),
            (1_500.0, "1.50 ms"),
            (25_000.0, "25 ms"),
            (2_000_000.0, "2.00 s"),
        ] {
            assert_eq!(time(us), text);
        }
    }
}
