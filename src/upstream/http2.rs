//! The one connection of HTTP/2 to an origin. It serves all requests; a burst of requests makes only one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::uri::Parts;
use http::{Request, Uri, header};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connect::Stream;
use super::connector::{Connector, refused_alpn};
use super::http1::MAX_HEAD;
use super::request::{Head, SendableBody};
use super::{ConnectError, HttpVersion, Origin};

/// A silently dead HTTP/2 connection would hang all its streams.
const H2_PING_EVERY: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What one answer may send ahead of its client: bounds memory, and is enough for 100 Mbit/s at 20 ms.
const H2_STREAM_WINDOW: u32 = 256 << 10;
/// The most that there is (RFC 9113 section 6.9.1). With less, clients that don't read their answers would stop those of others;
/// how many answers there are at once is bounded by their places.
const H2_CONNECTION_WINDOW: u32 = (1 << 31) - 1;

pub(super) struct Http2<B> {
    /// When it was made, and in which era it began.
    connection: Mutex<Option<(http2::SendRequest<B>, Instant, u64)>>,
    /// Held while a connection is made.
    connecting: tokio::sync::Mutex<()>,
    /// `Auto` has made a connection of HTTP/2 after HTTP/1.1 was refused. Forgotten when no such connection can be made:
    /// an alert on the way can be forged, a handshake that succeeds can't.
    only: AtomicBool,
}

impl<B: SendableBody> Http2<B> {
    /// No connection yet.
    pub(super) fn new() -> Self {
        Self {
            connection: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
            only: AtomicBool::new(false),
        }
    }

    /// Whether the upstream was found to speak HTTP/2 only.
    pub(super) fn is_only_version(&self) -> bool {
        self.only.load(Ordering::Relaxed)
    }

    /// Drops that finding: the upstream may speak HTTP/1.1 by now.
    pub(super) fn forget(&self) {
        self.only.store(false, Ordering::Relaxed);
    }

    /// A sender on the connection, and whether the connection was there already.
    ///
    /// # Errors
    /// When there is no connection, and none can be made.
    pub(super) async fn sender(&self, connector: &Connector) -> Result<(http2::SendRequest<B>, bool), ConnectError> {
        let settings = &connector.settings;
        let no_h2 = || ConnectError::NoHttp2 {
            host: settings.origin.host().to_owned(),
        };
        let cached = || {
            let connection = self.connection.lock();
            let (sender, made, era) = connection.as_ref()?;
            let in_time = made.elapsed() <= settings.limits.connection_max_age && *era == connector.era.now();
            let good = !sender.is_closed() && in_time;
            good.then(|| sender.clone())
        };
        if let Some(sender) = cached() {
            return Ok((sender, true));
        }
        let limit = settings.limits.connect_timeout;
        let deadline = Instant::now() + limit;
        let too_late = || ConnectError::Timeout {
            host: settings.origin.host().to_owned(),
            port: settings.origin.port(),
            after: limit,
        };
        // One limit for wait and attempt together: those who wait must not each make an attempt of full length, one
        // after the other.
        let Ok(_one_at_a_time) = tokio::time::timeout_at(deadline, self.connecting.lock()).await else {
            return Err(too_late());
        };
        if let Some(sender) = cached() {
            return Ok((sender, true));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let era = connector.era.now();
        let stream = connector.http2_stream(left).await.map_err(|e| match e {
            ConnectError::Tls { source, .. } if refused_alpn(&source) => no_h2(),
            ConnectError::Timeout { .. } => too_late(),
            other => other,
        })?;
        if !stream.negotiated_h2() && matches!(stream, Stream::Tls(_)) {
            return Err(no_h2());
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING_EVERY)
            .keep_alive_timeout(H2_PING_TIMEOUT)
            // Until the upstream's SETTINGS say how many streams it takes: more would be refused (RFC 9113 section
            // 5.1.2).
            .initial_max_send_streams(1)
            .max_header_list_size(MAX_HEAD as u32)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| connector.not_started(source))?;
        connector.drive(connection);
        *self.connection.lock() = Some((sender.clone(), Instant::now(), era));
        self.only.store(settings.http == HttpVersion::Auto, Ordering::Relaxed);
        Ok((sender, false))
    }
}

/// A request with scheme and authority in its URI, for HTTP/2 (RFC 9113 section 8.3.1).
pub(super) fn request<B>(head: &Head<'_>, body: B, origin: &Origin) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    let mut uri = Parts::default();
    uri.scheme = Some(origin.scheme().clone());
    uri.authority = Some(origin.authority().clone());
    uri.path_and_query = Some(head.path.clone());
    if let Ok(uri) = Uri::from_parts(uri) {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    *headers = head.headers.as_ref().clone();
    headers.remove(header::TRANSFER_ENCODING);
    if let Some(authorization) = head.authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    request
}

/// Whether the upstream said of a request that it did not process it: a refused stream, or one above the last that a
/// `GOAWAY` names (RFC 9113 section 8.7). Then any method may go again.
pub(super) fn says_not_processed(error: &hyper::Error) -> bool {
    remote_error(error).is_some_and(|h2| {
        let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        // h2 reports a `GOAWAY` to the streams above the last one only; the others fail otherwise.
        refused || h2.is_go_away()
    })
}

/// Whether the upstream reset the stream of a request (RFC 9113 section 6.4).
pub(super) fn was_reset(error: &hyper::Error) -> bool {
    remote_error(error).is_some_and(h2::Error::is_reset)
}

/// What the upstream said by a frame of HTTP/2, if that is the cause.
fn remote_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        if let Some(h2) = source.downcast_ref::<h2::Error>() {
            return Some(h2).filter(|h2| h2.is_remote());
        }
        next = source.source();
    }
    None
}
