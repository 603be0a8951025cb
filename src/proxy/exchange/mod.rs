//! One request's tries against the upstream: authorize, send, and decide whether it may go again.
//!
//! What may be sent twice is decided here and nowhere else:
//!
//! | what happened | sent again, within three in all (`attempt_budget`) |
//! |---|---|
//! | the request was never started | in `upstream`, any method; no send |
//! | the upstream says that it did not process it (RFC 9113 section 8.7) | once, any method, beyond the three |
//! | the connection ended before a byte of the content was asked for | the same |
//! | a reused connection broke | an idempotent method (RFC 9110 section 9.2.2) |
//! | 401, and the token was dead | once, with its successor |
//! | 401 to a Digest answer | at most twice, with another nonce |
//! | 401 of a gateway that does not know who this is | once, with the identity read anew |
//! | 401, and the account's credential was replaced meanwhile | with the new one |
//! | 429, and the listener waits for it (`retry_429`) | an idempotent method; bounded by time, and no new budget |
//!
//! All of it only while the body can be repeated.
//!
//! ```text
//! mod      run: the account in force, its successor, waits for 429
//!   ├ bearer   with a token; a 401 may bring its successor
//!   ├ identity with what a gateway is shown
//!   ├ digest   with an answer to a challenge; a 401 may bring another nonce
//!   └ send     one send, and whether it may be repeated when it fails; attempt_budget: how often
//! ```

mod attempt_budget;
mod bearer;
mod digest;
mod identity;
mod send;

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::time::Instant;

use super::body::{BodyFacts, BodySource, RequestBody};
use super::error::ProxyError;
use super::own_fields::{Hops, Onward};
use super::record::Record;
use super::{Account, AccountSlot, Authorizer, Pipeline};
use crate::code::ErrorCode;
use crate::fair::Part;
use crate::metrics::AttemptCause;
use crate::time::retry_after;
use crate::trace::RequestSpan;
use crate::upstream::UpstreamBody;

use attempt_budget::AttemptBudget;
pub(super) use identity::StillUnknown;

/// The pause before the first retry of a 429 that names none, and the least pause of all.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const LEAST_RETRY_PAUSE: Duration = Duration::from_millis(100);

type UpstreamResponse = Response<UpstreamBody<RequestBody>>;

/// The upstream's final answer.
pub(super) struct Answered {
    pub(super) response: UpstreamResponse,
    /// The account that the request was sent for.
    pub(super) account: Arc<Account>,
    /// The request's own header fields, as sent.
    pub(super) asked: HeaderMap,
    /// The credential that the request was sent with; nothing of it may come back.
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
    /// The body of the next try, if it was taken beforehand.
    next_body: Option<RequestBody>,
    inbound: Option<Arc<BodyFacts>>,
    /// What a gateway is told beside the request.
    onward: Onward,
    /// Clients call the listener by the upstream's name: where that leads is for a hosts file to say.
    has_upstreams_name: bool,
    budget: AttemptBudget<'a>,
    /// The request's span: each send has one below it.
    span: Option<&'a RequestSpan>,
    last_sent: Instant,
    last_authorization: Option<HeaderValue>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        pipeline: &'a Pipeline,
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
        source: BodySource,
        hops: Hops,
        record: &'a mut Record,
    ) -> Self {
        let caller = pipeline.callers.as_ref().and_then(|callers| callers.name(record.who));
        let account = pipeline.account.current();
        let has_upstreams_name = pipeline.rules.hosts.named_dns(account.upstream.origin().host());
        Self {
            slot: &pipeline.account,
            part: &pipeline.portion(record.who).upstream,
            account,
            method,
            path,
            headers,
            source,
            next_body: None,
            inbound: record.inbound.clone(),
            onward: Onward::new(hops, caller),
            has_upstreams_name,
            budget: AttemptBudget::new(&mut record.attempts),
            span: record.span.as_deref(),
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
        loop {
            let response = self.send_with_account_in_force().await?;
            let left = retry_429.map(|limit| limit.saturating_sub(began.elapsed()));
            let pause = left.and_then(|left| self.pause_before_retry(&response, left));
            // Taken now, the body stays as it is during the pause: nobody reads on for the try that was refused.
            let Some(pause) = pause.filter(|_| self.take_next_body()) else {
                return Ok(Answered {
                    response,
                    account: self.account,
                    asked: self.headers,
                    authorization: self.last_authorization,
                });
            };
            response.into_body().discard().await;
            tokio::time::sleep(pause).await;
            self.budget.repeat(AttemptCause::RateLimited);
        }
    }

    /// How long to wait before an answer 429 is asked for again; `None`: it is final.
    fn pause_before_retry(&self, response: &UpstreamResponse, left: Duration) -> Option<Duration> {
        let limited = response.status() == StatusCode::TOO_MANY_REQUESTS;
        if !limited || !is_idempotent(&self.method) || !self.source.can_repeat() {
            return None;
        }
        let headers = response.headers();
        let pause = if headers.contains_key(header::RETRY_AFTER) {
            // A value that can't be parsed, and a date in an answer without `Date`, are left to the client.
            retry_after(headers, None)?
        } else {
            // Without `Retry-After`: 1, 2, 4 s.
            RETRY_PAUSE.saturating_mul(1 << self.budget.rate_limits().min(6))
        };
        (pause <= left).then_some(pause.max(LEAST_RETRY_PAUSE))
    }

    /// Sends the request, and again if its credential is refused and was replaced meanwhile.
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
            response.into_body().discard().await;
        }
        self.account = account;
        self.send_with_credential().await
    }

    /// The account that is in force now, if it has replaced the request's and the request can be made with it: at the
    /// same upstream, and with the same body.
    fn successor(&mut self) -> Option<Arc<Account>> {
        let now = self.slot.current();
        let another = !now.is_same_as(&self.account);
        let same_origin = now.upstream.origin() == self.account.upstream.origin();
        (another && same_origin && self.may_go_again()).then_some(now)
    }

    fn may_go_again(&self) -> bool {
        self.budget.has_room() && self.source.can_repeat()
    }

    /// Takes the body for one more try, before the answer or the error at hand is given up. False: the body has grown
    /// too large meanwhile, and the client gets that answer or error.
    fn take_next_body(&mut self) -> bool {
        self.next_body = self.source.next_body();
        self.next_body.is_some()
    }

    async fn send_with_credential(&mut self) -> Result<UpstreamResponse, ProxyError> {
        match self.account.authorizer.clone() {
            Authorizer::Bearer(bearer) => self.send_with_bearer(&bearer).await,
            Authorizer::Digest(digest) => self.send_with_digest(&digest).await,
            Authorizer::Identity(identity) => self.send_with_identity(&identity).await,
        }
    }

    /// Whether a status shows that the credential was accepted. A request of a client's choice must not make up for the
    /// refusals of all others: something before Atlas may answer unknown clients 3xx and 4xx, and some paths need no
    /// credential.
    fn shows_acceptance(&self, status: StatusCode) -> bool {
        (status.is_success() || status == StatusCode::NOT_MODIFIED) && !needs_no_credential(self.path.path())
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

/// Atlas's paths for clients that have no credential yet (`/api/private/unauth/…`), in any spelling that a server could
/// read so.
fn needs_no_credential(path: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let private = |segment: &str| {
        segment
            .get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case("unauth"))
    };
    decoded.split(['/', '\\', ';']).any(private) || decoded.contains('%')
}
