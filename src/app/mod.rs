//! Settings become parts, parts become a running app that knows its addresses.

mod credential_events;
mod sharing;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::admin::{self, AdminState};
use crate::credential::CredentialSettings;
use crate::credential::bearer::BearerParts;
use crate::credential::digest::{Digest, DigestParts, PublicKeyError};
use crate::guard::HostNames;
use crate::metrics::Metrics;
use crate::outbound::http_client;
use crate::proxy::links::LinkRewriter;
use crate::proxy::{Account, Authorizer, BodyLimits, Common, Listener};
use crate::server::{self, Bind, BindError, Bound, Capacity, ConnectionLimits, Drain, Limits, ServerParts, Shares};
use crate::settings::{AccountSettings, Settings};
use crate::time::{SharedClock, SystemClock};
use crate::upstream::{TlsError, Upstream, client_config};
use sharing::Sharing;

/// Requests that may be on their way to one upstream at a time. Atlas's own limits are far lower.
const MOST_AT_ONCE: usize = 1024;

/// Why the app did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port or socket is not to be had.
    #[error("listener: {0}")]
    Listener(#[source] BindError),
    /// The admin port is not to be had.
    #[error("admin port: {0}")]
    Admin(#[source] BindError),
    /// No TLS towards an account's upstream.
    #[error("account `{account}`: {source}")]
    Tls {
        /// The account.
        account: String,
        /// Why.
        source: TlsError,
    },
    /// The API key cannot be used.
    #[error("account `{account}`: {source}")]
    PublicKey {
        /// The account.
        account: String,
        /// Why.
        source: PublicKeyError,
    },
    /// The client for the token endpoint could not be made.
    #[error("account `{account}`: the token client could not be set up: {why}")]
    TokenClient {
        /// The account.
        account: String,
        /// Why.
        why: String,
    },
    /// There can be no connection to the store of shared tokens, whatever it does.
    #[cfg(feature = "token-store")]
    #[error("token store: {0}")]
    TokenStore(#[source] crate::token_store::StoreSetupError),
}

/// A listener that serves.
#[derive(Debug, Clone)]
pub struct BoundListener {
    /// Its label.
    pub name: String,
    /// Where: `http://127.0.0.1:8080` or `unix:/path`.
    pub url: String,
    /// Whose credential it adds.
    pub account: String,
    /// `service_account` or `api_key`.
    pub credential: &'static str,
    /// Where requests go.
    pub upstream: String,
}

/// The app, not yet running.
#[derive(Debug)]
pub struct App;

/// The app, serving.
pub struct Running {
    state: Arc<State>,
    admin: SocketAddr,
    drain: Drain,
    drain_timeout: Duration,
    stop_renewal: watch::Sender<bool>,
    renewals: Vec<JoinHandle<()>>,
    admin_stop: watch::Sender<bool>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("listeners", &self.state.listeners)
            .field("admin", &self.admin)
            .finish()
    }
}

impl App {
    /// Binds every listener, then serves. Does not wait for a credential: requests do, for a moment.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing goes on running then.
    pub async fn start(settings: Settings) -> Result<Running, StartError> {
        Self::start_with_clock(settings, Arc::new(SystemClock)).await
    }

    /// Like [`Self::start`], with clocks of the caller's.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with_clock(settings: Settings, clock: SharedClock) -> Result<Running, StartError> {
        let metrics = Metrics::new();
        let bound = settings
            .listeners
            .iter()
            .map(|listener| server::bind(&listener.bind))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Listener)?;
        let Bound::Tcp(admin_socket, admin_address) =
            server::bind(&Bind::Tcp(settings.admin)).map_err(StartError::Admin)?
        else {
            unreachable!("a TCP address binds a TCP socket")
        };
        let shares = Shares::of(getrlimit(Resource::Nofile).current, settings.limits.max_connections);
        if shares.clients < settings.limits.max_connections {
            tracing::info!(
                max_connections = shares.clients,
                configured = settings.limits.max_connections,
                "fewer connections than configured: the process may not have as many open files (`ulimit -n`, LimitNOFILE)"
            );
        }
        let at_once = (shares.upstream / settings.accounts.len().max(1)).clamp(1, MOST_AT_ONCE);
        let sharing = Sharing::of(&settings, &metrics)?;
        let accounts = settings
            .accounts
            .iter()
            .map(|(name, account)| {
                let built = build_account(name, account, &metrics, &clock, at_once, &sharing)?;
                Ok((name.clone(), built))
            })
            .collect::<Result<BTreeMap<_, _>, StartError>>()?;

        let drain = Drain::default();
        let (stop_renewal, stopped) = watch::channel(false);
        let renewals = accounts
            .values()
            .filter_map(|account| spawn_renewal(account, stopped.clone()))
            .chain(sharing.spawn_watch(stopped.clone()))
            .collect();
        let common = Arc::new(Common::new(Arc::clone(&metrics), body_limits(&settings.limits)));
        let capacity = Capacity::new(shares.clients, settings.limits.max_connections_per_peer);
        let limits = ConnectionLimits {
            header_read_timeout: settings.limits.header_read_timeout,
            max_header_bytes: settings.limits.max_header_bytes,
            max_headers: settings.limits.max_headers,
        };
        let mut listeners = Vec::new();
        for (bound, listener) in bound.into_iter().zip(settings.listeners) {
            let account = Arc::clone(&accounts[&listener.account]);
            let name = listener.name.unwrap_or_else(|| bound.to_string());
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            let (url, hosts) = match &bound {
                Bound::Tcp(_, address) => (format!("{scheme}://{address}"), listener.hosts.with_bound(address.ip())),
                Bound::Unix(..) => (bound.to_string(), listener.hosts),
            };
            listeners.push(BoundListener {
                name: name.clone(),
                url,
                account: account.name.clone(),
                credential: settings.accounts[&account.name].credential.kind(),
                upstream: account.upstream.origin().to_string(),
            });
            let view = Listener {
                metrics: metrics.listener(&name, &account.name),
                name,
                scheme,
                hosts,
                required_header: listener.required_header,
                policy: listener.policy,
                rewrite_links: listener.rewrite_links,
                account,
                common: Arc::clone(&common),
            };
            let parts = ServerParts {
                listener: Arc::new(view),
                allow: listener.allow,
                tls: listener.tls,
                capacity: Arc::clone(&capacity),
                limits,
            };
            tokio::spawn(server::serve(bound, parts, drain.handle()));
        }

        let state = Arc::new(State {
            metrics,
            listeners,
            accounts,
            hosts: HostNames::new([]).with_bound(admin_address.ip()),
            started: SystemTime::now(),
            draining: watch::Sender::new(false),
            quit: Notify::new(),
        });
        let (admin_stop, mut admin_stopped) = watch::channel(false);
        let admin_state: Arc<dyn AdminState> = Arc::clone(&state) as Arc<dyn AdminState>;
        tokio::spawn(admin::serve(admin_socket, admin_state, async move {
            let _ = admin_stopped.wait_for(|stop| *stop).await;
        }));
        Ok(Running {
            state,
            admin: admin_address,
            drain,
            drain_timeout: settings.drain_timeout,
            stop_renewal,
            renewals,
            admin_stop,
        })
    }
}

