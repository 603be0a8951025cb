//! Listeners from one set of settings to the next: those that stay get another view, those that are new are bound, those
//! that are gone drain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::accounts::Accounts;
use super::{StartError, body_limits};
use crate::fair::Part;
use crate::proxy::{AccountSlot, Common, Fairness, Listener};
use crate::server::{
    self, Bind, BindError, Bound, Capacity, ConnectionLimits, Drain, Limits, ListenerSettings, ListenerTls,
    ServerParts, View,
};
use crate::settings::Settings;
use crate::time::SharedClock;

/// A listener that serves.
#[derive(Debug, Clone)]
pub struct BoundListener {
    /// Its label.
    pub name: String,
    /// Where: `http://127.0.0.1:8080` or `unix:/path`.
    pub url: String,
    /// Where else: `http://[::1]:8080`.
    pub also: Option<String>,
    /// Whose credential it adds.
    pub account: String,
    /// `service_account` or `api_key`.
    pub credential: &'static str,
    /// Where requests go.
    pub upstream: String,
}

/// All listeners, in the order of the settings.
pub(super) struct Listeners {
    common: Arc<Common>,
    capacity: Arc<Capacity>,
    clock: SharedClock,
    running: Vec<Running>,
    /// Drains of those that are no longer configured.
    leaving: Vec<JoinHandle<bool>>,
}

/// One that serves.
struct Running {
    bind: Bind,
    place: Place,
    parts: Arc<ServerParts>,
    fairness: Arc<Fairness>,
    tls: Option<ListenerTls>,
    /// The account's name, and this listener's part of the places on the way to its upstream.
    part: (String, Arc<Part>),
    shown: BoundListener,
    drain: Drain,
}

/// Where a socket is bound.
#[derive(Clone)]
enum Place {
    Tcp(std::net::SocketAddr),
    /// The first is the one that names it.
    Both([std::net::SocketAddr; 2]),
    Unix(String),
}

impl Place {
    fn of(bound: &Bound) -> Self {
        match bound {
            Bound::Tcp(_, address) => Self::Tcp(*address),
            Bound::Both([(_, first), (_, second)]) => Self::Both([*first, *second]),
            Bound::Unix(..) => Self::Unix(bound.to_string()),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Tcp(address) | Self::Both([address, _]) => address.to_string(),
            Self::Unix(path) => path.clone(),
        }
    }
}

impl Listeners {
    /// Serves on sockets that are bound already, one for each listener of the settings.
    pub(super) fn start(
        bound: Vec<Bound>,
        settings: &Settings,
        accounts: &Accounts,
        common: Common,
        capacity: Arc<Capacity>,
        clock: SharedClock,
    ) -> Self {
        let mut all = Self {
            common: Arc::new(common),
            capacity,
            clock,
            running: Vec::new(),
            leaving: Vec::new(),
        };
        for (bound, listener) in bound.into_iter().zip(&settings.listeners) {
            all.running.extend(all.begin(bound, listener, settings, accounts));
        }
        all
    }

    /// What serves, as it is shown.
    pub(super) fn bound(&self) -> Vec<BoundListener> {
        self.running.iter().map(|one| one.shown.clone()).collect()
    }

