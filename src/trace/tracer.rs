//! Makes spans, and hands what has ended to the task that sends it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler as SdkSampler, SdkTracer, SdkTracerProvider};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::batch::{Batches, Queue};
use super::export::Exporter;
use super::span::{RequestSpan, TRACEPARENT, TRACESTATE, replace};
use super::{Asked, TraceSettings};
use crate::metrics::Metrics;

/// The longest `tracestate` that is taken in, bytes: what everybody should pass on (W3C Trace Context section 3.3.1.5).
const MOST_STATE: usize = 512;

/// How long the end of the process waits for the last spans to be sent.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Makes spans. One for the whole app; nothing of it can be changed but by a restart.
#[derive(Debug)]
pub struct Tracer {
    pub(super) sdk: SdkTracer,
    propagator: TraceContextPropagator,
    closing: CancellationToken,
    sending: Mutex<Option<JoinHandle<()>>>,
}

impl Tracer {
    /// Connects to nothing yet. Always some: a build without the feature has none.
    pub fn start(settings: &TraceSettings, tls: rustls::ClientConfig, metrics: &Metrics) -> Option<Arc<Self>> {
        let own = [
            ("telemetry.sdk.name", "opentelemetry"),
            ("telemetry.sdk.language", "rust"),
            ("service.name", env!("CARGO_PKG_NAME")),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let given = settings.resource.iter();
        let resource = Resource::builder_empty()
            .with_attributes(own.map(|(name, value)| KeyValue::new(name, value)))
            .with_attributes(given.map(|(name, value)| KeyValue::new(name.clone(), value.clone())))
            .build();
        let (queue, spans) = Queue::new(settings.batch.queue, metrics.trace_spans());
        let closing = CancellationToken::new();
        let batches = Batches::new(
            spans,
            Exporter::new(settings, tls, &resource),
            settings.batch,
            metrics.trace_spans(),
            closing.clone(),
        );
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_sampler(sampler(settings.sampler))
            .with_resource(resource)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Some(Arc::new(Self {
            sdk: provider.tracer_with_scope(scope),
            propagator: TraceContextPropagator::new(),
            closing,
            sending: Mutex::new(Some(tokio::spawn(batches.run()))),
        }))
    }

    /// Begins the span of a request.
    pub fn request(self: &Arc<Self>, asked: &Asked<'_>) -> Box<RequestSpan> {
        Box::new(RequestSpan::begin(Arc::clone(self), asked))
    }

    /// Sends what has ended so far, for 2 s at most; what ends later is dropped.
    pub async fn close(&self) {
        self.closing.cancel();
        let Some(mut sending) = self.sending.lock().take() else {
            return;
        };
        if tokio::time::timeout(CLOSE_LIMIT, &mut sending).await.is_err() {
            sending.abort();
            tracing::warn!("the last spans could not be sent in time");
        }
    }

    /// What the client says of its trace. More than one `traceparent` is none (W3C Trace Context section 3.2.2.5: it can't be
    /// parsed); several `tracestate` are one (section 3.3.1).
    pub(super) fn parent(&self, headers: &HeaderMap) -> Context {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else {
            return Context::new();
        };
        let mut states = headers
            .get_all(TRACESTATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let state = states
            .next()
            .map(|first| states.fold(Cow::Borrowed(first), |all, one| Cow::Owned([&all, one].join(","))))
            // Spans keep it while they wait for the receiver: it must not be large.
            .filter(|state| state.len() <= MOST_STATE);
        let incoming = Incoming {
            parent: parent.to_str().ok(),
            state,
        };
        self.propagator.extract_with_context(&Context::new(), &incoming)
    }

    /// Puts the span into the header fields of a request that is sent on.
    pub(super) fn tell(&self, span: &SpanContext, headers: &mut HeaderMap) {
        let context = Context::new().with_remote_span_context(span.clone());
        self.propagator.inject_context(&context, &mut Outgoing(headers));
    }
}

fn sampler(wanted: super::Sampler) -> SdkSampler {
    let by_ratio = SdkSampler::TraceIdRatioBased(wanted.ratio);
    if wanted.by_parent {
        SdkSampler::ParentBased(Box::new(by_ratio))
    } else {
        by_ratio
    }
}

struct Incoming<'a> {
    parent: Option<&'a str>,
    state: Option<Cow<'a, str>>,
}

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.parent,
            "tracestate" => self.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => replace(self.0, TRACEPARENT, &value),
            "tracestate" => replace(self.0, TRACESTATE, &value),
            _ => {}
        }
    }
}
