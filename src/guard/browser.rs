//! Requests of web pages. A page of any site may send requests to a port of this machine; it may not use the credential.
//!
//! A page that has our own origin is no page of ours: it came from whoever had the port before (an open tab, a service
//! worker), or from a body that the upstream sent. What remains is a person who types an address, and sees the answer
//! sandboxed.

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName, header};

use super::host;

/// W3C Fetch Metadata.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// A browser asks for the script of a service worker: it has one that an earlier program left at this address.
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");

/// The request comes from a web page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrowserDenied {
    /// It has an `Origin` (Fetch, "HTTP-network-or-cache fetch").
    #[error("it has an `Origin` header, which web pages' requests have")]
    Origin,
    /// Its `Referer` (RFC 9110 section 10.1.3) names another host or port than the request itself.
    #[error("its `Referer` header names another host or port than the request")]
    Referer,
    /// Its `Sec-Fetch-Site` (W3C Fetch Metadata) is not `none`.
    #[error("its `Sec-Fetch-Site` header is not `none`")]
    FetchSite,
    /// A service worker of whoever had the port before would read the answer (W3C Service Workers, "navigation preload").
    #[error("a service worker would read its answer (`Service-Worker`, `Service-Worker-Navigation-Preload`)")]
    ServiceWorker,
    /// No page sent it (`Sec-Fetch-Site: none`), but it is no navigation to a page either: an extension's request, a
    /// part of a page.
    #[error("its `Sec-Fetch-Mode` is not `navigate`, or its `Sec-Fetch-Dest` not `document`")]
    NoNavigation,
}

/// What the request itself is for: its effective authority, and the scheme of the port that it came to.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// `host` or `host:port`.
    pub authority: &'a str,
    /// `http` or `https`: which port an authority without one means.
    pub scheme: &'a str,
}

/// Refuses any `Origin`, a foreign `Referer`, and any `Sec-Fetch-Site` but `none` on a navigation to a document (what a typed
/// address sends). Where there is no `Sec-Fetch-Site`, other `Sec-Fetch-*` mean nothing: Node's `fetch` sends
/// `Sec-Fetch-Mode: cors` alone.
///
/// # Errors
/// See [`BrowserDenied`].
pub fn check(headers: &HeaderMap, own: Own<'_>) -> Result<(), BrowserDenied> {
    if headers.contains_key(header::ORIGIN) {
        return Err(BrowserDenied::Origin);
    }
    let mut referers = headers.get_all(header::REFERER).iter();
    if !referers.all(|referer| referer.to_str().is_ok_and(|url| is_own(url, own))) {
        return Err(BrowserDenied::Referer);
    }
    if !headers.contains_key(FETCH_SITE) {
        return Ok(());
    }
    if headers.contains_key(SERVICE_WORKER) || headers.contains_key("service-worker-navigation-preload") {
        return Err(BrowserDenied::ServiceWorker);
    }
    if !says_only(headers, FETCH_SITE, b"none") {
        return Err(BrowserDenied::FetchSite);
    }
    if !says_only(headers, "sec-fetch-mode", b"navigate") || !says_only(headers, "sec-fetch-dest", b"document") {
        return Err(BrowserDenied::NoNavigation);
    }
    Ok(())
}

/// Whether the field is there, and every element of every line of it is `word`.
fn says_only(headers: &HeaderMap, name: impl AsHeaderName, word: &[u8]) -> bool {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek().is_some()
        && lines.all(|line| {
            line.as_bytes()
                .split(|byte| *byte == b',')
                .all(|one| one.trim_ascii() == word)
        })
}

