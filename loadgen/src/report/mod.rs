//! What a run says at its end: one value, written as JSON or as a page of text.

mod chart;
mod csv;
mod histogram;
mod html;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::plan::{Kind, Mode, Plan};
use crate::run::Outcome;
use crate::schedule::Process;
use crate::slo::{Measure, Slo};
use crate::stats::{KindStats, Times};

pub use crate::accuracy::{Accuracy, KeyAccount, SecondAccount};
pub use crate::series::{Ended, Interval, Slice};
pub use crate::slo::Judgement;
pub use crate::stats::Failure;
pub use csv::csv;
pub use html::html;
pub(crate) use text::time;
pub use text::{step, text};

/// The result of a run. Field names are part of the interface: they are added to, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The format of this document.
    pub schema: &'static str,
    /// The version of the program.
    pub version: &'static str,
    /// The URL.
    pub target: String,
    /// The address it stood for.
    pub address: String,
    /// Method and path, or the size of the mix.
    pub request: String,
    /// `open` or `closed`.
    pub mode: &'static str,
    /// The rate as it was asked for; open loop only.
    pub rate: Option<String>,
    /// The mean of that over the measurement, per second; open loop only.
    pub rate_per_second_intended: Option<f64>,
    /// `constant`, `poisson` or `replay`; open loop only.
    pub arrivals: Option<&'static str>,
    /// `precise` or `frugal`; open loop only.
    pub pacing: Option<&'static str>,
    /// The population of keys.
    pub keys: Option<String>,
    /// The limit that was to be held.
    pub limit: Option<String>,
    /// How well it was.
    pub limiter_accuracy: Option<Accuracy>,
    /// Threads.
    pub threads: u32,
    /// Connections at the start.
    pub connections: u32,
    /// Connections at most.
    pub connections_max: u32,
    /// Requests under way at once on a connection.
    pub pipeline: u32,
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Set-up flags of the ring.
    pub driver_flags: &'static str,
    /// Why it is not a better one.
    pub driver_fallback: Option<String>,
    /// Time before the measurement.
    pub warmup_s: f64,
    /// Time of the measurement.
    pub measured_s: f64,
    /// Requests by what became of them.
    pub requests: Requests,
    /// Complete responses that ended in the time of the measurement, per second of it.
    pub responses_per_second: f64,
    /// Bytes of the bodies of those responses, per second.
    pub body_bytes_per_second: f64,
    /// Bytes received, heads and warm-up included.
    pub received_bytes: u64,
    /// Complete responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Each kind of request of a mix; empty where there is no mix.
    pub kinds: Vec<KindReport>,
    /// Errors by kind; a kind that did not happen is absent.
    pub errors: BTreeMap<Failure, u64>,
    /// One message for each kind of error.
    pub error_examples: BTreeMap<Failure, String>,
    /// From the intended start to the last byte; open loop only. Timeouts count with the time waited.
    pub latency_from_intended: Option<Latency>,
    /// From the actual send to the last byte. Timeouts count with the time waited.
    pub latency_from_send: Latency,
    /// From the actual send to the first byte of the response.
    pub first_byte: Latency,
    /// From the first byte of the response to the last; 0 where both came in one read.
    pub body: Latency,
    /// To make a connection, warm-up included.
    pub connect: Latency,
    /// How late the generator itself sent what a connection was free for; open loop only.
    pub lag: Option<Latency>,
    /// Second by second, from the start of the warm-up on.
    pub intervals: Vec<Interval>,
    /// The same in tenths of seconds, of a run of at most 30 s.
    pub slices: Vec<Slice>,
    /// CPU time of the generator's threads.
    pub cpu: Cpu,
    /// The most memory that the generator held at once; none where the kernel does not tell.
    pub memory_peak_bytes: Option<u64>,
    /// What to think of it.
    pub verdict: Verdict,
}

/// Requests by what became of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Requests {
    /// Put on the wire in the measurement.
    pub sent: u64,
    /// Complete responses with an expected status.
    pub succeeded: u64,
    /// Errors of all kinds.
    pub failed: u64,
    /// Had to wait for a connection to become free.
    pub waited: u64,
    /// Ended in the warm-up; counted nowhere else.
    pub warmup: u64,
    /// Of those, failed.
    pub warmup_failed: u64,
}

/// One kind of request of a mix.
#[derive(Clone, Debug, Serialize)]
pub struct KindReport {
    /// Its name.
    pub name: String,
    /// Its weight among those of all kinds.
    pub weight: u32,
    /// Complete responses, whatever their status.
    pub responses: u64,
    /// Errors.
    pub failed: u64,
    /// From the intended start (the send in a closed loop) to the last byte of those responses.
    pub latency: Latency,
}

