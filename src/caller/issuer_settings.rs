//! Issuers of tokens, as configured.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, Uri};
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::upstream::EgressProxy;

/// An issuer of JSON Web Tokens (RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Its name in the settings.
    pub name: String,
    /// How its tokens are recognised.
    pub kind: IssuerKind,
    /// Must be in `aud` of a token.
    pub audience: String,
    /// Where its keys are.
    pub keys: JwksSource,
    /// `exp` less `iat` at most.
    pub max_life: Duration,
    /// Keys are used for so long without an answer of the issuer.
    pub keep: Duration,
}

/// By which claim tokens of an issuer are recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IssuerKind {
    /// By `iss`.
    Issuer(String),
    /// By the trust domain in `sub`, a SPIFFE ID (JWT-SVID); `iss` is ignored, and only keys for `jwt-svid` count.
    Spiffe {
        /// Such as `example.org`.
        trust_domain: String,
    },
}

/// Where a JSON Web Key Set (RFC 7517) is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// At a URL that is open to everybody.
    Open {
        /// Where.
        url: JwksUrl,
        /// PEM file of the authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
        /// The way there; `None`: directly.
        egress: Option<EgressProxy>,
    },
    /// At a URL that wants a token. It is reached directly, never through an egress proxy.
    WithToken {
        /// Where; the token is sent there alone.
        url: JwksUrl,
        /// PEM file of the authorities to trust.
        ca_file: PathBuf,
        /// The token.
        token: IssuerToken,
    },
}

/// A token that is sent for a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerToken {
    /// In a file, which is read anew each time.
    File(PathBuf),
    /// As a command printed it.
    Value(Secret),
}

impl IssuerToken {
    /// The value of `Authorization` with this token.
    ///
    /// # Errors
    /// When no header can carry it.
    pub fn bearer(token: &[u8]) -> Result<HeaderValue, &'static str> {
        let token = std::str::from_utf8(token.trim_ascii()).map_err(|_| "the token for the key set is no text")?;
        let mut value = HeaderValue::try_from(&*Zeroizing::new(format!("Bearer {token}")))
            .map_err(|_| "the token for the key set has characters that no header can carry")?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The URL of a key set: https, or http to loopback; without user information and fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JwksUrl(Uri);

/// A text that is no such URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    /// Not a URL.
    #[error("this is not the URL of a key set: write it like `https://issuer.example.org/keys`")]
    Form,
    /// In clear text through the network: anybody on the way could put in keys.
    #[error("keys must come by `https://` (`http://` is allowed to loopback addresses only)")]
    Plain,
    /// User name, password or fragment.
    #[error("the URL of a key set has no user, password or fragment")]
    Extra,
}

impl JwksUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// See [`JwksUrlError`].
    pub fn parse(text: &str) -> Result<Self, JwksUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| JwksUrlError::Form)?;
        let is_loopback = match url.host().ok_or(JwksUrlError::Form)? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(JwksUrlError::Extra);
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback) {
            return Err(JwksUrlError::Plain);
        }
        url.as_str().parse().map(Self).map_err(|_| JwksUrlError::Form)
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://issuer.example.org/keys?v=1",
            "https://kubernetes.default.svc/openid/v1/jwks",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/keys",
        ] {
            assert!(JwksUrl::parse(good).is_ok(), "{good}");
        }
        for (bad, error) in [
            ("http://issuer.example.org/keys", JwksUrlError::Plain),
            ("http://127.0.0.1.example.org/", JwksUrlError::Plain),
            ("ftp://127.0.0.1/", JwksUrlError::Plain),
            ("https://u:p@issuer.example.org/", JwksUrlError::Extra),
            ("https://issuer.example.org/#x", JwksUrlError::Extra),
            ("issuer.example.org", JwksUrlError::Form),
            ("", JwksUrlError::Form),
        ] {
            assert_eq!(JwksUrl::parse(bad), Err(error), "{bad}");
        }
    }
}
