//! Settings become parts, parts become a running app that knows its addresses; later settings take the place of earlier
//! ones while it serves.

mod accounts;
mod admin;
mod credential_events;
mod listeners;
mod secret_expiry;
mod sharing;
mod status;
mod trust;
mod verify;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::blocking;
use crate::credential::digest::PublicKeyError;
use crate::log::LogSettings;
use crate::metrics::{Metrics, ReloadOutcome};
use crate::proxy::{BodyLimits, Common};
use crate::server::{self, Bind, BindError, Capacity, Limits, OutOfTime, Shares};
use crate::settings::Settings;
use crate::time::{SharedClock, SystemClock};
use crate::upstream::TlsError;

use accounts::Accounts;
pub use admin::AdminPlace;
pub use listeners::BoundListener;
use listeners::Listeners;
use sharing::Sharing;
use status::State;
pub use trust::Prepared;

/// Requests that may be on their way to one upstream at a time. Atlas's own limits are far lower.
const MOST_AT_ONCE: usize = 1024;

/// How long a drain waits at least before tokens are revoked: for so long a request may still come on an idle connection.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long the end waits for the revocation of tokens that were replaced or removed before: that has a limit of 2 s.
const RETIREMENT_END: Duration = Duration::from_secs(3);
/// How long the admin port has for what it is answering.
const ADMIN_END: Duration = Duration::from_secs(1);

/// Why the app did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port or socket is not to be had.
    #[error("listener: {0}")]
    Listener(#[source] BindError),
    /// The admin port is not to be had.
    #[error("admin port: {0}")]
    Admin(#[source] BindError),
    /// A reload brings a certificate that no client would accept.
    #[error(
        "listener `{listener}`: its new certificate {why}: no client would accept it, so the old one is shown on. Put one \
         that is valid now in its place (`certificate` and `key` of [listener.tls]), and reload again"
    )]
    Certificate {
        /// The listener.
        listener: String,
        /// What is wrong with it.
        why: OutOfTime,
    },
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
    /// No thread can be made.
    #[error("no thread can be made, or all are busy: {0}")]
    Thread(#[source] io::Error),
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

/// The app, not yet running.
#[derive(Debug)]
pub struct App;

/// The app, serving.
pub struct Running {
    state: Arc<State>,
    admin: AdminPlace,
    listeners: Listeners,
    drain_timeout: Duration,
    drain_delay: Duration,
    fixed: Fixed,
    admin_stop: watch::Sender<bool>,
    admin_task: JoinHandle<()>,
}

/// What only a restart can change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fixed {
    admin: Option<Bind>,
    workers: NonZeroUsize,
    log: LogSettings,
    max_connections: usize,
    max_connections_per_peer: usize,
    replay_budget: usize,
    #[cfg(feature = "token-store")]
    token_store: Option<crate::token_store::TokenStoreSettings>,
}

impl Fixed {
    fn of(settings: &Settings) -> Self {
        Self {
            admin: settings.admin.bind.as_ref().map(admin::place),
            workers: settings.workers,
            log: settings.log,
            max_connections: settings.limits.max_connections,
            max_connections_per_peer: settings.limits.max_connections_per_peer,
            replay_budget: settings.limits.replay_budget,
            #[cfg(feature = "token-store")]
            token_store: settings.token_store.clone(),
        }
    }

    /// The keys that differ.
    fn changes(&self, other: &Self) -> Vec<&'static str> {
        [
            ("admin.bind", self.admin != other.admin),
            ("workers", self.workers != other.workers),
            ("log", self.log != other.log),
            ("limits.max_connections", self.max_connections != other.max_connections),
            (
                "limits.max_connections_per_peer",
                self.max_connections_per_peer != other.max_connections_per_peer,
            ),
            ("limits.replay_budget", self.replay_budget != other.replay_budget),
            #[cfg(feature = "token-store")]
            ("token_store", self.token_store != other.token_store),
        ]
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("listeners", &self.listeners())
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
        let Prepared { settings, trusts } = blocking::run(move || Prepared::read(settings))
            .await
            .map_err(StartError::Thread)??;
        let metrics = Metrics::new();
        let bound = settings
            .listeners
            .iter()
            .map(|listener| server::bind(&listener.bind))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Listener)?;
        let admin = admin::bind(settings.admin.bind.as_ref()).map_err(StartError::Admin)?;
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
        let context = accounts::Context {
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            at_once,
            sharing: sharing.clone(),
        };
        let accounts = Accounts::start(context, &settings.accounts, &trusts)?;
        let common = Common::new(Arc::clone(&metrics), body_limits(&settings.limits));
        let capacity = Capacity::new(shares.clients, settings.limits.max_connections_per_peer);
        let fixed = Fixed::of(&settings);
        let listeners = Listeners::start(bound, &settings, &accounts, common, capacity, clock);

        let state = Arc::new(State {
            metrics,
            listeners: ArcSwap::from_pointee(listeners.bound()),
            accounts,
            hosts: admin.place.hosts(),
            admin: ArcSwap::from_pointee(settings.admin.clone()),
            started: SystemTime::now(),
            sharing: sharing.clone(),
            draining: watch::Sender::new(false),
            quit: Notify::new(),
        });
        let (admin_stop, admin_stopped) = watch::channel(false);
        sharing.spawn_watch(admin_stopped.clone());
        let place = admin.place.clone();
        let admin_task = admin.serve(&state, admin_stopped);
        Ok(Running {
            state,
            admin: place,
            listeners,
            drain_timeout: settings.drain_timeout,
            drain_delay: settings.drain_delay,
            fixed,
            admin_stop,
            admin_task,
        })
    }
}

