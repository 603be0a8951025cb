//! A header that every request must carry. A web page, or a fetch that somebody tricked a program into (SSRF), can't
//! add it; metadata services of clouds ask for one for the same reason.

use http::{HeaderMap, HeaderName};

/// The name of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredHeader(HeaderName);

impl RequiredHeader {
    /// Any name.
    pub fn new(name: HeaderName) -> Self {
        Self(name)
    }

    /// The name.
    pub fn name(&self) -> &HeaderName {
        &self.0
    }

    /// Whether the header is there exactly once and not empty.
    pub fn present(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.0).iter();
        values.next().is_some_and(|value| !value.is_empty()) && values.next().is_none()
    }
}
