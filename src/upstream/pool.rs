//! Warm connections to one origin.
//!
//! HTTP/1.1: one connection serves one request at a time; the sender comes back only at the end of the response body, and
//! is dropped (which closes the connection) when the body is abandoned. HTTP/2: one connection serves all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Parts, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::body::UpstreamBody;
use super::connect::{Stream, connect};
use super::last_words::LastWords;
use super::queue::{self, LONGEST_WAIT};
use super::{ConnectError, HttpVersion, Origin, SendError, SendFailure, UpstreamSettings};
use crate::fair::Part;
use crate::metrics::{GaugeGuard, IntGauge};

/// An idle connection older than this is not used again: middleboxes forget silent connections after a minute or so.
const IDLE_FOR: Duration = Duration::from_secs(55);
/// What a request may take to reach the upstream: an idle connection that ends sooner is not used.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// Idle connections kept at most; above, the oldest go.
const MAX_IDLE: usize = 512;
/// Fresh connections that one request may try when idle ones turn out dead before a byte was sent.
const MAX_UNSENT_TRIES: usize = 3;
/// A silently dead HTTP/2 connection would hang all its streams.
const H2_PING_EVERY: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on a response head, bytes; Atlas's own stay under 4 KiB.
const MAX_RESPONSE_HEAD: usize = 64 << 10;

/// One upstream: connects, keeps connections, sends.
pub struct Upstream<B> {
    shared: Arc<Shared<B>>,
}

pub(super) struct Shared<B> {
    settings: UpstreamSettings,
    /// Offers `http/1.1`.
    tls_h1: Arc<ClientConfig>,
    /// Offers `h2`.
    tls_h2: Arc<ClientConfig>,
    /// `Auto` has made a connection of HTTP/2 after HTTP/1.1 was refused. Forgotten when no such connection can be made:
    /// an alert on the way can be forged, a handshake that succeeds can't.
    only_h2: AtomicBool,
    idle: Mutex<VecDeque<Idle<B>>>,
    h2: Mutex<Option<(http2::SendRequest<B>, Instant)>>,
    /// Held while an HTTP/2 connection is made, so that a burst makes one.
    h2_connecting: tokio::sync::Mutex<()>,
    open: IntGauge,
}

/// A response head, its body, and the connection to give back when it serves no other request meanwhile.
type Answered<B> = (http::response::Parts, Incoming, Option<Lease<B>>);

struct Idle<B> {
    connection: Http1<B>,
    since: Instant,
}

/// A connection, when it was made, and how long it may be idle.
struct Http1<B> {
    sender: http1::SendRequest<B>,
    made: Instant,
    idle_for: Duration,
}

/// A request without scheme, host and framing of its own: those belong to the connection.
pub struct Outbound<B> {
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte as the client sent them.
    pub path: PathAndQuery,
    /// Header fields, without `Host` and hop-by-hop ones (but `TE: trailers` may stand).
    pub headers: HeaderMap,
    /// The body.
    pub body: B,
    /// Progress of the body, when there is one: the wait for the response head counts from it.
    pub progress: Option<Arc<Progress>>,
    /// Whether it can be sent a single time only. Then it goes over a connection of HTTP/1.1 that is made for it: an idle
    /// one may be closed by the upstream in the very moment.
    pub once: bool,
    /// Whose part of the places on the way to the upstream it takes.
    pub part: Arc<Part>,
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

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }
}