fn body_limits(limits: &Limits) -> BodyLimits {
    BodyLimits {
        replay_limit: limits.replay_limit,
        replay_budget: limits.replay_budget,
        request_body_idle_timeout: limits.request_body_idle_timeout,
        request_body_min_rate: limits.request_body_min_rate,
    }
}

impl Running {
    /// The listeners, in the order of the settings.
    pub fn listeners(&self) -> Vec<BoundListener> {
        self.state.listeners.load().to_vec()
    }

    /// Where metrics and health answer.
    pub fn admin(&self) -> &AdminPlace {
        &self.admin
    }

    /// Ends when somebody asked for the end at the admin port.
    pub async fn quit_requested(&self) {
        self.state.quit.notified().await;
    }

    /// Takes other settings between two requests. A credential that changed is verified first, in the background; the old
    /// one stays in force until Atlas has accepted the new. Gives the keys that take effect at the next start only.
    ///
    /// # Errors
    /// When a listener or an account can't be set up: then the old settings stay in force as a whole.
    pub fn reload(&mut self, settings: Settings) -> Result<Vec<&'static str>, StartError> {
        self.reload_prepared(Prepared::read(settings))
    }

    /// The same with settings whose files have been read: does not block.
    ///
    /// # Errors
    /// As for [`Self::reload`].
    pub fn reload_prepared(&mut self, prepared: Result<Prepared, StartError>) -> Result<Vec<&'static str>, StartError> {
        let result = prepared.and_then(|prepared| self.take(prepared));
        let outcome = if result.is_ok() {
            ReloadOutcome::Ok
        } else {
            ReloadOutcome::Error
        };
        self.state.metrics.config_reload(outcome);
        result
    }

    /// To be called when settings could not be read, and the old stay in force.
    pub fn reload_failed(&self) {
        self.state.metrics.config_reload(ReloadOutcome::Error);
    }

    fn take(&mut self, prepared: Prepared) -> Result<Vec<&'static str>, StartError> {
        let Prepared { settings, trusts } = prepared;
        self.listeners.check_certificates(&settings.listeners)?;
        let bound = self.listeners.bind_new(&settings.listeners)?;
        self.state.accounts.reload(&settings.accounts, &trusts)?;
        let mut later = self.fixed.changes(&Fixed::of(&settings));
        self.drain_timeout = settings.drain_timeout;
        self.drain_delay = settings.drain_delay;
        later.extend(self.admin.take(&self.state, &settings.admin));
        later.extend(
            self.listeners
                .replace(bound, &settings, &self.state.accounts, self.drain_timeout),
        );
        self.state.accounts.forget_others(&settings.accounts);
        self.state.listeners.store(Arc::new(self.listeners.bound()));
        Ok(later)
    }

    /// After `drain_delay`: stops accepting, lets requests in flight finish within `drain_timeout`, revokes tokens as soon
    /// as no request uses them, ends.
    pub async fn shutdown(self) {
        self.state.draining.send_replace(true);
        if !self.drain_delay.is_zero() {
            tracing::info!(drain_delay = ?self.drain_delay, "not ready any more; the drain begins after `drain_delay`");
            self.listeners.announce_drain();
            tokio::time::sleep(self.drain_delay).await;
        }
        let ended = Notify::new();
        let drain = async {
            if self.listeners.drain(self.drain_timeout).await {
                tracing::info!("the drain has ended: every request was answered, every connection closed");
            } else {
                tracing::warn!(drain_timeout = ?self.drain_timeout, "the drain has ended: requests still in flight were broken off");
            }
            ended.notify_one();
        };
        let revoke = async {
            // A client that takes nothing of its answer must not keep the token alive.
            tokio::select! {
                () = ended.notified() => {}
                () = self.state.accounts.unused(LAST_CALL) => {}
            }
            self.state.accounts.shutdown().await;
        };
        tokio::join!(drain, revoke);
        self.state.accounts.retired(RETIREMENT_END).await;
        self.admin_stop.send_replace(true);
        let _ = tokio::time::timeout(ADMIN_END, self.admin_task).await;
    }
}
