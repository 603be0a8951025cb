//! One upstream: chooses a connection, sends a request on it, waits for the head of the answer.

use std::sync::Arc;

use http::{Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::body::UpstreamBody;
use super::connector::{Connector, refused_alpn};
use super::framing::one_framing;
use super::http2::{self, Http2};
use super::pool::{CheckedOut, Connection, Pool};
use super::queue::{self, LONGEST_WAIT};
use super::request::{Progress, SendableBody, UpstreamRequest};
use super::{ConnectError, Era, HttpVersion, Origin, SendError, SendFailure, UpstreamSettings};
use crate::metrics::IntGauge;

/// Fresh connections that one request may try when idle ones turn out dead before a byte was sent.
const MAX_UNSENT_TRIES: usize = 3;

/// One upstream: connects, keeps connections, sends.
pub struct Upstream<B> {
    connector: Connector,
    pool: Arc<Pool<B>>,
    http2: Http2<B>,
}

/// A response head, its body, and for HTTP/1.1 the connection to give back: it serves no other request meanwhile.
type Answered<B> = (http::response::Parts, Incoming, Option<CheckedOut<B>>);

impl<B: SendableBody> Upstream<B> {
    /// An upstream with no connection yet. `tls` comes from [`super::client_config`]; `open` counts open connections; those of
    /// another `era` serve no further request.
    pub fn new(settings: UpstreamSettings, tls: &ClientConfig, open: IntGauge, era: Era) -> Self {
        Self {
            pool: Arc::new(Pool::new(settings.limits.connection_max_age, era.clone())),
            http2: Http2::new(),
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
    pub async fn send(&self, request: UpstreamRequest<B>) -> Result<Response<UpstreamBody<B>>, SendFailure<B>> {
        let UpstreamRequest {
            method,
            path,
            headers,
            body,
            progress,
            once,
            part,
        } = request;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path);
        *request.headers_mut() = headers;
        let Some(place) = queue::place(&part).await else {
            let error = SendError::Queue {
                host: self.origin().host().to_owned(),
                after: LONGEST_WAIT,
            };
            return Err(SendFailure::unsent(error, request));
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
                    let idle_limit = self.settings().limits.response_body_idle_timeout;
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
        mut request: Request<B>,
        progress: Option<&Progress>,
        fresh: bool,
    ) -> Result<Answered<B>, SendFailure<B>> {
        let version = self.settings().http;
        if version == HttpVersion::Http2 {
            return self.attempt_http2(request, progress).await;
        }
        if self.http2.is_only_version() {
            match self.attempt_http2(request, progress).await {
                Err(SendFailure {
                    error: SendError::Connect(error),
                    unsent: Some(back),
                    ..
                }) => {
                    self.http2.forget();
                    if !may_be_version(&error) {
                        return Err(SendFailure::unsent(error, back));
                    }
                    request = back;
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
                    return self.attempt_http2(request, progress).await;
                }
                Err(error) => return Err(SendFailure::unsent(error, request)),
            },
        };
        self.attempt_http1(connection, reused, request, progress).await
    }

    async fn attempt_http1(
        &self,
        mut connection: Connection<B>,
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
        let host = || self.origin().host().to_owned();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendFailure::sent(SendError::Switched { host: host() }, reused));
        }
        if !one_framing(response.headers_mut()) {
            return Err(SendFailure::sent(SendError::Framing { host: host() }, reused));
        }
        connection.note_keep_alive(response.headers());
        let (parts, incoming) = response.into_parts();
        Ok((parts, incoming, Some(CheckedOut::new(connection, &self.pool))))
    }

    async fn attempt_http2(
        &self,
        mut request: Request<B>,
        progress: Option<&Progress>,
    ) -> Result<Answered<B>, SendFailure<B>> {
        let (mut sender, reused) = match self.http2.sender(&self.connector).await {
            Ok(found) => found,
            Err(error) => return Err(SendFailure::unsent(error, request)),
        };
        http2::with_pseudo_fields(&mut request, self.origin());
        let sent = self.head_within(sender.try_send_request(request), progress).await;
        let (parts, incoming) = self.outcome(sent, reused)?.into_parts();
        Ok((parts, incoming, None))
    }

    /// `None`: the response head did not come within the limit, counted from the last movement of the request body.
    async fn head_within<F: Future>(&self, sent: F, progress: Option<&Progress>) -> Option<F::Output> {
        let limit = self.settings().limits.response_head_timeout;
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
        sent: Option<Result<Response<Incoming>, TrySendError<Request<B>>>>,
        reused: bool,
    ) -> Result<Response<Incoming>, SendFailure<B>> {
        let host = || self.origin().host().to_owned();
        match sent {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failed)) => {
                let unsent = failed.take_message();
                let source = failed.into_error();
                let not_processed = http2::says_not_processed(&source);
                let error = SendError::Broken { host: host(), source };
                Err(SendFailure {
                    error,
                    unsent,
                    reused,
                    not_processed,
                })
            }
            None => {
                let after = self.settings().limits.response_head_timeout;
                Err(SendFailure::sent(
                    SendError::HeadTimeout { host: host(), after },
                    reused,
                ))
            }
        }
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
