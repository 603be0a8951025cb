//! What exists: documents by the place that they stand at.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// Where a collection, a member of it, or a document stands: the segments below `/api/atlas/v2`, percent-decoded.
pub(super) type Segments = Vec<String>;

/// A document, and what becomes of it by itself.
#[derive(Debug)]
struct Kept {
    document: Value,
    /// `stateName` is `IDLE` from then on.
    idle: Option<Instant>,
    /// It is gone from then on.
    gone: Option<Instant>,
}

/// Everything that exists.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// `https://localhost:PORT`, for links.
    pub(super) base: String,
    collections: BTreeMap<Segments, Vec<Kept>>,
    /// Those that always exist, once somebody changed them.
    changed: BTreeMap<Segments, Value>,
    made: u64,
}

impl Store {
    pub(super) fn new(base: String) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// A new id, as Atlas makes them: 24 hexadecimal digits.
    pub(super) fn id(&mut self) -> String {
        self.made += 1;
        format!("6a79{:020x}", 0x3fd0_c0eb_9e7a_u64 + self.made)
    }

    /// The members of a collection, the oldest first.
    pub(super) fn members(&mut self, at: &[String]) -> Vec<&Value> {
        let Some(kept) = self.collections.get_mut(at) else {
            return Vec::new();
        };
        let now = Instant::now();
        kept.retain(|one| one.gone.is_none_or(|gone| gone > now));
        for one in kept.iter_mut() {
            if one.gone.is_none() && one.idle.is_some_and(|idle| idle <= now) {
                one.document["stateName"] = "IDLE".into();
                one.idle = None;
            }
        }
        kept.iter().map(|one| &one.document).collect()
    }

    /// The member that `which` holds for.
    pub(super) fn member(&mut self, at: &[String], which: impl Fn(&Value) -> bool) -> Option<&Value> {
        self.members(at).into_iter().find(|document| which(document))
    }

    /// Adds a member; with `being_made`, its `stateName` is `CREATING` for so long.
    pub(super) fn add(&mut self, at: &[String], mut document: Value, being_made: Option<Duration>) -> &Value {
        if being_made.is_some() {
            document["stateName"] = "CREATING".into();
        }
        let kept = self.collections.entry(at.to_vec()).or_default();
        let added = kept.len();
        kept.push(Kept {
            document,
            idle: being_made.map(|life| Instant::now() + life),
            gone: None,
        });
        &kept[added].document
    }

    /// Puts a document in the place of the member that `which` holds for.
    pub(super) fn replace(&mut self, at: &[String], which: impl Fn(&Value) -> bool, document: Value) {
        let kept = self.collections.get_mut(at).into_iter().flatten();
        if let Some(one) = kept.into_iter().find(|one| which(&one.document)) {
            one.document = document;
        }
    }

    /// Removes the members that `which` holds for; with `being_removed`, their `stateName` is `DELETING` for so long.
    pub(super) fn remove(&mut self, at: &[String], which: impl Fn(&Value) -> bool, being_removed: Option<Duration>) {
        let Some(kept) = self.collections.get_mut(at) else {
            return;
        };
        let Some(life) = being_removed else {
            kept.retain(|one| !which(&one.document));
            return;
        };
        for one in kept.iter_mut().filter(|one| which(&one.document)) {
            one.document["stateName"] = "DELETING".into();
            one.gone.get_or_insert(Instant::now() + life);
        }
    }

    /// Forgets all that stands below a place.
    pub(super) fn remove_below(&mut self, place: &[String]) {
        self.collections.retain(|at, _| !at.starts_with(place));
        self.changed.retain(|at, _| !at.starts_with(place));
    }

    /// A document that always exists, if somebody changed it.
    pub(super) fn changed(&self, at: &[String]) -> Option<&Value> {
        self.changed.get(at)
    }

    /// Keeps what somebody made of a document that always exists.
    pub(super) fn keep(&mut self, at: &[String], document: Value) {
        self.changed.insert(at.to_vec(), document);
    }

    /// Makes a document that always exists what it was at first.
    pub(super) fn reset(&mut self, at: &[String]) {
        self.changed.remove(at);
    }
}
