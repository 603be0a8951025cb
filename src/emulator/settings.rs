//! What an emulator accepts, and its limits.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Which Atlas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Realm {
    /// cloud.mongodb.com
    #[default]
    Commercial,
    /// cloud.mongodbgov.com
    Government,
}

/// The hash of Digest challenges (RFC 7616 section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// What Atlas sends.
    #[default]
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

impl Algorithm {
    /// The name in a challenge.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }
}

/// What an emulator accepts, and its limits: see each field.
#[derive(Debug, Clone)]
pub struct EmulatorSettings {
    /// Commercial or government.
    pub realm: Realm,
    /// Client id and secret of each service account.
    pub service_accounts: Vec<(String, String)>,
    /// Public and private key of each API key.
    pub api_keys: Vec<(String, String)>,
    /// Life of a token; Atlas: 3600 s.
    pub token_life: Duration,
    /// Token requests in 60 s.
    pub tokens_per_minute: usize,
    /// Live tokens of one service account; Atlas: 100.
    pub max_tokens: usize,
    /// Life of a nonce; Ops Manager: 60 s.
    pub nonce_life: Duration,
    /// The hash of challenges.
    pub algorithm: Algorithm,
    /// The API access list; `None`: everybody.
    pub access_list: Option<Vec<IpAddr>>,
    /// Refuses requests without a version in `Accept` (406), as Atlas does; else they get the latest.
    pub strict_versions: bool,
    /// The day that it lives in: what Atlas has put an end to by then is gone. `YYYY-MM-DD`.
    pub today: &'static str,
    /// How long a cluster takes to be made, and to be removed.
    pub cluster_time: Duration,
    /// API requests in 60 s.
    pub requests_per_minute: usize,
    /// The address that it listens at, which its certificate names, too.
    pub address: IpAddr,
    /// Further names of its certificate.
    pub names: Vec<String>,
    /// Keeps a [record](super::Emulator::record) of everything that it sees, without bound.
    pub record: bool,
}

impl Default for EmulatorSettings {
    /// As Atlas, with no credential.
    fn default() -> Self {
        Self {
            realm: Realm::Commercial,
            service_accounts: Vec::new(),
            api_keys: Vec::new(),
            token_life: Duration::from_secs(3600),
            tokens_per_minute: 50,
            max_tokens: 100,
            nonce_life: Duration::from_secs(60),
            algorithm: Algorithm::Md5,
            access_list: None,
            strict_versions: false,
            // When the catalogue of operations was made, so that what works today works on.
            today: "2026-08-21",
            cluster_time: Duration::from_secs(2),
            requests_per_minute: 10_000,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            names: Vec::new(),
            record: false,
        }
    }
}
