//! From ended spans to batches: a bounded queue that requests put into and never wait for, and the task that empties it.
//! The SDK's own processor has a thread, which it can't do without, and tells nobody how many spans it dropped.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::BatchLimits;
use super::export::{ExportFailure, Exporter};
use crate::metrics::{SpanOutcome, TraceSpans};

/// The pause before a batch is sent again, at first; it doubles. Somewhat less, so that replicas don't come together.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often the log tells that nothing arrives.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Where spans go when they end.
#[derive(Debug)]
pub(super) struct Queue {
    spans: Sender<SpanData>,
    counters: TraceSpans,
}

impl Queue {
    pub(super) fn new(size: usize, counters: TraceSpans) -> (Self, Receiver<SpanData>) {
        let (sender, receiver) = mpsc::channel(size);
        let queue = Self {
            spans: sender,
            counters,
        };
        (queue, receiver)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // Full, or closed at the end of the process.
        if self.spans.try_send(span).is_err() {
            self.counters.add(SpanOutcome::Dropped, 1);
        }
    }

    /// The task that sends knows when: see [`super::Tracer::close`].
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task that empties the queue.
pub(super) struct Batches {
    spans: Receiver<SpanData>,
    exporter: Exporter,
    limits: BatchLimits,
    counters: TraceSpans,
    closing: CancellationToken,
    /// When the log was told last that nothing arrives; `None`: all is well.
    said: Option<Instant>,
}

impl Batches {
    pub(super) fn new(
        spans: Receiver<SpanData>,
        exporter: Exporter,
        limits: BatchLimits,
        counters: TraceSpans,
        closing: CancellationToken,
    ) -> Self {
        Self {
            spans,
            exporter,
            limits,
            counters,
            closing,
            said: None,
        }
    }

    /// Ends when the tracer closes, or is gone, after what has ended until then was sent.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        let mut due = Instant::now();
        loop {
            let room = self.limits.batch - batch.len();
            let was_empty = batch.is_empty();
            tokio::select! {
                () = self.closing.cancelled() => break,
                read = self.spans.recv_many(&mut batch, room) => match read {
                    0 => break,
                    _ if was_empty => due = Instant::now() + self.limits.delay,
                    _ => {}
                },
                () = tokio::time::sleep_until(due), if !was_empty => self.export(std::mem::take(&mut batch)).await,
            }
            if batch.len() >= self.limits.batch {
                self.export(std::mem::take(&mut batch)).await;
            }
        }
        self.spans.close();
        loop {
            let room = self.limits.batch - batch.len();
            if room == 0 || self.spans.recv_many(&mut batch, room).await == 0 {
                if batch.is_empty() {
                    return;
                }
                self.export(std::mem::take(&mut batch)).await;
            }
        }
    }

    /// Sends a batch, and again where that may help, for as long as the settings say; when the process ends once only.
    async fn export(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let deadline = Instant::now() + self.limits.export_timeout;
        let body = Bytes::from(self.exporter.encode(batch));
        let mut pause = FIRST_PAUSE;
        loop {
            let ExportFailure { why, again } = match self.exporter.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.counters.add(SpanOutcome::Sent, count - rejected);
                    self.counters.add(SpanOutcome::Failed, rejected);
                    if rejected == 0 {
                        self.arrived();
                    } else {
                        self.failed("it did not take all of them");
                    }
                    return;
                }
                Err(failure) => failure,
            };
            self.failed(&why);
            let wait = again.map(|least| least.max(jittered(pause)));
            let Some(wait) = wait.filter(|wait| Instant::now() + *wait < deadline && !self.closing.is_cancelled())
            else {
                self.counters.add(SpanOutcome::Failed, count);
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.closing.cancelled() => {}
            }
            pause *= 2;
        }
    }

    fn arrived(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(receiver = %self.exporter.endpoint(), "spans arrive again");
        }
    }

    fn failed(&mut self, why: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(receiver = %self.exporter.endpoint(), why, "spans do not arrive; those that can't wait are dropped and counted (`trace_spans_total`)");
        }
    }
}

/// Between half and all of a pause.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
