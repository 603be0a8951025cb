//! Keeps accounts across reloads: a new credential takes the old one's place only once Atlas has accepted it, and
//! between two requests.

mod build;
mod events;
mod renewal;
mod replacement;
mod retirement;
mod secret_expiry;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::StartError;
use super::sharing::Sharing;
use super::trust::Trusts;
use crate::fair::Places;
use crate::metrics::Metrics;
use crate::proxy::AccountSlot;
use crate::settings::AccountSettings;
use crate::time::SharedClock;

use build::{AccountSpec, LiveAccount, build, build_whole};
use renewal::Renewal;
use retirement::{Retiring, all_ended};

/// What all accounts are built with.
pub(super) struct Context {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    /// The most requests under way to one upstream at a time.
    pub(super) at_once: usize,
    /// Where tokens are shared.
    pub(super) sharing: Sharing,
}

/// All accounts, by name.
pub(super) struct Accounts {
    context: Context,
    kept: Mutex<BTreeMap<String, ManagedAccount>>,
    retiring: Arc<Retiring>,
}

struct ManagedAccount {
    slot: Arc<AccountSlot>,
    in_force: Arc<Mutex<LiveAccount>>,
    /// The settings of a credential that is being verified, and its task.
    candidate: Option<(AccountSpec, AbortOnDropHandle<()>)>,
    /// The task that reads when the secret expires.
    expiry: Option<AbortOnDropHandle<()>>,
}

impl Accounts {
    /// Builds every account and begins to ask for tokens. Must be called within a tokio runtime.
    pub(super) fn start(
        context: Context,
        settings: &BTreeMap<String, AccountSettings>,
        trusts: &Trusts,
    ) -> Result<Self, StartError> {
        let kept = settings
            .iter()
            .map(|(name, settings)| {
                Ok((
                    name.clone(),
                    start_account(&context, name, AccountSpec::of(name, settings, trusts)?)?,
                ))
            })
            .collect::<Result<_, StartError>>()?;
        Ok(Self {
            context,
            kept: Mutex::new(kept),
            retiring: Arc::default(),
        })
    }

    /// The slot of an account.
    pub(super) fn slot(&self, name: &str) -> Option<Arc<AccountSlot>> {
        self.kept.lock().get(name).map(|kept| Arc::clone(&kept.slot))
    }

    /// All slots, by name.
    pub(super) fn slots(&self) -> Vec<Arc<AccountSlot>> {
        self.kept.lock().values().map(|kept| Arc::clone(&kept.slot)).collect()
    }

    /// Applies new settings: an account that changed comes into force once its credential is verified, a new one at
    /// once. An account that is no longer in the settings stays until [`Self::forget_others`].
    ///
    /// # Errors
    /// When an account can't be built. Nothing has changed then.
    pub(super) fn reload(
        &self,
        settings: &BTreeMap<String, AccountSettings>,
        trusts: &Trusts,
    ) -> Result<(), StartError> {
        let mut kept = self.kept.lock();
        let mut added = Vec::new();
        let mut changed = Vec::new();
        for (name, settings) in settings {
            let spec = AccountSpec::of(name, settings, trusts)?;
            let Some(kept) = kept.get(name) else {
                added.push((name.clone(), start_account(&self.context, name, spec)?));
                continue;
            };
            let now = kept.in_force.lock();
            if now.spec == spec {
                // Unchanged, or changed back while another credential was being verified.
                changed.push((name.clone(), None));
            } else if kept.candidate.as_ref().is_none_or(|(pending, _)| *pending != spec) {
                changed.push((name.clone(), Some(build(&self.context, name, spec, &now)?)));
            }
        }
        kept.extend(added);
        for (name, built) in changed {
            let Some(kept) = kept.get_mut(&name) else { continue };
            // A credential that is still being verified is no longer wanted.
            kept.candidate = None;
            if let Some(built) = built {
                kept.replace_with(built, &self.retiring);
            }
        }
        Ok(())
    }

    /// Drops the accounts that are no longer in the settings.
    pub(super) fn forget_others(&self, settings: &BTreeMap<String, AccountSettings>) {
        let mut kept = self.kept.lock();
        let gone: Vec<String> = kept
            .keys()
            .filter(|name| !settings.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(kept) = kept.remove(&name) {
                let mut now = kept.in_force.lock();
                now.events.leave_force();
                let renewal = now.renewal.take();
                let mut leases = std::mem::take(&mut now.before);
                leases.push(now.account.lease.end());
                drop(now);
                self.retiring.add(leases, renewal, None);
            }
        }
    }

    /// Completes when no request uses a credential; not before `after`, as requests may still come.
    pub(super) async fn until_unused(&self, after: Duration) {
        tokio::time::sleep(after).await;
        loop {
            let leases: Vec<CancellationToken> = self.kept.lock().values().flat_map(ManagedAccount::leases).collect();
            // No account is held, and so no credential in use: a request that comes from now on comes too late.
            if leases.iter().all(CancellationToken::is_cancelled) {
                return;
            }
            all_ended(&leases).await;
        }
    }

    /// Ends every renewal, and revokes every token. Bounded by the revocations' own limit.
    pub(super) async fn shutdown(&self) {
        let renewals: Vec<Renewal> = {
            let mut kept = self.kept.lock();
            kept.values_mut()
                .filter_map(|kept| {
                    kept.candidate = None;
                    kept.expiry = None;
                    kept.in_force.lock().renewal.take()
                })
                .collect()
        };
        let ends = renewals
            .into_iter()
            .map(|renewal| tokio::spawn(async move { renewal.end().await.revoke().await }));
        for end in ends.collect::<Vec<_>>() {
            let _ = end.await;
        }
    }

    /// Waits, at most `limit`, until the tokens of credentials that were replaced or removed before are revoked. Once
    /// the last request has ended, that takes as long as a revocation.
    pub(super) async fn retired(&self, limit: Duration) {
        self.retiring.ended(limit).await;
    }
}

impl ManagedAccount {
    /// The ends of the leases of all accounts that have had the credential in force. The one in force gets a new lease,
    /// so that its old lease, too, can end while requests may come.
    fn leases(&self) -> Vec<CancellationToken> {
        let mut now = self.in_force.lock();
        now.before.retain(|lease| !lease.is_cancelled());
        let lease = now.account.lease.end();
        now.before.push(lease);
        now.account = Arc::new(now.account.leased_anew());
        self.slot.replace(Arc::clone(&now.account));
        now.before.clone()
    }
}

/// An account that is in force from the start.
fn start_account(context: &Context, name: &str, spec: AccountSpec) -> Result<ManagedAccount, StartError> {
    let built = build_whole(context, name, spec, None)?;
    built.events.take_force();
    let metrics = context.metrics.account(name);
    let slot = AccountSlot::new(
        name.to_owned(),
        metrics,
        Places::new(context.at_once),
        Arc::clone(&built.account),
    );
    let in_force = Arc::new(Mutex::new(built));
    let service_account = {
        let in_force = Arc::clone(&in_force);
        move || {
            let now = in_force.lock();
            now.renewal.as_ref().map(|renewal| secret_expiry::InForce {
                client_id: renewal.client_id.clone(),
                bearer: Arc::clone(&renewal.bearer),
                client: now.client.clone(),
            })
        }
    };
    let expiry = secret_expiry::watch(Arc::clone(&slot), service_account, Arc::clone(&context.clock));
    Ok(ManagedAccount {
        slot,
        in_force,
        candidate: None,
        expiry: Some(AbortOnDropHandle::new(tokio::spawn(expiry))),
    })
}
