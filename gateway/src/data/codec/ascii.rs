//! Octet classes and small scans. Tables are built at compile time.

/// A 1 in each octet, and the highest bit of each.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const HIGH_OFF: u64 = !HIGH;

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// `unreserved` of RFC 3986 section 2.3.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// `sub-delims` of RFC 3986 section 2.2.
pub(super) const fn is_sub_delim(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

/// A non-empty run of `tchar`.
pub(super) fn is_token_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token(byte))
}

/// Optional white space of RFC 9110 section 5.6.3.
pub(super) const fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `text` without white space at its ends.
pub(super) fn trim_ows(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if !is_ows(first) {
            break;
        }
        rest = tail;
    }
    while let Some((&last, front)) = rest.split_last() {
        if !is_ows(last) {
            break;
        }
        rest = front;
    }
    rest
}

/// The elements of a comma-separated list (RFC 9110 section 5.6.1), trimmed; empty ones included.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows)
}

/// The value of a hexadecimal digit.
pub(super) const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

/// Position and value of the first octet at or after `from` that is a control (0x00-0x1F, 0x7F).
///
/// Eight octets a step. Each mask may mark octets behind a true hit, never before it, so the lowest mark is true.
pub(super) fn next_control(bytes: &[u8], from: usize) -> Option<(usize, u8)> {
    let rest = bytes.get(from..)?;
    let (words, tail) = rest.as_chunks::<8>();
    let mut at = from;
    for word in words {
        let x = u64::from_le_bytes(*word);
        let below_space = x.wrapping_sub(ONES.wrapping_mul(0x20)) & !x;
        let y = x ^ ONES.wrapping_mul(0x7f);
        let delete = y.wrapping_sub(ONES) & !y;
        let marks = (below_space | delete) & HIGH;
        if marks != 0 {
            let offset = (marks.trailing_zeros() >> 3) as usize;
            return word
                .get(offset)
                .map(|&byte| (at.wrapping_add(offset), byte));
        }
        at = at.wrapping_add(8);
    }
    let offset = tail.iter().position(|byte| byte.is_ascii_control())?;
    tail.get(offset)
        .map(|&byte| (at.wrapping_add(offset), byte))
}

/// Whether two names are the same but for ASCII case: as `eq_ignore_ascii_case`, which looks at an octet a step, eight a step.
pub(super) fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let same = |(one, other): (&[u8; 8], &[u8; 8])| {
        // Most are written alike.
        one == other || lower(u64::from_le_bytes(*one)) == lower(u64::from_le_bytes(*other))
    };
    let (Some(last), Some(other_last)) = (one.last_chunk(), other.last_chunk()) else {
        return match (ends(one), ends(other)) {
            (Some(one), Some(other)) => lower(one) == lower(other),
            _ => one.eq_ignore_ascii_case(other),
        };
    };
    let mut words = one.as_chunks().0.iter().zip(other.as_chunks().0);
    // The last eight overlap with those before them.
    same((last, other_last)) && words.all(same)
}

/// The first and the last four octets, which overlap in a text of less than eight; `None`: there are not four.
#[inline]
fn ends(text: &[u8]) -> Option<u64> {
    let first = u32::from_le_bytes(*text.first_chunk()?);
    let last = u32::from_le_bytes(*text.last_chunk()?);
    Some(u64::from(first) | u64::from(last) << 32)
}

/// Eight octets with the capitals among them made small.
const fn lower(word: u64) -> u64 {
    let low = word & HIGH_OFF;
    // Reach 0x80 from `A` on, and beyond `Z`. Neither sum is above 0xff, so no octet touches the next.
    let from_a = low.wrapping_add(ONES.wrapping_mul(0x3f));
    let beyond_z = low.wrapping_add(ONES.wrapping_mul(0x25));
    let capitals = from_a & !beyond_z & !word & HIGH;
    word | capitals >> 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_capital_is_the_same_as_its_small_letter_and_nothing_else_is() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                let mut text = *b"x-@[`{~1";
                text[place] = byte;
                let mut small = text;
                small.make_ascii_lowercase();
                let lowered = lower(u64::from_le_bytes(text));
                assert_eq!(lowered.to_le_bytes(), small, "{byte} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn names_are_the_same_as_the_standard_library_says(
            name in proptest::collection::vec(any::<u8>(), 0..40),
            flips in proptest::collection::vec((0..40_usize, prop_oneof![Just(0x20_u8), Just(0), any::<u8>()]), 0..3),
        ) {
            let mut other = name.clone();
            for (at, flip) in flips {
                if let Some(byte) = other.get_mut(at) {
                    *byte ^= flip;
                }
            }
            prop_assert_eq!(is_same_name(&name, &other), name.eq_ignore_ascii_case(&other));
            prop_assert!(is_same_name(&name, &name.to_ascii_uppercase()));
            prop_assert!(!is_same_name(&name, &[&*name, b"x"].concat()));
        }
    }

    #[test]
    fn next_control_agrees_with_a_plain_search() {
        for length in 0..40_usize {
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut text = vec![0x80_u8; length];
                    if let Some(slot) = text.get_mut(at) {
                        *slot = byte;
                    }
                    if let Some(slot) = text.get_mut(at + 3) {
                        *slot = 1;
                    }
                    for from in [0, at.saturating_sub(1), at + 1] {
                        let plain = text.iter().enumerate().skip(from);
                        let plain = plain
                            .map(|(i, &b)| (i, b))
                            .find(|(_, b)| *b < 0x20 || *b == 0x7f);
                        assert_eq!(
                            next_control(&text, from),
                            plain,
                            "{length} {at} {byte} {from}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn trims_spaces_and_tabs_only() {
        assert_eq!(trim_ows(b" \t a b \t"), b"a b");
        assert_eq!(trim_ows(b"\x0ba\xa0"), b"\x0ba\xa0");
        assert_eq!(trim_ows(b" \t "), b"");
    }
}
