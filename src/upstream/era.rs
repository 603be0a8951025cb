//! Which connections may still be used, where a connection stands for more than an address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A connection serves requests of the era only in which it began. Clones are the same era.
#[derive(Debug, Clone, Default)]
pub struct Era(Arc<AtomicU64>);

impl Era {
    /// Ends this one: what connected in it serves no further request.
    pub fn end(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
