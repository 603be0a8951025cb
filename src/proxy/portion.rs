//! What a listener, or one caller of it, has of what all share.

use std::sync::Arc;

use parking_lot::Mutex;

use super::callers::Who;
use super::{Client, Pipeline, ProxyError, Shared};
use crate::fair::{Part, Place, Places, Sharer};

/// A part of each thing that is scarce: whoever uses up its own leaves the others theirs.
#[derive(Debug, Clone)]
pub struct Portion {
    /// Of the places on the way to the account's upstream.
    pub upstream: Arc<Part>,
    /// Of the listener's connections.
    pub connections: Arc<Part>,
    /// Of the bytes of request bodies that are recorded.
    pub replay: Arc<Part>,
    /// Of the room for changes on their way to the audit log, bytes.
    pub audit: Arc<Part>,
    /// Of the processor's time.
    pub processor: Arc<Sharer>,
}

impl Portion {
    /// So many more.
    pub fn several(
        how_many: usize,
        upstream: &Places,
        connections: &Part,
        shared: &Shared,
    ) -> impl Iterator<Item = Self> {
        let replay = shared.replay_budget.parts(how_many);
        let audit = shared.audit_room.parts(how_many);
        upstream
            .parts(how_many)
            .into_iter()
            .zip(connections.parts(how_many))
            .zip(replay)
            .zip(audit)
            .map(|(((upstream, connections), replay), audit)| Self {
                upstream,
                connections,
                replay,
                audit,
                processor: shared.processor.sharer(),
            })
    }

    /// Whether it has places that are nobody else's: with thousands of sharers there may be too few.
    pub fn has_own(&self) -> bool {
        self.upstream.size() > 0 && self.connections.size() > 0
    }
}

/// An open connection's place among all: its listener's, until a request tells which caller's it is.
#[derive(Debug)]
pub struct ConnectionPlace(Mutex<Held>);

#[derive(Debug)]
struct Held {
    place: Place,
    whose: Whose,
}

#[derive(Debug)]
enum Whose {
    Listener,
    /// Of those who show nothing. A caller's from its first request on: clients of HTTP Digest show nothing at first.
    Anonymous,
    /// The first's that was known: whatever passes on requests of several callers counts to one of them.
    Caller,
    /// The caller's with this part, who has as many as it may.
    TooMany(Arc<Part>),
}

impl ConnectionPlace {
    /// Of a listener's part.
    pub fn new(place: Place) -> Self {
        Self(Mutex::new(Held {
            place,
            whose: Whose::Listener,
        }))
    }

    /// Counts the connection to the caller whose part this is, or to all who are `anonymous`, if it is no caller's yet. Whether
    /// its request is served.
    fn count_to(&self, part: &Arc<Part>, anonymous: bool) -> bool {
        let mut held = self.0.lock();
        match &held.whose {
            Whose::Caller => return true,
            Whose::Anonymous if anonymous => return true,
            // Another one, whose request comes over the same connection, is not refused for what this one has.
            Whose::TooMany(of) if Arc::ptr_eq(of, part) => return false,
            Whose::TooMany(_) | Whose::Anonymous | Whose::Listener => {}
        }
        let counted = part.take_over(&mut held.place);
        held.whose = match counted {
            true if anonymous => Whose::Anonymous,
            true => Whose::Caller,
            false => Whose::TooMany(Arc::clone(part)),
        };
        counted
    }

    /// Whether the connection is one too many of its caller's.
    pub fn is_too_many(&self) -> bool {
        matches!(self.0.lock().whose, Whose::TooMany(_))
    }

    /// Whether it is nobody's yet, and holds one of the few places that its listener, whose part this is, keeps for whoever
    /// comes.
    pub fn is_in_the_way(&self, listener: &Part) -> bool {
        let held = self.0.lock();
        matches!(held.whose, Whose::Listener) && listener.owns(&held.place)
    }
}

impl Pipeline {
    /// Counts the connection to the caller that its request is known to come from.
    ///
    /// # Errors
    /// When the caller has as many as it may.
    pub(super) fn count_connection(&self, client: Client<'_>, who: Who) -> Result<(), ProxyError> {
        match who {
            Who::Caller(..) => self.count(client, who, false),
            Who::Anonymous | Who::Unknown | Who::NotAsked => Ok(()),
        }
    }

    /// Counts the connection to those who show nothing, if its request is one of theirs that is served.
    ///
    /// # Errors
    /// When they have as many as they may.
    pub(super) fn count_anonymous(&self, client: Client<'_>, who: Who) -> Result<(), ProxyError> {
        match who {
            Who::Anonymous => self.count(client, who, true),
            Who::Caller(..) | Who::Unknown | Who::NotAsked => Ok(()),
        }
    }

    fn count(&self, client: Client<'_>, who: Who, anonymous: bool) -> Result<(), ProxyError> {
        let (Some(callers), part) = (&self.callers, &self.portion(who).connections) else {
            return Ok(());
        };
        if client.place.count_to(part, anonymous) {
            return Ok(());
        }
        Err(ProxyError::too_many_connections(callers.label(who), part.size()))
    }

    /// What the request's sharer has of what all share.
    pub(super) fn portion(&self, who: Who) -> &Portion {
        let of_caller = self.callers.as_ref().and_then(|callers| callers.portion(who));
        of_caller.unwrap_or(&self.portion)
    }
}