impl<B> Upstream<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// An upstream with no connection yet. `tls` comes from [`super::client_config`]; `open` counts open connections.
    pub fn new(settings: UpstreamSettings, tls: &ClientConfig, open: IntGauge) -> Self {
        let with_alpn = |name: &[u8]| {
            let mut config = tls.clone();
            config.alpn_protocols = vec![name.to_vec()];
            Arc::new(config)
        };
        let shared = Shared {
            tls_h1: with_alpn(b"http/1.1"),
            tls_h2: with_alpn(b"h2"),
            only_h2: AtomicBool::new(false),
            settings,
            idle: Mutex::new(VecDeque::new()),
            h2: Mutex::new(None),
            h2_connecting: tokio::sync::Mutex::new(()),
            open,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Where it leads.
    pub fn origin(&self) -> &Origin {
        &self.shared.settings.origin
    }

    /// Sends one request and waits for the response head. A connection found dead before a byte of the request was
    /// written is replaced by another one silently; everything else is the caller's decision.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub async fn send(&self, outbound: Outbound<B>) -> Result<Response<UpstreamBody<B>>, SendFailure<B>> {
        let Outbound {
            method,
            path,
            headers,
            body,
            progress,
            once,
            part,
        } = outbound;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path);
        *request.headers_mut() = headers;
        let Some(place) = queue::place(&part).await else {
            return Err(SendFailure {
                error: SendError::Queue {
                    host: self.origin().host().to_owned(),
                    after: LONGEST_WAIT,
                },
                unsent: Some(request),
                reused: false,
                not_processed: false,
            });
        };
        let mut tries = 0;
        loop {
            tries += 1;
            // After some dead connections the next is a fresh one: the others are most likely dead, too.
            let result = self
                .attempt(request, progress.as_deref(), once || tries >= MAX_UNSENT_TRIES)
                .await;
            match result {
                Ok((parts, incoming, lease)) => {
                    let idle_limit = self.shared.settings.limits.response_body_idle_timeout;
                    let body = UpstreamBody::new(incoming, lease, place, idle_limit);
                    return Ok(Response::from_parts(parts, body));
                }
                Err(SendFailure {
                    unsent: Some(back),
                    reused: true,
                    ..
                }) if tries < MAX_UNSENT_TRIES => request = back,
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn attempt(
        &self,
        request: Request<B>,
        progress: Option<&Progress>,
        fresh: bool,
    ) -> Result<Answered<B>, SendFailure<B>> {
        if self.shared.settings.http == HttpVersion::Http2 {
            return self.attempt_h2(request, progress).await;
        }
        let mut request = request;
        if self.shared.only_h2.load(Ordering::Relaxed) {
            match self.attempt_h2(request, progress).await {
                Err(SendFailure {
                    error: SendError::Connect(error),
                    unsent: Some(back),
                    ..
                }) => {
                    self.shared.only_h2.store(false, Ordering::Relaxed);
                    if !may_be_version(&error) {
                        return Err(SendFailure {
                            error: error.into(),
                            unsent: Some(back),
                            reused: false,
                            not_processed: false,
                        });
                    }
                    request = back;
                }
                other => return other,
            }
        }
        let idle = if fresh {
            self.shared.make_room();
            None
        } else {
            self.shared.checkout()
        };
        let (connection, reused) = match idle {
            Some(connection) => (connection, true),
            None => match self.shared.connect_h1().await {
                Ok(connection) => (connection, false),
                Err(ConnectError::Tls { source, .. })
                    if self.shared.settings.http == HttpVersion::Auto && refused_alpn(&source) =>
                {
                    // Believed once a connection of HTTP/2 stands, see `h2_sender`.
                    return self.attempt_h2(request, progress).await;
                }
                Err(error) => {
                    return Err(SendFailure {
                        error: error.into(),
                        unsent: Some(request),
                        reused: false,
                        not_processed: false,
                    });
                }
            },
        };
        self.attempt_h1(connection, reused, request, progress).await
    }

    async fn attempt_h1(
        &self,
        mut connection: Http1<B>,
        reused: bool,
        mut request: Request<B>,
        progress: Option<&Progress>,
    ) -> Result<Answered<B>, SendFailure<B>> {
        request
            .headers_mut()
            .insert(header::HOST, self.origin().host_header().clone());
        let sent = connection.sender.try_send_request(request);
        let sent = self.head_within(sent, progress).await;
        let mut response = self.outcome(sent, reused)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.switched(reused));
        }
        if !one_framing(response.headers_mut()) {
            return Err(SendFailure {
                error: SendError::Framing {
                    host: self.origin().host().to_owned(),
                },
                unsent: None,
                reused,
                not_processed: false,
            });
        }
        connection.idle_for = announced_idle(response.headers()).map_or(IDLE_FOR, |announced| announced.min(IDLE_FOR));
        let (parts, incoming) = response.into_parts();
        let lease = Lease {
            connection,
            shared: Arc::clone(&self.shared),
        };
        Ok((parts, incoming, Some(lease)))
    }

    async fn attempt_h2(
        &self,
        mut request: Request<B>,
        progress: Option<&Progress>,
    ) -> Result<Answered<B>, SendFailure<B>> {
        let (mut sender, reused) = match self.shared.h2_sender().await {
            Ok(found) => found,
            Err(error) => {
                return Err(SendFailure {
                    error: error.into(),
                    unsent: Some(request),
                    reused: false,
                    not_processed: false,
                });
            }
        };
        let mut uri = Parts::default();
        uri.scheme = Some(self.origin().scheme().clone());
        uri.authority = Some(self.origin().authority().clone());
        uri.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        request.headers_mut().remove(header::HOST);
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        let sent = self.head_within(sender.try_send_request(request), progress).await;
        let (parts, incoming) = self.outcome(sent, reused)?.into_parts();
        Ok((parts, incoming, None))
    }

    /// `None`: the response head did not come within the limit, counted from the last movement of the request body.
    async fn head_within<F: Future>(&self, sent: F, progress: Option<&Progress>) -> Option<F::Output> {
        let limit = self.shared.settings.limits.response_head_timeout;
        let mut sent = std::pin::pin!(sent);
        let mut deadline = Instant::now() + limit;
        loop {
            if let Ok(output) = tokio::time::timeout_at(deadline, sent.as_mut()).await {
                return Some(output);
            }
            let moved = progress.map(|p| p.last() + limit).filter(|&d| d > deadline);
            deadline = moved?;
        }
    }

    fn outcome(
        &self,
        sent: Option<Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<B>>>>,
        reused: bool,
    ) -> Result<Response<Incoming>, SendFailure<B>> {
        let host = || self.origin().host().to_owned();
        match sent {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failed)) => {
                let unsent = failed.take_message();
                let source = failed.into_error();
                let not_processed = says_not_processed(&source);
                let error = SendError::Broken { host: host(), source };
                Err(SendFailure {
                    error,
                    unsent,
                    reused,
                    not_processed,
                })
            }
            None => {
                let after = self.shared.settings.limits.response_head_timeout;
                Err(SendFailure {
                    error: SendError::HeadTimeout { host: host(), after },
                    unsent: None,
                    reused,
                    not_processed: false,
                })
            }
        }
    }

    fn switched(&self, reused: bool) -> SendFailure<B> {
        let error = SendError::Switched {
            host: self.origin().host().to_owned(),
        };
        SendFailure {
            error,
            unsent: None,
            reused,
            not_processed: false,
        }
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The connection used last that is ready now: the warmest, and the others can age.
    fn checkout(&self) -> Option<Http1<B>> {
        let mut idle = self.idle.lock();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let entry = &idle[at];
            if self.is_over(entry) {
                idle.remove(at);
            } else if entry.connection.sender.is_ready() {
                return idle.remove(at).map(|entry| entry.connection);
            }
        }
        None
    }

    /// The oldest idle connection goes, as another one comes although there are some.
    fn make_room(&self) {
        drop(self.idle.lock().pop_front());
    }

    fn is_over(&self, entry: &Idle<B>) -> bool {
        entry.connection.sender.is_closed()
            || entry.since.elapsed() > entry.connection.idle_for
            || entry.connection.made.elapsed() > self.settings.limits.connection_max_age
    }

    fn checkin(&self, connection: Http1<B>) {
        let over = connection.made.elapsed() > self.settings.limits.connection_max_age;
        if connection.sender.is_closed() || over || connection.idle_for.is_zero() {
            return;
        }
        let mut idle = self.idle.lock();
        while idle.len() >= MAX_IDLE || idle.front().is_some_and(|entry| self.is_over(entry)) {
            idle.pop_front();
        }
        idle.push_back(Idle {
            connection,
            since: Instant::now(),
        });
    }

    async fn connect_h1(&self) -> Result<Http1<B>, ConnectError> {
        let stream = connect(&self.settings, &self.tls_h1, self.settings.limits.connect_timeout).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_RESPONSE_HEAD)
            // Old programs compare the bytes of a field's name: they get it as Atlas wrote it.
            .preserve_header_case(true)
            .handshake(TokioIo::new(LastWords::new(stream)))
            .await
            .map_err(|source| self.not_started(source))?;
        self.drive(connection);
        Ok(Http1 {
            sender,
            made: Instant::now(),
            idle_for: IDLE_FOR,
        })
    }

    async fn h2_sender(&self) -> Result<(http2::SendRequest<B>, bool), ConnectError> {
        let cached = || {
            let h2 = self.h2.lock();
            let (sender, made) = h2.as_ref()?;
            let good = !sender.is_closed() && made.elapsed() <= self.settings.limits.connection_max_age;
            good.then(|| sender.clone())
        };
        if let Some(sender) = cached() {
            return Ok((sender, true));
        }
        let limit = self.settings.limits.connect_timeout;
        let deadline = Instant::now() + limit;
        let too_late = || ConnectError::Timeout {
            host: self.settings.origin.host().to_owned(),
            port: self.settings.origin.port(),
            after: limit,
        };
        // One limit for the wait and the attempt: those who wait must not have their attempts one after the other.
        let Ok(_one_at_a_time) = tokio::time::timeout_at(deadline, self.h2_connecting.lock()).await else {
            return Err(too_late());
        };
        if let Some(sender) = cached() {
            return Ok((sender, true));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let stream = connect(&self.settings, &self.tls_h2, left).await.map_err(|e| match e {
            ConnectError::Tls { source, .. } if refused_alpn(&source) => self.no_h2(),
            ConnectError::Timeout { .. } => too_late(),
            other => other,
        })?;
        if !stream.negotiated_h2() && matches!(stream, Stream::Tls(_)) {
            return Err(self.no_h2());
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING_EVERY)
            .keep_alive_timeout(H2_PING_TIMEOUT)
            // Until the upstream's SETTINGS say how many it takes: more would be refused (RFC 9113 section 5.1.2).
            .initial_max_send_streams(1)
            .max_header_list_size(MAX_RESPONSE_HEAD as u32)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.not_started(source))?;
        self.drive(connection);
        *self.h2.lock() = Some((sender.clone(), Instant::now()));
        self.only_h2
            .store(self.settings.http == HttpVersion::Auto, Ordering::Relaxed);
        Ok((sender, false))
    }

    /// Runs a connection until it ends. Its errors reach the request that met them; an idle one has nobody to tell.
    fn drive<C>(&self, connection: C)
    where
        C: Future<Output = Result<(), hyper::Error>> + Send + 'static,
    {
        let open = GaugeGuard::new(&self.open);
        tokio::spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
    }

    fn not_started(&self, source: hyper::Error) -> ConnectError {
        ConnectError::Http {
            host: self.settings.origin.host().to_owned(),
            source,
        }
    }

    fn no_h2(&self) -> ConnectError {
        ConnectError::NoHttp2 {
            host: self.settings.origin.host().to_owned(),
        }
    }
}

