//! What outlives a reload: memory of what was shown, keys of issuers, and the key that is made at the start.

use std::sync::Arc;

use parking_lot::Mutex;

use super::digest::{NonceMint, Replays};
use super::keys::PassKey;
use super::local_secret::make_secret;
use crate::secret::Secret;
use crate::time::SharedClock;

/// What is remembered as long as the process runs, whatever the settings.
pub struct CallerState {
    pub(super) clock: SharedClock,
    /// Without a key file, passes and nonces are made with this.
    pub(super) generated: PassKey,
    /// The secret of nobody.
    pub(super) dummy: Secret,
    pub(super) nonces: NonceMint,
    pub(super) replays: Mutex<Replays>,
}

impl CallerState {
    /// Nothing remembered yet.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(clock: SharedClock) -> Result<Arc<Self>, getrandom::Error> {
        Ok(Arc::new(Self {
            nonces: NonceMint::new(clock.boot())?,
            replays: Mutex::default(),
            clock,
            generated: PassKey::generate()?,
            dummy: make_secret()?,
        }))
    }
}
