//! The whole of what a run needs to know: what `config` makes and `app` takes. Every value in it is already right.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::credential::CredentialSettings;
use crate::log::LogSettings;
use crate::server::{Limits, ListenerSettings};
#[cfg(feature = "token-store")]
use crate::token_store::TokenStoreSettings;
use crate::upstream::UpstreamSettings;

/// One account: a credential and the one upstream it may travel to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSettings {
    /// The credential.
    pub credential: CredentialSettings,
    /// The upstream.
    pub upstream: UpstreamSettings,
}

/// Settings of `run`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// At least one.
    pub listeners: Vec<ListenerSettings>,
    /// By name; each listener's account is among them.
    pub accounts: BTreeMap<String, AccountSettings>,
    /// Where replicas share the tokens of service accounts; `None`: nowhere.
    #[cfg(feature = "token-store")]
    pub token_store: Option<TokenStoreSettings>,
    /// Where metrics and health answer.
    pub admin: SocketAddr,
    /// Bounds.
    pub limits: Limits,
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// How long requests in flight may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// How long to accept on, unready, before the drain begins.
    pub drain_delay: Duration,
    /// Logging.
    pub log: LogSettings,
}
