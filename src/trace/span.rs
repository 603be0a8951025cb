//! The two kinds of spans, and what they say: OpenTelemetry's semantic conventions for HTTP, as far as they are stable.
//!
//! Whoever can read traces need not be let into what they are about. So a path is its template in the catalogue
//! (`/api/atlas/v2/groups/{groupId}`), or `/REDACTED` where there is none: ids of projects and names of users stay out, and a
//! secret that somebody typed into a path, too. There is no query, no header field but `User-Agent`, and no text of an error.

use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::Span;
use opentelemetry_semantic_conventions::attribute as name;

use super::tracer::Tracer;
use super::{Asked, Outcome, Sending};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

// The proxy's own names.
const LISTENER: &str = "atlas_auth_proxy.listener";
const ACCOUNT: &str = "atlas_auth_proxy.account";
const CALLER: &str = "atlas_auth_proxy.caller";
const OPERATION: &str = "atlas_auth_proxy.operation";
const ERROR_CODE: &str = "atlas_auth_proxy.error_code";

/// A path that is none of the catalogue, as the conventions write what is left out.
const REDACTED: &str = "/REDACTED";
/// The `error.type` of an answer that did not reach its end.
const BROKEN_OFF: &str = "broken_off";
/// The most of a `User-Agent` that is told, bytes.
const MOST_USER_AGENT: usize = 256;

/// The span of one request. Dropped, it ends without an outcome.
#[derive(Debug)]
pub struct RequestSpan {
    tracer: Arc<Tracer>,
    span: Span,
    method: &'static str,
    /// The template of the path; empty: it is none of the catalogue.
    route: &'static str,
}

/// The span of one send upstream, until the head of the answer is there. Dropped, it ends without an outcome: the client
/// has gone away.
#[derive(Debug)]
pub struct SendSpan(Span);

impl RequestSpan {
    pub(super) fn begin(tracer: Arc<Tracer>, asked: &Asked<'_>) -> Self {
        let method = method(asked.method);
        let builder = tracer.sdk.span_builder(method).with_kind(SpanKind::Server);
        let mut span = tracer.sdk.build_with_context(builder, &tracer.parent(asked.headers));
        if span.is_recording() {
            span.set_attributes([
                text(name::HTTP_REQUEST_METHOD, method),
                text(name::URL_SCHEME, asked.scheme),
                KeyValue::new(LISTENER, asked.listener.to_owned()),
                KeyValue::new(ACCOUNT, asked.account.to_owned()),
            ]);
            span.set_attributes(version(asked.version));
            span.set_attributes(
                asked
                    .client
                    .map(|ip| KeyValue::new(name::CLIENT_ADDRESS, ip.to_string())),
            );
            span.set_attributes(user_agent(asked.headers));
        }
        Self {
            tracer,
            span,
            method,
            route: "",
        }
    }

    /// Notes the template of the path, empty where there is none.
    pub fn found(&mut self, route: &'static str) {
        self.route = route;
    }

    /// Notes the host that the client used, once it is known to be one of ours.
    pub fn asked_for(&mut self, authority: &str) {
        if !self.span.is_recording() {
            return;
        }
        let Ok(authority) = authority.parse::<Authority>() else {
            return;
        };
        self.span
            .set_attribute(KeyValue::new(name::SERVER_ADDRESS, authority.host().to_owned()));
        let port = authority.port_u16().map(i64::from);
        self.span
            .set_attributes(port.map(|port| KeyValue::new(name::SERVER_PORT, port)));
    }

    /// Begins the span of one send; `headers` are told of it in place of what the client said.
    pub fn send(&self, sending: &Sending<'_>, headers: &mut HeaderMap) -> Box<SendSpan> {
        let method = method(sending.method);
        let builder = self
            .tracer
            .sdk
            .span_builder(self.name(method))
            .with_kind(SpanKind::Client);
        // Not remote: what is passed on is this process's own.
        let parent = Context::new().with_remote_span_context(self.span.span_context().clone());
        let mut span = self.tracer.sdk.build_with_context(builder, &parent);
        self.tracer.tell(span.span_context(), headers);
        if span.is_recording() {
            let Sending { scheme, host, port, .. } = *sending;
            let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
            let url = format!("{scheme}://{open}{host}{close}:{port}{}", self.path());
            span.set_attributes([
                text(name::HTTP_REQUEST_METHOD, method),
                KeyValue::new(name::URL_FULL, url),
                KeyValue::new(name::SERVER_ADDRESS, host.to_owned()),
                KeyValue::new(name::SERVER_PORT, i64::from(port)),
                KeyValue::new(ACCOUNT, sending.account.to_owned()),
            ]);
            if sending.resent > 0 {
                let resent = i64::from(sending.resent);
                span.set_attribute(KeyValue::new(name::HTTP_REQUEST_RESEND_COUNT, resent));
            }
        }
        Box::new(SendSpan(span))
    }

