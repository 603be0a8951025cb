//! The callers in force, and what of them outlives a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::StartError;
use crate::access::OwnCredential;
use crate::caller::{CallerName, CallerState, Callers};
use crate::metrics::Metrics;
use crate::proxy::{CallerTerms, ListenerCallers, RequestRules, Usage};
use crate::settings::Settings;
use crate::time::SharedClock;

/// The callers of all listeners.
pub(super) struct AppCallers {
    state: Arc<CallerState>,
    current: Arc<Callers>,
    terms: Arc<[(CallerTerms, Arc<Usage>)]>,
    /// The client ids and public keys that the settings have named since the start: until Atlas has accepted new credentials,
    /// however many reloads later, the old ones are used on.
    ids: BTreeSet<String>,
    /// The same, as paths are searched for them.
    own: Arc<OwnCredential>,
    /// Keeps the issuers' keys fetched ahead.
    _keys: AbortOnDropHandle<()>,
}

impl AppCallers {
    /// The first callers of the process.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(super) fn start(settings: &Settings, clock: SharedClock) -> Result<Self, StartError> {
        let state = CallerState::new(clock).map_err(StartError::Randomness)?;
        Ok(Self::with(state, settings, &BTreeMap::new(), &BTreeSet::new()))
    }

    /// Others, as settings want them; what each caller has used in the last minute counts on.
    pub(super) fn replaced(&self, settings: &Settings) -> Self {
        let used = self
            .terms
            .iter()
            .map(|(terms, usage)| (terms.name.clone(), Arc::clone(usage)))
            .collect();
        Self::with(Arc::clone(&self.state), settings, &used, &self.ids)
    }

    /// `before`: ids that the settings named before.
    fn with(
        state: Arc<CallerState>,
        settings: &Settings,
        used: &BTreeMap<CallerName, Arc<Usage>>,
        before: &BTreeSet<String>,
    ) -> Self {
        let current = Arc::new(Callers::new(
            settings.callers.identification.clone(),
            Arc::clone(&state),
        ));
        let usage = |terms: &CallerTerms| used.get(&terms.name).cloned().unwrap_or_default();
        let accounts = settings.accounts.values();
        let now = accounts.map(|account| account.credential.id().to_owned());
        let ids: BTreeSet<String> = now.chain(before.iter().cloned()).collect();
        Self {
            _keys: AbortOnDropHandle::new(tokio::spawn(Arc::clone(&current).keep_keys())),
            terms: settings
                .callers
                .terms
                .iter()
                .map(|terms| (terms.clone(), usage(terms)))
                .collect(),
            own: Arc::new(OwnCredential::new(ids.iter().map(String::as_str))),
            ids,
            current,
            state,
        }
    }

    /// The callers in force.
    pub(super) fn current(&self) -> Arc<Callers> {
        Arc::clone(&self.current)
    }

    /// The callers of one listener; `None`: it asks nobody.
    pub(super) fn of_listener(&self, name: &str, rules: &RequestRules, metrics: &Metrics) -> Option<ListenerCallers> {
        rules.callers?;
        Some(ListenerCallers::new(
            rules.requires_callers(),
            rules.digest_md5,
            Arc::clone(&self.current),
            Arc::clone(&self.own),
            Arc::clone(&self.terms),
            metrics,
            name,
        ))
    }
}
