//! Which servers are trusted: as webpki says. Whoever is not is told apart by what the configuration says.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TlsError;
use crate::certificate;
use crate::crypto;

/// What is said of [`Untrusted`] to clients: neither a path of this machine nor what the server shows.
pub const UNKNOWN_ISSUER: &str = "its certificate was issued by an authority that is not trusted";

/// A server's certificate that `make-ca` made: it is a listener of this program, whose clients take it for Atlas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{PROXY_NOT_ATLAS}")]
struct OfMakeCa;

/// What is said where a server shows what `make-ca` made, to clients, too.
pub const PROXY_NOT_ATLAS: &str = "that is a proxy, not Atlas: its certificate was made by `atlas-auth-proxy make-ca`, and no account \
    trusts that, so that no request goes round in a circle. Set `connect_to` of the account to where Atlas is (see \
    docs/TRANSPARENT.md); a gateway needs a certificate of another authority";

/// Whether a handshake failed because the server shows what `make-ca` made.
pub fn is_of_make_ca(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.0.is::<OfMakeCa>())
}

/// A server's certificate that none of the trusted authorities has issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Untrusted {
    issuer: Option<String>,
    same_name: bool,
    ca_file: Option<PathBuf>,
}

impl Untrusted {
    /// Why a handshake failed, if this is why.
    pub fn of(error: &io::Error) -> Option<&Self> {
        Self::of_tls(error.get_ref()?.downcast_ref()?)
    }

    /// Why TLS ended, if this is why.
    pub fn of_tls(error: &Error) -> Option<&Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
            _ => None,
        }
    }

    /// What to do.
    pub fn advice(&self) -> String {
        match &self.ca_file {
            None => "is there a private certificate authority, or a proxy that looks into TLS? Name the authority's PEM file with `ca_file` \
                     (--upstream-ca)"
                .to_owned(),
            Some(file) if self.same_name => format!(
                "has the private certificate authority been made anew? Then its new certificate belongs into {}",
                file.display()
            ),
            Some(file) => format!(
                "only the authorities in {} are trusted, in place of the system's: is it the right file, and is it wanted at all? (`ca_file`, \
                 --upstream-ca)",
                file.display()
            ),
        }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuer = self.issuer.as_deref().unwrap_or("an authority without a name");
        write!(
            f,
            "its certificate was issued by {issuer}, and that authority is not trusted"
        )?;
        let whose: &dyn fmt::Display = match &self.ca_file {
            Some(file) => &file.display(),
            None => &"the system",
        };
        if self.same_name {
            write!(f, ": the one of this name in {whose} has another key")
        } else {
            write!(f, ": it is not in {whose}")
        }
    }
}

/// It is in the text of rustls's error, which goes further than this: the server chooses what its issuer is called.
impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnknownIssuer")
    }
}

impl std::error::Error for Untrusted {}

/// webpki's verifier: it alone lets a server in, and not one that shows what `make-ca` made.
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    ca_file: Option<PathBuf>,
}

impl Verifier {
    /// `ca_file`: where the roots are from; `None`: the system.
    pub(super) fn new(roots: RootCertStore, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto::provider());
        let inner = inner.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            inner,
            ca_file: ca_file.map(Path::to_owned),
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Also where no authority of the account has issued it: then this is why it should not.
        if std::iter::once(end_entity)
            .chain(intermediates)
            .any(|der| certificate::is_of_make_ca(der))
        {
            return Err(CertificateError::Other(OtherError(Arc::new(OfMakeCa))).into());
        }
        let verified = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| {
            let same_name = match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => false,
                // This happens with another authority of the same name.
                Error::InvalidCertificate(CertificateError::BadSignature) => true,
                other => return other,
            };
            // The authority that is missing issued the last one.
            let issuer = certificate::issuer(intermediates.last().unwrap_or(end_entity));
            let untrusted = Untrusted {
                issuer,
                same_name,
                ca_file: self.ca_file.clone(),
            };
            CertificateError::Other(OtherError(Arc::new(untrusted))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConnectError, SendError, certificate_refusal, root_text};
    use super::*;

    /// Its issuer is named so that it looks like an alert.
    #[test]
    fn neither_its_issuer_nor_a_path_goes_to_clients_or_into_rustls_text() {
        let untrusted = Untrusted {
            issuer: Some("CN=received fatal alert: UnknownCA".to_owned()),
            same_name: false,
            ca_file: Some("/etc/place/ca.pem".into()),
        };
        let tls = Error::from(CertificateError::Other(OtherError(Arc::new(untrusted))));
        assert!(Untrusted::of_tls(&tls).is_some());
        let error = SendError::from(ConnectError::Tls {
            host: "localhost".to_owned(),
            port: 443,
            source: io::Error::other(tls),
        });
        assert_eq!(certificate_refusal(&root_text(&error)), None);
        let (client, log) = (error.for_client(), error.to_string());
        for part in ["/etc/place/ca.pem", "CN="] {
            assert!(log.contains(part) && !client.contains(part), "{log} {client}");
            assert!(!root_text(&error).contains(part));
        }
        assert!(
            client.contains("`localhost:443`") && client.contains(UNKNOWN_ISSUER),
            "{client}"
        );
    }
}
