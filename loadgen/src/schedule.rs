//! When requests should start: arrivals on an absolute schedule, computed and not timed.
//!
//! A schedule never looks at a clock and never slips: the time of arrival `n` depends on nothing that happened to
//! the arrivals before it. That is what makes a load generator open loop. A closed loop is the degenerate schedule
//! in which an arrival is due whenever somebody asks.

use std::sync::Arc;

use crate::rate::{self, Profile};
use crate::replay::Log;

/// How arrivals are spaced at a given rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Process {
    /// Evenly.
    #[default]
    Constant,
    /// With exponential gaps, as independent users make them.
    Poisson,
}

/// One request to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When it should start, in nanoseconds since the start of the run; in a closed loop, when it was asked for.
    pub(crate) intended_ns: u64,
    /// It counts: the warm-up is over.
    pub(crate) measured: bool,
    /// It had to wait for a connection: it is sent late, but not because the generator was.
    pub(crate) waited: bool,
    /// Which request of the log it is, in a replay.
    pub(crate) entry: usize,
}

/// What a schedule has for somebody who can send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start this one.
    Due(Arrival),
    /// Nothing before this time, in nanoseconds since the start of the run.
    At(u64),
    /// Nothing any more.
    Over,
}

/// The arrivals of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    source: Source,
    warmup_ns: u64,
    /// Nothing starts at or after this time.
    end_ns: u64,
    /// Measured arrivals that are left.
    remaining: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Closed,
    Open(Pace),
    Replay(Replay),
}

/// This thread's turns in a log: every so many entries, round after round.
#[derive(Clone, Debug)]
struct Replay {
    log: Arc<Log>,
    speed: f64,
    rounds: u64,
    round: u64,
    entry: usize,
    threads: usize,
}

impl Replay {
    /// The time of the next turn, in nanoseconds since the start of the run.
    fn time_ns(&self) -> Option<u64> {
        if self.round >= self.rounds {
            return None;
        }
        let entry = self.log.entries.get(self.entry)?;
        let log_ns = self.round as f64 * self.log.span_ns() as f64 + entry.at_ns as f64;
        Some(rate::nanos_of(log_ns / 1e9 / self.speed))
    }

    fn advance(&mut self) {
        self.entry += self.threads;
        let count = self.log.entries.len();
        while self.entry >= count && self.round < self.rounds {
            self.entry -= count;
            self.round += 1;
        }
    }
}

#[derive(Clone, Debug)]
struct Pace {
    profile: Profile,
    process: Process,
    random: fastrand::Rng,
    /// Where the next arrival of this thread stands among the arrivals of all threads.
    position: f64,
    /// Threads that share the profile.
    threads: f64,
    next_ns: Option<u64>,
}

/// A thread's place among the threads of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) thread: u32,
    pub(crate) threads: u32,
}

impl Schedule {
    /// A closed loop: an arrival is due whenever one is asked for.
    pub(crate) fn closed(warmup_ns: u64, end_ns: u64, requests: u64) -> Self {
        Self {
            source: Source::Closed,
            warmup_ns,
            end_ns,
            remaining: requests,
        }
    }

    /// This thread's arrivals of an open loop. Constant arrivals of the threads interleave evenly; Poisson arrivals
    /// are independent on each, which adds up to Poisson arrivals.
    pub(crate) fn open(
        profile: Profile,
        process: Process,
        share: Share,
        seed: u64,
        bounds: (u64, u64),
    ) -> Self {
        let (warmup_ns, requests) = bounds;
        let end_ns = profile.end_ns();
        let mut pace = Pace {
            profile,
            process,
            random: fastrand::Rng::with_seed(seed.wrapping_add(u64::from(share.thread))),
            position: 0.0,
            threads: f64::from(share.threads),
            next_ns: None,
        };
        pace.position = match process {
            Process::Constant => f64::from(share.thread),
            Process::Poisson => pace.gap(),
        };
        pace.next_ns = pace.profile.time_of(pace.position);
        Self {
            source: Source::Open(pace),
            warmup_ns,
            end_ns,
            remaining: requests,
        }
    }

