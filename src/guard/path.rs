//! Paths as rules see them: a decoded copy for matching. What is sent upstream stays byte for byte.

/// A path in segments, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NormalPath {
    pub(super) segments: Vec<String>,
    pub(super) trailing_slash: bool,
}

/// A path that some server could read in another way than it stands there: dot segments, empty segments, encoded slashes,
/// dots, percent signs or letters, backslashes, parameters, control characters, what is no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path can be read in more than one way (dot segments, `//`, `;`, `\\`, or needless or doubtful percent-encoding)"
)]
pub(super) struct Ambiguous;

/// Decodes a path (without query) that has one reading only.
pub(super) fn normalize(path: &str) -> Result<NormalPath, Ambiguous> {
    let rest = path.strip_prefix('/').ok_or(Ambiguous)?;
    let mut segments = rest.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
    let trailing_slash = segments.last().is_some_and(String::is_empty);
    if trailing_slash {
        segments.pop();
    }
    if segments.iter().any(|s| s.is_empty() || s == "." || s == "..") {
        return Err(Ambiguous);
    }
    Ok(NormalPath {
        segments,
        trailing_slash,
    })
}

fn decode(segment: &str) -> Result<String, Ambiguous> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => decoded.push(encoded(bytes.next(), bytes.next())?),
            b';' | b'\\' | 0..=b' ' | 0x7f.. => return Err(Ambiguous),
            plain => decoded.push(plain),
        }
    }
    // `from_utf8` refuses overlong forms and surrogates.
    let decoded = String::from_utf8(decoded).map_err(|_| Ambiguous)?;
    if decoded.chars().any(char::is_control) {
        Err(Ambiguous)
    } else {
        Ok(decoded)
    }
}

fn encoded(high: Option<u8>, low: Option<u8>) -> Result<u8, Ambiguous> {
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or(Ambiguous);
    let byte = u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|_| Ambiguous)?;
    // Unreserved characters (RFC 3986 section 2.3) need no encoding: whoever encodes them wants to hide them.
    let doubtful =
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%' | b';');
    if doubtful { Err(Ambiguous) } else { Ok(byte) }
}

/// A pattern of paths: literal segments, `{name}` or `*` for one segment, `**` at the end for any number, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    open_end: bool,
    trailing_slash: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a path pattern: {why}")]
pub struct PathPatternError {
    pattern: String,
    why: &'static str,
}

