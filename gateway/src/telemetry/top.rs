//! The busiest keys of a limit, in fixed memory: who is it that is limited?
//!
//! Space-saving (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
//! 2005) with randomized admission (Ben Basat, Einziger, Friedman and Kassner, "Randomized admission policy for efficient
//! top-k and frequency estimation", 2017): a newcomer takes the place of the least key with the chance of one in that
//! key's count and one, so that a flood of keys that never come again writes ever less. In sets of eight, each a small
//! stream of its own, so that finding a key costs a look at one cache line. Counts are of the present and the previous
//! minute: who was busy yesterday does not hide who is today.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;

use arrayvec::ArrayVec;

const SETS: usize = 8;
const WAYS: usize = 8;
/// Length of a window in seconds; what is reported are the present one and the one before.
pub const WINDOW_S: u32 = 60;
/// Longest label in bytes.
const LABEL_BYTES_MAX: usize = 64;

/// What a key is made of, short enough to be kept beside its count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label(ArrayVec<u8, LABEL_BYTES_MAX>);

/// One part of a key as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelPart {
    /// The request had no such value.
    Absent,
    /// The request had several.
    Several,
    /// A secret, by its keyed hash.
    Hidden(u64),
    /// An address.
    Address(IpAddr),
    /// A text, cut where it is long.
    Text(String),
}

const ABSENT: u8 = 0;
const SEVERAL: u8 = 1;
const HIDDEN: u8 = 2;
const ADDRESS_V4: u8 = 3;
const ADDRESS_V6: u8 = 4;
const TEXT: u8 = 5;

impl Label {
    /// Adds that there is no value.
    pub fn push_absent(&mut self) {
        self.push(ABSENT, &[]);
    }

    /// Adds that there are several values.
    pub fn push_several(&mut self) {
        self.push(SEVERAL, &[]);
    }

    /// Adds a secret by its hash.
    pub fn push_hidden(&mut self, hash: u64) {
        self.push(HIDDEN, &hash.to_be_bytes());
    }

    /// Adds an address.
    pub fn push_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.push(ADDRESS_V4, &v4.octets()),
            IpAddr::V6(v6) => self.push(ADDRESS_V6, &v6.octets()),
        }
    }

    /// Adds a text; what does not fit is cut off.
    pub fn push_text(&mut self, text: &[u8]) {
        let room = self.0.remaining_capacity().saturating_sub(2);
        let text = &text[..text.len().min(room)];
        // The length fits: the room is less than 64.
        let length = u8::try_from(text.len()).unwrap_or(0);
        if self.0.try_extend_from_slice(&[TEXT, length]).is_ok() {
            // Fits, as it was cut to.
            let _cut = self.0.try_extend_from_slice(text);
        }
    }

    fn push(&mut self, tag: u8, value: &[u8]) {
        if self.0.remaining_capacity() > value.len() {
            self.0.push(tag);
            // There is room, as was just seen.
            let _whole = self.0.try_extend_from_slice(value);
        }
    }

    /// The parts in their order. Parts for which there was no room are missing at the end.
    #[must_use]
    pub fn parts(&self) -> Vec<LabelPart> {
        let mut parts = Vec::new();
        let mut rest = &self.0[..];
        while let Some((part, after)) = take_part(rest) {
            parts.push(part);
            rest = after;
        }
        parts
    }
}

fn take_part(bytes: &[u8]) -> Option<(LabelPart, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    Some(match tag {
        ABSENT => (LabelPart::Absent, rest),
        SEVERAL => (LabelPart::Several, rest),
        HIDDEN => {
            let (hash, rest) = rest.split_first_chunk()?;
            (LabelPart::Hidden(u64::from_be_bytes(*hash)), rest)
        }
        ADDRESS_V4 => {
            let (octets, rest) = rest.split_first_chunk::<4>()?;
            (LabelPart::Address(IpAddr::from(*octets)), rest)
        }
        ADDRESS_V6 => {
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            (LabelPart::Address(IpAddr::from(*octets)), rest)
        }
        _ => {
            let (&length, rest) = rest.split_first()?;
            let (text, rest) = rest.split_at_checked(usize::from(length))?;
            (
                LabelPart::Text(String::from_utf8_lossy(text).into_owned()),
                rest,
            )
        }
    })
}

/// A key and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The key's hash, which identifies it within the process.
    pub hash: u64,
    /// What it is made of.
    pub label: Label,
    /// Requests counted since it was taken in; never more than it made.
    pub requests: u64,
    /// Those of them that the limit refused, or would have in shadow.
    pub refused: u64,
    /// Since when it has been here, in seconds of the limits' time.
    pub since_s: u32,
}

