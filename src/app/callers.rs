//! The callers in force, and what of them outlives a reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::StartError;
use crate::caller::{CallerName, CallerState, Callers};
use crate::metrics::Metrics;
use crate::proxy::{CallerTerms, CallersMode, ListenerCallers, RequestRules, Usage};
use crate::settings::CallerSettings;
use crate::time::SharedClock;

/// The callers of all listeners.
pub(super) struct AppCallers {
    state: Arc<CallerState>,
    current: Arc<Callers>,
    terms: Arc<[(CallerTerms, Arc<Usage>)]>,
    /// Keeps the issuers' keys fetched ahead.
    _keys: AbortOnDropHandle<()>,
}

impl AppCallers {
    /// The first callers of the process.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(super) fn start(settings: &CallerSettings, clock: SharedClock) -> Result<Self, StartError> {
        let state = CallerState::new(clock).map_err(StartError::Randomness)?;
        Ok(Self::with(state, settings, &BTreeMap::new()))
    }

    /// Others, as settings want them; what each caller has used in the last minute counts on.
    pub(super) fn replaced(&self, settings: &CallerSettings) -> Self {
        let used = self
            .terms
            .iter()
            .map(|(terms, usage)| (terms.name.clone(), Arc::clone(usage)))
            .collect();
        Self::with(Arc::clone(&self.state), settings, &used)
    }

    fn with(state: Arc<CallerState>, settings: &CallerSettings, used: &BTreeMap<CallerName, Arc<Usage>>) -> Self {
        let current = Arc::new(Callers::new(settings.identification.clone(), Arc::clone(&state)));
        let usage = |terms: &CallerTerms| used.get(&terms.name).cloned().unwrap_or_default();
        Self {
            _keys: AbortOnDropHandle::new(tokio::spawn(Arc::clone(&current).keep_keys())),
            terms: settings
                .terms
                .iter()
                .map(|terms| (terms.clone(), usage(terms)))
                .collect(),
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
        let required = rules.callers? == CallersMode::Required;
        Some(ListenerCallers::new(
            required,
            rules.digest_md5,
            Arc::clone(&self.current),
            Arc::clone(&self.terms),
            metrics,
            name,
        ))
    }
}
