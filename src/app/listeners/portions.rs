//! What a listener and its callers have of what all share.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::callers::AppCallers;
use crate::caller::CallerName;
use crate::fair::Places;
use crate::proxy::{ListenerCallers, Portion, RequestRules, Shared};

/// The listener's own portion, and one of each of its callers, which it keeps across reloads: none gets a second one by them.
pub(super) struct Portions {
    upstream: Arc<Places>,
    pub(super) own: Portion,
    callers: BTreeMap<CallerName, Portion>,
}

impl Portions {
    /// `upstream`: places on the way to the listener's account.
    pub(super) fn new(upstream: &Arc<Places>, shared: &Shared) -> Self {
        Self {
            own: Portion::of(upstream, shared),
            upstream: Arc::clone(upstream),
            callers: BTreeMap::new(),
        }
    }

    /// The listener has another account now, with these places.
    pub(super) fn lead_to(&mut self, upstream: &Arc<Places>) {
        self.upstream = Arc::clone(upstream);
        for portion in self.callers.values_mut().chain([&mut self.own]) {
            portion.upstream = upstream.part();
        }
    }

    /// The callers of the listener, each with its portion; `None`: it asks nobody.
    pub(super) fn callers(
        &mut self,
        callers: &AppCallers,
        listener: &str,
        account: &str,
        rules: &RequestRules,
        shared: &Shared,
    ) -> Option<ListenerCallers> {
        // Whoever is no caller any more loses its portion.
        let mut before = std::mem::take(&mut self.callers);
        let portion = |name: &CallerName| {
            let kept = before.remove(name);
            let portion = kept.unwrap_or_else(|| Portion::of(&self.upstream, shared));
            self.callers.insert(name.clone(), portion.clone());
            portion
        };
        callers.of_listener(listener, account, rules, portion, &shared.metrics)
    }
}
