//! A mix of requests from a TOML file: what is sent how often.
//!
//! ```toml
//! [[requests]]
//! name = "read"                    # default: method and path
//! weight = 9                       # default: 1
//! path = "/users/${key}"
//!
//! [[requests]]
//! weight = 1
//! method = "POST"                  # default: GET, or POST with a body
//! path = "/users"
//! headers = { content-type = "application/json" }
//! body = '{"n": ${counter}}'
//! expect = [201, 429]              # default: as --expect
//! ```

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;
use toml::Spanned;

use crate::nearest::did_you_mean;
use crate::plan::Expected;
use crate::request::{self, RequestSpec};

/// Requests in a scenario.
const REQUESTS_MAX: usize = 1000;
/// The greatest weight; sums of weights then fit 64 bits.
const WEIGHT_MAX: u32 = 1_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    requests: Vec<Spanned<RawRequest>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    name: Option<String>,
    #[serde(default = "one")]
    weight: u32,
    method: Option<String>,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    expect: Option<Vec<u16>>,
}

const fn one() -> u32 {
    1
}

/// One kind of request.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) weight: u32,
    pub(crate) path: String,
    pub(crate) request: RequestSpec,
    /// `None`: as for the whole run.
    pub(crate) expected: Option<Expected>,
    /// Where it stands in the scenario, for messages; empty where there is none.
    pub(crate) place: String,
}

/// Reads a scenario.
///
/// # Errors
///
/// Not TOML, an unknown key, a value out of bounds; the text says which request.
pub(crate) fn parse(text: &str, keep_alive: bool) -> Result<Vec<Entry>, String> {
    let raw: RawScenario = toml::from_str(text)
        .map_err(|error| format!("{}{}", error.to_string().trim_end(), meant(error.message())))?;
    if raw.requests.is_empty() || raw.requests.len() > REQUESTS_MAX {
        return Err(format!("a scenario has 1 to {REQUESTS_MAX} requests"));
    }
    let entries = raw.requests.into_iter().zip(1..);
    entries
        .map(|(raw, number)| {
            let before = text.get(..raw.span().start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let place = format!("line {line}, request {number}: ");
            resolve(raw.into_inner(), keep_alive, place.clone())
                .map_err(|why| format!("{place}{why}"))
        })
        .collect()
}

/// What an unknown key may have meant, from serde's message on it: `unknown field X, expected one of ...`.
fn meant(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    match names.next() {
        Some(unknown) if message.starts_with("unknown field") => {
            did_you_mean(unknown, &names.collect::<Vec<_>>())
        }
        _ => String::new(),
    }
}

fn resolve(raw: RawRequest, keep_alive: bool, place: String) -> Result<Entry, String> {
    if !(1..=WEIGHT_MAX).contains(&raw.weight) {
        return Err(format!(
            "weight {} is not between 1 and {WEIGHT_MAX}",
            raw.weight
        ));
    }
    let by_default = if raw.body.is_empty() { "GET" } else { "POST" };
    let method = raw.method.as_deref().unwrap_or(by_default);
    let method: Method = method
        .parse()
        .map_err(|_| format!("`{method}` is not a method"))?;
    let headers = raw
        .headers
        .iter()
        .map(|(name, value)| request::header(&format!("{name}: {value}")));
    let expected = match raw.expect {
        Some(statuses) if statuses.is_empty() => return Err("expect names no status".into()),
        Some(statuses) => Some(Expected::These(statuses)),
        None => None,
    };
    Ok(Entry {
        name: raw.name.unwrap_or_else(|| format!("{method} {}", raw.path)),
        weight: raw.weight,
        path: raw.path,
        request: RequestSpec {
            method,
            headers: headers.collect::<Result<_, _>>()?,
            body: raw.body.into_bytes(),
            keep_alive,
        },
        expected,
        place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let entries = parse(
            "[[requests]]\npath = '/a'\n[[requests]]\npath = '/b'\nbody = 'x'\nweight = 3",
            true,
        )
        .unwrap();
        let [first, second] = entries.as_slice() else {
            panic!("two requests")
        };
        assert_eq!((first.name.as_str(), first.weight), ("GET /a", 1));
        assert_eq!((second.name.as_str(), second.weight), ("POST /b", 3));
        assert_eq!(second.expected, None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("", "requests"),
            ("requests = []", "1 to 1000"),
            (
                "[[requests]]\npath = '/'\nwieght = 1",
                "; did you mean `weight`?",
            ),
            ("[[request]]\npath = '/'", "; did you mean `requests`?"),
            (
                "[[requests]]\npath = '/'\nweight = 0",
                "request 1: weight 0",
            ),
            (
                "[[requests]]\npath = '/'\n[[requests]]\npath = '/'\nmethod = 'A B'",
                "line 3, request 2: `A B`",
            ),
            ("[[requests]]\npath = '/'\nexpect = []", "expect"),
            (
                "[[requests]]\npath = '/'\nheaders = { content-length = '5' }",
                "content-length",
            ),
            ("[[requests]]\npath = 5", "line 2"),
        ] {
            let error = parse(text, true).unwrap_err();
            assert!(error.contains(told), "{told}: {error}");
        }
    }
}
