//! What a [`Bearer`](super::Bearer) is made of, what it tells, and why a request gets no token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::answer::Refusal;
use crate::credential::ServiceAccountKey;
use crate::own_http::HttpClient;
use crate::time::SharedClock;
use crate::upstream::Origin;

/// How a token request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A token was granted.
    Ok,
    /// `invalid_client`: only a person can help.
    Rejected,
    /// 429.
    RateLimited,
    /// Atlas's limit on live tokens is reached.
    TokenLimit,
    /// An unusable answer: empty, garbled, cut off, too long, senseless.
    Malformed,
    /// No connection, or it broke before the answer; also a failed TLS handshake.
    Unreachable,
    /// The certificate is one of `make-ca`: a proxy would be asked, and not Atlas.
    NotAtlas,
    /// No answer in time.
    Timeout,
    /// Any other status.
    Error,
    /// Nobody was asked: other replicas ask now.
    NotItsTurn,
}

impl Outcome {
    /// The name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rejected => "rejected",
            Self::RateLimited => "rate_limited",
            Self::TokenLimit => "token_limit",
            Self::Malformed => "malformed",
            Self::Unreachable => "unreachable",
            Self::NotAtlas => "not_atlas",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::NotItsTurn => "not_its_turn",
        }
    }
}

/// Told what happens, for metrics. Must not block.
pub trait TokenEvents: Send + Sync + 'static {
    /// A token request ended; never with [`Outcome::NotItsTurn`].
    fn token_request(&self, outcome: Outcome);
    /// When the current token expires; `None`: there is none any more.
    fn token_expiry(&self, at: Option<SystemTime>);
    /// A token was obtained at this time.
    fn token_refreshed(&self, at: SystemTime);
    /// Whether there is a valid token now.
    fn usable(&self, usable: bool);
}

/// Why a request can't be authorized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenUnavailable {
    /// There is no valid token at the moment.
    #[error("there is no valid access token at the moment: {cause}")]
    NotYet {
        /// When to try again.
        retry_after: Duration,
        /// Why, and what to do.
        cause: String,
    },
    /// What stands where the token endpoint should is a proxy.
    #[error("there is no valid access token: {cause}")]
    NotAtlas {
        /// When the next attempt is made.
        retry_after: Duration,
        /// Why, and what to do.
        cause: String,
    },
    /// The token endpoint says `invalid_client`.
    #[error(
        "this proxy's own credential is refused, whatever the client shows: {cause}. Whoever runs the proxy can try \
         `atlas-auth-proxy check`"
    )]
    Rejected {
        /// When the next attempt is made.
        retry_after: Duration,
        /// Why, and what to do.
        cause: String,
    },
}

impl TokenUnavailable {
    /// For `Retry-After`: whole seconds, rounded up, at least 1.
    pub fn retry_after_seconds(&self) -> u64 {
        let (Self::NotYet { retry_after, .. }
        | Self::NotAtlas { retry_after, .. }
        | Self::Rejected { retry_after, .. }) = self;
        (retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).max(1)
    }
}

/// What a [`Bearer`](super::Bearer) is made of.
pub struct BearerParts {
    /// The account's name, for logs.
    pub account: String,
    /// What tokens are asked for with.
    pub key: ServiceAccountKey,
    /// The only origin that the credential goes to.
    pub origin: Origin,
    /// What the requests for tokens go through.
    pub http: HttpClient,
    /// The clocks that decide about expiry.
    pub clock: SharedClock,
    /// Is told what happens.
    pub events: Arc<dyn TokenEvents>,
}

/// The state as a status page shows it.
#[derive(Debug, Clone)]
pub struct BearerStatus {
    /// Whether there is a valid token.
    pub usable: bool,
    /// When the current token ends, by the wall clock.
    pub expires_at: Option<SystemTime>,
    /// Token requests that ended, well or not.
    pub attempts: u64,
    /// The last attempt's failure, if it failed.
    pub failure: Option<Refusal>,
    /// When the next attempt is due, from now.
    pub next_attempt: Option<Duration>,
}
