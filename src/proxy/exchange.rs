//! One request's tries against the upstream: authorize, send, and decide whether it may go again.
//!
//! What may be sent twice is decided here and nowhere else. A request that was never started may go again. One that a 401
//! refused may go again with a new credential when its body can be repeated. One whose reused connection broke may go
//! again when its method is idempotent (RFC 9110 section 9.2.2) and its body can be repeated.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use memchr::memmem;
use tokio::time::Instant;

use super::answer::Record;
use super::error::ProxyError;
use super::inbound::{Buffered, RequestBody, RequestBodyError, Source};
use super::{Account, AccountSlot, Authorizer, Listener, client_fault};
use crate::code::ErrorCode;
use crate::credential::bearer::Bearer;
use crate::credential::digest::{BodyForDigest, Digest, Verdict};
use crate::fair::Part;
use crate::metrics::{AttemptCause, UpstreamErrorKind};
use crate::upstream::{ConnectError, Outbound, SendError, SendFailure, UpstreamBody};

/// How long a chunked body may take to turn out small enough to be repeatable, before Digest treats it as endless.
const BUFFER_PATIENCE: Duration = Duration::from_millis(100);
/// The pause before the first retry of a 429 that names none, and the least of all.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const LEAST_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A refused answer is read up to here, so that its connection can be used again.
const DRAIN_BYTES: usize = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(500);

type UpstreamResponse = Response<UpstreamBody<RequestBody>>;

pub(super) struct Exchange<'a> {
    slot: &'a AccountSlot,
    part: &'a Arc<Part>,
    /// What was in force when the request came, or what took its place since.
    account: Arc<Account>,
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    source: Source,
    /// What causes the next try, unless that try knows better.
    first_cause: AttemptCause,
}

