//! A request to a gateway, which is shown who this proxy is.

use std::sync::Arc;

use super::{Exchange, UpstreamResponse};
use crate::credential::identity::Identity;
use crate::metrics::AttemptCause;
use crate::proxy::{ProxyError, own_fields};

impl Exchange<'_> {
    /// Sends the request with the identity that was read last; if the gateway does not know it, the identity is read anew
    /// and the gateway asked again, once. Nothing but its answers to requests says what it thinks of the identity.
    pub(super) async fn send_with_identity(
        &mut self,
        identity: &Arc<Identity>,
    ) -> Result<UpstreamResponse, ProxyError> {
        let response = self.send(identity.authorization()).await?;
        if !own_fields::refuses_identity(response.status(), response.headers()) {
            return Ok(response);
        }
        // Also where this request is lost: the next one shows what is there by then.
        identity.read_anew().await;
        if !self.may_go_again() || !self.take_next_body() {
            return Ok(response);
        }
        response.into_body().discard().await;
        self.budget.repeat(AttemptCause::IdentityRead);
        self.send(identity.authorization()).await
    }
}