/// A connection that is serving a request. Dropped: closed. Released: idle again.
pub(super) struct Lease<B> {
    connection: Http1<B>,
    shared: Arc<Shared<B>>,
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn release(self) {
        self.shared.checkin(self.connection);
    }
}

/// Leaves one framing, that by which hyper reads (RFC 9112 section 6.3), and says whether there is one: it reads content in
/// an unknown coding to the end of the connection, and we would pass it on without saying so.
fn one_framing(headers: &mut HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => one_length(headers),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            headers.remove(header::CONTENT_LENGTH);
            true
        }
        _ => false,
    }
}

/// Makes one number of the same number several times (RFC 9112 section 6.3 rule 5).
fn one_length(headers: &mut HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(first), second) = (values.next(), values.next()) else {
        return true;
    };
    let digits = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if second.is_none() && digits(first.as_bytes()) {
        return true;
    }
    let mut all = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let Some(length) = all.next().filter(|length| digits(length)) else {
        return false;
    };
    if !all.all(|other| other == length) {
        return false;
    }
    let Ok(length) = HeaderValue::from_bytes(length) else {
        return false;
    };
    headers.insert(header::CONTENT_LENGTH, length);
    true
}

/// How long the upstream keeps an idle connection, as it says (`Keep-Alive: timeout=5`, RFC 2068 section 19.7.1), less what
/// a request needs to get there.
fn announced_idle(headers: &HeaderMap) -> Option<Duration> {
    let announced = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = announced.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u64>().ok()?;
        name.trim().eq_ignore_ascii_case("timeout").then_some(seconds)
    })?;
    Some(Duration::from_secs(seconds).saturating_sub(ON_THE_WAY))
}

