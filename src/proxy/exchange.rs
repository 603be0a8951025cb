//! One request's tries against the upstream: authorize, send, and decide whether it may go again.
//!
//! What may be sent twice is decided here and nowhere else:
//!
//! | what happened | sent again, within [`MOST_SENDS`] in all |
//! |---|---|
//! | the request was never started | in `upstream`, any method; no send |
//! | the upstream says that it did not process it (RFC 9113 section 8.7) | once, any method, beside the others |
//! | the connection ended before a byte of the content was asked for | the same |
//! | a reused connection broke | an idempotent method (RFC 9110 section 9.2.2) |
//! | 401, and the token was dead | once, with its successor |
//! | 401 to a Digest answer | at most twice, with another nonce |
//! | 401, and the account's credential was replaced meanwhile | with the new one |
//! | 429, and the listener waits for it (`retry_429`) | an idempotent method; bounded by time, and no new budget |
//!
//! All of it only while the body can be repeated.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use memchr::memmem;
use tokio::time::Instant;

use super::body::{BodyFacts, BodySource, Buffered, RequestBody, RequestBodyError};
use super::error::ProxyError;
use super::{Account, AccountSlot, Authorizer, Pipeline, echo, probe};
use crate::code::ErrorCode;
use crate::credential::bearer::Bearer;
use crate::credential::digest::{Authorized, BodyForDigest, Digest, Held, Need, Turn, Verdict};
use crate::fair::Part;
use crate::metrics::{AttemptCause, UpstreamErrorKind};
use crate::time::retry_after;
use crate::upstream::{ConnectError, SendError, SendFailure, UpstreamBody, UpstreamRequest};

/// Sends of one request, whatever their causes; those that wait for a 429 and the one after "not processed" not counted.
const MOST_SENDS: u32 = 3;
/// How long a chunked body may take to turn out small enough to be repeatable, before Digest treats it as endless.
const BUFFER_PATIENCE: Duration = Duration::from_millis(100);
/// How long a request that can be sent only once holds what Digest requests share.
const MOST_HELD: Duration = Duration::from_secs(1);
/// The pause before the first retry of a 429 that names none, and the least of all.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const LEAST_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A refused answer is read up to here, so that its connection can be used again.
const DRAIN_BYTES: usize = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(500);

type UpstreamResponse = Response<UpstreamBody<RequestBody>>;

/// The upstream's final answer.
pub(super) struct Answered {
    pub(super) response: UpstreamResponse,
    /// The account that it was asked with.
    pub(super) account: Arc<Account>,
    /// The credential that it was asked with; nothing of it may come back.
    pub(super) authorization: Option<HeaderValue>,
}

pub(super) struct Exchange<'a> {
    slot: &'a Arc<AccountSlot>,
    part: &'a Arc<Part>,
    /// What was in force when the request came, or what took its place since.
    account: Arc<Account>,
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    source: BodySource,
    /// The body of the next try, where that was taken beforehand.
    next_body: Option<RequestBody>,
    inbound: Option<Arc<BodyFacts>>,
    /// Requests that were sent upstream for this one, for the record.
    attempts: &'a mut u32,
    budget: Budget,
    /// What causes the next try.
    cause: AttemptCause,
    last_sent: Instant,
    last_authorization: Option<HeaderValue>,
}

/// How often the request may still be sent.
struct Budget {
    sends: u32,
    not_processed: bool,
}

impl Budget {
    fn has_room(&self) -> bool {
        self.sends < MOST_SENDS
    }
}