/// What one try needs beside the request.
struct Try {
    authorization: Option<HeaderValue>,
    cause: AttemptCause,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        listener: &'a Listener,
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
        source: Source,
    ) -> Self {
        let slot = &listener.account;
        Self {
            slot,
            part: &listener.part,
            account: slot.current(),
            method,
            path,
            headers,
            source,
            first_cause: AttemptCause::First,
        }
    }

    /// The upstream's final answer, and the account that it was asked with.
    ///
    /// # Errors
    /// What the client gets instead.
    pub(super) async fn run(
        mut self,
        retry_429: Option<Duration>,
        record: &mut Record,
    ) -> Result<(UpstreamResponse, Arc<Account>), ProxyError> {
        let began = Instant::now();
        let mut waited = 0;
        loop {
            let response = self.recovered(record).await?;
            let left = retry_429.map(|limit| limit.saturating_sub(began.elapsed()));
            let Some(pause) = left.and_then(|left| self.pause_before_retry(&response, waited, left)) else {
                return Ok((response, self.account));
            };
            drain(response).await;
            tokio::time::sleep(pause).await;
            waited += 1;
            self.first_cause = AttemptCause::RateLimited;
        }
    }

    /// How long to wait before an answer 429 is asked for again; `None`: it is final.
    fn pause_before_retry(&self, response: &UpstreamResponse, waited: u32, left: Duration) -> Option<Duration> {
        let limited = response.status() == StatusCode::TOO_MANY_REQUESTS;
        if !limited || !is_idempotent(&self.method) || !self.source.can_repeat() {
            return None;
        }
        let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| {
            let seconds = value.to_str().ok()?.trim().parse().ok()?;
            Some(Duration::from_secs(seconds))
        });
        // Without a word from Atlas: 1, 2, 4 s. Its header may be absent.
        let pause = asked.unwrap_or_else(|| RETRY_PAUSE.saturating_mul(1 << waited.min(6)));
        (pause <= left).then_some(pause.max(LEAST_RETRY_PAUSE))
    }

    async fn recovered(&mut self, record: &mut Record) -> Result<UpstreamResponse, ProxyError> {
        let result = self.with_credential(record).await;
        // A credential that was replaced while the request was on its way is no reason to fail.
        let response = match result {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED && self.successor().is_some() => {
                drain(response).await;
                None
            }
            Err(error) if is_about_credential(error.code) && self.successor().is_some() => None,
            other => Some(other?),
        };
        let response = match response {
            Some(response) => response,
            None => {
                if let Some(account) = self.successor() {
                    self.account = account;
                }
                self.with_credential(record).await?
            }
        };
        Ok(response)
    }

    /// What took the account's place since the request came, if the request can be made with it: at the same upstream, and
    /// with the same body.
    fn successor(&mut self) -> Option<Arc<Account>> {
        let now = self.slot.current();
        let another = !Arc::ptr_eq(&now, &self.account);
        let same_origin = now.upstream.origin() == self.account.upstream.origin();
        (another && same_origin && self.source.can_repeat()).then_some(now)
    }

    async fn with_credential(&mut self, record: &mut Record) -> Result<UpstreamResponse, ProxyError> {
        match self.account.authorizer.clone() {
            Authorizer::Bearer(bearer) => self.with_bearer(&bearer, record).await,
            Authorizer::Digest(digest) => self.with_digest(&digest, record).await,
        }
    }

    async fn with_bearer(&mut self, bearer: &Arc<Bearer>, record: &mut Record) -> Result<UpstreamResponse, ProxyError> {
        let token = bearer.authorization().await.map_err(ProxyError::from)?;
        let first = Try {
            authorization: Some(token.header().clone()),
            cause: self.first_cause,
        };
        let mut response = self.send(first, record).await?;
        drop_echoes(response.headers_mut(), token.header());
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        if !self.source.can_repeat() {
            // This request is lost, but the token may be bad for all: renewed beside it, under the same bounds.
            let bearer = Arc::clone(bearer);
            tokio::spawn(async move { bearer.refused(&token).await });
            return Ok(response);
        }
        let Some(renewed) = bearer.refused(&token).await else {
            return Ok(response);
        };
        drain(response).await;
        let again = Try {
            authorization: Some(renewed.header().clone()),
            cause: AttemptCause::TokenRenewed,
        };
        let mut response = self.send(again, record).await?;
        drop_echoes(response.headers_mut(), renewed.header());
        Ok(response)
    }

    async fn with_digest(&mut self, digest: &Digest, record: &mut Record) -> Result<UpstreamResponse, ProxyError> {
        let _permit = digest.permit().await.map_err(ProxyError::from)?;
        if self.source.length().is_none() {
            // Small chunked bodies are common; knowing that they are small saves the priming request.
            self.buffer(Some(BUFFER_PATIENCE), record).await?;
        }
        if let Some(answer) = self.prime(digest, record).await? {
            return Ok(answer);
        }
        let mut cause = self.first_cause;
        let mut retries = 0;
        let mut reconnected = false;
        loop {
            let body = self.body_for(digest, record).await?;
            let body = body.as_deref().map_or(BodyForDigest::Unknown, BodyForDigest::Bytes);
            let authorized = digest.authorize(&self.method, self.path.as_str(), body);
            let authorization = authorized.as_ref().map(|authorized| authorized.header.clone());
            let this = Try { authorization, cause };
            let Some(response) = self.send_unless_again(&this, !reconnected, record).await? else {
                // Each count of a nonce goes out once: the next try has another.
                reconnected = true;
                cause = AttemptCause::Reconnect;
                continue;
            };
            if response.status() != StatusCode::UNAUTHORIZED {
                if let Some(authorized) = authorized.filter(|_| shows_acceptance(response.status())) {
                    digest.observe_success(response.headers(), &authorized);
                }
                return Ok(response);
            }
            let verdict = digest.challenged(response.headers(), authorized.as_ref(), retries);
            if verdict != Verdict::Retry || !self.source.can_repeat() {
                return Ok(response);
            }
            retries += 1;
            cause = AttemptCause::DigestChallenge;
            drain(response).await;
        }
    }

    /// Sees to it that there is a challenge to answer: this costs no request in the steady state.
    /// `Some`: the upstream answered the request itself, without a credential.
    async fn prime(&mut self, digest: &Digest, record: &mut Record) -> Result<Option<UpstreamResponse>, ProxyError> {
        // Only one of the requests that find no challenge goes ahead; the others wait for what it brings.
        let lead = if digest.has_challenge() {
            None
        } else {
            digest.prime().await
        };
        let once = !self.source.surely_repeatable() && !digest.fresh_enough_for_streaming();
        if lead.is_none() && !once {
            return Ok(None);
        }
        let itself = self.source.is_empty();
        let first = if itself {
            self.send(
                Try {
                    authorization: None,
                    cause: AttemptCause::First,
                },
                record,
            )
            .await?
        } else {
            self.send_bodyless_get(record).await?
        };
        let challenged = first.status() == StatusCode::UNAUTHORIZED;
        let verdict = match (challenged, itself) {
            (false, _) => None,
            (true, true) => Some(digest.challenged(first.headers(), None, 0)),
            (true, false) => Some(digest.primed(first.headers())),
        };
        if let Some(lead) = lead {
            lead.answered();
        }
        // A path that needs no credential has answered; a 401 that cannot be answered is an answer, too.
        if itself && verdict != Some(Verdict::Retry) {
            return Ok(Some(first));
        }
        drain(first).await;
        Ok(None)
    }

    /// The whole body, when the upstream wants it in the hash (`auth-int`).
    async fn body_for(&mut self, digest: &Digest, record: &Record) -> Result<Option<bytes::Bytes>, ProxyError> {
        if !digest.needs_body() {
            return Ok(None);
        }
        match self.buffer(None, record).await? {
            Buffered::Whole(bytes) => Ok(Some(bytes)),
            Buffered::TooLarge | Buffered::Unfinished => Err(ProxyError::body_too_large_for_auth_int()),
        }
    }

    async fn buffer(&mut self, patience: Option<Duration>, record: &Record) -> Result<Buffered, ProxyError> {
        self.source.buffer(patience).await.map_err(|_: RequestBodyError| {
            client_fault(record.inbound.as_ref()).unwrap_or_else(ProxyError::request_body_broken)
        })
    }

    /// Sends the request; once more over a new connection when that cannot do harm.
    async fn send(&mut self, this: Try, record: &mut Record) -> Result<UpstreamResponse, ProxyError> {
        if let Some(response) = self.send_unless_again(&this, true, record).await? {
            return Ok(response);
        }
        let again = Try {
            authorization: this.authorization,
            cause: AttemptCause::Reconnect,
        };
        match self.send_unless_again(&again, false, record).await? {
            Some(response) => Ok(response),
            None => Err(ProxyError::upstream_broke_unrepeatable()),
        }
    }

    /// Sends the request. `None`, only if it `may` be: the reused connection broke, and sending it again cannot do harm.
    async fn send_unless_again(
        &mut self,
        this: &Try,
        may: bool,
        record: &mut Record,
    ) -> Result<Option<UpstreamResponse>, ProxyError> {
        let failure = match self.send_once(this, record).await? {
            Ok(response) => return Ok(Some(response)),
            Err(failure) => failure,
        };
        let broken = matches!(failure.error, SendError::Broken { .. });
        if may && broken && failure.reused && is_idempotent(&self.method) && self.source.can_repeat() {
            return Ok(None);
        }
        Err(self.failed(&failure, record))
    }

    async fn send_once(
        &mut self,
        this: &Try,
        record: &mut Record,
    ) -> Result<Result<UpstreamResponse, SendFailure<RequestBody>>, ProxyError> {
        let Some(body) = self.source.next_body() else {
            return Err(ProxyError::upstream_broke_unrepeatable());
        };
        let mut headers = self.headers.clone();
        if let Some(authorization) = &this.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let outbound = Outbound {
            method: self.method.clone(),
            path: self.path.clone(),
            headers,
            body,
            progress: record.inbound.as_ref().map(|facts| facts.progress.clone()),
            once: self.source.is_once(),
            part: Arc::clone(self.part),
        };
        Ok(self.timed(outbound, this.cause, record).await)
    }

    /// Fetches a challenge without risking the body: same path, no content, no credential.
    async fn send_bodyless_get(&mut self, record: &mut Record) -> Result<UpstreamResponse, ProxyError> {
        let mut headers = self.headers.clone();
        for name in [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
        ] {
            headers.remove(name);
        }
        let outbound = Outbound {
            method: Method::GET,
            path: self.path.clone(),
            headers,
            body: RequestBody::empty(),
            progress: None,
            once: false,
            part: Arc::clone(self.part),
        };
        let sent = self.timed(outbound, AttemptCause::DigestChallenge, record).await;
        sent.map_err(|failure| self.failed(&failure, record))
    }

    async fn timed(
        &self,
        outbound: Outbound<RequestBody>,
        cause: AttemptCause,
        record: &mut Record,
    ) -> Result<UpstreamResponse, SendFailure<RequestBody>> {
        record.attempts += 1;
        self.slot.metrics.upstream_attempt(cause);
        let start = Instant::now();
        let result = self.account.upstream.send(outbound).await;
        if result.is_ok() {
            self.slot.metrics.upstream_duration(start.elapsed());
        }
        result
    }

    fn failed(&self, failure: &SendFailure<RequestBody>, record: &Record) -> ProxyError {
        if let Some(fault) = client_fault(record.inbound.as_ref()) {
            return fault;
        }
        self.slot.metrics.upstream_error(kind(&failure.error));
        ProxyError::from(&failure.error)
    }
}