    /// This thread's requests of a log.
    pub(crate) fn replay(
        log: Arc<Log>,
        (speed, rounds): (f64, u64),
        share: Share,
        end_ns: u64,
        requests: u64,
    ) -> Self {
        let mut replay = Replay {
            log,
            speed,
            rounds,
            round: 0,
            entry: usize::try_from(share.thread).unwrap_or_default(),
            threads: usize::try_from(share.threads).unwrap_or(1),
        };
        // More threads than entries: the first turn of some is in a later round.
        while replay.entry >= replay.log.entries.len() && replay.round < rounds {
            replay.entry -= replay.log.entries.len();
            replay.round += 1;
        }
        Self {
            source: Source::Replay(replay),
            warmup_ns: 0,
            end_ns,
            remaining: requests,
        }
    }

    /// What is due at `now_ns`; each arrival is given out once. Cost: two divisions and a square root at most.
    pub(crate) fn next(&mut self, now_ns: u64) -> Next {
        if self.remaining == 0 {
            return Next::Over;
        }
        let mut entry = 0;
        let intended_ns = match &mut self.source {
            Source::Closed if now_ns >= self.end_ns => return Next::Over,
            Source::Closed => now_ns,
            Source::Open(pace) => match pace.next_ns {
                None => return Next::Over,
                Some(next_ns) if next_ns > now_ns => return Next::At(next_ns),
                Some(next_ns) => {
                    pace.advance();
                    next_ns
                }
            },
            Source::Replay(replay) => match replay.time_ns().filter(|&at_ns| at_ns < self.end_ns) {
                None => return Next::Over,
                Some(next_ns) if next_ns > now_ns => return Next::At(next_ns),
                Some(next_ns) => {
                    entry = replay.entry;
                    replay.advance();
                    next_ns
                }
            },
        };
        let measured = intended_ns >= self.warmup_ns;
        self.remaining -= u64::from(measured);
        Next::Due(Arrival {
            intended_ns,
            measured,
            waited: false,
            entry,
        })
    }

    /// Everything has been given out, or its time is over.
    pub(crate) fn is_over(&self, now_ns: u64) -> bool {
        self.remaining == 0
            || match &self.source {
                Source::Closed => now_ns >= self.end_ns,
                Source::Open(pace) => pace.next_ns.is_none(),
                Source::Replay(replay) => replay.time_ns().is_none_or(|at_ns| at_ns >= self.end_ns),
            }
    }

    /// Ends it now: what has not been given out never will be.
    pub(crate) fn stop(&mut self) {
        self.remaining = 0;
    }
}

impl Pace {
    fn gap(&mut self) -> f64 {
        match self.process {
            Process::Constant => self.threads,
            // The inverse of the exponential distribution; 1 - u is never 0.
            Process::Poisson => -(1.0 - self.random.f64()).ln() * self.threads,
        }
    }

