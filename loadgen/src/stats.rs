//! What is counted, and the histograms: kept per thread, handed to the main thread now and then, added up there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::nanos;
use crate::connection::Flight;
use crate::schedule::Arrival;

/// Longest time a histogram tells apart; longer ones count as this.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// Statuses that a response may have, and those below.
const STATUSES: usize = 600;
/// Significant decimal digits of a recorded time.
const DIGITS: u8 = 3;

/// Times in nanoseconds to three digits, up to an hour.
pub(crate) type Times = Histogram<u64>;

/// An empty histogram. 256 KiB of address space, of which only what is recorded into is touched.
#[expect(clippy::expect_used, reason = "the bounds are constants")]
pub(crate) fn times() -> Times {
    Histogram::new_with_bounds(1, nanos(TIME_MAX), DIGITS).expect("1 ns to 1 h, three digits")
}

/// What is in both.
fn sum(one: &Times, other: &Times) -> Times {
    let mut sum = one.clone();
    add(&mut sum, other);
    sum
}

/// Both in one; each of the 30,000 places is visited, unless there is nothing in them.
fn add(into: &mut Times, from: &Times) {
    if !from.is_empty() {
        let added = into.add(from);
        debug_assert!(added.is_ok(), "all histograms have the same bounds");
    }
}

fn clear(times: &mut Times) {
    if !times.is_empty() {
        times.reset();
    }
}

/// Why a request failed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No connection: refused, unreachable, no descriptor left, or not within the timeout.
    Connect,
    /// The connection was reset.
    Reset,
    /// The server closed the connection before the response was complete.
    Closed,
    /// No complete response within the timeout.
    Timeout,
    /// What came is not a well-formed HTTP/1.1 response, or nobody asked for it.
    BadResponse,
    /// A complete response with a status that was not expected.
    Status,
    /// It was due, but no connection became free for it before the run ended.
    Unsent,
    /// Bytes came that no request had asked for. The only kind that is not the end of a request.
    Unsolicited,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::BadResponse => "bad_response",
            Self::Status => "status",
            Self::Unsent => "unsent",
            Self::Unsolicited => "unsolicited",
        })
    }
}

/// Counts and times of one stretch of a run. Only what was due after the warm-up is in here, but for the fields that
/// say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// Requests put on the wire.
    pub(crate) sent: u64,
    /// Complete responses with an expected status.
    pub(crate) succeeded: u64,
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// An example of each failure, as the system or the framer put it.
    pub(crate) examples: BTreeMap<Failure, String>,
    /// Complete responses by status: an array, since one is looked up for each response.
    statuses: Vec<u64>,
    /// Complete responses that ended in the time of the measurement, whenever they were due.
    pub(crate) window_responses: u64,
    /// Bytes of their bodies.
    pub(crate) window_body_bytes: u64,
    /// Bytes received in all, warm-up included.
    pub(crate) received_bytes: u64,
    /// From the intended start to the last byte, of complete responses and of timeouts; empty in a closed loop, where
    /// it is the same as from the send.
    pub(crate) from_intended: Times,
    /// From the actual send to a whole response that came in one read: to its first byte and to its last.
    pub(crate) at_once: Times,
    /// From the actual send to the last byte of the other responses, and to timeouts.
    in_parts: Times,
    /// From the actual send to the first byte of the others.
    in_parts_first_byte: Times,
    /// From their first byte to their last.
    in_parts_body: Times,
    /// How late the generator itself was: from the intended start to the send, where a connection was free.
    pub(crate) lag: Times,
    /// To make a connection, warm-up included.
    pub(crate) connect: Times,
    /// Requests that had to wait for a connection to become free.
    pub(crate) waited: u64,
    /// Requests and failures of the warm-up.
    pub(crate) warmup_requests: u64,
    pub(crate) warmup_failures: u64,
    /// The same for each kind of request; empty where there is only one.
    pub(crate) kinds: Vec<KindStats>,
    /// When the last measured request ended, in nanoseconds since the start of the run.
    pub(crate) last_end_ns: u64,
}

/// What one kind of request came to.
#[derive(Clone, Debug)]
pub(crate) struct KindStats {
    pub(crate) responses: u64,
    pub(crate) failed: u64,
    /// From the intended start, which is the send in a closed loop.
    pub(crate) times: Times,
}

impl KindStats {
    fn new() -> Self {
        Self {
            responses: 0,
            failed: 0,
            times: times(),
        }
    }
}

impl Stats {
    pub(crate) fn new(kinds: usize) -> Self {
        let kinds = if kinds > 1 { kinds } else { 0 };
        Self {
            kinds: vec![KindStats::new(); kinds],
            sent: 0,
            succeeded: 0,
            failures: BTreeMap::new(),
            examples: BTreeMap::new(),
            statuses: vec![0; STATUSES],
            window_responses: 0,
            window_body_bytes: 0,
            received_bytes: 0,
            from_intended: times(),
            at_once: times(),
            in_parts: times(),
            in_parts_first_byte: times(),
            in_parts_body: times(),
            lag: times(),
            connect: times(),
            waited: 0,
            warmup_requests: 0,
            warmup_failures: 0,
            last_end_ns: 0,
        }
    }

    /// Complete responses, whatever their status.
    pub(crate) fn responses(&self) -> u64 {
        self.statuses.iter().sum()
    }

