//! Where the store is, and how to get in.

use std::fmt;
use std::path::PathBuf;

use super::SealKey;
use crate::secret::Secret;

/// The port of Redis and Valkey.
pub const DEFAULT_PORT: u16 = 6379;

/// A store, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenStoreSettings {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
    /// `rediss://`; `None`: in clear text.
    pub tls: Option<StoreTls>,
    /// The user to log in as; `None`: the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Closes and opens what is stored.
    pub key: SealKey,
}

/// TLS to the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreTls {
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Display for TokenStoreSettings {
    /// The address, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(
            f,
            "{scheme}://{open}{}{close}:{}/{}",
            self.host, self.port, self.database
        )
    }
}
