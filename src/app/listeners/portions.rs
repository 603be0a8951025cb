//! What a listener and its callers have of what all share.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::callers::AppCallers;
use crate::caller::CallerName;
use crate::fair::{Part, Places};
use crate::proxy::{ListenerCallers, Portion, RequestRules, Shared};

/// The listener's own portion, and one of each of its callers, which it keeps across reloads: none gets a second one by them.
pub(super) struct Portions {
    upstream: Arc<Places>,
    /// What connects takes a place of these.
    pub(super) connections: Arc<Part>,
    /// Of whoever is no caller.
    pub(super) own: Portion,
    /// Whoever is no caller has a part of the connections, too.
    is_shared: bool,
    callers: BTreeMap<CallerName, Portion>,
}

impl Portions {
    /// `upstream`: places on the way to the listener's account.
    pub(super) fn new(upstream: &Arc<Places>, shared: &Shared) -> Self {
        let connections = shared.connections.part();
        let own = Portion {
            upstream: upstream.part(),
            connections: Arc::clone(&connections),
            replay: shared.replay_budget.part(),
            audit: shared.audit_room.part(),
            processor: shared.processor.sharer(),
        };
        Self {
            upstream: Arc::clone(upstream),
            connections,
            own,
            is_shared: false,
            callers: BTreeMap::new(),
        }
    }

    /// The listener has another account now, with these places.
    pub(super) fn lead_to(&mut self, upstream: &Arc<Places>) {
        self.upstream = Arc::clone(upstream);
        let parts = upstream.parts(self.callers.len() + 1);
        let all = self.callers.values_mut().chain([&mut self.own]);
        for (portion, part) in all.zip(parts) {
            portion.upstream = part;
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
        let asks = rules.callers.is_some();
        if asks != self.is_shared {
            self.is_shared = asks;
            self.own.connections = if asks {
                self.connections.parts(1).remove(0)
            } else {
                Arc::clone(&self.connections)
            };
        }
        if !asks {
            return None;
        }
        let names = callers.names_at(listener);
        let new = names
            .iter()
            .flatten()
            .filter(|name| !before.contains_key(*name))
            .count();
        let mut made = Portion::several(new, &self.upstream, &self.connections, shared);
        let mut portion_of = |name: &CallerName| before.remove(name).or_else(|| made.next());
        let portions: Vec<_> = names.iter().map(|name| portion_of(name.as_ref()?)).collect();
        for (name, portion) in names.into_iter().zip(&portions) {
            self.callers.extend(name.zip(portion.clone()));
        }
        if let Some(one) = self.callers.values().find(|one| !one.has_own()) {
            tracing::warn!(
                listener,
                callers = self.callers.len(),
                connections = one.connections.size(),
                upstream = one.upstream.size(),
                "there are so many callers that none has connections, or places on the way to Atlas, of its own: a greedy one may \
                 take all. Raise `max_connections` and the limit of open files, or name the `listeners` of each caller"
            );
        }
        callers.of_listener(listener, account, rules, portions, &shared.metrics)
    }
}
