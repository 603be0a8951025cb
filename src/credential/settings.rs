//! A credential, as configured.

use std::num::NonZeroUsize;

use super::identity::IdentitySettings;
use crate::secret::Secret;

/// The two kinds of credential that Atlas knows, and what a gateway asks for instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSettings {
    /// OAuth 2.0 client credentials (RFC 6749 section 4.4) of an Atlas service account.
    ServiceAccount(ServiceAccountKey),
    /// HTTP Digest (RFC 7616) with an Atlas API key.
    ApiKey(ApiKeyPair),
    /// None of Atlas: the upstream is a gateway of this program, which asks who it is.
    Identity(IdentitySettings),
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
    /// The client id, or the public key; `None`: it is no credential of Atlas.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(key) => Some(&key.client_id),
            Self::ApiKey(key) => Some(&key.public_key),
            Self::Identity(_) => None,
        }
    }

    /// `service_account`, `api_key` or `gateway`, for logs and the status page.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "service_account",
            Self::ApiKey(_) => "api_key",
            Self::Identity(_) => "gateway",
        }
    }
}

impl From<Secret> for ClientSecrets {
    fn from(current: Secret) -> Self {
        Self { current, next: None }
    }
}
