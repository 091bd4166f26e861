//! Things kept to be used again, of which no more are kept than are needed: what a burst left goes back in a few seconds.

/// Kept at least, so that the first after a quiet time finds one.
const SPARE_MIN: usize = 8;

/// A stack of things that nobody uses now. Taking and giving is a pop or a push.
#[derive(Debug)]
pub struct Spare<T> {
    things: Vec<T>,
    /// The fewest there were since the last [`Spare::trim`]: so many nobody has needed.
    fewest: usize,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Spare<T> {
    /// Nothing yet; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            things: Vec::new(),
            fewest: 0,
        }
    }

    /// The one given last.
    pub fn take(&mut self) -> Option<T> {
        let thing = self.things.pop();
        self.fewest = self.fewest.min(self.things.len());
        thing
    }

    /// Keeps `thing`, unless there are `most`.
    pub fn give(&mut self, thing: T, most: usize) {
        if self.things.len() < most {
            self.things.push(thing);
        }
    }

    /// Drops those that nobody has needed since the last call, all but a few. Called twice a second, a load that goes on finds
    /// what it needs, and what one left that is over is gone at the second call. One that comes and goes makes its things anew
    /// each time: bounded, as they are.
    pub fn trim(&mut self) {
        let unneeded = self.fewest.saturating_sub(SPARE_MIN);
        // From the bottom: those have lain longest, and their memory is the coldest.
        self.things.drain(..unneeded);
        if unneeded > 0 {
            self.things.shrink_to(self.things.len() * 2);
        }
        self.fewest = self.things.len();
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// None is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(count: usize) -> Spare<usize> {
        let mut spare = Spare::new();
        (0..count).for_each(|thing| spare.give(thing, 100));
        spare.trim();
        spare
    }

    #[test]
    fn no_more_than_the_most_are_kept() {
        assert_eq!(kept(1000).len(), 100);
    }

    #[test]
    fn what_nobody_needs_goes_at_once_and_a_few_stay() {
        let mut spare = kept(100);
        spare.trim();
        assert_eq!(spare.len(), 8);
        spare.trim();
        assert_eq!(spare.len(), 8);
        assert_eq!(spare.take(), Some(99), "the one used last stays");
    }

    #[test]
    fn what_a_load_gave_back_stays_until_the_second_look() {
        let mut spare = kept(0);
        (0..100).for_each(|thing| spare.give(thing, 100));
        spare.trim();
        assert_eq!(spare.len(), 100, "it was needed a moment ago");
        spare.trim();
        assert_eq!(spare.len(), 8);
    }

    #[test]
    fn what_was_needed_between_two_looks_stays() {
        let mut spare = kept(100);
        for _ in 0..5 {
            let taken: Vec<_> = (0..92).map_while(|_| spare.take()).collect();
            taken.into_iter().for_each(|thing| spare.give(thing, 100));
            spare.trim();
        }
        assert_eq!(spare.len(), 100);
    }
}
