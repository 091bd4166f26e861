//! What a route's path captured: places in the path.

use std::ops::Range;

use arrayvec::ArrayVec;

use crate::config::PATH_CAPTURES_MAX;

/// Places in the path of a request, in the order of the route's captures.
#[derive(Clone, Debug, Default)]
pub struct Captures(ArrayVec<(u32, u32), PATH_CAPTURES_MAX>);

impl Captures {
    /// One place.
    #[cfg(test)]
    pub(in crate::data) fn of_place(place: Range<usize>) -> Self {
        let mut captures = Self::default();
        captures.push(place);
        captures
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, place: Range<usize>) {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let pushed = self.0.try_push((narrow(place.start), narrow(place.end)));
        debug_assert!(pushed.is_ok(), "the configuration bounds captures");
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// The octets of the capture with this number; empty where there is none.
    #[must_use]
    pub fn of<'a>(&self, number: usize, path: &'a [u8]) -> &'a [u8] {
        let place = self.0.get(number);
        place
            .and_then(|&(from, to)| path.get(from as usize..to as usize))
            .unwrap_or_default()
    }
}
