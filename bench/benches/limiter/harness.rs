//! How a design is driven: threads that start before the clock does, traffic that is drawn beforehand.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use criterion::Criterion;
use limiter::{Clock, Key, KeyHasher, MonotonicClock, Timestamp};

use crate::designs::{Design, Rate, SECOND, ours};

/// Decisions of one pass over the traffic; longer runs repeat it.
const TRAFFIC: usize = 1 << 21;
/// Fewest decisions of a run: some milliseconds.
const DECISIONS_MIN: u64 = 100_000;
/// What a thread's clock shows later from one decision to the next: about what a decision takes.
const STEP_NS: u64 = 10;

/// The keys that are known and, for each thread, those that come.
pub(crate) struct Traffic {
    pub(crate) keys: Vec<Key>,
    threads: Vec<Vec<Key>>,
}

impl Traffic {
    /// `keys` keys and as many threads; `steered` sends each key to the thread that owns its shard.
    pub(crate) fn new(keys: usize, threads: usize, steered: bool) -> Self {
        let hasher = KeyHasher::with_secret(0x5eed);
        let key = |name: usize| hasher.bytes(&name.to_le_bytes());
        // One hot key is one for each thread where they are steered, for each is the only one of its client.
        let wanted = if steered { keys.max(64) } else { keys };
        let all: Vec<Key> = (0..wanted).map(key).collect();
        let shards = ours(
            1,
            Rate {
                per_second: 1,
                burst: 1,
            },
            threads,
        );
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut traffic = |thread: usize| -> Vec<Key> {
            let mine = |key: &&Key| !steered || shards.shard_of(**key) == thread;
            let mut mine: Vec<Key> = all.iter().filter(mine).copied().collect();
            if keys == 1 {
                mine.truncate(1);
            }
            (0..TRAFFIC.min(keys * 1_024))
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    mine[(random >> 11) as usize % mine.len()]
                })
                .collect()
        };
        let threads = (0..threads).map(&mut traffic).collect();
        Self { keys: all, threads }
    }
}

/// Nanoseconds per decision and thread, the median of criterion's samples; `None` where a filter leaves the cell out.
pub(crate) fn cost<D: Design>(
    criterion: &mut Criterion,
    id: &str,
    traffic: &Traffic,
) -> Option<f64> {
    let threads = traffic.threads.len();
    // Never refused, so that every decision writes. A hot key refills between two decisions; of many keys each stays live,
    // so that none may be given another's place.
    let rate = if traffic.keys.len() <= 64 {
        Rate {
            per_second: 1_000_000_000,
            burst: 1_000_000_000,
        }
    } else {
        Rate {
            per_second: 1,
            burst: 10_000_000,
        }
    };
    let samples = RefCell::new(Vec::new());
    let mut made = None;
    let now_ns = AtomicU64::new(SECOND.as_nanos() as u64);
    criterion.bench_function(id, |bencher| {
        let (design, parts) = made.get_or_insert_with(|| {
            let (design, mut parts) = D::new(traffic.keys.len(), rate, threads);
            design.fill(&mut parts, &traffic.keys);
            (design, parts)
        });
        bencher.iter_custom(|iterations| {
            // A short run would measure how the threads start.
            let decisions = iterations.max(DECISIONS_MIN);
            let start_ns = now_ns.fetch_add(decisions * STEP_NS, Ordering::Relaxed);
            let time = run(design, parts, traffic, decisions, start_ns);
            samples
                .borrow_mut()
                .push(time.as_nanos() as f64 / decisions as f64);
            time.mul_f64(iterations as f64 / decisions as f64)
        });
    });
    let mut samples = samples.into_inner();
    // The first one finds cold caches.
    let mut measured = samples.split_off(samples.len().min(1));
    measured.sort_by(f64::total_cmp);
    measured
        .get(measured.len() / 2)
        .or_else(|| samples.first())
        .copied()
}

