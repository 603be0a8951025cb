//! Path patterns of rules.

use super::path::{Unclear, canonical, folded, folds_to};

/// Why a text is not a path pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// Does not begin with `/`.
    #[error("`{0}` is not a path pattern: it must begin with a slash, as in `/api/atlas/v2/groups/**`")]
    Relative(String),
    /// `**` before the end.
    #[error("`{0}` has `**` before its end: `**` stands for all that follows; use `*` for one segment")]
    InnerRest(String),
    /// A `*`, `{` or `}` within a segment.
    #[error(
        "`{0}` has `{1}` as a segment: a wildcard is a whole segment, `*` or `{{name}}` (letters, digits, `_`, `-`)"
    )]
    Wildcard(String, String),
    /// `%2F`.
    #[error(
        "`{0}` has `%2F`, which has two readings, and rules must allow both: write `*` or `{{name}}` for a segment with it, and \
         a rule for the path with slashes"
    )]
    EncodedSlash(String),
    /// Something that no request path that is let through can have.
    #[error("`{path}` can never match: {why}; requests with such a path are refused when there are rules")]
    Unclear {
        /// What was given.
        path: String,
        /// What is wrong with it.
        why: Unclear,
    },
}

/// A path with wildcards: `*` and `{name}` stand for one segment that is not empty, `**` at the end for any number of
/// segments, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Box<[Segment]>,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    One,
    Literal {
        exact: Box<str>,
        /// As [`folded`] sees it.
        loose: Box<str>,
    },
}

/// How a pattern ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its last segment.
    Here,
    /// With a slash.
    Slash,
    /// With `**`.
    Rest,
}

impl PathPattern {
    /// Reads a pattern. Percent-encodings in it mean the characters that they stand for.
    ///
    /// # Errors
    /// See [`PathPatternError`].
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let given = || text.to_owned();
        if !text.starts_with('/') {
            return Err(PathPatternError::Relative(given()));
        }
        // `{name}` may not be decoded away, and wildcards are plain characters of a path: read the whole first.
        let path = canonical(text).map_err(|why| match why {
            Unclear::EncodedSlash => PathPatternError::EncodedSlash(given()),
            why => PathPatternError::Unclear { path: given(), why },
        })?;
        let mut parts: Vec<&str> = path[1..].split('/').collect();
        let end = match parts.last() {
            Some(&"**") => End::Rest,
            Some(&"") => End::Slash,
            _ => End::Here,
        };
        if end != End::Here {
            parts.pop();
        }
        let segment = |part: &&str| match *part {
            "*" => Ok(Segment::One),
            "**" => Err(PathPatternError::InnerRest(given())),
            name if is_capture(name) => Ok(Segment::One),
            odd if odd.contains(['*', '{', '}']) => Err(PathPatternError::Wildcard(given(), odd.to_owned())),
            literal => Ok(Segment::Literal {
                exact: literal.into(),
                loose: folded(literal).into(),
            }),
        };
        let segments = parts.iter().map(segment).collect::<Result<_, _>>()?;
        Ok(Self { segments, end })
    }

    /// Its segments before a `**`: a literal as it is and as [`folded`] sees it, or none for a wildcard.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Option<(&str, &str)>> {
        self.segments.iter().map(|segment| match segment {
            Segment::One => None,
            Segment::Literal { exact, loose } => Some((&**exact, &**loose)),
        })
    }

    /// How it ends.
    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// Whether a canonical path is exactly one that the pattern describes.
    pub(super) fn matches_exactly(&self, path: &str) -> bool {
        self.matches(path, false)
    }

    /// The same as a forgiving server might see it: any case, with or without a slash at the end.
    pub(super) fn matches_loosely(&self, path: &str) -> bool {
        self.matches(path, true)
    }

    fn matches(&self, path: &str, loosely: bool) -> bool {
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        for segment in &self.segments {
            let fits = match (segment, parts.next()) {
                (_, None | Some("")) => false,
                (Segment::One, Some(_)) => true,
                (Segment::Literal { loose, .. }, Some(part)) if loosely => folds_to(part, loose),
                (Segment::Literal { exact, .. }, Some(part)) => **exact == *part,
            };
            if !fits {
                return false;
            }
        }
        match (self.end, parts.next(), parts.next()) {
            (End::Rest, ..) => true,
            (End::Here, None, _) | (End::Slash, Some(""), None) => true,
            (End::Here, Some(""), None) | (End::Slash, None, _) => loosely,
            _ => false,
        }
    }
}

fn is_capture(part: &str) -> bool {
    let name = part.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
    name.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches_exactly(path)
    }

    fn loosely(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches_loosely(path)
    }

    #[test]
    fn wildcards() {
        for (pattern, path) in [
            ("/", "/"),
            ("/**", "/"),
            ("/**", "/a"),
            ("/**", "/a/b/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/**", "/a"),
            ("/a/**", "/a/"),
            ("/a/**", "/a/b/c"),
            ("/a/*/c", "/a/b/c"),
            ("/a/{group-id}/c", "/a/b/c"),
            ("/a/{id}/**", "/a/b"),
            ("/a/*", "/a/mongodb.gz"),
            ("/c:pause", "/c:pause"),
            ("/%C3%A9%24x", "/é$x"),
        ] {
            assert!(exactly(pattern, path), "{pattern} {path}");
            assert!(loosely(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/", "/a"),
            ("/a", "/"),
            ("/a", "/ab"),
            ("/a", "/a/b"),
            ("/a/*", "/a"),
            ("/a/*", "/a/"),
            ("/a/*", "/a/b/c"),
            ("/a/*/c", "/a//c"),
            ("/a/**", "/ab"),
            ("/a/*/**", "/a"),
            ("/a/*/**", "/a/"),
        ] {
            assert!(!exactly(pattern, path), "{pattern} {path}");
            assert!(!loosely(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn case_and_trailing_slash_count_only_when_exact() {
        for (pattern, path) in [
            ("/a", "/A"),
            ("/a", "/a/"),
            ("/a/", "/a"),
            ("/aS", "/aſ"),
            ("/a/*/c", "/a/x/C "),
        ] {
            assert!(!exactly(pattern, path), "{pattern} {path}");
            assert!(loosely(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn wrong_patterns_are_explained() {
        for bad in ["", "a", "*", "**", "https://h/a"] {
            assert!(
                matches!(PathPattern::parse(bad), Err(PathPatternError::Relative(_))),
                "{bad}"
            );
        }
        for bad in ["/**/a", "/a/**/b/**", "/**/"] {
            assert!(
                matches!(PathPattern::parse(bad), Err(PathPatternError::InnerRest(_))),
                "{bad}"
            );
        }
        for bad in ["/a*", "/*.gz", "/{}", "/{a b}", "/{a}b", "/{a", "/a}", "/***"] {
            let error = PathPattern::parse(bad).unwrap_err();
            assert!(
                matches!(error, PathPatternError::Wildcard(..) | PathPatternError::Unclear { .. }),
                "{bad} {error}"
            );
        }
        for bad in ["//a", "/a/../b", "/a;b", "/a?b", "/%61", "/a b", "/é"] {
            assert!(
                matches!(PathPattern::parse(bad), Err(PathPatternError::Unclear { .. })),
                "{bad}"
            );
        }
    }
}
