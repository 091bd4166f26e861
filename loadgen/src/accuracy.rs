//! Holds a limiter to its word: what each key was granted against what an ideal token bucket grants.
//!
//! The ideal bucket of a key decides at the moment a request is sent, the server some time between that and the response;
//! so the two may differ by what the rate gives in one latency, and by one request at each edge. Nothing is sampled: every
//! request of every key counts, the warm-up too, since it empties buckets.

use std::fmt;
use std::str::FromStr;

use limiter::Rate;
use serde::Serialize;

use crate::clock::nanos;
use crate::keys::Key;
use crate::units;

/// A limit: a rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Nanoseconds that one request costs.
    period_ns: u64,
    burst: u64,
}

/// Keys that a thread keeps a bucket for; a request of another key is not judged.
const KEYS_MAX: u64 = 1 << 24;

impl Limit {
    /// A rate, and a burst, which is the rate's number unless given.
    ///
    /// # Errors
    ///
    /// A rate beyond what nanoseconds can tell apart, a burst of 0.
    pub fn new(rate: Rate, burst: Option<u64>) -> Result<Self, String> {
        let period_ns = nanos(rate.period) / rate.units.get();
        if period_ns == 0 {
            return Err(format!("{rate}: more than one request per nanosecond"));
        }
        let burst = burst.unwrap_or_else(|| rate.units.get());
        if burst == 0 {
            return Err("a burst of 0 would refuse everything".into());
        }
        Ok(Self { period_ns, burst })
    }
}

impl FromStr for Limit {
    type Err = String;

    /// `100/s`, `30/m:10`: a rate per second, minute, hour or day, and a burst after a colon. Numbers may have a `k`
    /// or an `m` for thousands and millions.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: String| format!("{why}; a limit is 100/s, 100/s:200 (a burst of 200) or 30/m:5");
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(units::count(burst)?)),
            None => (text, None),
        };
        let rate = match rate.split_once('/') {
            Some((number, period)) => format!("{}/{period}", units::count(number)?).parse(),
            None => rate.parse(),
        };
        rate.and_then(|rate| Self::new(rate, burst)).map_err(wrong)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3}/s, burst {}",
            1e9 / self.period_ns as f64,
            self.burst
        )
    }
}

/// What a key asked for and got.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// When the ideal bucket is full again, in nanoseconds since the start of the run.
    full_at_ns: u64,
    ideal: u32,
    granted: u32,
    asked: u32,
}

/// All keys of one thread.
#[derive(Debug)]
pub(crate) struct Accounts {
    limit: Limit,
    threads: u64,
    accounts: Vec<Account>,
    /// By the second in which requests were sent.
    seconds: Vec<Second>,
    unjudged: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    ideal: u64,
    granted: u64,
}

/// What came of it, over all keys.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accuracy {
    /// Keys that sent anything.
    pub keys: u64,
    /// Requests judged.
    pub requests: u64,
    /// What the limiter granted.
    pub granted: u64,
    /// What the ideal bucket grants.
    pub ideal: u64,
    /// Granted beyond the ideal, added up over the keys that got too much, in per cent of the ideal.
    pub over_percent: f64,
    /// Refused short of the ideal, added up over the keys that got too little, in per cent of the ideal.
    pub under_percent: f64,
    /// The key that got most beyond its due.
    pub worst_over: Option<KeyAccount>,
    /// The key that got most short of its due.
    pub worst_under: Option<KeyAccount>,
    /// The second, of all keys together, that was furthest from the ideal.
    pub worst_second: Option<SecondAccount>,
    /// Requests of keys beyond those that are kept account of, or without a response.
    pub unjudged: u64,
}

/// One key.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KeyAccount {
    /// Its number.
    pub key: u64,
    /// Requests it sent.
    pub asked: u32,
    /// Those that were granted.
    pub granted: u32,
    /// Those that the ideal bucket grants.
    pub ideal: u32,
}

/// One second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SecondAccount {
    /// Since the start of the warm-up.
    pub start_s: u64,
    /// Requests sent in it that were granted.
    pub granted: u64,
    /// Those that the ideal buckets grant.
    pub ideal: u64,
}

impl Accounts {
    pub(crate) fn new(limit: Limit, threads: u32) -> Self {
        Self {
            limit,
            threads: u64::from(threads),
            accounts: Vec::new(),
            seconds: Vec::new(),
            unjudged: 0,
        }
    }

    /// A request of `key` goes out; times may only rise from call to call.
    pub(crate) fn sent(&mut self, key: Key, now_ns: u64) {
        let Limit { period_ns, burst } = self.limit;
        let Some(account) = self.account(key) else {
            self.unjudged += 1;
            return;
        };
        account.asked += 1;
        let full_at_ns = account.full_at_ns.max(now_ns) + period_ns;
        let grants = full_at_ns - now_ns <= burst.saturating_mul(period_ns);
        if grants {
            account.full_at_ns = full_at_ns;
            account.ideal += 1;
        }
        self.second(now_ns).ideal += u64::from(grants);
    }

    /// The request of `key` that was sent at `sent_ns` has been answered.
    pub(crate) fn answered(&mut self, key: Key, sent_ns: u64, granted: bool) {
        let Some(account) = self.account(key) else {
            return;
        };
        account.granted += u32::from(granted);
        self.second(sent_ns).granted += u64::from(granted);
    }

    /// A request got no answer: nobody knows whether it was granted.
    pub(crate) fn lost(&mut self) {
        self.unjudged += 1;
    }

