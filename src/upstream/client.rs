//! One upstream: chooses a connection, sends a request on it, waits for the head of the answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use http::Response;
use http::response::Parts;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::body::{Source, UpstreamBody};
use super::connector::{Connector, refused_alpn};
use super::http1::{Broken, Spellings};
use super::http2::{self, Http2};
use super::pool::{CheckedOut, Connection, Pool};
use super::queue::{self, LONGEST_WAIT};
use super::request::{Head, Progress, SendableBody, UpstreamRequest};
use super::{BrokenBy, ConnectError, Era, HttpVersion, Origin, SendError, SendFailure, UpstreamSettings};
use crate::metrics::IntGauge;
use crate::time::WaitTimer;

/// Fresh connections that one request may try when idle ones turn out dead before a byte was sent.
const MAX_UNSENT_TRIES: usize = 3;

/// One upstream: connects, keeps connections, sends.
pub struct Upstream<B> {
    connector: Connector,
    pool: Arc<Pool<B>>,
    http2: Http2<B>,
    spellings: Spellings,
}

/// A response head, and where its body comes from.
type Answered<B> = (Parts, Source<B>);

impl<B: SendableBody> Upstream<B> {
    /// An upstream with no connection yet. `tls` comes from [`super::client_config`]; `open` counts open connections; those of
    /// another `era` serve no further request.
    pub fn new(settings: UpstreamSettings, tls: &ClientConfig, open: IntGauge, era: Era) -> Self {
        Self {
            pool: Arc::new(Pool::new(settings.limits.connection_max_age, era.clone())),
            http2: Http2::new(),
            spellings: Spellings::default(),
            connector: Connector::new(settings, tls, open, era),
        }
    }

    /// The origin that it leads to.
    pub fn origin(&self) -> &Origin {
        &self.settings().origin
    }

    /// Whether connections go somewhere else than the origin's name leads (`connect_to`).
    pub fn is_led_elsewhere(&self) -> bool {
        self.settings().connect_to.is_some()
    }

    /// See [`UpstreamSettings::way`].
    pub fn way(&self) -> Option<String> {
        self.settings().way()
    }

    fn settings(&self) -> &UpstreamSettings {
        &self.connector.settings
    }

