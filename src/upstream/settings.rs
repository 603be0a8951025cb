//! What an account's upstream side needs to know.

use std::path::PathBuf;
use std::time::Duration;

use super::{ConnectTo, EgressProxy, Origin};

/// Which HTTP version to speak upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// What measures better where both are offered.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// One upstream, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Where requests and the credential go.
    pub origin: Origin,
    /// Where connections go; `None`: to the origin's own host and port.
    pub connect_to: Option<ConnectTo>,
    /// The proxy on the way to it; `None`: directly.
    pub egress: Option<EgressProxy>,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The HTTP version.
    pub http: HttpVersion,
    /// Bounds on its connections and answers.
    pub limits: UpstreamLimits,
}

impl UpstreamSettings {
    /// See [`ConnectTo::way`]; `None`: the origin's name leads there.
    pub fn way(&self) -> Option<String> {
        self.connect_to.as_ref().map(|to| to.way(&self.origin))
    }

    /// The host, without brackets, and the port that connections go to.
    pub fn target(&self) -> (&str, u16) {
        match &self.connect_to {
            Some(to) => (to.host(), to.port()),
            None => (self.origin.host(), self.origin.port()),
        }
    }
}

/// Bounds on the connections to an upstream and on its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Wait for the response head, counted from the last byte of the request.
    pub response_head_timeout: Duration,
    /// Each pause within a response body.
    pub response_body_idle_timeout: Duration,
    /// A connection serves no further request at this age (`upstream_connection_max_age`), so that changed DNS answers are
    /// followed.
    pub connection_max_age: Duration,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_head_timeout: Duration::from_secs(60),
            response_body_idle_timeout: Duration::from_secs(60),
            connection_max_age: Duration::from_secs(300),
        }
    }
}
