//! Builds the parts from the settings, and the running app, which knows its addresses, from the parts; new settings
//! replace the old ones while it serves.

mod accounts;
mod admin;
mod callers;
mod error;
mod history;
mod listeners;
mod reload;
mod sharing;
mod status;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::audit::Audit;
use crate::blocking;
use crate::metrics::Metrics;
use crate::proxy::Shared;
use crate::server::{self, Capacity, Shares};
use crate::settings::Settings;
use crate::time::{SharedClock, SystemClock};
use crate::trace::Tracer;

use accounts::Accounts;
pub use admin::AdminAddress;
use callers::AppCallers;
pub use error::StartError;
use history::History;
pub use listeners::ListenerStatus;
use listeners::Listeners;
use reload::OnlyAtStart;
use sharing::Sharing;
use status::{InForce, State};
pub use trust::Prepared;

/// The most requests under way to one upstream at a time. Atlas's own limits are far lower.
const MOST_AT_ONCE: usize = 1024;

/// How long a drain waits at least before tokens are revoked: a request may still come on an idle connection.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long the shutdown waits for the revocation of tokens that were replaced or removed before; a revocation has a
/// limit of 2 s.
const RETIREMENT_END: Duration = Duration::from_secs(3);
/// How long the audit log has to write its last lines.
const AUDIT_END: Duration = Duration::from_secs(5);
/// How often the log tells what the last line of the audit log is.
const HEAD_EVERY: Duration = Duration::from_secs(60);
/// How long the admin port has to finish its answers.
const ADMIN_END: Duration = Duration::from_secs(1);

/// The app, serving.
pub struct App {
    state: Arc<State>,
    admin: AdminAddress,
    listeners: Listeners,
    drain_timeout: Duration,
    drain_delay: Duration,
    only_at_start: OnlyAtStart,
    admin_stop: DropGuard,
    admin_task: JoinHandle<()>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("listeners", &self.listeners())
            .field("admin", &self.admin)
            .finish()
    }
}

impl App {
    /// Binds every listener, then serves. Does not wait for a credential: requests wait for it, for a moment.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running then.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_with_clock(settings, Arc::new(SystemClock)).await
    }

    /// Like [`Self::start`], with clocks of the caller's.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with_clock(settings: Settings, clock: SharedClock) -> Result<Self, StartError> {
        let Prepared {
            settings,
            trusts,
            traces_tls,
        } = blocking::run(move || Prepared::read(settings))
            .await
            .map_err(StartError::Thread)??;
        let (metrics, started) = (Metrics::new(settings.catalogue.tags()), clock.wall());
        let bound = settings
            .listeners
            .iter()
            .map(|listener| server::bind(&listener.bind, &settings.handed))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Listener)?;
        let admin = admin::bind(settings.admin.bind.as_ref(), &settings.handed).map_err(StartError::Admin)?;
        let shares = Shares::of(
            getrlimit(Resource::Nofile).current,
            settings.limits.capacity.max_connections,
        );
        if shares.clients < settings.limits.capacity.max_connections {
            tracing::info!(
                max_connections = shares.clients,
                configured = settings.limits.capacity.max_connections,
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
        let audit = start_audit(&settings, &metrics, &clock).await?;
        let traces = settings.traces.as_ref().zip(traces_tls);
        let tracer = traces.and_then(|(traces, tls)| Tracer::start(traces, tls, &metrics));
        let catalogue = Arc::clone(&settings.catalogue);
        let shared = Shared::new(
            Arc::clone(&metrics),
            catalogue,
            Arc::clone(&clock),
            shares.clients,
            settings.limits.body,
            audit.clone(),
            tracer.clone(),
        );
        let (radar, refused) = (Arc::clone(&shared.radar), Arc::clone(&shared.refused));
        let callers = AppCallers::start(&settings, Arc::clone(&clock))?;
        let capacity = Capacity::new(shares.clients, settings.limits.capacity.max_connections_per_peer);
        let only_at_start = OnlyAtStart::of(&settings);
        let (current, terms) = (callers.current(), callers.terms());
        let in_force = InForce::new(&settings, Vec::new(), started);
        let listeners = Listeners::start(
            bound,
            &settings,
            &accounts,
            callers,
            shared,
            capacity,
            Arc::clone(&clock),
        )?;

        let state = Arc::new(State {
            metrics,
            listeners: ArcSwap::from_pointee(listeners.status()),
            accounts,
            callers: ArcSwap::new(current),
            terms: ArcSwap::from_pointee(terms),
            hosts: admin.address.hosts(),
            admin: ArcSwap::from_pointee(settings.admin.clone()),
            started,
            sharing: sharing.clone(),
            audit,
            tracer,
            radar,
            refused,
            in_force: ArcSwap::from_pointee(in_force),
            refused_settings: Mutex::default(),
            history: History::default(),
            clock,
            draining: CancellationToken::new(),
            quit: Notify::new(),
        });
        let admin_stop = CancellationToken::new();
        sharing.spawn_watch(admin_stop.clone());
        if let Some(audit) = &state.audit {
            tokio::spawn(
                admin_stop
                    .clone()
                    .run_until_cancelled_owned(tell_heads(Arc::clone(audit))),
            );
        }
        let address = admin.address.clone();
        if !matches!(address, AdminAddress::Off) {
            let remember = remember(Arc::clone(&state));
            tokio::spawn(admin_stop.clone().run_until_cancelled_owned(remember));
        }
        let admin_task = admin.serve(&state, admin_stop.clone());
        Ok(Self {
            state,
            admin: address,
            listeners,
            drain_timeout: settings.drain_timeout,
            drain_delay: settings.drain_delay,
            only_at_start,
            admin_stop: admin_stop.drop_guard(),
            admin_task,
        })
    }

    /// The listeners, in the order of the settings.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.state.listeners.load().to_vec()
    }

    /// The audit log, if there is one.
    pub fn audit(&self) -> Option<Arc<Audit>> {
        self.state.audit.clone()
    }

    /// The metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.state.metrics)
    }

    /// Where metrics and health answer.
    pub fn admin(&self) -> &AdminAddress {
        &self.admin
    }

    /// Completes when the end was requested at the admin port.
    pub async fn quit_requested(&self) {
        self.state.quit.notified().await;
    }

    /// After `drain_delay`: stops accepting, lets requests in flight finish within `drain_timeout`, revokes tokens as soon
    /// as no request uses them, ends.
    pub async fn shutdown(self) {
        self.state.draining.cancel();
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
            // A client that does not read its answer must not keep the token alive.
            tokio::select! {
                () = ended.notified() => {}
                () = self.state.accounts.until_unused(LAST_CALL) => {}
            }
            self.state.accounts.shutdown().await;
        };
        tokio::join!(drain, revoke);
        let last_spans = async {
            if let Some(tracer) = &self.state.tracer {
                tracer.close().await;
            }
        };
        tokio::join!(self.state.accounts.retired(RETIREMENT_END), last_spans);
        if let Some(audit) = &self.state.audit {
            audit.close(AUDIT_END).await;
        }
        drop(self.admin_stop);
        let _ = tokio::time::timeout(ADMIN_END, self.admin_task).await;
    }
}

