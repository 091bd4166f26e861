//! Two runs side by side: which difference is more than noise.
//!
//! The seconds of a run are its samples. Two runs of the same thing differ from second to second, and a difference
//! between runs counts only when it is large against that. Neighbouring seconds are alike (a garbage collection, a
//! neighbour on the machine), so the number of samples is corrected for their correlation. What is compared are the
//! means of the logarithms, which makes a shift a factor, by Welch's t; the bounds are at 95 % for all measures
//! together (Bonferroni).

use std::fmt::Write;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::series::Interval;

/// The parts of a report that are compared.
#[derive(Debug, Deserialize)]
struct Document {
    schema: String,
    target: String,
    mode: String,
    rate: Option<String>,
    intervals: Vec<Interval>,
    latency_from_intended: Option<Percentiles>,
    latency_from_send: Percentiles,
}

#[derive(Debug, Deserialize)]
struct Percentiles {
    p99_9_us: f64,
    p99_99_us: f64,
    max_us: f64,
}

/// How a measure differs between two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shift {
    /// The second run over the first, less 1.
    pub(crate) ratio: f64,
    /// Bounds of that.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The outcome for all measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    NoDifference,
    Better,
    Worse,
    /// Too few whole seconds.
    Unknown,
}

/// Whole seconds of measurement that a run needs.
const SECONDS_MIN: usize = 5;

type Measure = (&'static str, fn(&Interval) -> f64, Good);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Good {
    Low,
    High,
}

const MEASURES: [Measure; 3] = [
    ("p50", |interval| interval.p50_us, Good::Low),
    ("p99", |interval| interval.p99_us, Good::Low),
    (
        "responses/s",
        |interval| interval.responses as f64,
        Good::High,
    ),
];

/// The normal deviate at 1 - 0.05 / 2 / 3: 95 % for three measures together.
const DEVIATE: f64 = 2.394;

/// Compares two reports written by `--json`; the text to show and what it comes to.
///
/// # Errors
///
/// A file cannot be read or is no report.
pub(crate) fn compare(before: &Path, after: &Path) -> io::Result<(String, Finding)> {
    let (first, second) = (read(before)?, read(after)?);
    let mut page = String::new();
    let written = write_page(&mut page, &first, &second);
    written
        .map_err(|_| io::Error::other("writing to a string failed"))
        .map(|finding| (page, finding))
}

fn read(path: &Path) -> io::Result<Document> {
    let wrong = |why: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {why}", path.display()),
        )
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let document: Document =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if document.schema != "ringgate-load/1" {
        return Err(wrong(format!(
            "schema {} is not ringgate-load/1",
            document.schema
        )));
    }
    Ok(document)
}

fn write_page(
    page: &mut String,
    first: &Document,
    second: &Document,
) -> Result<Finding, std::fmt::Error> {
    for (name, run) in [("before", first), ("after", second)] {
        let rate = run
            .rate
            .as_deref()
            .map_or(String::new(), |rate| format!(" at {rate}/s"));
        writeln!(
            page,
            "{name:<8}{}  {} loop{rate}, {} whole seconds",
            run.target,
            run.mode,
            seconds(run).len()
        )?;
    }
    if (&first.mode, &first.rate) != (&second.mode, &second.rate) {
        writeln!(page, "note    the runs were not made the same way")?;
    }
    writeln!(
        page,
        "\n{:<14}{:>12}{:>12}{:>10}   95 % sure to be in",
        "", "before", "after", "shift"
    )?;
    let mut finding = Finding::NoDifference;
    for (name, measure, good) in MEASURES {
        let (before, after) = (samples(first, measure), samples(second, measure));
        let Some(shift) = shift(&before, &after) else {
            writeln!(
                page,
                "{name:<14}too few seconds to say: {SECONDS_MIN} whole ones are needed"
            )?;
            finding = Finding::Unknown;
            continue;
        };
        let found = judge(shift, good);
        writeln!(
            page,
            "{name:<14}{:>12.1}{:>12.1}{:>+9.1} %   {:+.1} % to {:+.1} %   {}",
            geometric_mean(&before),
            geometric_mean(&after),
            shift.ratio * 100.0,
            shift.low * 100.0,
            shift.high * 100.0,
            describe(found)
        )?;
        finding = finding.and(found);
    }
    let tails = [first, second].map(|run| {
        run.latency_from_intended
            .as_ref()
            .unwrap_or(&run.latency_from_send)
    });
    let [before, after] = tails;
    for (name, before, after) in [
        ("p99.9", before.p99_9_us, after.p99_9_us),
        ("p99.99", before.p99_99_us, after.p99_99_us),
        ("max", before.max_us, after.max_us),
    ] {
        writeln!(
            page,
            "{name:<14}{before:>12.1}{after:>12.1}   (of the whole run; one value says nothing about noise)"
        )?;
    }
    writeln!(
        page,
        "\nverdict       {}   (latencies in us)",
        describe(finding)
    )?;
    Ok(finding)
}

const fn describe(finding: Finding) -> &'static str {
    match finding {
        Finding::NoDifference => "no difference",
        Finding::Better => "better",
        Finding::Worse => "worse",
        Finding::Unknown => "unknown",
    }
}

impl Finding {
    /// One measure after another: worse in one is worse.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Worse, _) | (_, Self::Worse) => Self::Worse,
            (Self::Better, _) | (_, Self::Better) => Self::Better,
            (Self::NoDifference, Self::NoDifference) => Self::NoDifference,
        }
    }
}