fn body_limits(limits: &Limits) -> BodyLimits {
    BodyLimits {
        replay_limit: limits.replay_limit,
        replay_budget: limits.replay_budget,
        request_body_idle_timeout: limits.request_body_idle_timeout,
    }
}

fn build_account(
    name: &str,
    settings: &AccountSettings,
    metrics: &Arc<Metrics>,
    clock: &SharedClock,
    at_once: usize,
    sharing: &Sharing,
) -> Result<Arc<Account>, StartError> {
    let account_metrics = metrics.account(name);
    let tls = client_config(settings.upstream.ca_file.as_deref()).map_err(|source| StartError::Tls {
        account: name.to_owned(),
        source,
    })?;
    let origin = settings.upstream.origin.clone();
    let authorizer = match &settings.credential {
        CredentialSettings::ServiceAccount { client_id, secrets } => {
            let http =
                http_client(tls.clone(), settings.upstream.connect_timeout).map_err(|e| StartError::TokenClient {
                    account: name.to_owned(),
                    why: e.to_string(),
                })?;
            let parts = BearerParts {
                account: name.to_owned(),
                client_id: client_id.clone(),
                secrets: secrets.clone(),
                origin: origin.clone(),
                http,
                clock: Arc::clone(clock),
                events: Arc::new(credential_events::Events(Arc::clone(&account_metrics))),
            };
            Authorizer::Bearer(sharing.bearer(parts, metrics))
        }
        CredentialSettings::ApiKey {
            public_key,
            private_key,
            max_concurrent,
        } => {
            let digest = Digest::new(DigestParts {
                public_key: public_key.clone(),
                private_key: private_key.clone(),
                max_concurrent: *max_concurrent,
                clock: Arc::clone(clock),
                events: Arc::new(credential_events::Events(Arc::clone(&account_metrics))),
            });
            let digest = digest.map_err(|source| StartError::PublicKey {
                account: name.to_owned(),
                source,
            })?;
            Authorizer::Digest(Arc::new(digest))
        }
    };
    let open = account_metrics.upstream_connections_open.clone();
    Ok(Arc::new(Account {
        name: name.to_owned(),
        authorizer,
        links: LinkRewriter::new(&origin),
        upstream: Upstream::new(settings.upstream.clone(), &tls, open, at_once),
        metrics: account_metrics,
    }))
}

