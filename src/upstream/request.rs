//! A request on its way to the upstream.

use std::borrow::Cow;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body;
use tokio::time::Instant;

use crate::fair::Part;

/// What the content of a request must be to be sent.
pub trait SendableBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static {}

impl<B> SendableBody for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static
{
}

/// A request without scheme, host and framing of its own: those belong to the connection.
pub struct UpstreamRequest<'a, B> {
    /// Its head.
    pub head: Head<'a>,
    /// The body.
    pub body: B,
    /// Progress of the body, when there is one: the wait for the response head counts from it.
    pub progress: Option<&'a Progress>,
    /// Whether it can be sent a single time only. Then it goes over a connection of HTTP/1.1 that is made for it: an
    /// idle one may be closed by the upstream at that very moment.
    pub once: bool,
    /// The listener's part of the places on the way to the upstream; the request takes one.
    pub part: &'a Part,
}

/// The head of a request, as far as it does not belong to the connection.
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, byte for byte as the client sent them.
    pub path: &'a PathAndQuery,
    /// Header fields, without `Host`, `Authorization` and hop-by-hop ones (but `TE: trailers` may stand), with one framing.
    pub headers: Cow<'a, HeaderMap>,
    /// The credential.
    pub authorization: Option<&'a HeaderValue>,
}

/// When the request body last moved.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    moved_ms: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            moved_ms: AtomicU64::new(0),
        }
    }
}

impl Progress {
    /// To be called whenever a part of the body was handed on.
    pub fn moved(&self) {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(ms, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }
}
