//! An identity, as configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Shown;
use crate::secret_command::Printer;

/// Where an identity lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityFiles {
    /// A JSON Web Token, such as a projected one of Kubernetes.
    Token(PathBuf),
    /// A command that prints such a token.
    Command(Arc<Printer>),
    /// A client certificate.
    Certificate {
        /// The certificate, then its intermediates; PEM.
        certificate: PathBuf,
        /// Its private key; PEM.
        key: PathBuf,
    },
}

impl IdentityFiles {
    /// The file that says until when it is good, or the program that does.
    pub(super) fn dated(&self) -> &Path {
        match self {
            Self::Token(file) | Self::Certificate { certificate: file, .. } => file,
            Self::Command(printer) => &printer.command().program,
        }
    }
}

/// An identity, and what was read when the settings were. Equal to another one that lies in the same files: what they hold
/// is read anew while it is in use.
#[derive(Debug, Clone)]
pub struct IdentitySettings {
    /// Where it lies.
    pub files: IdentityFiles,
    /// What lay there.
    pub first: Arc<Shown>,
}

impl PartialEq for IdentitySettings {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Eq for IdentitySettings {}
