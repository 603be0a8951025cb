//! What the files of an identity hold.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::{IdentityFiles, life};
use crate::blocking;
use crate::certificate;
use crate::crypto;
use crate::secret_command::{CommandError, Printer};

/// The largest file that is read, bytes: a token has a few KiB, a chain of certificates some more.
pub const LARGEST_IDENTITY_FILE: usize = 64 << 10;
/// The largest token, bytes: a gateway reads no larger one.
const LARGEST_TOKEN: usize = 8 << 10;

/// Why the files hold no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// One can't be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everybody can write it.
    #[error("{}: every user of this machine can write it, and so choose the identity: `chmod 600` it", .0.display())]
    Writable(PathBuf),
    /// The token.
    #[error("the identity token {0}")]
    Token(&'static str),
    /// It has ended already.
    #[error("it ended at {}", life::told(*.0))]
    Over(SystemTime),
    /// The certificate.
    #[error("the client certificate is no PEM of certificates: write the certificate, then its intermediates")]
    Certificate,
    /// The private key.
    #[error("the client key is no PEM of a private key (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    Key,
    /// They don't fit, or can't be used.
    #[error("client certificate and key cannot be used together: {}", certificate::unfit_pair(.0))]
    Pair(rustls::Error),
    /// The command that prints the token.
    #[error("{}: {error}", .program.display())]
    Command {
        /// What is run.
        program: PathBuf,
        /// Why there is no token.
        error: CommandError,
    },
    /// There is no thread to read on.
    #[error("the files can't be read now: {0}")]
    Thread(io::Error),
}

/// What is shown to a gateway.
#[derive(Clone)]
pub enum Shown {
    /// `Authorization` with the token.
    Token(HeaderValue),
    /// The certificate, in the handshake.
    Certificate(Arc<CertifiedKey>),
}

/// A certificate has one key.
impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(a), Self::Token(b)) => a == b,
            (Self::Certificate(a), Self::Certificate(b)) => a.cert == b.cert,
            _ => false,
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Certificate(_) => "Certificate",
        })
    }
}

impl Shown {
    /// The token in `bytes`, blanks and line ends around it left out.
    ///
    /// # Errors
    /// [`IdentityError::Token`]; never the text itself.
    pub fn token(bytes: &[u8]) -> Result<Self, IdentityError> {
        let token = bytes.trim_ascii();
        if token.is_empty() {
            return Err(IdentityError::Token("is empty: a JSON Web Token must be there"));
        }
        if token.len() > LARGEST_TOKEN {
            return Err(IdentityError::Token(
                "has more than 8 KiB: a gateway reads no larger one",
            ));
        }
        if std::str::from_utf8(token).ok().and_then(life::claims).is_none() {
            return Err(IdentityError::Token(
                "is no JSON Web Token (three parts in base64url, with a JSON object in the middle): one must be there, and nothing else",
            ));
        }
        let field = Zeroizing::new([b"Bearer ", token].concat());
        let mut field =
            HeaderValue::from_bytes(&field).map_err(|_| IdentityError::Token("can't be sent in a header field"))?;
        field.set_sensitive(true);
        Ok(Self::Token(field))
    }

    /// Until when the token in `bytes` is good, by its own word.
    ///
    /// # Errors
    /// When it is none; nothing of it is said.
    pub fn until_of_token(bytes: &[u8]) -> Result<Option<SystemTime>, String> {
        let token = Self::token(bytes).map_err(|error| error.to_string())?;
        Ok(token.until())
    }

    /// The certificate and its private key, both PEM.
    ///
    /// # Errors
    /// See [`IdentityError`]; never the text itself.
    pub fn certificate(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| IdentityError::Certificate)?;
        if chain.is_empty() {
            return Err(IdentityError::Certificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::Key)?;
        let pair = CertifiedKey::from_der(chain, key, &crypto::provider()).map_err(IdentityError::Pair)?;
        Ok(Self::Certificate(Arc::new(pair)))
    }
}

/// The content of the files.
#[derive(PartialEq, Eq)]
pub(super) enum RawFiles {
    Token(Zeroizing<Vec<u8>>),
    Certificate {
        certificate: Zeroizing<Vec<u8>>,
        key: Zeroizing<Vec<u8>>,
    },
}

