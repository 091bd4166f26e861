//! Rates over time: `20k`, `1k@10s,5k@10s`, `0..50k@60s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::nanos;
use crate::units;

/// Rates as the user wrote them: pieces of a constant or a changing rate.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSpec {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    from_per_second: f64,
    to_per_second: f64,
    duration: Option<Duration>,
}

/// The highest rate taken: more than one arrival per nanosecond cannot be told apart.
const RATE_MAX: f64 = 1e9;
/// Pieces of a profile.
const PIECES_MAX: usize = 1000;

impl RateSpec {
    /// The same rate all the time.
    #[must_use]
    pub fn constant(per_second: f64) -> Self {
        Self {
            text: format!("{per_second:.0}"),
            pieces: vec![Piece {
                from_per_second: per_second,
                to_per_second: per_second,
                duration: None,
            }],
        }
    }
}

impl FromStr for RateSpec {
    type Err = String;

    /// `RATE`, `RATE@DURATION` or `RATE..RATE@DURATION`, several with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        let pieces: Vec<Piece> = text.split(',').map(parse_piece).collect::<Result<_, _>>()?;
        if pieces.len() > PIECES_MAX {
            return Err(format!("at most {PIECES_MAX} pieces"));
        }
        let (_, all_but_last) = pieces.split_last().ok_or("a rate is missing")?;
        if all_but_last.iter().any(|piece| piece.duration.is_none()) {
            return Err("every rate but the last needs a duration, as in 1k@10s,5k".into());
        }
        if pieces
            .iter()
            .all(|piece| piece.from_per_second == 0.0 && piece.to_per_second == 0.0)
        {
            return Err("a rate of 0 sends nothing".into());
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }
}

impl fmt::Display for RateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_piece(text: &str) -> Result<Piece, String> {
    let (rates, duration) = match text.split_once('@') {
        Some((rates, duration)) => (rates, Some(units::duration(duration)?)),
        None => (text, None),
    };
    let (from, to) = match rates.split_once("..") {
        Some((from, to)) => (per_second(from)?, per_second(to)?),
        None => (per_second(rates)?, per_second(rates)?),
    };
    if duration == Some(Duration::ZERO) {
        return Err(format!("`{text}`: a duration of 0"));
    }
    Ok(Piece {
        from_per_second: from,
        to_per_second: to,
        duration,
    })
}

/// Parses `500`, `20k`, `1.5m/s`.
///
/// # Errors
///
/// A line that says what would be right.
pub fn per_second(text: &str) -> Result<f64, String> {
    let text = text.trim().trim_end_matches("/s");
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => match text.strip_suffix(['m', 'M']) {
            Some(digits) => (digits, 1e6),
            None => (text, 1.0),
        },
    };
    match digits.parse::<f64>() {
        Ok(rate) if (0.0..=RATE_MAX).contains(&(rate * factor)) => Ok(rate * factor),
        _ => Err(format!(
            "`{text}` is not a rate in requests per second, such as 500, 20k or 0..50k@60s"
        )),
    }
}

impl RateSpec {
    /// The time the pieces take where all of them say so.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.pieces.iter().map(|piece| piece.duration).sum()
    }

    /// The mean rate of the measured part, per second, when the last piece lasts `open_ended_ns` unless it says
    /// otherwise.
    #[must_use]
    pub fn mean_per_second(&self, open_ended_ns: u64) -> f64 {
        let (mut count, mut seconds) = (0.0, 0.0);
        for piece in &self.pieces {
            let length = seconds_of(piece.duration.map_or(open_ended_ns, nanos));
            count += (piece.from_per_second + piece.to_per_second) / 2.0 * length;
            seconds += length;
        }
        if seconds > 0.0 { count / seconds } else { 0.0 }
    }

    /// The rate over time, with `warmup_ns` of the first rate before it; the last piece lasts `open_ended_ns` unless
    /// it says otherwise.
    ///
    /// # Errors
    ///
    /// A run of no arrivals.
    pub(crate) fn profile(&self, warmup_ns: u64, open_ended_ns: u64) -> Result<Profile, String> {
        let mut profile = Profile::default();
        if let Some(first) = self.pieces.first() {
            profile.push(warmup_ns, first.from_per_second, first.from_per_second);
        }
        for piece in &self.pieces {
            let duration_ns = piece.duration.map_or(open_ended_ns, nanos);
            profile.push(duration_ns, piece.from_per_second, piece.to_per_second);
        }
        if profile.count <= 0.0 {
            return Err("the rate and its duration make no request".into());
        }
        Ok(profile)
    }
}