/// The time in which each thread makes its decisions, from the first start to the last end.
fn run<D: Design>(
    design: &D,
    parts: &mut [D::Part],
    traffic: &Traffic,
    decisions: u64,
    start_ns: u64,
) -> Duration {
    let clock = MonotonicClock::new();
    let waiting = AtomicUsize::new(parts.len());
    let running = AtomicUsize::new(parts.len());
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let spans: Vec<(Timestamp, Timestamp)> = thread::scope(|scope| {
        let threads: Vec<_> = parts
            .iter_mut()
            .zip(&traffic.threads)
            .enumerate()
            .map(|(index, (part, keys))| {
                let core = cores.get(index % cores.len().max(1)).copied();
                let (clock, waiting, running) = (&clock, &waiting, &running);
                scope.spawn(move || {
                    let _pinned = core.map(core_affinity::set_for_current);
                    waiting.fetch_sub(1, Ordering::AcqRel);
                    while waiting.load(Ordering::Acquire) > 0 {
                        thread::yield_now();
                    }
                    let start = clock.now();
                    let mut now_ns = start_ns;
                    // Where the run before left off, so that no short stretch of the traffic gets into the caches.
                    let done = (start_ns / STEP_NS) as usize % keys.len();
                    let traffic = keys[done..].iter().chain(keys.iter().cycle());
                    for &key in traffic.take(decisions as usize) {
                        now_ns += STEP_NS;
                        black_box(design.decide(part, black_box(key), now_ns));
                    }
                    let end = clock.now();
                    running.fetch_sub(1, Ordering::AcqRel);
                    design.finish(part, running);
                    (start, end)
                })
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    let start = spans.iter().map(|span| span.0).min().unwrap_or_default();
    let end = spans.iter().map(|span| span.1).max().unwrap_or_default();
    end.saturating_since(start)
}

/// Units admitted over units allowed when threads ask for one key without a pause on the real clock, for this time and
/// until so many units have refilled.
pub(crate) fn accuracy<D: Design>(
    per_second: u32,
    threads: usize,
    time: Duration,
    units_min: u32,
) -> f64 {
    // A tenth of a second, so that a moment without any running thread loses nothing; of one unit at once every moment
    // between its coming due and being asked for would be lost.
    let rate = Rate {
        per_second,
        burst: per_second.div_ceil(10).max(2),
    };
    // Half a unit longer: whether a unit that is due at the very end is still asked for would be chance.
    let interval = SECOND / per_second;
    let time = time.max(interval * units_min) + interval / 2;
    let traffic = Traffic::new(1, 1, false);
    let key = traffic.keys[0];
    let clock = MonotonicClock::new();
    let since_origin = |now: Timestamp| now.as_nanos() + SECOND.as_nanos() as u64;
    let waiting = AtomicUsize::new(threads);
    let running = AtomicUsize::new(threads);
    let latest = AtomicU64::new(0);
    let (design, mut parts) = D::new(1_000, rate, threads);
    let earliest = AtomicU64::new(u64::MAX);
    let admitted: u64 = thread::scope(|scope| {
        let workers: Vec<_> = parts
            .iter_mut()
            .map(|part| {
                let (design, clock) = (&design, &clock);
                let (earliest, latest, waiting, running) = (&earliest, &latest, &waiting, &running);
                scope.spawn(move || {
                    waiting.fetch_sub(1, Ordering::AcqRel);
                    while waiting.load(Ordering::Acquire) > 0 {
                        thread::yield_now();
                    }
                    let start = clock.now();
                    earliest.fetch_min(start.as_nanos(), Ordering::Relaxed);
                    let end = start.saturating_add(time);
                    let mut admitted = 0;
                    let mut now = start;
                    while now < end {
                        admitted += u64::from(design.decide(part, key, since_origin(now)));
                        now = clock.now();
                    }
                    // What is still there was due as well.
                    while design.decide(part, key, since_origin(now)) {
                        admitted += 1;
                    }
                    let last = if D::OWN_CLOCK { clock.now() } else { now };
                    latest.fetch_max(last.as_nanos(), Ordering::Relaxed);
                    running.fetch_sub(1, Ordering::AcqRel);
                    design.finish(part, running);
                    admitted
                })
            })
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .sum()
    });
    let elapsed = latest.into_inner().saturating_sub(earliest.into_inner());
    let refilled = u128::from(elapsed) * u128::from(per_second) / SECOND.as_nanos();
    admitted as f64 / (u128::from(rate.burst) + refilled) as f64
}

/// Resident bytes that a design takes for each of so many keys.
pub(crate) fn bytes_per_key<D: Design>(keys: &[Key]) -> Option<f64> {
    let before = resident_bytes()?;
    let rate = Rate {
        per_second: 1,
        burst: 10_000_000,
    };
    let (design, mut parts) = D::new(keys.len(), rate, 1);
    design.fill(&mut parts, keys);
    let after = resident_bytes()?;
    black_box((design, parts));
    Some((after - before).max(0.0) / keys.len() as f64)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}
