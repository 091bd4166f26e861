//! The designs that are compared, each with the same hash and, but for the article's, the same time.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use limiter::{
    Budget, Clock, Key, KeyHasher, Limiter, LimiterOptions, MonotonicClock, Period, Quota,
    TableOptions, Timestamp,
};

#[expect(
    clippy::disallowed_types,
    reason = "the designs that lock are what is compared"
)]
type Mutex<T> = std::sync::Mutex<T>;

/// Units per second and units at once, for whatever design.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// One way to limit; shared by the threads, each of which brings its own part.
pub(crate) trait Design: Sync + Sized {
    /// What a thread owns.
    type Part: Send;
    /// Whether it reads a clock itself instead of being told the time.
    const OWN_CLOCK: bool = false;
    /// A design with room for `keys`, and the parts of `threads`.
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<Self::Part>);
    /// Whether one unit of a key is there at `now_ns`.
    fn decide(&self, part: &mut Self::Part, key: Key, now_ns: u64) -> bool;
    /// Makes all keys known.
    fn fill(&self, parts: &mut [Self::Part], keys: &[Key]) {
        for part in parts.iter_mut().take(1) {
            keys.iter().for_each(|&key| {
                self.decide(part, key, 1);
            });
        }
    }
    /// What a thread does after its last decision until all threads have made theirs.
    fn finish(&self, _part: &mut Self::Part, _running: &AtomicUsize) {}
}

/// The token bucket of the article: fractions of tokens, refilled from the clock that is read under the lock.
struct GoBucket {
    tokens: f64,
    max_tokens: f64,
    refill_rate: f64,
    last_refilled: Instant,
}

impl GoBucket {
    #[expect(
        clippy::disallowed_methods,
        reason = "the original reads the clock itself"
    )]
    fn new(rate: Rate) -> Self {
        let max_tokens = f64::from(rate.burst);
        let refill_rate = f64::from(rate.per_second);
        Self {
            tokens: max_tokens,
            max_tokens,
            refill_rate,
            last_refilled: Instant::now(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the original reads the clock itself"
    )]
    fn allow(&mut self) -> bool {
        let now = Instant::now();
        self.tokens += (now - self.last_refilled).as_secs_f64() * self.refill_rate;
        if self.tokens > self.max_tokens {
            self.tokens = self.max_tokens;
        }
        self.last_refilled = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// The article's bucket for everybody.
pub(crate) struct ArticleGlobal(Mutex<GoBucket>);

impl Design for ArticleGlobal {
    type Part = ();
    const OWN_CLOCK: bool = true;
    fn new(_keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        (Self(Mutex::new(GoBucket::new(rate))), vec![(); threads])
    }
    fn decide(&self, (): &mut (), _key: Key, _now_ns: u64) -> bool {
        self.0.lock().is_ok_and(|mut bucket| bucket.allow())
    }
    fn fill(&self, _parts: &mut [()], _keys: &[Key]) {}
}

/// A map whose keys are hashes already.
type Map<V> = HashMap<u64, V, BuildHasherDefault<Given>>;

/// A hasher that takes a hash for what it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, &byte| hash << 8 | u64::from(byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The article's bucket for each key, in a map behind a lock.
pub(crate) struct ArticleMap(Mutex<Map<GoBucket>>, Rate);

impl Design for ArticleMap {
    type Part = ();
    const OWN_CLOCK: bool = true;
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        let map = Map::with_capacity_and_hasher(keys, BuildHasherDefault::new());
        (Self(Mutex::new(map), rate), vec![(); threads])
    }
    fn decide(&self, (): &mut (), key: Key, _now_ns: u64) -> bool {
        let bucket = |map: &mut Map<GoBucket>| {
            map.entry(key.hash())
                .or_insert_with(|| GoBucket::new(self.1))
                .allow()
        };
        self.0.lock().is_ok_and(|mut map| bucket(&mut map))
    }
}

/// The same arithmetic as ours in a plain number, for the designs that differ in how they share it.
fn gcra(tat: &mut u64, rate: Rate, now_ns: u64) -> bool {
    let interval = 1_000_000_000 / u64::from(rate.per_second);
    let next = (*tat).max(now_ns) + interval;
    let allowed = next - now_ns <= interval * u64::from(rate.burst);
    if allowed {
        *tat = next;
    }
    allowed
}

/// Locks that the keys are spread over.
const LOCKS: usize = 64;

/// A map for each of 64 locks.
pub(crate) struct ShardedMutex(Vec<Mutex<Map<u64>>>, Rate);

impl Design for ShardedMutex {
    type Part = ();
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        let map = || Map::with_capacity_and_hasher(keys / LOCKS, BuildHasherDefault::new());
        (
            Self((0..LOCKS).map(|_| Mutex::new(map())).collect(), rate),
            vec![(); threads],
        )
    }
    fn decide(&self, (): &mut (), key: Key, now_ns: u64) -> bool {
        // The map takes its group from the top bits and its place from the low ones; these are between.
        let shard = &self.0[(key.hash() >> 32) as usize % LOCKS];
        shard
            .lock()
            .is_ok_and(|mut map| gcra(map.entry(key.hash()).or_default(), self.1, now_ns))
    }
}

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

