//! The hosts that a listener serves.

use crate::config::HostPattern;

/// A set of hosts, compiled. Empty: every host.
#[derive(Debug, Default)]
pub(in crate::data) struct HostSet {
    /// In order.
    exact: Vec<Box<[u8]>>,
    /// With the leading dot.
    suffixes: Vec<Box<[u8]>>,
}

impl HostSet {
    pub(in crate::data) fn new(hosts: &[HostPattern]) -> Self {
        let mut set = Self::default();
        for host in hosts {
            let (list, name) = match host {
                HostPattern::Exact(name) => (&mut set.exact, name),
                HostPattern::Suffix(name) => (&mut set.suffixes, name),
            };
            list.push(name.as_bytes().into());
        }
        set.exact.sort_unstable();
        set
    }

    /// Whether it holds a host, in lower case and without port. Costs a search by halves and a look at each wildcard.
    #[inline]
    pub(in crate::data) fn holds(&self, host: &[u8]) -> bool {
        self.exact.is_empty() && self.suffixes.is_empty() || self.lists(host)
    }

    #[inline(never)]
    fn lists(&self, host: &[u8]) -> bool {
        let of_list = self.exact.binary_search_by(|each| (**each).cmp(host));
        of_list.is_ok()
            || self
                .suffixes
                .iter()
                .any(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
    }
}
