//! Which requests are traced, and where their spans go.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};

use crate::secret::Secret;
use crate::upstream::EgressProxy;

/// Where spans go, which, and how they are gathered. Made only where an endpoint is named.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// The receiver.
    pub endpoint: Endpoint,
    /// What each request to it carries beside its own fields.
    pub headers: Vec<(HeaderName, Secret)>,
    /// How spans are written.
    pub encoding: Encoding,
    /// Whether they are compressed.
    pub gzip: bool,
    /// How long one request to the receiver may take.
    pub timeout: Duration,
    /// The authorities to trust there instead of the system's.
    pub authorities: Option<Authorities>,
    /// The proxy on the way there.
    pub egress: Option<EgressProxy>,
    /// What the spans say of this process, beside its name, by OpenTelemetry's names.
    pub resource: Vec<(String, String)>,
    /// Which requests are traced.
    pub sampler: Sampler,
    /// How spans are gathered.
    pub batch: BatchLimits,
}

/// The URL that spans are posted to. Its path and query may hold a secret, so that only the origin is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl Endpoint {
    /// `uri` is absolute.
    pub fn new(uri: Uri) -> Self {
        Self(uri)
    }

    /// The URL itself, for the one place that sends there.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.0.scheme_str(), self.0.authority());
        write!(
            f,
            "{}://{}",
            scheme.unwrap_or_default(),
            authority.map_or("", http::uri::Authority::as_str)
        )
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file of certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// Where it is.
    pub path: PathBuf,
    /// What stood in it.
    pub pem: Vec<u8>,
}

/// How spans are written (OTLP specification, "OTLP/HTTP").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `http/protobuf`
    Protobuf,
    /// `http/json`
    Json,
}

/// Which requests are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether a client's `traceparent` decides, where there is one.
    pub by_parent: bool,
    /// Which part of all others, from 0 to 1.
    pub ratio: f64,
}

/// How spans are gathered before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most spans that wait; more are dropped.
    pub queue: usize,
    /// The most spans of one request to the receiver.
    pub batch: usize,
    /// How long a span waits for others.
    pub delay: Duration,
    /// How long a batch is tried.
    pub export_timeout: Duration,
}

impl Default for BatchLimits {
    /// Those of OpenTelemetry's specification.
    fn default() -> Self {
        Self {
            queue: 2048,
            batch: 512,
            delay: Duration::from_secs(5),
            export_timeout: Duration::from_secs(30),
        }
    }
}
