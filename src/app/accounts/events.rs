//! Turns events of a credential into metrics.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::credential::bearer::{Outcome, TokenEvents};
use crate::credential::digest::{self, DigestEvents};
use crate::credential::identity::IdentityEvents;
use crate::metrics::{AccountMetrics, ChallengeCause, TokenOutcome, UpstreamErrorKind};
use crate::time::SharedClock;

/// Forwards to the account's metrics. While one credential replaces another, an account has two: only the one in force
/// sets the gauges, such as the expiry of the token.
pub(super) struct Events {
    metrics: Arc<AccountMetrics>,
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_force: bool,
    usable: bool,
    expiry: Option<SystemTime>,
    refreshed: Option<SystemTime>,
}

impl Events {
    /// Events of a credential that is not in force yet.
    pub(super) fn new(metrics: Arc<AccountMetrics>, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            clock,
            state: Mutex::default(),
        })
    }

    /// From now on the gauges are this credential's.
    pub(super) fn take_force(&self) {
        self.change(|state| state.in_force = true);
    }

    /// From now on the gauges are another credential's.
    pub(super) fn leave_force(&self) {
        self.state.lock().in_force = false;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        if state.in_force {
            self.metrics.usable(state.usable);
            self.metrics.token_expiry(state.expiry);
            if let Some(at) = state.refreshed {
                self.metrics.token_refreshed(at);
            }
        }
    }

    /// `invalid_client` does not say why. That the secret has expired is known only where Atlas told when it would.
    fn refused_credential(&self) -> UpstreamErrorKind {
        match self.metrics.known_secret_expiry() {
            Some(expiry) if expiry <= self.clock.wall() => UpstreamErrorKind::ExpiredSecret,
            _ => UpstreamErrorKind::BadCredential,
        }
    }
}

impl TokenEvents for Events {
    fn token_request(&self, outcome: Outcome) {
        let kind = match outcome {
            Outcome::Rejected => Some(self.refused_credential()),
            Outcome::TokenLimit => Some(UpstreamErrorKind::TokenLimit),
            Outcome::RateLimited => Some(UpstreamErrorKind::RateLimit),
            _ => None,
        };
        if let Some(kind) = kind {
            self.metrics.upstream_error(kind);
        }
        self.metrics.token_request(match outcome {
            Outcome::Ok => TokenOutcome::Ok,
            Outcome::Rejected => TokenOutcome::Rejected,
            Outcome::RateLimited => TokenOutcome::RateLimited,
            Outcome::TokenLimit => TokenOutcome::TokenLimit,
            Outcome::Malformed => TokenOutcome::Malformed,
            Outcome::Unreachable | Outcome::NotAtlas => TokenOutcome::Unreachable,
            Outcome::Timeout => TokenOutcome::Timeout,
            Outcome::Error | Outcome::NotItsTurn => TokenOutcome::Error,
        });
    }

    fn token_expiry(&self, at: Option<SystemTime>) {
        self.change(|state| state.expiry = at);
    }

    fn token_refreshed(&self, at: SystemTime) {
        self.change(|state| state.refreshed = Some(at));
    }

    fn usable(&self, usable: bool) {
        self.change(|state| state.usable = usable);
    }
}

impl DigestEvents for Events {
    fn challenge(&self, cause: digest::ChallengeCause) {
        self.metrics.digest_challenge(match cause {
            digest::ChallengeCause::First => ChallengeCause::First,
            digest::ChallengeCause::Stale => ChallengeCause::Stale,
            digest::ChallengeCause::Refused => ChallengeCause::Refused,
            digest::ChallengeCause::Prime => ChallengeCause::Prime,
        });
    }

    fn nonce_used(&self) {
        self.metrics.digest_nonce_use();
    }

    fn usable(&self, usable: bool) {
        self.change(|state| state.usable = usable);
    }
}

impl IdentityEvents for Events {
    fn usable(&self, usable: bool) {
        self.change(|state| state.usable = usable);
    }
}