/// Whether an absolute URL has the host and the port of the request. What can't be read is not ours.
fn is_own(url: &str, own: Own<'_>) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let named = host::host_and_port(&rest[..end], scheme);
    named.is_some() && named == host::host_and_port(own.authority, own.scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &str)]) -> Result<(), BrowserDenied> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let own = Own {
            authority: "localhost:8080",
            scheme: "http",
        };
        check(&headers, own)
    }

    #[test]
    fn programs_and_typed_addresses_pass() {
        for fields in [
            &[][..],
            &[("sec-fetch-mode", "cors")],
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            &[
                ("sec-fetch-site", "none"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            &[
                ("sec-fetch-site", "none, none"),
                ("sec-fetch-site", "none"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            &[("referer", "http://localhost:8080/api/atlas/v2/groups")],
            &[("referer", "HTTP://LocalHost:8080")],
        ] {
            assert_eq!(of(fields), Ok(()), "{fields:?}");
        }
    }

    #[test]
    fn pages_do_not() {
        for (fields, why) in [
            (&[("origin", "null")][..], BrowserDenied::Origin),
            (&[("origin", "http://localhost:8080")], BrowserDenied::Origin),
            (&[("origin", "")], BrowserDenied::Origin),
            (&[("sec-fetch-site", "same-origin")], BrowserDenied::FetchSite),
            (&[("sec-fetch-site", "same-site")], BrowserDenied::FetchSite),
            (&[("sec-fetch-site", "cross-site")], BrowserDenied::FetchSite),
            (&[("sec-fetch-site", "")], BrowserDenied::FetchSite),
            (&[("sec-fetch-site", "None")], BrowserDenied::FetchSite),
            (&[("sec-fetch-site", "none, cross-site")], BrowserDenied::FetchSite),
            (&[("sec-fetch-site", "none,")], BrowserDenied::FetchSite),
            (
                &[("sec-fetch-site", "none"), ("sec-fetch-site", "same-origin")],
                BrowserDenied::FetchSite,
            ),
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                BrowserDenied::FetchSite,
            ),
            (&[("sec-fetch-site", "none")], BrowserDenied::NoNavigation),
            (
                &[("service-worker", "script"), ("sec-fetch-site", "same-origin")],
                BrowserDenied::ServiceWorker,
            ),
            (
                &[
                    ("service-worker-navigation-preload", "true"),
                    ("sec-fetch-site", "none"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                BrowserDenied::ServiceWorker,
            ),
            (
                &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
                BrowserDenied::NoNavigation,
            ),
            (
                &[("sec-fetch-site", "none"), ("sec-fetch-dest", "document")],
                BrowserDenied::NoNavigation,
            ),
            (
                &[
                    ("sec-fetch-site", "none"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                BrowserDenied::NoNavigation,
            ),
            (
                &[
                    ("sec-fetch-site", "none"),
                    ("sec-fetch-mode", "cors"),
                    ("sec-fetch-dest", "document"),
                ],
                BrowserDenied::NoNavigation,
            ),
            (
                &[
                    ("sec-fetch-site", "none"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                    ("sec-fetch-dest", "empty"),
                ],
                BrowserDenied::NoNavigation,
            ),
        ] {
            assert_eq!(of(fields), Err(why), "{fields:?}");
        }
    }

    #[test]
    fn a_referer_is_ours_or_foreign() {
        for foreign in [
            "http://evil.example/",
            "http://localhost/",
            "http://localhost:8081/",
            "https://localhost/",
            "http://127.0.0.1:8080/",
            "http://localhost:8080@evil.example/",
            "http://evil@localhost:8080/",
            "http://localhost:8080\\@evil.example/",
            "http://localhost:8080.evil.example/",
            "http://localhost.:8080/",
            "http://localhost:08080x/",
            "ftp://localhost:8080x/",
            "//localhost:8080/",
            "localhost:8080",
            "/api",
            "about:blank",
            "http://",
            "",
            "http://localhost:8080?\u{e9}",
        ] {
            assert_eq!(of(&[("referer", foreign)]), Err(BrowserDenied::Referer), "{foreign:?}");
        }
        let two = [
            ("referer", "http://localhost:8080/"),
            ("referer", "http://evil.example/"),
        ];
        assert_eq!(of(&two), Err(BrowserDenied::Referer));
    }

    #[test]
    fn a_missing_port_is_the_one_of_the_scheme() {
        let is_own = |url, authority, scheme| is_own(url, Own { authority, scheme });
        assert!(is_own("http://a/", "a", "http"));
        assert!(is_own("http://a:80/", "a:", "http"));
        assert!(is_own("https://a/", "a:443", "https"));
        assert!(is_own("https://a:8443/x", "A:8443", "https"));
        assert!(is_own("http://[::1]:80/", "[0:0:0:0:0:0:0:1]", "http"));
        assert!(!is_own("https://a/", "a", "http"));
        assert!(!is_own("http://a/", "a", "https"));
        assert!(!is_own("gopher://a/", "a:70", "http"));
    }
}
