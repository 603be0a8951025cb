//! TLS of a listener: its certificate, and whose certificates it accepts.

use std::fmt;
use std::sync::Arc;

use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// A text that is no name pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name pattern: write a DNS name (`app.example.org`, `*.example.org`) or a URI (`spiffe://example.org/ns/apps/sa/*`), where `*` stands for part of one label or segment"
)]
pub struct NamePatternError(pub String);

/// A pattern of subject alternative names (RFC 5280 section 4.2.1.6): a URI when it has `://`, else a DNS name. `*` stands
/// for at least one character other than `/` in a URI, other than `.` in a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    uri: bool,
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When no name could match it.
    pub fn parse(text: &str) -> Result<Self, NamePatternError> {
        let text = text.trim();
        let uri = text.contains("://");
        let right = if uri {
            !text.starts_with("://") && text.bytes().all(|b| b.is_ascii_graphic())
        } else {
            !text.is_empty()
                && text.split('.').all(|label| {
                    !label.is_empty()
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*'))
                })
        };
        if !right {
            return Err(NamePatternError(text.to_owned()));
        }
        Ok(Self {
            // DNS names have no case; URIs do.
            text: if uri {
                text.to_owned()
            } else {
                text.to_ascii_lowercase()
            },
            uri,
        })
    }

    fn matches_uri(&self, name: &str) -> bool {
        self.uri && glob(self.text.as_bytes(), name.as_bytes(), b'/')
    }

    fn matches_dns(&self, name: &str) -> bool {
        // A wildcard certificate is for many clients: which one this is, it doesn't tell.
        !self.uri && !name.contains('*') && glob(self.text.as_bytes(), name.to_ascii_lowercase().as_bytes(), b'.')
    }
}

/// `*` takes one or more bytes up to `separator`. Bounded: a pattern is walked with one place to go back to for each star.
fn glob(pattern: &[u8], name: &[u8], separator: u8) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(b'*') if name.get(n).is_some_and(|b| *b != separator) => {
                n += 1;
                p += 1;
                back = Some((p, n));
                continue;
            }
            Some(byte) if *byte != b'*' && name.get(n) == Some(byte) => {
                p += 1;
                n += 1;
                continue;
            }
            None if n == name.len() => return true,
            _ => {}
        }
        match back {
            Some((star, taken)) if name.get(taken).is_some_and(|b| *b != separator) => {
                p = star;
                n = taken + 1;
                back = Some((star, taken + 1));
            }
            _ => return false,
        }
    }
}

/// Whose certificates a listener accepts.
#[derive(Debug)]
pub struct Clients<'a> {
    /// PEM of the certificate authorities.
    pub ca: &'a [u8],
    /// Names, one of which a certificate must have; empty: any certificate of the authorities.
    pub names: Vec<NamePattern>,
}

/// Why a listener's TLS could not be set up. The caller knows the files.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    /// The certificate chain.
    #[error("{0}: write the certificate, then its intermediates, as PEM")]
    Certificate(String),
    /// The private key.
    #[error("{0}: write the certificate's private key as PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    Key(String),
    /// The authorities of clients.
    #[error("{0}: write the certificate authorities of clients as PEM")]
    ClientCa(String),
    /// The key is not the certificate's.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
    /// rustls refused its configuration.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A listener's TLS, ready to accept.
#[derive(Clone)]
pub struct ListenerTls {
    config: Arc<ServerConfig>,
    demands_certificates: bool,
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerTls")
            .field("demands_certificates", &self.demands_certificates)
            .finish_non_exhaustive()
    }
}

