//! Whether a path names the credential that the proxy itself uses.

use crate::guard::{folded, folds_to, loosest};

/// The client id or public key of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCredential {
    /// As [`folded`] sees it; never empty.
    id: Option<Box<str>>,
}

impl OwnCredential {
    /// The account's client id or public key; none where it is not known, so that no path names it.
    pub fn new(id: Option<&str>) -> Self {
        let id = id.map(folded).filter(|id| !id.is_empty());
        Self {
            id: id.map(|id| id.into()),
        }
    }

    /// Whether any segment of the path, under any reading of it, is the id, with a `:verb` or without.
    pub fn is_named_in(&self, path: &str) -> bool {
        let Some(id) = &self.id else {
            return false;
        };
        let names = |segment: &str| segment.split(':').any(|part| folds_to(part, id));
        // A path of these alone has one reading.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b':' | b'~');
        if path.bytes().all(plain) {
            return path.split('/').any(names);
        }
        loosest(path).segments.iter().any(|segment| names(segment))
    }
}
