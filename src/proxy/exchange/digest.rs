//! A request with an API key's answer to a challenge.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::send::Sent;
use super::{Exchange, UpstreamResponse};
use crate::credential::digest::{Authorized, BodyForDigest, Digest, Held, Need, Turn, Verdict};
use crate::metrics::AttemptCause;
use crate::proxy::body::{Buffered, RequestBodyError};
use crate::proxy::{ProxyError, credential_probe};

/// How long a chunked body may take to turn out small enough to be repeatable, before Digest treats it as endless.
const BUFFER_TIME: Duration = Duration::from_millis(100);
/// How long a request that can be sent only once holds what Digest requests share.
const MOST_HELD: Duration = Duration::from_secs(1);

/// What [`Exchange::prepare`] came to. Moved once: a box would cost each request an allocation.
#[allow(clippy::large_enum_variant)]
enum Prepared {
    /// A challenge that can be answered.
    ToAuthorize,
    /// The answer to the request, which the upstream gave without a credential.
    Answered(UpstreamResponse),
}

impl Exchange<'_> {
    /// Sends the request with an answer to a challenge; after a 401, with another nonce.
    pub(super) async fn send_with_digest(&mut self, digest: &Arc<Digest>) -> Result<UpstreamResponse, ProxyError> {
        if digest.is_limited() {
            // The body is read first: a request must not count against the limit while its client sends slowly.
            self.buffer(None).await?;
        } else if self.source.length().is_none() {
            // Small chunked bodies are common; knowing that they are small saves the priming request.
            self.buffer(Some(BUFFER_TIME)).await?;
        }
        let mut turn = digest.turn(self.part).await.map_err(ProxyError::from)?;
        let mut challenges = 0;
        loop {
            if let Prepared::Answered(answer) = self.prepare(&mut turn).await? {
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
                // Each count of a nonce (`nc`) is sent only once: the next try uses another nonce.
                turn.forget();
                continue;
            };
            if response.status() != StatusCode::UNAUTHORIZED {
                self.note_answer(&mut turn, &response, authorized.as_ref());
                return Ok(response);
            }
            let verdict = turn.challenged(response.headers(), authorized.as_ref(), challenges);
            if verdict != Verdict::Retry || !self.may_go_again() || !self.take_next_body() {
                turn.give_back();
                self.pass_401_on(digest);
                return Ok(response);
            }
            challenges += 1;
            self.budget.repeat(AttemptCause::DigestChallenge);
            response.into_body().discard().await;
        }
    }

    /// Counts a 401 that a client gets, whatever its reason; after several in a row a probe asks about the key.
    fn pass_401_on(&self, digest: &Arc<Digest>) {
        digest.passes_401_on();
        if digest.suspected() {
            credential_probe::suspect_in_background(self.slot, &self.account, digest, &self.path);
        }
    }

    /// Sends the request, and lets go of what is `held` for it once the upstream must have its head: the rest may come
    /// slowly.
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
                credential_probe::accepted(self.slot, turn, response.headers(), authorized);
            }
            _ => turn.give_back(),
        }
    }

    /// Makes sure that there is a challenge to answer: this costs no request in the steady state.
    async fn prepare(&mut self, turn: &mut Turn<'_>) -> Result<Prepared, ProxyError> {
        if turn.goes_alone() {
            // There are few lanes: none is held while a client sends slowly.
            self.buffer(None).await?;
        }
        let once = !self.source.surely_repeatable();
        let Need::Challenge(lead) = turn.need(once).await.map_err(ProxyError::from)? else {
            return Ok(Prepared::ToAuthorize);
        };
        let itself = self.source.is_empty() && self.budget.is_first();
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
            return Ok(Prepared::Answered(first));
        }
        // The body can be sent only once. That is not risked where the answer says only that nothing passes now, and
        // nothing of the path.
        if once && verdict.is_none() && is_about_the_moment(first.status()) {
            turn.give_back();
            return Ok(Prepared::Answered(first));
        }
        first.into_body().discard().await;
        Ok(Prepared::ToAuthorize)
    }

    /// The whole body, when the upstream wants it in the hash (`auth-int`).
    async fn body_for(&mut self, turn: &mut Turn<'_>) -> Result<Option<Bytes>, ProxyError> {
        if !turn.needs_body() {
            return Ok(None);
        }
        if !self.source.surely_repeatable() {
            // Nothing that is shared is held while a client sends slowly.
            drop(turn.let_go());
        }
        match self.buffer(None).await? {
            Buffered::Whole(bytes) => Ok(Some(bytes)),
            Buffered::TooLarge | Buffered::Unfinished => Err(ProxyError::body_too_large_for_auth_int()),
        }
    }

    async fn buffer(&mut self, limit: Option<Duration>) -> Result<Buffered, ProxyError> {
        self.source
            .buffer(limit)
            .await
            .map_err(|_: RequestBodyError| self.client_error().unwrap_or_else(ProxyError::request_body_broken))
    }
}

/// Whether a status tells nothing of the request: rate limits and faults may come before the request is read.
fn is_about_the_moment(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::TOO_MANY_REQUESTS
        )
}
