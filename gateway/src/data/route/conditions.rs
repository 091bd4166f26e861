//! What a route asks of a request besides host and path, compiled.

use regex::bytes::Regex;

use super::{Asked, Methods};
use crate::config::{self, ValuePattern};
use crate::data::codec::{Plus, decode, parameters};
use crate::data::networks::Networks;

/// Octets of the configuration.
type Text = Box<[u8]>;

/// The conditions of one route.
#[derive(Debug)]
pub(super) struct Conditions {
    /// Nothing is asked: the common case, one branch.
    is_empty: bool,
    methods: Methods,
    headers: Box<[(Text, HeaderTest)]>,
    query: Box<[(Text, Text)]>,
    networks: Networks,
}

#[derive(Debug)]
enum HeaderTest {
    Exact(Text),
    /// An index into the table's regular expressions.
    Regex(usize),
}

/// The first condition that a request does not fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The method; all others are fulfilled.
    Method,
    /// The header field with this number in `config::Conditions::headers`.
    Header(usize),
    /// The query parameter with this number in `config::Conditions::query`.
    Query(usize),
    /// The client's address.
    ClientNetwork,
}

impl Conditions {
    /// Compiles. `methods`: the set of those names; regular expressions go to the end of `regexes`.
    pub(super) fn new(
        config: &config::Conditions,
        methods: Methods,
        regexes: &mut Vec<Regex>,
    ) -> Self {
        let bytes = |text: &String| Text::from(text.as_bytes());
        let mut test = |value: &ValuePattern| match value {
            ValuePattern::Exact(value) => HeaderTest::Exact(bytes(value)),
            ValuePattern::Regex(pattern) => {
                regexes.push(pattern.regex().clone());
                HeaderTest::Regex(regexes.len() - 1)
            }
        };
        let headers = config.headers.iter();
        Self {
            is_empty: *config == config::Conditions::default(),
            methods,
            headers: headers
                .map(|header| (bytes(&header.name), test(&header.value)))
                .collect(),
            query: config
                .query
                .iter()
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
            networks: Networks::new(&config.client_networks),
        }
    }

    /// The methods that it takes; none: all.
    pub(super) fn methods(&self) -> Methods {
        self.methods
    }

    /// Greater is more specific, as in the Gateway API: a method, then the number of header fields, then that of query
    /// parameters; and after those, which is ours, the client.
    pub(super) fn rank(&self) -> (bool, usize, usize, bool) {
        (
            !self.methods.is_empty(),
            self.headers.len(),
            self.query.len(),
            !self.networks.is_empty(),
        )
    }

    /// Whether `asked` fulfils all of them.
    #[inline]
    pub(super) fn check(&self, asked: &Asked<'_>, regexes: &[Regex]) -> Result<(), Unmet> {
        if self.is_empty {
            Ok(())
        } else {
            self.check_each(asked, regexes)
        }
    }

    fn check_each(&self, asked: &Asked<'_>, regexes: &[Regex]) -> Result<(), Unmet> {
        for (number, (name, test)) in self.headers.iter().enumerate() {
            let holds = |value: &[u8]| match test {
                HeaderTest::Exact(expected) => **expected == *value,
                HeaderTest::Regex(index) => regexes[*index].is_match(value),
            };
            if !asked.header(name).any(holds) {
                return Err(Unmet::Header(number));
            }
        }
        for (number, (name, expected)) in self.query.iter().enumerate() {
            let same = |text: &[u8], expected: &[u8]| {
                decode(text, Plus::IsBlank).eq(expected.iter().copied())
            };
            let mut found = parameters(asked.query.unwrap_or_default());
            if !found.any(|(each, value)| same(each, name) && same(value, expected)) {
                return Err(Unmet::Query(number));
            }
        }
        if !self.networks.is_empty() && !self.networks.contains(asked.client) {
            return Err(Unmet::ClientNetwork);
        }
        // Last, so that a failure means that nothing else is amiss.
        if !self.methods.is_empty() && !self.methods.holds(asked.method) {
            return Err(Unmet::Method);
        }
        Ok(())
    }
}
