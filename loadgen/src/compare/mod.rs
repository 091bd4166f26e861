//! Two runs, or several pairs of them, side by side: which difference is more than noise.
//!
//! Of one pair, the pieces of each run are its samples: tenths of a second where both runs have them, else seconds. Pieces
//! near each other are alike (a garbage collection, a neighbour on the machine), so the uncertainty of a mean is taken from
//! batches of pieces and from single ones with their correlation, whichever is greater. That says nothing about what differs
//! between runs. So of several pairs, made in turns, the differences of the pairs are the samples.
//!
//! What is compared are means of logarithms, which makes a shift a factor, by Student's t; the bounds are at 99 % for all
//! measures together (Bonferroni), and a difference must also be beyond what counts as none at all.

mod statistics;

use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::report::BUSY_RATIO_FULL;
use crate::series::{Ended, Interval, Slice};
use statistics::{SAMPLES_MIN, Shift, paired, unpaired};

/// The parts of a report that are compared.
#[derive(Debug, Deserialize)]
struct Document {
    schema: String,
    target: String,
    mode: String,
    rate: Option<String>,
    intervals: Vec<Interval>,
    #[serde(default)]
    slices: Vec<Slice>,
    latency_from_intended: Option<Percentiles>,
    latency_from_send: Percentiles,
    #[serde(default)]
    cpu: Cpu,
    #[serde(default)]
    verdict: Verdict,
}

impl Document {
    /// It measured the generator: late in an open loop, or with a thread that had nothing left in a closed one.
    fn is_generator_bound(&self) -> bool {
        let full = |&ratio: &f64| ratio > BUSY_RATIO_FULL;
        self.verdict.generator_bound
            || (self.mode == "closed" && self.cpu.busy_ratios.iter().any(full))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Cpu {
    #[serde(default)]
    busy_ratios: Vec<f64>,
}

#[derive(Debug, Default, Deserialize)]
struct Verdict {
    #[serde(default)]
    generator_bound: bool,
}

#[derive(Debug, Deserialize)]
struct Percentiles {
    p99_99_us: f64,
    max_us: f64,
}

/// The outcome for all measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    NoDifference,
    Better,
    Worse,
    /// Too few samples.
    Unknown,
    /// The generator was the limit of a run.
    GeneratorBound,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Good {
    Low,
    High,
}

/// What is compared, in the order of [`Piece::measures`].
const MEASURES: [(&str, Good); 5] = [
    ("p50", Good::Low),
    ("p90", Good::Low),
    ("p99", Good::Low),
    ("p99.9", Good::Low),
    ("responses/s", Good::High),
];

/// Both errors of all measures together: 1 %.
const ERROR: f64 = 0.01 / MEASURES.len() as f64;

/// A whole piece of the measurement: the measures, some of which may be missing.
type Piece = [Option<f64>; MEASURES.len()];

/// Compares reports written by `--json`, two or more pairs of two; the text to show and what it comes to. Differences up to
/// `noise`, a ratio, are none.
///
/// # Errors
///
/// A file cannot be read or is no report; an odd number of files, or too few pairs.
pub(crate) fn compare(files: &[PathBuf], noise: f64) -> io::Result<(String, Finding)> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let documents = files
        .iter()
        .map(|file| read(file))
        .collect::<io::Result<Vec<_>>>()?;
    let (pairs, rest) = documents.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid(
            "files come in pairs: BEFORE AFTER, BEFORE AFTER, ...",
        ));
    }
    if pairs.len() > 1 && pairs.len() < SAMPLES_MIN {
        return Err(invalid(
            "several pairs are judged by their differences, for which five are needed",
        ));
    }
    let mut page = String::new();
    let written = write_page(&mut page, pairs, noise);
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

