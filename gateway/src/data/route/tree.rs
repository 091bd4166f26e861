//! The paths of one host, as a tree of segments whose edges are in one hash table.

use hashbrown::HashTable;

use super::RouteIndex;
use crate::config::PathPattern;

/// Paths by segments; `FOLD`: compared without ASCII case.
///
/// A tree and not a map by whole prefixes, since the map would hash a path of many segments once for each of them.
#[derive(Debug)]
pub(super) struct PathTree<const FOLD: bool> {
    nodes: Vec<Node>,
    edges: HashTable<Edge>,
}

/// What a path found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathMatch {
    /// The route.
    pub route: RouteIndex,
    /// It names this path alone.
    exact: bool,
    /// Segments that it names.
    depth: usize,
}

#[derive(Debug, Default)]
struct Node {
    exact: Option<RouteIndex>,
    prefix: Option<RouteIndex>,
}

#[derive(Debug)]
struct Edge {
    parent: usize,
    segment: Box<[u8]>,
    child: usize,
}

/// The path `""`: the prefix `/` is here, since it holds every path.
const ROOT: usize = 0;

impl PathMatch {
    /// Greater is more specific: exact before prefix, then by segments.
    pub(super) fn rank(&self) -> (bool, usize) {
        (self.exact, self.depth)
    }
}

impl<const FOLD: bool> Default for PathTree<FOLD> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            edges: HashTable::new(),
        }
    }
}

impl<const FOLD: bool> PathTree<FOLD> {
    /// Adds a route.
    pub(super) fn insert(&mut self, pattern: &PathPattern, route: RouteIndex) {
        match pattern {
            PathPattern::Exact(path) => {
                let node = self.node(path.as_bytes());
                self.nodes[node].exact = Some(route);
            }
            PathPattern::Prefix(path) if path == "/" => self.nodes[ROOT].prefix = Some(route),
            PathPattern::Prefix(path) => {
                let node = self.node(path.as_bytes());
                self.nodes[node].prefix = Some(route);
            }
        }
    }

    /// The most specific route for a path. Cost: one look-up per segment, down to the deepest that a route names.
    pub(super) fn find(&self, path: &[u8]) -> Option<PathMatch> {
        let prefix = |node: usize, depth| {
            self.nodes[node].prefix.map(|route| PathMatch {
                route,
                exact: false,
                depth,
            })
        };
        let mut best = prefix(ROOT, 0);
        if self.edges.is_empty() {
            return best;
        }
        let mut node = ROOT;
        let mut depth = 0;
        for segment in segments(path) {
            let Some(child) = self.child(node, segment) else {
                return best;
            };
            (node, depth) = (child, depth + 1);
            best = prefix(node, depth).or(best);
        }
        self.nodes[node]
            .exact
            .map(|route| PathMatch {
                route,
                exact: true,
                depth,
            })
            .or(best)
    }

    /// The node of a path, made where it is new.
    fn node(&mut self, path: &[u8]) -> usize {
        let mut node = ROOT;
        for segment in segments(path) {
            node = self
                .child(node, segment)
                .unwrap_or_else(|| self.add_child(node, segment));
        }
        node
    }

    fn child(&self, parent: usize, segment: &[u8]) -> Option<usize> {
        let same = |edge: &Edge| {
            edge.parent == parent
                && if FOLD {
                    edge.segment.eq_ignore_ascii_case(segment)
                } else {
                    *edge.segment == *segment
                }
        };
        self.edges
            .find(hash::<FOLD>(parent, segment), same)
            .map(|edge| edge.child)
    }

    fn add_child(&mut self, parent: usize, segment: &[u8]) -> usize {
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        let edge = Edge {
            parent,
            segment: segment.into(),
            child,
        };
        let rehash = |edge: &Edge| hash::<FOLD>(edge.parent, &edge.segment);
        self.edges
            .insert_unique(hash::<FOLD>(parent, segment), edge, rehash);
        child
    }
}

/// What is between the slashes: `/a/` has `a` and an empty one, `/` one that is empty.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.strip_prefix(b"/")
        .unwrap_or(path)
        .split(|&byte| byte == b'/')
}

/// FNV-1a. The table holds what the configuration names, and a client cannot add to it, so no key is needed.
fn hash<const FOLD: bool>(parent: usize, segment: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let start = OFFSET ^ (parent as u64).wrapping_mul(PRIME);
    segment.iter().fold(start, |hash, byte| {
        let byte = if FOLD {
            byte.to_ascii_lowercase()
        } else {
            *byte
        };
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}