    fn advance(&mut self) {
        self.position += self.gap();
        self.next_ns = self.profile.time_of(self.position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn profile(text: &str, seconds: u64) -> Profile {
        let spec: rate::RateSpec = text.parse().unwrap();
        spec.profile(0, seconds * SECOND_NS).unwrap()
    }

    fn open(text: &str, process: Process, share: Share) -> Schedule {
        Schedule::open(profile(text, 10), process, share, 7, (0, u64::MAX))
    }

    const ALONE: Share = Share {
        thread: 0,
        threads: 1,
    };

    /// All arrivals, on a clock that jumps from one to the next.
    fn all(mut schedule: Schedule) -> Vec<u64> {
        let mut now_ns = 0;
        let mut times = Vec::new();
        loop {
            match schedule.next(now_ns) {
                Next::Due(arrival) => times.push(arrival.intended_ns),
                Next::At(at) => now_ns = at,
                Next::Over => return times,
            }
        }
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_from_zero() {
        let times = all(open("1000", Process::Constant, ALONE));
        assert_eq!(times.len(), 10_000);
        for (index, time) in times.iter().enumerate() {
            assert!(time.abs_diff(index as u64 * 1_000_000) <= 1);
        }
    }

    #[test]
    fn threads_interleave_into_the_schedule_of_one() {
        let mut merged: Vec<u64> = (0..3)
            .flat_map(|thread| all(open("999", Process::Constant, Share { thread, threads: 3 })))
            .collect();
        merged.sort_unstable();
        assert_eq!(merged, all(open("999", Process::Constant, ALONE)));
    }

    #[test]
    fn a_late_caller_gets_the_intended_times_and_not_the_time_it_asked() {
        let mut schedule = open("10", Process::Constant, ALONE);
        let due: Vec<Next> = (0..4).map(|_| schedule.next(SECOND_NS / 4)).collect();
        let arrival = |intended_ns| {
            Next::Due(Arrival {
                intended_ns,
                measured: true,
                waited: false,
                entry: 0,
            })
        };
        assert_eq!(
            due,
            [
                arrival(0),
                arrival(100_000_000),
                arrival(200_000_000),
                Next::At(300_000_000)
            ]
        );
    }

    #[test]
    fn a_ramp_gives_the_area_under_the_rate() {
        let times = all(open("0..1000@4s", Process::Constant, ALONE));
        assert_eq!(times.len(), 2000);
        // Half of the time of a ramp from 0 gives a quarter of the arrivals.
        let first_half = times.iter().filter(|&&time| time < 2 * SECOND_NS).count();
        assert!(first_half.abs_diff(500) <= 1, "{first_half}");
    }

    #[test]
    fn poisson_gaps_have_mean_and_deviation_of_the_exponential() {
        let times = all(open("10000", Process::Poisson, ALONE));
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64 / 1e3)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // 100,000 samples: the mean is within 1 % at three deviations.
        assert!((mean - 100.0).abs() < 1.0, "mean {mean} us");
        assert!(
            (variance.sqrt() - 100.0).abs() < 2.0,
            "deviation {} us",
            variance.sqrt()
        );
    }

    #[test]
    fn the_warm_up_does_not_count_against_the_number_of_requests() {
        let mut schedule = Schedule::closed(SECOND_NS, u64::MAX, 2);
        for now_ns in [0, 1, 2, SECOND_NS - 1] {
            assert!(matches!(schedule.next(now_ns), Next::Due(arrival) if !arrival.measured));
        }
        assert!(matches!(schedule.next(SECOND_NS), Next::Due(arrival) if arrival.measured));
        assert!(matches!(schedule.next(SECOND_NS), Next::Due(_)));
        assert_eq!(schedule.next(SECOND_NS), Next::Over);
    }

    #[test]
    fn a_log_is_replayed_at_its_times_scaled_and_looped_by_all_threads_together() {
        let entry = |at_ms: u64| crate::replay::Entry {
            at_ns: at_ms * 1_000_000,
            bytes: Box::default(),
            head: false,
        };
        let log = Arc::new(Log {
            file: "x".into(),
            entries: vec![entry(0), entry(100), entry(200)],
            skipped: 0,
        });
        let mut merged: Vec<u64> = (0..2)
            .flat_map(|thread| {
                let share = Share { thread, threads: 2 };
                all(Schedule::replay(
                    Arc::clone(&log),
                    (2.0, 2),
                    share,
                    u64::MAX,
                    u64::MAX,
                ))
            })
            .collect();
        merged.sort_unstable();
        let times: Vec<u64> = merged.iter().map(|time| time / 1_000_000).collect();
        assert_eq!(
            times,
            [0, 50, 100, 150, 200, 250],
            "a round takes 300 ms in the log"
        );
        let cut = Schedule::replay(log, (1.0, 9), ALONE, 150_000_000, u64::MAX);
        assert_eq!(all(cut).len(), 2);
    }

    #[test]
    fn a_closed_loop_ends_at_its_end() {
        let mut schedule = Schedule::closed(0, SECOND_NS, u64::MAX);
        assert!(matches!(schedule.next(SECOND_NS - 1), Next::Due(_)));
        assert_eq!(schedule.next(SECOND_NS), Next::Over);
    }

    #[test]
    fn a_stopped_schedule_gives_nothing() {
        let mut schedule = open("1000", Process::Constant, ALONE);
        schedule.stop();
        assert_eq!(schedule.next(SECOND_NS), Next::Over);
    }
}