    /// Refuses a certificate that no client would accept. One that is shown already may have expired meanwhile: that is no
    /// reason not to take other settings.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn check_certificates(&self, listeners: &[ListenerSettings]) -> Result<(), StartError> {
        let now = self.clock.wall();
        for listener in listeners {
            let Some(tls) = &listener.tls else { continue };
            let running = self.running.iter().find(|one| same_place(&one.bind, &listener.bind));
            let shown = running
                .and_then(|one| one.tls.as_ref())
                .is_some_and(|before| before.shows_the_same_as(tls));
            if let (Err(why), false) = (tls.in_time(now), shown) {
                let label = || running.map_or_else(|| bind_label(&listener.bind), |one| one.place.label());
                let listener = listener.name.clone().unwrap_or_else(label);
                return Err(StartError::Certificate { listener, why });
            }
        }
        Ok(())
    }

    /// Sockets for the listeners that there were none of before, in the order of `listeners`; `None`: it stays.
    ///
    /// # Errors
    /// When one can't be bound. Nothing has changed then.
    pub(super) fn bind_new(&self, listeners: &[ListenerSettings]) -> Result<Vec<Option<Bound>>, StartError> {
        let mut there: Vec<&Bind> = self.running.iter().map(|one| &one.bind).collect();
        listeners
            .iter()
            .map(
                |listener| match there.iter().position(|bind| same_place(bind, &listener.bind)) {
                    Some(at) => {
                        there.remove(at);
                        Ok(None)
                    }
                    None => server::bind(&listener.bind).map(Some).map_err(StartError::Listener),
                },
            )
            .collect()
    }

    /// Serves by other settings. `bound` is what [`Self::bind_new`] gave for them. Gives the keys that a socket takes only
    /// when it is made.
    pub(super) fn replace(
        &mut self,
        bound: Vec<Option<Bound>>,
        settings: &Settings,
        accounts: &Accounts,
        drain_timeout: Duration,
    ) -> Vec<&'static str> {
        self.common = Arc::new(self.common.with_limits(body_limits(&settings.limits)));
        let mut later = Vec::new();
        let mut before: VecDeque<Running> = self.running.drain(..).collect();
        let mut after = Vec::new();
        for (bound, listener) in bound.into_iter().zip(&settings.listeners) {
            if let Some(bound) = bound {
                after.extend(self.begin(bound, listener, settings, accounts));
                continue;
            }
            let at = before.iter().position(|one| same_place(&one.bind, &listener.bind));
            let Some(mut one) = at.and_then(|at| before.remove(at)) else {
                continue;
            };
            if let Err(error) = take_mode(&one.bind, &listener.bind) {
                tracing::error!(%error, "the socket's `mode` was not changed");
                later.push("listener.mode");
            }
            one.bind = listener.bind.clone();
            let Some(account) = accounts.slot(&listener.account) else {
                continue;
            };
            if one.part.0 != account.name {
                one.part = (account.name.clone(), account.places.part());
            }
            let (view, shown) = self.view(&one.place, listener, settings, account, &one.fairness, &one.part.1);
            one.parts.replace(view);
            if one.shown.name != shown.name || listener.tls.is_none() {
                self.common.metrics.listener_certificate_expiry(&one.shown.name, None);
            }
            one.shown = shown;
            one.tls = listener.tls.clone();
            self.say_certificate(&one);
            after.push(one);
        }
        for gone in before {
            tracing::info!(listener = %gone.shown.name, "the listener is no longer configured: it drains");
            self.common.metrics.listener_certificate_expiry(&gone.shown.name, None);
            self.leaving.push(tokio::spawn(gone.drain.drain(drain_timeout)));
        }
        self.leaving.retain(|drain| !drain.is_finished());
        self.running = after;
        later
    }

    /// Serves on, but lets clients know that the drain will come.
    pub(super) fn announce_drain(&self) {
        for one in &self.running {
            one.drain.announce();
        }
    }

    /// Ends serving; gives back whether all requests ended within `limit`.
    pub(super) async fn drain(self, limit: Duration) -> bool {
        let ends: Vec<_> = self
            .running
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

    fn begin(
        &self,
        bound: Bound,
        listener: &ListenerSettings,
        settings: &Settings,
        accounts: &Accounts,
    ) -> Option<Running> {
        let account = accounts.slot(&listener.account)?;
        let place = Place::of(&bound);
        let fairness = Arc::default();
        let part = (account.name.clone(), account.places.part());
        let (view, shown) = self.view(&place, listener, settings, account, &fairness, &part.1);
        let parts = ServerParts::new(view, Arc::clone(&self.capacity));
        let drain = Drain::default();
        tokio::spawn(server::serve(bound, Arc::clone(&parts), drain.handle()));
        let running = Running {
            bind: listener.bind.clone(),
            place,
            parts,
            fairness,
            tls: listener.tls.clone(),
            part,
            shown,
            drain,
        };
        self.say_certificate(&running);
        Some(running)
    }

    /// What metrics and log say of a listener's certificate and its clients'.
    fn say_certificate(&self, one: &Running) {
        let Some(tls) = &one.tls else { return };
        let (now, name) = (self.clock.wall(), &one.shown.name);
        self.common.metrics.listener_certificate_expiry(name, tls.expires_at());
        if let Err(why) = tls.in_time(now) {
            tracing::warn!(listener = %name, "the listener's certificate {why}: clients will not accept it");
        }
        tls.warn_of_lists(now);
    }

    fn view(
        &self,
        place: &Place,
        listener: &ListenerSettings,
        settings: &Settings,
        account: Arc<AccountSlot>,
        fairness: &Arc<Fairness>,
        part: &Arc<Part>,
    ) -> (View, BoundListener) {
        let name = listener.name.clone().unwrap_or_else(|| place.label());
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        let (url, hosts) = match place {
            // Those of `localhost` are ours in any case.
            Place::Tcp(address) | Place::Both([address, _]) => (
                format!("{scheme}://{address}"),
                listener.hosts.clone().with_bound(address.ip()),
            ),
            Place::Unix(path) => (path.clone(), listener.hosts.clone()),
        };
        let of = &settings.accounts[&account.name];
        let shown = BoundListener {
            name: name.clone(),
            url,
            also: match place {
                Place::Both([_, second]) => Some(format!("{scheme}://{second}")),
                Place::Tcp(_) | Place::Unix(_) => None,
            },
            account: account.name.clone(),
            credential: of.credential.kind(),
            upstream: of.upstream.origin.to_string(),
        };
        let view = View {
            listener: Arc::new(Listener {
                metrics: self.common.metrics.listener(&name, &account.name),
                name,
                scheme,
                hosts,
                required_header: listener.required_header.clone(),
                policy: listener.policy.clone(),
                rewrite_links: listener.rewrite_links,
                fairness_limits: listener.fairness,
                fairness: Arc::clone(fairness),
                retry_429: listener.retry_429,
                part: Arc::clone(part),
                account,
                common: Arc::clone(&self.common),
            }),
            allow: listener.allow.clone(),
            uids: match &listener.bind {
                Bind::Unix { uids, .. } => uids.clone(),
                Bind::Tcp(_) | Bind::Localhost { .. } => Vec::new(),
            },
            tls: listener.tls.clone(),
            limits: connection_limits(&settings.limits),
            clock: Arc::clone(&self.clock),
        };
        (view, shown)
    }
}

