//! How a request gets its credential.

pub mod bearer;
pub mod digest;
mod settings;

pub use settings::{ApiKeyPair, ClientSecrets, CredentialSettings, ServiceAccountKey};
