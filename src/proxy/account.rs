//! An account as the listeners see it: the credential and the upstream in force, replaced as a whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::links::LinkRewriter;
use super::upstream_failure::Failures;
use super::{Prober, RequestBody};
use crate::caller::AccountBinding;
use crate::credential::bearer::Bearer;
use crate::credential::digest::Digest;
use crate::credential::identity::Identity;
use crate::fair::Places;
use crate::lease::Lease;
use crate::metrics::AccountMetrics;
use crate::upstream::Upstream;

/// How an account's requests get their credential.
#[derive(Clone)]
pub enum Authorizer {
    /// A token of a service account.
    Bearer(Arc<Bearer>),
    /// A computed answer with an API key.
    Digest(Arc<Digest>),
    /// What a gateway of this program is shown: who this proxy is.
    Identity(Arc<Identity>),
}

/// A credential and the one upstream it may travel to, as they are in force. Never edited: see [`AccountSlot`].
pub struct Account {
    /// The credential.
    pub authorizer: Authorizer,
    /// Connections to its origin.
    pub upstream: Arc<Upstream<RequestBody>>,
    /// Turns links to the origin into links to the listener.
    pub links: LinkRewriter,
    /// Its client id or public key.
    pub identity: Arc<AccountIdentity>,
    /// Finds out what a 401 is about.
    pub prober: Arc<Prober>,
    /// Ends when no request holds this account any more.
    pub lease: Lease,
}

/// What an account is called at its upstream.
pub struct AccountIdentity {
    /// `https://host[:port]`.
    pub origin: String,
    /// The client id of a service account, the public key of an API key; empty for a gateway.
    pub client_id: String,
}

impl AccountIdentity {
    /// `origin` is that of the upstream.
    pub fn new(origin: String, client_id: &str) -> Arc<Self> {
        Arc::new(Self {
            origin,
            client_id: client_id.to_owned(),
        })
    }

    /// What a pass is bound to.
    pub(super) fn binding(&self) -> AccountBinding<'_> {
        AccountBinding {
            origin: &self.origin,
            client_id: &self.client_id,
        }
    }
}

impl Account {
    /// Whether requests to both are the same: with one credential, over one upstream's connections.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let same_credential = match (&self.authorizer, &other.authorizer) {
            (Authorizer::Bearer(a), Authorizer::Bearer(b)) => Arc::ptr_eq(a, b),
            (Authorizer::Digest(a), Authorizer::Digest(b)) => Arc::ptr_eq(a, b),
            (Authorizer::Identity(a), Authorizer::Identity(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same_credential && Arc::ptr_eq(&self.upstream, &other.upstream)
    }

    /// Whether its upstream is a gateway of this program: that may say of an answer that it made it itself.
    pub(super) fn is_behind_gateway(&self) -> bool {
        matches!(self.authorizer, Authorizer::Identity(_))
    }

    /// The same with another lease.
    #[must_use]
    pub fn leased_anew(&self) -> Self {
        Self {
            authorizer: self.authorizer.clone(),
            upstream: Arc::clone(&self.upstream),
            links: self.links.clone(),
            identity: Arc::clone(&self.identity),
            prober: Arc::clone(&self.prober),
            lease: Lease::default(),
        }
    }
}

/// An account by its name. What is in force for it is replaced as a whole, between two requests.
pub struct AccountSlot {
    /// The label in logs and metrics.
    pub name: String,
    /// Its metrics.
    pub metrics: Arc<AccountMetrics>,
    /// Atlas's failing answers since the start.
    pub failures: Failures,
    /// Bounds the requests in flight to its upstream; its listeners share the bound.
    pub places: Arc<Places>,
    current: ArcSwap<Account>,
}

impl AccountSlot {
    /// A slot with its first account.
    pub fn new(name: String, metrics: Arc<AccountMetrics>, places: Arc<Places>, account: Arc<Account>) -> Arc<Self> {
        Arc::new(Self {
            name,
            metrics,
            failures: Failures::default(),
            places,
            current: ArcSwap::new(account),
        })
    }

    /// The account in force. Takes no lock.
    pub fn current(&self) -> Arc<Account> {
        self.current.load_full()
    }

    /// Puts another account in force and returns the one before.
    pub fn replace(&self, account: Arc<Account>) -> Arc<Account> {
        self.current.swap(account)
    }
}
