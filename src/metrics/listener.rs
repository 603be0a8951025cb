//! The metrics of one listener.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::labels::{DenyReason, METHODS, STATUSES, method_index, status_index};
use super::{Metrics, NOBODY};

/// Statuses that exist at zero from the start, for each method: enough for rates and alerts to have a beginning.
const EXPECTED: &[u16] = &[200, 401, 403, 404, 429, 500, 502, 503, 504];

impl Metrics {
    /// The handles of one listener.
    pub fn listener(&self, name: &str, account: &str) -> Arc<ListenerMetrics> {
        let f = &self.families;
        let listener = ListenerMetrics {
            labels: [name.to_owned(), account.to_owned()],
            family: f.requests.clone(),
            requests: std::iter::repeat_with(OnceLock::new)
                .take(METHODS.len() * STATUSES.len())
                .collect(),
            duration: f.request_duration.with_label_values(&[name]),
            in_flight: f.in_flight.with_label_values(&[name]),
            connections_open: f.connections_open.with_label_values(&[name]),
            denied: DenyReason::ALL
                .iter()
                .map(|r| f.denied.with_label_values(&[name, NOBODY, r.as_str()]))
                .collect(),
            warned: f.rule_warnings.with_label_values(&[name]),
        };
        for method in 0..METHODS.len() {
            for status in EXPECTED.iter().map(|status| status_index(*status)) {
                listener.counter(method, status);
            }
        }
        Arc::new(listener)
    }
}

/// The metrics of one listener.
pub struct ListenerMetrics {
    labels: [String; 2],
    family: IntCounterVec,
    requests: Vec<OnceLock<IntCounter>>,
    duration: Histogram,
    /// Requests being served.
    pub in_flight: IntGauge,
    /// Open client connections.
    pub connections_open: IntGauge,
    denied: Vec<IntCounter>,
    warned: IntCounter,
}

impl ListenerMetrics {
    /// Counts a request that was answered.
    pub fn request(&self, method: &Method, status: StatusCode, elapsed: Duration) {
        self.counter(method_index(method.as_str()), status_index(status.as_u16()))
            .inc();
        self.duration.observe(elapsed.as_secs_f64());
    }

    /// Counts a refusal.
    pub fn denied(&self, reason: DenyReason) {
        if let Some(counter) = self.denied.get(reason as usize) {
            counter.inc();
        }
    }

    /// Counts a request that a caller's rule let through with a warning.
    pub fn warned(&self) {
        self.warned.inc();
    }

    fn counter(&self, method: usize, status: usize) -> &IntCounter {
        self.requests[method * STATUSES.len() + status].get_or_init(|| {
            let [listener, account] = &self.labels;
            self.family
                .with_label_values(&[listener.as_str(), account, METHODS[method], STATUSES[status].1])
        })
    }
}
