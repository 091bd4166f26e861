//! An access log as a schedule: the requests of a log at their own times.
//!
//! Two formats are read, line by line: JSON with the names of the OpenTelemetry conventions (`timestamp`,
//! `http.request.method`, `url.path`, `url.query`, `client.address`), and the common log format, of which the combined one is
//! an extension. Logs are written when requests end, so lines are put in the order of their times. Bodies are in no log.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use http::Method;
use serde::Deserialize;

use crate::target::Target;

/// A log that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it came from.
    pub(crate) file: PathBuf,
    /// In the order of their times, never empty.
    pub(crate) entries: Vec<Entry>,
    /// Lines that are not requests in a format that is known.
    pub(crate) skipped: u64,
}

/// One request of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Nanoseconds since the first one.
    pub(crate) at_ns: u64,
    /// The request as it goes on the wire.
    pub(crate) bytes: Box<[u8]>,
    /// It is a HEAD request.
    pub(crate) head: bool,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// Nanoseconds since 1970.
    time_ns: i128,
    method: String,
    path: String,
    client: Option<String>,
}

#[derive(Debug, Deserialize)]
struct JsonLine {
    timestamp: String,
    #[serde(rename = "http.request.method")]
    method: String,
    #[serde(rename = "url.path")]
    path: String,
    #[serde(rename = "url.query")]
    query: Option<String>,
    #[serde(rename = "client.address")]
    client: Option<String>,
}

const SECOND_NS: i128 = 1_000_000_000;

impl Log {
    /// Reads the log `text` for requests to `target`, with `X-Forwarded-For` from the log if `forward` says so.
    ///
    /// # Errors
    ///
    /// No line is a request.
    pub(crate) fn parse(
        file: &Path,
        text: &str,
        target: &Target,
        forward: bool,
    ) -> Result<Self, String> {
        let mut lines = Vec::new();
        let mut skipped = 0;
        for text in text.lines().filter(|line| !line.trim().is_empty()) {
            match parse_line(text) {
                Some(line) if sendable(&line, target) => lines.push(line),
                _ => skipped += 1,
            }
        }
        lines.sort_by_key(|line| line.time_ns);
        let first = lines
            .first()
            .ok_or("no line of the log is a request in a known format")?
            .time_ns;
        spread(&mut lines);
        let entries = lines.into_iter().map(|line| Entry {
            at_ns: u64::try_from(line.time_ns - first).unwrap_or(u64::MAX),
            head: line.method == "HEAD",
            bytes: render(&line, target, forward),
        });
        Ok(Self {
            file: file.to_owned(),
            entries: entries.collect(),
            skipped,
        })
    }

    /// From the first request to the end of the last one's turn, in nanoseconds: what one round takes.
    pub(crate) fn span_ns(&self) -> u64 {
        let last = self.entries.last().map_or(0, |entry| entry.at_ns);
        let count = self.entries.len() as u64;
        last + (last / count.saturating_sub(1).max(1)).max(1)
    }
}

/// Logs with whole seconds say nothing about the order within one: its requests are spread over it evenly.
fn spread(lines: &mut [Line]) {
    if lines.iter().any(|line| line.time_ns % SECOND_NS != 0) {
        return;
    }
    for second in
        lines.chunk_by_mut(|before, after| before.time_ns.cmp(&after.time_ns) == Ordering::Equal)
    {
        let step = SECOND_NS / second.len() as i128;
        for (line, index) in second.iter_mut().zip(0..) {
            line.time_ns += step * index;
        }
    }
}

/// The line can be sent as it is: nothing in it breaks a request line.
fn sendable(line: &Line, target: &Target) -> bool {
    let method = line
        .method
        .parse::<Method>()
        .is_ok_and(|method| method != Method::CONNECT);
    let client = line
        .client
        .as_ref()
        .is_none_or(|client| client.bytes().all(|byte| byte.is_ascii_graphic()));
    method && client && target.with_path(&line.path).is_ok()
}

fn render(line: &Line, target: &Target, forward: bool) -> Box<[u8]> {
    let forwarded = match &line.client {
        Some(client) if forward => format!("X-Forwarded-For: {client}\r\n"),
        _ => String::new(),
    };
    let (method, path, authority) = (&line.method, &line.path, &target.authority);
    format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{forwarded}\r\n")
        .into_bytes()
        .into_boxed_slice()
}

fn parse_line(text: &str) -> Option<Line> {
    if text.trim_start().starts_with('{') {
        let line: JsonLine = serde_json::from_str(text).ok()?;
        let path = match line.query.filter(|query| !query.is_empty()) {
            Some(query) => format!("{}?{query}", line.path),
            None => line.path,
        };
        return Some(Line {
            time_ns: rfc3339_ns(&line.timestamp)?,
            method: line.method,
            path,
            client: line.client,
        });
    }
    common_line(text)
}

