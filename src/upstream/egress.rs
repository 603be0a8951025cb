//! The proxy through which this machine reaches other hosts when it can't connect to them directly.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// An HTTP proxy that opens tunnels (CONNECT, RFC 9110 section 9.3.6). It sees where a tunnel leads, and none of its
/// content: TLS with the upstream goes through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressProxy {
    host: String,
    port: u16,
    /// `user:password`.
    credentials: Option<Secret>,
}

/// Why a text names no egress proxy. Repeats nothing of it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EgressProxyError {
    /// Not a URL.
    #[error("this is not the URL of a proxy: write it like `http://egress.example.org:3128`")]
    Url,
    /// Not `http`.
    #[error("a proxy is reached by `http://` here: `https://` and `socks5://` proxies are not supported")]
    Scheme,
    /// More than host and port.
    #[error("the URL of a proxy has no path: write it like `http://egress.example.org:3128`")]
    Path,
    /// Characters that no credential has.
    #[error("the proxy's user and password have characters that no header can carry")]
    Credentials,
}

impl EgressProxy {
    /// Reads `http://[user:password@]host[:port]`; without a scheme it is `http`, without a port 80.
    ///
    /// # Errors
    /// See [`EgressProxyError`].
    pub fn parse(text: &str) -> Result<Self, EgressProxyError> {
        let text = text.trim();
        let whole = match text.contains("://") {
            true => Zeroizing::new(text.to_owned()),
            false => Zeroizing::new(format!("http://{text}")),
        };
        let url = Url::parse(&whole).map_err(|_| EgressProxyError::Url)?;
        if url.scheme() != "http" {
            return Err(EgressProxyError::Scheme);
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(EgressProxyError::Path);
        }
        let host = match url.host().ok_or(EgressProxyError::Url)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let proxy = Self {
            host,
            port: url.port().unwrap_or(80),
            credentials: None,
        };
        if url.username().is_empty() && url.password().is_none() {
            return Ok(proxy);
        }
        let decoded = |text: &str| {
            let bytes = Zeroizing::new(percent_encoding::percent_decode_str(text).collect::<Vec<u8>>());
            String::from_utf8(bytes.to_vec()).map(Zeroizing::new)
        };
        let (Ok(user), Ok(password)) = (decoded(url.username()), decoded(url.password().unwrap_or_default())) else {
            return Err(EgressProxyError::Credentials);
        };
        proxy.with_credentials(&Zeroizing::new(format!("{}:{}", *user, *password)))
    }

    /// The same with `user:password`.
    ///
    /// # Errors
    /// When a header can't carry them, or there is no colon.
    pub fn with_credentials(self, credentials: &str) -> Result<Self, EgressProxyError> {
        if !credentials.contains(':') || credentials.chars().any(char::is_control) {
            return Err(EgressProxyError::Credentials);
        }
        Ok(Self {
            credentials: Some(Secret::new(credentials)),
            ..self
        })
    }

    /// Whether it has a user and a password.
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Its name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For `Proxy-Authorization` (RFC 7617), marked as sensitive.
    pub fn authorization(&self) -> Option<HeaderValue> {
        let credentials = self.credentials.as_ref()?;
        let encoded = Zeroizing::new(STANDARD.encode(credentials.expose()));
        let value = Zeroizing::new(["Basic ", &encoded].concat());
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Display for EgressProxy {
    /// `http://host:port`, without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown) in [
            ("http://egress:3128", "http://egress:3128"),
            ("egress:3128", "http://egress:3128"),
            ("http://10.0.0.1", "http://10.0.0.1:80"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
        ] {
            let proxy = EgressProxy::parse(text).unwrap();
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(proxy.authorization(), None);
        }
        let proxy = EgressProxy::parse("http://us%40er:p%3Aass@egress:3128").unwrap();
        assert_eq!(
            proxy.authorization().unwrap(),
            format!("Basic {}", STANDARD.encode("us@er:p:ass"))
        );
        for shown in [
            proxy.to_string(),
            format!("{proxy:?}"),
            format!("{:?}", proxy.authorization()),
        ] {
            assert!(!shown.contains("ass") || !shown.contains("p:"), "{shown}");
        }
        assert_eq!(EgressProxy::parse("socks5://h:1"), Err(EgressProxyError::Scheme));
        assert_eq!(EgressProxy::parse("https://h:1"), Err(EgressProxyError::Scheme));
        assert_eq!(EgressProxy::parse("http://h/path"), Err(EgressProxyError::Path));
        assert_eq!(EgressProxy::parse("http://"), Err(EgressProxyError::Url));
        assert_eq!(
            EgressProxy::parse("http://a%0Ab:c@h"),
            Err(EgressProxyError::Credentials)
        );
    }
}
