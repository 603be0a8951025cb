//! What the admin port shows.

mod accounts;
mod in_force;
mod listeners;
mod traffic;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::ListenerStatus;
use super::accounts::Accounts;
use super::callers::Terms;
use super::history::History;
use super::sharing::Sharing;
use crate::admin::AdminState;
use crate::admin::status::{At, AuditLog, Build, Issuer, RefusedReload, Status, Sunset, Verdict};
use crate::audit::{Audit, Destination};
use crate::build;
use crate::caller::Callers;
use crate::guard::HostNames;
use crate::metrics::Metrics;
use crate::proxy::{LastRefusals, Radar};
use crate::server::Bind;
use crate::settings::AdminSettings;
use crate::time::SharedClock;
use crate::trace::Tracer;

pub(super) use in_force::InForce;

/// What the admin port may see.
pub(super) struct State {
    pub(super) metrics: Arc<Metrics>,
    pub(super) listeners: ArcSwap<Vec<ListenerStatus>>,
    pub(super) accounts: Accounts,
    pub(super) callers: ArcSwap<Callers>,
    pub(super) terms: ArcSwap<Terms>,
    pub(super) hosts: HostNames,
    pub(super) sharing: Sharing,
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) tracer: Option<Arc<Tracer>>,
    pub(super) radar: Arc<Radar>,
    pub(super) refused: Arc<LastRefusals>,
    /// Who may do what at the admin port.
    pub(super) admin: ArcSwap<AdminSettings>,
    pub(super) in_force: ArcSwap<InForce>,
    /// Settings that were read since, and refused.
    pub(super) refused_settings: Mutex<Option<RefusedReload>>,
    pub(super) history: History,
    pub(super) clock: SharedClock,
    pub(super) started: SystemTime,
    pub(super) draining: CancellationToken,
    pub(super) quit: Notify,
}

impl AdminState for State {
    fn metrics_text(&self) -> String {
        self.metrics.render()
    }

    fn started(&self) -> Result<(), Vec<String>> {
        let waiting: Vec<_> = self
            .accounts
            .slots()
            .into_iter()
            .filter(|account| !account.attempted())
            .map(|account| format!("account `{}`: no first attempt to get a credential yet", account.name))
            .collect();
        if waiting.is_empty() { Ok(()) } else { Err(waiting) }
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        if self.draining.is_cancelled() {
            return Err(vec!["draining".to_owned()]);
        }
        let accounts = self.accounts.slots();
        if accounts.iter().any(|account| account.usable()) {
            return Ok(());
        }
        Err(accounts
            .iter()
            .map(|account| format!("account `{}`: no usable credential", account.name))
            .collect())
    }

    fn account_ready(&self, name: &str) -> Option<Result<(), Vec<String>>> {
        let account = self.accounts.slot(name)?;
        Some(if self.draining.is_cancelled() {
            Err(vec!["draining".to_owned()])
        } else if account.usable() {
            Ok(())
        } else {
            Err(vec![format!("account `{name}`: no usable credential")])
        })
    }

    fn remarks(&self) -> Vec<String> {
        let log = self.audit_log().filter(|log| log.refuses_changes);
        let cause = log.map(|log| log.cause.unwrap_or_default());
        cause
            .map(|cause| format!("audit log: changes are refused, reads go on: {cause}"))
            .into_iter()
            .collect()
    }

    fn status(&self) -> Status {
        let now = self.clock.wall();
        self.look();
        let mut status = Status {
            version: build::VERSION,
            build: Build {
                flavour: build::FLAVOUR,
                features: build::features().collect(),
            },
            time: At::of(now).unwrap_or_else(At::epoch),
            started_at: At::of(self.started),
            uptime_seconds: now.duration_since(self.started).unwrap_or_default().as_secs(),
            draining: self.draining.is_cancelled(),
            verdict: Verdict::serving(),
            configuration: self.in_force.load().configuration(self.refused_settings.lock().clone()),
            last_hour: self.history.last_hour(),
            refusals: self.refusals(),
            denied: self.denied(),
            token_store: self.sharing.status(),
            audit: self
                .audit
                .as_ref()
                .and_then(|audit| audit.head())
                .map(|head| json!(head)),
            audit_log: self.audit_log(),
            listeners: self.listeners.load().iter().map(listeners::of).collect(),
            callers: Vec::new(),
            unnamed: Vec::new(),
            issuers: self.issuers(),
            accounts: self.accounts_status(now),
            sunset: self.sunset(),
        };
        (status.callers, status.unnamed) = self.callers_status();
        status.verdict = Verdict::of(&status);
        status
    }

    fn may_quit(&self) -> bool {
        self.admin.load().quit
    }

    fn admits(&self, uid: u32) -> bool {
        match &self.admin.load().bind {
            Some(Bind::Unix { uids, .. }) => uids.is_empty() || uids.contains(&uid),
            _ => true,
        }
    }

    fn quit(&self) {
        self.quit.notify_one();
    }

    fn hosts(&self) -> &HostNames {
        &self.hosts
    }
}

impl State {
    fn audit_log(&self) -> Option<AuditLog> {
        let audit = self.audit.as_ref()?;
        let trouble = audit.trouble();
        Some(AuditLog {
            to: match audit.to() {
                Destination::File(path) => path.display().to_string(),
                Destination::Stdout => "stdout".to_owned(),
            },
            when_full: if audit.refuses_changes() { "refuse" } else { "drop" },
            writes: trouble.is_none(),
            refuses_changes: trouble.is_some() && audit.refuses_changes(),
            since: trouble.as_ref().and_then(|trouble| At::of(trouble.since?)),
            cause: trouble.map(|trouble| trouble.cause),
            lines_dropped: self.metrics.audit_lines_dropped_so_far(),
        })
    }

    fn issuers(&self) -> Vec<Issuer> {
        let all = self.callers.load().issuers_status();
        all.into_iter()
            .map(|issuer| Issuer {
                name: issuer.name,
                keys: issuer.keys,
                age_seconds: issuer.age.map(|age| age.as_secs()),
                last_error: issuer.last_error,
            })
            .collect()
    }

    fn sunset(&self) -> Vec<Sunset> {
        let seen = self.radar.seen();
        seen.into_iter()
            .map(|(call, seen)| Sunset {
                listener: call.listener,
                caller: call.caller,
                operation: call.operation,
                kind: seen.fate.as_str(),
                version: seen.version.map(|version| version.to_string()),
                sunset: seen.sunset.map(|date| date.to_string()),
                newest_version: seen.newest.map(|version| version.to_string()),
                count: seen.count,
                last_at: At::of(seen.last_at),
            })
            .collect()
    }
}