impl KindReport {
    fn new((kind, stats): (&Kind, &KindStats)) -> Self {
        Self {
            name: kind.name.clone(),
            weight: kind.weight,
            responses: stats.responses,
            failed: stats.failed,
            latency: Latency::of(&stats.times),
        }
    }
}

/// A distribution of times, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Samples.
    pub count: u64,
    /// The smallest; 0 without samples, as all that follow.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// The standard deviation.
    pub deviation_us: f64,
    /// 50 % are not above it.
    pub p50_us: f64,
    /// 75 % are not above it.
    pub p75_us: f64,
    /// 90 % are not above it.
    pub p90_us: f64,
    /// 99 % are not above it.
    pub p99_us: f64,
    /// 99.9 % are not above it.
    pub p99_9_us: f64,
    /// 99.99 % are not above it.
    pub p99_99_us: f64,
    /// The largest.
    pub max_us: f64,
    /// Quantiles with the times that they are, in microseconds: 10 for each nine, up to the largest sample.
    pub curve: Vec<(f64, f64)>,
    /// All of it, in nanoseconds: HdrHistogram V2, deflated, in base64, as other tools for these histograms read it.
    pub histogram: String,
}

/// CPU time of the generator.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// Of all threads, warm-up included.
    pub seconds: f64,
    /// The same per request ended, warm-up included.
    pub per_request_us: f64,
    /// What each thread used of its core, 0 to 1.
    pub busy_ratios: Vec<f64>,
}

/// What to think of the numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// No errors.
    pub clean: bool,
    /// A goal is about errors, so that they are judged by it alone.
    pub errors_allowed: bool,
    /// The generator could not keep the schedule: the latencies are partly its own.
    pub generator_bound: bool,
    /// The run was ended by the user.
    pub interrupted: bool,
    /// The goals and whether they hold.
    pub slo: Vec<Judgement>,
    /// All of them do; `null` without any.
    pub slo_held: Option<bool>,
    /// What a reader should know, one sentence each.
    pub notes: Vec<String>,
}

/// A thread that uses this much of its core has nothing left.
pub(crate) const BUSY_RATIO_FULL: f64 = 0.95;

impl Report {
    pub(crate) fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let stats = &outcome.stats;
        let seconds = outcome.measured.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let open = plan.mode.is_open();
        let (rate, arrivals) = arrivals(&plan.mode);
        let ended = stats.responses() + stats.failed() + stats.warmup_requests;
        Self {
            schema: "ringgate-load/1",
            version: env!("CARGO_PKG_VERSION"),
            target: plan.target.to_string(),
            address: outcome.endpoint.to_string(),
            request: request(plan),
            kinds: plan
                .kinds
                .iter()
                .zip(&stats.kinds)
                .map(KindReport::new)
                .collect(),
            mode: if open { "open" } else { "closed" },
            rate,
            rate_per_second_intended: plan.mode.mean_per_second(outcome.measured),
            arrivals,
            pacing: open.then(|| plan.pacing.name()),
            keys: plan.keys.as_ref().map(ToString::to_string),
            limit: plan.limit.map(|limit| limit.to_string()),
            limiter_accuracy: outcome.accuracy.clone(),
            threads: plan.threads,
            connections: plan.connections,
            connections_max: plan.connections_max,
            pipeline: plan.pipeline,
            driver: outcome.driver.driver.name(),
            driver_flags: outcome.driver.flags,
            driver_fallback: outcome.driver.fallback.clone(),
            warmup_s: plan.warmup.as_secs_f64(),
            measured_s: seconds,
            requests: Requests {
                sent: stats.sent,
                succeeded: stats.succeeded,
                failed: stats.failed(),
                waited: stats.waited,
                warmup: stats.warmup_requests,
                warmup_failed: stats.warmup_failures,
            },
            responses_per_second: per_second(stats.window_responses),
            body_bytes_per_second: per_second(stats.window_body_bytes),
            received_bytes: stats.received_bytes,
            statuses: stats.statuses(),
            errors: stats.failures.clone(),
            error_examples: stats.examples.clone(),
            latency_from_intended: open.then(|| Latency::of(&stats.from_intended)),
            latency_from_send: Latency::of(&stats.since_send()),
            first_byte: Latency::of(&stats.first_byte()),
            body: Latency::of(&stats.body()),
            connect: Latency::of(&stats.connect),
            lag: open.then(|| Latency::of(&stats.lag)),
            intervals: outcome.intervals.clone(),
            slices: outcome.slices.clone(),
            cpu: Cpu {
                seconds: outcome.cpu.as_secs_f64(),
                per_request_us: outcome.cpu.as_secs_f64() * 1e6 / (ended.max(1)) as f64,
                busy_ratios: outcome.busy_ratios.clone(),
            },
            memory_peak_bytes: memory_peak_bytes(),
            verdict: Verdict::new(plan, outcome),
        }
    }
}

