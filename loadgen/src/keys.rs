//! A population of client keys, and which of them sends the next request.
//!
//! Each thread has a share of the keys of its own, so that the requests of one key have one order, and a limiter can be
//! held to it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::nanos;
use crate::schedule::Share;
use crate::units;

/// Keys that addresses can be made for: 127.0.0.0/8 and 10.0.0.0/8 have 2^24 each, less a few with a meaning.
pub(crate) const ADDRESSES: u64 = (1 << 24) - 16;

/// A population and how its members take turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Uniform {
        count: u64,
    },
    /// The k-th most frequent key has a share in proportion to k^-exponent.
    Zipf {
        count: u64,
        exponent: f64,
    },
    /// A share of the requests comes from a few keys; others become hot after each `churn`.
    Hot {
        count: u64,
        hot: u64,
        share: f64,
        churn: Option<Duration>,
    },
    /// Each request has a key of its own.
    Once,
}

/// Where the key of a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAs {
    /// Wherever a template says `${key}` or `${key_ip}`.
    Template,
    /// In `X-Forwarded-For`, as an address in 10.0.0.0/8.
    ForwardedFor,
    /// In a header field, as `key-N`.
    Header(http::HeaderName),
    /// It is the address that a connection comes from, in 127.0.0.0/8; a connection keeps its key.
    Source,
}

impl FromStr for Keys {
    type Err = String;

    /// `uniform:N`, `zipf:N[:EXPONENT]`, `hot:N:HOT:SHARE[@TIME]` or `once`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no population: write uniform:10k, zipf:1m, zipf:1m:1.2, hot:1m:100:90%@1s or once"
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let kind = match parts.as_slice() {
            ["once"] => Kind::Once,
            ["uniform", count] => Kind::Uniform {
                count: units::count(count)?,
            },
            ["zipf", count] => Kind::Zipf {
                count: units::count(count)?,
                exponent: 1.0,
            },
            ["zipf", count, exponent] => Kind::Zipf {
                count: units::count(count)?,
                exponent: exponent
                    .parse()
                    .ok()
                    .filter(|exponent| (0.01..=10.0).contains(exponent))
                    .ok_or_else(wrong)?,
            },
            ["hot", count, hot, rest] => {
                let (share, churn) = match rest.split_once('@') {
                    Some((share, churn)) => (share, Some(units::duration(churn)?)),
                    None => (*rest, None),
                };
                let percent: f64 = share
                    .strip_suffix('%')
                    .and_then(|share| share.parse().ok())
                    .ok_or_else(wrong)?;
                let (count, hot) = (units::count(count)?, units::count(hot)?);
                if !(0.0..=100.0).contains(&percent) || hot > count || churn == Some(Duration::ZERO)
                {
                    return Err(wrong());
                }
                Kind::Hot {
                    count,
                    hot,
                    share: percent / 100.0,
                    churn,
                }
            }
            _ => return Err(wrong()),
        };
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KeyAs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "xff" => Ok(Self::ForwardedFor),
            "source" => Ok(Self::Source),
            _ => text
                .strip_prefix("header:")
                .and_then(|name| name.parse().ok())
                .map(Self::Header)
                .ok_or_else(|| format!("`{text}` is not xff, source or header:NAME")),
        }
    }
}

impl Keys {
    /// Keys in all; `None`: no end of them.
    pub(crate) fn count(&self) -> Option<u64> {
        match self.kind {
            Kind::Uniform { count } | Kind::Zipf { count, .. } | Kind::Hot { count, .. } => {
                Some(count)
            }
            Kind::Once => None,
        }
    }

    /// This thread's keys.
    pub(crate) fn draw(&self, share: Share, seed: u64) -> Draw {
        let (thread, threads) = (u64::from(share.thread), u64::from(share.threads));
        let own = |count: u64| (count / threads + u64::from(thread < count % threads)).max(1);
        let kind = match self.kind {
            Kind::Uniform { count } => Kind::Uniform { count: own(count) },
            Kind::Zipf { count, exponent } => Kind::Zipf {
                count: own(count),
                exponent,
            },
            Kind::Hot {
                count,
                hot,
                share,
                churn,
            } => Kind::Hot {
                count: own(count),
                hot: own(hot),
                share,
                churn,
            },
            Kind::Once => Kind::Once,
        };
        let zipf = match kind {
            Kind::Zipf { count, exponent } => Some(Zipf::new(count, exponent)),
            Kind::Uniform { .. } | Kind::Hot { .. } | Kind::Once => None,
        };
        Draw {
            kind,
            zipf,
            random: fastrand::Rng::with_seed(
                seed ^ (thread + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ),
            next: 0,
            thread,
            threads,
        }
    }
}

/// Draws the keys of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    kind: Kind,
    zipf: Option<Zipf>,
    random: fastrand::Rng,
    next: u64,
    thread: u64,
    threads: u64,
}

impl Draw {
    /// The key of the next request, and its place among the keys of this thread.
    pub(crate) fn next(&mut self, now_ns: u64) -> Key {
        let index = match (self.kind, &self.zipf) {
            (_, Some(zipf)) => zipf.sample(&mut self.random) - 1,
            (Kind::Uniform { count } | Kind::Zipf { count, .. }, None) => self.random.u64(0..count),
            (
                Kind::Hot {
                    count,
                    hot,
                    share,
                    churn,
                },
                None,
            ) => {
                if self.random.f64() < share {
                    let turn = churn.map_or(0, |churn| now_ns / nanos(churn).max(1));
                    (turn.wrapping_mul(hot) % count + self.random.u64(0..hot)) % count
                } else {
                    self.random.u64(0..count)
                }
            }
            (Kind::Once, None) => {
                self.next += 1;
                self.next - 1
            }
        };
        Key {
            index,
            number: index.wrapping_mul(self.threads).wrapping_add(self.thread),
        }
    }
}

