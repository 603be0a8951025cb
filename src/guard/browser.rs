//! Requests of web pages. A page of any site may send requests to a port of this machine; it may not use the credential.

use http::{HeaderMap, header};

/// The request comes from a web page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrowserDenied {
    /// It has an `Origin` (Fetch, "HTTP-network-or-cache fetch").
    #[error("it has an `Origin` header, which web pages' requests have")]
    Origin,
    /// Its `Sec-Fetch-Site` (W3C Fetch Metadata) is another than `none` or `same-origin`.
    #[error("its `Sec-Fetch-Site` header is neither `none` nor `same-origin`")]
    FetchSite,
}

/// Refuses any `Origin`, and any `Sec-Fetch-Site` but a single `none` or `same-origin`.
///
/// # Errors
/// See [`BrowserDenied`].
pub fn check(headers: &HeaderMap) -> Result<(), BrowserDenied> {
    if headers.contains_key(header::ORIGIN) {
        return Err(BrowserDenied::Origin);
    }
    let mut sites = headers.get_all("sec-fetch-site").iter();
    match (sites.next(), sites.next()) {
        (None, _) => Ok(()),
        (Some(site), None) if matches!(site.as_bytes(), b"none" | b"same-origin") => Ok(()),
        _ => Err(BrowserDenied::FetchSite),
    }
}