impl ListenerTls {
    /// TLS 1.2 and later, ALPN `h2` and `http/1.1` (RFC 7301). With `clients`, a certificate is demanded and looked at in
    /// every handshake: chain, validity, purpose (`clientAuth`) and name.
    ///
    /// # Errors
    /// See [`ListenerTlsError`].
    pub fn new(certificate: &[u8], key: &[u8], clients: Option<Clients<'_>>) -> Result<Self, ListenerTlsError> {
        let chain = certificates(certificate).map_err(ListenerTlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| ListenerTlsError::Key(pem_error(&e)))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let demands_certificates = clients.is_some();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                for ca in certificates(clients.ca).map_err(ListenerTlsError::ClientCa)? {
                    roots
                        .add(ca)
                        .map_err(|e| ListenerTlsError::ClientCa(format!("a certificate is not one: {e}")))?;
                }
                let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|e| ListenerTlsError::ClientCa(e.to_string()))?;
                builder.with_client_cert_verifier(Arc::new(NamedClients {
                    inner,
                    names: clients.names,
                }))
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(ListenerTlsError::Pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if demands_certificates {
            // A resumed session would not look at the certificate again, which may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            config: Arc::new(config),
            demands_certificates,
        })
    }

    /// Whether clients must show a certificate.
    pub fn demands_certificates(&self) -> bool {
        self.demands_certificates
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem_error(&e))?;
    if all.is_empty() {
        return Err("the file holds no certificate".to_owned());
    }
    Ok(all)
}

/// Never the text itself: it may be a key.
fn pem_error(error: &rustls_pki_types::pem::Error) -> String {
    match error {
        rustls_pki_types::pem::Error::NoItemsFound => "the file holds none".to_owned(),
        _ => "the file is not well-formed PEM".to_owned(),
    }
}

/// The web PKI's checks, and then the name's.
#[derive(Debug)]
struct NamedClients {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<NamePattern>,
}

impl NamedClients {
    fn knows(&self, certificate: &CertificateDer<'_>) -> bool {
        if self.names.is_empty() {
            return true;
        }
        let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
            return false;
        };
        certificate
            .valid_uri_names()
            .any(|name| self.names.iter().any(|pattern| pattern.matches_uri(name)))
            || certificate
                .valid_dns_names()
                .any(|name| self.names.iter().any(|pattern| pattern.matches_dns(name)))
    }
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if self.knows(end_entity) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, uri, dns) in [
            (
                "spiffe://example.org/ns/apps/sa/*",
                "spiffe://example.org/ns/apps/sa/web.1",
                true,
                false,
            ),
            (
                "spiffe://example.org/ns/apps/sa/*",
                "spiffe://example.org/ns/apps/sa/",
                false,
                false,
            ),
            (
                "spiffe://example.org/ns/apps/sa/*",
                "spiffe://example.org/ns/apps/sa/a/b",
                false,
                false,
            ),
            (
                "spiffe://example.org/ns/*/sa/web",
                "spiffe://example.org/ns/apps/sa/web",
                true,
                false,
            ),
            (
                "spiffe://example.org/ns/*/sa/web",
                "spiffe://example.org/ns/a/b/sa/web",
                false,
                false,
            ),
            ("spiffe://a/*-x", "spiffe://a/b-x-x", true, false),
            ("spiffe://a/*-x*", "spiffe://a/b-x", false, false),
            ("spiffe://A/b", "spiffe://a/b", false, false),
            ("app.example.org", "APP.example.org", false, true),
            ("app.example.org", "app.example.org.evil", false, false),
            ("*.example.org", "app.example.org", false, true),
            ("*.example.org", "a.b.example.org", false, false),
            ("*.example.org", ".example.org", false, false),
            ("*.example.org", "*.example.org", false, false),
            ("app-*.example.org", "app-7.example.org", false, true),
            ("app.example.org", "spiffe://app.example.org", false, false),
        ] {
            let parsed = NamePattern::parse(pattern).unwrap();
            assert_eq!(
                (parsed.matches_uri(name), parsed.matches_dns(name)),
                (uri, dns),
                "{pattern} {name}"
            );
        }
        for bad in ["", " ", "a b", "a..b", ".a", "://x", "spiffe://a b", "a/b", "a:80"] {
            assert!(NamePattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn globs_end() {
        let pattern = "*a".repeat(30);
        let name = "a".repeat(200);
        assert!(!glob(format!("{pattern}b").as_bytes(), name.as_bytes(), b'/'));
        assert!(glob(pattern.as_bytes(), name.as_bytes(), b'/'));
    }
}