/// The audit log, if the settings ask for one.
async fn start_audit(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    clock: &SharedClock,
) -> Result<Option<Arc<Audit>>, StartError> {
    let Some(wanted) = settings.audit.clone() else {
        return Ok(None);
    };
    let (digest, clock, metrics) = (settings.digest.clone(), Arc::clone(clock), Arc::clone(metrics));
    let start = move || Audit::start(&wanted, &digest, clock, move |lines| metrics.audit_lines_dropped(lines));
    let audit = blocking::run(start).await.map_err(StartError::Thread)??;
    Ok(Some(audit))
}

/// Takes what was counted into the last hour.
async fn remember(state: Arc<State>) {
    loop {
        state.look();
        tokio::time::sleep(history::LOOK_EVERY).await;
    }
}

/// Tells the log each minute what the last line is.
async fn tell_heads(audit: Arc<Audit>) {
    loop {
        audit.log_head();
        tokio::time::sleep(HEAD_EVERY).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::audit::{AuditFormat, AuditSettings, Destination, Include, PathShown, WhenFull};

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_each_minute_of_the_last_line_of_the_audit_log() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AuditSettings {
            to: Destination::File(folder.path().join("audit.jsonl")),
            include: Include::Changes,
            format: AuditFormat::Json,
            when_full: WhenFull::Refuse,
            path: PathShown::Full,
            keys: None,
        };
        let audit = Audit::start(&settings, "", Arc::new(SystemClock), |_| ()).unwrap();
        let (said, _guard) = crate::log::captured();
        tokio::spawn(tell_heads(Arc::clone(&audit)));
        let told = || crate::audit::verify::heads(&said.text()).len();
        tokio::time::sleep(Duration::from_millis(1)).await;
        for minutes in 1..=3 {
            assert_eq!(told(), minutes);
            let before = audit.head().unwrap().seq;
            audit.reloaded(true, None);
            // The writer's time is not paused.
            while audit.head().unwrap().seq == before {
                std::thread::yield_now();
            }
            tokio::time::sleep(Duration::from_millis(59_900)).await;
            assert_eq!(told(), minutes);
            tokio::time::sleep(Duration::from_millis(101)).await;
        }
    }
}
