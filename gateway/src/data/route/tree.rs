//! The paths of one host, as a tree of segments whose edges are in one hash table.

use arrayvec::ArrayVec;
use hashbrown::HashTable;

use super::{Captures, RouteIndex, Watch};
use crate::config::{PATH_SEGMENTS_MAX, PathTemplate, TemplateSegment};

/// Paths by segments; `FOLD`: compared without ASCII case.
///
/// A tree and not a map by whole prefixes, since the map would hash a path of many segments once for each of them.
#[derive(Debug)]
pub(super) struct PathTree<const FOLD: bool> {
    nodes: Vec<Node>,
    edges: HashTable<Edge>,
}

/// Where a path leads.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The node of the whole path, if a route names it.
    end: Option<usize>,
    /// Depth and node of each prefix that has routes, the shortest first.
    prefixes: ArrayVec<(usize, usize), { PATH_SEGMENTS_MAX + 1 }>,
}

#[derive(Debug, Default)]
struct Node {
    /// Routes of this path alone, the most specific first; so too below.
    exact: Vec<RouteIndex>,
    /// Routes of this path and all below it.
    prefix: Vec<RouteIndex>,
    /// Routes of the template that ends here.
    template: Vec<RouteIndex>,
    /// The child for any segment.
    capture: Option<usize>,
    /// A template ends here or below.
    leads_to_template: bool,
}

/// What a path of a route is to a tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Template(&'a PathTemplate),
}

#[derive(Debug)]
struct Edge {
    parent: usize,
    segment: Box<[u8]>,
    child: usize,
}

/// The path `""`: the prefix `/` is here, since it holds every path.
const ROOT: usize = 0;

impl Walk {
    /// How many segments the longest prefix has that is left.
    pub(super) fn last_prefix(&self) -> Option<usize> {
        self.prefixes.last().map(|&(depth, _)| depth)
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
    /// The routes of a place, made where it is new.
    pub(super) fn routes_mut(&mut self, place: Place<'_>) -> &mut Vec<RouteIndex> {
        match place {
            Place::Exact(path) => {
                let node = self.node(path.as_bytes());
                &mut self.nodes[node].exact
            }
            Place::Prefix("/") => &mut self.nodes[ROOT].prefix,
            Place::Prefix(path) => {
                let node = self.node(path.as_bytes());
                &mut self.nodes[node].prefix
            }
            Place::Template(template) => {
                let node = self.template_node(template);
                &mut self.nodes[node].template
            }
        }
    }

    /// Follows a path as far as routes name its segments; `walk` is a new one, and too large to be moved. Cost: one
    /// look-up per segment, down to the deepest that a route names.
    pub(super) fn walk(&self, path: &[u8], walk: &mut Walk, watch: &mut impl Watch) {
        let mut note = |node: usize, depth| {
            if !self.nodes[node].prefix.is_empty() {
                // As long as the longest path that a route can have.
                let _full = walk.prefixes.try_push((depth, node));
            }
        };
        note(ROOT, 0);
        if self.edges.is_empty() {
            return;
        }
        let (mut node, mut depth) = (ROOT, 0);
        for segment in segments(path) {
            watch.probed();
            let Some(child) = self.child(node, segment) else {
                return;
            };
            (node, depth) = (child, depth + 1);
            note(node, depth);
        }
        walk.end = Some(node);
    }

    /// The routes of exactly this path.
    pub(super) fn exact(&self, walk: &Walk) -> &[RouteIndex] {
        walk.end.map_or(&[], |node| &self.nodes[node].exact)
    }

    /// The routes of the longest prefix that `walk` still has, which is taken out of it.
    pub(super) fn pop_prefix(&self, walk: &mut Walk) -> &[RouteIndex] {
        walk.prefixes
            .pop()
            .map_or(&[], |(_, node)| &self.nodes[node].prefix)
    }

    /// Whether any route has a template.
    pub(super) fn has_templates(&self) -> bool {
        self.nodes[ROOT].leads_to_template
    }

    /// Asks `take` about the routes of each template that holds `path`, the most specific first, until it takes one:
    /// of two that part at a segment the one that names it. `captures` holds where the segments captured by it are.
    pub(super) fn templates(
        &self,
        path: &[u8],
        captures: &mut Captures,
        take: &mut impl FnMut(&[RouteIndex]) -> Option<RouteIndex>,
    ) -> Option<RouteIndex> {
        captures.clear();
        self.descend(path, (ROOT, 1), captures, take)
    }

    /// Follows the segment of `path` that begins at `at`, below `node`. At most as deep as a route's path.
    fn descend(
        &self,
        path: &[u8],
        (node, at): (usize, usize),
        captures: &mut Captures,
        take: &mut impl FnMut(&[RouteIndex]) -> Option<RouteIndex>,
    ) -> Option<RouteIndex> {
        let rest = path.get(at..)?;
        let slash = rest.iter().position(|&byte| byte == b'/');
        let segment = &rest[..slash.unwrap_or(rest.len())];
        let end = at + segment.len();
        let mut arrive = |child: usize, captures: &mut Captures| {
            let Node {
                template,
                leads_to_template,
                ..
            } = &self.nodes[child];
            match slash {
                _ if !leads_to_template => None,
                Some(_) => self.descend(path, (child, end + 1), captures, take),
                None => take(template),
            }
        };
        if let Some(child) = self.child(node, segment)
            && let Some(route) = arrive(child, captures)
        {
            return Some(route);
        }
        let child = self.nodes[node].capture.filter(|_| !segment.is_empty())?;
        captures.push(at..end);
        let found = arrive(child, captures);
        if found.is_none() {
            captures.pop();
        }
        found
    }

    fn template_node(&mut self, template: &PathTemplate) -> usize {
        let mut node = ROOT;
        for segment in &template.segments {
            self.nodes[node].leads_to_template = true;
            node = match segment {
                TemplateSegment::Literal(text) => self.child_or_new(node, text.as_bytes()),
                TemplateSegment::Capture(_) => {
                    let new = self.nodes.len();
                    let child = *self.nodes[node].capture.get_or_insert(new);
                    if child == new {
                        self.nodes.push(Node::default());
                    }
                    child
                }
            };
        }
        self.nodes[node].leads_to_template = true;
        node
    }

    /// The node of a path, made where it is new.
    fn node(&mut self, path: &[u8]) -> usize {
        let mut node = ROOT;
        for segment in segments(path) {
            node = self.child_or_new(node, segment);
        }
        node
    }

    fn child_or_new(&mut self, parent: usize, segment: &[u8]) -> usize {
        self.child(parent, segment)
            .unwrap_or_else(|| self.add_child(parent, segment))
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