/// How sending ended, if not with an error. Moved once: a box would cost each request an allocation.
#[allow(clippy::large_enum_variant)]
enum Sent {
    Answer(UpstreamResponse),
    /// The connection broke, or the upstream did not process the request: sending it again is safe.
    MayRepeat,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        pipeline: &'a Pipeline,
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
        source: BodySource,
        inbound: Option<Arc<BodyFacts>>,
        attempts: &'a mut u32,
    ) -> Self {
        Self {
            slot: &pipeline.account,
            part: &pipeline.part,
            account: pipeline.account.current(),
            method,
            path,
            headers,
            source,
            next_body: None,
            inbound,
            attempts,
            budget: Budget {
                sends: 0,
                not_processed: false,
            },
            cause: AttemptCause::First,
            last_sent: Instant::now(),
            last_authorization: None,
        }
    }

    /// The upstream's final answer.
    ///
    /// # Errors
    /// What the client gets instead.
    pub(super) async fn run(mut self, retry_429: Option<Duration>) -> Result<Answered, ProxyError> {
        let began = Instant::now();
        let mut waited = 0;
        loop {
            let response = self.send_with_account_in_force().await?;
            let left = retry_429.map(|limit| limit.saturating_sub(began.elapsed()));
            let pause = left.and_then(|left| self.pause_before_retry(&response, waited, left));
            // Taken now, the body stays as it is during the pause: nobody reads on for the try that was refused.
            let Some(pause) = pause.filter(|_| self.take_next_body()) else {
                return Ok(Answered {
                    response,
                    account: self.account,
                    authorization: self.last_authorization,
                });
            };
            drain(response.into_body()).await;
            tokio::time::sleep(pause).await;
            waited += 1;
            // What Atlas would not look at does not count as sent.
            self.budget.sends = self.budget.sends.saturating_sub(1);
            self.cause = AttemptCause::RateLimited;
        }
    }

    /// How long to wait before an answer 429 is asked for again; `None`: it is final.
    fn pause_before_retry(&self, response: &UpstreamResponse, waited: u32, left: Duration) -> Option<Duration> {
        let limited = response.status() == StatusCode::TOO_MANY_REQUESTS;
        if !limited || !is_idempotent(&self.method) || !self.source.can_repeat() {
            return None;
        }
        let headers = response.headers();
        let pause = if headers.contains_key(header::RETRY_AFTER) {
            // What can't be read, or is a date in an answer without one, is for the client to read.
            retry_after(headers, None)?
        } else {
            // Without a word from Atlas: 1, 2, 4 s.
            RETRY_PAUSE.saturating_mul(1 << waited.min(6))
        };
        (pause <= left).then_some(pause.max(LEAST_RETRY_PAUSE))
    }

    /// A credential that was replaced while the request was on its way is no reason to fail.
    async fn send_with_account_in_force(&mut self) -> Result<UpstreamResponse, ProxyError> {
        let result = self.send_with_credential().await;
        let refused = match &result {
            Ok(response) => response.status() == StatusCode::UNAUTHORIZED,
            Err(error) => is_about_credential(error.code),
        };
        if !refused {
            return result;
        }
        let Some(account) = self.successor() else { return result };
        if result.is_ok() && !self.take_next_body() {
            return result;
        }
        if let Ok(response) = result {
            drain(response.into_body()).await;
        }
        self.account = account;
        self.send_with_credential().await
    }

    /// What took the account's place since the request came, if the request can be made with it: at the same upstream, and
    /// with the same body.
    fn successor(&mut self) -> Option<Arc<Account>> {
        let now = self.slot.current();
        let another = !Arc::ptr_eq(&now, &self.account);
        let same_origin = now.upstream.origin() == self.account.upstream.origin();
        (another && same_origin && self.may_go_again()).then_some(now)
    }

    fn may_go_again(&self) -> bool {
        self.budget.has_room() && self.source.can_repeat()
    }

    /// Takes the body for one more try, before the answer or the error that is there is given up. False: it has grown too
    /// large meanwhile, and that is the client's.
    fn take_next_body(&mut self) -> bool {
        self.next_body = self.source.next_body();
        self.next_body.is_some()
    }

    async fn send_with_credential(&mut self) -> Result<UpstreamResponse, ProxyError> {
        match self.account.authorizer.clone() {
            Authorizer::Bearer(bearer) => self.send_with_bearer(&bearer).await,
            Authorizer::Digest(digest) => self.send_with_digest(&digest).await,
        }
    }

    async fn send_with_bearer(&mut self, bearer: &Arc<Bearer>) -> Result<UpstreamResponse, ProxyError> {
        let token = bearer.authorization().await.map_err(ProxyError::from)?;
        let response = self.send(Some(token.header().clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            bearer.accepted_if(|| self.shows_acceptance(response.status()));
            return Ok(response);
        }
        let (slot, account, sent) = (Arc::clone(self.slot), Arc::clone(&self.account), self.last_sent);
        let says_so = says_invalid_token(response.headers());
        if !self.may_go_again() {
            // This request is lost, but the token may be dead for all.
            probe::replace_in_background(&slot, &account, bearer, token, sent, says_so);
            return Ok(response);
        }
        let Some(renewed) = probe::replacement(&slot, &account, bearer, &token, sent, says_so).await else {
            return Ok(response);
        };
        if !self.take_next_body() {
            return Ok(response);
        }
        drain(response.into_body()).await;
        self.cause = AttemptCause::TokenRenewed;
        let response = self.send(Some(renewed.header().clone())).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // Whatever it says: the token is new, and a probe tells.
            probe::replace_in_background(&slot, &account, bearer, renewed, self.last_sent, false);
        } else {
            bearer.accepted_if(|| self.shows_acceptance(response.status()));
        }
        Ok(response)
    }

    async fn send_with_digest(&mut self, digest: &Arc<Digest>) -> Result<UpstreamResponse, ProxyError> {
        if digest.is_limited() {
            // The limit counts no request whose client makes up its mind.
            self.buffer(None).await?;
        } else if self.source.length().is_none() {
            // Small chunked bodies are common; knowing that they are small saves the priming request.
            self.buffer(Some(BUFFER_PATIENCE)).await?;
        }
        let mut turn = digest.turn(self.part).await.map_err(ProxyError::from)?;
        let mut retries = 0;
        loop {
            if let Some(answer) = self.fetch_challenge(&mut turn).await? {
                if answer.status() == StatusCode::UNAUTHORIZED {
                    self.pass_401_on(digest);
                }
                return Ok(answer);
            }
            let body = self.body_for(&mut turn).await?;
            let body = body.as_deref().map_or(BodyForDigest::Unknown, BodyForDigest::Bytes);
            let authorized = turn.authorize(&self.method, self.path.as_str(), body);
            let header = authorized.as_ref().map(|authorized| authorized.header.clone());
            let held = (!self.source.surely_repeatable()).then(|| turn.let_go());
            let Sent::Answer(response) = self.send_holding(held, header).await? else {
                // Each count of a nonce goes out once: the next try has another.
                turn.forget();
                continue;
            };
            if response.status() != StatusCode::UNAUTHORIZED {
                self.note_answer(&mut turn, &response, authorized.as_ref());
                return Ok(response);
            }
            let verdict = turn.challenged(response.headers(), authorized.as_ref(), retries);
            if verdict != Verdict::Retry || !self.may_go_again() || !self.take_next_body() {
                turn.give_back();
                self.pass_401_on(digest);
                return Ok(response);
            }
            retries += 1;
            self.cause = AttemptCause::DigestChallenge;
            drain(response.into_body()).await;
        }
    }

    /// Whether a status tells that the credential passed. A request of a client's choice must not make up for the refusals of
    /// all others: something before Atlas may answer 3xx and 4xx to whom it does not know, and some paths need no credential.
    fn shows_acceptance(&self, status: StatusCode) -> bool {
        (status.is_success() || status == StatusCode::NOT_MODIFIED) && !needs_no_credential(self.path.path())
    }

    /// Whatever the reason of a 401 that a client gets, it is asked about when it comes again and again.
    fn pass_401_on(&self, digest: &Arc<Digest>) {
        digest.passes_401_on();
        if digest.suspected() {
            probe::suspect_in_background(self.slot, &self.account, digest, &self.path);
        }
    }

    /// Sends the request, and lets go of what is `held` for it when the upstream must have its head: the rest comes when the
    /// client pleases.
    async fn send_holding(
        &mut self,
        held: Option<Held>,
        authorization: Option<HeaderValue>,
    ) -> Result<Sent, ProxyError> {
        let mut sent = std::pin::pin!(self.send_once(authorization));
        if let Some(held) = held {
            if let Ok(sent) = tokio::time::timeout(MOST_HELD, sent.as_mut()).await {
                return sent;
            }
            drop(held);
        }
        sent.await
    }

    fn note_answer(&self, turn: &mut Turn<'_>, response: &UpstreamResponse, authorized: Option<&Authorized>) {
        match authorized {
            Some(authorized) if self.shows_acceptance(response.status()) => {
                probe::accepted(self.slot, turn, response.headers(), authorized);
            }
            _ => turn.give_back(),
        }
    }

    /// Sees to it that there is a challenge to answer: this costs no request in the steady state.
    /// `Some`: the answer to the request, which the upstream gave without a credential.
    async fn fetch_challenge(&mut self, turn: &mut Turn<'_>) -> Result<Option<UpstreamResponse>, ProxyError> {
        if turn.goes_alone() {
            // There are few lanes: none is held while a client makes up its mind.
            self.buffer(None).await?;
        }
        let once = !self.source.surely_repeatable();
        let Need::Challenge(lead) = turn.need(once).await.map_err(ProxyError::from)? else {
            return Ok(None);
        };
        let itself = self.source.is_empty() && self.budget.sends == 0;
        let first = if itself {
            self.send(None).await?
        } else {
            self.send_bodyless_get().await?
        };
        let verdict = match (first.status() == StatusCode::UNAUTHORIZED, itself) {
            (false, _) => None,
            (true, true) => Some(turn.challenged(first.headers(), None, 0)),
            (true, false) => Some(turn.primed(first.headers())),
        };
        if let Some(lead) = lead {
            lead.answered();
        }
        // A path that needs no credential has answered; a 401 that cannot be answered is an answer, too.
        if itself && verdict != Some(Verdict::Retry) {
            return Ok(Some(first));
        }
        // The one chance of the body is not spent where this tells nothing of the path, but that nothing passes now.
        if once && verdict.is_none() && is_about_the_moment(first.status()) {
            turn.give_back();
            return Ok(Some(first));
        }
        drain(first.into_body()).await;
        Ok(None)
    }

    /// The whole body, when the upstream wants it in the hash (`auth-int`).
    async fn body_for(&mut self, turn: &mut Turn<'_>) -> Result<Option<bytes::Bytes>, ProxyError> {
        if !turn.needs_body() {
            return Ok(None);
        }
        if !self.source.surely_repeatable() {
            // Nothing that is shared is held while a client makes up its mind.
            drop(turn.let_go());
        }
        match self.buffer(None).await? {
            Buffered::Whole(bytes) => Ok(Some(bytes)),
            Buffered::TooLarge | Buffered::Unfinished => Err(ProxyError::body_too_large_for_auth_int()),
        }
    }

    async fn buffer(&mut self, patience: Option<Duration>) -> Result<Buffered, ProxyError> {
        self.source
            .buffer(patience)
            .await
            .map_err(|_: RequestBodyError| self.client_error().unwrap_or_else(ProxyError::request_body_broken))
    }

    /// Sends the request with a credential that may go as often as one likes.
    async fn send(&mut self, authorization: Option<HeaderValue>) -> Result<UpstreamResponse, ProxyError> {
        loop {
            if let Sent::Answer(response) = self.send_once(authorization.clone()).await? {
                return Ok(response);
            }
        }
    }

    /// Sends the request. Whether it may be repeated when that fails is decided here.
    async fn send_once(&mut self, authorization: Option<HeaderValue>) -> Result<Sent, ProxyError> {
        let Some(body) = self.next_body.take().or_else(|| self.source.next_body()) else {
            return Err(ProxyError::upstream_broke_unrepeatable());
        };
        self.budget.sends += 1;
        let mut headers = self.headers.clone();
        if let Some(authorization) = &authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        self.last_authorization = authorization;
        let request = UpstreamRequest {
            method: self.method.clone(),
            path: self.path.clone(),
            headers,
            body,
            progress: self.inbound.as_ref().map(|facts| facts.progress.clone()),
            once: self.source.is_once(),
            part: Arc::clone(self.part),
        };
        let failure = match self.ask(request, self.cause).await {
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
        // A request that waited for a stream when the connection of HTTP/2 ended, of which hyper says only that it is gone.
        // Its content tells: what nobody asked for was not sent, and half a request was not processed. Without content
        // nobody knows.
        let unsent = broken && self.source.is_unasked();
        let not_processed = (failure.not_processed || unsent) && !self.budget.not_processed;
        if not_processed && self.source.can_repeat() && self.take_next_body() {
            self.budget.not_processed = true;
            self.budget.sends -= 1;
            self.cause = AttemptCause::NotProcessed;
            return Ok(Sent::MayRepeat);
        }
        let may_repeat = broken && failure.reused && is_idempotent(&self.method) && self.may_go_again();
        if may_repeat && self.take_next_body() {
            self.cause = AttemptCause::Reconnect;
            return Ok(Sent::MayRepeat);
        }
        Err(self.error_of(&failure))
    }

    /// Fetches a challenge without risking the body: same path, no content, no credential.
    async fn send_bodyless_get(&mut self) -> Result<UpstreamResponse, ProxyError> {
        let mut headers = self.headers.clone();
        for name in [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
        ] {
            headers.remove(name);
        }
        let request = UpstreamRequest {
            method: Method::GET,
            path: self.path.clone(),
            headers,
            body: RequestBody::empty(),
            progress: None,
            once: false,
            part: Arc::clone(self.part),
        };
        self.last_authorization = None;
        let sent = self.ask(request, AttemptCause::DigestChallenge).await;
        let mut response = sent.map_err(|failure| self.error_of(&failure))?;
        echo::clean_reason(&mut response);
        Ok(response)
    }

    async fn ask(
        &mut self,
        request: UpstreamRequest<RequestBody>,
        cause: AttemptCause,
    ) -> Result<UpstreamResponse, SendFailure<RequestBody>> {
        *self.attempts += 1;
        self.slot.metrics.upstream_attempt(cause);
        self.last_sent = Instant::now();
        let result = self.account.upstream.send(request).await;
        if result.is_ok() {
            self.slot.metrics.upstream_duration(self.last_sent.elapsed());
        }
        result
    }

    /// What the client did, where that is why the request failed.
    fn client_error(&self) -> Option<ProxyError> {
        self.inbound.as_ref()?.fault().map(ProxyError::from)
    }

    fn error_of(&self, failure: &SendFailure<RequestBody>) -> ProxyError {
        if let Some(error) = self.client_error() {
            return error;
        }
        self.slot.metrics.upstream_error(kind(&failure.error));
        ProxyError::from(&failure.error)
    }
}

/// Whether a 401 to a token names the token as its reason (RFC 6750 section 3.1).
fn says_invalid_token(headers: &HeaderMap) -> bool {
    headers.get_all(header::WWW_AUTHENTICATE).iter().any(|value| {
        let value = value.as_bytes();
        let bearer = value
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"));
        bearer && memmem::find(value, b"invalid_token").is_some()
    })
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

/// Atlas's paths for those who have no credential yet (`/api/private/unauth/…`), in any spelling that a server could read so.
fn needs_no_credential(path: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let private = |segment: &str| {
        segment
            .get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case("unauth"))
    };
    decoded.split(['/', '\\', ';']).any(private) || decoded.contains('%')
}

/// Whether a status tells nothing of the request. Rate limits and faults may come before it is looked at.
fn is_about_the_moment(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
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
pub(super) async fn drain(mut body: UpstreamBody<RequestBody>) {
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
