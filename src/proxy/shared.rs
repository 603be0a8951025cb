//! What all listeners share.

use std::sync::Arc;

use super::body::BodyLimits;
use super::{LastRefusals, Radar};
use crate::audit::{Audit, ROOM_FOR_CHANGES};
use crate::catalogue::Catalogue;
use crate::fair::{Places, Turns};
use crate::metrics::Metrics;
use crate::time::SharedClock;
use crate::trace::Tracer;

/// What all listeners share.
pub struct Shared {
    /// Metrics without listener or account.
    pub metrics: Arc<Metrics>,
    /// Atlas's operations.
    pub catalogue: Arc<Catalogue>,
    pub(super) clock: SharedClock,
    pub(super) limits: BodyLimits,
    /// Connections of clients.
    pub connections: Arc<Places>,
    /// Recorded bytes of request bodies of all together (`replay_budget`).
    pub replay_budget: Arc<Places>,
    /// Bytes of changes on their way to the audit log.
    pub audit_room: Arc<Places>,
    /// Turns at the processor.
    pub processor: Arc<Turns>,
    /// Who asks for what will vanish.
    pub radar: Arc<Radar>,
    /// What was refused last.
    pub refused: Arc<LastRefusals>,
    /// Where who changed what is recorded.
    pub(super) audit: Option<Arc<Audit>>,
    /// Makes spans of requests.
    pub(super) tracer: Option<Arc<Tracer>>,
}

impl Shared {
    /// `connections`: how many clients may have. `limits` bound what one request, and all together, may hold.
    pub fn new(
        metrics: Arc<Metrics>,
        catalogue: Arc<Catalogue>,
        clock: SharedClock,
        connections: usize,
        limits: BodyLimits,
        audit: Option<Arc<Audit>>,
        tracer: Option<Arc<Tracer>>,
    ) -> Self {
        let radar = Radar::new(&catalogue, Arc::clone(&metrics), Arc::clone(&clock));
        Self {
            metrics,
            catalogue,
            clock,
            limits,
            connections: Places::new(connections),
            replay_budget: Places::amount(limits.replay_budget),
            audit_room: Places::amount(ROOM_FOR_CHANGES),
            processor: Arc::default(),
            radar: Arc::new(radar),
            refused: Arc::default(),
            audit,
            tracer,
        }
    }

    /// The same with other bounds. Connections and the budget, of which parts are held, stay.
    #[must_use]
    pub fn with_limits(&self, limits: BodyLimits) -> Self {
        Self {
            metrics: Arc::clone(&self.metrics),
            catalogue: Arc::clone(&self.catalogue),
            clock: Arc::clone(&self.clock),
            limits,
            connections: Arc::clone(&self.connections),
            replay_budget: Arc::clone(&self.replay_budget),
            audit_room: Arc::clone(&self.audit_room),
            processor: Arc::clone(&self.processor),
            radar: Arc::clone(&self.radar),
            refused: Arc::clone(&self.refused),
            audit: self.audit.clone(),
            tracer: self.tracer.clone(),
        }
    }
}
