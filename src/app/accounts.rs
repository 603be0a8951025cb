//! Accounts from one set of settings to the next: a new credential takes the old one's place only once Atlas has accepted
//! it, and between two requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::StartError;
use super::credential_events::Events;
use super::secret_expiry;
use super::sharing::Sharing;
use super::trust::{Trust, Trusts};
use super::verify::{self, Verification};
use crate::atlas_api::ApiClient;
use crate::credential::CredentialSettings;
use crate::credential::bearer::{Bearer, BearerParts};
use crate::credential::digest::{Digest, DigestParts};
use crate::fair::Places;
use crate::metrics::{Metrics, ReloadOutcome};
use crate::proxy::links::LinkRewriter;
use crate::proxy::{Account, AccountSlot, Authorizer};
use crate::settings::AccountSettings;
use crate::time::SharedClock;
use crate::upstream::Upstream;

/// A token that was replaced is revoked when no request uses it any more, or after this: then it lives until it expires.
const MOST_RETIREMENT: Duration = Duration::from_secs(15 * 60);
/// How often is looked whether that is so.
const RETIREMENT_TICK: Duration = Duration::from_millis(100);

/// What accounts are built with.
pub(super) struct Context {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    /// Requests that may be on their way to one upstream at a time.
    pub(super) at_once: usize,
    /// Where tokens are shared.
    pub(super) sharing: Sharing,
}

/// All accounts, by name.
pub(super) struct Accounts {
    context: Context,
    kept: Mutex<BTreeMap<String, Kept>>,
    retiring: Arc<Retiring>,
}

/// Credentials that are no longer in force, whose tokens are not revoked yet.
#[derive(Default)]
struct Retiring(Mutex<JoinSet<()>>);

impl Retiring {
    fn add(&self, retirement: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(retirement);
    }
}

struct Kept {
    slot: Arc<AccountSlot>,
    in_force: Arc<Mutex<Built>>,
    /// The settings of a credential that is being verified, and its task.
    candidate: Option<(Recipe, AbortOnDropHandle<()>)>,
    /// Looks when its secret expires.
    expiry: Option<AbortOnDropHandle<()>>,
}

/// What an account is built from. Another recipe means another account.
#[derive(Clone, PartialEq, Eq)]
struct Recipe {
    settings: AccountSettings,
    trust: Trust,
}

/// An account with what belongs to its life.
struct Built {
    recipe: Recipe,
    /// For its own calls.
    client: ApiClient,
    account: Arc<Account>,
    /// Those that had the same credential before: requests that are under way may hold on to one.
    before: Vec<Weak<Account>>,
    events: Arc<Events>,
    /// How it is seen that Atlas accepts the credential.
    verification: Verification,
    renewal: Option<Renewal>,
}

/// The task that keeps the token of a service account fresh.
struct Renewal {
    client_id: String,
    bearer: Arc<Bearer>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Renewal {
    fn start(client_id: &str, bearer: &Arc<Bearer>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let running = Arc::clone(bearer).run(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        Self {
            client_id: client_id.to_owned(),
            bearer: Arc::clone(bearer),
            stop,
            task: tokio::spawn(running),
        }
    }

    async fn end(self) -> Arc<Bearer> {
        self.stop.send_replace(true);
        let _ = self.task.await;
        self.bearer
    }
}

impl Recipe {
    fn of(name: &str, settings: &AccountSettings, trusts: &Trusts) -> Result<Self, StartError> {
        // Each account of the settings has its trust.
        let trust = trusts.get(name).ok_or_else(|| StartError::TokenClient {
            account: name.to_owned(),
            why: "its certificate authorities were not read".to_owned(),
        })?;
        Ok(Self {
            settings: settings.clone(),
            trust: trust.clone(),
        })
    }

    /// Whether both speak of the same credential for the same upstream, reached in the same way.
    fn same_credential(&self, other: &Self) -> bool {
        let (a, b) = (&self.settings, &other.settings);
        a.credential == b.credential && a.upstream.origin == b.upstream.origin && self.trust == other.trust
    }

    fn same_upstream(&self, other: &Self) -> bool {
        self.settings.upstream == other.settings.upstream && self.trust == other.trust
    }
}

impl Accounts {
    /// Builds every account; tokens are asked for from now on. Must be called within a tokio runtime.
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
                    begin(&context, name, Recipe::of(name, settings, trusts)?)?,
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

    /// Takes other settings: an account that changed is brought in once its credential is verified, a new one at once. One
    /// that is no longer spoken of stays until [`Self::forget_others`].
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
            let recipe = Recipe::of(name, settings, trusts)?;
            let Some(kept) = kept.get(name) else {
                added.push((name.clone(), begin(&self.context, name, recipe)?));
                continue;
            };
            let now = kept.in_force.lock();
            if now.recipe == recipe {
                // Perhaps again, while another was being verified.
                changed.push((name.clone(), None));
            } else if kept.candidate.as_ref().is_none_or(|(pending, _)| *pending != recipe) {
                changed.push((name.clone(), Some(build(&self.context, name, recipe, &now)?)));
            }
        }
        kept.extend(added);
        for (name, built) in changed {
            let Some(kept) = kept.get_mut(&name) else { continue };
            // Whatever is being verified is no longer wanted.
            kept.candidate = None;
            if let Some(built) = built {
                kept.bring_in(built, &self.retiring);
            }
        }
        Ok(())
    }

