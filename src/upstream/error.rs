//! How a request to the upstream can fail.

use std::io;
use std::time::Duration;

use super::TunnelError;
use super::handshake::handshake_words;
use super::http1::Broken;
use super::http2;
use super::trust::{UNKNOWN_ISSUER, Untrusted};

/// No connection could be made. Nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name `{host}` cannot be resolved: {source}; check it, and this machine's DNS")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address accepted the connection.
    #[error("no TCP connection to `{host}:{port}`: {source}; check the network, a firewall, and the port")]
    Tcp {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// The error of the address tried last.
        source: io::Error,
    },
    /// The egress proxy could not be reached, or opened no tunnel.
    #[error("no way to `{host}` through the egress proxy {proxy}: {source}")]
    Tunnel {
        /// The name of the upstream.
        host: String,
        /// The proxy, without credentials.
        proxy: String,
        /// Why.
        source: TunnelError,
    },
    /// The certificate or the handshake was not acceptable.
    #[error("no trusted TLS connection to `{host}:{port}`: {}", handshake_words(.source))]
    Tls {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// What was wrong.
        source: io::Error,
    },
    /// The HTTP version asked for is not spoken by the upstream.
    #[error("`{host}` does not offer HTTP/2 (ALPN `h2`), but the setting `http` demands it: set it to `auto` or `1`")]
    NoHttp2 {
        /// The name.
        host: String,
    },
    /// DNS, TCP and TLS together took too long.
    #[error("no connection to `{host}:{port}` within {}s (`connect_timeout`)", .after.as_secs_f32())]
    Timeout {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// The bound.
        after: Duration,
    },
    /// The HTTP layer refused to start.
    #[error("the HTTP connection to `{host}` did not start: {source}")]
    Http {
        /// The name.
        host: String,
        /// What hyper said.
        source: hyper::Error,
    },
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or the upstream's answer was not HTTP.
    #[error("the connection to `{host}` broke before a whole response head came: {source}")]
    Broken {
        /// The upstream.
        host: String,
        /// Why.
        source: BrokenBy,
    },
    /// No response head in time.
    #[error("`{host}` sent no response head within {}s (`response_head_timeout`)", .after.as_secs_f32())]
    HeadTimeout {
        /// The upstream.
        host: String,
        /// The bound.
        after: Duration,
    },
    /// The answer's content is delimited in a way that has no single reading (RFC 9112 section 6.3).
    #[error("`{host}` answered with content whose end has no single reading (`Content-Length`, `Transfer-Encoding`)")]
    Framing {
        /// The upstream.
        host: String,
    },
    /// Too many requests are on their way already.
    #[error(
        "as many requests as may be are on their way to `{host}`, and none ended within {}s: send fewer at once",
        .after.as_secs_f32()
    )]
    Queue {
        /// The upstream.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// The upstream answered `101 Switching Protocols`, which was never asked for.
    #[error("`{host}` answered 101 Switching Protocols to a request without `Upgrade`")]
    Switched {
        /// The upstream.
        host: String,
    },
}

/// Why a connection broke, or what came over it was no answer.
#[derive(Debug, thiserror::Error)]
pub enum BrokenBy {
    /// Of HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] Broken),
    /// Of HTTP/2.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl SendError {
    /// What clients are told: no path of this machine, and nothing that the upstream's certificate says. The whole is its
    /// `Display`.
    pub fn for_client(&self) -> String {
        match self {
            Self::Connect(ConnectError::Tls { host, port, source }) if Untrusted::of(source).is_some() => {
                format!(
                    "no trusted TLS connection to `{host}:{port}`: {UNKNOWN_ISSUER} (see `ca_file` in docs/CONFIGURATION.md); the proxy's log says more"
                )
            }
            other => other.to_string(),
        }
    }
}

/// A failed send, with what is needed to decide on another try.
#[derive(Debug)]
pub struct SendFailure<B> {
    /// The cause.
    pub error: SendError,
    /// The request's body, when not one byte of the request was sent: then any method may go again.
    pub unsent: Option<B>,
    /// Whether the connection had served a request before. If such a connection breaks, the upstream most likely closed
    /// it while it was idle, but the request *may* have been processed.
    pub reused: bool,
    /// The upstream said that it did not process the request (RFC 9113 section 8.7): then any method may go again.
    pub not_processed: bool,
}

impl<B> SendFailure<B> {
    /// Whether the upstream reset the request's stream of HTTP/2: then it has had the head, and may have acted on it.
    pub fn was_reset(&self) -> bool {
        matches!(&self.error, SendError::Broken { source: BrokenBy::Http2(source), .. } if http2::was_reset(source))
    }

    /// Nothing of the request was sent.
    pub(super) fn unsent(error: impl Into<SendError>, body: B) -> Self {
        Self {
            error: error.into(),
            unsent: Some(body),
            reused: false,
            not_processed: false,
        }
    }

    /// The request was sent, and may have been processed.
    pub(super) fn sent(error: SendError, reused: bool) -> Self {
        Self {
            error,
            unsent: None,
            reused,
            not_processed: false,
        }
    }
}
