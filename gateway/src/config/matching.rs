//! What a route asks of a request beyond its host: patterns of paths, and conditions on method, header fields, query and
//! client. As used: every pattern compiles, every name is valid.

use std::hash::{Hash, Hasher};

use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};

/// Most captures of a path.
pub const PATH_CAPTURES_MAX: usize = 8;
/// Most segments of a path or prefix.
pub const PATH_SEGMENTS_MAX: usize = 64;
/// Most methods of a route, and most of its conditions on header fields or on the query.
pub const CONDITIONS_MAX: usize = 16;
/// Most networks of a route.
pub const CLIENT_NETWORKS_MAX: usize = 1024;
/// Most routes that share a host and a path: those are tried one after the other.
pub const ROUTES_PER_PATH_MAX: usize = 256;
/// Most regular expressions for paths that routes of one host have: those are tried one after the other.
pub const PATH_REGEXES_PER_HOST_MAX: usize = 64;
/// Most methods beyond those of the standards that all routes name together.
pub const EXTENSION_METHODS_MAX: usize = 32;
/// Most memory of a compiled regular expression, and of the automaton that each worker builds from it.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A path of a route, normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// This path and all below it, by whole segments: `/v1` holds `/v1` and `/v1/x`, not `/v10`.
    Prefix(String),
    /// A path some of whose segments may be anything but empty.
    Template(PathTemplate),
    /// A path that this matches as a whole.
    Regex(Pattern),
}

impl PathPattern {
    /// The names of what the path captures, in the order of the captures.
    #[must_use]
    pub fn captures(&self) -> Vec<&str> {
        match self {
            Self::Exact(_) | Self::Prefix(_) => Vec::new(),
            Self::Template(template) => template.captures().collect(),
            Self::Regex(pattern) => pattern.captures().collect(),
        }
    }
}

/// `/v1/users/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    /// What is between the slashes.
    pub segments: Vec<TemplateSegment>,
}

impl PathTemplate {
    fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            TemplateSegment::Capture(name) => Some(name.as_str()),
            TemplateSegment::Literal(_) => None,
        })
    }
}

/// One segment of a [`PathTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TemplateSegment {
    /// This one.
    Literal(String),
    /// Any but an empty one, captured under this name.
    Capture(String),
}

/// A regular expression over octets that must match from the first to the last. Two are equal if they are written alike.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles; classes are those of ASCII. The error is a text of one line.
    pub(crate) fn new(text: &str, ignore_case: bool) -> Result<Self, String> {
        // Alone first: `)|(` would close our own group.
        let check = build(text, ignore_case);
        let whole = check.and_then(|_| build(&format!(r"\A(?:{text})\z"), ignore_case));
        let regex = whole.map_err(|error| {
            let text = error.to_string();
            let last = text.lines().next_back().unwrap_or_default();
            format!(
                "not a regular expression: {}",
                last.trim_start_matches("error: ")
            )
        })?;
        Ok(Self {
            text: text.to_owned(),
            regex,
        })
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Compiled. Each thread that matches should have a clone of its own, with memory of its own.
    #[must_use]
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Its named groups in their order.
    pub(super) fn captures(&self) -> impl Iterator<Item = &str> {
        self.regex.capture_names().flatten()
    }
}

fn build(text: &str, ignore_case: bool) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .unicode(false)
        .case_insensitive(ignore_case)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// What a request must have besides host and path. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// One of these; empty: any. In order, none twice.
    pub methods: Vec<String>,
    /// Each of these header fields. By name and value, none twice.
    pub headers: Vec<HeaderCondition>,
    /// Each of these query parameters with its value, decoded. In order, none twice.
    pub query: Vec<(String, String)>,
    /// The client's address is in one of these; empty: any.
    pub client_networks: Vec<IpNet>,
}

/// A header field that a request must have; any of its lines will do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderCondition {
    /// In lower case.
    pub name: String,
    /// Its value.
    pub value: ValuePattern,
}

/// A value of a header field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValuePattern {
    /// This one.
    Exact(String),
    /// One that this matches as a whole.
    Regex(Pattern),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_and_cannot_leave_its_group() {
        let pattern = Pattern::new("a|b+", false).unwrap();
        for (text, matches) in [("a", true), ("bb", true), ("ab", false), ("xa", false)] {
            assert_eq!(pattern.regex().is_match(text.as_bytes()), matches, "{text}");
        }
        assert!(Pattern::new(")|(", false).is_err());
        assert!(Pattern::new("A", true).unwrap().regex().is_match(b"a"));
    }

    #[test]
    fn a_pattern_that_takes_too_much_memory_is_refused() {
        let message = Pattern::new("(?:[a-z]{100}){1000}", false).unwrap_err();
        assert!(message.contains("size limit"), "{message}");
    }
}