    /// Lets the accounts go that the settings no longer speak of.
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
                let mut holders = std::mem::take(&mut now.before);
                holders.push(Arc::downgrade(&now.account));
                drop(now);
                self.retiring.add(retire(holders, renewal, None));
            }
        }
    }

    /// Ends when no request uses a credential, `after` a while in which some may still come.
    pub(super) async fn unused(&self, after: Duration) {
        tokio::time::sleep(after).await;
        // What is in force, and the slot that shows it.
        let used = || {
            self.kept.lock().values().any(|kept| {
                let now = kept.in_force.lock();
                Arc::strong_count(&now.account) > 2 || is_held(&now.before)
            })
        };
        while used() {
            tokio::time::sleep(RETIREMENT_TICK).await;
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

    /// Waits for the tokens of credentials that were replaced or removed before. When the last request has ended that takes as
    /// long as a revocation; no longer than `limit`.
    pub(super) async fn retired(&self, limit: Duration) {
        let mut tasks = std::mem::take(&mut *self.retiring.0.lock());
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("a token that was replaced before the end is not revoked: it lives until it expires");
        }
    }
}

impl Kept {
    /// Verifies in the background, then swaps.
    fn bring_in(&mut self, built: Built, retiring: &Arc<Retiring>) {
        let same_credential = self.in_force.lock().recipe.same_credential(&built.recipe);
        if same_credential {
            // Nothing to verify: the way to the upstream changed, and the token stays.
            let mut now = self.in_force.lock();
            self.slot.replace(Arc::clone(&built.account));
            now.recipe = built.recipe;
            now.client = built.client;
            let old = std::mem::replace(&mut now.account, built.account);
            now.before.retain(|before| before.strong_count() > 0);
            now.before.push(Arc::downgrade(&old));
            return;
        }
        let recipe = built.recipe.clone();
        let task = tokio::spawn(verify_and_swap(
            Arc::clone(&self.slot),
            Arc::clone(&self.in_force),
            built,
            Arc::clone(retiring),
        ));
        self.candidate = Some((recipe, AbortOnDropHandle::new(task)));
    }
}

async fn verify_and_swap(slot: Arc<AccountSlot>, in_force: Arc<Mutex<Built>>, built: Built, retiring: Arc<Retiring>) {
    let account = &slot.name;
    tracing::info!(%account, "the credential changed: verifying the new one, the old stays in force until then");
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
    let (old, old_renewal, successor) = {
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
        old.before.push(Arc::downgrade(&old.account));
        (old.before, old.renewal, successor)
    };
    slot.metrics.credential_reload(ReloadOutcome::Ok);
    tracing::info!(%account, "the new credential is in force");
    // On its own: a reload that comes meanwhile ends this task.
    retiring.add(retire(old, old_renewal, successor));
}

fn is_held(accounts: &[Weak<Account>]) -> bool {
    accounts.iter().any(|account| account.strong_count() > 0)
}

