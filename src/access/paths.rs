//! Path patterns of the rules of one caller, as numbers, and the segments of a path, looked up once for all of them.

use super::Action;
use super::words::{NONE, Words, hash};
use crate::guard::{End, PathPattern, folded};

/// Patterns and paths are compared by number in their first segments; no operation has more.
const MOST: usize = 24;

/// The literals of all patterns.
#[derive(Clone, Default)]
pub(super) struct Literals {
    exact: Words,
    loose: Words,
}

/// A pattern, as a rule with its action sees it.
#[derive(Clone)]
pub(super) struct NumberedPattern {
    /// None: a wildcard.
    segments: Box<[Option<u32>]>,
    end: End,
    /// It keeps out, so it compares loosely.
    loosely: bool,
}

/// The segments of a canonical path.
pub(super) struct Segments {
    exact: [u32; MOST],
    loose: [u32; MOST],
    len: usize,
    /// A slash at the end.
    ends_empty: bool,
    /// Bit n: no wildcard of a rule that lets in takes segment n.
    verbs: u32,
}

impl Literals {
    pub(super) fn of<'p>(patterns: impl Iterator<Item = &'p PathPattern> + Clone) -> Self {
        let all = || patterns.clone().flat_map(PathPattern::segments).flatten();
        Self {
            exact: Words::new(all().map(|(exact, _)| exact.into())),
            loose: Words::new(all().map(|(_, loose)| loose.into())),
        }
    }

    /// A pattern by the numbers of its literals.
    pub(super) fn pattern(&self, pattern: &PathPattern, action: Action) -> NumberedPattern {
        let loosely = action == Action::Deny;
        let number = |literal: Option<(&str, &str)>| {
            literal.map(|(exact, loose)| {
                if loosely {
                    self.loose.exact(loose)
                } else {
                    self.exact.exact(exact)
                }
            })
        };
        NumberedPattern {
            segments: pattern.segments().map(number).collect(),
            end: pattern.end(),
            loosely,
        }
    }

    /// `path` is canonical. `verbs`: as [`NumberedPattern`]s of what lets in need them.
    pub(super) fn segments(&self, path: &str, verbs: u32) -> Segments {
        let mut segments = Segments {
            exact: [NONE; MOST],
            loose: [NONE; MOST],
            len: 0,
            ends_empty: path.ends_with('/'),
            verbs,
        };
        for part in path.strip_prefix('/').unwrap_or(path).split('/') {
            if let (Some(exact), Some(loose)) = (
                segments.exact.get_mut(segments.len),
                segments.loose.get_mut(segments.len),
            ) {
                let place = hash(part);
                *exact = self.exact.number(place, |known| known == part);
                *loose = self.loose.number(place, |known| known.eq_ignore_ascii_case(part));
                if *loose == NONE && !part.bytes().all(|b| b.is_ascii_graphic()) {
                    *loose = self.loose.exact(&folded(part));
                }
            }
            segments.len += 1;
        }
        segments
    }
}

impl NumberedPattern {
    pub(super) fn matches(&self, path: &Segments) -> bool {
        let (numbers, closed) = if self.loosely {
            (&path.loose, 0)
        } else {
            (&path.exact, path.verbs)
        };
        let wanted = self.segments.len();
        // The last segment of a path is empty where it ends with a slash, and no pattern's segment is.
        let full = path.len - usize::from(path.ends_empty);
        let fits = |(n, wanted): (usize, &Option<u32>)| match (wanted, numbers.get(n)) {
            (None, _) => n >= 32 || closed >> n & 1 == 0,
            (Some(wanted), Some(number)) => wanted == number,
            // Beyond what is looked up: what keeps out keeps out, what lets in does not.
            (Some(_), None) => self.loosely,
        };
        if full < wanted || !self.segments.iter().enumerate().all(fits) {
            return false;
        }
        match self.end {
            End::Rest => true,
            End::Here => full == wanted && (self.loosely || !path.ends_empty),
            End::Slash => full == wanted && (self.loosely || path.ends_empty),
        }
    }
}
