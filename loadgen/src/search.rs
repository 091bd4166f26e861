//! The highest rate that holds a goal: doubling until it is missed, bisection, and a confirmation.
//!
//! One run may hold by luck. So the answer is a rate that held several times in a row; where it does not, the search goes
//! down by one step of its precision and confirms again.

use serde::Serialize;

/// Where to search, and how finely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The first rate tried, per second; if it misses the goal there is no answer.
    pub from_per_second: f64,
    /// The highest rate tried, per second.
    pub to_per_second: f64,
    /// How close the answer and a rate that misses the goal should be, as a share of the answer.
    pub precision: f64,
    /// How often in a row the answer must hold.
    pub confirmations: u32,
}

/// One run of a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its rate.
    pub rate_per_second: f64,
    /// The goal held.
    pub held: bool,
    /// It was one of those that confirm the answer.
    pub confirming: bool,
}

/// The state of a search: what to try next, given what came of what was tried.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    bounds: Bounds,
    steps: Vec<Step>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Everything up to `held` did; 0 before the first.
    Doubling {
        held: f64,
        next: f64,
    },
    Bisecting {
        held: f64,
        missed: f64,
    },
    Confirming {
        rate: f64,
        left: u32,
    },
    Done {
        answer: Option<f64>,
    },
}

impl Search {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            steps: Vec::new(),
            phase: Phase::Doubling {
                held: 0.0,
                next: bounds.from_per_second,
            },
        }
    }

    /// The rate to try next, per second; `None` when the search is over.
    pub(crate) fn next(&self) -> Option<f64> {
        match self.phase {
            Phase::Doubling { next, .. } => Some(next),
            // The middle on a scale of factors: rates span decades.
            Phase::Bisecting { held, missed } => Some((held * missed).sqrt()),
            Phase::Confirming { rate, .. } => Some(rate),
            Phase::Done { .. } => None,
        }
    }

    /// Notes what came of the rate that [`Search::next`] gave.
    pub(crate) fn record(&mut self, held: bool) {
        let Some(rate_per_second) = self.next() else {
            return;
        };
        self.steps.push(Step {
            rate_per_second,
            held,
            confirming: matches!(self.phase, Phase::Confirming { .. }),
        });
        self.phase = match (self.phase, held) {
            (Phase::Doubling { next, .. }, true) if next >= self.bounds.to_per_second => {
                self.confirm(next)
            }
            (Phase::Doubling { next, .. }, true) => Phase::Doubling {
                held: next,
                next: (next * 2.0).min(self.bounds.to_per_second),
            },
            (Phase::Doubling { held: 0.0, .. }, false) => Phase::Done { answer: None },
            (Phase::Doubling { held, next }, false) => self.bisect(held, next),
            (Phase::Bisecting { missed, .. }, true) => self.bisect(rate_per_second, missed),
            (Phase::Bisecting { held, .. }, false) => self.bisect(held, rate_per_second),
            (Phase::Confirming { rate, left: 1 }, true) => Phase::Done { answer: Some(rate) },
            (Phase::Confirming { rate, left }, true) => Phase::Confirming {
                rate,
                left: left - 1,
            },
            (Phase::Confirming { rate, .. }, false) => self.step_down(rate),
            (done @ Phase::Done { .. }, _) => done,
        };
    }

    fn bisect(&self, held: f64, missed: f64) -> Phase {
        if missed / held <= 1.0 + self.bounds.precision {
            return self.confirm(held);
        }
        Phase::Bisecting { held, missed }
    }

    fn confirm(&self, rate: f64) -> Phase {
        Phase::Confirming {
            rate,
            left: self.bounds.confirmations.max(1),
        }
    }

    fn step_down(&self, rate: f64) -> Phase {
        let lower = rate / (1.0 + self.bounds.precision);
        if lower < self.bounds.from_per_second {
            return Phase::Done { answer: None };
        }
        self.confirm(lower)
    }

    /// Where it stands, in a few words.
    pub(crate) fn describe(&self) -> String {
        let run = self.steps.len() + 1;
        match self.phase {
            Phase::Doubling { next, .. } => format!("search, run {run}: {next:.0}/s, doubling"),
            Phase::Bisecting { held, missed } => format!(
                "search, run {run}: {:.0}/s, between {held:.0} and {missed:.0}",
                (held * missed).sqrt()
            ),
            Phase::Confirming { rate, left } => {
                format!("search, run {run}: {rate:.0}/s, {left} to confirm")
            }
            Phase::Done { .. } => "search is over".into(),
        }
    }

    /// The highest rate that was confirmed, per second.
    pub(crate) fn answer(&self) -> Option<f64> {
        match self.phase {
            Phase::Done { answer } => answer,
            Phase::Doubling { .. } | Phase::Bisecting { .. } | Phase::Confirming { .. } => None,
        }
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        from_per_second: 1_000.0,
        to_per_second: 1e6,
        precision: 0.05,
        confirmations: 3,
    };

    /// Searches against a server that `holds` decides for; the answer and the number of runs.
    fn search(bounds: Bounds, mut holds: impl FnMut(f64) -> bool) -> (Option<f64>, usize) {
        let mut search = Search::new(bounds);
        while let Some(rate) = search.next() {
            search.record(holds(rate));
            assert!(search.steps().len() < 200, "does not end");
        }
        (search.answer(), search.steps().len())
    }

    #[test]
    fn the_answer_is_within_its_precision_below_the_capacity() {
        for capacity in [1_000.0, 1_001.0, 17_345.0, 64_000.0, 999_000.0] {
            let (answer, runs) = search(BOUNDS, |rate| rate <= capacity);
            let answer = answer.unwrap();
            assert!(
                answer <= capacity && answer * 1.05 >= capacity,
                "{capacity}: {answer}"
            );
            assert!(runs <= 20, "{runs} runs");
        }
    }

    #[test]
    fn a_server_that_misses_at_once_has_no_answer() {
        assert_eq!(search(BOUNDS, |_| false), (None, 1));
    }

    #[test]
    fn a_server_without_an_end_gives_the_highest_rate() {
        assert_eq!(search(BOUNDS, |_| true).0, Some(1e6));
    }

    #[test]
    fn what_held_by_luck_is_not_the_answer() {
        // Between 10k and 20k it holds every other time, below always.
        let mut luck = false;
        let (answer, _) = search(BOUNDS, |rate| {
            luck = !luck;
            rate <= 10_000.0 || (rate <= 20_000.0 && luck)
        });
        let answer = answer.unwrap();
        assert!(answer <= 10_000.0 && answer * 1.05 >= 9_500.0, "{answer}");
    }

    #[test]
    fn confirmation_takes_as_many_runs_as_asked() {
        let mut search = Search::new(BOUNDS);
        while let Some(rate) = search.next() {
            search.record(rate <= 5_000.0);
        }
        let confirming: Vec<_> = search
            .steps()
            .iter()
            .filter(|step| step.confirming)
            .collect();
        assert_eq!(confirming.len(), 3);
        assert!(confirming.iter().all(|step| step.held));
    }
}
