//! A request with a token of a service account.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use memchr::memmem;

use super::{Exchange, UpstreamResponse};
use crate::credential::bearer::Bearer;
use crate::metrics::AttemptCause;
use crate::proxy::{ProxyError, credential_probe};

impl Exchange<'_> {
    /// Sends the request with the token in force; after a 401 that the token is to blame for, with its successor.
    pub(super) async fn send_with_bearer(&mut self, bearer: &Arc<Bearer>) -> Result<UpstreamResponse, ProxyError> {
        let token = bearer.authorization().await.map_err(ProxyError::from)?;
        let response = self.send(Some(token.header().clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            bearer.accepted_if(|| self.shows_acceptance(response.status()));
            return Ok(response);
        }
        let (slot, account, sent) = (Arc::clone(self.slot), Arc::clone(&self.account), self.last_sent);
        let says_so = says_invalid_token(response.headers());
        if !self.may_go_again() {
            // This request is lost, but the token may be dead for all.
            credential_probe::replace_in_background(&slot, &account, bearer, token, sent, says_so);
            return Ok(response);
        }
        let renewed = credential_probe::replacement(&slot, &account, bearer, &token, sent, says_so).await;
        let Some(renewed) = renewed.map_err(ProxyError::from)? else {
            return Ok(response);
        };
        if !self.take_next_body() {
            return Ok(response);
        }
        response.into_body().discard().await;
        self.budget.repeat(AttemptCause::TokenRenewed);
        let response = self.send(Some(renewed.header().clone())).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // Whatever this 401 says, the token is new: a probe finds out.
            credential_probe::replace_in_background(&slot, &account, bearer, renewed, self.last_sent, false);
        } else {
            bearer.accepted_if(|| self.shows_acceptance(response.status()));
        }
        Ok(response)
    }
}

/// Whether a 401 to a token names the token as its reason (RFC 6750 section 3.1).
fn says_invalid_token(headers: &HeaderMap) -> bool {
    headers.get_all(header::WWW_AUTHENTICATE).iter().any(|value| {
        let value = value.as_bytes();
        let bearer = value
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"));
        bearer && memmem::find(value, b"invalid_token").is_some()
    })
}
