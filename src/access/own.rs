//! Whether a request touches the credential that the proxy itself uses.

use std::borrow::Cow;

use http::Method;

use super::Reading;
use crate::guard::{folded, loosest};

/// What stands before an API key's id in a path, as [`folded`] sees it.
const API_KEYS: &str = "apikeys";

/// What tells the accounts' credentials in a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnCredential {
    /// As [`folded`] sees them; none is empty.
    ids: Box<[Box<str>]>,
    /// The account uses an API key whose id is not among them.
    key_without_id: bool,
}

/// What of the proxy's own a request touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// The path names it.
    Credential,
    /// The request changes an API key that may be it: the settings do not say which one is.
    PerhapsKey,
}

impl OwnCredential {
    /// The client ids, public keys and ids of API keys of all accounts, as far as they are known: a caller at one must not make
    /// a secret for another, which may be of the same organization.
    pub fn new<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let ids = ids.into_iter().map(folded).filter(|id| !id.is_empty());
        Self {
            ids: ids.map(Into::into).collect(),
            key_without_id: false,
        }
    }

    /// The same at an account that uses an API key whose id is not known: paths name a key by its id, not its public key.
    #[must_use]
    pub fn with_a_key_without_id(self) -> Self {
        Self {
            key_without_id: true,
            ..self
        }
    }

    /// What of it a request touches, however a server may read the path: an id counts as a segment, with a `:verb` or without.
    pub fn touched_by(&self, reading: &Reading<'_>) -> Option<Touched> {
        let Reading { method, path, .. } = *reading;
        if self.ids.is_empty() && !self.key_without_id {
            return None;
        }
        // A path of these alone has one reading.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b':' | b'~');
        if path.bytes().all(plain) {
            return self.touched_by_decoded(method, path);
        }
        self.touched_by_decoded(method, &loosest(path).segments.join("/"))
    }

    /// The same of a path that has this one reading. Allocates nothing for ordinary ones.
    pub(super) fn touched_by_decoded(&self, method: &Method, path: &str) -> Option<Touched> {
        let plain = path.bytes().all(|b| b.is_ascii_graphic());
        // Folded once, however many ids there are.
        let seen = |part| if plain { Cow::Borrowed(part) } else { folded(part) };
        let is = |part: &str, id: &str| part.eq_ignore_ascii_case(id);
        let is_own = |part| {
            let part = seen(part);
            self.ids.iter().any(|id| is(&part, id))
        };
        if path.split(['/', ':']).any(is_own) {
            return Some(Touched::Credential);
        }
        if !self.key_without_id || matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return None;
        }
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        (segments.any(|segment| is(&seen(segment), API_KEYS)) && segments.next().is_some())
            .then_some(Touched::PerhapsKey)
    }
}
