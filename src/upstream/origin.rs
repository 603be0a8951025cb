//! Where a credential may travel: one scheme, one host, one port.

use std::fmt;
use std::net::IpAddr;

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use rustls_pki_types::ServerName;
use url::{Host, Url};

/// The most characters of a path that an error shows.
const LONGEST_PATH: usize = 80;

/// Why the URL of an upstream was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not a URL with a host.
    #[error("`{url}` is not the URL of a server ({why}): write `https://host` or `https://host:port`")]
    Invalid {
        /// What was given, less any user information.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Neither https nor http.
    #[error("`{url}` has the scheme `{scheme}`: write `https://…` (or `http://…` to this machine)")]
    Scheme {
        /// What was given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// `http://` beyond loopback would show the credential to the network.
    #[error(
        "`{0}` would send the credential in clear text: `http://` is allowed to loopback addresses only; use `https://`"
    )]
    PlainBeyondLoopback(String),
    /// User information, path, query or fragment.
    #[error("`{url}` has a {part}: write scheme, host and port only; paths are those of the requests")]
    Extra {
        /// Scheme, host and port of what was given.
        url: String,
        /// What has to go.
        part: String,
    },
}

/// Scheme, host and port of an upstream; a credential is bound to one. Upstreams of equal origins share nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    host_header: HeaderValue,
}

impl Origin {
    /// Atlas's commercial realm, `https://cloud.mongodb.com`.
    pub fn commercial() -> Self {
        Self::parse("https://cloud.mongodb.com").expect("a constant that is a URL")
    }

    /// Atlas's government realm, `https://cloud.mongodbgov.com`.
    pub fn government() -> Self {
        Self::parse("https://cloud.mongodbgov.com").expect("a constant that is a URL")
    }

    /// Reads a base URL: `https://host[:port]`, a trailing `/` is allowed; `http://` only to a loopback address or
    /// `localhost`.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let shown = without_userinfo(text);
        let invalid = |why: String| OriginError::Invalid {
            url: shown.clone(),
            why,
        };
        let url = Url::parse(text.trim()).map_err(|e| invalid(e.to_string()))?;
        let scheme = match url.scheme() {
            "https" => Scheme::HTTPS,
            "http" => Scheme::HTTP,
            other => {
                return Err(OriginError::Scheme {
                    url: shown,
                    // Without `://` it may be a user's name.
                    scheme: if text.contains("://") { other } else { "…" }.to_owned(),
                });
            }
        };
        let host = url.host().ok_or_else(|| invalid("it has no host".to_owned()))?;
        let plain = if text.contains('@') {
            shown.clone()
        } else {
            url[..url::Position::AfterPort].to_owned()
        };
        let extra = |part: &str| {
            Err(OriginError::Extra {
                url: plain.clone(),
                part: part.to_owned(),
            })
        };
        if !url.username().is_empty() || url.password().is_some() {
            return extra("user name or password");
        }
        if !matches!(url.path(), "" | "/") {
            // Where there is an `@`, a part of a password may stand in it.
            let path: String = url.path().chars().take(LONGEST_PATH).collect();
            return match text.contains('@') {
                true => extra("path"),
                false => extra(&format!("path (`{path}`)")),
            };
        }
        if url.query().is_some() {
            return extra("query");
        }
        if url.fragment().is_some() {
            return extra("fragment");
        }
        let loopback = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        if scheme == Scheme::HTTP && !loopback {
            return Err(OriginError::PlainBeyondLoopback(plain));
        }
        let (name, server_name) = match &host {
            Host::Domain(name) => (
                (*name).to_owned(),
                ServerName::try_from((*name).to_owned()).map_err(|e| invalid(e.to_string()))?,
            ),
            Host::Ipv4(ip) => (ip.to_string(), ServerName::from(IpAddr::V4(*ip))),
            Host::Ipv6(ip) => (ip.to_string(), ServerName::from(IpAddr::V6(*ip))),
        };
        let port = url.port_or_known_default().unwrap_or(443);
        let shown_authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        Ok(Self {
            authority: shown_authority
                .parse()
                .map_err(|_| invalid("its host is not allowed in a URL".to_owned()))?,
            host_header: HeaderValue::from_str(shown_authority).map_err(|e| invalid(e.to_string()))?,
            scheme,
            host: name,
            port,
            server_name,
        })
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Whether the connection is TLS.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Host, and port unless it is the scheme's own.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The name or the address (without brackets) to connect to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name that the certificate must bear.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// The value of the `Host` header.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// `scheme://authority` followed by `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.authority)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Leaves out what stands before the last `@`, so that no message repeats it: it may be a password. One that is not
/// percent-encoded may have a slash, and then the URL is read otherwise.
fn without_userinfo(text: &str) -> String {
    let start = text.find("://").map_or(0, |i| i + 3);
    match text[start..].rfind('@') {
        Some(at) => format!("{}…@{}", &text[..start], &text[start + at + 1..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_base_urls() {
        let origin = Origin::parse("https://Cloud.MongoDB.com/").unwrap();
        assert_eq!(origin.to_string(), "https://cloud.mongodb.com");
        assert_eq!((origin.host(), origin.port()), ("cloud.mongodb.com", 443));
        assert_eq!(Origin::parse("https://[::1]:8443").unwrap().host(), "::1");
        assert_eq!(
            Origin::parse("http://127.0.0.1:1").unwrap().to_string(),
            "http://127.0.0.1:1"
        );
        assert!(Origin::parse("http://localhost").is_ok());
    }

    #[test]
    fn refuses_what_would_leak_or_confuse() {
        for bad in [
            "http://cloud.mongodb.com",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
        ] {
            assert!(
                matches!(Origin::parse(bad), Err(OriginError::PlainBeyondLoopback(_))),
                "{bad}"
            );
        }
        for bad in ["https://h/api", "https://h?x", "https://h#x", "https://u:pw@h"] {
            assert!(matches!(Origin::parse(bad), Err(OriginError::Extra { .. })), "{bad}");
        }
        for bad in ["", "cloud.mongodb.com", "https://", "ftp://h", "https://a b"] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_that_is_too_much_is_shown() {
        let said = |text: &str| Origin::parse(text).unwrap_err().to_string();
        assert!(said("https://h:8443/api/atlas").contains("`https://h:8443` has a path (`/api/atlas`)"));
        assert!(said(&format!("https://h/{}", "x".repeat(1000))).len() < 300);
    }

    #[test]
    fn a_password_in_the_url_is_not_repeated() {
        for bad in [
            "https://u:hunter2@h/x",
            "https://u:hunter2@",
            "ftp://u:hunter2@h",
            "https://u:80/hunter2@h",
            "u:hunter2@h",
        ] {
            let said = Origin::parse(bad).unwrap_err().to_string();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
