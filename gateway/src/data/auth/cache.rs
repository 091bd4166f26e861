//! Tokens that one worker has verified, so that it verifies each once: a table of fixed size, in sets of four.

use std::rc::Rc;

use super::Identity;

/// Places of a set; a newcomer takes that of the one that was used longest ago.
const WAYS: usize = 4;

/// What was verified. Holds whole tokens: that two are equal is seen by comparing them, not their hashes.
#[derive(Debug)]
pub(super) struct TokenCache {
    /// Each set has the one used last in front.
    sets: Box<[[Option<Entry>; WAYS]]>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    token: Box<[u8]>,
    identity: Rc<Identity>,
    until: u64,
}

impl TokenCache {
    /// For some `tokens`, rounded up to whole sets; 0 keeps none.
    pub(super) fn new(tokens: usize) -> Self {
        let sets = std::iter::repeat_with(Default::default).take(tokens.div_ceil(WAYS));
        Self {
            sets: sets.collect(),
        }
    }

    /// Whom a token speaks of, if it was verified and is valid at `now`.
    pub(super) fn find(&mut self, hash: u64, token: &[u8], now: u64) -> Option<Rc<Identity>> {
        let set = self.set(hash)?;
        let is_it = |entry: &Entry| entry.hash == hash && *entry.token == *token;
        let at = set
            .iter()
            .position(|entry| entry.as_ref().is_some_and(is_it))?;
        set[..=at].rotate_right(1);
        let entry = set[0].as_ref()?;
        if now < entry.until {
            return Some(Rc::clone(&entry.identity));
        }
        set[0] = None;
        None
    }

    /// Remembers a verified token until its time has passed.
    pub(super) fn put(&mut self, hash: u64, token: &[u8], identity: Rc<Identity>, until: u64) {
        let Some(set) = self.set(hash) else { return };
        set.rotate_right(1);
        set[0] = Some(Entry {
            hash,
            token: token.into(),
            identity,
            until,
        });
    }

    /// Forgets all: the keys are others now.
    pub(super) fn clear(&mut self) {
        self.sets
            .iter_mut()
            .for_each(|set| *set = Default::default());
    }

    fn set(&mut self, hash: u64) -> Option<&mut [Option<Entry>; WAYS]> {
        let sets = self.sets.len() as u64;
        // Spreads by the high bits, whatever the number of sets.
        let at = (u128::from(hash) * u128::from(sets)) >> 64;
        self.sets.get_mut(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Rc<Identity> {
        Rc::new(Identity::new(name, &[], None))
    }

    #[test]
    fn a_token_is_found_until_its_time_has_passed() {
        let mut cache = TokenCache::new(8);
        cache.put(7, b"one", who("a"), 100);
        assert_eq!(&*cache.find(7, b"one", 99).unwrap().name, "a");
        assert!(
            cache.find(7, b"two", 99).is_none(),
            "another token with the same hash"
        );
        assert!(cache.find(8, b"one", 99).is_none());
        assert!(cache.find(7, b"one", 100).is_none());
        assert!(cache.find(7, b"one", 99).is_none(), "it was forgotten");
    }

    #[test]
    fn a_full_set_forgets_the_one_used_longest_ago() {
        let mut cache = TokenCache::new(1);
        for (hash, token) in (0..).zip([b"a", b"b", b"c", b"d"]) {
            cache.put(hash, token, who("x"), 9);
        }
        assert!(cache.find(0, b"a", 0).is_some());
        cache.put(9, b"e", who("x"), 9);
        assert!(cache.find(1, b"b", 0).is_none());
        assert!(
            [(0, b"a"), (2, b"c"), (3, b"d"), (9, b"e")]
                .iter()
                .all(|(hash, token)| cache.find(*hash, *token, 0).is_some())
        );
        cache.clear();
        assert!(cache.find(0, b"a", 0).is_none());
    }

    #[test]
    fn a_cache_of_nothing_keeps_nothing() {
        let mut cache = TokenCache::new(0);
        cache.put(1, b"a", who("x"), 9);
        assert!(cache.find(1, b"a", 0).is_none());
    }
}
