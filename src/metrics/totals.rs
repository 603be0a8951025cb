//! What was counted so far, for people: read where it is shown, so that counting costs nothing more.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, IntCounter};

use super::Metrics;
use super::families::BUCKETS;
use super::labels::CLASSES;
use crate::code::ErrorCode;

/// How many classes of answers there are: 1xx to 5xx, and none.
pub const ANSWER_CLASSES: usize = CLASSES.len();
/// How many classes of durations there are; the last has no upper bound.
pub const DURATION_CLASSES: usize = BUCKETS.len() + 1;

/// What was counted of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountTotals {
    /// Requests by class of Atlas's answer: 1xx to 5xx, none.
    pub classes: [u64; ANSWER_CLASSES],
    /// Tries by how long Atlas took.
    pub durations: [u64; DURATION_CLASSES],
}

/// What was counted of one caller at one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallerTotals {
    /// Requests by class of the answer.
    pub classes: [u64; ANSWER_CLASSES],
    /// How many of its requests were refused.
    pub refused: u64,
}

/// Refusals for one reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    /// The listener.
    pub listener: String,
    /// The caller; empty where it is not known.
    pub caller: String,
    /// The label of the reason.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// The upper bound of each class of durations but the last, seconds.
pub fn duration_bounds() -> &'static [f64] {
    BUCKETS
}

/// How many observations lie in each class.
pub(super) fn buckets(histogram: &Histogram) -> [u64; DURATION_CLASSES] {
    let mut classes = [0; DURATION_CLASSES];
    for family in histogram.collect() {
        for metric in family.get_metric() {
            let histogram = metric.get_histogram();
            let mut below = 0;
            let ends = histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count());
            for (class, end) in classes.iter_mut().zip(ends.chain([histogram.get_sample_count()])) {
                *class += end.saturating_sub(below);
                below = end;
            }
        }
    }
    classes
}

impl Metrics {
    /// The answers made here, by code: those that there were.
    pub fn errors_so_far(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        let counts = self.errors.iter().map(IntCounter::get);
        ErrorCode::ALL
            .iter()
            .copied()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
    }

    /// What was counted of all accounts there have been, by class of Atlas's answer.
    pub fn answers_so_far(&self) -> [u64; ANSWER_CLASSES] {
        let mut all = [0; ANSWER_CLASSES];
        let accounts: Vec<_> = self.accounts.lock().values().cloned().collect();
        for account in accounts {
            for (sum, count) in all.iter_mut().zip(account.classes()) {
                *sum += count;
            }
        }
        all
    }

    /// What was counted of the callers, by listener and caller.
    pub fn callers_so_far(&self) -> BTreeMap<(String, String), CallerTotals> {
        let mut all = BTreeMap::<_, CallerTotals>::new();
        for ([listener, caller, class], count) in
            counts(&self.families.requests_by_caller, ["listener", "caller", "class"])
        {
            if let Some(at) = CLASSES.iter().position(|known| *known == class) {
                all.entry((listener, caller)).or_default().classes[at] += count;
            }
        }
        for denied in self.denied_so_far() {
            let Denied {
                listener,
                caller,
                count,
                ..
            } = denied;
            if let Some(totals) = all.get_mut(&(listener, caller)) {
                totals.refused += count;
            }
        }
        all
    }

    /// What was refused, in the order of listener, caller and reason.
    pub fn denied_so_far(&self) -> Vec<Denied> {
        let mut all: Vec<_> = counts(&self.families.denied, ["listener", "caller", "reason"])
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|([listener, caller, reason], count)| Denied {
                listener,
                caller,
                reason,
                count,
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// How many lines of the audit log were dropped.
    pub fn audit_lines_dropped_so_far(&self) -> u64 {
        self.families.audit_lines_dropped.with_label_values::<&str>(&[]).get()
    }
}

/// Each counter of a family, with the values of these labels.
fn counts<const N: usize>(family: &impl Collector, labels: [&str; N]) -> Vec<([String; N], u64)> {
    let families: Vec<MetricFamily> = family.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    metrics
        .map(|metric| {
            let value = |name: &&str| {
                let pair = metric.get_label().iter().find(|pair| pair.name() == *name);
                pair.map_or_else(String::new, |pair| pair.value().to_owned())
            };
            // Counts of whole things: exact far beyond what can be reached.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = metric.get_counter().get_value() as u64;
            (labels.each_ref().map(value), count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::metrics::DenyReason;

    #[test]
    fn what_was_counted_is_read_back() {
        let metrics = Metrics::new(&["Clusters"]);
        let (account, listener) = (metrics.account("a"), metrics.listener("l", "a"));
        let caller = metrics.caller("l", "billing");
        account.request_by_tag(Some(0), Some(StatusCode::OK));
        account.request_by_tag(None, Some(StatusCode::NOT_FOUND));
        account.request_by_tag(None, None);
        account.upstream_duration(Duration::from_micros(900));
        account.upstream_duration(Duration::from_millis(40));
        account.upstream_duration(Duration::from_secs(61));
        assert_eq!(account.totals().classes, [0, 1, 0, 1, 0, 1]);
        assert_eq!(metrics.answers_so_far(), account.totals().classes);
        let durations = account.totals().durations;
        assert_eq!((durations[0], durations[4], durations[14]), (1, 1, 1));
        assert_eq!(durations.iter().sum::<u64>(), 3);

        metrics.error(ErrorCode::RuleDenied);
        assert_eq!(
            metrics.errors_so_far().collect::<Vec<_>>(),
            [(ErrorCode::RuleDenied, 1)]
        );

        caller.request(StatusCode::FORBIDDEN);
        caller.denied(DenyReason::Rule);
        listener.denied(DenyReason::Browser);
        let callers = metrics.callers_so_far();
        let billing = callers[&("l".to_owned(), "billing".to_owned())];
        assert_eq!((billing.classes, billing.refused), ([0, 0, 0, 1, 0, 0], 1));
        let denied: Vec<_> = metrics.denied_so_far();
        let denied: Vec<_> = denied
            .iter()
            .map(|one| (one.caller.as_str(), one.reason.as_str()))
            .collect();
        assert_eq!(denied, [("", "browser"), ("billing", "rule")]);
    }
}
