//! Unix time as text, in UTC. No time zones and no leap seconds: Unix time has none.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

/// Day 0 of Unix time was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A moment in the proleptic Gregorian calendar.
#[derive(Debug, PartialEq, Eq)]
struct Civil {
    year: u64,
    /// 1..=12.
    month: u64,
    /// 1..=31.
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    micro: u64,
}

impl Civil {
    /// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`, for days since 1970.
    fn from_unix_us(unix_us: u64) -> Self {
        let seconds = unix_us / 1_000_000;
        let days = seconds / 86_400 + 719_468; // since 0000-03-01
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153; // 0 is March
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micro: unix_us % 1_000_000,
        }
    }
}

/// A time as RFC 3339 writes it, with so many digits of a second's fraction; the rest is cut off.
struct Rfc3339<const DIGITS: u32> {
    unix_us: u64,
}

impl<const DIGITS: u32> fmt::Display for Rfc3339<DIGITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micro,
        } = Civil::from_unix_us(self.unix_us);
        let (fraction, width) = (micro / 10_u64.pow(6 - DIGITS), DIGITS as usize);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:0width$}Z"
        )
    }
}

/// Appends `2026-01-31T23:59:59.123456Z` (RFC 3339).
pub fn rfc3339(unix_us: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    drop(write!(out, "{}", Rfc3339::<6> { unix_us }));
}

/// `2026-01-31T23:59:59.123Z` (RFC 3339).
#[must_use]
pub fn rfc3339_ms(since_1970: Duration) -> String {
    let unix_us = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
    Rfc3339::<3> { unix_us }.to_string()
}

/// Appends `31/Jan/2026:23:59:59 +0000` (the common log format).
pub fn common(unix_us: u64, out: &mut Vec<u8>) {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micro: _,
    } = Civil::from_unix_us(unix_us);
    let month = name(&MONTHS, month - 1);
    drop(write!(
        out,
        "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"
    ));
}

/// Appends `Sun, 06 Nov 1994 08:49:37 GMT`, the value of a `Date` field (RFC 9110 section 5.6.7).
pub fn http_date(unix_us: u64, out: &mut Vec<u8>) {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micro: _,
    } = Civil::from_unix_us(unix_us);
    let weekday = name(&WEEKDAYS, unix_us / (86_400 * 1_000_000) % 7);
    let month = name(&MONTHS, month - 1);
    drop(write!(
        out,
        "{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    ));
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    let name = usize::try_from(index)
        .ok()
        .and_then(|index| names.get(index));
    name.unwrap_or(&"")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Civil, common, http_date, rfc3339, rfc3339_ms};

    fn text(write: fn(u64, &mut Vec<u8>), seconds: u64, micros: u64) -> String {
        let mut out = Vec::new();
        write(seconds * 1_000_000 + micros, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From `date -u -d @SECONDS +%FT%TZ`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(text(rfc3339, seconds, 0), expected);
        }
        assert_eq!(
            text(rfc3339, 1_700_000_000, 42),
            "2023-11-14T22:13:20.000042Z"
        );
        let time = Duration::new(1_700_000_000, 42_999_999);
        assert_eq!(rfc3339_ms(time), "2023-11-14T22:13:20.042Z");
        assert_eq!(
            text(common, 1_700_000_000, 42),
            "14/Nov/2023:22:13:20 +0000"
        );
    }

    #[test]
    fn dates_are_written_as_the_rfc_has_them() {
        for (seconds, expected) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        ] {
            assert_eq!(text(http_date, seconds, 0), expected);
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_day_before() {
        let date = |day: u64| {
            let civil = Civil::from_unix_us(day * 86_400 * 1_000_000);
            (civil.year, civil.month, civil.day)
        };
        let mut expected = (1970, 1, 1);
        for day in 0..146_097 {
            assert_eq!(date(day), expected);
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
        assert_eq!(expected, (2370, 1, 1));
    }

    #[test]
    fn the_last_microsecond_is_written() {
        assert!(text(rfc3339, u64::MAX / 1_000_000 - 1, 0).ends_with('Z'));
    }
}
