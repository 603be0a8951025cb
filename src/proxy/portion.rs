//! What a listener, or one caller of it, has of what all share.

use std::sync::Arc;

use super::Pipeline;
use super::callers::Who;
use crate::fair::{Part, Places, Sharer, Turns};

/// A part of each thing that is scarce: whoever uses up its own leaves the others theirs.
#[derive(Debug, Clone)]
pub struct Portion {
    /// Of the places on the way to the account's upstream.
    pub upstream: Arc<Part>,
    /// Of the bytes of request bodies that are recorded.
    pub replay: Arc<Part>,
    /// Of the processor's time.
    pub processor: Arc<Sharer>,
}

impl Portion {
    /// One more.
    pub fn of(upstream: &Arc<Places>, replay: &Arc<Places>, processor: &Arc<Turns>) -> Self {
        Self {
            upstream: upstream.part(),
            replay: replay.part(),
            processor: processor.sharer(),
        }
    }
}

impl Pipeline {
    /// What the request's sharer has of what all share.
    pub(super) fn portion(&self, who: Who) -> &Portion {
        let of_caller = self.callers.as_ref().and_then(|callers| callers.portion(who));
        of_caller.unwrap_or(&self.portion)
    }
}