impl RawFiles {
    pub(super) fn parse(&self) -> Result<Shown, IdentityError> {
        match self {
            Self::Token(token) => Shown::token(token),
            Self::Certificate { certificate, key } => Shown::certificate(certificate, key),
        }
    }
}

impl IdentityFiles {
    /// Reads them. `anew`: a command is run again, if its last run is long enough ago.
    pub(super) async fn read(&self, anew: bool) -> Result<RawFiles, IdentityError> {
        let work: Box<dyn FnOnce() -> Result<RawFiles, IdentityError> + Send> = match self.clone() {
            Self::Command(printer) => return run(&printer, anew).await,
            Self::Token(token) => Box::new(move || Ok(RawFiles::Token(read(&token)?))),
            Self::Certificate { certificate, key } => Box::new(move || {
                Ok(RawFiles::Certificate {
                    certificate: read(&certificate)?,
                    key: read(&key)?,
                })
            }),
        };
        blocking::run(work).await.map_err(IdentityError::Thread)?
    }
}

async fn run(printer: &Arc<Printer>, anew: bool) -> Result<RawFiles, IdentityError> {
    let failed = |error| IdentityError::Command {
        program: printer.command().program.clone(),
        error,
    };
    let output = printer
        .output_aside(Shown::until_of_token, anew)
        .await
        .map_err(failed)?;
    match output.failed {
        None => Ok(RawFiles::Token(output.value)),
        Some(error) => Err(failed(error)),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let read = blocking::read_file(path, LARGEST_IDENTITY_FILE);
    let file = read.map_err(|source| IdentityError::File {
        path: path.to_owned(),
        source,
    })?;
    match file.mode & 0o002 {
        0 => Ok(file.bytes),
        _ => Err(IdentityError::Writable(path.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(bytes: &[u8]) -> Option<String> {
        match Shown::token(bytes).ok()? {
            Shown::Token(field) => Some(field.to_str().unwrap().to_owned()),
            Shown::Certificate(_) => None,
        }
    }

    const TOKEN: &str = "e30.e30.c2ln";

    #[test]
    fn a_token_is_what_the_file_holds_less_blanks_around_it() {
        assert_eq!(token(b" e30.e30.c2ln\r\n").as_deref(), Some("Bearer e30.e30.c2ln"));
        for wrong in [
            "",
            " \n",
            "junk",
            "e30.e30.c2 ln",
            "e30.e30\n.c2ln",
            "{\"a\":1}",
            "e30.e30.\u{fc}",
            "e30.e30.c2ln\0",
        ] {
            assert_eq!(token(wrong.as_bytes()), None, "{wrong:?}");
        }
        let of = |bytes: usize| format!("{TOKEN}{}", "A".repeat(bytes - TOKEN.len()));
        assert!(token(of(LARGEST_TOKEN).as_bytes()).is_some());
        assert!(token(of(LARGEST_TOKEN + 4).as_bytes()).is_none());
    }

    #[test]
    fn debug_and_errors_show_nothing_of_it() {
        assert_eq!(format!("{:?}", Shown::token(TOKEN.as_bytes()).unwrap()), "Token");
        let error = Shown::token(b"sec ret").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("sec"));
        let error = Shown::certificate(b"sec", b"ret").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("sec"));
    }

    #[test]
    fn a_certificate_needs_its_own_key() {
        let pair = || rcgen::generate_simple_self_signed(["leaf".to_owned()]).unwrap();
        let (one, other) = (pair(), pair());
        let read = |key: &str| Shown::certificate(one.cert.pem().as_bytes(), key.as_bytes());
        let shown = read(&one.signing_key.serialize_pem()).unwrap();
        assert!(shown == read(&one.signing_key.serialize_pem()).unwrap());
        assert!(matches!(
            read(&other.signing_key.serialize_pem()),
            Err(IdentityError::Pair(_))
        ));
        assert!(matches!(read(""), Err(IdentityError::Key)));
        assert!(matches!(Shown::certificate(b"", b""), Err(IdentityError::Certificate)));
    }

    proptest! {
        #[test]
        fn nothing_in_a_file_ends_the_field_or_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), real: bool) {
            if real {
                bytes.splice(0..0, TOKEN.bytes());
            }
            if let Some(field) = token(&bytes) {
                prop_assert_eq!(field.as_bytes(), [b"Bearer ", bytes.trim_ascii()].concat());
            }
            let _ = Shown::certificate(&bytes, &bytes);
        }
    }
}
