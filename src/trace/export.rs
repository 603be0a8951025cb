//! One batch as OTLP, posted to the receiver (OTLP specification, "OTLP/HTTP").
//!
//! Not by the crate `opentelemetry-otlp`: it reads the process's environment by itself, passes over values that are wrong, and
//! shows headers in its `Debug`.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;

use super::{Encoding, Endpoint, TraceSettings};
use crate::own_http::{HttpClient, HttpResponse};
use crate::secret::Secret;
use crate::time;
use crate::upstream::HttpVersion;

/// The most of an answer that is read, bytes.
const MOST_ANSWER: usize = 64 << 10;

/// The longest that a receiver can say, beyond every export timeout.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Posts batches to the receiver.
pub(super) struct Exporter {
    client: HttpClient,
    endpoint: Endpoint,
    headers: Vec<(HeaderName, Secret)>,
    encoding: Encoding,
    gzip: bool,
    timeout: Duration,
    resource: ResourceAttributesWithSchema,
}

/// Why a batch did not arrive.
#[derive(Debug)]
pub(super) struct ExportFailure {
    /// For the log.
    pub(super) why: String,
    /// After which time at least it may be sent again; `None`: that would not help.
    pub(super) again: Option<Duration>,
}

impl Exporter {
    pub(super) fn new(settings: &TraceSettings, tls: rustls::ClientConfig, resource: &Resource) -> Self {
        Self {
            client: HttpClient::new(tls, settings.timeout, settings.egress.clone(), HttpVersion::Http1),
            endpoint: settings.endpoint.clone(),
            headers: settings.headers.clone(),
            encoding: settings.encoding,
            gzip: settings.gzip,
            timeout: settings.timeout,
            resource: resource.into(),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The body of a request with these spans.
    pub(super) fn encode(&self, batch: Vec<SpanData>) -> Vec<u8> {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let body = match self.encoding {
            Encoding::Protobuf => request.encode_to_vec(),
            Encoding::Json => serde_json::to_vec(&request).expect("spans are strings and numbers"),
        };
        if !self.gzip {
            return body;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = encoder.write_all(&body).and_then(|()| encoder.finish());
        written.expect("a vector takes everything")
    }

    /// Posts a body once; returns how many of its spans the receiver did not take.
    pub(super) async fn post(&self, body: Bytes) -> Result<u64, ExportFailure> {
        let mut request = Request::post(self.endpoint.uri().clone()).header(
            header::CONTENT_TYPE,
            match self.encoding {
                Encoding::Protobuf => "application/x-protobuf",
                Encoding::Json => "application/json",
            },
        );
        if self.gzip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        for (name, value) in &self.headers {
            // `config` has looked at it.
            if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        let sent = self.client.send(request, body, self.timeout).await;
        let mut answer = sent.map_err(|error| ExportFailure {
            why: error.reason(),
            again: Some(Duration::ZERO),
        })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(ExportFailure {
                why: format!("it answers HTTP {}", status.as_u16()),
                again: may_go_again(status).then(|| retry_after(&answer)),
            });
        }
        Ok(self.rejected(&mut answer).await)
    }

    /// What a successful answer says of spans that were not taken. One that can't be read says nothing.
    async fn rejected(&self, answer: &mut HttpResponse) -> u64 {
        let body = answer.read(MOST_ANSWER).await.unwrap_or_default();
        let response: Option<ExportTraceServiceResponse> = match self.encoding {
            Encoding::Protobuf => ExportTraceServiceResponse::decode(body.as_slice()).ok(),
            Encoding::Json => serde_json::from_slice(&body).ok(),
        };
        let partial = response.and_then(|response| response.partial_success);
        partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
    }
}

/// OTLP specification, "Retryable Response Codes".
fn may_go_again(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// `Retry-After`; none is no wait, as is a date where the answer has none of its own.
fn retry_after(answer: &HttpResponse) -> Duration {
    let said = time::retry_after(answer.headers(), None).unwrap_or_default();
    // What is longer ends the tries in any case, and must not be too much for a clock.
    said.min(LONGEST_WAIT)
}
