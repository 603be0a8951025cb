//! What the status says of accounts.

use std::time::SystemTime;

use super::State;
use crate::admin::status::{Account, At, DigestUse, Failure, RateLimit, TokenFailure};
use crate::metrics::AccountMetrics;
use crate::proxy::{AccountSlot, Authorizer};
use crate::upstream::Origin;

impl AccountSlot {
    pub(super) fn usable(&self) -> bool {
        match &self.current().authorizer {
            Authorizer::Bearer(bearer) => bearer.usable(),
            Authorizer::Digest(digest) => digest.usable(),
            Authorizer::Identity(identity) => identity.usable(),
        }
    }

    pub(super) fn attempted(&self) -> bool {
        match &self.current().authorizer {
            Authorizer::Bearer(bearer) => bearer.first_attempt_made(),
            // A key needs no preparation: the first request fetches its challenge.
            Authorizer::Digest(_) => true,
            // It was read with the settings.
            Authorizer::Identity(_) => true,
        }
    }
}

impl State {
    pub(super) fn accounts_status(&self, now: SystemTime) -> Vec<Account> {
        let in_force = self.in_force.load();
        let slots = self.accounts.slots();
        slots
            .iter()
            .map(|slot| of(slot, in_force.way(&slot.name), now))
            .collect()
    }
}

fn of(slot: &AccountSlot, way: Option<String>, now: SystemTime) -> Account {
    let (account, metrics) = (slot.current(), &slot.metrics);
    let origin = account.upstream.origin();
    let mut status = Account {
        name: slot.name.clone(),
        credential: "",
        upstream: origin.to_string(),
        realm: realm(origin),
        way,
        usable: slot.usable(),
        token_expires_at: None,
        next_token_request_at: None,
        secret_expires_at: metrics.known_secret_expiry().and_then(At::of),
        identity_expires_at: None,
        token_failure: None,
        digest: None,
        connections: metrics.upstream_connections_open.get(),
        rate_limit: metrics.fewest_left().map(|(remaining, tag)| RateLimit {
            tag: tag.to_owned(),
            remaining,
        }),
        errors: metrics.upstream_errors_so_far(),
        failures: failures(slot),
    };
    match &account.authorizer {
        Authorizer::Bearer(bearer) => {
            let bearer = bearer.status();
            status.credential = "service_account";
            status.token_expires_at = bearer.expires_at.and_then(At::of);
            let next = bearer.next_attempt.and_then(|wait| now.checked_add(wait));
            status.next_token_request_at = next.and_then(At::of);
            status.token_failure = bearer.failure.map(|refusal| TokenFailure {
                outcome: refusal.outcome.as_str(),
                cause: refusal.cause,
            });
        }
        Authorizer::Digest(_) => {
            status.credential = "api_key";
            status.digest = Some(digest(metrics));
        }
        Authorizer::Identity(identity) => {
            status.credential = "gateway";
            status.identity_expires_at = identity.until().and_then(At::of);
        }
    }
    status
}

fn realm(origin: &Origin) -> Option<&'static str> {
    if *origin == Origin::commercial() {
        Some("commercial")
    } else if *origin == Origin::government() {
        Some("government")
    } else {
        None
    }
}

/// Each request has one answer to a challenge at least; a new challenge costs another.
#[allow(clippy::cast_precision_loss, reason = "a share, for people")]
fn digest(metrics: &AccountMetrics) -> DigestUse {
    let (answers, challenges) = metrics.digest_so_far();
    DigestUse {
        answers,
        challenges,
        reuse: (answers > 0).then(|| answers.saturating_sub(challenges) as f64 / answers as f64),
    }
}

fn failures(slot: &AccountSlot) -> Vec<Failure> {
    let all = slot.failures.all();
    all.into_iter()
        .map(|(kind, seen)| Failure {
            kind,
            count: seen.count,
            last_at: At::of(seen.at),
            status: seen.last.status,
            hint: seen.last.hint(),
            error_code: seen.last.code,
            needs: seen.last.needs,
        })
        .collect()
}
