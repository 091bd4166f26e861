//! Durations, sizes and speeds as text: `1m30s`, `64KiB`, `256B/s`. Rates are read by the limiter's own type.
//!
//! A quantity always carries its unit. An error says what is wrong and what to write; it may show the text.

use std::time::Duration;

use super::nearest::did_you_mean;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Powers of 1024 by the letter alone or with `iB`, powers of 1000 by `kB` and its like; compared without case.
const SIZE_UNITS: [(&str, u64); 13] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
];

/// Reads `250ms`, `5s`, `1m30s`; units from the largest to the smallest, each at most once.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("an empty duration; write one such as \"10s\"".into());
    }
    let (mut total_ms, mut rest, mut next_unit) = (0_u64, text, 0);
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)
            .ok_or_else(|| format!("`{text}` is not a duration; write one such as \"10s\""))?;
        let unit_end = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = after.split_at(unit_end);
        if unit.is_empty() && tail.is_empty() {
            return Err(format!(
                "add a unit to the duration: \"{text}s\" for seconds or \"{text}ms\" for milliseconds"
            ));
        }
        if unit.is_empty() {
            return Err(format!(
                "`{text}` is not a duration; write whole numbers with units, such as \"1m30s\" or \"1500ms\""
            ));
        }
        let Some(index) = DURATION_UNITS.iter().position(|&(name, _)| name == unit) else {
            return Err(format!(
                "`{unit}` is not a unit of time; use ms, s, m, h or d"
            ));
        };
        if index < next_unit {
            return Err(format!(
                "the units of `{text}` must go from large to small, each once, as in \"1m30s\""
            ));
        }
        let part = number.and_then(|number| number.checked_mul(DURATION_UNITS[index].1));
        total_ms = part
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(|| format!("`{text}` is too long"))?;
        (rest, next_unit) = (tail, index + 1);
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads `64KiB`, `1MiB`, `1GB`, `10m`; the result is in bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = leading_number(text)
        .ok_or_else(|| format!("`{text}` is not a size; write one such as \"64KiB\""))?;
    let unit = unit.trim_start_matches(' ');
    if unit.is_empty() {
        return Err(format!(
            "add a unit to the size: \"{text}B\" for bytes, or KiB, MiB, GiB"
        ));
    }
    let Some(&(_, bytes)) = SIZE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
    else {
        let near = did_you_mean(unit, ["KiB", "MiB", "GiB", "TiB", "kB", "MB", "GB"]);
        return Err(format!(
            "`{unit}` is not a unit of size; use B, KiB, MiB, GiB (or k, m, g for the same), kB, MB, GB{near}"
        ));
    };
    number
        .and_then(|number| number.checked_mul(bytes))
        .ok_or_else(|| format!("`{text}` is too large"))
}

/// Reads `256B/s`; the result is in bytes per second.
pub(super) fn parse_byte_rate(text: &str) -> Result<u64, String> {
    let Some(size) = text.strip_suffix("/s") else {
        return Err(format!(
            "`{text}` is not a speed; write one such as \"256B/s\""
        ));
    };
    parse_size(size)
}

/// The digits at the start of `text` as a number (`None` inside: too large) and what follows them.
fn leading_number(text: &str) -> Option<(Option<u64>, &str)> {
    let digits_end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(digits_end);
    (!digits.is_empty()).then(|| (digits.parse().ok(), rest))
}

/// A duration as the reader takes it: `1m30s`.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis();
    let mut shown = String::new();
    for (unit, unit_ms) in DURATION_UNITS {
        let count = rest_ms / u128::from(unit_ms);
        rest_ms %= u128::from(unit_ms);
        if count > 0 {
            shown.push_str(&format!("{count}{unit}"));
        }
    }
    if shown.is_empty() { "0s".into() } else { shown }
}

/// A size as the reader takes it, in the largest binary unit that divides it: `64KiB`.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [
        ("TiB", 1_u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    units
        .iter()
        .find(|&&(_, unit)| bytes >= unit && bytes.is_multiple_of(unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(name, unit)| format!("{}{name}", bytes / unit),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_durations_with_units() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_durations_without_a_clear_meaning() {
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "1sec",
            "30s1m",
            "1s1s",
            "1m30",
            "99999999999999999999s",
            "9999999999999999d",
            "1S",
            "٣s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("10").unwrap_err().contains("add a unit"));
    }

    #[test]
    fn reads_sizes_binary_by_letter_and_decimal_by_si_name() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("1MiB", 1_048_576),
            ("1GB", 1_000_000_000),
            ("10m", 10_485_760),
            ("1g", 1 << 30),
            ("5 kB", 5000),
            ("7B", 7),
            ("0B", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "1",
            "KiB",
            "-1B",
            "1.5MiB",
            "1XB",
            "99999999999TiB",
            "18446744073709551616B",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_speeds_in_bytes_per_second() {
        assert_eq!(parse_byte_rate("256B/s"), Ok(256));
        assert!(parse_byte_rate("256B").is_err());
    }

    proptest! {
        #[test]
        fn shown_values_read_back(ms in 0..u64::from(u32::MAX), bytes: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-zA-Z/ .é-]{0,24}") {
            drop((parse_duration(&text), parse_size(&text), parse_byte_rate(&text)));
        }
    }
}
