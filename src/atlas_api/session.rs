//! The client for own calls to an account's upstream, and a token for them from the request for it to its revocation.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::{AtlasApi, Authority};
use crate::credential::bearer::{Granted, Refusal, Token, TokenEndpoint};
use crate::credential::digest::{Digest, DigestEvents, DigestParts, PublicKeyError};
use crate::credential::{ApiKeyPair, ServiceAccountKey};
use crate::own_http::HttpClient;
use crate::secret::Secret;
use crate::time::SharedClock;
use crate::upstream::{Origin, UpstreamSettings};

/// The client for own calls to one upstream. Holds no credential; cheap to clone.
#[derive(Clone)]
pub struct ApiClient {
    http: HttpClient,
    origin: Origin,
    clock: SharedClock,
}

impl ApiClient {
    /// A client for an account's upstream, which is verified with `tls` alone.
    pub fn new(upstream: &UpstreamSettings, tls: rustls::ClientConfig, clock: SharedClock) -> Self {
        Self {
            http: HttpClient::to(upstream, tls),
            origin: upstream.origin.clone(),
            clock,
        }
    }

    /// The HTTP client alone.
    pub fn http(&self) -> &HttpClient {
        &self.http
    }

    /// For calls with a token that somebody else keeps and revokes.
    pub fn with_token(&self, token: &Token) -> AtlasApi {
        self.api(Authority::Token(Some(token.header().clone())))
    }

    /// For calls to a gateway, with this field, or with a connection that shows who asks.
    pub fn with_authorization(&self, authorization: Option<HeaderValue>) -> AtlasApi {
        self.api(Authority::Token(authorization))
    }

    /// For calls with an API key. `events` is told of them: they don't count in the account's metrics.
    ///
    /// # Errors
    /// When the public key can't be sent.
    pub fn with_key(&self, key: ApiKeyPair, events: Arc<dyn DigestEvents>) -> Result<AtlasApi, PublicKeyError> {
        let digest = Digest::new(DigestParts {
            key,
            clock: Arc::clone(&self.clock),
            events,
        })?;
        Ok(self.api(Authority::Key(Box::new(digest))))
    }

    fn api(&self, authority: Authority) -> AtlasApi {
        AtlasApi::new(self.http.clone(), self.origin.clone(), authority)
    }
}

/// Own calls with a token of their own. To be closed: an open session's token counts against the limit of live tokens
/// until it expires.
pub struct Session {
    api: AtlasApi,
    endpoint: TokenEndpoint,
    granted: Granted,
}

impl Session {
    /// Asks for a token.
    ///
    /// # Errors
    /// What the token endpoint said.
    pub async fn open(client: &ApiClient, key: ServiceAccountKey) -> Result<Self, Refusal> {
        let endpoint = TokenEndpoint::new(&client.origin, key, client.http.clone(), Arc::clone(&client.clock));
        let granted = endpoint.fetch().await?;
        Ok(Self {
            api: client.api(Authority::Token(Some(granted.header().clone()))),
            endpoint,
            granted,
        })
    }

    /// The API, with the token.
    pub fn api(&self) -> &AtlasApi {
        &self.api
    }

    /// How long the token lives.
    pub fn life(&self) -> Duration {
        self.granted.life()
    }

    /// The client secret that the token was granted for.
    pub fn secret(&self) -> &Secret {
        self.endpoint.in_force()
    }

    /// Whether that is the next secret, because the current one is refused.
    pub fn next_is_in_force(&self) -> bool {
        self.endpoint.next_is_in_force()
    }

    /// Revokes the token.
    ///
    /// # Errors
    /// Why it lives until it expires.
    pub async fn close(self) -> Result<(), Refusal> {
        self.endpoint.revoke_granted(&self.granted).await
    }
}
