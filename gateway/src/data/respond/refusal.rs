//! Refusals by limits, written when the plan is made: of one to the next only the date, the seconds to wait and the request's
//! identifier differ. What else an answer may need (a page in place of the document, fields left out) is not for this.

use std::time::Duration;

use bytes::BufMut;
use runtime::Buf;

use super::{Answer, Content, whole_seconds};
use crate::data::codec::Edits;
use crate::data::error::{Error, Refusal};
use crate::data::filter::limit::{LimitPlan, RefusalText};
use crate::data::route::RouteTable;

/// Octets of a date (RFC 9110, 5.6.7).
const DATE_BYTES: usize = 29;
/// Octets of a request's identifier.
const ID_BYTES: usize = 32;
/// Octets that stand nowhere else in an answer.
const DATE_PLACE: [u8; DATE_BYTES] = [1; DATE_BYTES];
const ID_PLACE: [u8; ID_BYTES] = [2; ID_BYTES];

/// What is said to who is refused by these buckets of a limit: what [`Answer::put_anew`] says, with places for what differs.
pub(in crate::data) fn write(
    limit: &LimitPlan,
    buckets: usize,
    table: &RouteTable,
) -> Option<RefusalText> {
    let error = Error::Limited(Refusal {
        limit: 0,
        buckets,
        retry_after: Duration::from_secs(1),
    });
    let mut out = Buf::empty();
    let answer = Answer {
        status: limit.status,
        content: Content::Problem {
            error: &error,
            request_id: &ID_PLACE,
            limit: Some(limit),
            table,
            challenges: b"",
            page: None,
        },
        head_only: false,
        close: false,
        say_keep_alive: false,
        edits: Edits::NONE,
    };
    answer.put_anew(&mut out, &DATE_PLACE);
    let find = |text: &[u8]| out.data().windows(text.len()).position(|at| at == text);
    let digit_of = |field: &[u8], line: &[u8]| Some(find(line)? + field.len());
    Some(RefusalText {
        date: find(&DATE_PLACE)?,
        seconds: [
            digit_of(b"\r\nRetry-After: ", b"\r\nRetry-After: 1\r\n")?,
            digit_of(b";r=0;t=", b";r=0;t=1\r\n")?,
        ],
        fields_end: find(b"\r\n\r\n")? + 2,
        id: find(&ID_PLACE)?,
        bytes: out.data().into(),
    })
}

/// Appends the answer, if it is one to who is refused and nothing about it is unusual; the bytes of its body.
pub(super) fn put(answer: &Answer<'_>, out: &mut Buf, date: &[u8]) -> Option<u64> {
    let Content::Problem {
        error: Error::Limited(refusal),
        request_id,
        limit: Some(limit),
        challenges: [],
        page: None,
        ..
    } = answer.content
    else {
        return None;
    };
    let text = limit.refusal_text(refusal.buckets)?;
    let date: &[u8; DATE_BYTES] = date.try_into().ok()?;
    let id: &[u8; ID_BYTES] = request_id.try_into().ok()?;
    if answer.head_only || answer.status != limit.status || answer.edits.removes(b"content-type") {
        return None;
    }
    let connection: &[u8] = match (answer.close, answer.say_keep_alive) {
        (true, _) => b"Connection: close\r\n",
        (false, true) => b"Connection: keep-alive\r\n",
        (false, false) => b"",
    };
    let lines = answer.edits.lines;
    let RefusalText {
        bytes,
        seconds: [first, second],
        fields_end,
        ..
    } = text;
    let (first, second, fields_end) = (*first, *second, *fields_end);
    let seconds = whole_seconds(refusal.retry_after);
    let start = out.len();
    // Twice the digits of any number, and the longer of the two above.
    out.reserve(bytes.len() + lines.len() + 64);
    if seconds < 10 && connection.is_empty() && lines.is_empty() {
        let digit = b'0' + u8::try_from(seconds).unwrap_or_default();
        out.put_slice(bytes);
        let put = &mut out.data_mut()[start..];
        put[first] = digit;
        put[second] = digit;
    } else {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(seconds).as_bytes();
        out.put_slice(&bytes[..first]);
        out.put_slice(digits);
        out.put_slice(&bytes[first + 1..second]);
        out.put_slice(digits);
        out.put_slice(&bytes[second + 1..fields_end]);
        out.put_slice(connection);
        out.put_slice(lines);
        out.put_slice(&bytes[fields_end..]);
    }
    // Of what differs the date stands before what may have grown, and the identifier behind it.
    let end = out.len();
    let id_at = end - (bytes.len() - text.id);
    let put = out.data_mut();
    put[start + text.date..][..DATE_BYTES].copy_from_slice(date);
    put[id_at..][..ID_BYTES].copy_from_slice(id);
    // The empty line is no part of the body.
    Some((bytes.len() - fields_end - 2) as u64)
}

