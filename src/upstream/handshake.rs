//! What error messages say of a failed TLS handshake.

use std::io;

use super::trust::{PROXY_NOT_ATLAS, Untrusted, is_of_make_ca};

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

/// What to say where a TLS alert of a gateway broke the connection since it refuses the client certificate; `None`: that is
/// not the cause. `root` is the text of the innermost error: HTTP/2 keeps no more of it.
pub fn certificate_refusal(root: &str) -> Option<String> {
    let (_, alert) = root.rsplit_once("received fatal alert: ")?;
    let renew = "whoever writes its file has to renew it";
    let (alert, what) = match alert {
        "UnknownCA" => (
            "unknown authority",
            "is its authority in `client_ca` of the gateway's listener?",
        ),
        "CertificateExpired" => ("certificate expired", renew),
        "CertificateRevoked" => ("certificate revoked", renew),
        "CertificateRequired" => (
            "certificate required",
            "the listener takes nobody without one: set `client_certificate` and `client_key`",
        ),
        "UnsupportedCertificate" => (
            "unsupported certificate",
            "is it one for clients (extended key usage `clientAuth`)?",
        ),
        "BadCertificate" => ("bad certificate", SEE_LOG),
        "CertificateUnknown" => ("certificate unknown", SEE_LOG),
        "AccessDenied" => ("access denied", SEE_LOG),
        _ => return None,
    };
    Some(format!(
        "the gateway refused the client certificate (TLS alert: {alert}): {what}"
    ))
}

const SEE_LOG: &str = "the gateway's log says why; is it of an authority and a name that `client_ca`, `client_crl` and `client_names` of its \
    listener let in, and one for clients?";

/// The text of the error at the root.
pub fn root_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// Describes a failed handshake, with what to do.
pub(super) fn handshake_words(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    if tls.is_some_and(is_authority_as_server) {
        return AUTHORITY_AS_SERVER.to_owned();
    }
    if tls.is_some_and(is_of_make_ca) {
        return PROXY_NOT_ATLAS.to_owned();
    }
    match Untrusted::of(error) {
        Some(untrusted) => format!("{untrusted}; {}", untrusted.advice()),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_one_where_the_text_ends_with_it() {
        assert!(certificate_refusal("received fatal alert: UnknownCA").is_some());
        assert!(certificate_refusal("connection error: received fatal alert: AccessDenied").is_some());
        for no in [
            "received fatal alert: InternalError",
            "issued by \"CN=received fatal alert: UnknownCA\"",
            "received fatal alert: UnknownCA, and more",
        ] {
            assert_eq!(certificate_refusal(no), None);
        }
    }
}
