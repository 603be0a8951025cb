//! What is told of an account.

use std::collections::BTreeMap;

use serde::Serialize;

use super::At;

/// An account.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its name.
    pub name: String,
    /// `service_account`, `api_key` or `gateway`.
    pub credential: &'static str,
    /// The origin that the credential goes to.
    pub upstream: String,
    /// `commercial` or `government`; `None`: another base URL.
    pub realm: Option<&'static str>,
    /// How connections get there, where they don't go directly.
    pub way: Option<String>,
    /// Whether it has a credential that works, as far as is known.
    pub usable: bool,
    /// When the token expires.
    pub token_expires_at: Option<At>,
    /// When the next token is asked for.
    pub next_token_request_at: Option<At>,
    /// When the client secret expires, if that was told.
    pub secret_expires_at: Option<At>,
    /// Until when the identity that a gateway is shown is good.
    pub identity_expires_at: Option<At>,
    /// Of the last request for a token, when it failed.
    pub token_failure: Option<TokenFailure>,
    /// Of API keys: how well nonces serve.
    pub digest: Option<DigestUse>,
    /// Open connections.
    pub connections: i64,
    /// Of the sets of endpoints that Atlas has told of, the one with the fewest requests left.
    pub rate_limit: Option<RateLimit>,
    /// Failures of the upstream, or of the way to it, by kind; those that there were.
    pub errors: BTreeMap<&'static str, u64>,
    /// Atlas's failing answers, by kind.
    pub failures: Vec<Failure>,
}

/// Why there is no new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenFailure {
    /// Its class, as the metric has it.
    pub outcome: &'static str,
    /// In words, with what to do.
    pub cause: String,
}

/// How well nonces serve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DigestUse {
    /// Requests that were answered to a challenge known before.
    pub answers: u64,
    /// Challenges that came.
    pub challenges: u64,
    /// The share of requests that needed no new challenge, 0 to 1; `None`: there were none.
    pub reuse: Option<f64>,
}

/// What Atlas said is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// Of this set of endpoints: the tag of their operations.
    pub tag: String,
    /// So many requests.
    pub remaining: i64,
}

/// Atlas's failing answers of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its class, as the metric has it.
    pub kind: &'static str,
    /// How many since the start.
    pub count: u64,
    /// When the last one was.
    pub last_at: Option<At>,
    /// Its status.
    pub status: u16,
    /// Atlas's own code.
    pub error_code: Option<String>,
    /// The roles, any one of which is enough.
    pub needs: Option<String>,
    /// What to do.
    pub hint: String,
}
