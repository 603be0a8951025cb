//! One send of a request, and whether it may be repeated when that fails.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::Instant;

use super::{Exchange, UpstreamResponse, is_idempotent};
use crate::metrics::{AttemptCause, UpstreamErrorKind};
use crate::proxy::body::RequestBody;
use crate::proxy::{ProxyError, echo};
use crate::trace::{RequestSpan, SendSpan, Sending};
use crate::upstream::{ConnectError, Head, SendError, SendFailure, UpstreamRequest, certificate_refusal, root_text};

/// How sending ended, if not with an error. Moved once: a box would cost each request an allocation.
#[allow(clippy::large_enum_variant)]
pub(super) enum Sent {
    Answer(UpstreamResponse),
    /// The connection broke, or the upstream did not process the request: sending it again is safe.
    MayRepeat,
}

impl Exchange<'_> {
    /// Sends the request with a credential that may be sent any number of times.
    pub(super) async fn send(&mut self, authorization: Option<HeaderValue>) -> Result<UpstreamResponse, ProxyError> {
        loop {
            if let Sent::Answer(response) = self.send_once(authorization.clone()).await? {
                return Ok(response);
            }
        }
    }

    /// Sends the request. Whether it may be repeated when that fails is decided here.
    pub(super) async fn send_once(&mut self, authorization: Option<HeaderValue>) -> Result<Sent, ProxyError> {
        let Some(body) = self.next_body.take().or_else(|| self.source.next_body()) else {
            return Err(ProxyError::upstream_broke_unrepeatable());
        };
        let cause = self.budget.begin();
        self.last_authorization = authorization;
        let sending = self.begin_sending(cause);
        let mut headers = Cow::Borrowed(&self.headers);
        self.tell_next_proxy(&mut headers);
        let request = UpstreamRequest {
            head: Head {
                method: &self.method,
                path: &self.path,
                headers,
                authorization: self.last_authorization.as_ref(),
            },
            body,
            progress: self.inbound.as_ref().map(|facts| &*facts.progress),
            once: self.source.is_once(),
            part: self.part,
        };
        let failure = match self.ask(request, sending).await {
            Ok(mut response) => {
                match &self.last_authorization {
                    Some(authorization) => echo::clean_head(&mut response, authorization),
                    None => echo::clean_reason(&mut response),
                }
                return Ok(Sent::Answer(response));
            }
            Err(failure) => failure,
        };
        let broken = matches!(failure.error, SendError::Broken { .. });
        // The request may have waited for a stream when its HTTP/2 connection ended; hyper says only that the
        // connection is gone. The content tells: if none of it was asked for, it was not sent, and half a request was
        // not processed. Without content nobody knows.
        let unsent = broken && !failure.was_reset() && self.source.is_unasked();
        let not_processed = (failure.not_processed || unsent) && self.budget.may_repeat_unprocessed();
        if not_processed && self.source.can_repeat() && self.take_next_body() {
            self.budget.repeat(AttemptCause::NotProcessed);
            return Ok(Sent::MayRepeat);
        }
        let may_repeat = broken && failure.reused && is_idempotent(&self.method) && self.may_go_again();
        if may_repeat && self.take_next_body() {
            self.budget.repeat(AttemptCause::Reconnect);
            return Ok(Sent::MayRepeat);
        }
        Err(self.error_of(&failure))
    }

    /// Where the upstream is a proxy of this program, or might be one by mistake, it is told of the way so far. Otherwise it is
    /// Atlas, which is told nothing.
    fn tell_next_proxy(&self, headers: &mut Cow<'_, HeaderMap>) {
        let upstream = &self.account.upstream;
        if self.account.is_behind_gateway() {
            self.onward.put(headers.to_mut());
        } else if self.has_upstreams_name || upstream.is_led_elsewhere() || !upstream.origin().is_tls() {
            self.onward.count(headers.to_mut());
        }
    }

    /// Fetches a challenge without risking the body: same path, no content, no credential.
    pub(super) async fn send_bodyless_get(&mut self) -> Result<UpstreamResponse, ProxyError> {
        let mut headers = self.headers.clone();
        for name in [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
        ] {
            headers.remove(name);
        }
        self.last_authorization = None;
        let sending = self.begin_sending(AttemptCause::DigestChallenge);
        let mut headers = Cow::Owned(headers);
        self.tell_next_proxy(&mut headers);
        let request = UpstreamRequest {
            head: Head {
                method: &Method::GET,
                path: &self.path,
                headers,
                authorization: None,
            },
            body: RequestBody::empty(),
            progress: None,
            once: false,
            part: self.part,
        };
        let sent = self.ask(request, sending).await;
        let mut response = sent.map_err(|failure| self.error_of(&failure))?;
        echo::clean_reason(&mut response);
        Ok(response)
    }

    /// Counts a send that begins now; returns how many went before it.
    fn begin_sending(&mut self, cause: AttemptCause) -> u32 {
        self.slot.metrics.upstream_attempt(cause);
        self.last_sent = Instant::now();
        self.budget.count_sent()
    }

    async fn ask(
        &self,
        mut request: UpstreamRequest<'_, RequestBody>,
        resent: u32,
    ) -> Result<UpstreamResponse, SendFailure<RequestBody>> {
        let span = self.span.map(|span| self.begin_span(span, resent, &mut request.head));
        let result = self.account.upstream.send(request).await;
        if result.is_ok() {
            self.slot.metrics.upstream_duration(self.last_sent.elapsed());
        }
        if let Some(span) = span {
            match &result {
                Ok(response) => span.answered(response.status(), response.version()),
                Err(failure) => span.failed(kind(&failure.error).as_str()),
            }
        }
        result
    }

    fn begin_span(&self, above: &RequestSpan, resent: u32, head: &mut Head<'_>) -> Box<SendSpan> {
        let origin = self.account.upstream.origin();
        let sending = Sending {
            method: head.method,
            scheme: origin.scheme().as_str(),
            host: origin.host(),
            port: origin.port(),
            resent,
            account: &self.slot.name,
        };
        above.send(&sending, head.headers.to_mut())
    }

    /// What the client did, where that is why the request failed.
    pub(super) fn client_error(&self) -> Option<ProxyError> {
        self.inbound.as_ref()?.fault().map(ProxyError::from)
    }

    fn error_of(&self, failure: &SendFailure<RequestBody>) -> ProxyError {
        if let Some(error) = self.client_error() {
            return error;
        }
        self.slot.metrics.upstream_error(kind(&failure.error));
        if self.account.is_behind_gateway()
            && let Some(refusal) = certificate_refusal(&root_text(&failure.error))
        {
            return ProxyError::certificate_refused(refusal);
        }
        let mut error = ProxyError::from(&failure.error);
        // For the log alone: clients learn nothing of where this machine goes.
        if let (Some(way), Some(logged)) = (self.account.upstream.way(), &mut error.logged) {
            logged.push_str(&format!(" ({way}: is that the right place?)"));
        }
        error
    }
}

fn kind(error: &SendError) -> UpstreamErrorKind {
    match error {
        SendError::Connect(ConnectError::Dns { .. }) => UpstreamErrorKind::Dns,
        SendError::Connect(ConnectError::Tls { .. } | ConnectError::NoHttp2 { .. }) => UpstreamErrorKind::Tls,
        SendError::Connect(ConnectError::Timeout { .. }) | SendError::HeadTimeout { .. } => UpstreamErrorKind::Timeout,
        SendError::Connect(_) => UpstreamErrorKind::Connect,
        SendError::Queue { .. } => UpstreamErrorKind::Queue,
        SendError::Broken { .. } | SendError::Switched { .. } | SendError::Framing { .. } => UpstreamErrorKind::Reset,
    }
}