/// A client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its place among the keys of its thread, from 0.
    pub(crate) index: u64,
    /// Its number among all keys, from 0.
    pub(crate) number: u64,
}

impl Key {
    /// Its address in a private network, to be forwarded for.
    pub(crate) fn forwarded_address(self) -> Ipv4Addr {
        self.address_in(Ipv4Addr::new(10, 0, 0, 0))
    }

    /// Its address on the loopback interface, to connect from.
    pub(crate) fn source_address(self) -> Ipv4Addr {
        self.address_in(Ipv4Addr::new(127, 0, 0, 0))
    }

    fn address_in(self, network: Ipv4Addr) -> Ipv4Addr {
        let offset = u32::try_from(self.number % ADDRESSES).unwrap_or_default();
        // Not the network itself nor, on loopback, the address that everybody uses.
        Ipv4Addr::from_bits(network.to_bits() + 2 + offset)
    }
}

/// Zipf's distribution on 1 to n by rejection from its continuous counterpart, in constant time and space (W. Hörmann
/// and G. Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", 1996).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral of the density from 1.5 back by the mass of 1, and at n + 0.5.
    from: f64,
    to: f64,
    shortcut: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let mut zipf = Self {
            count: count as f64,
            exponent,
            from: 0.0,
            to: 0.0,
            shortcut: 0.0,
        };
        zipf.from = zipf.integral(1.5) - 1.0;
        zipf.to = zipf.integral(count as f64 + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank is clamped to 1..=count"
    )]
    fn sample(&self, random: &mut fastrand::Rng) -> u64 {
        loop {
            let area = self.to + random.f64() * (self.from - self.to);
            let x = self.inverse(area);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.shortcut || area >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as u64;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// (x^(1-s) - 1) / (1 - s), which is ln x at s = 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        log * expm1_ratio((1.0 - self.exponent) * log)
    }

    fn inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.exponent)).max(-1.0);
        (area * ln1p_ratio(t)).exp()
    }
}

/// (e^x - 1) / x.
fn expm1_ratio(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0
    }
}

/// ln(1 + x) / x.
fn ln1p_ratio(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const ALONE: Share = Share {
        thread: 0,
        threads: 1,
    };

    fn frequencies(spec: &str, draws: u32, now_ns: u64) -> HashMap<u64, f64> {
        let keys: Keys = spec.parse().unwrap();
        let mut draw = keys.draw(ALONE, 3);
        let mut counts: HashMap<u64, f64> = HashMap::new();
        for _ in 0..draws {
            *counts.entry(draw.next(now_ns).number).or_default() += 1.0 / f64::from(draws);
        }
        counts
    }

    #[test]
    fn zipf_keys_have_the_frequencies_of_the_law() {
        for exponent in [0.5, 1.0, 1.5] {
            let counts = frequencies(&format!("zipf:100:{exponent}"), 200_000, 0);
            let total: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [1_u32, 2, 3, 10, 50, 100] {
                let expected = f64::from(rank).powf(-exponent) / total;
                let actual = counts[&u64::from(rank - 1)];
                // Five deviations of a binomial share.
                let tolerance = 5.0 * (expected / 200_000.0).sqrt();
                assert!(
                    (actual - expected).abs() < tolerance,
                    "s {exponent} rank {rank}: {actual} {expected}"
                );
            }
            assert_eq!(counts.len(), 100);
        }
    }

    #[test]
    fn uniform_keys_are_all_as_frequent() {
        let counts = frequencies("uniform:50", 100_000, 0);
        assert_eq!(counts.len(), 50);
        assert!(counts.values().all(|share| (share - 0.02).abs() < 0.003));
    }

    #[test]
    fn a_few_keys_are_hot_and_others_after_the_churn() {
        let hot = |now_ns| {
            let counts = frequencies("hot:1000:10:90%@1s", 20_000, now_ns);
            let mut hot: Vec<u64> = counts
                .into_iter()
                .filter(|&(_, share)| share > 0.05)
                .map(|(key, _)| key)
                .collect();
            hot.sort_unstable();
            hot
        };
        assert_eq!(hot(999_999_999), (0..10).collect::<Vec<_>>());
        assert_eq!(hot(1_000_000_000), (10..20).collect::<Vec<_>>());
    }

    #[test]
    fn each_request_can_have_a_key_of_its_own() {
        assert_eq!(frequencies("once", 1000, 0).len(), 1000);
    }

    #[test]
    fn threads_share_no_key_and_miss_none() {
        let keys: Keys = "uniform:10".parse().unwrap();
        let mut owners: HashMap<u64, u32> = HashMap::new();
        for thread in 0..3 {
            let mut draw = keys.draw(Share { thread, threads: 3 }, 1);
            for _ in 0..1000 {
                let owner = *owners.entry(draw.next(0).number).or_insert(thread);
                assert_eq!(owner, thread);
            }
        }
        assert_eq!(owners.len(), 10);
        assert!(owners.keys().all(|&number| number < 10));
    }

    #[test]
    fn addresses_are_distinct_and_in_their_network() {
        let key = |number| Key { index: 0, number };
        assert_eq!(key(0).source_address(), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(key(256).forwarded_address(), Ipv4Addr::new(10, 0, 1, 2));
        assert_eq!(
            key(ADDRESSES - 1).source_address(),
            Ipv4Addr::new(127, 255, 255, 241)
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "zipf",
            "zipf:0",
            "zipf:10:0",
            "hot:10:20:50%",
            "hot:10:5:0.5",
            "hot:10:5:101%",
            "uniform:x",
            "once:1",
        ] {
            assert!(text.parse::<Keys>().is_err(), "{text}");
        }
    }
}