/// A shorter token could stand in a field by chance. Atlas's have hundreds of characters.
const LEAST_ECHO: usize = 12;

/// Drops fields in which the upstream, or something before it, repeats the token that it was sent. A token is longer than
/// nearly every field, so that this seldom looks at a byte.
fn drop_echoes(headers: &mut HeaderMap, authorization: &HeaderValue) {
    let token = authorization.as_bytes();
    let token = token.strip_prefix(b"Bearer ").unwrap_or(token);
    let echoes = |value: &HeaderValue| value.len() >= token.len() && memmem::find(value.as_bytes(), token).is_some();
    if token.len() < LEAST_ECHO || !headers.values().any(echoes) {
        return;
    }
    let names: Vec<HeaderName> = headers
        .iter()
        .filter(|(_, value)| echoes(value))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        headers.remove(name);
    }
}

fn is_about_credential(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TokenUnavailable | ErrorCode::CredentialRejected)
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}

/// Whether a status tells that the credential passed. Rate limits and faults may come before it is looked at.
fn shows_acceptance(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(
            status,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::TOO_MANY_REQUESTS
        )
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

/// Reads the rest of an answer that nobody will see, if it is short, so that its connection goes back to the pool.
async fn drain(response: UpstreamResponse) {
    let mut body = response.into_body();
    let read = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}