/// What one worker saw of one limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopKeys {
    /// Keys with the most requests.
    pub busiest: TopList,
    /// Keys with the most refusals; only those are counted, as `requests` too.
    pub limited: TopList,
}

/// Keys with their counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopList {
    /// Where the counting began, in seconds of the limits' time.
    pub from_s: u32,
    /// The keys in no order; one may be there twice, for the present window and for the one before.
    pub keys: Vec<TopKey>,
}

/// One worker's view of the keys of a limit; owned by its thread. Takes 27 KB and never allocates
/// after its creation. Counting costs some 6 ns, for a refusal some 12, also in a flood of new keys.
pub struct LimitTop(RefCell<Inner>);

struct Inner {
    busiest: Windows,
    limited: Windows,
    chance: Chance,
}

impl LimitTop {
    /// Nothing seen. `now_s`: seconds of the limits' time.
    #[must_use]
    pub fn new(now_s: u32) -> Self {
        Self(RefCell::new(Inner {
            busiest: Windows::new(now_s),
            limited: Windows::new(now_s),
            chance: Chance(0x9E37_79B9_7F4A_7C15),
        }))
    }

    /// A limit decided on a request of the key with this hash. `label` is asked for a key that was not there.
    #[inline]
    pub fn count(&self, hash: u64, refused: bool, now_s: u32, label: impl FnMut() -> Label) {
        let hit = Hit {
            // 0 is the mark of an empty place.
            hash: hash.max(1),
            refused,
            now_s,
        };
        if refused || !self.count_known(hit) {
            self.count_any(hit, label);
        }
    }

    /// Counts a key that was let through and is where it is looked for first; false, and nothing is counted, for any other.
    #[inline]
    fn count_known(&self, hit: Hit) -> bool {
        let Ok(mut inner) = self.0.try_borrow_mut() else {
            return false;
        };
        let present = &mut *inner.busiest.present;
        if hit.now_s.saturating_sub(present.from_s) >= WINDOW_S {
            return false;
        }
        let set = &mut present.sets[set_of(hit.hash)];
        let own = way_of(hit.hash);
        let is_here = set.hashes[own] == hit.hash;
        if is_here {
            set.counts[own] += 1;
        }
        is_here
    }

    #[inline(never)]
    fn count_any(&self, hit: Hit, mut label: impl FnMut() -> Label) {
        let Ok(mut inner) = self.0.try_borrow_mut() else {
            debug_assert!(false, "nothing else holds it within a call");
            return;
        };
        let Inner {
            busiest,
            limited,
            chance,
        } = &mut *inner;
        if hit.refused {
            limited.count(hit, chance, &mut label);
        }
        busiest.count(hit, chance, &mut label);
    }

    /// What is known at `now_s`. Allocates; not for the path of a request.
    #[must_use]
    pub fn report(&self, now_s: u32) -> TopKeys {
        let Ok(mut inner) = self.0.try_borrow_mut() else {
            return TopKeys::default();
        };
        TopKeys {
            busiest: inner.busiest.report(now_s),
            limited: inner.limited.report(now_s),
        }
    }
}

impl fmt::Debug for LimitTop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitTop").finish_non_exhaustive()
    }
}

/// A decision on a key.
#[derive(Clone, Copy)]
struct Hit {
    hash: u64,
    refused: bool,
    now_s: u32,
}

/// Numbers that look random (Marsaglia, "Xorshift RNGs", 2003); nobody gains by guessing them.
struct Chance(u64);

impl Chance {
    /// True once in `times`.
    fn one_in(&mut self, times: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u128::from(self.0) * u128::from(times) < 1 << 64
    }
}

/// The present window and the one before.
struct Windows {
    present: Box<Sketch>,
    previous: Box<Sketch>,
}

impl Windows {
    fn new(now_s: u32) -> Self {
        Self {
            present: Box::new(Sketch::new(now_s)),
            previous: Box::new(Sketch::new(now_s)),
        }
    }

