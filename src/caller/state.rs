//! What outlives a reload: memory of what was shown, keys of issuers, and the key that is made at the start.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::IssuerSettings;
use super::digest::{NonceMint, Replays};
use super::failures::Failures;
use super::issuer_keys::IssuerKeys;
use super::local_secret::make_secret;
use super::pass::Revoked;
use crate::crypto::RootKey;
use crate::secret::Secret;
use crate::time::SharedClock;

/// What is remembered as long as the process runs, whatever the settings.
pub struct CallerState {
    pub(super) clock: SharedClock,
    /// Without a key file, passes and nonces are made with this.
    pub(super) generated: RootKey,
    /// The secret of nobody.
    pub(super) dummy: Secret,
    pub(super) nonces: NonceMint,
    pub(super) replays: Mutex<Replays>,
    pub(super) revoked: Mutex<Revoked>,
    pub(super) failures: Mutex<Failures>,
    /// Those that some settings in force use.
    issuers: Mutex<Vec<Weak<IssuerKeys>>>,
}

impl CallerState {
    /// Nothing remembered yet.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(clock: SharedClock) -> Result<Arc<Self>, getrandom::Error> {
        Ok(Arc::new(Self {
            generated: RootKey::generate()?,
            dummy: make_secret()?,
            nonces: NonceMint::new(clock.boot())?,
            clock,
            replays: Mutex::default(),
            revoked: Mutex::default(),
            failures: Mutex::default(),
            issuers: Mutex::default(),
        }))
    }

    /// The wall clock, in seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        let since = self.clock.wall().duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    }

    /// The keys of an issuer: those that are there already, if they come from the same source.
    pub(super) fn issuer_keys(&self, settings: &IssuerSettings) -> Arc<IssuerKeys> {
        let mut all = self.issuers.lock();
        all.retain(|keys| keys.strong_count() > 0);
        let known = all.iter().filter_map(Weak::upgrade).find(|keys| keys.are_of(settings));
        known.unwrap_or_else(|| {
            let made = Arc::new(IssuerKeys::new(settings, Arc::clone(&self.clock)));
            all.push(Arc::downgrade(&made));
            made
        })
    }
}
