//! How a request gets its credential.

pub mod bearer;
pub mod digest;
pub mod identity;
mod settings;

pub use settings::{ApiKeyPair, ClientSecrets, CredentialSettings, ServiceAccountKey};