    #[inline]
    fn count(&mut self, hit: Hit, chance: &mut Chance, label: &mut impl FnMut() -> Label) {
        if hit.now_s.saturating_sub(self.present.from_s) >= WINDOW_S {
            self.turn(hit.now_s);
        }
        let place = set_of(hit.hash);
        let set = &mut self.present.sets[place];
        if let Some(way) = set.find(hit.hash) {
            set.counts[way] += 1;
            set.rest[way].refused += u64::from(hit.refused);
            return;
        }
        let counts = set.counts.iter();
        let least = counts.fold(u64::MAX, |least, &count| least.min(count));
        if !chance.one_in(least + 1) {
            return;
        }
        let before = &self.previous.sets[place];
        let since_s = before
            .find(hit.hash)
            .map_or(hit.now_s, |way| before.rest[way].since_s);
        let way = set.place_for(hit.hash, least);
        set.hashes[way] = hit.hash;
        set.counts[way] = least + 1;
        set.rest[way] = Rest {
            error: least,
            refused: u64::from(hit.refused),
            since_s,
            label: label(),
        };
    }

    /// Begins another window where the present one is over.
    fn turn(&mut self, now_s: u32) {
        let age_s = now_s.saturating_sub(self.present.from_s);
        if age_s < WINDOW_S {
            return;
        }
        let from_s = self.present.from_s + age_s / WINDOW_S * WINDOW_S;
        std::mem::swap(&mut self.present, &mut self.previous);
        self.present.clear(from_s);
        if age_s >= 2 * WINDOW_S {
            self.previous.clear(from_s);
        }
    }

    fn report(&mut self, now_s: u32) -> TopList {
        self.turn(now_s);
        let sketches = [&self.previous, &self.present].into_iter();
        TopList {
            from_s: self.previous.from_s.min(self.present.from_s),
            keys: sketches.flat_map(|sketch| sketch.report()).collect(),
        }
    }
}

struct Sketch {
    from_s: u32,
    sets: [Set; SETS],
}

#[derive(Default)]
struct Set {
    /// 0 for an empty place.
    hashes: [u64; WAYS],
    /// Hits, 0 for an empty place; with those that a key inherited from the one it replaced.
    counts: [u64; WAYS],
    rest: [Rest; WAYS],
}

#[derive(Default)]
struct Rest {
    /// How many of the hits were inherited.
    error: u64,
    refused: u64,
    since_s: u32,
    label: Label,
}

impl Sketch {
    fn new(from_s: u32) -> Self {
        Self {
            from_s,
            sets: Default::default(),
        }
    }

    fn clear(&mut self, from_s: u32) {
        self.from_s = from_s;
        for set in &mut self.sets {
            set.hashes = [0; WAYS];
            set.counts = [0; WAYS];
        }
    }

    fn report(&self) -> impl Iterator<Item = TopKey> {
        self.sets.iter().flat_map(|set| {
            let places = set.hashes.iter().zip(&set.counts).zip(&set.rest);
            places
                .filter(|((_, count), _)| **count > 0)
                .map(|((hash, count), rest)| TopKey {
                    hash: *hash,
                    label: rest.label.clone(),
                    requests: count - rest.error,
                    refused: rest.refused,
                    since_s: rest.since_s,
                })
        })
    }
}

impl Set {
    /// Where the key is: mostly at its own way, else all are compared without a branch.
    #[inline]
    fn find(&self, hash: u64) -> Option<usize> {
        let own = way_of(hash);
        if self.hashes[own] == hash {
            return Some(own);
        }
        let places = self.hashes.iter().enumerate();
        let found = places.fold(0_u32, |found, (way, each)| {
            found | u32::from(*each == hash) << way
        });
        (found != 0).then(|| found.trailing_zeros() as usize)
    }

    /// The way that a newcomer takes: its own, where it is looked for first, if that has the least count; else the first that does.
    fn place_for(&self, hash: u64, least: u64) -> usize {
        let own = way_of(hash);
        if self.counts[own] == least {
            return own;
        }
        let way = self.counts.iter().position(|&count| count == least);
        way.unwrap_or(0)
    }
}

/// Where a key is looked for first, by the bits next to those of [`set_of`].
const fn way_of(hash: u64) -> usize {
    (hash >> 58 & 7) as usize
}

/// By the top bits: the keys are hashes.
const fn set_of(hash: u64) -> usize {
    (hash >> 61) as usize
}

