//! Verifies that Atlas accepts a credential before it replaces another.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::atlas_api::{ApiClient, CallError, Session};
use crate::credential::bearer::{Bearer, Outcome};
use crate::credential::digest::DigestEvents;
use crate::credential::{ApiKeyPair, ServiceAccountKey};

/// The call that shows whether a key is accepted: every credential may make it, and the answer is short.
const PROBE: &str = "/api/atlas/v2/groups?itemsPerPage=1";
/// The pause between two tries: doubles from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What shows that a credential is accepted.
#[derive(Clone)]
pub(super) enum Verification {
    /// The first token of the account's renewal.
    FirstToken(Arc<Bearer>),
    /// A token that is asked for and revoked again: the renewal's may come from another replica.
    TokenOfItsOwn(ServiceAccountKey),
    /// A call with the API key.
    Call(ApiKeyPair),
    /// Nothing: a gateway is not probed, and the identity could be read.
    Nothing,
}

/// Waits until Atlas has accepted a credential; `refused` is told each time why it did not. A refusal is not final: Atlas may
/// need a moment to know a new secret, and one answer may be wrong. False: the renewal has ended.
pub(super) async fn accepted(by: &Verification, client: &ApiClient, mut refused: impl FnMut(&str)) -> bool {
    match by {
        // Its renewal is running already, with a backoff of its own.
        Verification::FirstToken(bearer) => return bearer.verified(|refusal| refused(&refusal.cause)).await,
        Verification::TokenOfItsOwn(key) => until_accepted(|| token(key, client), refused).await,
        Verification::Nothing => {}
        Verification::Call(key) => until_accepted(|| probe(key, client), refused).await,
    }
    true
}

async fn until_accepted<F, Fut>(ask: F, mut refused: impl FnMut(&str))
where
    F: Fn() -> Fut,
    Fut: Future<Output = Answer>,
{
    let mut pause = PAUSES.0;
    loop {
        match ask().await {
            Answer::Accepted => return,
            Answer::Refused(why) => refused(&why),
            Answer::Unknown(why) => tracing::warn!(
                why,
                again_in_seconds = pause.as_secs(),
                "the new credential can't be verified yet"
            ),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

enum Answer {
    Accepted,
    Refused(String),
    Unknown(String),
}

async fn token(key: &ServiceAccountKey, client: &ApiClient) -> Answer {
    match Session::open(client, key.clone()).await {
        Ok(session) => {
            if let Err(refusal) = session.close().await {
                tracing::warn!(cause = %refusal, "the token that showed it could not be revoked: it lives until it expires");
            }
            Answer::Accepted
        }
        Err(refusal) if refusal.outcome == Outcome::Rejected => Answer::Refused(refusal.cause),
        Err(refusal) => Answer::Unknown(refusal.cause),
    }
}

async fn probe(key: &ApiKeyPair, client: &ApiClient) -> Answer {
    let api = match client.with_key(key.clone(), Arc::new(Unheard)) {
        Ok(api) => api,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    match api.call(Method::GET, PROBE, None).await {
        Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
            Answer::Refused(format!("the upstream refuses the API key: {}", answer.summary()))
        }
        Ok(answer) if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS => {
            Answer::Unknown(format!("the upstream answered {}", answer.summary()))
        }
        Ok(_) => Answer::Accepted,
        Err(CallError::Refused(why)) => Answer::Refused(why),
        Err(error) => Answer::Unknown(error.to_string()),
    }
}

struct Unheard;

impl DigestEvents for Unheard {
    fn challenge(&self, _: crate::credential::digest::ChallengeCause) {}
    fn nonce_used(&self) {}
    fn usable(&self, _: bool) {}
}