/// A clock for governor that shows the time it is given.
#[derive(Clone)]
struct GivenClock;

impl GovernorClock for GivenClock {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        Nanos::from(NOW_NS.get())
    }
}

fn governor_quota(rate: Rate) -> governor::Quota {
    let per_second = NonZeroU32::new(rate.per_second).unwrap_or(NonZeroU32::MIN);
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    governor::Quota::per_second(per_second).allow_burst(burst)
}

type GovernorStore = DashMapStateStore<u64, BuildHasherDefault<Given>>;

/// `governor` keyed, with the hash and the time it is given.
pub(crate) struct Governor(
    governor::RateLimiter<u64, GovernorStore, GivenClock, NoOpMiddleware<Nanos>>,
);

impl Design for Governor {
    type Part = ();
    fn new(_keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        let hasher = BuildHasherDefault::new();
        let limiter = governor::RateLimiter::dashmap_with_clock_and_hasher(
            governor_quota(rate),
            GivenClock,
            hasher,
        );
        (Self(limiter), vec![(); threads])
    }
    fn decide(&self, (): &mut (), key: Key, now_ns: u64) -> bool {
        NOW_NS.set(now_ns);
        self.0.check_key(&key.hash()).is_ok()
    }
}

/// `governor` keyed as it comes: its own hash and clock.
pub(crate) struct GovernorWhole(governor::DefaultKeyedRateLimiter<u64>);

impl Design for GovernorWhole {
    type Part = ();
    const OWN_CLOCK: bool = true;
    fn new(_keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        (
            Self(governor::RateLimiter::keyed(governor_quota(rate))),
            vec![(); threads],
        )
    }
    fn decide(&self, (): &mut (), key: Key, _now_ns: u64) -> bool {
        self.0.check_key(&key.hash()).is_ok()
    }
}

/// A map for each thread, which knows nothing of the others.
pub(crate) struct ThreadLocal(Rate);

impl Design for ThreadLocal {
    type Part = Map<u64>;
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<Map<u64>>) {
        let map = |_| Map::with_capacity_and_hasher(keys, BuildHasherDefault::new());
        (Self(rate), (0..threads).map(map).collect())
    }
    fn decide(&self, map: &mut Map<u64>, key: Key, now_ns: u64) -> bool {
        gcra(map.entry(key.hash()).or_default(), self.0, now_ns)
    }
    fn fill(&self, parts: &mut [Map<u64>], keys: &[Key]) {
        for part in parts {
            keys.iter().for_each(|&key| {
                self.decide(part, key, 1);
            });
        }
    }
}

/// Each key belongs to one thread; the others ask it by message and wait for the answer, while they answer themselves.
pub(crate) struct Owner {
    rate: Rate,
    threads: usize,
}

/// A thread's keys, and its rings to and from each other thread.
pub(crate) struct OwnerPart {
    index: usize,
    map: Map<u64>,
    ask: Vec<Option<rtrb::Producer<(u64, u64)>>>,
    asked: Vec<Option<rtrb::Consumer<(u64, u64)>>>,
    answer: Vec<Option<rtrb::Producer<bool>>>,
    answered: Vec<Option<rtrb::Consumer<bool>>>,
}

