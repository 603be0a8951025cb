//! What error messages say of a failed TLS handshake.

use std::io;

/// For a server that shows a certificate authority's certificate, which `openssl req -x509` makes by default; with the
/// command that makes a right one.
pub const AUTHORITY_AS_SERVER: &str = "the certificate that is shown is an authority's (`CA:TRUE`), as `openssl req -x509` \
    makes it, and no server may show that; make one for a server, and name it with `ca_file` (`--upstream-ca`): openssl req \
    -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -keyout key.pem -out cert.pem -subj /CN=HOST -addext \
    subjectAltName=DNS:HOST -addext basicConstraints=critical,CA:FALSE";

/// Whether a handshake failed because the server shows a certificate authority's certificate.
pub fn is_authority_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else {
        return false;
    };
    matches!(
        other.0.downcast_ref::<webpki::Error>(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

/// Describes a failed handshake, with what to do.
pub(super) fn handshake_words(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    if tls.is_some_and(is_authority_as_server) {
        return AUTHORITY_AS_SERVER.to_owned();
    }
    format!(
        "{error}; if the upstream has a private certificate authority, name its file with `ca_file` (`--upstream-ca`)"
    )
}