impl PathPattern {
    /// Reads a pattern such as `/api/atlas/v2/groups/{project}/databaseUsers/**`.
    ///
    /// # Errors
    /// When it does not begin with a slash, `**` is not last, braces are not whole segments, or a literal segment can be
    /// read in more than one way.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let fail = |why| PathPatternError {
            pattern: text.to_owned(),
            why,
        };
        let rest = text.strip_prefix('/').ok_or_else(|| fail("it must begin with `/`"))?;
        let mut parts: Vec<&str> = rest.split('/').collect();
        let open_end = parts.last() == Some(&"**");
        let trailing_slash = parts.last() == Some(&"");
        if open_end || trailing_slash {
            parts.pop();
        }
        let segments = parts
            .into_iter()
            .map(|part| match part {
                "**" => Err(fail("`**` can only be the last segment")),
                "*" => Ok(Segment::Any),
                part if part.starts_with('{') && part.ends_with('}') && part.len() > 2 => {
                    let name = &part[1..part.len() - 1];
                    let right = name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                    if right {
                        Ok(Segment::Any)
                    } else {
                        Err(fail("a name in braces has letters, digits, `_` and `-`"))
                    }
                }
                part if part.contains(['{', '}', '*', '?', '#']) => Err(fail(
                    "`*` and `{name}` stand for a whole segment, and there is no query in a pattern",
                )),
                "" => Err(fail("it has an empty segment (`//`)")),
                "." | ".." => Err(fail("it has a dot segment")),
                part => decode(part)
                    .map(Segment::Literal)
                    .map_err(|_| fail("it can be read in more than one way")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            segments,
            open_end,
            trailing_slash,
        })
    }

    /// Exactly, as an `allow` rule must.
    pub(super) fn matches(&self, path: &NormalPath) -> bool {
        (self.open_end || self.trailing_slash == path.trailing_slash) && self.covers(path, |a, b| a == b)
    }

    /// Generously, as a `deny` rule must: whatever the case of letters and a trailing slash.
    pub(super) fn matches_any_case(&self, path: &NormalPath) -> bool {
        self.covers(path, |a, b| a.to_lowercase() == b.to_lowercase())
    }

    fn covers(&self, path: &NormalPath, same: impl Fn(&str, &str) -> bool) -> bool {
        let long_enough = if self.open_end {
            path.segments.len() >= self.segments.len()
        } else {
            path.segments.len() == self.segments.len()
        };
        long_enough
            && self
                .segments
                .iter()
                .zip(&path.segments)
                .all(|(pattern, segment)| match pattern {
                    Segment::Any => true,
                    Segment::Literal(literal) => same(literal, segment),
                })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(&normalize(path).unwrap())
    }

    #[test]
    fn patterns() {
        for (pattern, path, yes) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/", false),
            ("/a/b/", "/a/b/", true),
            ("/a/{x}/c", "/a/anything/c", true),
            ("/a/*/c", "/a/b/d", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/**", "/", true),
            ("/a/c:restart", "/a/c%3Arestart", true),
            ("/a/x%20y", "/a/x%20y", true),
            ("/a", "/A", false),
        ] {
            assert_eq!(matches(pattern, path), yes, "{pattern} {path}");
        }
        let deny = PathPattern::parse("/a/b").unwrap();
        assert!(deny.matches_any_case(&normalize("/A/B/").unwrap()));
    }

    #[test]
    fn ambiguous_paths() {
        for path in [
            "",
            "a",
            "//a",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/.",
            "/..",
            "/a/%2e%2e/b",
            "/a/%2E",
            "/a%2fb",
            "/a%5cb",
            "/a\\b",
            "/a;b",
            "/a%3bb",
            "/%61",
            "/a%00",
            "/a%0a",
            "/a%25",
            "/a%c0%af",
            "/a%ff",
            "/a%",
            "/a%4",
            "/a%zz",
            "/é",
            "/a b",
            "/a%7f",
            "/a%e2%80",
        ] {
            assert_eq!(normalize(path), Err(Ambiguous), "{path}");
        }
        for path in [
            "/", "/a", "/a/", "/a:b", "/a%20b", "/a%C3%A9", "/a.gz", "/a..b", "/%40", "/a+b", "/a%2B",
        ] {
            assert!(normalize(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn bad_patterns() {
        for bad in [
            "", "a", "/a/**/b", "/a//b", "/a{x}", "/{", "/{}", "/{a b}", "/a*", "/..", "/a?b", "/%2f", "/a;b",
        ] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever decodes to a path with one reading does so under an independent, repeated decoder, too.
        #[test]
        fn one_reading_is_one_reading(path in "/([a-zA-Z./;%2eEfF5cC0\\\\~ -]|%[0-9a-fA-F]{2}){0,24}") {
            if let Ok(normal) = normalize(&path) {
                let once = percent_encoding::percent_decode_str(&path).decode_utf8().unwrap().into_owned();
                let twice = percent_encoding::percent_decode_str(&once).decode_utf8().unwrap().into_owned();
                prop_assert_eq!(&once, &twice);
                let mut joined = format!("/{}", normal.segments.join("/"));
                if normal.trailing_slash && !normal.segments.is_empty() {
                    joined.push('/');
                }
                prop_assert_eq!(joined, once);
                prop_assert!(normal.segments.iter().all(|s| !s.contains(['/', '\\', ';']) && s != "." && s != ".."));
            }
        }
    }
}