    /// Sends one request and waits for the response head. A connection found dead before a byte of the request was
    /// written is replaced by another one silently; everything else is the caller's decision.
    ///
    /// # Errors
    /// See [`SendFailure`].
    pub async fn send(&self, request: UpstreamRequest<'_, B>) -> Result<Response<UpstreamBody<B>>, SendFailure<B>> {
        let UpstreamRequest {
            head,
            mut body,
            progress,
            once,
            part,
        } = request;
        let Some(place) = queue::place(part).await else {
            let error = SendError::Queue {
                host: self.host(),
                after: LONGEST_WAIT,
            };
            return Err(SendFailure::unsent(error, body));
        };
        let mut tries = 0;
        loop {
            tries += 1;
            // After some dead connections the next is a fresh one: the others are most likely dead, too.
            let fresh = once || tries >= MAX_UNSENT_TRIES;
            match self.attempt(&head, body, progress, fresh).await {
                Ok((parts, source)) => {
                    let idle_limit = self.settings().limits.response_body_idle_timeout;
                    let body = match source {
                        // After an error the rest is not worth sending (RFC 9112 section 9.5).
                        Source::Http1(connection)
                            if parts.status.as_u16() < 400 && !connection.connection.http1.is_request_done() =>
                        {
                            UpstreamBody::overtaking(connection, place, idle_limit)
                        }
                        source => UpstreamBody::new(source, place, idle_limit),
                    };
                    return Ok(Response::from_parts(parts, body));
                }
                Err(SendFailure {
                    unsent: Some(back),
                    reused: true,
                    ..
                }) if tries < MAX_UNSENT_TRIES => body = back,
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn attempt(
        &self,
        head: &Head<'_>,
        mut body: B,
        progress: Option<&Progress>,
        fresh: bool,
    ) -> Result<Answered<B>, SendFailure<B>> {
        let version = self.settings().http;
        if version == HttpVersion::Http2 {
            return self.attempt_http2(head, body, progress).await;
        }
        if self.http2.is_only_version() {
            match self.attempt_http2(head, body, progress).await {
                Err(SendFailure {
                    error: SendError::Connect(error),
                    unsent: Some(back),
                    ..
                }) => {
                    self.http2.forget();
                    if !may_be_version(&error) {
                        return Err(SendFailure::unsent(error, back));
                    }
                    body = back;
                }
                other => return other,
            }
        }
        let idle = if fresh {
            self.pool.drop_oldest();
            None
        } else {
            self.pool.checkout()
        };
        let (connection, reused) = match idle {
            Some(connection) => (connection, true),
            None => match self.connector.http1().await {
                Ok(connection) => (connection, false),
                Err(ConnectError::Tls { source, .. }) if version == HttpVersion::Auto && refused_alpn(&source) => {
                    // Believed only once there is a connection of HTTP/2, see `Http2::sender`.
                    return self.attempt_http2(head, body, progress).await;
                }
                Err(error) => return Err(SendFailure::unsent(error, body)),
            },
        };
        self.attempt_http1(connection, reused, head, body, progress).await
    }

    async fn attempt_http1(
        &self,
        mut connection: Box<Connection<B>>,
        reused: bool,
        head: &Head<'_>,
        body: B,
        progress: Option<&Progress>,
    ) -> Result<Answered<B>, SendFailure<B>> {
        let host = self.origin().host_header();
        let mut deadline = self.head_deadline(Instant::now());
        let http1 = &mut connection.http1;
        let answered = match http1.begin(host, head, body) {
            Ok(()) => {
                poll_fn(|cx| {
                    if let Poll::Ready(answered) = http1.poll_head(cx) {
                        return Poll::Ready(Some(answered));
                    }
                    if let Some(progress) = progress {
                        deadline = deadline.max(self.head_deadline(progress.last()));
                    }
                    ready!(http1.timer.poll_until(cx, deadline));
                    Poll::Ready(None)
                })
                .await
            }
            Err(broken) => Some(Err(broken)),
        };
        let failed = |error| Err(SendFailure::sent(error, reused));
        let mut parts = match answered {
            Some(Ok(parts)) => parts,
            Some(Err(Broken::Framing)) => return failed(SendError::Framing { host: self.host() }),
            Some(Err(Broken::Switched)) => return failed(SendError::Switched { host: self.host() }),
            Some(Err(broken)) => {
                let source = BrokenBy::from(broken);
                return failed(SendError::Broken {
                    host: self.host(),
                    source,
                });
            }
            None => return failed(self.head_timeout()),
        };
        http1.spell(&mut parts, &self.spellings).await;
        connection.note_keep_alive(&parts.headers);
        Ok((parts, Source::Http1(CheckedOut::new(connection, &self.pool))))
    }

    async fn attempt_http2(
        &self,
        head: &Head<'_>,
        body: B,
        progress: Option<&Progress>,
    ) -> Result<Answered<B>, SendFailure<B>> {
        let (mut sender, reused) = match self.http2.sender(&self.connector).await {
            Ok(found) => found,
            Err(error) => return Err(SendFailure::unsent(error, body)),
        };
        let sent = sender.try_send_request(http2::request(head, body, self.origin()));
        match self.head_within(sent, progress).await {
            Some(Ok(response)) => {
                let (parts, incoming) = response.into_parts();
                Ok((parts, Source::Http2(incoming, WaitTimer::default())))
            }
            Some(Err(mut failed)) => {
                let unsent = failed.take_message().map(http::Request::into_body);
                let source = failed.into_error();
                let not_processed = http2::says_not_processed(&source);
                let error = SendError::Broken {
                    host: self.host(),
                    source: source.into(),
                };
                Err(SendFailure {
                    error,
                    unsent,
                    reused,
                    not_processed,
                })
            }
            None => Err(SendFailure::sent(self.head_timeout(), reused)),
        }
    }

    /// `None`: the response head did not come within the limit, counted from the last movement of the request body.
    async fn head_within<F: Future>(&self, sent: F, progress: Option<&Progress>) -> Option<F::Output> {
        let mut sent = pin!(sent);
        let mut deadline = self.head_deadline(Instant::now());
        loop {
            if let Ok(output) = tokio::time::timeout_at(deadline, sent.as_mut()).await {
                return Some(output);
            }
            let moved = progress.map(|p| self.head_deadline(p.last())).filter(|&d| d > deadline);
            deadline = moved?;
        }
    }

    fn head_deadline(&self, last_movement: Instant) -> Instant {
        last_movement + self.settings().limits.response_head_timeout
    }

    fn head_timeout(&self) -> SendError {
        SendError::HeadTimeout {
            host: self.host(),
            after: self.settings().limits.response_head_timeout,
        }
    }

    fn host(&self) -> String {
        self.origin().host().to_owned()
    }
}

/// Whether another version of HTTP may succeed after this error. A host that can't be reached with one version can't be
/// with the other, and waiting twice helps nobody.
fn may_be_version(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::NoHttp2 { .. } | ConnectError::Tls { .. } | ConnectError::Http { .. }
    )
}
