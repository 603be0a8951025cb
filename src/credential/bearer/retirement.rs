//! Revokes a token when nobody uses it any more, so that it does not count against the limit of live tokens.

use std::sync::Arc;
use std::time::Duration;

use super::{Bearer, Ownership, Phase, Token};

/// The bound on the revocation at shutdown.
pub const MOST_REVOKE: Duration = Duration::from_secs(2);
/// How long a replaced token stays unrevoked, at most, while requests use it.
const MOST_RETIREMENT: Duration = Duration::from_secs(15 * 60);

impl Bearer {
    /// Has Atlas revoke the token of `predecessor`, another credential of the same client, with this one's secret: the
    /// predecessor's may be deleted. Call it when nothing uses that token any more.
    pub async fn revoke_predecessor(&self, predecessor: &Self) {
        if let Some(token) = predecessor.take_token() {
            self.revoke_at_source(&token).await;
        }
    }

    /// Takes the current token out of use and has Atlas revoke it, so that it doesn't count against the limit of live
    /// tokens; gives up after [`MOST_REVOKE`]. One that other processes use, too, is left alone. For shutdown, after
    /// [`Bearer::run`] has ended: it would ask for another one.
    pub async fn revoke(&self) {
        self.set_phase(Phase::Stopped);
        if let Some(token) = self.take_token() {
            self.revoke_at_source(&token).await;
        }
    }

    /// Takes the current token out of use, and returns it if it is to be revoked.
    fn take_token(&self) -> Option<Token> {
        let token = self.current.swap(None).map(Token)?;
        self.events.usable(false);
        self.events.token_expiry(None);
        self.to_revoke(&token).then_some(token)
    }

    /// Whether the token is still valid, and no other process uses it.
    fn to_revoke(&self, token: &Token) -> bool {
        token.left(self.now()).is_some() && token.ownership() == Ownership::Own
    }

    async fn revoke_at_source(&self, token: &Token) {
        let account = &self.account;
        match tokio::time::timeout(MOST_REVOKE, self.source.revoke(token)).await {
            Ok(Ok(())) => tracing::info!(account, "access token revoked"),
            Ok(Err(refusal)) => tracing::warn!(
                account,
                outcome = refusal.outcome.as_str(),
                cause = %refusal,
                "the access token could not be revoked: it lives until it expires"
            ),
            Err(_) => tracing::warn!(
                account,
                limit_seconds = MOST_REVOKE.as_secs(),
                "the access token could not be revoked in time: it lives until it expires"
            ),
        }
    }

    /// Revokes a token that was replaced because it was refused, when no request uses it any more: a refusal can mean
    /// "not permitted", and then the token would count against the limit until it expires.
    pub(super) fn retire(self: &Arc<Self>, token: Token) {
        if !self.to_revoke(&token) {
            return;
        }
        let bearer = Arc::clone(self);
        let (token, unused) = token.retire();
        tokio::spawn(async move {
            // An answer's head never takes longer.
            let _ = tokio::time::timeout(MOST_RETIREMENT, unused.cancelled()).await;
            bearer.revoke_at_source(&token).await;
        });
    }
}