impl OwnerPart {
    fn serve(&mut self, rate: Rate) {
        let pairs = self
            .asked
            .iter_mut()
            .flatten()
            .zip(self.answer.iter_mut().flatten());
        for (asked, answer) in pairs {
            while let Ok((hash, now_ns)) = asked.pop() {
                let allowed = gcra(self.map.entry(hash).or_default(), rate, now_ns);
                let sent = answer.push(allowed);
                debug_assert!(sent.is_ok(), "one question at a time");
            }
        }
    }
}

impl Owner {
    fn owner(&self, key: Key) -> usize {
        (key.hash() >> 32) as usize % self.threads
    }
}

impl Design for Owner {
    type Part = OwnerPart;
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<OwnerPart>) {
        let none = || (0..threads).map(|_| None).collect::<Vec<_>>();
        let part = |index| OwnerPart {
            index,
            map: Map::with_capacity_and_hasher(keys / threads, BuildHasherDefault::new()),
            ask: none(),
            asked: (0..threads).map(|_| None).collect(),
            answer: (0..threads).map(|_| None).collect(),
            answered: (0..threads).map(|_| None).collect(),
        };
        let mut parts: Vec<_> = (0..threads).map(part).collect();
        for from in 0..threads {
            for to in (0..threads).filter(|&to| to != from) {
                let (ask, asked) = rtrb::RingBuffer::new(2);
                let (answer, answered) = rtrb::RingBuffer::new(2);
                parts[from].ask[to] = Some(ask);
                parts[to].asked[from] = Some(asked);
                parts[to].answer[from] = Some(answer);
                parts[from].answered[to] = Some(answered);
            }
        }
        (Self { rate, threads }, parts)
    }
    fn decide(&self, part: &mut OwnerPart, key: Key, now_ns: u64) -> bool {
        let owner = self.owner(key);
        if owner == part.index {
            part.serve(self.rate);
            return gcra(part.map.entry(key.hash()).or_default(), self.rate, now_ns);
        }
        if let Some(ask) = &mut part.ask[owner] {
            let sent = ask.push((key.hash(), now_ns));
            debug_assert!(sent.is_ok(), "one question at a time");
        }
        let mut turns = 0_u32;
        loop {
            part.serve(self.rate);
            if let Some(Ok(allowed)) = part.answered[owner].as_mut().map(rtrb::Consumer::pop) {
                return allowed;
            }
            // With more threads than cores the owner may not be running.
            turns += 1;
            if turns.is_multiple_of(1_024) {
                std::thread::yield_now();
            }
        }
    }
    fn fill(&self, parts: &mut [OwnerPart], keys: &[Key]) {
        for &key in keys {
            let map = &mut parts[self.owner(key)].map;
            gcra(map.entry(key.hash()).or_default(), self.rate, 1);
        }
    }
    fn finish(&self, part: &mut OwnerPart, running: &AtomicUsize) {
        while running.load(Ordering::Acquire) > 0 {
            part.serve(self.rate);
            std::thread::yield_now();
        }
    }
}

pub(crate) fn ours(keys: usize, rate: Rate, threads: usize) -> Limiter {
    ours_on(false, keys, rate, threads)
}

#[expect(
    clippy::expect_used,
    reason = "the numbers are constants of the benchmark"
)]
fn ours_on(huge_pages: bool, keys: usize, rate: Rate, threads: usize) -> Limiter {
    let quota = Quota::new(rate.per_second.into(), Period::Second, rate.burst.into());
    let keys = NonZeroU64::new(keys as u64).unwrap_or(NonZeroU64::MIN);
    let shards = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    let table = TableOptions {
        huge_pages,
        ..TableOptions::new(Budget::Keys(keys)).with_shards(shards)
    };
    Limiter::new(LimiterOptions {
        quota: quota.expect("a quota"),
        table,
    })
    .expect("a table")
}

/// This project's limiter.
pub(crate) struct Ours(Limiter);

impl Design for Ours {
    type Part = ();
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        (Self(ours(keys, rate, threads)), vec![(); threads])
    }
    fn decide(&self, (): &mut (), key: Key, now_ns: u64) -> bool {
        self.0
            .check(key, 1, Timestamp::from_nanos(now_ns))
            .is_allowed()
    }
}

/// The same with its table in pages of 2 MiB, where the system grants them.
pub(crate) struct OursHuge(Limiter);