/// The whole pieces of both runs of a pair, of the same length, and what they are called.
fn pieces(pair: &[Document; 2]) -> ([Vec<Piece>; 2], &'static str) {
    if pair.iter().all(|run| !run.slices.is_empty()) {
        let of =
            |run: &Document| whole(run.slices.iter().map(|slice| measured(&slice.ended, 10.0)));
        return ([of(&pair[0]), of(&pair[1])], "tenths of a second");
    }
    let of = |run: &Document| {
        whole(
            run.intervals
                .iter()
                .map(|second| measured(&second.ended, 1.0)),
        )
    };
    ([of(&pair[0]), of(&pair[1])], "seconds")
}

/// What ended in the warm-up part of a piece, and the measures of the piece, of which `per_second` are a second.
fn measured(ended: &Ended, per_second: f64) -> (u64, Piece) {
    let rate = ended.responses as f64 * per_second;
    let measures = [
        ended.p50_us,
        ended.p90_us,
        ended.p99_us,
        ended.p99_9_us,
        Some(rate),
    ];
    (ended.warmup, measures)
}

/// Those that lie wholly inside the measurement: the first after the warm-up and the last may be partial.
fn whole(pieces: impl Iterator<Item = (u64, Piece)>) -> Vec<Piece> {
    let pieces: Vec<_> = pieces.collect();
    let begin = pieces
        .iter()
        .rposition(|(warmup, _)| *warmup > 0)
        .map_or(0, |last| last + 1);
    let end = pieces.len().saturating_sub(1).max(begin);
    let inside = pieces.get(begin..end).unwrap_or_default();
    inside.iter().map(|(_, piece)| *piece).collect()
}

/// Logarithms of a measure, for the pieces that have one.
fn logarithms(pieces: &[Piece], measure: usize) -> Vec<f64> {
    let values = pieces.iter().filter_map(|piece| piece[measure]);
    values.filter(|&value| value > 0.0).map(f64::ln).collect()
}

fn write_page(
    page: &mut String,
    pairs: &[[Document; 2]],
    noise: f64,
) -> Result<Finding, fmt::Error> {
    let Some(first) = pairs.first() else {
        return Ok(Finding::Unknown);
    };
    let split: Vec<_> = pairs.iter().map(pieces).collect();
    let unit = split.first().map_or("", |(_, unit)| unit);
    for (side, name) in ["before", "after"].into_iter().enumerate() {
        let run = &first[side];
        let rate = run
            .rate
            .as_deref()
            .map_or(String::new(), |rate| format!(" at {rate}/s"));
        let count: usize = split.iter().map(|(runs, _)| runs[side].len()).sum();
        writeln!(
            page,
            "{name:<8}{}  {} loop{rate}, {count} whole {unit}",
            run.target, run.mode
        )?;
    }
    if pairs.len() > 1 {
        writeln!(page, "pairs   {}", pairs.len())?;
    }
    let way = |run: &Document| (run.mode.clone(), run.rate.clone());
    if pairs.iter().flatten().any(|run| way(run) != way(&first[0])) {
        writeln!(page, "note    the runs were not made the same way")?;
    }
    let runs = || pairs.iter().flatten();
    let bound = runs().filter(|run| run.is_generator_bound()).count();
    if bound > 0 {
        let of = runs().count();
        writeln!(
            page,
            "note    {bound} of {of} runs were generator-bound: what they measured is the generator"
        )?;
    }
    writeln!(
        page,
        "\n{:<14}{:>12}{:>12}{:>10}   99 % sure to be in",
        "", "before", "after", "shift"
    )?;
    let mut finding = match bound {
        0 => Finding::NoDifference,
        _ => Finding::GeneratorBound,
    };
    for (index, (name, good)) in MEASURES.into_iter().enumerate() {
        let samples: Vec<_> = split
            .iter()
            .map(|(runs, _)| [0, 1].map(|side| logarithms(&runs[side], index)))
            .collect();
        let judge = |shift| finding.unless_bound(judge(shift, good, noise));
        let found = write_measure(page, name, &samples, judge)?;
        finding = finding.and(found);
    }
    if let [[before, after]] = pairs {
        write_tails(page, before, after)?;
    }
    writeln!(
        page,
        "\nverdict       {}   (latencies in us; within {:.1} % is no difference)",
        describe(finding),
        noise * 100.0
    )?;
    Ok(finding)
}

