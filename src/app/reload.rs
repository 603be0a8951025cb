//! Applies new settings while the app serves: what takes effect at once, and what only a restart can change.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::status::InForce;
use super::{App, Prepared, StartError, admin};
use crate::admin::status::{At, RefusedReload};
use crate::audit::AuditSettings;
use crate::caller::CallerName;
use crate::log::LogSettings;
use crate::metrics::ReloadOutcome;
use crate::server::{Bind, CapacityLimits};
use crate::settings::Settings;

/// The most that the status page tells of settings that were refused.
const MOST_MESSAGES: usize = 20;

/// What only a restart can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnlyAtStart {
    admin: Option<Bind>,
    workers: NonZeroUsize,
    log: LogSettings,
    capacity: CapacityLimits,
    replay_budget: usize,
    audit: Option<AuditSettings>,
    #[cfg(feature = "token-store")]
    token_store: Option<crate::token_store::TokenStoreSettings>,
}

impl OnlyAtStart {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            admin: settings.admin.bind.as_ref().map(admin::unchangeable),
            workers: settings.workers,
            log: settings.log,
            capacity: settings.limits.capacity,
            replay_budget: settings.limits.body.replay_budget,
            audit: settings
                .audit
                .clone()
                .map(|audit| AuditSettings { keys: None, ..audit }),
            #[cfg(feature = "token-store")]
            token_store: settings.token_store.clone(),
        }
    }

    /// The keys that differ.
    fn changes(&self, other: &Self) -> Vec<&'static str> {
        [
            ("admin.bind", self.admin != other.admin),
            ("workers", self.workers != other.workers),
            ("log", self.log != other.log),
            (
                "limits.max_connections",
                self.capacity.max_connections != other.capacity.max_connections,
            ),
            (
                "limits.max_connections_per_peer",
                self.capacity.max_connections_per_peer != other.capacity.max_connections_per_peer,
            ),
            ("limits.replay_budget", self.replay_budget != other.replay_budget),
            ("audit", self.audit != other.audit),
            #[cfg(feature = "token-store")]
            ("token_store", self.token_store != other.token_store),
        ]
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect()
    }
}

impl App {
    /// Applies new settings between two requests. A credential that changed is verified first, in the background; the
    /// old one stays in force until Atlas has accepted the new. Returns the keys that take effect at the next start
    /// only.
    ///
    /// # Errors
    /// When a listener or an account can't be set up: then the old settings stay in force as a whole.
    pub fn reload(&mut self, settings: Settings) -> Result<Vec<&'static str>, StartError> {
        self.reload_prepared(Prepared::read(settings))
    }

    /// The same with settings whose files have been read: does not block.
    ///
    /// # Errors
    /// As for [`Self::reload`].
    pub fn reload_prepared(&mut self, prepared: Result<Prepared, StartError>) -> Result<Vec<&'static str>, StartError> {
        let digest = prepared.as_ref().ok().map(|prepared| prepared.settings.digest.clone());
        let result = prepared.and_then(|prepared| self.take(prepared));
        match &result {
            Ok(_) => *self.state.refused_settings.lock() = None,
            Err(error) => self.note_refused(vec![error.to_string()]),
        }
        if let Some(audit) = &self.state.audit {
            audit.reloaded(result.is_ok(), digest.as_deref());
        }
        let outcome = if result.is_ok() {
            ReloadOutcome::Ok
        } else {
            ReloadOutcome::Error
        };
        self.state.metrics.config_reload(outcome);
        result
    }

    /// To be called when settings could not be read, and the old stay in force. `messages`: why, without secrets, for the
    /// status page.
    pub fn reload_failed(&self, messages: Vec<String>) {
        self.note_refused(messages);
        if let Some(audit) = &self.state.audit {
            audit.reloaded(false, None);
        }
        self.state.metrics.config_reload(ReloadOutcome::Error);
    }

    fn note_refused(&self, mut messages: Vec<String>) {
        if messages.len() > MOST_MESSAGES {
            let more = messages.len() - MOST_MESSAGES;
            messages.truncate(MOST_MESSAGES);
            messages.push(format!("… and {more} more: the log has all"));
        }
        *self.state.refused_settings.lock() = Some(RefusedReload {
            at: At::of(self.state.clock.wall()),
            messages,
        });
    }

    fn take(&mut self, prepared: Prepared) -> Result<Vec<&'static str>, StartError> {
        let Prepared { settings, trusts, .. } = prepared;
        check_accounts(&settings)?;
        self.listeners.check_certificates(&settings.listeners)?;
        self.listeners.check_callers(&settings.listeners)?;
        let bound = self.listeners.bind_new(&settings.listeners, &settings.handed)?;
        self.state.accounts.reload(&settings.accounts, &trusts)?;
        if let (Some(audit), Some(wanted)) = (&self.state.audit, &settings.audit) {
            audit.take_keys(wanted.keys.as_ref());
        }
        let mut later = self.only_at_start.changes(&OnlyAtStart::of(&settings));
        self.drain_timeout = settings.drain_timeout;
        self.drain_delay = settings.drain_delay;
        later.extend(self.admin.take(&self.state, &settings.admin));
        later.extend(
            self.listeners
                .replace(bound, &settings, &self.state.accounts, self.drain_timeout)?,
        );
        self.state.accounts.forget_others(&settings.accounts);
        self.state.listeners.store(Arc::new(self.listeners.status()));
        self.state.callers.store(self.listeners.callers());
        self.state.terms.store(Arc::new(self.listeners.terms()));
        let loaded = self.state.clock.wall();
        let in_force = InForce::new(&settings, later.clone(), loaded);
        self.state.in_force.store(Arc::new(in_force));
        self.forget_calls();
        Ok(later)
    }

    /// What listeners and callers that are gone have asked for keeps no room.
    fn forget_calls(&self) {
        let (listeners, callers) = (self.state.listeners.load(), self.state.callers.load());
        self.state.radar.forget_others(|listener, caller| {
            let mut named = callers.settings().callers().iter();
            // Nobody can have the names of those who are no caller: `none`, `anonymous`.
            let exists = CallerName::parse(caller).is_err()
                || named.any(|known| known.name.as_str() == caller && known.is_on(listener));
            exists && listeners.iter().any(|known| known.name == listener)
        });
    }
}

/// Refuses listeners that name an account of which the settings say nothing, before anything has changed.
fn check_accounts(settings: &Settings) -> Result<(), StartError> {
    let unknown = settings
        .listeners
        .iter()
        .find(|listener| !settings.accounts.contains_key(&listener.account));
    match unknown {
        None => Ok(()),
        Some(listener) => Err(StartError::UnknownAccount {
            account: listener.account.clone(),
        }),
    }
}
