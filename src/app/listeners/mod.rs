//! Keeps listeners across reloads: those that stay get another snapshot, new ones are bound, removed ones drain.

mod portions;
mod socket;
mod status;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::StartError;
use super::accounts::Accounts;
use super::callers::{AppCallers, Terms};
use crate::caller::Callers;
use crate::proxy::{AccountSlot, Pipeline, Shared, Usage};
use crate::server::{self, Bind, BoundSocket, Capacity, Drain, HandedSockets, ListenerSettings, ListenerTls, Snapshot};
use crate::settings::{AccountSettings, Limits, Settings};
use crate::time::SharedClock;

use portions::Portions;
use socket::{BoundAddress, bind_label, same_socket, take_mode};
pub use status::ListenerStatus;

/// All listeners, in the order of the settings.
pub(super) struct Listeners {
    shared: Arc<Shared>,
    capacity: Arc<Capacity>,
    callers: AppCallers,
    clock: SharedClock,
    open: Vec<OpenListener>,
    /// Drains of listeners that are no longer configured.
    leaving: Vec<JoinHandle<bool>>,
}

/// A listener that serves.
struct OpenListener {
    bind: Bind,
    address: BoundAddress,
    listener: Arc<server::Listener>,
    usage: Arc<Usage>,
    tls: Option<ListenerTls>,
    account: Arc<AccountSlot>,
    requires_callers: bool,
    /// What it and its callers have of what all share.
    portions: Portions,
    status: ListenerStatus,
    drain: Drain,
}

/// What the settings want of one listener.
struct Wanted<'s> {
    settings: &'s ListenerSettings,
    account: Arc<AccountSlot>,
    account_settings: &'s AccountSettings,
    limits: &'s Limits,
}

impl<'s> Wanted<'s> {
    /// What `settings` want, with the accounts that they name.
    ///
    /// # Errors
    /// When a listener names an account that there is none of.
    fn all(settings: &'s Settings, accounts: &Accounts) -> Result<Vec<Self>, StartError> {
        let find = |listener: &'s ListenerSettings| {
            let (account, account_settings) = accounts
                .slot(&listener.account)
                .zip(settings.accounts.get(&listener.account))?;
            Some(Self {
                settings: listener,
                account,
                account_settings,
                limits: &settings.limits,
            })
        };
        settings
            .listeners
            .iter()
            .map(|listener| {
                find(listener).ok_or_else(|| StartError::UnknownAccount {
                    account: listener.account.clone(),
                })
            })
            .collect()
    }
}

impl Listeners {
    /// Serves on sockets that are bound already, one for each listener of the settings.
    ///
    /// # Errors
    /// When a listener names an account that there is none of.
    pub(super) fn start(
        sockets: Vec<BoundSocket>,
        settings: &Settings,
        accounts: &Accounts,
        callers: AppCallers,
        shared: Shared,
        capacity: Arc<Capacity>,
        clock: SharedClock,
    ) -> Result<Self, StartError> {
        let mut all = Self {
            shared: Arc::new(shared),
            capacity,
            callers,
            clock,
            open: Vec::new(),
            leaving: Vec::new(),
        };
        let wanted = Wanted::all(settings, accounts)?;
        all.open = sockets
            .into_iter()
            .zip(wanted)
            .map(|(socket, wanted)| all.open(socket, wanted))
            .collect();
        Ok(all)
    }