/// Whether the upstream said of a request that it did not process it: a refused stream, or one above the last that a
/// `GOAWAY` names (RFC 9113 section 8.7). Then any method may go again.
fn says_not_processed(error: &hyper::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        if let Some(h2) = source.downcast_ref::<h2::Error>() {
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            // h2 says so of the streams above the last one only; the others fail otherwise.
            return h2.is_remote() && (refused || h2.is_go_away());
        }
        next = source.source();
    }
    false
}

/// Whether another version of HTTP may be spoken where no connection could be made. A host that is not reached with one is
/// not with the other, and waiting twice helps nobody.
fn may_be_version(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::NoHttp2 { .. } | ConnectError::Tls { .. } | ConnectError::Http { .. }
    )
}

/// Whether the peer refused the handshake for want of a common protocol (RFC 7301 section 3.2).
fn refused_alpn(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| {
            matches!(
                error,
                rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
            )
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_says_how_long_it_keeps_an_idle_connection() {
        let announced = |value: &'static str| {
            announced_idle(&HeaderMap::from_iter([(
                http::HeaderName::from_static("keep-alive"),
                HeaderValue::from_static(value),
            )]))
            .map(|idle| idle.as_secs())
        };
        assert_eq!(announced("timeout=5, max=100"), Some(4));
        assert_eq!(announced("max=100, Timeout = 20"), Some(19));
        assert_eq!(announced("timeout=1"), Some(0));
        assert_eq!(announced("timeout=0"), Some(0));
        assert_eq!(announced("max=3"), None);
        assert_eq!(announced("timeout=soon"), None);
        assert_eq!(announced_idle(&HeaderMap::new()), None);
    }

    #[test]
    fn one_framing_is_left_or_none() {
        let framed = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            one_framing(&mut headers).then(|| {
                let lengths: Vec<_> = headers.get_all("content-length").iter().cloned().collect();
                lengths
                    .iter()
                    .map(|l| l.to_str().unwrap().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        let some = |lengths: &[&str]| Some(lengths.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(framed(&[]), some(&[]));
        assert_eq!(framed(&[("content-length", "5")]), some(&["5"]));
        assert_eq!(framed(&[("content-length", "5, 5")]), some(&["5"]));
        assert_eq!(
            framed(&[("content-length", "5"), ("content-length", "5")]),
            some(&["5"])
        );
        assert_eq!(
            framed(&[("content-length", "5"), ("transfer-encoding", "chunked")]),
            some(&[])
        );
        for refused in [
            &[("content-length", "5, 6")][..],
            &[("content-length", "+5")],
            &[("content-length", "")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(framed(refused), None, "{refused:?}");
        }
    }
}
