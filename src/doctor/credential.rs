//! Whether Atlas accepts the credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::Patient;
use super::api::ADD_ADDRESS;
use crate::atlas_api::{ApiAnswer, ApiClient, CallError, Session};
use crate::credential::bearer::{Outcome, Refusal};
use crate::credential::digest::{ChallengeCause, DigestEvents};
use crate::credential::{ApiKeyPair, ServiceAccountKey};
use crate::report::Status;

/// The bound on taking the token back.
const REVOKE_LIMIT: Duration = Duration::from_secs(2);
const REJECTED: &str = "the token endpoint does not accept the client id and secret (invalid_client)";
const NO_ANSWER: &str = "connections were taken a moment ago: try again. If it stays so, something in between ends them (a proxy, a firewall), or the base URL is not Atlas's";

impl Patient<'_> {
    pub(super) async fn with_service_account(&mut self, key: &ServiceAccountKey, client: &ApiClient) {
        let ServiceAccountKey { client_id, secrets } = key;
        self.begin("credential", "asking for a token");
        let session = match Session::open(client, key.clone()).await {
            Ok(session) => session,
            Err(refusal) => {
                let hint = self.token_hint(&refusal);
                let found = match (refusal.outcome, &secrets.next) {
                    (Outcome::Rejected, None) => REJECTED.to_owned(),
                    (Outcome::Rejected, Some(_)) => format!("{REJECTED}, nor the next client secret"),
                    _ => refusal.to_string(),
                };
                self.add("credential", Status::Fail, found, Some(hint));
                return self.skip(&["api", "secret_expiry"], "there is no token");
            }
        };
        let life = session.life().as_secs();
        let found = format!("the token endpoint granted a token for {life} s");
        if session.next_is_in_force() {
            let found = format!("{found}, but not with the current client secret: with the next one");
            let hint = "put the next secret in the place of the current one, which is deleted or has expired";
            self.add("credential", Status::Warn, found, Some(hint.to_owned()));
        } else {
            self.add("credential", Status::Ok, found, None);
        }
        if self.one_call(session.api()).await {
            self.secret_expiry(session.api(), client_id, session.secret()).await;
        } else {
            self.skip(&["secret_expiry"], "the API does not answer as it should");
        }
        let _ = tokio::time::timeout(REVOKE_LIMIT, session.close()).await;
    }

    fn token_hint(&self, refusal: &Refusal) -> String {
        match refusal.outcome {
            Outcome::Rejected => self.refused_hint("service account"),
            Outcome::RateLimited => {
                let wait = refusal.retry_after.map_or(60, |wait| wait.as_secs());
                format!("wait {wait} s; too many token requests come from this address for this service account: something restarts in a loop, or many replicas share it")
            }
            Outcome::TokenLimit => "a service account has at most 100 live tokens: give each fewer replicas, or wait up to an hour until tokens expire".to_owned(),
            Outcome::Malformed => "something else than Atlas answers there: look at the base URL, and at what stands in between (a login page, a proxy)".to_owned(),
            Outcome::Error => self.status_hint(refusal),
            Outcome::Timeout | Outcome::Unreachable | Outcome::NotAtlas | Outcome::NotItsTurn | Outcome::Ok => NO_ANSWER.to_owned(),
        }
    }

    /// The hint for an answer with a status that is unusual for a token endpoint.
    fn status_hint(&self, refusal: &Refusal) -> String {
        match refusal.status {
            _ if refusal.cause.contains("ACCESS_LIST") => {
                format!("the address from which this machine calls is not on the API access list: {ADD_ADDRESS}")
            }
            Some(status) if status.is_server_error() => {
                "a fault of Atlas, or of what answers in its place: see status.mongodb.com, and try again".to_owned()
            }
            Some(status) if status.is_redirection() || status == StatusCode::NOT_FOUND => {
                "this is not Atlas: look at the base URL, and at what stands in between (a login page, a proxy)".to_owned()
            }
            Some(StatusCode::UNAUTHORIZED) => self.refused_hint("service account"),
            _ => "Atlas does not usually answer so: look at the base URL, and at what stands in between (a proxy, a firewall)"
                .to_owned(),
        }
    }

    pub(super) async fn with_api_key(&mut self, key: &ApiKeyPair, client: &ApiClient) {
        let challenged = Arc::new(Challenged::default());
        let api = match client.with_key(key.clone(), Arc::clone(&challenged) as _) {
            Ok(api) => api,
            Err(error) => return self.add("credential", Status::Fail, error.to_string(), None),
        };
        self.begin("credential", "answering a Digest challenge");
        match api.call(http::Method::GET, super::api::CALL, None).await {
            Err(CallError::Refused(why)) => {
                let hint = if challenged.0.load(Ordering::Relaxed) {
                    self.refused_hint("API key")
                } else {
                    "Atlas offers Digest: look at the base URL, and at what stands in between (a login page, a proxy)"
                        .to_owned()
                };
                self.add("credential", Status::Fail, why, Some(hint));
                self.skip(&["api"], "the key is refused");
            }
            Err(error) => {
                self.add(
                    "credential",
                    Status::Fail,
                    error.to_string(),
                    Some(NO_ANSWER.to_owned()),
                );
                self.skip(&["api"], "there was no answer");
            }
            Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                let hint = self.refused_hint("API key");
                let found = format!("the upstream refuses the API key: {}", answer.summary());
                self.add("credential", Status::Fail, found, Some(hint));
                self.skip(&["api"], "the key is refused");
            }
            Ok(answer) => {
                self.key_passed(&answer);
                self.judge(&answer);
                self.egress_address(&answer, &api).await;
                self.key_id(key, &api).await;
            }
        }
        self.add("secret_expiry", Status::Skip, "API keys do not expire", None);
    }

    fn key_passed(&mut self, answer: &ApiAnswer) {
        let too_early = answer.status == StatusCode::TOO_MANY_REQUESTS || answer.status.is_server_error();
        if answer.challenged && too_early {
            let found = format!("not known yet: the API key was answered with {}", answer.summary());
            self.add("credential", Status::Skip, found, None);
        } else if answer.challenged {
            self.add(
                "credential",
                Status::Ok,
                "the API key answers the upstream's Digest challenge",
                None,
            );
        } else {
            let hint =
                "something else than Atlas answers there, or Atlas has a fault: look at the next line".to_owned();
            self.add(
                "credential",
                Status::Warn,
                "the upstream asked for no credential",
                Some(hint),
            );
        }
    }
}

/// Records whether there was a challenge to answer.
#[derive(Default)]
struct Challenged(AtomicBool);

impl DigestEvents for Challenged {
    fn challenge(&self, _: ChallengeCause) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn nonce_used(&self) {}
    fn usable(&self, _: bool) {}
}