fn bind_label(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Localhost { port } => format!("127.0.0.1:{port}"),
        Bind::Unix { path, .. } => format!("unix:{}", path.display()),
    }
}

/// Gives a socket that stays its new mode. Its user ids are looked at for each request.
fn take_mode(before: &Bind, after: &Bind) -> Result<(), BindError> {
    match (before, after) {
        (Bind::Unix { mode: old, .. }, Bind::Unix { path, mode: new, .. }) if old != new => {
            server::change_mode(path, *new)
        }
        _ => Ok(()),
    }
}

/// Whether two speak of the same socket.
fn same_place(a: &Bind, b: &Bind) -> bool {
    match (a, b) {
        (Bind::Unix { path: a, .. }, Bind::Unix { path: b, .. }) => a == b,
        _ => a == b,
    }
}

/// A drain that began with a limit of its own. Ended, it lets go of its connections.
async fn no_longer(drain: JoinHandle<bool>, limit: Duration) -> bool {
    let task = drain.abort_handle();
    let in_time = tokio::time::timeout(limit, drain).await;
    task.abort();
    matches!(in_time, Ok(Ok(true)))
}

fn connection_limits(limits: &Limits) -> ConnectionLimits {
    ConnectionLimits {
        header_read_timeout: limits.header_read_timeout,
        max_header_bytes: limits.max_header_bytes,
        max_headers: limits.max_headers,
        max_age: limits.max_connection_age,
    }
}
