//! The metrics of traces.

use prometheus::IntCounter;

use super::Metrics;
use super::labels::SpanOutcome;

impl Metrics {
    /// The handles for spans.
    pub fn trace_spans(&self) -> TraceSpans {
        let counter = |outcome: SpanOutcome| self.families.trace_spans.with_label_values(&[outcome.as_str()]);
        TraceSpans {
            sent: counter(SpanOutcome::Sent),
            dropped: counter(SpanOutcome::Dropped),
            failed: counter(SpanOutcome::Failed),
        }
    }
}

/// What became of spans.
#[derive(Debug, Clone)]
pub struct TraceSpans {
    sent: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

impl TraceSpans {
    /// Counts some.
    pub fn add(&self, outcome: SpanOutcome, spans: u64) {
        let counter = match outcome {
            SpanOutcome::Sent => &self.sent,
            SpanOutcome::Dropped => &self.dropped,
            SpanOutcome::Failed => &self.failed,
        };
        counter.inc_by(spans);
    }
}
