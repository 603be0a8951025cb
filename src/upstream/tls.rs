//! Verified TLS. There is no switch that turns verification off.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::trust::Verifier;
use crate::crypto;

/// A bundle of all public authorities has 250 KiB.
const LARGEST_CA_FILE: u64 = 4 << 20;

/// Why no TLS client could be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificate authorities cannot be read as PEM.
    #[error("{}: cannot read certificate authorities (PEM) from it: {why}", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no usable roots.
    #[error(
        "the system has no usable certificate authorities ({0}): install the package `ca-certificates`, set SSL_CERT_FILE, or name a file with `ca_file` (`--upstream-ca`)"
    )]
    NoSystemRoots(String),
    /// rustls refused its configuration.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A client configuration that trusts the authorities in `ca_file`, or the system's: TLS 1.2 and later, session
/// resumption on, early data off (it could be replayed, RFC 8446 appendix E.5), no client certificate, no ALPN yet.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    match ca_file {
        Some(path) => trusting(path, &read_authorities(path)?),
        None => of_roots(system_roots()?, None),
    }
}

/// The same with the authorities in `pem`, which was read from the file at `path`.
///
/// # Errors
/// See [`TlsError`].
pub fn trusting(path: &Path, pem: &[u8]) -> Result<ClientConfig, TlsError> {
    of_roots(roots_of(path, pem)?, Some(path))
}

/// Reads a file of authorities: a regular one, of a size that such files have.
///
/// # Errors
/// [`TlsError::CaFile`].
pub fn read_authorities(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        // Opening a FIFO without a writer would not end.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST_CA_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_CA_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|error| TlsError::CaFile {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn of_roots(roots: RootCertStore, ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let verifier = Arc::new(Verifier::new(roots, ca_file)?);
    Ok(ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn roots_of(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let fail = |why: String| TlsError::CaFile {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| fail(e.to_string()))?;
        roots.add(certificate).map_err(|e| fail(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system store may hold a few certificates that webpki does not accept; the others are what counts.
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found
            .errors
            .first()
            .map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(roots)
}