/// The high-water mark of this process.
fn memory_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The rate as it was asked for, and how arrivals are spaced.
fn arrivals(mode: &Mode) -> (Option<String>, Option<&'static str>) {
    match mode {
        Mode::Closed => (None, None),
        Mode::Replay { log, speed, rounds } => (
            Some(format!("{} x{speed}, {rounds} times", log.file.display())),
            Some("replay"),
        ),
        Mode::Open { rate, process } => (
            Some(rate.to_string()),
            Some(match process {
                Process::Constant => "constant",
                Process::Poisson => "poisson",
            }),
        ),
    }
}

fn request(plan: &Plan) -> String {
    match plan.kinds.as_slice() {
        _ if matches!(plan.mode, Mode::Replay { .. }) => "the requests of a log".into(),
        [only] => only.name.clone(),
        kinds => format!("{} kinds of requests", kinds.len()),
    }
}

impl Latency {
    fn of(times: &Times) -> Self {
        let at = |quantile| microseconds(times.value_at_quantile(quantile));
        Self {
            count: times.len(),
            min_us: microseconds(times.min()),
            mean_us: times.mean() / 1e3,
            deviation_us: times.stdev() / 1e3,
            p50_us: at(0.5),
            p75_us: at(0.75),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: microseconds(times.max()),
            curve: curve(times),
            histogram: histogram::encode(times),
        }
    }
}

fn curve(times: &Times) -> Vec<(f64, f64)> {
    (0..)
        .map(|step: i32| 10_f64.powf(-f64::from(step) / 10.0))
        .take_while(|rest| rest * times.len() as f64 >= 1.0)
        .map(|rest| {
            let quantile = 1.0 - rest;
            (quantile, microseconds(times.value_at_quantile(quantile)))
        })
        .collect()
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

/// What a goal is judged by.
fn measured(measure: Measure, open: bool, outcome: &Outcome) -> f64 {
    let stats = &outcome.stats;
    let latency = stats.latency(open);
    match measure {
        // Nothing measured holds no goal.
        Measure::Quantile(_) | Measure::Mean | Measure::Max if latency.is_empty() => f64::INFINITY,
        Measure::Quantile(quantile) => microseconds(latency.value_at_quantile(quantile)),
        Measure::Mean => latency.mean() / 1e3,
        Measure::Max => microseconds(latency.max()),
        Measure::Errors => {
            let ended = stats.succeeded + stats.failed();
            stats.failed() as f64 / ended.max(1) as f64
        }
        Measure::Rate => stats.window_responses as f64 / outcome.measured.as_secs_f64().max(1e-9),
    }
}

impl Verdict {
    /// The run is as good as it should be, and can be relied on.
    pub(crate) fn holds(&self) -> bool {
        (self.clean || self.errors_allowed)
            && self.slo_held != Some(false)
            && !self.generator_bound
            && !self.interrupted
    }

    fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let stats = &outcome.stats;
        let open = plan.mode.is_open();
        let lag = Duration::from_nanos(stats.lag.value_at_quantile(0.99));
        let generator_bound = open && lag > plan.lag_max;
        let mut notes = Vec::new();
        if generator_bound {
            notes.push(format!(
                "generator-bound: 1 % of the requests were sent more than {lag:.1?} late (allowed: {:?}); use more \
                 threads, a lower rate or a quieter machine",
                plan.lag_max
            ));
        }
        if !open
            && outcome
                .busy_ratios
                .iter()
                .any(|&ratio| ratio > BUSY_RATIO_FULL)
        {
            notes.push(
                "a generator thread was busy all the time: the throughput may be its limit and not the server's"
                    .into(),
            );
        }
        if stats.waited > 0 {
            notes.push(format!(
                "{} requests waited for one of {} connections; the wait is in the latency from the intended start",
                stats.waited, plan.connections_max
            ));
        }
        if stats.responses() + stats.failed() == 0 {
            notes.push("nothing was measured: the run ended before the warm-up did".into());
        }
        if let Mode::Replay { log, .. } = &plan.mode
            && log.skipped > 0
        {
            notes.push(format!(
                "{} lines of the log are no requests and were left out",
                log.skipped
            ));
        }
        if outcome.interrupted {
            notes.push("ended early by a signal".into());
        }
        let slo = plan.slo.as_ref().map_or_else(Vec::new, |slo| {
            slo.judge(|measure| measured(measure, open, outcome))
        });
        Self {
            clean: stats.failed() == 0,
            errors_allowed: plan.slo.as_ref().is_some_and(Slo::allows_errors),
            generator_bound,
            interrupted: outcome.interrupted,
            slo_held: plan
                .slo
                .as_ref()
                .map(|_| slo.iter().all(|judgement| judgement.held)),
            slo,
            notes,
        }
    }
}
