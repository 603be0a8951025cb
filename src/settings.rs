//! The whole of what a run needs to know: what `config` makes and `app` takes. Every value in it is already right.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::credential::CredentialSettings;
use crate::log::LogSettings;
use crate::server::{Bind, Limits, ListenerSettings};
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

/// The admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where metrics and health answer; `None`: nowhere.
    pub bind: Option<Bind>,
    /// Whether programs on this machine may end the proxy there.
    pub quit: bool,
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
    /// The admin port.
    pub admin: AdminSettings,
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
