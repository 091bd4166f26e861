//! Sets of methods as bits.

use crate::config::{EXTENSION_METHODS_MAX, RouteConfig};

/// The methods of the standards, in the order of `Allow`.
const STANDARD: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const GET: u64 = 1;
const HEAD: u64 = 1 << 1;

const _: () = assert!(STANDARD.len() + EXTENSION_METHODS_MAX < 64);

/// A set of methods; the names are with the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(u64);

impl Methods {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of `other` is in it.
    #[must_use]
    pub(super) const fn holds(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    #[must_use]
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Every method that a route names, and those of the standards.
#[derive(Debug)]
pub(super) struct MethodNames(Vec<Box<[u8]>>);

impl MethodNames {
    pub(super) fn new(routes: &[RouteConfig]) -> Self {
        let mut names: Vec<Box<[u8]>> =
            STANDARD.iter().map(|name| name.as_bytes().into()).collect();
        for name in routes.iter().flat_map(|route| &route.conditions.methods) {
            if names.len() < 64 && !names.iter().any(|known| **known == *name.as_bytes()) {
                names.push(name.as_bytes().into());
            }
        }
        Self(names)
    }

    /// The set of one method as it came; empty: no route names it.
    pub(super) fn of(&self, method: &[u8]) -> Methods {
        let index = self.0.iter().position(|name| **name == *method);
        Methods(index.map_or(0, |index| 1 << index))
    }

    /// The set of these names. Who takes GET takes HEAD (RFC 9110, 9.1).
    pub(super) fn set(&self, names: &[String]) -> Methods {
        let all = names
            .iter()
            .fold(0, |all, name| all | self.of(name.as_bytes()).0);
        Methods(if all & GET == 0 { all } else { all | HEAD })
    }

    /// The names of a set.
    pub(super) fn names(&self, methods: Methods) -> impl Iterator<Item = &[u8]> {
        let all = self.0.iter().enumerate();
        all.filter(move |(index, _)| methods.0 & 1 << index != 0)
            .map(|(_, name)| &**name)
    }
}
