//! The memory that request bodies may hold, each and all together.

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