/// One line on one measure of all pairs.
fn write_measure(
    page: &mut String,
    name: &str,
    samples: &[[Vec<f64>; 2]],
    judge: impl Fn(Shift) -> Finding,
) -> Result<Finding, fmt::Error> {
    let shift = match samples {
        [[before, after]] => unpaired(before, after, ERROR),
        pairs => paired(pairs, ERROR),
    };
    let Some(shift) = shift else {
        writeln!(
            page,
            "{name:<14}too few pieces to say: {SAMPLES_MIN} whole ones are needed"
        )?;
        return Ok(Finding::Unknown);
    };
    let level = |side: usize| {
        let all = samples.iter().flat_map(|pair| &pair[side]);
        let (sum, count) = all.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        (sum / count).exp()
    };
    let found = judge(shift);
    writeln!(
        page,
        "{name:<14}{:>12.1}{:>12.1}{:>+9.1} %   {:+.1} % to {:+.1} %   {}",
        level(0),
        level(1),
        shift.ratio * 100.0,
        shift.low * 100.0,
        shift.high * 100.0,
        describe(found)
    )?;
    Ok(found)
}

/// What there is one value of in each run.
fn write_tails(page: &mut String, before: &Document, after: &Document) -> fmt::Result {
    let [before, after] = [before, after].map(|run| {
        run.latency_from_intended
            .as_ref()
            .unwrap_or(&run.latency_from_send)
    });
    for (name, before, after) in [
        ("p99.99", before.p99_99_us, after.p99_99_us),
        ("max", before.max_us, after.max_us),
    ] {
        writeln!(
            page,
            "{name:<14}{before:>12.1}{after:>12.1}   (of the whole run; one value says nothing about noise)"
        )?;
    }
    Ok(())
}

const fn describe(finding: Finding) -> &'static str {
    match finding {
        Finding::NoDifference => "no difference",
        Finding::Better => "better",
        Finding::Worse => "worse",
        Finding::Unknown => "unknown",
        Finding::GeneratorBound => "unknown (generator bound)",
    }
}

impl Finding {
    /// One measure after another: worse in one is worse.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::GeneratorBound, _) | (_, Self::GeneratorBound) => Self::GeneratorBound,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Worse, _) | (_, Self::Worse) => Self::Worse,
            (Self::Better, _) | (_, Self::Better) => Self::Better,
            (Self::NoDifference, Self::NoDifference) => Self::NoDifference,
        }
    }

    /// `other`, but where the numbers are the generator's.
    fn unless_bound(self, other: Self) -> Self {
        match self {
            Self::GeneratorBound => self,
            Self::NoDifference | Self::Better | Self::Worse | Self::Unknown => other,
        }
    }
}

fn judge(shift: Shift, good: Good, noise: f64) -> Finding {
    let rises = shift.low > noise;
    let falls = shift.high < -noise;
    match good {
        _ if !rises && !falls => Finding::NoDifference,
        Good::Low if falls => Finding::Better,
        Good::High if rises => Finding::Better,
        Good::Low | Good::High => Finding::Worse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_is_better_for_latency_and_worse_for_throughput() {
        let falls = Shift {
            ratio: -0.1,
            low: -0.2,
            high: -0.05,
        };
        assert_eq!(judge(falls, Good::Low, 0.01), Finding::Better);
        assert_eq!(judge(falls, Good::High, 0.01), Finding::Worse);
        assert_eq!(judge(falls, Good::High, 0.06), Finding::NoDifference);
        assert_eq!(Finding::Better.and(Finding::Worse), Finding::Worse);
    }

    #[test]
    fn the_partial_pieces_at_both_ends_are_left_out() {
        let piece = [Some(1.0); MEASURES.len()];
        let run = vec![(5, piece), (2, piece), (0, piece), (0, piece), (0, piece)];
        assert_eq!(whole(run.into_iter()).len(), 2);
        assert!(whole([(5, piece)].into_iter()).is_empty());
    }
}