#[cfg(test)]
mod tests {
    use limiter::KeyHasher;
    use proptest::prelude::*;

    use super::*;
    use crate::config::{ConfigSource, load};

    const DATE: &[u8] = b"Thu, 26 Nov 2026 02:30:00 GMT";

    fn limits() -> (Vec<LimitPlan>, RouteTable) {
        let text = "listeners = [{ name = 'a', address = '[::]:0' }]
            [limits.one]
            rate = '5/s'
            [limits.another-with-a-long_name]
            rate = '7/h'
            burst = 100
            status = 503
            overrides = [{ key = '192.0.2.0/24', rate = '1/d', burst = 9 }]";
        let source = ConfigSource::Text { name: "x", text };
        let config = load(source, &|_| None).unwrap();
        let table = RouteTable::new(&config.routes);
        let hasher = KeyHasher::with_secret(1);
        let plans = config.limits.iter().map(|limit| {
            let mut plan = LimitPlan::new(limit, 1, &hasher, 64).unwrap();
            plan.write_refusals(|limit, buckets| write(limit, buckets, &table));
            plan
        });
        (plans.collect(), table)
    }

    #[test]
    fn the_answer_of_every_limit_is_written() {
        let (limits, _) = limits();
        assert!(limits[0].refusal_text(0).is_some() && limits[0].refusal_text(1).is_none());
        assert!(limits[1].refusal_text(0).is_some() && limits[1].refusal_text(1).is_some());
    }

    proptest! {
        #[test]
        fn a_refusal_reads_as_one_that_is_written_field_by_field(
            which in 0..3_usize,
            seconds in prop_oneof![0..120_u64, any::<u64>()],
            nanos in prop_oneof![Just(0_u32), 0..1_000_000_000_u32],
            id in "[0-9a-f]{32}",
            lines in prop_oneof![Just(""), Just("X-A: b\r\n"), Just("X-A: b\r\nX-C: d\r\n")],
            (head_only, close, say_keep_alive) in any::<(bool, bool, bool)>(),
            removed in prop_oneof![Just(None), Just(Some("content-type")), Just(Some("x-other"))],
            before in prop_oneof![0..8_usize, 4_000..4_100_usize],
        ) {
            let (limits, table) = limits();
            let (limit, buckets) = [(0, 0), (1, 0), (1, 1)][which];
            let error = Error::Limited(Refusal {
                limit,
                buckets,
                retry_after: Duration::new(seconds, nanos),
            });
            let removed: Vec<Box<[u8]>> = removed.iter().map(|name: &&str| name.as_bytes().into()).collect();
            let answer = Answer {
                status: limits[limit].status,
                content: Content::Problem {
                    error: &error,
                    request_id: id.as_bytes(),
                    limit: Some(&limits[limit]),
                    table: &table,
                    challenges: b"",
                    page: None,
                },
                head_only,
                close,
                say_keep_alive,
                edits: Edits { lines: lines.as_bytes(), removed: &removed },
            };
            let mut expected = Buf::copy_of(&vec![b'x'; before]);
            let length = answer.put_anew(&mut expected, DATE);
            let mut found = Buf::copy_of(&vec![b'x'; before]);
            prop_assert_eq!(answer.put(&mut found, DATE), length);
            prop_assert_eq!(found.data(), expected.data());
            let written = put(&answer, &mut found, DATE).is_some();
            prop_assert_eq!(written, !head_only && removed.iter().all(|name| **name != *b"content-type"));
        }
    }
}
