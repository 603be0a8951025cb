//! The metrics of one caller at one listener.

use http::StatusCode;
use prometheus::IntCounter;

use super::Metrics;
use super::labels::{CLASSES, class_index};

impl Metrics {
    /// The handles of one caller at one listener.
    pub fn caller(&self, listener: &str, caller: &str) -> CallerMetrics {
        let family = &self.families.requests_by_caller;
        CallerMetrics {
            requests: CLASSES.map(|class| family.with_label_values(&[listener, caller, class])),
        }
    }
}

/// The metrics of one caller at one listener.
pub struct CallerMetrics {
    requests: [IntCounter; CLASSES.len()],
}

impl CallerMetrics {
    /// Counts a request that was answered.
    pub fn request(&self, status: StatusCode) {
        self.requests[class_index(Some(status))].inc();
    }
}
