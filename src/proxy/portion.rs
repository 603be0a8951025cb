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
    /// Of the connections of clients.
    pub connections: Arc<Part>,
    /// Of the bytes of request bodies that are recorded.
    pub replay: Arc<Part>,
    /// Of the room for changes on their way to the audit log, bytes.
    pub audit: Arc<Part>,
    /// Of the processor's time.
    pub processor: Arc<Sharer>,
}

impl Portion {
    /// One more.
    pub fn of(upstream: &Arc<Places>, shared: &Shared) -> Self {
        Self {
            upstream: upstream.part(),
            connections: shared.connections.part(),
            replay: shared.replay_budget.part(),
            audit: shared.audit_room.part(),
            processor: shared.processor.sharer(),
        }
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Listener,
    /// The first's that was known: whatever passes on requests of several callers counts to one of them.
    Caller,
    /// A caller's that has as many as it may.
    TooMany,
}

impl ConnectionPlace {
    /// Of a listener's part.
    pub fn new(place: Place) -> Self {
        Self(Mutex::new(Held {
            place,
            whose: Whose::Listener,
        }))
    }

    /// Counts the connection to the caller whose part this is, if it is nobody's yet. Whether it may serve on.
    pub(super) fn count_to(&self, part: &Part) -> bool {
        let mut held = self.0.lock();
        if held.whose == Whose::Listener {
            held.whose = if part.take_over(&mut held.place) {
                Whose::Caller
            } else {
                Whose::TooMany
            };
        }
        held.whose == Whose::Caller
    }

    /// Whether the connection is one too many of its caller's.
    pub fn is_too_many(&self) -> bool {
        self.0.lock().whose == Whose::TooMany
    }
}

impl Pipeline {
    /// Counts the connection to the caller that its request is known to come from.
    ///
    /// # Errors
    /// When the caller has as many as it may.
    pub(super) fn count_connection(&self, client: Client<'_>, who: Who) -> Result<(), ProxyError> {
        let Some(callers) = &self.callers else { return Ok(()) };
        match callers.portion(who) {
            Some(portion) if !client.place.count_to(&portion.connections) => {
                Err(ProxyError::too_many_connections(callers.label(who)))
            }
            _ => Ok(()),
        }
    }

    /// What the request's sharer has of what all share.
    pub(super) fn portion(&self, who: Who) -> &Portion {
        let of_caller = self.callers.as_ref().and_then(|callers| callers.portion(who));
        of_caller.unwrap_or(&self.portion)
    }
}
