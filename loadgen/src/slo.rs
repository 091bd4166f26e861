//! Goals for a run: `p99<5ms,errors<0.1%,rate>19k`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::units;

/// Goals that all must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo(Vec<Goal>);

#[derive(Clone, Debug, PartialEq)]
struct Goal {
    text: String,
    measure: Measure,
    bound: f64,
}

/// What a goal is about; latency from the intended start in an open loop, from the send in a closed one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Measure {
    /// This share of the responses is not above the bound, in microseconds.
    Quantile(f64),
    /// The mean latency in microseconds is below the bound.
    Mean,
    /// The largest latency in microseconds is below the bound.
    Max,
    /// Errors as a share of the requests that ended are below the bound.
    Errors,
    /// Responses per second are above the bound.
    Rate,
}

/// What became of a goal.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The goal as it was given.
    pub goal: String,
    /// What was measured, in the unit of the goal: microseconds, a share, or responses per second. Infinite (`null`
    /// in JSON) if nothing was.
    pub actual: f64,
    /// It holds.
    pub held: bool,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|goal| parse_goal(goal.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn parse_goal(text: &str) -> Result<Goal, String> {
    let wrong = || {
        format!("`{text}` is not a goal: write p99<5ms, mean<1ms, max<1s, errors<0.1% or rate>10k")
    };
    let at = text.find(['<', '>']).ok_or_else(wrong)?;
    let (name, rest) = text.split_at(at);
    let (operator, value) = rest.split_at(1);
    let value = value.trim_start_matches('=').trim();
    let time_us = || units::duration(value).map(|time| time.as_secs_f64() * 1e6);
    let (measure, bound) = match (name.trim(), operator) {
        ("mean", "<") => (Measure::Mean, time_us()?),
        ("max", "<") => (Measure::Max, time_us()?),
        ("errors", "<") => (Measure::Errors, share(value).ok_or_else(wrong)?),
        ("rate", ">") => {
            let rate: crate::rate::RateSpec = value.parse()?;
            (Measure::Rate, rate.mean_per_second(1_000_000_000))
        }
        (percentile, "<") => {
            let number: Option<f64> = percentile
                .strip_prefix('p')
                .and_then(|number| number.parse().ok());
            let percentile = number
                .filter(|number| (0.0..100.0).contains(number))
                .ok_or_else(wrong)?;
            (Measure::Quantile(percentile / 100.0), time_us()?)
        }
        _ => return Err(wrong()),
    };
    Ok(Goal {
        text: text.to_owned(),
        measure,
        bound,
    })
}

/// `0.1%` or `0.001`.
fn share(text: &str) -> Option<f64> {
    let share: f64 = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

impl Slo {
    /// Judges each goal by what `measured` says.
    pub(crate) fn judge(&self, measured: impl Fn(Measure) -> f64) -> Vec<Judgement> {
        self.0
            .iter()
            .map(|goal| {
                let actual = measured(goal.measure);
                let held = match goal.measure {
                    Measure::Rate => actual > goal.bound,
                    // No errors at all satisfy any bound on errors, 0 % too.
                    Measure::Errors => actual < goal.bound || actual == 0.0,
                    Measure::Quantile(_) | Measure::Mean | Measure::Max => actual < goal.bound,
                };
                Judgement {
                    goal: goal.text.clone(),
                    actual,
                    held,
                }
            })
            .collect()
    }

    /// One of the goals is about errors, so that errors are no failure by themselves.
    pub(crate) fn allows_errors(&self) -> bool {
        self.0.iter().any(|goal| goal.measure == Measure::Errors)
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goals: Vec<&str> = self.0.iter().map(|goal| goal.text.as_str()).collect();
        f.write_str(&goals.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, actual: f64) -> bool {
        let slo: Slo = text.parse().unwrap();
        slo.judge(|_| actual).iter().all(|judgement| judgement.held)
    }

    #[test]
    fn goals_hold_below_and_fail_at_their_bound() {
        assert!(judge("p99<5ms", 4_999.0) && !judge("p99<5ms", 5_000.0));
        assert!(judge("errors<0.1%", 0.000_9) && !judge("errors<0.1%", 0.001));
        assert!(judge("errors<0%", 0.0) && !judge("errors<0%", 0.000_1));
        assert!(judge("rate>19k", 19_001.0) && !judge("rate>19k", 19_000.0));
    }

    #[test]
    fn the_percentile_is_the_one_named() {
        let slo: Slo = "p99.9<5ms, p50<1ms".parse().unwrap();
        assert_eq!(slo.0[0].measure, Measure::Quantile(0.9990000000000001));
        assert_eq!(slo.0[1].measure, Measure::Quantile(0.5));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "p99",
            "p99<5",
            "p101<5ms",
            "x<5ms",
            "rate<5",
            "errors<200%",
            "p99>5ms",
        ] {
            assert!(text.parse::<Slo>().is_err(), "{text}");
        }
    }
}
