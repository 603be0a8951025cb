//! The callers in force, and what of them outlives a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::StartError;
use crate::access::OwnCredential;
use crate::caller::{CallerName, CallerState, Callers};
use crate::metrics::Metrics;
use crate::proxy::{CallerTerms, ListenerCallers, Portion, RequestRules, Usage};
use crate::settings::{AccountSettings, Settings};
use crate::time::SharedClock;

/// What each caller may do and use, and what it has used, in the order of their identities.
pub(super) type Terms = Arc<[(CallerTerms, Arc<Usage>)]>;

/// The callers of all listeners.
pub(super) struct AppCallers {
    state: Arc<CallerState>,
    current: Arc<Callers>,
    terms: Terms,
    names: CredentialNames,
    /// Keeps the issuers' keys fetched ahead.
    _keys: AbortOnDropHandle<()>,
}

/// What paths of the API name the accounts' credentials by. All that the settings have named since the start: until Atlas has
/// accepted new credentials, however many reloads later, the old ones are used on.
#[derive(Clone, Default)]
struct CredentialNames {
    known: BTreeSet<String>,
    /// By account, the public keys of its API keys whose id is not known.
    keys_without_id: BTreeMap<String, BTreeSet<String>>,
}

impl CredentialNames {
    fn and_those_of(&self, accounts: &BTreeMap<String, AccountSettings>) -> Self {
        let mut all = self.clone();
        for (name, account) in accounts {
            all.known.extend(account.names_in_paths().map(str::to_owned));
            let keys = all.keys_without_id.entry(name.clone()).or_default();
            let Some(public_key) = account.credential.id() else {
                continue;
            };
            if account.lacks_its_name_in_paths() {
                keys.insert(public_key.to_owned());
            } else {
                keys.remove(public_key);
            }
        }
        all
    }

    /// As a listener of this account searches paths for them.
    fn at(&self, account: &str) -> OwnCredential {
        let own = OwnCredential::new(self.known.iter().map(String::as_str));
        if self.keys_without_id.get(account).is_some_and(|keys| !keys.is_empty()) {
            own.with_a_key_without_id()
        } else {
            own
        }
    }
}

impl AppCallers {
    /// The first callers of the process.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(super) fn start(settings: &Settings, clock: SharedClock) -> Result<Self, StartError> {
        let state = CallerState::new(clock).map_err(StartError::Randomness)?;
        Ok(Self::with(
            state,
            settings,
            &BTreeMap::new(),
            &CredentialNames::default(),
        ))
    }

    /// Others, as settings want them; what each caller has used in the last minute counts on.
    pub(super) fn replaced(&self, settings: &Settings) -> Self {
        let used = self
            .terms
            .iter()
            .map(|(terms, usage)| (terms.name.clone(), Arc::clone(usage)))
            .collect();
        Self::with(Arc::clone(&self.state), settings, &used, &self.names)
    }

    /// `before`: what the settings named before.
    fn with(
        state: Arc<CallerState>,
        settings: &Settings,
        used: &BTreeMap<CallerName, Arc<Usage>>,
        before: &CredentialNames,
    ) -> Self {
        let current = Arc::new(Callers::new(
            settings.callers.identification.clone(),
            Arc::clone(&state),
        ));
        let usage = |terms: &CallerTerms| used.get(&terms.name).cloned().unwrap_or_default();
        Self {
            _keys: AbortOnDropHandle::new(tokio::spawn(Arc::clone(&current).keep_keys())),
            terms: settings
                .callers
                .terms
                .iter()
                .map(|terms| (terms.clone(), usage(terms)))
                .collect(),
            names: before.and_those_of(&settings.accounts),
            current,
            state,
        }
    }

    /// The callers in force.
    pub(super) fn current(&self) -> Arc<Callers> {
        Arc::clone(&self.current)
    }

    /// What they may do and use.
    pub(super) fn terms(&self) -> Terms {
        Arc::clone(&self.terms)
    }

    /// The names of all callers, in their order; `None`: one that this listener does not know.
    pub(super) fn names_at(&self, listener: &str) -> Vec<Option<CallerName>> {
        let all = self.terms.iter().enumerate();
        all.map(|(index, (terms, _))| self.current.is_on(index, listener).then(|| terms.name.clone()))
            .collect()
    }

    /// The callers of one listener, with its account's name, and the portion of each that it knows; `None`: it asks nobody.
    pub(super) fn of_listener(
        &self,
        name: &str,
        account: &str,
        rules: &RequestRules,
        portions: Vec<Option<Portion>>,
        metrics: &Metrics,
    ) -> Option<ListenerCallers> {
        rules.callers?;
        Some(ListenerCallers::new(
            rules,
            Arc::clone(&self.current),
            self.names.at(account),
            Arc::clone(&self.terms),
            portions,
            metrics,
            name,
        ))
    }
}
