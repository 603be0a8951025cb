//! What all listeners share.

use std::sync::Arc;

use super::body::BodyLimits;
use crate::audit::Audit;
use crate::catalogue::Catalogue;
use crate::fair::{Places, Turns};
use crate::metrics::Metrics;
use crate::time::SharedClock;

/// What all listeners share.
pub struct Shared {
    /// Metrics without listener or account.
    pub metrics: Arc<Metrics>,
    /// Atlas's operations.
    pub catalogue: Arc<Catalogue>,
    pub(super) clock: SharedClock,
    pub(super) limits: BodyLimits,
    /// Recorded bytes of request bodies of all together (`replay_budget`).
    pub replay_budget: Arc<Places>,
    /// Turns at the processor.
    pub processor: Arc<Turns>,
    /// Where who changed what is recorded.
    pub(super) audit: Option<Arc<Audit>>,
}

impl Shared {
    /// `limits` bound what one request, and all together, may hold.
    pub fn new(
        metrics: Arc<Metrics>,
        catalogue: Arc<Catalogue>,
        clock: SharedClock,
        limits: BodyLimits,
        audit: Option<Arc<Audit>>,
    ) -> Self {
        Self {
            metrics,
            catalogue,
            clock,
            limits,
            replay_budget: Places::amount(limits.replay_budget),
            processor: Arc::default(),
            audit,
        }
    }

    /// The same with other bounds. The budget, of which requests in flight hold parts, stays.
    #[must_use]
    pub fn with_limits(&self, limits: BodyLimits) -> Self {
        Self {
            metrics: Arc::clone(&self.metrics),
            catalogue: Arc::clone(&self.catalogue),
            clock: Arc::clone(&self.clock),
            limits,
            replay_budget: Arc::clone(&self.replay_budget),
            processor: Arc::clone(&self.processor),
            audit: self.audit.clone(),
        }
    }
}
