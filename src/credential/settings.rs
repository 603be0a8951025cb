//! A credential, as configured.

use std::num::NonZeroUsize;

use super::bearer::ClientSecrets;
use crate::secret::Secret;

/// The two kinds of credential that Atlas knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSettings {
    /// OAuth 2.0 client credentials (RFC 6749 section 4.4) of an Atlas service account.
    ServiceAccount {
        /// The client identifier, `mdb_sa_id_…`.
        client_id: String,
        /// The client secrets, `mdb_sa_sk_…`.
        secrets: ClientSecrets,
    },
    /// HTTP Digest (RFC 7616) with an Atlas API key.
    ApiKey {
        /// The public key: the Digest user name.
        public_key: String,
        /// The private key: the Digest password.
        private_key: Secret,
        /// At most this many Digest requests at once; `None`: no limit.
        max_concurrent: Option<NonZeroUsize>,
    },
}

impl CredentialSettings {
    /// `service_account` or `api_key`, for logs and the status page.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount { .. } => "service_account",
            Self::ApiKey { .. } => "api_key",
        }
    }
}
