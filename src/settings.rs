//! The whole of what a run needs to know: what `config` makes and `app` takes. Every value in it is already right.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::AuditSettings;
use crate::caller::CallersSettings;
use crate::catalogue::Catalogue;
use crate::credential::CredentialSettings;
use crate::log::LogSettings;
use crate::proxy::{BodyLimits, CallerTerms};
use crate::server::{Bind, CapacityLimits, ConnectionLimits, HandedSockets, ListenerSettings};
#[cfg(feature = "token-store")]
use crate::token_store::TokenStoreSettings;
use crate::trace::TraceSettings;
use crate::upstream::{UpstreamLimits, UpstreamSettings};

/// One account: a credential, or what a gateway is shown in its place, and the one upstream it may travel to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSettings {
    /// The credential.
    pub credential: CredentialSettings,
    /// What names the credential's API key in paths of the API, if that is known: 24 hexadecimal digits.
    pub api_key_id: Option<String>,
    /// The upstream.
    pub upstream: UpstreamSettings,
}

impl AccountSettings {
    /// What paths of the API name the credential by, as far as that is known.
    pub fn names_in_paths(&self) -> impl Iterator<Item = &str> {
        self.credential.id().into_iter().chain(self.api_key_id.as_deref())
    }

    /// Whether paths of the API name the credential by an id that is not known.
    pub fn lacks_its_name_in_paths(&self) -> bool {
        matches!(self.credential, CredentialSettings::ApiKey(_)) && self.api_key_id.is_none()
    }
}

/// The admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where metrics and health answer; `None`: nowhere.
    pub bind: Option<Bind>,
    /// Whether programs on this machine may end the proxy there.
    pub quit: bool,
}

/// Bounds (`[limits]`), each of the part that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// How many client connections there are.
    pub capacity: CapacityLimits,
    /// One client connection.
    pub connection: ConnectionLimits,
    /// Request bodies.
    pub body: BodyLimits,
    /// Connections to upstreams; each account's settings have them, too.
    pub upstream: UpstreamLimits,
}

/// Callers (`[[caller]]`, `[[issuer]]`, `[passes]`).
#[derive(Debug, Clone, Default)]
pub struct CallerSettings {
    /// What they are known by.
    pub identification: CallersSettings,
    /// What each may do and use, in the same order.
    pub terms: Vec<CallerTerms>,
}

/// Settings of `run`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// At least one.
    pub listeners: Vec<ListenerSettings>,
    /// Sockets that the service manager has made; what is bound at their addresses takes them.
    pub handed: HandedSockets,
    /// By name; each listener's account is among them.
    pub accounts: BTreeMap<String, AccountSettings>,
    /// Where replicas share the tokens of service accounts; `None`: nowhere.
    #[cfg(feature = "token-store")]
    pub token_store: Option<TokenStoreSettings>,
    /// Atlas's operations.
    pub catalogue: Arc<Catalogue>,
    /// The programs that have a name of their own.
    pub callers: CallerSettings,
    /// The admin port.
    pub admin: AdminSettings,
    /// Who changed what is recorded there; `None`: nowhere.
    pub audit: Option<AuditSettings>,
    /// Where spans of requests go; `None`: there are none.
    pub traces: Option<TraceSettings>,
    /// Names the settings: a hash over configuration file, variables and flags, in hexadecimal.
    pub digest: String,
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