/// `client ident user [10/Oct/2000:13:55:36 -0700] "GET /path HTTP/1.0" ...`
fn common_line(text: &str) -> Option<Line> {
    let (client, rest) = text.split_once(' ')?;
    let (_, rest) = rest.split_once('[')?;
    let (time, rest) = rest.split_once(']')?;
    let (_, rest) = rest.split_once('"')?;
    let (request, _) = rest.split_once('"')?;
    let mut words = request.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    words
        .next()
        .filter(|version| version.starts_with("HTTP/"))?;
    Some(Line {
        time_ns: common_time_ns(time)?,
        method: method.to_owned(),
        path: path.to_owned(),
        client: Some(client.to_owned()),
    })
}

/// `10/Oct/2000:13:55:36 -0700`
fn common_time_ns(text: &str) -> Option<i128> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (time, zone) = text.split_once(' ')?;
    let (date, clock) = time.split_once(':')?;
    let mut parts = date.split('/');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (month, _) = (1..).zip(MONTHS).find(|(_, name)| *name == month)?;
    let seconds =
        civil_s(year.parse().ok()?, month, day.parse().ok()?) + clock_s(clock)? - zone_s(zone)?;
    Some(i128::from(seconds) * SECOND_NS)
}

/// `2026-01-31T23:59:59.123456Z` (RFC 3339 section 5.6)
fn rfc3339_ns(text: &str) -> Option<i128> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let zone = if zone.eq_ignore_ascii_case("z") {
        0
    } else {
        zone_s(&zone.replace(':', ""))?
    };
    let seconds = civil_s(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
        + clock_s(clock)?
        - zone;
    Some(i128::from(seconds) * SECOND_NS + digits.parse::<i128>().ok()?)
}

/// `13:55:36`
fn clock_s(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let valid =
        (0..24).contains(&hours) && (0..60).contains(&minutes) && (0..=60).contains(&seconds);
    valid.then_some((hours * 60 + minutes) * 60 + seconds)
}

/// `+0130`
fn zone_s(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let number: i64 = text.get(1..5)?.parse().ok()?;
    Some(sign * (number / 100 * 60 + number % 100) * 60)
}

/// Seconds from 1970 to a date of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil_s(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) * 86_400
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Log {
        Log::parse(Path::new("x.log"), text, &"http://h".parse().unwrap(), true).unwrap()
    }

    #[test]
    fn both_formats_give_the_same_requests() {
        let common = r#"10.0.0.9 - bob [31/Jan/2026:23:59:59 +0100] "GET /a?b=c HTTP/1.1" 200 5 "-" "curl/8.0""#;
        let json = r#"{"timestamp":"2026-01-31T22:59:59Z","http.request.method":"GET","url.path":"/a","url.query":"b=c","client.address":"10.0.0.9","other":1}"#;
        assert_eq!(parse_line(common), parse_line(json));
        let expected = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n";
        assert_eq!(&*log(json).entries[0].bytes, expected.as_bytes());
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-12-31T23:59:59+02:00", 1_798_754_399),
        ] {
            assert_eq!(
                rfc3339_ns(text),
                Some(i128::from(seconds) * SECOND_NS),
                "{text}"
            );
        }
        assert_eq!(rfc3339_ns("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(
            common_time_ns("10/Oct/2000:13:55:36 -0700"),
            Some(971_211_336 * SECOND_NS)
        );
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T25:00:00Z",
            "x-01-01T00:00:00Z",
            "2026-01-01T00:00:00",
        ] {
            assert_eq!(rfc3339_ns(text), None, "{text}");
        }
    }

    fn line(time: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-01-01T00:00:{time}Z","http.request.method":"GET","url.path":"/{time}"}}"#
        )
    }

    #[test]
    fn requests_are_in_the_order_of_their_times() {
        let log = log(&[line("00.200"), line("00.100"), line("00.150")].join("\n"));
        let times: Vec<u64> = log
            .entries
            .iter()
            .map(|entry| entry.at_ns / 1_000_000)
            .collect();
        assert_eq!(times, [0, 50, 100]);
        assert_eq!(log.span_ns(), 150_000_000);
    }

    #[test]
    fn whole_seconds_are_filled_evenly() {
        let log = log(&[line("01"), line("01"), line("02"), line("01"), line("01")].join("\n"));
        let times: Vec<u64> = log
            .entries
            .iter()
            .map(|entry| entry.at_ns / 1_000_000)
            .collect();
        assert_eq!(times, [0, 250, 500, 750, 1000]);
    }

    #[test]
    fn lines_that_are_no_requests_are_counted() {
        let broken = [
            "nonsense",
            r#"1.2.3.4 - - [31/Jan/2026:23:59:59 +0100] "-" 408 0"#,
            r#"1.2.3.4 - - [31/Jan/2026:23:59:59 +0100] "GET http://x/ HTTP/1.1" 200 0"#,
            r#"{"timestamp":"2026-01-31T22:59:59Z"}"#,
            r#"{"timestamp":"2026-01-31T22:59:59Z","http.request.method":"GET","url.path":"/a b"}"#,
            r#"{"timestamp":"2026-01-31T22:59:59Z","http.request.method":"GET","url.path":"/","client.address":"a\r\nb"}"#,
        ]
        .join("\n");
        let log = log(&format!("{broken}\n\n{}", line("00")));
        assert_eq!((log.entries.len(), log.skipped), (1, 6));
        assert!(Log::parse(Path::new("x"), &broken, &"http://h".parse().unwrap(), true).is_err());
    }
}
