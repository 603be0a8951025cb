//! The paths of all operations as a tree with one node for each beginning, and the walk down it.
//!
//! A node's literal children are found by a hash of the segment, so that the cost is that of the path's own segments,
//! however many operations there are. A tree's node has one way to it: a walk that turns back where a literal segment
//! led nowhere visits none twice.

use http::Method;

use super::OperationId;

/// The most segments that a path of the catalogue may have.
pub(super) const MOST_SEGMENTS: usize = 16;

const ROOT: u16 = 0;
const NONE: u16 = u16::MAX;

/// The methods of the catalogue, as places in [`Node::routes`].
const METHODS: usize = 5;

fn place_of(method: &Method) -> Option<usize> {
    match *method {
        Method::GET | Method::HEAD => Some(0),
        Method::POST => Some(1),
        Method::PATCH => Some(2),
        Method::DELETE => Some(3),
        Method::PUT => Some(4),
        _ => None,
    }
}

fn place_in_any_case(method: &Method) -> Option<usize> {
    let names = ["GET", "POST", "PATCH", "DELETE", "PUT"];
    let is = |name: &str| name.eq_ignore_ascii_case(method.as_str());
    if is("HEAD") {
        Some(0)
    } else {
        names.iter().position(|name| is(name))
    }
}

/// Where a value stands in a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    segment: u8,
    /// Bytes at the segment's end that belong to a `:verb`.
    after: u8,
}

impl Place {
    pub(super) fn of<'p>(self, parts: &Parts<'p>) -> &'p str {
        let part = parts.all[usize::from(self.segment)];
        &part[..part.len() - usize::from(self.after)]
    }
}

/// An operation under one of its paths.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) operation: OperationId,
    /// With placeholders.
    pub(super) template: &'static str,
    /// `{groupId}`
    pub(super) project: Option<Place>,
    /// `{orgId}`
    pub(super) organization: Option<Place>,
}

/// A child by what a segment ends in.
#[derive(Debug)]
struct Ending {
    /// `:verb`, or `.gz`.
    text: &'static str,
    /// For `{name}:verb`; [`NONE`] where only a literal has this `:verb`.
    child: u16,
}

#[derive(Debug)]
struct Node {
    /// Bit n: there is a literal child of n bytes (63: or more).
    lengths: u64,
    /// The child for a placeholder.
    any: u16,
    /// What no placeholder takes: endings that some child here has.
    endings: Vec<Ending>,
    /// By method.
    routes: [u16; METHODS],
}

#[derive(Debug, Clone, Copy)]
struct Literal {
    parent: u16,
    child: u16,
    text: &'static str,
}

/// The segments of a path.
pub(super) struct Parts<'p> {
    all: [&'p str; MOST_SEGMENTS],
    len: usize,
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Open addressing; the number of places is a power of two, at most half of them taken.
    literals: Vec<Option<Literal>>,
    taken: usize,
    routes: Vec<Route>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new()],
            literals: vec![None; 1024],
            taken: 0,
            routes: Vec::new(),
        }
    }
}

impl Node {
    fn new() -> Self {
        Self {
            lengths: 0,
            any: NONE,
            endings: Vec::new(),
            routes: [NONE; METHODS],
        }
    }
}

fn length_bit(text: &str) -> u64 {
    1 << text.len().min(63)
}

/// Of a segment below a node, the same for upper and lower case.
fn hash(parent: u16, text: &str) -> usize {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = text.as_bytes();
    let (first, last) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(first), Some(last)) => (
                u64::from(u32::from_le_bytes(*first)),
                u64::from(u32::from_le_bytes(*last)),
            ),
            _ => {
                let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or_default());
                (byte(0), byte(1) | byte(2) << 8)
            }
        },
    };
    let mixed = ((first | LOWER).wrapping_mul(ODD) ^ (last | LOWER))
        .wrapping_add(u64::from(parent) << 8 | bytes.len() as u64)
        .wrapping_mul(ODD);
    (mixed >> 40) as usize
}

