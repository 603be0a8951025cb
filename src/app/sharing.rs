//! Puts the store that replicas share tokens in before the token endpoints; does nothing in a build without it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::admin::status::TokenStore;
use crate::credential::bearer::{Bearer, BearerParts};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The store, if there is one.
#[derive(Clone, Default)]
pub(super) struct Sharing {
    #[cfg(feature = "token-store")]
    store: Option<(Arc<crate::token_store::RedisStore>, crate::token_store::SealKey)>,
}

#[cfg(feature = "token-store")]
impl Sharing {
    /// Connects to nothing yet.
    pub(super) fn of(settings: &Settings, metrics: &Metrics) -> Result<Self, StartError> {
        let Some(settings) = &settings.token_store else {
            return Ok(Self::default());
        };
        let store = crate::token_store::RedisStore::new(settings.clone(), metrics.token_store_up())
            .map_err(StartError::TokenStore)?;
        Ok(Self {
            store: Some((store, settings.key.clone())),
        })
    }

    /// A credential whose tokens are shared, if there is a store.
    pub(super) fn bearer(&self, parts: BearerParts, metrics: &Metrics) -> Arc<Bearer> {
        let Some((store, key)) = &self.store else {
            return Bearer::new(parts);
        };
        let (account, client_id) = (parts.account.clone(), parts.key.client_id.clone());
        let (origin, clock) = (parts.origin.clone(), Arc::clone(&parts.clock));
        Bearer::behind(parts, |endpoint| {
            Box::new(crate::token_store::SharedSource::new(
                &account,
                &origin,
                &client_id,
                Box::new(endpoint),
                Arc::clone(store),
                key.clone(),
                metrics.token_store_operations(&account),
                clock,
            ))
        })
    }

    /// Watches the store until `stop` is set.
    pub(super) fn spawn_watch(&self, stop: CancellationToken) {
        if let Some((store, _)) = &self.store {
            tokio::spawn(Arc::clone(store).watch(stop.cancelled_owned()));
        }
    }

    /// Whether tokens may come from other replicas.
    pub(super) fn is_on(&self) -> bool {
        self.store.is_some()
    }

    /// The state of the store, if there is one.
    pub(super) fn status(&self) -> Option<TokenStore> {
        let (store, _) = self.store.as_ref()?;
        let state = store.state();
        Some(TokenStore {
            address: state.address,
            up: state.up,
            cause: state.cause,
        })
    }
}

#[cfg(not(feature = "token-store"))]
#[allow(clippy::unused_self, reason = "the same as with a store")]
impl Sharing {
    /// Nothing.
    pub(super) fn of(_: &Settings, _: &Metrics) -> Result<Self, StartError> {
        Ok(Self::default())
    }

    /// A credential with tokens of its own.
    pub(super) fn bearer(&self, parts: BearerParts, _: &Metrics) -> Arc<Bearer> {
        Bearer::new(parts)
    }

    /// Nothing.
    pub(super) fn spawn_watch(&self, _: CancellationToken) {}

    /// No.
    pub(super) fn is_on(&self) -> bool {
        false
    }

    /// There is none.
    pub(super) fn status(&self) -> Option<TokenStore> {
        None
    }
}
