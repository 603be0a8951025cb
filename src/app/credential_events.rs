//! What happens to a credential, as metrics.

use std::sync::Arc;
use std::time::SystemTime;

use crate::credential::bearer::{Outcome, TokenEvents};
use crate::credential::digest::{self, DigestEvents};
use crate::metrics::{AccountMetrics, ChallengeCause, TokenOutcome};

/// Forwards to the account's metrics.
pub(super) struct Events(pub(super) Arc<AccountMetrics>);

impl TokenEvents for Events {
    fn token_request(&self, outcome: Outcome) {
        self.0.token_request(match outcome {
            Outcome::Ok => TokenOutcome::Ok,
            Outcome::Rejected => TokenOutcome::Rejected,
            Outcome::RateLimited => TokenOutcome::RateLimited,
            Outcome::TokenLimit => TokenOutcome::TokenLimit,
            Outcome::Malformed => TokenOutcome::Malformed,
            Outcome::Unreachable => TokenOutcome::Unreachable,
            Outcome::Timeout => TokenOutcome::Timeout,
            Outcome::Error => TokenOutcome::Error,
        });
    }

    fn token_expiry(&self, at: Option<SystemTime>) {
        self.0.token_expiry(at);
    }

    fn token_refreshed(&self, at: SystemTime) {
        self.0.token_refreshed(at);
    }

    fn usable(&self, usable: bool) {
        self.0.usable(usable);
    }
}

impl DigestEvents for Events {
    fn challenge(&self, cause: digest::ChallengeCause) {
        self.0.digest_challenge(match cause {
            digest::ChallengeCause::First => ChallengeCause::First,
            digest::ChallengeCause::Stale => ChallengeCause::Stale,
            digest::ChallengeCause::Refused => ChallengeCause::Refused,
            digest::ChallengeCause::Prime => ChallengeCause::Prime,
        });
    }

    fn nonce_used(&self) {
        self.0.digest_nonce_use();
    }

    fn usable(&self, usable: bool) {
        self.0.usable(usable);
    }
}
