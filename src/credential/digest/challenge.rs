//! Reads `WWW-Authenticate` (RFC 9110 section 11.6.1, RFC 7616 section 3.3). Our own parser: that of the `digest_auth`
//! crate is case-sensitive, takes one scheme a header, refuses a challenge for one unknown qop value, and may panic on
//! non-ASCII text. A pure function of bytes: it never panics, and its work is bounded by the limits below.

use http::HeaderMap;
use http::header::{HeaderName, WWW_AUTHENTICATE};

use super::field::{Item, Items, Text};
use super::response::Algorithm;

/// At most this many header values are read. Servers send one to three.
const MAX_VALUES: usize = 16;
/// A header value longer than this, in bytes, is ignored. A real challenge has 100 to 500.
const MAX_VALUE_BYTES: usize = 8192;
/// A challenge with more parameters is refused. RFC 7616 knows ten.
const MAX_PARAMS: usize = 32;

/// A Digest challenge that we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub(super) realm: Text,
    pub(super) nonce: Text,
    pub(super) opaque: Option<Text>,
    pub(super) algorithm: Algorithm,
    /// `algorithm` as the server spelled it; None: left out, which means MD5.
    pub(super) algorithm_spelling: Option<Box<[u8]>>,
    pub(super) qop: Qop,
    pub(super) stale: bool,
    /// The server wants the user name hashed.
    pub(super) userhash: bool,
    /// The server reads user names as UTF-8 (`charset=UTF-8`).
    pub(super) utf8: bool,
}

/// Quality of protection: what the response covers. The variants go from the least to the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Qop {
    /// None offered: RFC 2069's form, without `nc` and `cnonce`.
    Rfc2069,
    /// Method, target and body. Needs the whole body beforehand, so it is taken only where `auth` is not offered.
    AuthInt,
    /// Method and target.
    Auth,
}

impl Challenge {
    /// The same terms with another nonce (`nextnonce`, RFC 7616 section 3.5).
    pub(super) fn with_nonce(&self, nonce: Text) -> Self {
        Self {
            nonce,
            stale: false,
            ..self.clone()
        }
    }

    /// Whether an answer made for `other` answers this one too.
    pub(super) fn same_terms(&self, other: &Self) -> bool {
        *self
            == Self {
                stale: self.stale,
                ..other.clone()
            }
    }
}

/// The Digest challenges of the header values given that we can answer, in their order.
pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in values.into_iter().take(MAX_VALUES) {
        if value.len() > MAX_VALUE_BYTES {
            continue;
        }
        let mut current: Option<Builder> = None;
        for item in Items::new(value) {
            match (item, &mut current) {
                (Item::Scheme(scheme), _) => {
                    challenges.extend(current.take().and_then(Builder::finish));
                    current = scheme.eq_ignore_ascii_case(b"Digest").then(Builder::default);
                }
                (Item::Param(name, text), Some(builder)) => builder.param(name, text),
                (Item::Junk, Some(builder)) => builder.refused = true,
                (Item::Param(..) | Item::Junk, None) => {}
            }
        }
        challenges.extend(current.and_then(Builder::finish));
    }
    challenges
}

/// The challenge to answer: the strongest hash, then the best qop, then the one that the server named first. (RFC 7616
/// section 3.7 lets a client take the first it knows; taking the strongest gives a downgrading middle less to work with.)
pub fn strongest(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .map(http::HeaderValue::as_bytes);
    // `max_by_key` gives the last of equals; the server's first choice shall win.
    parse(values)
        .into_iter()
        .rev()
        .max_by_key(|challenge| (challenge.algorithm.hash, challenge.qop))
}

/// `nextnonce` of `Authentication-Info` (RFC 7616 section 3.5), if there is exactly one.
pub(super) fn next_nonce(headers: &HeaderMap) -> Option<Text> {
    const AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("authentication-info");
    let mut found = headers
        .get_all(AUTHENTICATION_INFO)
        .iter()
        .take(MAX_VALUES)
        .map(http::HeaderValue::as_bytes)
        .filter(|value| value.len() <= MAX_VALUE_BYTES)
        .flat_map(Items::new)
        .filter_map(|item| match item {
            Item::Param(name, text) if name.eq_ignore_ascii_case(b"nextnonce") => Some(text),
            _ => None,
        });
    let first = found.next().filter(|text| !text.value.is_empty());
    if found.next().is_some() { None } else { first }
}

/// A Digest challenge while its parameters come in.
#[derive(Default)]
struct Builder {
    params: Vec<(Vec<u8>, Text)>,
    refused: bool,
}

impl Builder {
    fn param(&mut self, name: &[u8], text: Text) {
        let name = name.to_ascii_lowercase();
        // RFC 9110 section 11.2: a name occurs once. Which of two nonces counts, we cannot know.
        if self.params.len() == MAX_PARAMS || self.params.iter().any(|(known, _)| *known == name) {
            self.refused = true;
        } else {
            self.params.push((name, text));
        }
    }

    fn take(&mut self, name: &str) -> Option<Text> {
        let at = self.params.iter().position(|(known, _)| known == name.as_bytes())?;
        Some(self.params.swap_remove(at).1)
    }

    fn finish(mut self) -> Option<Challenge> {
        if self.refused {
            return None;
        }
        let spelled = self.take("algorithm");
        let algorithm = match &spelled {
            Some(text) => Algorithm::parse(&text.value)?,
            // RFC 7616 section 3.3.
            None => Algorithm::parse(b"MD5")?,
        };
        Some(Challenge {
            realm: self.take("realm")?,
            nonce: self.take("nonce")?,
            opaque: self.take("opaque"),
            algorithm,
            algorithm_spelling: spelled.map(|text| text.value),
            qop: match self.take("qop") {
                Some(text) => Qop::best(&text.value)?,
                None => Qop::Rfc2069,
            },
            stale: self.take("stale").is_some_and(|text| text.is("true")),
            userhash: self.take("userhash").is_some_and(|text| text.is("true")),
            utf8: self.take("charset").is_some_and(|text| text.is("UTF-8")),
        })
    }
}

impl Qop {
    /// The best of a list such as `auth, auth-int`. None: it names only unknown values. An empty list means that no qop
    /// is offered.
    fn best(list: &[u8]) -> Option<Self> {
        let mut names = list
            .split(|byte| matches!(byte, b',' | b' ' | b'\t'))
            .filter(|name| !name.is_empty())
            .peekable();
        if names.peek().is_none() {
            return Some(Self::Rfc2069);
        }
        names
            .filter_map(|name| match name.to_ascii_lowercase().as_slice() {
                b"auth" => Some(Self::Auth),
                b"auth-int" => Some(Self::AuthInt),
                _ => None,
            })
            .max()
    }
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