    fn account(&mut self, key: Key) -> Option<&mut Account> {
        if key.index >= KEYS_MAX {
            return None;
        }
        let index = usize::try_from(key.index).ok()?;
        if index >= self.accounts.len() {
            self.accounts.resize(index + 1, Account::default());
        }
        self.accounts.get_mut(index)
    }

    fn second(&mut self, now_ns: u64) -> &mut Second {
        let index = usize::try_from(now_ns / 1_000_000_000).unwrap_or(usize::MAX);
        if index >= self.seconds.len() {
            self.seconds.resize(index + 1, Second::default());
        }
        &mut self.seconds[index]
    }

    /// Adds up the keys of all threads, in the order of the threads.
    pub(crate) fn conclude(threads: &[Self]) -> Accuracy {
        let mut accuracy = Accuracy::default();
        let (mut over, mut under) = (0_u64, 0_u64);
        let mut seconds: Vec<Second> = Vec::new();
        for (thread, accounts) in threads.iter().enumerate() {
            accuracy.unjudged += accounts.unjudged;
            for (index, account) in accounts.accounts.iter().enumerate() {
                if account.asked == 0 {
                    continue;
                }
                let key = KeyAccount {
                    key: index as u64 * accounts.threads + thread as u64,
                    asked: account.asked,
                    granted: account.granted,
                    ideal: account.ideal,
                };
                accuracy.add(key);
                over += u64::from(key.granted.saturating_sub(key.ideal));
                under += u64::from(key.ideal.saturating_sub(key.granted));
            }
            seconds.resize(seconds.len().max(accounts.seconds.len()), Second::default());
            for (all, own) in seconds.iter_mut().zip(&accounts.seconds) {
                all.ideal += own.ideal;
                all.granted += own.granted;
            }
        }
        let percent = |count: u64| count as f64 / accuracy.ideal.max(1) as f64 * 100.0;
        (accuracy.over_percent, accuracy.under_percent) = (percent(over), percent(under));
        accuracy.worst_second = (0_u64..)
            .zip(seconds)
            .max_by_key(|(_, second)| second.granted.abs_diff(second.ideal))
            .map(|(start_s, second)| SecondAccount {
                start_s,
                granted: second.granted,
                ideal: second.ideal,
            });
        accuracy
    }
}

impl Accuracy {
    fn add(&mut self, key: KeyAccount) {
        self.keys += 1;
        self.requests += u64::from(key.asked);
        self.granted += u64::from(key.granted);
        self.ideal += u64::from(key.ideal);
        let over = |key: &KeyAccount| key.granted.saturating_sub(key.ideal);
        let under = |key: &KeyAccount| key.ideal.saturating_sub(key.granted);
        if over(&key) > self.worst_over.as_ref().map_or(0, over) {
            self.worst_over = Some(key);
        }
        if under(&key) > self.worst_under.as_ref().map_or(0, under) {
            self.worst_under = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn key(index: u64) -> Key {
        Key {
            index,
            number: index,
        }
    }

    /// `granted` decides over each request of one key that asks every millisecond for two seconds.
    fn judge(limit: &str, mut granted: impl FnMut(u64) -> bool) -> Accuracy {
        let mut accounts = Accounts::new(limit.parse().unwrap(), 1);
        for ms in 0..2000 {
            accounts.sent(key(0), ms * MS);
            accounts.answered(key(0), ms * MS, granted(ms));
        }
        Accounts::conclude(&[accounts])
    }

    #[test]
    fn the_ideal_is_the_burst_and_then_the_rate() {
        let accuracy = judge("100/s:20", |_| false);
        // 20 at once and 100/s for 2 s; the last is due exactly at the end.
        assert!((219..=220).contains(&accuracy.ideal), "{accuracy:?}");
        assert_eq!((accuracy.requests, accuracy.granted), (2000, 0));
        assert_eq!(accuracy.under_percent, 100.0);
        assert_eq!(accuracy.worst_under.unwrap().asked, 2000);
        assert!(accuracy.worst_over.is_none());
    }

    #[test]
    fn a_limiter_that_grants_twice_the_rate_is_over_by_a_hundred_per_cent() {
        // 200 more than the burst in each second instead of 100.
        let accuracy = judge("100/s:1", |ms| ms % 5 == 0);
        assert!((accuracy.over_percent - 100.0).abs() < 1.0, "{accuracy:?}");
        assert_eq!(accuracy.under_percent, 0.0);
        let worst = accuracy.worst_over.unwrap();
        assert_eq!((worst.key, worst.granted), (0, 400));
        let second = accuracy.worst_second.unwrap();
        assert!(second.granted.abs_diff(2 * second.ideal) <= 2, "{second:?}");
    }

    #[test]
    fn one_key_over_and_one_under_do_not_cancel() {
        let mut accounts = Accounts::new("10/s:10".parse().unwrap(), 1);
        for request in 0..20 {
            accounts.sent(key(0), 0);
            accounts.answered(key(0), 0, true);
            accounts.sent(key(1), 0);
            accounts.answered(key(1), 0, false);
            let _ = request;
        }
        let accuracy = Accounts::conclude(&[accounts]);
        assert_eq!(
            (accuracy.keys, accuracy.granted, accuracy.ideal),
            (2, 20, 20)
        );
        assert_eq!(
            (accuracy.over_percent, accuracy.under_percent),
            (50.0, 50.0)
        );
    }

    #[test]
    fn limits_are_read_with_their_unit() {
        let limit: Limit = "30/m:5".parse().unwrap();
        assert_eq!(
            limit,
            Limit {
                period_ns: 2_000_000_000,
                burst: 5
            }
        );
        assert_eq!("100/s".parse::<Limit>().unwrap().burst, 100);
        for text in ["", "100", "100/w", "0/s", "100/s:0", "2000m/s"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
