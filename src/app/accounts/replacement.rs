//! Replaces the account in force by one for new settings: at once if the credential is the same, else after Atlas has
//! accepted the new one.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::ManagedAccount;
use super::build::LiveAccount;
use super::retirement::Retiring;
use super::verify::{self, Verification};
use crate::metrics::ReloadOutcome;
use crate::proxy::AccountSlot;

impl ManagedAccount {
    /// Verifies in the background, then swaps.
    pub(super) fn replace_with(&mut self, built: LiveAccount, retiring: &Arc<Retiring>) {
        let same_credential = self.in_force.lock().spec.same_credential(&built.spec);
        if same_credential {
            // Nothing to verify: only the connection to the upstream changed, and the token stays.
            let mut now = self.in_force.lock();
            self.slot.replace(Arc::clone(&built.account));
            now.spec = built.spec;
            now.client = built.client;
            let old = std::mem::replace(&mut now.account, built.account);
            now.before.retain(|lease| !lease.is_cancelled());
            now.before.push(old.lease.end());
            return;
        }
        let spec = built.spec.clone();
        let task = tokio::spawn(verify_and_swap(
            Arc::clone(&self.slot),
            Arc::clone(&self.in_force),
            built,
            Arc::clone(retiring),
        ));
        self.candidate = Some((spec, AbortOnDropHandle::new(task)));
    }
}

async fn verify_and_swap(
    slot: Arc<AccountSlot>,
    in_force: Arc<Mutex<LiveAccount>>,
    built: LiveAccount,
    retiring: Arc<Retiring>,
) {
    let account = &slot.name;
    if !matches!(built.verification, Verification::Nothing) {
        tracing::info!(%account, "the credential changed: verifying the new one, the old stays in force until then");
    }
    let mut said = false;
    let refused = |why: &str| {
        if !std::mem::replace(&mut said, true) {
            slot.metrics.credential_reload(ReloadOutcome::Error);
            tracing::error!(
                %account,
                %why,
                "the new credential is not accepted; the old one stays in force, and the new one is tried again, at most once a minute in the end"
            );
        }
    };
    if !verify::accepted(&built.verification, &built.client, refused).await {
        return;
    }
    let (leases, old_renewal, successor) = {
        let mut now = in_force.lock();
        now.events.leave_force();
        built.events.take_force();
        slot.replace(Arc::clone(&built.account));
        // A token may be revoked with any secret of its client.
        let successor = match (&now.renewal, &built.renewal) {
            (Some(old), Some(new)) if old.client_id == new.client_id => Some(Arc::clone(&new.bearer)),
            _ => None,
        };
        let mut old = std::mem::replace(&mut *now, built);
        old.before.push(old.account.lease.end());
        (old.before, old.renewal, successor)
    };
    slot.metrics.credential_reload(ReloadOutcome::Ok);
    tracing::info!(%account, "the new credential is in force");
    // In a task of its own: the next reload aborts this one.
    retiring.add(leases, old_renewal, successor);
}