fn spawn_renewal(account: &Account, mut stop: watch::Receiver<bool>) -> Option<JoinHandle<()>> {
    let Authorizer::Bearer(bearer) = &account.authorizer else {
        return None;
    };
    let bearer = Arc::clone(bearer);
    Some(tokio::spawn(async move {
        let stopped = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        Arc::clone(&bearer).run(stopped).await;
        bearer.revoke().await;
    }))
}

impl Running {
    /// The listeners, in the order of the settings.
    pub fn listeners(&self) -> &[BoundListener] {
        &self.state.listeners
    }

    /// Where metrics and health answer.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Ends when somebody asked for the end at the admin port.
    pub async fn quit_requested(&self) {
        self.state.quit.notified().await;
    }

    /// Stops accepting, lets requests in flight finish within `drain_timeout`, revokes tokens, ends.
    pub async fn shutdown(self) {
        self.state.draining.send_replace(true);
        if !self.drain.drain(self.drain_timeout).await {
            tracing::warn!(drain_timeout = ?self.drain_timeout, "requests still in flight were broken off");
        }
        self.stop_renewal.send_replace(true);
        for renewal in self.renewals {
            let _ = renewal.await;
        }
        self.admin_stop.send_replace(true);
    }
}

/// What the admin port may see.
struct State {
    metrics: Arc<Metrics>,
    listeners: Vec<BoundListener>,
    accounts: BTreeMap<String, Arc<Account>>,
    hosts: HostNames,
    started: SystemTime,
    draining: watch::Sender<bool>,
    quit: Notify,
}

impl Account {
    fn usable(&self) -> bool {
        match &self.authorizer {
            Authorizer::Bearer(bearer) => bearer.usable(),
            Authorizer::Digest(digest) => digest.usable(),
        }
    }

    fn attempted(&self) -> bool {
        match &self.authorizer {
            Authorizer::Bearer(bearer) => bearer.first_attempt_made(),
            // A key needs no preparation: the first request fetches its challenge.
            Authorizer::Digest(_) => true,
        }
    }
}

impl AdminState for State {
    fn metrics_text(&self) -> String {
        self.metrics.render()
    }

    fn started(&self) -> Result<(), Vec<String>> {
        let waiting: Vec<_> = self
            .accounts
            .values()
            .filter(|account| !account.attempted())
            .map(|account| format!("account `{}`: no first attempt to get a credential yet", account.name))
            .collect();
        if waiting.is_empty() { Ok(()) } else { Err(waiting) }
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        if *self.draining.borrow() {
            return Err(vec!["draining".to_owned()]);
        }
        if self.accounts.values().any(|account| account.usable()) {
            return Ok(());
        }
        Err(self
            .accounts
            .keys()
            .map(|name| format!("account `{name}`: no usable credential"))
            .collect())
    }

    fn account_ready(&self, name: &str) -> Option<Result<(), Vec<String>>> {
        let account = self.accounts.get(name)?;
        Some(if *self.draining.borrow() {
            Err(vec!["draining".to_owned()])
        } else if account.usable() {
            Ok(())
        } else {
            Err(vec![format!("account `{name}`: no usable credential")])
        })
    }

    fn status(&self) -> serde_json::Value {
        let uptime = self.started.elapsed().unwrap_or_default().as_secs();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptimeSeconds": uptime,
            "draining": *self.draining.borrow(),
            "listeners": self.listeners.iter().map(|l| json!({
                "name": l.name, "address": l.url, "account": l.account,
            })).collect::<Vec<_>>(),
            "accounts": self.accounts.values().map(|a| json!({
                "name": a.name,
                "credential": match a.authorizer { Authorizer::Bearer(_) => "service_account", Authorizer::Digest(_) => "api_key" },
                "upstream": a.upstream.origin().to_string(),
                "usable": a.usable(),
            })).collect::<Vec<_>>(),
        })
    }

    fn quit(&self) {
        self.quit.notify_one();
    }

    fn hosts(&self) -> &HostNames {
        &self.hosts
    }
}