fn judge(shift: Shift, good: Good) -> Finding {
    let rises = shift.low > 0.0;
    let falls = shift.high < 0.0;
    match good {
        _ if !rises && !falls => Finding::NoDifference,
        Good::Low if falls => Finding::Better,
        Good::High if rises => Finding::Better,
        Good::Low | Good::High => Finding::Worse,
    }
}

/// The seconds that lie wholly inside the measurement: the first after the warm-up and the last may be partial.
fn seconds(run: &Document) -> &[Interval] {
    let intervals = run.intervals.as_slice();
    let begin = intervals
        .iter()
        .rposition(|interval| interval.warmup > 0)
        .map_or(0, |last| last + 1);
    let end = intervals.len().saturating_sub(1).max(begin);
    intervals.get(begin..end).unwrap_or_default()
}

/// Logarithms of a measure, for the seconds in which there is one.
fn samples(run: &Document, measure: fn(&Interval) -> f64) -> Vec<f64> {
    seconds(run)
        .iter()
        .map(measure)
        .filter(|&value| value > 0.0)
        .map(f64::ln)
        .collect()
}

fn geometric_mean(logarithms: &[f64]) -> f64 {
    mean(logarithms).exp()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Welch's interval for the difference of two means of logarithms; `None` with too few samples.
pub(crate) fn shift(before: &[f64], after: &[f64]) -> Option<Shift> {
    if before.len() < SECONDS_MIN || after.len() < SECONDS_MIN {
        return None;
    }
    let (first, second) = (Sample::of(before), Sample::of(after));
    let difference = second.mean - first.mean;
    let variance = first.variance_of_mean + second.variance_of_mean;
    let freedom = variance.powi(2)
        / (first.variance_of_mean.powi(2) / first.freedom
            + second.variance_of_mean.powi(2) / second.freedom)
            .max(f64::MIN_POSITIVE);
    let margin = student(DEVIATE, freedom.max(1.0)) * variance.sqrt();
    Some(Shift {
        ratio: difference.exp_m1(),
        low: (difference - margin).exp_m1(),
        high: (difference + margin).exp_m1(),
    })
}

struct Sample {
    mean: f64,
    variance_of_mean: f64,
    freedom: f64,
}

impl Sample {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = mean(values);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let products: f64 = values
            .windows(2)
            .map(|pair| (pair[0] - mean) * (pair[1] - mean))
            .sum();
        // A sample that is like its neighbour says less: the correlation takes samples away, never adds any.
        let correlation = if squares > 0.0 {
            (products / squares).clamp(0.0, 0.9)
        } else {
            0.0
        };
        let effective = (count * (1.0 - correlation) / (1.0 + correlation)).max(2.0);
        Self {
            mean,
            variance_of_mean: squares / (count - 1.0) / effective,
            freedom: effective - 1.0,
        }
    }
}

/// The deviate of Student's distribution that corresponds to a normal one (Cornish and Fisher's expansion).
fn student(z: f64, freedom: f64) -> f64 {
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * freedom)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * freedom.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * freedom.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples around `level` with a spread of `spread`, each leaning on the one before by `lean`.
    fn noise(random: &mut fastrand::Rng, level: f64, spread: f64, lean: f64) -> Vec<f64> {
        let mut last = 0.0;
        (0..30)
            .map(|_| {
                // The sum of 12 uniform numbers is close to normal with deviation 1.
                let normal: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                last = lean * last + normal * spread;
                level + last
            })
            .collect()
    }

    fn found(random: &mut fastrand::Rng, factor: f64, lean: f64) -> usize {
        (0..1000)
            .filter(|_| {
                let before = noise(random, 5.0, 0.02, lean);
                let after = noise(random, 5.0 + factor.ln(), 0.02, lean);
                judge(shift(&before, &after).unwrap(), Good::Low) != Finding::NoDifference
            })
            .count()
    }

    #[test]
    fn the_same_thing_twice_is_no_difference() {
        let mut random = fastrand::Rng::with_seed(11);
        // One measure of three may be wrong in 1.7 % of the pairs.
        assert!(found(&mut random, 1.0, 0.0) <= 30);
        // Seconds that lean on each other: the correction keeps it under 5 %.
        let correlated = found(&mut random, 1.0, 0.4);
        assert!(correlated <= 50, "{correlated}");
    }

    #[test]
    fn a_shift_of_five_per_cent_is_found() {
        let mut random = fastrand::Rng::with_seed(12);
        assert!(found(&mut random, 1.05, 0.0) >= 990);
        let shift = shift(
            &noise(&mut random, 5.0, 0.02, 0.0),
            &noise(&mut random, 5.0 + 1.05_f64.ln(), 0.02, 0.0),
        )
        .unwrap();
        assert!(shift.low < 0.05 && 0.05 < shift.high, "{shift:?}");
    }

    #[test]
    fn students_deviate_is_the_one_in_the_tables() {
        // Two-sided 95 %: z = 1.959964.
        for (freedom, table) in [(4.0, 2.776), (10.0, 2.228), (30.0, 2.042)] {
            let deviate = student(1.959_964, freedom);
            assert!((deviate - table).abs() < 0.01, "{freedom}: {deviate}");
        }
    }

    #[test]
    fn lower_is_better_for_latency_and_worse_for_throughput() {
        let falls = Shift {
            ratio: -0.1,
            low: -0.2,
            high: -0.05,
        };
        assert_eq!(judge(falls, Good::Low), Finding::Better);
        assert_eq!(judge(falls, Good::High), Finding::Worse);
        assert_eq!(Finding::Better.and(Finding::Worse), Finding::Worse);
    }

    #[test]
    fn few_seconds_say_nothing() {
        assert_eq!(shift(&[1.0; 4], &[1.0; 30]), None);
    }
}
