//! The metrics of one caller at one listener.

use std::sync::OnceLock;

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec};

use super::Metrics;
use super::labels::{CLASSES, DenyReason, class_index};

/// Reasons to refuse a caller that is known: these exist at zero from the start.
const EXPECTED: [DenyReason; 2] = [DenyReason::Rule, DenyReason::Rate];

impl Metrics {
    /// The handles of one caller at one listener.
    pub fn caller(&self, listener: &str, caller: &str) -> CallerMetrics {
        let requests = &self.families.requests_by_caller;
        let metrics = CallerMetrics {
            requests: CLASSES.map(|class| requests.with_label_values(&[listener, caller, class])),
            labels: [listener.to_owned(), caller.to_owned()],
            family: self.families.denied.clone(),
            denied: DenyReason::ALL.iter().map(|_| OnceLock::new()).collect(),
        };
        for reason in EXPECTED {
            metrics.counter(reason);
        }
        metrics
    }
}

/// The metrics of one caller at one listener.
pub struct CallerMetrics {
    requests: [IntCounter; CLASSES.len()],
    labels: [String; 2],
    family: IntCounterVec,
    /// By reason.
    denied: Vec<OnceLock<IntCounter>>,
}

impl CallerMetrics {
    /// Counts a request that was answered.
    pub fn request(&self, status: StatusCode) {
        self.requests[class_index(Some(status))].inc();
    }

    /// Counts a refusal.
    pub fn denied(&self, reason: DenyReason) {
        if let Some(counter) = self.counter(reason) {
            counter.inc();
        }
    }

    fn counter(&self, reason: DenyReason) -> Option<&IntCounter> {
        let [listener, caller] = &self.labels;
        let known = self.denied.get(reason as usize)?;
        Some(known.get_or_init(|| {
            self.family
                .with_label_values(&[listener.as_str(), caller, reason.as_str()])
        }))
    }
}