/// Ends a credential that is no longer in force: its token is revoked when the last request that uses it has its answer.
async fn retire(holders: Vec<Weak<Account>>, renewal: Option<Renewal>, successor: Option<Arc<Bearer>>) {
    let Some(renewal) = renewal else { return };
    let bearer = renewal.end().await;
    let unused = async {
        while is_held(&holders) {
            tokio::time::sleep(RETIREMENT_TICK).await;
        }
    };
    let _ = tokio::time::timeout(MOST_RETIREMENT, unused).await;
    match successor {
        // The old secret may be gone by now.
        Some(successor) => successor.revoke_predecessor(&bearer).await,
        None => bearer.revoke().await,
    }
}

/// An account that is in force from the start.
fn begin(context: &Context, name: &str, recipe: Recipe) -> Result<Kept, StartError> {
    let built = build_whole(context, name, recipe, None)?;
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
    Ok(Kept {
        slot,
        in_force,
        candidate: None,
        expiry: Some(AbortOnDropHandle::new(tokio::spawn(expiry))),
    })
}

/// An account for other settings, with everything of the present one that can stay.
fn build(context: &Context, name: &str, recipe: Recipe, now: &Built) -> Result<Built, StartError> {
    if !now.recipe.same_credential(&recipe) {
        return build_whole(context, name, recipe, Some(now));
    }
    let account = Account {
        authorizer: now.account.authorizer.clone(),
        links: LinkRewriter::new(&recipe.settings.upstream.origin),
        upstream: new_upstream(context, name, &recipe)?,
        // It speaks for the credential, which stays.
        prober: Arc::clone(&now.account.prober),
    };
    Ok(Built {
        client: own_client(context, &recipe),
        recipe,
        account: Arc::new(account),
        before: Vec::new(),
        events: Arc::clone(&now.events),
        verification: now.verification.clone(),
        renewal: None,
    })
}

fn build_whole(context: &Context, name: &str, recipe: Recipe, now: Option<&Built>) -> Result<Built, StartError> {
    let settings = &recipe.settings;
    let client = own_client(context, &recipe);
    let events = Events::new(context.metrics.account(name), Arc::clone(&context.clock));
    let upstream = match now {
        Some(now) if now.recipe.same_upstream(&recipe) => Arc::clone(&now.account.upstream),
        _ => new_upstream(context, name, &recipe)?,
    };
    let (authorizer, verification, renewal) = match &settings.credential {
        CredentialSettings::ServiceAccount(key) => {
            let parts = BearerParts {
                account: name.to_owned(),
                key: key.clone(),
                origin: settings.upstream.origin.clone(),
                http: client.http().clone(),
                clock: Arc::clone(&context.clock),
                events: Arc::clone(&events) as _,
            };
            let bearer = context.sharing.bearer(parts, &context.metrics);
            let verification = if context.sharing.is_on() {
                Verification::TokenOfItsOwn(key.clone())
            } else {
                Verification::FirstToken(Arc::clone(&bearer))
            };
            let renewal = Renewal::start(&key.client_id, &bearer);
            (Authorizer::Bearer(bearer), verification, Some(renewal))
        }
        CredentialSettings::ApiKey(key) => {
            let digest = Digest::new(DigestParts {
                key: key.clone(),
                clock: Arc::clone(&context.clock),
                events: Arc::clone(&events) as _,
            });
            let digest = digest.map_err(|source| StartError::PublicKey {
                account: name.to_owned(),
                source,
            })?;
            (
                Authorizer::Digest(Arc::new(digest)),
                Verification::Call(key.clone()),
                None,
            )
        }
    };
    let account = Account {
        authorizer,
        links: LinkRewriter::new(&settings.upstream.origin),
        upstream,
        prober: Arc::default(),
    };
    Ok(Built {
        recipe,
        client,
        account: Arc::new(account),
        before: Vec::new(),
        events,
        verification,
        renewal,
    })
}

/// The client for the account's own requests: for tokens, and to verify a credential.
fn own_client(context: &Context, recipe: &Recipe) -> ApiClient {
    let tls = recipe.trust.tls.clone();
    ApiClient::new(&recipe.settings.upstream, tls, Arc::clone(&context.clock))
}

fn new_upstream<B>(context: &Context, name: &str, recipe: &Recipe) -> Result<Arc<Upstream<B>>, StartError>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let settings = &recipe.settings;
    let open = context.metrics.account(name).upstream_connections_open.clone();
    Ok(Arc::new(Upstream::new(
        settings.upstream.clone(),
        &recipe.trust.tls,
        open,
    )))
}