    /// The listeners that serve.
    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        self.open.iter().map(|one| one.status.clone()).collect()
    }

    /// Refuses a new certificate that no client would accept. An unchanged one may have expired meanwhile.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn check_certificates(&self, listeners: &[ListenerSettings]) -> Result<(), StartError> {
        let now = self.clock.wall();
        for listener in listeners {
            let Some(tls) = &listener.tls else { continue };
            let open = self.open.iter().find(|one| same_socket(&one.bind, &listener.bind));
            let shown = open
                .and_then(|one| one.tls.as_ref())
                .is_some_and(|before| before.shows_the_same_as(tls));
            if let (Err(why), false) = (tls.in_time(now), shown) {
                let label = || open.map_or_else(|| bind_label(&listener.bind), |one| one.address.label());
                let listener = listener.name.clone().unwrap_or_else(label);
                return Err(StartError::Certificate { listener, why });
            }
        }
        Ok(())
    }

    /// Refuses settings by which everybody would be let in where a caller is required now.
    ///
    /// # Errors
    /// When there is such a listener.
    pub(super) fn check_callers(&self, listeners: &[ListenerSettings]) -> Result<(), StartError> {
        let asks_nobody = listeners.iter().any(|listener| listener.rules.callers.is_none());
        // Whatever name and place it has now: no listener asks unless the settings name callers, and then all do.
        match self
            .open
            .iter()
            .find(|one| one.requires_callers)
            .filter(|_| asks_nobody)
        {
            Some(one) => Err(StartError::CallersGone {
                listener: one.status.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The callers in force.
    pub(super) fn callers(&self) -> Arc<Callers> {
        self.callers.current()
    }

    /// What the callers in force may do and use.
    pub(super) fn terms(&self) -> Terms {
        self.callers.terms()
    }

    /// Binds the sockets of new listeners, in the order of `listeners`; `None`: the socket stays.
    ///
    /// # Errors
    /// When one can't be bound. Nothing has changed then.
    pub(super) fn bind_new(
        &self,
        listeners: &[ListenerSettings],
        handed: &HandedSockets,
    ) -> Result<Vec<Option<BoundSocket>>, StartError> {
        let mut there: Vec<&Bind> = self.open.iter().map(|one| &one.bind).collect();
        listeners
            .iter()
            .map(
                |listener| match there.iter().position(|bind| same_socket(bind, &listener.bind)) {
                    Some(at) => {
                        there.remove(at);
                        Ok(None)
                    }
                    None => server::bind(&listener.bind, handed)
                        .map(Some)
                        .map_err(StartError::Listener),
                },
            )
            .collect()
    }

    /// Applies new settings. `sockets` is what [`Self::bind_new`] returned for them. Returns the keys that could not be
    /// applied to a socket that stays.
    ///
    /// # Errors
    /// When a listener names an account that there is none of. Nothing has changed then.
    pub(super) fn replace(
        &mut self,
        sockets: Vec<Option<BoundSocket>>,
        settings: &Settings,
        accounts: &Accounts,
        drain_timeout: Duration,
    ) -> Result<Vec<&'static str>, StartError> {
        let wanted = Wanted::all(settings, accounts)?;
        self.shared = Arc::new(self.shared.with_limits(settings.limits.body));
        self.callers = self.callers.replaced(settings);
        let mut later = Vec::new();
        let mut before: VecDeque<OpenListener> = self.open.drain(..).collect();
        let mut after = Vec::new();
        for (socket, wanted) in sockets.into_iter().zip(wanted) {
            if let Some(socket) = socket {
                after.push(self.open(socket, wanted));
                continue;
            }
            let kept = |one: &OpenListener| same_socket(&one.bind, &wanted.settings.bind);
            let Some(mut one) = before.iter().position(kept).and_then(|at| before.remove(at)) else {
                continue;
            };
            if let Err(error) = take_mode(&one.bind, &wanted.settings.bind) {
                tracing::error!(%error, "the socket's `mode` was not changed");
                later.push("listener.mode");
            }
            self.refit(&mut one, wanted);
            after.push(one);
        }
        for gone in before {
            tracing::info!(listener = %gone.status.name, "the listener is no longer configured: it drains");
            self.shared.metrics.listener_certificate_expiry(&gone.status.name, None);
            self.leaving.push(tokio::spawn(gone.drain.drain(drain_timeout)));
        }
        self.leaving.retain(|drain| !drain.is_finished());
        self.open = after;
        Ok(later)
    }

    /// Goes on serving, but tells clients that the drain will come.
    pub(super) fn announce_drain(&self) {
        for one in &self.open {
            one.drain.announce();
        }
    }

    /// Stops serving; returns whether all requests ended within `limit`.
    pub(super) async fn drain(self, limit: Duration) -> bool {
        let ends: Vec<_> = self
            .open
            .into_iter()
            .map(|one| tokio::spawn(one.drain.drain(limit)))
            .chain(
                self.leaving
                    .into_iter()
                    .map(|drain| tokio::spawn(no_longer(drain, limit))),
            )
            .collect();
        let mut in_time = true;
        for end in ends {
            in_time &= end.await.unwrap_or(false);
        }
        in_time
    }

    /// Serves on one more socket.
    fn open(&self, socket: BoundSocket, wanted: Wanted<'_>) -> OpenListener {
        let address = BoundAddress::of(&socket);
        let (usage, mut portions) = (Arc::default(), Portions::new(&wanted.account.places, &self.shared));
        let (snapshot, status) = self.snapshot(&address, &wanted, &usage, &mut portions);
        let listener = server::Listener::new(snapshot, Arc::clone(&self.capacity));
        let drain = Drain::default();
        tokio::spawn(server::serve(socket, Arc::clone(&listener), drain.handle()));
        let open = OpenListener {
            bind: wanted.settings.bind.clone(),
            address,
            listener,
            usage,
            tls: wanted.settings.tls.clone(),
            requires_callers: wanted.settings.rules.requires_callers(),
            account: wanted.account,
            portions,
            status,
            drain,
        };
        self.say_certificate(&open);
        open
    }

    /// Applies new settings to a listener that keeps its socket.
    fn refit(&self, one: &mut OpenListener, wanted: Wanted<'_>) {
        if one.account.name != wanted.account.name {
            one.portions.lead_to(&wanted.account.places);
        }
        let (snapshot, status) = self.snapshot(&one.address, &wanted, &one.usage, &mut one.portions);
        one.listener.replace(snapshot);
        if one.status.name != status.name || wanted.settings.tls.is_none() {
            self.shared.metrics.listener_certificate_expiry(&one.status.name, None);
        }
        one.bind = wanted.settings.bind.clone();
        one.tls = wanted.settings.tls.clone();
        one.requires_callers = wanted.settings.rules.requires_callers();
        one.account = wanted.account;
        one.status = status;
        self.say_certificate(one);
    }

    /// Puts a listener's certificate and its clients' into metrics and log.
    fn say_certificate(&self, one: &OpenListener) {
        let Some(tls) = &one.tls else { return };
        let (now, name) = (self.clock.wall(), &one.status.name);
        self.shared.metrics.listener_certificate_expiry(name, tls.expires_at());
        if let Err(why) = tls.in_time(now) {
            tracing::warn!(listener = %name, "the listener's certificate {why}: clients will not accept it");
        }
        tls.warn_of_lists(now);
    }

    fn snapshot(
        &self,
        address: &BoundAddress,
        wanted: &Wanted<'_>,
        usage: &Arc<Usage>,
        portions: &mut Portions,
    ) -> (Snapshot, ListenerStatus) {
        let (settings, account) = (wanted.settings, &wanted.account);
        let name = settings.name.clone().unwrap_or_else(|| address.label());
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let mut rules = settings.rules.clone();
        let (url, also) = match address {
            // The addresses of `localhost` are our names in any case.
            BoundAddress::Tcp(first) | BoundAddress::Both([first, _]) => {
                rules.hosts = rules.hosts.with_bound(first.ip());
                (format!("{scheme}://{first}"), address.second())
            }
            BoundAddress::Unix(path) => (path.clone(), None),
        };
        let status = ListenerStatus {
            name: name.clone(),
            url,
            also: also.map(|second| format!("{scheme}://{second}")),
            account: account.name.clone(),
            credential: wanted.account_settings.credential.kind(),
            upstream: wanted.account_settings.upstream.origin.to_string(),
            settings: settings.clone(),
            usage: Arc::clone(usage),
        };
        let callers = portions.callers(&self.callers, &name, &account.name, &rules, &self.shared);
        let snapshot = Snapshot {
            pipeline: Arc::new(Pipeline {
                callers,
                local: address.is_local(),
                metrics: self.shared.metrics.listener(&name, &account.name),
                name,
                scheme,
                rules,
                usage: Arc::clone(usage),
                connections: Arc::clone(&portions.connections),
                portion: portions.own.clone(),
                account: Arc::clone(account),
                shared: Arc::clone(&self.shared),
            }),
            allow: settings.allow.clone(),
            proxy_protocol: settings.proxy_protocol.clone(),
            uids: match &settings.bind {
                Bind::Unix { uids, .. } => uids.clone(),
                Bind::Tcp(_) | Bind::Localhost { .. } | Bind::Elsewhere { .. } => Vec::new(),
            },
            tls: settings.tls.clone(),
            limits: wanted.limits.connection,
            clock: Arc::clone(&self.clock),
        };
        (snapshot, status)
    }
}

/// Shortens a drain that began with another limit to `limit`. When it ends, it drops its connections.
async fn no_longer(drain: JoinHandle<bool>, limit: Duration) -> bool {
    let task = drain.abort_handle();
    let in_time = tokio::time::timeout(limit, drain).await;
    task.abort();
    matches!(in_time, Ok(Ok(true)))
}
