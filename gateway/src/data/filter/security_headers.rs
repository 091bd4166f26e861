//! Response fields that tell browsers to be careful.

use crate::config::SecurityHeadersConfig;
use crate::data::codec::Fields;

/// What of a response is there already.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) enum Present<'a> {
    /// The head of an upstream and its fields.
    Upstream(&'a [u8]),
    /// Fields of an answer that the configuration holds.
    Fixed(&'a [(String, String)]),
    /// None of these.
    Nothing,
}

/// A set of fields compiled for a route.
#[derive(Debug, Default)]
pub(in crate::data) struct SecurityPlan(Vec<Line>);

#[derive(Debug)]
struct Line {
    name: &'static str,
    /// With its CRLF.
    text: Box<[u8]>,
    /// Whether or not the response has one, since that is left out.
    always: bool,
}

impl SecurityPlan {
    /// `is_set`: the route itself writes the field of this name; `is_removed`: it leaves it out.
    pub(in crate::data) fn new(
        config: &SecurityHeadersConfig,
        is_set: impl Fn(&str) -> bool,
        is_removed: impl Fn(&str) -> bool,
    ) -> Self {
        let headers = config.headers.iter().filter(|(name, _)| !is_set(name));
        let line = |(name, value): &(&'static str, String)| Line {
            name,
            text: format!("{name}: {value}\r\n").into_bytes().into(),
            always: config.replace || is_removed(name),
        };
        Self(headers.map(line).collect())
    }

    /// Names in lower case of what is written in place of the upstream's.
    pub(in crate::data) fn replaced(&self) -> impl Iterator<Item = String> {
        let replaced = self.0.iter().filter(|line| line.always);
        replaced.map(|line| line.name.to_ascii_lowercase())
    }

    /// Appends the lines of fields that are not there; `fields`: those of an upstream's response.
    pub(in crate::data) fn put_lines(
        &self,
        present: Present<'_>,
        fields: &Fields,
        out: &mut Vec<u8>,
    ) {
        for line in &self.0 {
            let is_there = || match present {
                Present::Nothing => false,
                Present::Fixed(headers) => headers
                    .iter()
                    .any(|(name, _)| name.eq_ignore_ascii_case(line.name)),
                Present::Upstream(head) => {
                    fields.values(head, line.name.as_bytes()).next().is_some()
                }
            };
            if line.always || !is_there() {
                out.extend_from_slice(&line.text);
            }
        }
    }
}
