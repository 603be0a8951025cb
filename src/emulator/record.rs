//! What an emulator saw and gave, for those who compare it with what others say.

use tokio::time::Instant;

/// Everything so far, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Requests to the API.
    pub requests: Vec<SeenRequest>,
    /// Tokens that were given.
    pub tokens: Vec<GivenToken>,
}

/// A request to the API that came with a good credential.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// As it was sent.
    pub method: String,
    /// As it was sent, without the query.
    pub path: String,
}

/// A token of a service account.
#[derive(Debug, Clone)]
pub struct GivenToken {
    /// Whose it is.
    pub client_id: String,
    /// The secret that it was asked for with.
    pub secret: String,
    /// The token itself.
    pub token: String,
    /// When it was given.
    pub given: Instant,
}
