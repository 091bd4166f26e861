//! Whose turn it is: one worker's choice among the endpoints of an upstream.
//!
//! A choice waits for nothing and allocates nothing. Which endpoints take part is worked out again when the upstream's epoch
//! says that something changed, and not before.

use std::sync::Arc;

use super::endpoint::{Endpoint, Upstream};
use super::maglev::rehash;
use crate::config::Balance;

/// Times that a key is hashed again because its endpoint takes no part; then it gets one by its place in the list.
const REHASHES_MAX: usize = 16;
/// Times that chance is asked for another endpoint than one that is ruled out; then it is the next in the list.
const DRAWS_MAX: usize = 4;

/// One worker's choice among the endpoints of one upstream.
#[derive(Debug)]
pub(super) struct Balancer {
    /// Of the upstream when `members` was worked out.
    epoch: u32,
    /// Those that take part, in the order of the config.
    members: Vec<Member>,
    /// For every endpoint whether it takes part, by its share: 0 does not.
    shares: Box<[u32]>,
    /// For every endpoint what it has saved for its turn, in round robin.
    saved: Box<[i64]>,
    random: fastrand::Rng,
}

/// An endpoint that takes part.
#[derive(Clone, Copy, Debug)]
struct Member {
    index: usize,
    /// Its weight times its share.
    weight: u32,
    /// The weights up to here, its own included.
    sum: u64,
}

impl Balancer {
    /// For the worker with this index: workers are staggered, so that they do not all begin with the first endpoint.
    pub(super) fn new(upstream: &Upstream, worker: usize) -> Self {
        let count = upstream.endpoints.len();
        let mut balancer = Self {
            epoch: 0,
            members: Vec::with_capacity(count),
            shares: vec![0; count].into_boxed_slice(),
            saved: vec![0; count].into_boxed_slice(),
            random: fastrand::Rng::new(),
        };
        balancer.work_out(upstream);
        if balancer.members.len() > 1 {
            for _ in 0..worker {
                balancer.in_turn();
            }
        }
        balancer
    }

    /// Whose turn it is, passing over those `tried`; `None`: nobody is left. `key`: the hash of what the request is
    /// told apart by, where the upstream goes by that.
    #[inline]
    pub(super) fn next(
        &mut self,
        upstream: &Upstream,
        key: Option<u64>,
        tried: &[usize],
    ) -> Option<usize> {
        if upstream.epoch() != self.epoch {
            self.work_out(upstream);
        }
        let first = match &*self.members {
            [] => return None,
            [only] => only.index,
            _ => self.choose(upstream, key),
        };
        if tried.is_empty() || !tried.contains(&first) {
            Some(first)
        } else {
            self.another(upstream, key, tried)
        }
    }

    /// The others that take part, from the one behind `endpoint` on.
    pub(super) fn others(&self, endpoint: usize) -> impl Iterator<Item = usize> {
        let place = self
            .members
            .iter()
            .position(|member| member.index == endpoint);
        let (before, after) = self.members.split_at(place.unwrap_or(0));
        let after = after.iter().skip(usize::from(place.is_some()));
        after.chain(before).map(|member| member.index)
    }

    /// One of two or more.
    #[inline(never)]
    fn choose(&mut self, upstream: &Upstream, key: Option<u64>) -> usize {
        match &upstream.config.balance {
            Balance::RoundRobin => self.in_turn(),
            Balance::LeastRequest => self.least_busy(&upstream.endpoints),
            Balance::TwoChoices => self.better_of_two(&upstream.endpoints),
            Balance::Random => self.any(),
            Balance::Hash(_) => self.by_key(upstream, key),
        }
    }

    #[cold]
    fn another(&mut self, upstream: &Upstream, key: Option<u64>, tried: &[usize]) -> Option<usize> {
        if self.members.len() > 1 {
            let mut key = key;
            for _ in 0..DRAWS_MAX {
                key = key.map(rehash);
                let index = self.choose(upstream, key);
                if !tried.contains(&index) {
                    return Some(index);
                }
            }
        }
        let mut indices = self.members.iter().map(|member| member.index);
        indices.find(|index| !tried.contains(index))
    }