impl Tree {
    /// # Panics
    /// On a path that has too many segments, or is there already: a fault of the data, which the tests find.
    pub(super) fn add(&mut self, method: &Method, template: &'static str, operation: OperationId) {
        let mut at = ROOT;
        let mut route = Route {
            operation,
            template,
            project: None,
            organization: None,
        };
        for (n, segment) in (0..).zip(template[1..].split('/')) {
            assert!(usize::from(n) < MOST_SEGMENTS, "{template} has too many segments");
            let (name, ending) = match segment.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some(parts) => parts,
                None => ("", segment),
            };
            let place = Place {
                segment: n,
                after: u8::try_from(ending.len()).expect("endings are short"),
            };
            match name {
                "groupId" => route.project = Some(place),
                "orgId" => route.organization = Some(place),
                _ => {}
            }
            at = match (name, ending) {
                ("", literal) => self.literal_child(at, literal),
                (_, "") => self.any_child(at),
                (_, ending) => self.ending_child(at, ending),
            };
        }
        let place = place_of(method).expect("a method of the catalogue");
        let taken = &mut self.nodes[usize::from(at)].routes[place];
        assert_eq!(*taken, NONE, "{method} {template} is there twice");
        *taken = u16::try_from(self.routes.len()).expect("few routes");
        self.routes.push(route);
    }

    fn new_node(&mut self) -> u16 {
        self.nodes.push(Node::new());
        let at = u16::try_from(self.nodes.len() - 1).expect("few nodes");
        assert_ne!(at, NONE);
        at
    }

    fn literal_child(&mut self, parent: u16, text: &'static str) -> u16 {
        if let Some(child) = self.literal::<false>(parent, text) {
            return child;
        }
        let child = self.new_node();
        if let Some((at, _)) = text.match_indices(':').next() {
            self.ending(parent, &text[at..]);
        }
        self.nodes[usize::from(parent)].lengths |= length_bit(text);
        self.taken += 1;
        if self.taken * 2 > self.literals.len() {
            let larger = vec![None; self.literals.len() * 2];
            for literal in std::mem::replace(&mut self.literals, larger).into_iter().flatten() {
                self.put(literal);
            }
        }
        self.put(Literal { parent, child, text });
        child
    }

    fn put(&mut self, literal: Literal) {
        let mask = self.literals.len() - 1;
        let mut at = hash(literal.parent, literal.text) & mask;
        while self.literals[at].is_some() {
            at = (at + 1) & mask;
        }
        self.literals[at] = Some(literal);
    }

    fn any_child(&mut self, parent: u16) -> u16 {
        let there = self.nodes[usize::from(parent)].any;
        if there != NONE {
            return there;
        }
        let child = self.new_node();
        self.nodes[usize::from(parent)].any = child;
        child
    }

    fn ending(&mut self, parent: u16, text: &'static str) -> usize {
        let endings = &mut self.nodes[usize::from(parent)].endings;
        if let Some(at) = endings.iter().position(|ending| ending.text == text) {
            return at;
        }
        endings.push(Ending { text, child: NONE });
        endings.len() - 1
    }

    fn ending_child(&mut self, parent: u16, text: &'static str) -> u16 {
        let at = self.ending(parent, text);
        let there = self.nodes[usize::from(parent)].endings[at].child;
        if there != NONE {
            return there;
        }
        let child = self.new_node();
        self.nodes[usize::from(parent)].endings[at].child = child;
        child
    }

    fn literal<const LOOSELY: bool>(&self, parent: u16, text: &str) -> Option<u16> {
        let mask = self.literals.len() - 1;
        let mut at = hash(parent, text) & mask;
        loop {
            let literal = self.literals[at].as_ref()?;
            let same = if LOOSELY {
                literal.text.eq_ignore_ascii_case(text)
            } else {
                literal.text == text
            };
            if same && literal.parent == parent {
                return Some(literal.child);
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn find<'p>(&self, method: &Method, path: &'p str) -> Option<(Parts<'p>, &Route)> {
        let place = place_of(method)?;
        let path = path.strip_prefix('/')?;
        // Atlas serves a path with a slash at its end as the one without, and clients in use send it.
        let parts = Parts::of(path.strip_suffix('/').unwrap_or(path))?;
        let route = self.walk::<false>(ROOT, parts.all.get(..parts.len)?, place)?;
        Some((parts, &self.routes[usize::from(route)]))
    }

    pub(super) fn find_loosely(&self, method: &Method, path: &str) -> Option<&Route> {
        let place = place_in_any_case(method)?;
        let mut parts = Parts {
            all: [""; MOST_SEGMENTS],
            len: 0,
        };
        for part in path.split('/').filter(|part| !part.is_empty()) {
            *parts.all.get_mut(parts.len)? = part;
            parts.len += 1;
        }
        let route = self.walk::<true>(ROOT, &parts.all[..parts.len], place)?;
        Some(&self.routes[usize::from(route)])
    }

    pub(super) fn verbs(&self, path: &str) -> u32 {
        if memchr::memchr(b':', path.as_bytes()).is_none() {
            return 0;
        }
        let mut seen = 0;
        self.see_verbs(ROOT, 0, path.strip_prefix('/').unwrap_or(path), &mut seen);
        seen
    }

    fn see_verbs(&self, node: u16, depth: u32, path: &str, seen: &mut u32) {
        let this = &self.nodes[usize::from(node)];
        let (part, rest) = path
            .split_once('/')
            .map_or((path, None), |(part, rest)| (part, Some(rest)));
        let ending = this.endings.iter().find(|ending| ends_in(part, ending.text));
        if ending.is_some_and(|ending| ending.text.starts_with(':')) {
            *seen |= 1 << depth;
        }
        let Some(rest) = rest else { return };
        let literal = self.literal::<true>(node, part);
        let other = ending.map_or(this.any, |ending| ending.child);
        for child in literal.into_iter().chain((other != NONE).then_some(other)) {
            self.see_verbs(child, depth + 1, rest, seen);
        }
    }

    /// Deeper by one segment with each call, so no deeper than the tree.
    fn walk<const LOOSELY: bool>(&self, node: u16, parts: &[&str], method: usize) -> Option<u16> {
        let this = &self.nodes[usize::from(node)];
        let Some((part, rest)) = parts.split_first() else {
            let route = this.routes[method];
            return (route != NONE).then_some(route);
        };
        if this.lengths & length_bit(part) != 0
            && let Some(child) = self.literal::<LOOSELY>(node, part)
            && let Some(route) = self.walk::<LOOSELY>(child, rest, method)
        {
            return Some(route);
        }
        for ending in &this.endings {
            if !ends_in(part, ending.text) {
                continue;
            }
            // A placeholder is never empty, but a forgiving server might say otherwise.
            let fits = LOOSELY || (part.len() > ending.text.len() && part.ends_with(ending.text));
            if !fits || ending.child == NONE {
                return None;
            }
            return self.walk::<LOOSELY>(ending.child, rest, method);
        }
        if this.any == NONE || matches!(*part, "" | "." | "..") {
            return None;
        }
        self.walk::<LOOSELY>(this.any, rest, method)
    }
}

/// In any case.
fn ends_in(part: &str, ending: &str) -> bool {
    let at = part.len().checked_sub(ending.len());
    at.is_some_and(|at| part.as_bytes()[at..].eq_ignore_ascii_case(ending.as_bytes()))
}

impl<'p> Parts<'p> {
    /// None: more segments than any path of the catalogue.
    fn of(path: &'p str) -> Option<Self> {
        let mut all = [""; MOST_SEGMENTS];
        let mut rest = path;
        for (n, part) in all.iter_mut().enumerate() {
            match memchr::memchr(b'/', rest.as_bytes()) {
                Some(end) => {
                    *part = &rest[..end];
                    rest = &rest[end + 1..];
                }
                None => {
                    *part = rest;
                    return Some(Self { all, len: n + 1 });
                }
            }
        }
        None
    }
}
