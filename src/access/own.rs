//! Whether a path names the credential that the proxy itself uses.

use crate::guard::{folded, folds_to, loosest};

/// The client ids and public keys of the accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnCredential {
    /// As [`folded`] sees them; none is empty.
    ids: Box<[Box<str>]>,
}

impl OwnCredential {
    /// The client ids and public keys of all accounts, as far as they are known: a caller at one must not make a secret for
    /// another, which may be of the same organization.
    pub fn new<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let ids = ids.into_iter().map(folded).filter(|id| !id.is_empty());
        Self {
            ids: ids.map(Into::into).collect(),
        }
    }

    /// Whether any segment of the path, under any reading of it, is such an id, with a `:verb` or without.
    pub fn is_named_in(&self, path: &str) -> bool {
        if self.ids.is_empty() {
            return false;
        }
        let is_own = |part: &str| self.ids.iter().any(|id| folds_to(part, id));
        let names = |segment: &str| segment.split(':').any(is_own);
        // A path of these alone has one reading.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b':' | b'~');
        if path.bytes().all(plain) {
            return path.split('/').any(names);
        }
        loosest(path).segments.iter().any(|segment| names(segment))
    }
}
