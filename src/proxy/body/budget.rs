//! The memory that request bodies may hold, each and all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Bounds on request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// A body known or found to be larger (bytes) is streamed and never recorded.
    pub replay_limit: usize,
    /// Recorded bytes of all requests together.
    pub replay_budget: usize,
    /// Longest pause within a request body.
    pub request_body_idle_timeout: Duration,
    /// The least that a client must send of a request body, bytes a second over 30 s of waiting for it; 0: no such bound.
    pub request_body_min_rate: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            replay_limit: 1 << 20,
            replay_budget: 16 << 20,
            request_body_idle_timeout: Duration::from_secs(30),
            request_body_min_rate: 1 << 10,
        }
    }
}

/// Recorded bytes of all requests together (`replay_budget`).
#[derive(Debug)]
pub(in crate::proxy) struct ReplayBudget {
    left: AtomicUsize,
}

impl ReplayBudget {
    pub(in crate::proxy) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
        })
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        self.left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }

    /// Whether so many bytes are free now. They are taken as data come: a client that announces much holds what it has
    /// sent.
    pub(super) fn has(&self, bytes: usize) -> bool {
        self.left.load(Ordering::Relaxed) >= bytes
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}