/// The arrivals expected up to each moment, piecewise quadratic, and its inverse.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pieces: Vec<Segment>,
    /// Arrivals in all.
    count: f64,
    end_ns: u64,
    /// The piece that the last answer was in; arrivals only move on.
    current: usize,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    start_ns: u64,
    seconds: f64,
    from_per_second: f64,
    to_per_second: f64,
    count_before: f64,
    count_after: f64,
}

impl Profile {
    fn push(&mut self, duration_ns: u64, from_per_second: f64, to_per_second: f64) {
        if duration_ns == 0 {
            return;
        }
        let seconds = seconds_of(duration_ns);
        let count_after = self.count + (from_per_second + to_per_second) / 2.0 * seconds;
        self.pieces.push(Segment {
            start_ns: self.end_ns,
            seconds,
            from_per_second,
            to_per_second,
            count_before: self.count,
            count_after,
        });
        self.count = count_after;
        self.end_ns = self.end_ns.saturating_add(duration_ns);
    }

    pub(crate) fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// When the expected number of arrivals reaches `position`, in nanoseconds; `None` past the end. `position` may
    /// only rise from call to call.
    pub(crate) fn time_of(&mut self, position: f64) -> Option<u64> {
        while self.pieces.get(self.current)?.count_after <= position {
            self.current += 1;
        }
        let segment = self.pieces.get(self.current)?;
        let count = position - segment.count_before;
        debug_assert!(count >= 0.0, "positions only rise");
        // count = from * x + slope / 2 * x^2, solved for x in the form that has no cancellation and no case for a
        // slope of 0.
        let slope = (segment.to_per_second - segment.from_per_second) / segment.seconds;
        let root = (segment.from_per_second.powi(2) + 2.0 * slope * count)
            .max(0.0)
            .sqrt();
        let seconds = if count == 0.0 {
            0.0
        } else {
            2.0 * count / (segment.from_per_second + root)
        };
        Some(segment.start_ns.saturating_add(nanos_of(seconds)))
    }
}

fn seconds_of(duration_ns: u64) -> f64 {
    duration_ns as f64 / 1e9
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounds to a nanosecond; the cast saturates and the argument is not negative"
)]
pub(crate) fn nanos_of(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_suffixes() {
        for (text, rate) in [
            ("500", 500.0),
            ("20k", 20_000.0),
            ("1.5k", 1500.0),
            ("2M/s", 2e6),
        ] {
            let spec: RateSpec = text.parse().unwrap();
            assert_eq!(spec.mean_per_second(1_000_000_000), rate, "{text}");
            assert_eq!(spec.duration(), None);
        }
    }

    #[test]
    fn steps_and_ramps_add_up() {
        let spec: RateSpec = "1k@10s,0..2k@20s,5k@10s".parse().unwrap();
        assert_eq!(spec.duration(), Some(Duration::from_secs(40)));
        let profile = spec.profile(0, 0).unwrap();
        assert_eq!(profile.count, 10_000.0 + 20_000.0 + 50_000.0);
        assert_eq!(profile.end_ns(), 40_000_000_000);
    }

    #[test]
    fn the_warm_up_runs_at_the_first_rate() {
        let spec: RateSpec = "100@1s,1k@1s".parse().unwrap();
        let profile = spec.profile(2_000_000_000, 0).unwrap();
        assert_eq!(profile.count, 200.0 + 100.0 + 1000.0);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in [
            "", "x", "-5", "0", "1k@", "1k@10", "1k,2k", "5..@1s", "inf", "nan", "2G",
        ] {
            assert!(text.parse::<RateSpec>().is_err(), "{text}");
        }
    }
}
