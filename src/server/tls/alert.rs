//! What a client says of the listener's certificate, by the alert with which it ends the handshake (RFC 8446 section 6.2).

use std::io;

use rustls::AlertDescription;

const TRUST: &str =
    "give it the authority that issued the certificate (of `make-ca`: ca.crt) in the trust store that it reads";
/// Go and Java say no more, whatever the reason is.
const TRUST_OR_NAME: &str = "give it the authority that issued the certificate (of `make-ca`: ca.crt) in the trust store that it reads; \
    where it has that, is the name that it calls in the certificate?";
const RENEW: &str = "put a new certificate in the place of `certificate` and `key` of [listener.tls]; where it is good, set the client's clock";

/// Why the client refused the listener's certificate, and what to do; `None`: that is not why the handshake failed.
pub(in crate::server) fn client_refusal(error: &io::Error) -> Option<String> {
    let rustls::Error::AlertReceived(alert) = error.get_ref()?.downcast_ref()? else {
        return None;
    };
    let (name, what) = match alert {
        AlertDescription::UnknownCA => ("unknown_ca", TRUST),
        AlertDescription::BadCertificate => ("bad_certificate", TRUST_OR_NAME),
        AlertDescription::CertificateUnknown => ("certificate_unknown", TRUST_OR_NAME),
        AlertDescription::CertificateExpired => ("certificate_expired", RENEW),
        _ => return None,
    };
    Some(format!("TLS alert {name}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_alerts_about_the_certificate_are_a_refusal() {
        let of = |alert| client_refusal(&io::Error::other(rustls::Error::AlertReceived(alert)));
        for (alert, name, what) in [
            (AlertDescription::UnknownCA, "TLS alert unknown_ca: ", "ca.crt"),
            (
                AlertDescription::BadCertificate,
                "TLS alert bad_certificate: ",
                "ca.crt",
            ),
            (
                AlertDescription::CertificateUnknown,
                "TLS alert certificate_unknown: ",
                "ca.crt",
            ),
            (
                AlertDescription::CertificateExpired,
                "TLS alert certificate_expired: ",
                "new certificate",
            ),
        ] {
            assert!(of(alert).is_some_and(|said| said.starts_with(name) && said.contains(what)));
        }
        assert_eq!(of(AlertDescription::HandshakeFailure), None);
        // What this side finds wrong with the client's.
        let own = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(client_refusal(&io::Error::other(own)), None);
        assert_eq!(client_refusal(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
