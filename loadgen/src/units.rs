//! Quantities as people write them on a command line.

use std::time::Duration;

/// Parses `250ms`, `1.5s`, `2m`, `1h`, `10us`; a bare number is refused, since its unit would be a guess.
///
/// # Errors
///
/// A line that says what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("`{text}` is not a duration: write a number and a unit, such as 250ms, 5s or 1m")
    };
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit_s = match text.get(digits.len()..) {
        Some("ns") => 1e-9,
        Some("us") => 1e-6,
        Some("ms") => 1e-3,
        Some("s") => 1.0,
        Some("m") => 60.0,
        Some("h") => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit_s).map_err(|_| wrong())
}

/// A count with an optional `k` or `m`.
///
/// # Errors
///
/// A line that says what would be right.
pub fn count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1000),
        None => match text.strip_suffix(['m', 'M']) {
            Some(digits) => (digits, 1_000_000),
            None => (text, 1),
        },
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|&number| number > 0)
        .ok_or_else(|| format!("`{text}` is not a number above 0, such as 500, 20k or 1m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["5", "", "s", "-1s", "1 s", "5d", "infs", "1e400s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_take_k_and_m() {
        assert_eq!(count("20k"), Ok(20_000));
        assert_eq!(count("1m"), Ok(1_000_000));
        for text in ["0", "", "k", "-1", "1.5k", "99999999999999999m"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
