//! A credential, as configured.

use std::num::NonZeroUsize;

use crate::secret::Secret;

/// The two kinds of credential that Atlas knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSettings {
    /// OAuth 2.0 client credentials (RFC 6749 section 4.4) of an Atlas service account.
    ServiceAccount(ServiceAccountKey),
    /// HTTP Digest (RFC 7616) with an Atlas API key.
    ApiKey(ApiKeyPair),
}

/// What a service account asks for tokens with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountKey {
    /// The client identifier, `mdb_sa_id_…`.
    pub client_id: String,
    /// The client secrets, `mdb_sa_sk_…`.
    pub secrets: ClientSecrets,
}

/// The secret of a service account, and the one that will follow it. Atlas lets an account have two (to rotate).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSecrets {
    /// The one in use.
    pub current: Secret,
    /// Tried when the token endpoint no longer accepts the current one.
    pub next: Option<Secret>,
}

/// What requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyPair {
    /// The public key: the Digest user name.
    pub public_key: String,
    /// The private key: the Digest password.
    pub private_key: Secret,
    /// At most this many Digest requests at once; `None`: no limit.
    pub max_concurrent: Option<NonZeroUsize>,
}

impl CredentialSettings {
    /// The client id, or the public key.
    pub fn id(&self) -> &str {
        match self {
            Self::ServiceAccount(key) => &key.client_id,
            Self::ApiKey(key) => &key.public_key,
        }
    }

    /// `service_account` or `api_key`, for logs and the status page.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "service_account",
            Self::ApiKey(_) => "api_key",
        }
    }
}

impl From<Secret> for ClientSecrets {
    fn from(current: Secret) -> Self {
        Self { current, next: None }
    }
}