impl Design for OursHuge {
    type Part = ();
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        (Self(ours_on(true, keys, rate, threads)), vec![(); threads])
    }
    fn decide(&self, (): &mut (), key: Key, now_ns: u64) -> bool {
        self.0
            .check(key, 1, Timestamp::from_nanos(now_ns))
            .is_allowed()
    }
}

/// This project's limiter with all that a request needs: an address to hash and a clock to read.
pub(crate) struct OursWhole {
    limiter: Limiter,
    hasher: KeyHasher,
    clock: MonotonicClock,
}

impl Design for OursWhole {
    type Part = ();
    const OWN_CLOCK: bool = true;
    fn new(keys: usize, rate: Rate, threads: usize) -> (Self, Vec<()>) {
        let limiter = ours(keys, rate, threads);
        let hasher = KeyHasher::with_secret(1);
        (
            Self {
                limiter,
                hasher,
                clock: MonotonicClock::new(),
            },
            vec![(); threads],
        )
    }
    fn decide(&self, (): &mut (), key: Key, _now_ns: u64) -> bool {
        // The hash stands for the client: a different 64 bits for each, hashed again as an address of that length.
        let address = std::net::Ipv6Addr::from(u128::from(key.hash()) << 64);
        let key = self.hasher.address(address.into(), 64);
        self.limiter.check(key, 1, self.clock.now()).is_allowed()
    }
}

/// The least that any shared limiter does: one compare-and-swap, on one word for all keys.
pub(crate) struct BareSwap(AtomicU64);

impl Design for BareSwap {
    type Part = ();
    fn new(_keys: usize, _rate: Rate, threads: usize) -> (Self, Vec<()>) {
        (Self(AtomicU64::new(0)), vec![(); threads])
    }
    fn decide(&self, (): &mut (), _key: Key, now_ns: u64) -> bool {
        let step = |word: u64| word.max(now_ns) + 1;
        self.0.update(Ordering::AcqRel, Ordering::Acquire, step) < u64::MAX
    }
    fn fill(&self, _parts: &mut [()], _keys: &[Key]) {}
}

/// As many lines as ours has for so many keys: four slots each, 54 % of them used.
fn lines(keys: usize) -> Vec<[AtomicU64; 8]> {
    let lines: Vec<[AtomicU64; 8]> = (0..(keys * 100 / (54 * 4)).max(1))
        .map(|_| std::array::from_fn(|_| AtomicU64::new(1)))
        .collect();
    // Written after it was made: memory that is only ever read would be one page of zeroes over and over.
    let words = lines.iter().flatten();
    words.for_each(|word| word.store(black_box(0), Ordering::Relaxed));
    lines
}

/// The word of a hash in a table of lines.
fn word_of(lines: &[[AtomicU64; 8]], hash: u64) -> &AtomicU64 {
    &lines[((hash >> 32) as usize * lines.len()) >> 32][hash as usize % 8]
}

/// The least that any shared limiter of many keys does: one compare-and-swap on a word of the key's line.
pub(crate) struct BareSwapLine(Vec<[AtomicU64; 8]>);

impl Design for BareSwapLine {
    type Part = ();
    fn new(keys: usize, _rate: Rate, threads: usize) -> (Self, Vec<()>) {
        (Self(lines(keys)), vec![(); threads])
    }
    fn decide(&self, (): &mut (), key: Key, now_ns: u64) -> bool {
        let step = |word: u64| word.max(now_ns) + 1;
        word_of(&self.0, key.hash()).update(Ordering::AcqRel, Ordering::Acquire, step) < u64::MAX
    }
    fn fill(&self, _parts: &mut [()], _keys: &[Key]) {}
}

/// What memory takes to answer: one read of the key's line, for which the next one waits.
pub(crate) struct BareRead(Vec<[AtomicU64; 8]>);

impl Design for BareRead {
    type Part = u64;
    fn new(keys: usize, _rate: Rate, threads: usize) -> (Self, Vec<u64>) {
        (Self(lines(keys)), vec![0; threads])
    }
    fn decide(&self, last: &mut u64, key: Key, _now_ns: u64) -> bool {
        // Zero, which the compiler cannot know: the next line's number waits for this one's content.
        *last = word_of(&self.0, key.hash() ^ *last).load(Ordering::Relaxed);
        true
    }
    fn fill(&self, _parts: &mut [u64], _keys: &[Key]) {}
}

/// A second, for rates.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
