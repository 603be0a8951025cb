//! A request to a gateway, which is shown who this proxy is.

use std::sync::Arc;

use super::{Exchange, UpstreamResponse};
use crate::credential::identity::Identity;
use crate::metrics::AttemptCause;
use crate::proxy::own_fields::GatewayError;
use crate::proxy::{ProxyError, own_fields};

/// With an answer: the gateway does not know the identity, also after that was read anew.
#[derive(Clone)]
pub(in crate::proxy) struct StillUnknown(pub(in crate::proxy) Arc<Identity>);

impl Exchange<'_> {
    /// Sends the request with the identity that was read last; if the gateway does not know it, the identity is read anew
    /// and the gateway asked again, once. Nothing but its answers to requests says what it thinks of the identity.
    pub(super) async fn send_with_identity(
        &mut self,
        identity: &Arc<Identity>,
    ) -> Result<UpstreamResponse, ProxyError> {
        let response = self.send(identity.authorization()).await?;
        if !own_fields::refuses_identity(response.status(), response.headers()) {
            return Ok(judged(identity, response));
        }
        // Also where this request is lost: the next one shows what is there by then.
        identity.read_anew().await;
        if !self.may_go_again() || !self.take_next_body() {
            return Ok(response);
        }
        response.into_body().discard().await;
        self.budget.repeat(AttemptCause::IdentityRead);
        let mut response = self.send(identity.authorization()).await?;
        if own_fields::refuses_identity(response.status(), response.headers()) {
            response.extensions_mut().insert(StillUnknown(Arc::clone(identity)));
            return Ok(response);
        }
        Ok(judged(identity, response))
    }
}

/// What is behind the gateway is reached only by whom it knows.
fn judged(identity: &Identity, response: UpstreamResponse) -> UpstreamResponse {
    if GatewayError::of(response.status(), response.headers()).is_none() {
        identity.judged(None);
    }
    response
}
