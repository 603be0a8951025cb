//! TLS of a listener: its certificate, and whose certificates it accepts.

mod alert;
mod clients;
mod names;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate;
use crate::crypto;

pub(super) use alert::client_refusal;
pub use clients::Clients;
pub(super) use clients::{ClientPolicy, RefusedCertificate};
pub use names::{NamePattern, NamePatternError};

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
    /// Their revocation lists.
    #[error("{0}: write the revocation lists of the authorities as PEM (`X509 CRL`)")]
    ClientCrl(String),
    /// The key is not the certificate's.
    #[error("certificate and key cannot be used together: {}", certificate::unfit_pair(.0))]
    Pair(rustls::Error),
    /// rustls refused its configuration.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Why a listener's certificate is no good now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfTime {
    /// `notAfter` is over.
    #[error("has expired")]
    Expired,
    /// `notBefore` is to come.
    #[error("is not valid yet")]
    NotYetValid,
}

/// A listener's TLS, ready to accept.
#[derive(Clone)]
pub struct ListenerTls {
    config: Arc<ServerConfig>,
    clients: Option<Arc<ClientPolicy>>,
    leaf: CertificateDer<'static>,
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerTls")
            .field("asks_for_certificates", &self.asks_for_certificates())
            .finish_non_exhaustive()
    }
}

impl ListenerTls {
    /// TLS 1.2 and later, ALPN `h2` and `http/1.1` (RFC 7301). With `clients`, a certificate is asked for in every handshake,
    /// and one that is shown is verified: chain, validity, purpose (`clientAuth`), revocation and name.
    ///
    /// # Errors
    /// See [`ListenerTlsError`].
    pub fn new(certificate: &[u8], key: &[u8], clients: Option<Clients<'_>>) -> Result<Self, ListenerTlsError> {
        let chain = certificates(certificate).map_err(ListenerTlsError::Certificate)?;
        let leaf = chain[0].clone();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| ListenerTlsError::Key(pem_error(&e)))?;
        let builder = ServerConfig::builder_with_provider(crypto::provider()).with_safe_default_protocol_versions()?;
        let clients = clients.map(ClientPolicy::new).transpose()?.map(Arc::new);
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(Arc::<ClientPolicy>::clone(clients)),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(ListenerTlsError::Pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if clients.is_some() {
            // A resumed session would not verify the certificate again, which may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            config: Arc::new(config),
            clients,
            leaf,
        })
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.clients.is_some()
    }

    /// Whether a client may show none although it is asked.
    pub fn certificates_are_optional(&self) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.is_optional())
    }

    /// When the listener's own certificate expires, if that can be read from it.
    pub fn expires_at(&self) -> Option<SystemTime> {
        certificate::not_after(&self.leaf)
    }

    /// Whether the listener's own certificate is valid now.
    ///
    /// # Errors
    /// When it is not: no client would accept it.
    pub fn in_time(&self, now: SystemTime) -> Result<(), OutOfTime> {
        match certificate::validity(&self.leaf) {
            Some((_, after)) if after < now => Err(OutOfTime::Expired),
            Some((before, _)) if now < before => Err(OutOfTime::NotYetValid),
            _ => Ok(()),
        }
    }

    /// Whether the listener's own certificate is for this name or address (RFC 9525), so that clients which use it accept it.
    pub fn is_for(&self, name: &str) -> bool {
        let name = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        let Ok(name) = ServerName::try_from(name) else {
            return false;
        };
        webpki::EndEntityCert::try_from(&self.leaf)
            .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// The DNS names that the listener's own certificate is for.
    pub fn names(&self) -> Vec<String> {
        certificate::subject_names(&self.leaf).dns
    }

    /// Whether both show the same certificate.
    pub fn shows_the_same_as(&self, other: &Self) -> bool {
        self.leaf == other.leaf
    }

    /// Logs which revocation lists are missing or out of date.
    pub fn warn_of_lists(&self, now: SystemTime) {
        if let Some(clients) = &self.clients {
            clients.warn_of_missing_lists();
            clients.warn_of_old_lists(now);
        }
    }

    /// Who may connect, when certificates say so.
    pub(super) fn clients(&self) -> Option<&ClientPolicy> {
        self.clients.as_deref()
    }

    /// Makes the handshake. If it fails for a certificate, the error tells which and why. The client was sent an alert then.
    pub(super) async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, FailedHandshake<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let handshake = async move {
            let made = acceptor.accept(stream).into_fallible().await;
            made.map_err(|(error, stream)| FailedHandshake {
                error,
                certificate: clients::REFUSED.with(RefCell::take),
                stream,
            })
        };
        clients::REFUSED.scope(RefCell::default(), handshake).await
    }
}

/// A handshake that was not made.
pub(super) struct FailedHandshake<S> {
    pub(super) error: io::Error,
    /// What is wrong with the client's certificate, if that is why.
    pub(super) certificate: Option<RefusedCertificate>,
    pub(super) stream: S,
}

/// All certificates in `pem`, at least one.
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
