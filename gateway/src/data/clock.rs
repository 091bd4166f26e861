//! A worker's time: exact when asked for, and what follows from it without another system call.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A worker's time. The wall clock and the text of the `Date` field are brought up to date by [`Clock::tick`].
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    wall_at_origin: Cell<Duration>,
    date: RefCell<String>,
}

impl Clock {
    /// Starts now.
    #[must_use]
    pub(super) fn start() -> Self {
        let clock = Self {
            origin: monotonic(),
            wall_at_origin: Cell::new(Duration::ZERO),
            date: RefCell::default(),
        };
        clock.tick();
        clock
    }

    /// The monotonic clock, exactly. Cost: 20 to 45 ns.
    #[must_use]
    #[expect(
        clippy::unused_self,
        reason = "one way to the time, through the worker"
    )]
    pub(super) fn now(&self) -> Instant {
        monotonic()
    }

    /// The wall clock at `now`, in microseconds since 1970, without a system call. A step of the system's clock
    /// shows after a tick.
    #[must_use]
    pub(super) fn unix_micros(&self, now: Instant) -> u64 {
        let wall = self.wall_at_origin.get() + now.saturating_duration_since(self.origin);
        u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)
    }

    /// Calls `with` with the text of the `Date` field (RFC 9110, 5.6.7), right to a tick and a second.
    pub(super) fn with_date<T>(&self, with: impl FnOnce(&str) -> T) -> T {
        with(&self.date.borrow())
    }

    /// Brings wall clock and date up to date. Once per tick.
    pub(super) fn tick(&self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where workers read the wall clock"
        )]
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.wall_at_origin
            .set(wall.saturating_sub(monotonic() - self.origin));
        let mut date = self.date.borrow_mut();
        date.clear();
        write_date(&mut date, wall.as_secs());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where workers read the monotonic clock"
)]
fn monotonic() -> Instant {
    Instant::now()
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Writes `Sun, 06 Nov 1994 08:49:37 GMT` for seconds since 1970.
fn write_date(out: &mut String, unix_seconds: u64) {
    use std::fmt::Write as _;
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let month = MONTHS[month - 1];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let written = write!(
        out,
        "{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT"
    );
    debug_assert!(written.is_ok(), "a String takes everything");
}

/// Year, month 1..=12 and day 1..=31 of a count of days since 1970-01-01, in the Gregorian calendar. Counts in eras
/// of 400 years that begin in March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, usize, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: u64) -> String {
        let mut out = String::new();
        write_date(&mut out, seconds);
        out
    }

    #[test]
    fn dates_are_written_as_the_rfc_has_them() {
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(4_102_444_799), "Thu, 31 Dec 2099 23:59:59 GMT");
    }

    #[test]
    fn the_wall_clock_follows_the_monotonic_one() {
        let clock = Clock::start();
        let now = clock.now();
        let later = now + Duration::from_millis(1500);
        assert_eq!(clock.unix_micros(later) - clock.unix_micros(now), 1_500_000);
    }
}
