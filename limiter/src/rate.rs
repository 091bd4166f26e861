//! A rate as people write it: `100/s`, `30/m`. No I/O, and nothing of it is on the path of a decision.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

const PERIODS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

/// A rate: so many units in a period.
///
/// ```
/// let rate: limiter::Rate = "30/m".parse()?;
/// assert_eq!((rate.units.get(), rate.period.as_secs()), (30, 60));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units in one period.
    pub units: NonZeroU64,
    /// The period: one second, minute, hour or day.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = String;

    /// Reads `100/s`, `30/m`, `30r/m`, `5/h`, `1/d`; the error says what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        let shape =
            || format!("`{text}` is not a rate; write one such as \"100/s\" (or /m, /h, /d)");
        let digits_end = text.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = text.split_at(digits_end);
        if digits.is_empty() {
            return Err(shape());
        }
        if after.is_empty() {
            return Err(format!(
                "add a period to the rate: \"{text}/s\" (or /m, /h, /d)"
            ));
        }
        let period = after
            .strip_prefix('r')
            .unwrap_or(after)
            .strip_prefix('/')
            .ok_or_else(shape)?;
        let Some(&(_, seconds)) = PERIODS.iter().find(|&&(name, _)| name == period) else {
            return Err(format!(
                "`{period}` is not a period; use s, m, h or d, as in \"100/s\""
            ));
        };
        let units: u64 = digits
            .parse()
            .map_err(|_| format!("`{text}` is too large"))?;
        let units = NonZeroU64::new(units)
            .ok_or("a rate of 0 would refuse everything; write a `respond` route for that")?;
        Ok(Self {
            units,
            period: Duration::from_secs(seconds),
        })
    }
}

impl fmt::Display for Rate {
    /// As it is read: `100/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        let known = PERIODS.iter().find(|&&(_, known)| known == seconds);
        match known {
            Some((name, _)) => write!(f, "{}/{name}", self.units),
            None => write!(f, "{} in {seconds} s", self.units),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for text in ["100/s", "30/m", "5/h", "1/d"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("30r/m".parse::<Rate>(), "30/m".parse());
        for text in [
            "",
            "100",
            "0/s",
            "/s",
            "1/",
            "1/y",
            "1/2s",
            "1.5/s",
            "1rr/s",
            "99999999999999999999/s",
            "é/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
