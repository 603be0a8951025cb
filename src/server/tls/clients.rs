//! Whose certificates a listener accepts: the web PKI's checks, revocation lists, and then the name's.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::{ListenerTlsError, NamePattern, certificates, pem_error};
use crate::certificate;
use crate::crypto;

/// Whose certificates a listener accepts.
#[derive(Debug)]
pub struct Clients<'a> {
    /// PEM of the certificate authorities.
    pub ca: &'a [u8],
    /// Names, one of which a certificate must have; empty: any certificate of the authorities.
    pub names: Vec<NamePattern>,
    /// PEM of the authorities' revocation lists.
    pub crl: Option<&'a [u8]>,
    /// Whether a client may show none (`client_certificate`).
    pub optional: bool,
}

/// A certificate that was refused: what is said of it in the log.
#[derive(Debug, Clone)]
pub(in crate::server) struct RefusedCertificate {
    pub(in crate::server) subject: String,
    pub(in crate::server) names: String,
    /// The rule that it does not meet.
    pub(in crate::server) rule: String,
}

tokio::task_local! {
    /// The certificate that was refused in this task's handshake: rustls calls the verifier in the midst of it, and
    /// keeps only the kind of the error.
    pub(super) static REFUSED: RefCell<Option<RefusedCertificate>>;
}

/// Who may connect, by certificate.
#[derive(Debug)]
pub(in crate::server) struct ClientPolicy {
    id: u64,
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<NamePattern>,
    lists: Vec<List>,
    /// Authorities without a revocation list.
    unlisted: Vec<String>,
    optional: bool,
}

/// A revocation list.
#[derive(Debug)]
struct List {
    issuer: String,
    next_update: Option<SystemTime>,
    /// Whether the log says already that it is past its `next_update`.
    said: AtomicBool,
}

impl ClientPolicy {
    pub(super) fn new(clients: Clients<'_>) -> Result<Self, ListenerTlsError> {
        let id = identity(&clients);
        let authorities = certificates(clients.ca).map_err(ListenerTlsError::ClientCa)?;
        let mut roots = RootCertStore::empty();
        for ca in &authorities {
            roots
                .add(ca.clone())
                .map_err(|e| ListenerTlsError::ClientCa(format!("a certificate is not one: {e}")))?;
        }
        let crls = match clients.crl {
            Some(pem) => revocation_lists(pem).map_err(ListenerTlsError::ClientCrl)?,
            None => Vec::new(),
        };
        let lists: Vec<List> = crls.iter().map(|crl| List::of(crl)).collect();
        let unlisted = if crls.is_empty() {
            Vec::new()
        } else {
            unlisted(&authorities, &crls)
        };
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::provider());
        if !crls.is_empty() {
            // An authority without a list is named when this is loaded. A list past its time is still the best there is:
            // to ignore it would let the revoked in, to refuse everybody would be an outage.
            builder = builder.with_crls(crls).allow_unknown_revocation_status();
        }
        let inner = builder.build().map_err(|error| match error {
            rustls::server::VerifierBuilderError::InvalidCrl(why) => {
                ListenerTlsError::ClientCrl(format!("a revocation list is not one: {why:?}"))
            }
            other => ListenerTlsError::ClientCa(other.to_string()),
        })?;
        Ok(Self {
            id,
            inner,
            names: clients.names,
            lists,
            unlisted,
            optional: clients.optional,
        })
    }

    /// Whether a client may show no certificate.
    pub(in crate::server) fn is_optional(&self) -> bool {
        self.optional
    }

    /// Policies with the same id accept the same certificates.
    pub(in crate::server) fn id(&self) -> u64 {
        self.id
    }

    /// Verifies a chain that was shown in a handshake, as the handshake does.
    pub(in crate::server) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), RefusedCertificate> {
        let Some((end_entity, intermediates)) = chain.split_first() else {
            return Err(RefusedCertificate::none());
        };
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        self.look_at(end_entity, intermediates, now)
            .map(|_| ())
            .map_err(|error| RefusedCertificate::new(end_entity, &error))
    }

    /// Logs, once for each, which lists are past their `nextUpdate`.
    pub(in crate::server) fn warn_of_old_lists(&self, now: SystemTime) {
        for list in &self.lists {
            if list.next_update.is_some_and(|at| at < now) && !list.said.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    issuer = %list.issuer,
                    "a revocation list of `client_crl` is past its `nextUpdate`, and is used on: whoever was revoked \
                     since it was made is still let in. Put a new one in its place"
                );
            }
        }
    }

    /// Logs which authorities have no list.
    pub(super) fn warn_of_missing_lists(&self) {
        for authority in &self.unlisted {
            tracing::warn!(
                %authority,
                "`client_crl` holds no list of this authority of `client_ca`: what it revokes is not known here"
            );
        }
    }

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

    fn look_at(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.warn_of_old_lists(SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs()));
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if self.knows(end_entity) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

/// A hash of everything that decides who is let in. 64 bits are enough: the operator's own settings are no attack on
/// it.
fn identity(clients: &Clients<'_>) -> u64 {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(clients.ca);
    part(clients.crl.unwrap_or_default());
    for name in &clients.names {
        part(name.as_str().as_bytes());
    }
    let hash = hash.finish();
    hash.as_ref()
        .iter()
        .take(8)
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
}

impl List {
    fn of(crl: &CertificateRevocationListDer<'_>) -> Self {
        Self {
            issuer: certificate::list_issuer(crl).unwrap_or_default(),
            next_update: certificate::next_update(crl),
            said: AtomicBool::new(false),
        }
    }
}

fn unlisted(authorities: &[CertificateDer<'_>], crls: &[CertificateRevocationListDer<'_>]) -> Vec<String> {
    authorities
        .iter()
        .filter(|ca| {
            let name = certificate::subject_der(ca);
            !crls.iter().any(|crl| certificate::list_issuer_der(crl) == name)
        })
        .map(|ca| certificate::subject(ca).unwrap_or_default())
        .collect()
}

fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let all = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem_error(&e))?;
    if all.is_empty() {
        return Err("the file holds no revocation list".to_owned());
    }
    Ok(all)
}

impl RefusedCertificate {
    fn none() -> Self {
        Self {
            subject: String::new(),
            names: String::new(),
            rule: "no certificate was shown".to_owned(),
        }
    }

    fn new(end_entity: &CertificateDer<'_>, error: &rustls::Error) -> Self {
        Self {
            subject: certificate::subject(end_entity).unwrap_or_default(),
            names: certificate::alternative_names(end_entity).join(", "),
            rule: rule(error),
        }
    }
}

/// The rule that a certificate does not meet, by the name of the setting.
fn rule(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(error) = error else {
        return error.to_string();
    };
    match error {
        CertificateError::UnknownIssuer => {
            "no authority of `client_ca` has signed it, or its chain is not whole".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for clients (extended key usage `clientAuth`)".to_owned()
        }
        CertificateError::Revoked => "it is revoked (`client_crl`)".to_owned(),
        CertificateError::ApplicationVerificationFailure => "none of its names is among `client_names`".to_owned(),
        other => other.to_string(),
    }
}

impl ClientCertVerifier for ClientPolicy {
    fn client_auth_mandatory(&self) -> bool {
        !self.optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.look_at(end_entity, intermediates, now).inspect_err(|error| {
            // An error says that the task has not asked for it.
            let _ = REFUSED.try_with(|refused| {
                *refused.borrow_mut() = Some(RefusedCertificate::new(end_entity, error));
            });
        })
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