const _: () = assert!(SETS == 1 << 3, "set_of takes three bits");
const _: () = assert!(WAYS == 1 << 3, "way_of takes three bits");

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Label {
        let mut label = Label::default();
        label.push_text(text.as_bytes());
        label
    }

    /// A stand-in for a keyed hash.
    fn hash(number: u64) -> u64 {
        number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn find(keys: &[TopKey], number: u64) -> Option<&TopKey> {
        keys.iter().find(|key| key.hash == hash(number))
    }

    #[test]
    fn a_label_gives_back_its_parts() {
        let mut label = Label::default();
        label.push_absent();
        label.push_several();
        label.push_hidden(7);
        label.push_address([192, 0, 2, 7].into());
        label.push_address("2001:db8::1".parse().unwrap());
        label.push_text("users".as_bytes());
        let parts = [
            LabelPart::Absent,
            LabelPart::Several,
            LabelPart::Hidden(7),
            LabelPart::Address("192.0.2.7".parse().unwrap()),
            LabelPart::Address("2001:db8::1".parse().unwrap()),
            LabelPart::Text("users".into()),
        ];
        assert_eq!(label.parts(), parts);
    }

    #[test]
    fn a_label_without_room_is_cut_and_never_garbled() {
        let mut label = Label::default();
        label.push_text(&[b'x'; 100]);
        label.push_hidden(1);
        label.push_absent();
        assert_eq!(label.parts(), [LabelPart::Text("x".repeat(62))]);
    }

    #[test]
    fn few_keys_are_counted_exactly() {
        let top = LimitTop::new(0);
        for number in 0..8 {
            for hit in 0..=number {
                top.count(hash(number), hit % 2 == 1, 1, || text(&number.to_string()));
            }
        }
        let report = top.report(1);
        for number in 0..8 {
            let key = find(&report.busiest.keys, number).unwrap();
            assert_eq!(
                (key.requests, key.refused),
                (number + 1, number.div_ceil(2))
            );
            assert_eq!(key.label, text(&number.to_string()));
            let limited = find(&report.limited.keys, number);
            assert_eq!(limited.map_or(0, |key| key.requests), number.div_ceil(2));
            assert!(limited.is_none_or(|key| key.label == text(&number.to_string())));
        }
    }

    #[test]
    fn heavy_keys_stay_in_a_flood_and_are_never_counted_too_high() {
        let top = LimitTop::new(0);
        let mut flood = 1000;
        // Four keys with a sixteenth of the traffic each, among keys that never come again.
        for round in 0..4000_u64 {
            for slot in 0..16 {
                let number = if slot < 4 {
                    slot
                } else {
                    flood += 1;
                    flood
                };
                top.count(
                    hash(number),
                    number == 3 && round % 2 == 0,
                    1,
                    Label::default,
                );
            }
        }
        let report = top.report(1);
        for number in 0..4 {
            let key = find(&report.busiest.keys, number).unwrap();
            assert!((3900..=4000).contains(&key.requests), "{key:?}");
        }
        assert_eq!(find(&report.limited.keys, 3).unwrap().requests, 2000);
        let fourth = 3900;
        let others = report
            .busiest
            .keys
            .iter()
            .filter(|key| key.requests >= fourth);
        assert_eq!(others.count(), 4, "no newcomer looks as busy as they are");
    }

    proptest::proptest! {
        #[test]
        fn a_key_at_its_own_way_counts_as_any_other(
            hits in proptest::collection::vec((0..200_u64, proptest::bool::ANY, 0..3_u32), 0..2000),
        ) {
            let (top, plain) = (LimitTop::new(0), LimitTop::new(0));
            let mut now_s = 0;
            for (number, refused, pause) in hits {
                now_s += pause / 2;
                // Half of them often, so that there are hits and newcomers.
                let number = if number < 100 { number % 10 } else { number };
                let label = || text(&number.to_string());
                top.count(hash(number), refused, now_s, label);
                let hit = Hit { hash: hash(number), refused, now_s };
                plain.count_any(hit, label);
            }
            proptest::prop_assert_eq!(top.report(now_s), plain.report(now_s));
        }
    }

    #[test]
    fn who_was_busy_before_the_previous_window_is_forgotten() {
        let top = LimitTop::new(0);
        top.count(hash(1), true, 5, || text("one"));
        top.count(hash(1), true, WINDOW_S + 5, || text("one"));
        let report = top.report(WINDOW_S + 6);
        let hits: u64 = report.busiest.keys.iter().map(|key| key.requests).sum();
        assert_eq!((hits, report.busiest.from_s), (2, 0));
        assert!(
            report.busiest.keys.iter().all(|key| key.since_s == 5),
            "one stay"
        );
        let report = top.report(2 * WINDOW_S + 6);
        assert_eq!(report.busiest.keys.len(), 1);
        assert_eq!(report.busiest.keys[0].since_s, 5);
        assert!(top.report(10 * WINDOW_S).busiest.keys.is_empty());
    }
}