    /// Weighted round robin that spreads each endpoint's turns evenly (nginx's method): every turn each endpoint gains
    /// its weight, the richest is picked and pays the sum of all.
    fn in_turn(&mut self) -> usize {
        let (mut richest, mut most, mut total) = (0, i64::MIN, 0);
        for member in &self.members {
            let saved = &mut self.saved[member.index];
            *saved += i64::from(member.weight);
            total += i64::from(member.weight);
            if *saved > most {
                (richest, most) = (member.index, *saved);
            }
        }
        self.saved[richest] -= total;
        richest
    }

    /// The place of a member, more often that of a heavier one.
    fn by_chance(&mut self) -> usize {
        let total = self.members.last().map_or(1, |last| last.sum);
        let drawn = self.random.u64(0..total);
        self.members.partition_point(|member| member.sum <= drawn)
    }

    fn any(&mut self) -> usize {
        let place = self.by_chance();
        self.members[place].index
    }

    /// The one with the fewest requests in flight for its weight, of equals one by chance and weight: idle endpoints
    /// share by weight too. Asks them all.
    fn least_busy(&mut self, endpoints: &[Arc<Endpoint>]) -> usize {
        let start = self.by_chance();
        let (before, after) = self.members.split_at(start);
        let mut all = after.iter().chain(before);
        let Some(mut best) = all.next() else {
            return 0;
        };
        let mut fewest = endpoints[best.index].requests();
        for member in all {
            let requests = endpoints[member.index].requests();
            if is_less_busy((requests, member.weight), (fewest, best.weight)) {
                (best, fewest) = (member, requests);
            }
        }
        best.index
    }

    /// Of two by chance and weight the one with fewer requests in flight for its weight (Mitzenmacher, "The power of two
    /// choices in randomized load balancing", 2001); the first if they are equals.
    fn better_of_two(&mut self, endpoints: &[Arc<Endpoint>]) -> usize {
        let first = self.by_chance();
        let mut second = first;
        for _ in 0..DRAWS_MAX {
            if second != first {
                break;
            }
            second = self.by_chance();
        }
        if second == first {
            second = (first + 1) % self.members.len();
        }
        let (first, second) = (self.members[first], self.members[second]);
        let load = |member: Member| (endpoints[member.index].requests(), member.weight);
        if is_less_busy(load(second), load(first)) {
            second.index
        } else {
            first.index
        }
    }

    /// The endpoint that the key stands for. One that is out gives its keys, and no others, to the rest by their weights; one
    /// that is warming up gives part of them.
    fn by_key(&mut self, upstream: &Upstream, key: Option<u64>) -> usize {
        let (Some(table), Some(mut hash)) = (upstream.table(), key) else {
            return self.any();
        };
        for _ in 0..REHASHES_MAX {
            let index = table.find(hash);
            hash = rehash(hash);
            let share = u64::from(self.shares[index]);
            if share == u64::from(SHARE_WHOLE) || hash % u64::from(SHARE_WHOLE) < share {
                return index;
            }
        }
        let place = hash % self.members.len() as u64;
        self.members[usize::try_from(place).unwrap_or(0)].index
    }

    /// Works out who takes part.
    #[cold]
    fn work_out(&mut self, upstream: &Upstream) {
        // Before the states: what changes after this is seen as another epoch.
        self.epoch = upstream.epoch();
        let (priority, regardless) = upstream.tier();
        self.members.clear();
        let mut sum = 0;
        for (index, endpoint) in upstream.endpoints.iter().enumerate() {
            let share = match (endpoint.priority == priority, regardless) {
                (true, true) => SHARE_WHOLE,
                (true, false) if endpoint.health.is_up() => endpoint.health.share(),
                _ => 0,
            };
            self.shares[index] = share;
            if share == 0 {
                // Who is back begins as if it had never been there.
                self.saved[index] = 0;
                continue;
            }
            let weight = endpoint.weight * share;
            sum += u64::from(weight);
            self.members.push(Member { index, weight, sum });
        }
    }
}

/// The share of an endpoint that is not warming up, in thousandths.
pub const SHARE_WHOLE: u32 = 1000;

/// Whether the first, as requests and weight, has fewer requests for its weight than the second.
fn is_less_busy(first: (u32, u32), second: (u32, u32)) -> bool {
    u64::from(first.0) * u64::from(second.1) < u64::from(second.0) * u64::from(first.1)
}

#[cfg(test)]
#[path = "balance/tests.rs"]
mod tests;
