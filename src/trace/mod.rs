//! Traces by OpenTelemetry: a span for each request, one for each time that it is sent upstream, and the way of both to a
//! receiver, as OTLP over HTTP. Feature `otel`; without it the types are there and can't be made.
//!
//! Nothing global: who traces has a [`Tracer`]. A span holds no text of a client but its `User-Agent`, and no value of a
//! path: see `span.rs`.

#[cfg(feature = "otel")]
mod batch;
#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod off;
mod settings;
#[cfg(feature = "otel")]
mod span;
#[cfg(feature = "otel")]
mod tracer;

use std::net::IpAddr;

use http::{HeaderMap, Method, StatusCode, Version};

#[cfg(not(feature = "otel"))]
pub use off::{RequestSpan, SendSpan, Tracer};
pub use settings::{Authorities, BatchLimits, Encoding, Endpoint, Sampler, TraceSettings};
#[cfg(feature = "otel")]
pub use span::{RequestSpan, SendSpan};
#[cfg(feature = "otel")]
pub use tracer::Tracer;

/// A request that has just come.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its version of HTTP.
    pub version: Version,
    /// Its header fields, of which `traceparent`, `tracestate` and `User-Agent` are looked at.
    pub headers: &'a HeaderMap,
    /// `http` or `https`: what the client sees.
    pub scheme: &'static str,
    /// Where it came in.
    pub listener: &'a str,
    /// Whose credential is added.
    pub account: &'a str,
    /// Who sent it; `None`: it came over a unix socket.
    pub client: Option<IpAddr>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The answer's status; `None`: none was begun.
    pub status: Option<StatusCode>,
    /// The code of the proxy's own answer.
    pub error_code: Option<&'static str>,
    /// Whether the answer did not reach its end.
    pub broken_off: bool,
    /// The operation in the catalogue.
    pub operation: Option<&'static str>,
    /// Who the caller is, where the listener asks.
    pub caller: Option<&'a str>,
}

/// One send upstream.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    /// Its method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The upstream's name or address.
    pub host: &'a str,
    /// The upstream's port.
    pub port: u16,
    /// How often something was sent for the request before.
    pub resent: u32,
    /// Whose credential it has.
    pub account: &'a str,
}
