//! Durations by route, method and status: a bounded set that grows as combinations appear.

use std::cell::Cell;

use super::counter::Histogram;
use super::kinds::Method;

/// Series of (route, method, status) that a worker keeps; observations beyond them are only counted.
pub const SERIES_MAX: usize = 1024;
#[repr(align(128))]
pub(super) struct Series {
    pub(super) key: SeriesKey,
    pub(super) durations: Histogram,
}

/// Route, method and status in one word, in the order of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesKey(u32);

impl SeriesKey {
    const NO_ROUTE: u16 = u16::MAX;
    const STATUS_BITS: u32 = 10;
    const METHOD_BITS: u32 = 4;

    pub(super) fn new(route: Option<u16>, method: Method, status: u16) -> Self {
        const { assert!(Method::ALL.len() <= 1 << Self::METHOD_BITS) };
        debug_assert!(status < 1 << Self::STATUS_BITS && route != Some(Self::NO_ROUTE));
        let status = u32::from(status) & ((1 << Self::STATUS_BITS) - 1);
        let route = u32::from(route.unwrap_or(Self::NO_ROUTE));
        Self((((route << Self::METHOD_BITS) | method as u32) << Self::STATUS_BITS) | status)
    }

    pub(super) fn route(self) -> Option<u16> {
        let route = u16::try_from(self.0 >> (Self::METHOD_BITS + Self::STATUS_BITS)).ok()?;
        (route != Self::NO_ROUTE).then_some(route)
    }

    pub(super) fn method(self) -> Method {
        let number = (self.0 >> Self::STATUS_BITS) & ((1 << Self::METHOD_BITS) - 1);
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        Method::from_number(number).unwrap_or(Method::Other)
    }

    pub(super) fn status(self) -> u32 {
        self.0 & ((1 << Self::STATUS_BITS) - 1)
    }
}

/// A key and its slot.
type Entry = (SeriesKey, u16);

/// Where a series is: an open-addressed table at most half full, for the writer's eyes only.
pub(super) struct SeriesIndex {
    entries: Box<[Cell<Option<Entry>>]>,
    len: Cell<usize>,
}

impl SeriesIndex {
    const ENTRIES: usize = SERIES_MAX * 2;

    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    pub(super) fn find(&self, key: SeriesKey) -> Option<usize> {
        let (found, slot) = self.entries[self.entry(key)].get()?;
        debug_assert_eq!(found, key);
        Some(usize::from(slot))
    }

    pub(super) fn insert(&self, key: SeriesKey, slot: usize) {
        let entry = &self.entries[self.entry(key)];
        debug_assert!(entry.get().is_none() && slot < SERIES_MAX);
        if let Ok(slot) = u16::try_from(slot) {
            entry.set(Some((key, slot)));
            self.len.set(self.len() + 1);
        }
    }

    /// The entry that holds `key`, or the free one where it would go.
    fn entry(&self, key: SeriesKey) -> usize {
        const { assert!(Self::ENTRIES.is_power_of_two() && SERIES_MAX <= 1 << 16) };
        // Fibonacci hashing; keys are made by the configuration and the protocol, not by clients.
        let hash = key.0.wrapping_mul(0x9E37_79B9) >> (u32::BITS - Self::ENTRIES.ilog2());
        let mut entry = hash as usize;
        while self.entries[entry]
            .get()
            .is_some_and(|(other, _)| other != key)
        {
            entry = (entry + 1) % Self::ENTRIES;
        }
        entry
    }
}

impl Default for SeriesIndex {
    fn default() -> Self {
        Self {
            entries: vec![Cell::new(None); Self::ENTRIES].into(),
            len: Cell::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SeriesKey;
    use crate::telemetry::Method;

    proptest! {
        #[test]
        fn a_series_key_gives_back_its_parts(
            route in prop::option::of(0..u16::MAX),
            method in 0..Method::ALL.len(),
            status in 0..1000u16,
        ) {
            let key = SeriesKey::new(route, Method::ALL[method], status);
            prop_assert_eq!(key.route(), route);
            prop_assert_eq!(key.method(), Method::ALL[method]);
            prop_assert_eq!(key.status(), u32::from(status));
        }
    }
}
