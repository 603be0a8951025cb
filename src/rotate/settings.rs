//! What a rotation needs to know.

use std::path::Path;
use std::time::Duration;

use super::Destination;
use crate::atlas_api::Home;
use crate::credential::ServiceAccountKey;
use crate::secret::Secret;
use crate::time::SharedClock;
use crate::upstream::UpstreamSettings;

/// What is to be done, and with what.
pub struct RotationSettings<'a> {
    /// The service account, with the secret that is to be replaced.
    pub key: &'a ServiceAccountKey,
    /// Its upstream.
    pub upstream: &'a UpstreamSettings,
    /// What the service account belongs to; `None`: to be found out.
    pub home: Option<Home>,
    /// The life of the new secret, hours.
    pub hours: u32,
    /// The file that the current secret comes from, if it comes from one.
    pub current: Option<&'a Path>,
    /// Where the new one is put.
    pub destination: &'a Destination,
    /// After this time the old one is deleted; `None`: never.
    pub delete_old_after: Option<Duration>,
    /// Whether a secret that is not in use may be deleted to make room.
    pub delete_unused: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// The machine's clocks.
    pub clock: SharedClock,
}

impl RotationSettings<'_> {
    /// The new secret of the same service account.
    pub(super) fn key_of(&self, value: &Secret) -> ServiceAccountKey {
        ServiceAccountKey {
            client_id: self.key.client_id.clone(),
            secrets: value.clone().into(),
        }
    }

    /// The secret that was in use before, and where it is stored.
    pub(super) fn old(&self) -> String {
        let file = self.current.map(|file| format!(", in the file {}", file.display()));
        format!("the secret that was in use before{}", file.unwrap_or_default())
    }
}
