//! The metrics of the store that replicas share tokens in.

use std::collections::HashMap;

use prometheus::{IntCounter, IntGaugeVec};

use super::labels::TokenStoreOutcome;
use super::{Metrics, count};

impl Metrics {
    /// The handle of the store of shared tokens.
    pub fn token_store_up(&self) -> TokenStoreUp {
        TokenStoreUp(self.families.token_store_up.clone())
    }

    /// The handles for one account's use of the store.
    pub fn token_store_operations(&self, account: &str) -> TokenStoreOperations {
        let family = &self.families.token_store_operations;
        TokenStoreOperations(
            TokenStoreOutcome::NAMES
                .iter()
                .map(|name| (*name, family.with_label_values(&[account, name])))
                .collect(),
        )
    }
}

/// Whether the store of shared tokens answers; absent until that is known.
#[derive(Clone)]
pub struct TokenStoreUp(IntGaugeVec);

impl TokenStoreUp {
    /// It answers, or doesn't.
    pub fn set(&self, up: bool) {
        self.0.with_label_values::<&str>(&[]).set(i64::from(up));
    }
}

/// How looking for one account's token in the store ended.
#[derive(Clone)]
pub struct TokenStoreOperations(HashMap<&'static str, IntCounter>);

impl TokenStoreOperations {
    /// Counts one.
    pub fn count(&self, outcome: TokenStoreOutcome) {
        count(&self.0, outcome.as_str());
    }
}
