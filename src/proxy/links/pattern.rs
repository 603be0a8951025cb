//! What a link to the upstream looks like.

use std::ops::Range;
use std::sync::Arc;

use crate::upstream::Origin;

/// At most this many patterns: two spellings of the origin, two of the path.
pub(super) const MAX_PATTERNS: usize = 4;

/// What JSON without blanks has between a key and a string.
const BEFORE_VALUE: &[u8] = b":\"";

/// Prepared once per account: every text that a link to the upstream can begin with.
#[derive(Debug, Clone)]
pub struct LinkRewriter {
    pub(super) patterns: Arc<[Pattern]>,
    /// The length of the longest pattern's text.
    pub(super) longest: usize,
}

/// An origin (compared without regard to case, RFC 3986 section 6.2.2.1) and the begin of a path (compared exactly).
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) text: Vec<u8>,
    /// Length of the origin; what follows stays.
    pub(super) origin: usize,
}

impl Pattern {
    pub(super) fn has(&self, at: usize, byte: u8) -> bool {
        match self.text.get(at) {
            Some(expected) if at < self.origin => expected.eq_ignore_ascii_case(&byte),
            Some(expected) => *expected == byte,
            None => false,
        }
    }

    fn begins(&self, text: &[u8]) -> bool {
        let Some((origin, rest)) = text.split_at_checked(self.origin) else {
            return false;
        };
        let (own, path) = self.text.split_at(self.origin);
        origin.eq_ignore_ascii_case(own) && rest.starts_with(path)
    }
}

impl LinkRewriter {
    /// For links to `upstream`.
    pub fn new(upstream: &Origin) -> Self {
        let plain = upstream.to_string();
        let mut origins = vec![plain.clone()];
        if upstream.authority().port().is_none() {
            origins.push(format!("{plain}:{}", upstream.port()));
        }
        let patterns = origins
            .iter()
            .flat_map(|origin| {
                ["/api/", "//api/"].map(|path| Pattern {
                    text: format!("{origin}{path}").into_bytes(),
                    origin: origin.len(),
                })
            })
            .collect::<Arc<[_]>>();
        let longest = patterns.iter().map(|pattern: &Pattern| pattern.text.len()).max();
        Self {
            patterns,
            longest: longest.unwrap_or_default(),
        }
    }

    /// Where the origin lies in what follows a key, if that is a link to the upstream as it is nearly always written.
    pub(super) fn usual(&self, behind_key: &[u8]) -> Option<Range<usize>> {
        let pattern = self.patterns.first()?;
        let value = behind_key.strip_prefix(BEFORE_VALUE)?;
        let origin = BEFORE_VALUE.len()..BEFORE_VALUE.len() + pattern.origin;
        value.starts_with(&pattern.text).then_some(origin)
    }

    /// The length of the origin that a plain text begins with, if it is a link to the upstream.
    pub(super) fn origin_length(&self, text: &[u8]) -> Option<usize> {
        self.patterns
            .iter()
            .find(|pattern| pattern.begins(text))
            .map(|pattern| pattern.origin)
    }
}
