//! Several limits on one request: all of them or nothing.

use crate::clock::Timestamp;
use crate::decision::Decision;
use crate::key::Key;
use crate::keyed::Limiter;
use crate::table::Sight;

/// What a limit's refusal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It refuses the request.
    Enforce,
    /// It is reported, and the request goes on.
    Shadow,
}

/// One of the limits of a request.
#[derive(Debug)]
pub struct Check<'a> {
    /// The limit.
    pub limiter: &'a Limiter,
    /// By what it counts this request.
    pub key: Key,
    /// Units that the request takes of it.
    pub cost: u64,
    /// What its refusal does.
    pub mode: Mode,
    /// What was found and when, once it was asked.
    found: Option<(Sight<'a>, Timestamp)>,
}

impl<'a> Check<'a> {
    /// A check of one unit that is enforced.
    #[must_use]
    pub const fn new(limiter: &'a Limiter, key: Key) -> Self {
        Self {
            limiter,
            key,
            cost: 1,
            mode: Mode::Enforce,
            found: None,
        }
    }

    /// Its decision, once [`check_all`] has made it.
    #[must_use]
    pub fn decision(&self) -> Option<Decision<'a>> {
        let (sight, now) = self.found?;
        let limiter = self.limiter;
        Some(limiter.decision(self.key, self.cost, now, sight.outcome))
    }

    /// Whether its decision lets the request through; `None` before it is made.
    #[inline]
    #[must_use]
    pub fn is_allowed(&self) -> Option<bool> {
        self.found.map(|(sight, _)| sight.outcome.taken)
    }

    /// Whether this limit forbids the request.
    #[inline]
    fn forbids(&self) -> bool {
        self.is_allowed() == Some(false) && self.mode == Mode::Enforce
    }
}

/// Takes the cost of a request from all its limits, or from none of them.
///
/// Looks at all first and writes nothing if one refuses. Then it takes them in order; where another thread has drained one
/// meanwhile, what was taken of those before is given back. Between the taking and the giving back another request can be
/// refused units that are in fact free: at most the cost of those requests that other threads are giving back at that
/// moment, for one thread of all but the last limit once. No request is ever admitted that a limit forbids.
///
/// A limit in shadow takes what it has and never refuses.
///
/// # Errors
///
/// The index of the limit that refuses; of several, the one that wants the longest wait. Every check then holds what its own
/// limit would have decided, and nothing is charged.
pub fn check_all(checks: &mut [Check<'_>], now: Timestamp) -> Result<(), usize> {
    if let [only] = checks {
        // It decides at once.
        let outcome = only.limiter.take(only.key, only.cost, now);
        only.found = Some((Sight::done(outcome), now));
        return if only.forbids() { Err(0) } else { Ok(()) };
    }
    let mut forbidden = false;
    for check in &mut *checks {
        let sight = check.limiter.sight(check.key, check.cost, now);
        check.found = Some((sight, now));
        forbidden |= check.forbids();
    }
    if forbidden && let Some(index) = longest_wait(checks) {
        return Err(index);
    }
    for index in 0..checks.len() {
        // Mostly nothing has happened since the look, whose decision then stands.
        let found = checks[index].found.as_ref();
        if !found.is_some_and(|(sight, _)| sight.take()) && !take_again(checks, index, now) {
            return Err(index);
        }
    }
    Ok(())
}

/// Decides one check anew, after a look that could not be made true; false: it forbids the request, and what was taken of
/// those before it is given back.
#[inline(never)]
fn take_again(checks: &mut [Check<'_>], index: usize, now: Timestamp) -> bool {
    let (taken, rest) = checks.split_at_mut(index);
    let Some(check) = rest.first_mut() else {
        return true;
    };
    let outcome = check.limiter.take(check.key, check.cost, now);
    check.found = Some((Sight::done(outcome), now));
    if !check.forbids() {
        return true;
    }
    for earlier in taken {
        if let Some(Decision::Allowed(allowed)) = earlier.decision() {
            earlier.limiter.give_back(&allowed, now);
        }
    }
    false
}

/// The forbidding limit whose refusal lasts longest; one that will never admit the request before all others.
#[inline(never)]
fn longest_wait(checks: &[Check<'_>]) -> Option<usize> {
    let wait = |check: &Check<'_>| match check.decision() {
        Some(Decision::Refused(refused)) => refused
            .retry_after()
            .map_or(u128::MAX, |wait| wait.as_nanos()),
        _ => 0,
    };
    let forbidding = checks
        .iter()
        .enumerate()
        .filter(|(_, check)| check.forbids());
    forbidding
        .max_by_key(|(_, check)| wait(check))
        .map(|(index, _)| index)
}
