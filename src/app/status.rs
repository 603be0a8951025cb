//! What the admin port shows.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::ListenerStatus;
use super::accounts::Accounts;
use super::sharing::Sharing;
use crate::admin::AdminState;
use crate::audit::Audit;
use crate::caller::Callers;
use crate::guard::HostNames;
use crate::metrics::Metrics;
use crate::proxy::{AccountSlot, Authorizer, Radar};
use crate::server::Bind;
use crate::settings::AdminSettings;

/// What the admin port may see.
pub(super) struct State {
    pub(super) metrics: Arc<Metrics>,
    pub(super) listeners: ArcSwap<Vec<ListenerStatus>>,
    pub(super) accounts: Accounts,
    pub(super) callers: ArcSwap<Callers>,
    pub(super) hosts: HostNames,
    pub(super) sharing: Sharing,
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) radar: Arc<Radar>,
    /// Who may do what at the admin port.
    pub(super) admin: ArcSwap<AdminSettings>,
    pub(super) started: SystemTime,
    pub(super) draining: CancellationToken,
    pub(super) quit: Notify,
}

/// RFC 3339, in UTC, to the second; `None`: out of its range.
fn timestamp(at: SystemTime) -> Option<String> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let at = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(at.to_string())
}

impl AccountSlot {
    fn usable(&self) -> bool {
        match &self.current().authorizer {
            Authorizer::Bearer(bearer) => bearer.usable(),
            Authorizer::Digest(digest) => digest.usable(),
            Authorizer::Identity(identity) => identity.usable(),
        }
    }

    fn attempted(&self) -> bool {
        match &self.current().authorizer {
            Authorizer::Bearer(bearer) => bearer.first_attempt_made(),
            // A key needs no preparation: the first request fetches its challenge.
            Authorizer::Digest(_) => true,
            // It was read with the settings.
            Authorizer::Identity(_) => true,
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

    fn status(&self) -> serde_json::Value {
        let uptime = self.started.elapsed().unwrap_or_default().as_secs();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptimeSeconds": uptime,
            "draining": self.draining.is_cancelled(),
            "tokenStore": self.sharing.status(),
            "audit": self.audit.as_ref().and_then(|audit| audit.head()),
            "listeners": self.listeners.load().iter().map(|l| json!({
                "name": l.name, "address": l.url, "alsoAt": l.also, "account": l.account,
            })).collect::<Vec<_>>(),
            "callers": self.callers.load().settings().callers().iter().map(|c| json!({
                "name": c.name.as_str(), "listeners": c.listeners,
            })).collect::<Vec<_>>(),
            "issuers": self.callers.load().issuers_status().iter().map(|i| json!({
                "name": i.name, "keys": i.keys, "ageSeconds": i.age.map(|age| age.as_secs()), "lastError": i.last_error,
            })).collect::<Vec<_>>(),
            "accounts": self.accounts.slots().iter().map(|a| (a, a.current())).map(|(slot, a)| json!({
                "name": slot.name,
                "credential": match a.authorizer {
                    Authorizer::Bearer(_) => "service_account",
                    Authorizer::Digest(_) => "api_key",
                    Authorizer::Identity(_) => "gateway",
                },
                "upstream": a.upstream.origin().to_string(),
                "usable": slot.usable(),
                "tokenExpiresAt": match &a.authorizer {
                    Authorizer::Bearer(bearer) => bearer.status().expires_at.map(timestamp),
                    Authorizer::Digest(_) | Authorizer::Identity(_) => None,
                },
                "secretExpiresAt": slot.metrics.known_secret_expiry().map(timestamp),
                // Of the last request for a token, when it failed.
                "tokenFailure": match &a.authorizer {
                    Authorizer::Bearer(bearer) => bearer.status().failure.map(|refusal| json!({
                        "outcome": refusal.outcome.as_str(),
                        "cause": refusal.cause,
                    })),
                    Authorizer::Digest(_) | Authorizer::Identity(_) => None,
                },
                "failures": slot.failures.all().iter().map(|(kind, seen)| json!({
                    "kind": kind,
                    "count": seen.count,
                    "lastAt": timestamp(seen.at),
                    "status": seen.last.status,
                    "errorCode": seen.last.code,
                    "needs": seen.last.needs,
                    "hint": seen.last.hint(),
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "sunset": self.radar.seen().iter().map(|(call, seen)| json!({
                "listener": call.listener,
                "caller": call.caller,
                "operation": call.operation,
                "kind": seen.fate.as_str(),
                "version": seen.version.map(|version| version.to_string()),
                "sunset": seen.sunset.map(|date| date.to_string()),
                "newestVersion": seen.newest.map(|version| version.to_string()),
                "count": seen.count,
                "lastAt": timestamp(seen.last_at),
            })).collect::<Vec<_>>(),
        })
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
