//! Builds accounts, and keeps what can stay of the present one.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Context;
use super::events::Events;
use super::renewal::Renewal;
use super::verify::Verification;
use crate::app::StartError;
use crate::app::trust::{Trust, Trusts};
use crate::atlas_api::ApiClient;
use crate::credential::CredentialSettings;
use crate::credential::bearer::BearerParts;
use crate::credential::digest::{Digest, DigestParts};
use crate::credential::identity::Identity;
use crate::lease::Lease;
use crate::proxy::links::LinkRewriter;
use crate::proxy::{Account, AccountIdentity, Authorizer};
use crate::settings::AccountSettings;
use crate::upstream::{Era, SendableBody, Upstream};

/// What an account is built from. Another spec means another account.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AccountSpec {
    settings: AccountSettings,
    trust: Trust,
}

impl AccountSpec {
    pub(super) fn of(name: &str, settings: &AccountSettings, trusts: &Trusts) -> Result<Self, StartError> {
        // `trusts` has an entry for each account of the settings.
        let trust = trusts.get(name).ok_or_else(|| StartError::TokenClient {
            account: name.to_owned(),
            why: "its certificate authorities were not read".to_owned(),
        })?;
        Ok(Self {
            settings: settings.clone(),
            trust: trust.clone(),
        })
    }

    /// Whether both have the same credential for the same upstream, reached in the same way.
    pub(super) fn same_credential(&self, other: &Self) -> bool {
        let (a, b) = (&self.settings, &other.settings);
        a.credential == b.credential
            && a.upstream.origin == b.upstream.origin
            && a.upstream.connect_to == b.upstream.connect_to
            && a.upstream.egress == b.upstream.egress
            && self.trust == other.trust
    }

    fn same_upstream(&self, other: &Self) -> bool {
        self.settings.upstream == other.settings.upstream && self.trust == other.trust
    }
}

/// An account, and what lives as long as it.
pub(super) struct LiveAccount {
    pub(super) spec: AccountSpec,
    /// For its own calls.
    pub(super) client: ApiClient,
    pub(super) account: Arc<Account>,
    /// The leases of accounts that had the same credential before: requests that are under way may hold one.
    pub(super) before: Vec<CancellationToken>,
    pub(super) events: Arc<Events>,
    /// How to find out that Atlas accepts the credential.
    pub(super) verification: Verification,
    pub(super) renewal: Option<Renewal>,
    /// The task that reads the identity anew.
    #[expect(dead_code, reason = "it ends with this")]
    pub(super) reading: Option<AbortOnDropHandle<()>>,
}

/// An account for new settings, with everything of the present one that can stay.
pub(super) fn build(
    context: &Context,
    name: &str,
    spec: AccountSpec,
    now: &LiveAccount,
) -> Result<LiveAccount, StartError> {
    if !now.spec.same_credential(&spec) {
        return build_whole(context, name, spec, Some(now));
    }
    let account = Account {
        authorizer: now.account.authorizer.clone(),
        identity: Arc::clone(&now.account.identity),
        links: LinkRewriter::new(&spec.settings.upstream.origin),
        upstream: new_upstream(context, name, &spec, &now.account.authorizer),
        // The prober belongs to the credential, which stays.
        prober: Arc::clone(&now.account.prober),
        lease: Lease::default(),
    };
    Ok(LiveAccount {
        client: own_client(context, &spec),
        spec,
        account: Arc::new(account),
        before: Vec::new(),
        events: Arc::clone(&now.events),
        verification: now.verification.clone(),
        renewal: None,
        reading: None,
    })
}

/// An account with a credential of its own.
pub(super) fn build_whole(
    context: &Context,
    name: &str,
    spec: AccountSpec,
    now: Option<&LiveAccount>,
) -> Result<LiveAccount, StartError> {
    let settings = &spec.settings;
    let client = own_client(context, &spec);
    let events = Events::new(context.metrics.account(name), Arc::clone(&context.clock));
    let mut reading = None;
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
        CredentialSettings::Identity(settings) => {
            let identity = Arc::new(Identity::new(
                name,
                settings,
                Arc::clone(&context.clock),
                Arc::clone(&events) as _,
            ));
            reading = Some(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&identity).run())));
            (Authorizer::Identity(identity), Verification::Nothing, None)
        }
    };
    let upstream = match now {
        // The connections of an identity are its own.
        Some(now) if now.spec.same_upstream(&spec) && !matches!(authorizer, Authorizer::Identity(_)) => {
            Arc::clone(&now.account.upstream)
        }
        _ => new_upstream(context, name, &spec, &authorizer),
    };
    let account = Account {
        authorizer,
        identity: AccountIdentity::new(
            settings.upstream.origin.to_string(),
            settings.credential.id().unwrap_or_default(),
        ),
        links: LinkRewriter::new(&settings.upstream.origin),
        upstream,
        prober: Arc::default(),
        lease: Lease::default(),
    };
    Ok(LiveAccount {
        spec,
        client,
        account: Arc::new(account),
        before: Vec::new(),
        events,
        verification,
        renewal,
        reading,
    })
}

/// The client for the account's own requests: for tokens, and to verify a credential.
fn own_client(context: &Context, spec: &AccountSpec) -> ApiClient {
    let tls = spec.trust.tls.clone();
    ApiClient::new(&spec.settings.upstream, tls, Arc::clone(&context.clock))
}

fn new_upstream<B: SendableBody>(
    context: &Context,
    name: &str,
    spec: &AccountSpec,
    authorizer: &Authorizer,
) -> Arc<Upstream<B>> {
    let open = context.metrics.account(name).upstream_connections_open.clone();
    let tls = spec.trust.tls.clone();
    let (tls, era) = match authorizer {
        Authorizer::Identity(identity) => (identity.shown_by(tls), identity.era().clone()),
        Authorizer::Bearer(_) | Authorizer::Digest(_) => (tls, Era::default()),
    };
    Arc::new(Upstream::new(spec.settings.upstream.clone(), &tls, open, era))
}