    /// Those that there were, by status.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, u64> {
        let counts = (0..).zip(self.statuses.iter().copied());
        counts.filter(|&(_, count)| count > 0).collect()
    }

    pub(crate) fn count_status(&mut self, status: u16) {
        let count = self.statuses.get_mut(usize::from(status));
        debug_assert!(count.is_some(), "the framer lets no other status through");
        if let Some(count) = count {
            *count += 1;
        }
    }

    /// From the actual send to the last byte, of complete responses and of timeouts.
    pub(crate) fn since_send(&self) -> Times {
        sum(&self.at_once, &self.in_parts)
    }

    /// What latency means: from the intended start where there is one, else from the send.
    pub(crate) fn latency(&self, open_loop: bool) -> Times {
        if open_loop {
            self.from_intended.clone()
        } else {
            self.since_send()
        }
    }

    /// From the actual send to the first byte of the response.
    pub(crate) fn first_byte(&self) -> Times {
        sum(&self.at_once, &self.in_parts_first_byte)
    }

    /// From the first byte of the response to the last: 0 where both came in one read.
    pub(crate) fn body(&self) -> Times {
        let mut body = self.in_parts_body.clone();
        let recorded = body.record_n(0, self.at_once.len());
        debug_assert!(recorded.is_ok(), "0 is within the bounds");
        body
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(crate) fn fail(&mut self, failure: Failure, why: impl FnOnce() -> String) {
        *self.failures.entry(failure).or_default() += 1;
        self.examples.entry(failure).or_insert_with(why);
    }

    /// A measured request of a kind ended at `now_ns`; `answered`: with a response, `failed`: not as it should.
    pub(crate) fn record_kind(
        &mut self,
        kind: usize,
        arrival: Arrival,
        now_ns: u64,
        (answered, failed): (bool, bool),
    ) {
        if let Some(kind) = self.kinds.get_mut(kind) {
            kind.responses += u64::from(answered);
            kind.failed += u64::from(failed);
            if answered {
                kind.times.saturating_record(now_ns - arrival.intended_ns);
            }
        }
    }

    /// The response to a measured request ended at `now_ns`.
    pub(crate) fn record_times(&mut self, flight: &Flight, now_ns: u64, open_loop: bool) {
        let &Flight {
            arrival,
            sent_ns,
            first_byte_ns,
            ..
        } = flight;
        debug_assert!(arrival.intended_ns <= sent_ns && sent_ns <= now_ns);
        self.last_end_ns = now_ns;
        if open_loop {
            self.from_intended
                .saturating_record(now_ns - arrival.intended_ns);
        }
        match first_byte_ns {
            Some(first_byte_ns) if first_byte_ns < now_ns => {
                self.in_parts.saturating_record(now_ns - sent_ns);
                self.in_parts_body.saturating_record(now_ns - first_byte_ns);
                self.record_first_byte(flight);
            }
            _ => self.at_once.saturating_record(now_ns - sent_ns),
        }
    }

    /// A measured request was given up at `now_ns`: it counts with the time it was waited for.
    pub(crate) fn record_timeout(&mut self, flight: &Flight, now_ns: u64, open_loop: bool) {
        self.last_end_ns = now_ns;
        self.in_parts.saturating_record(now_ns - flight.sent_ns);
        if open_loop {
            self.from_intended
                .saturating_record(now_ns - flight.arrival.intended_ns);
        }
    }

    /// The first byte of a response that did not come as a whole.
    pub(crate) fn record_first_byte(&mut self, flight: &Flight) {
        if let Some(first_byte_ns) = flight.first_byte_ns {
            self.in_parts_first_byte
                .saturating_record(first_byte_ns - flight.sent_ns);
        }
    }

    /// Forgets everything. Cost: a histogram that has nothing in it is not touched.
    pub(crate) fn clear(&mut self) {
        self.statuses.fill(0);
        for kind in &mut self.kinds {
            (kind.responses, kind.failed) = (0, 0);
            clear(&mut kind.times);
        }
        for times in [
            &mut self.from_intended,
            &mut self.at_once,
            &mut self.in_parts,
            &mut self.in_parts_first_byte,
            &mut self.in_parts_body,
            &mut self.lag,
            &mut self.connect,
        ] {
            clear(times);
        }
        self.failures.clear();
        self.examples.clear();
        self.sent = 0;
        self.succeeded = 0;
        self.window_responses = 0;
        self.window_body_bytes = 0;
        self.received_bytes = 0;
        self.waited = 0;
        self.warmup_requests = 0;
        self.warmup_failures = 0;
        self.last_end_ns = 0;
    }

    /// Adds what another thread or a later stretch counted. Cost: as that of [`Stats::clear`].
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        for (&failure, count) in &other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        for (&failure, why) in &other.examples {
            self.examples.entry(failure).or_insert_with(|| why.clone());
        }
        for (count, more) in self.statuses.iter_mut().zip(&other.statuses) {
            *count += more;
        }
        self.window_responses += other.window_responses;
        self.window_body_bytes += other.window_body_bytes;
        self.received_bytes += other.received_bytes;
        self.waited += other.waited;
        self.warmup_requests += other.warmup_requests;
        self.warmup_failures += other.warmup_failures;
        self.last_end_ns = self.last_end_ns.max(other.last_end_ns);
        for (into, from) in self.kinds.iter_mut().zip(&other.kinds) {
            into.responses += from.responses;
            into.failed += from.failed;
            add(&mut into.times, &from.times);
        }
        for (into, from) in [
            (&mut self.from_intended, &other.from_intended),
            (&mut self.at_once, &other.at_once),
            (&mut self.in_parts, &other.in_parts),
            (&mut self.in_parts_first_byte, &other.in_parts_first_byte),
            (&mut self.in_parts_body, &other.in_parts_body),
            (&mut self.lag, &other.lag),
            (&mut self.connect, &other.connect),
        ] {
            add(into, from);
        }
    }
}