    /// Ends it.
    pub fn end(mut self, outcome: &Outcome<'_>) {
        if !self.span.is_recording() {
            return;
        }
        self.span.update_name(self.name(self.method));
        self.span.set_attribute(text(name::URL_PATH, self.path()));
        self.span.set_attributes(outcome.status.map(status_code));
        if !self.route.is_empty() {
            self.span.set_attribute(text(name::HTTP_ROUTE, self.route));
        }
        for (key, value) in [(OPERATION, outcome.operation), (ERROR_CODE, outcome.error_code)] {
            self.span.set_attributes(value.map(|value| text(key, value)));
        }
        let caller = outcome.caller.map(|caller| KeyValue::new(CALLER, caller.to_owned()));
        self.span.set_attributes(caller);
        // A server's span is an error only where the server failed.
        let failed = if outcome.broken_off {
            Some(Value::from(BROKEN_OFF))
        } else {
            let status = outcome.status.filter(StatusCode::is_server_error);
            status.map(|status| outcome.error_code.map_or_else(|| error_type(status), Value::from))
        };
        if let Some(why) = failed {
            fail(&mut self.span, why);
        }
        self.span.end();
    }

    /// `GET /api/atlas/v2/groups/{groupId}`, or the method alone.
    fn name(&self, method: &'static str) -> String {
        // The conventions' name for a method that they don't know.
        let method = if method == OTHER { "HTTP" } else { method };
        match self.route {
            "" => method.to_owned(),
            route => format!("{method} {route}"),
        }
    }

    fn path(&self) -> &'static str {
        if self.route.is_empty() { REDACTED } else { self.route }
    }
}

impl SendSpan {
    /// Ends it with the answer's status.
    pub fn answered(mut self, status: StatusCode, of: Version) {
        let Self(span) = &mut self;
        span.set_attribute(status_code(status));
        span.set_attributes(version(of));
        if status.is_client_error() || status.is_server_error() {
            fail(span, error_type(status));
        }
        span.end();
    }

    /// Ends it without an answer; `kind` is that of the metric `upstream_errors_total`.
    pub fn failed(mut self, kind: &'static str) {
        fail(&mut self.0, Value::from(kind));
        self.0.end();
    }
}

/// The method that stands for all that the conventions don't know.
const OTHER: &str = "_OTHER";

fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
    ];
    let known = KNOWN.iter().find(|known| **known == method.as_str());
    known.copied().unwrap_or(OTHER)
}

fn text(key: &'static str, value: &'static str) -> KeyValue {
    KeyValue::new(key, value)
}

fn version(version: Version) -> Option<KeyValue> {
    let value = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => return None,
    };
    Some(text(name::NETWORK_PROTOCOL_VERSION, value))
}

fn user_agent(headers: &HeaderMap) -> Option<KeyValue> {
    let value = headers.get(header::USER_AGENT)?.to_str().ok()?;
    let value = value.get(..MOST_USER_AGENT).unwrap_or(value);
    Some(KeyValue::new(name::USER_AGENT_ORIGINAL, value.to_owned()))
}

fn status_code(status: StatusCode) -> KeyValue {
    KeyValue::new(name::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()))
}

fn error_type(status: StatusCode) -> Value {
    Value::from(status.as_str().to_owned())
}

fn fail(span: &mut Span, why: Value) {
    span.set_attribute(KeyValue::new(name::ERROR_TYPE, why));
    span.set_status(Status::error(""));
}

/// Puts a field in place of all of its name.
pub(super) fn replace(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) if !value.is_empty() => {
            headers.insert(name, value);
        }
        _ => {
            headers.remove(name);
        }
    }
}
