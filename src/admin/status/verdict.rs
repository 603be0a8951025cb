//! How the proxy is, in one word, and why: what somebody who was woken up has to know first.

use serde::Serialize;

use super::{Account, At, Failure, Status};

/// From so long before its end a secret or certificate is urgent, seconds. The log warns from then on, too.
pub(in crate::admin) const URGENT: i64 = 7 * 24 * 60 * 60;
/// What happened in these last minutes is now.
const LATELY: usize = 5;
/// Fewer requests say nothing about how it goes.
const ENOUGH: u32 = 10;
/// One in so many that fails is too many.
const ONE_IN: u32 = 20;
/// What Atlas refuses all requests of an account for, or will soon.
const OF_THE_ACCOUNT: [&str; 5] = [
    "access_list",
    "bad_credential",
    "expired_secret",
    "rate_limit",
    "token_limit",
];

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// All is well.
    Serving,
    /// It serves, and something is wrong, or will be.
    Degraded,
    /// No account has a credential that works.
    NotServing,
    /// It ends.
    Draining,
}

/// How it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In one word.
    pub condition: Condition,
    /// Why it is not `serving`; the most important first.
    pub reasons: Vec<Reason>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What it is about: `account default`.
    pub about: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    #[serde(rename = "todo")]
    pub cure: Option<String>,
}

impl Verdict {
    /// Before anybody has looked.
    pub fn serving() -> Self {
        Self {
            condition: Condition::Serving,
            reasons: Vec::new(),
        }
    }

    /// From what the status says.
    pub fn of(status: &Status) -> Self {
        let reasons: Vec<Reason> = [
            drain(status),
            credentials(status),
            recording(status).into_iter().collect(),
            settings(status).into_iter().collect(),
            helpers(status),
            lately(status),
            ends(status),
        ]
        .concat();
        let condition = if status.draining {
            Condition::Draining
        } else if !status.accounts.iter().any(|account| account.usable) {
            Condition::NotServing
        } else if reasons.is_empty() {
            Condition::Serving
        } else {
            Condition::Degraded
        };
        Self { condition, reasons }
    }
}

fn reason(about: impl Into<String>, what: impl Into<String>, cure: Option<&str>) -> Reason {
    Reason {
        about: about.into(),
        what: what.into(),
        cure: cure.map(str::to_owned),
    }
}

fn of_account(account: &Account) -> String {
    format!("account {}", account.name)
}

fn drain(status: &Status) -> Vec<Reason> {
    let what = "it was asked to end: requests under way are finished, and /readyz answers 503";
    status
        .draining
        .then(|| reason("process", what, None))
        .into_iter()
        .collect()
}

fn credentials(status: &Status) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for account in &status.accounts {
        match (&account.token_failure, account.usable) {
            (Some(failure), usable) => {
                let so = if usable {
                    "the last request for a token failed, and the one before is used on"
                } else {
                    "there is no token"
                };
                let what = format!("{so}: {}", failure.cause);
                reasons.push(reason(
                    of_account(account),
                    what,
                    Some("atlas-auth-proxy check tells which step fails"),
                ));
            }
            (None, true) => {}
            (None, false) => {
                let what = match account.credential {
                    "service_account" if account.token_expires_at.is_none() => {
                        "there is no token yet: the first one is being asked for"
                    }
                    "service_account" => "Atlas refuses its tokens, or the last one has expired",
                    "api_key" => "Atlas refuses its key",
                    _ => "the identity that the gateway is shown is over",
                };
                reasons.push(reason(
                    of_account(account),
                    what,
                    Some("atlas-auth-proxy check tells which step fails"),
                ));
            }
        }
        let recent = |failure: &&Failure| {
            let age = failure.last_at.map(|at| status.time.since(at));
            OF_THE_ACCOUNT.contains(&failure.kind) && age.is_some_and(|age| age < LATELY as i64 * 60)
        };
        for failure in account.failures.iter().filter(recent) {
            let what = format!(
                "Atlas answered {} lately ({}), {} times since the start",
                failure.status,
                failure.kind.replace('_', " "),
                failure.count
            );
            reasons.push(reason(of_account(account), what, Some(&failure.hint)));
        }
    }
    reasons
}

fn recording(status: &Status) -> Option<Reason> {
    let log = status.audit_log.as_ref().filter(|log| !log.writes)?;
    let so = if log.refuses_changes {
        "changes are refused, reads go on"
    } else {
        "changes are forwarded unrecorded"
    };
    let what = format!(
        "{} can't be written ({}): {so}",
        log.to,
        log.cause.as_deref().unwrap_or("why is not known")
    );
    Some(reason(
        "audit log",
        what,
        Some("make room on its disk, or let the proxy write there"),
    ))
}

fn settings(status: &Status) -> Option<Reason> {
    let refused = status.configuration.last_refused.as_ref()?;
    let what = match refused.messages.first() {
        Some(message) => format!("what was read last was refused, and the settings before stay in force: {message}"),
        None => "what was read last was refused, and the settings before stay in force".to_owned(),
    };
    Some(reason(
        "settings",
        what,
        Some("mend them, and reload (SIGHUP); else the next start fails"),
    ))
}

fn helpers(status: &Status) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(store) = status.token_store.as_ref().filter(|store| store.up == Some(false)) {
        let cause = store.cause.as_deref().unwrap_or("it does not answer");
        reasons.push(reason(
            "token store",
            format!(
                "{}: {cause}; replicas ask for tokens of their own, as far as Atlas grants them",
                store.address
            ),
            None,
        ));
    }
    for issuer in &status.issuers {
        let about = format!("issuer {}", issuer.name);
        match (&issuer.last_error, issuer.keys) {
            (Some(error), 0) => {
                let what = format!("its keys can't be had, and its tokens are refused: {error}");
                reasons.push(reason(about, what, None));
            }
            (Some(error), _) => {
                let what = format!("its keys can't be renewed, and those that are known are used on: {error}");
                reasons.push(reason(about, what, None));
            }
            (None, _) => {}
        }
    }
    reasons
}

/// What went wrong in the last minutes, and whose fault it was.
fn lately(status: &Status) -> Vec<Reason> {
    let minutes = &status.last_hour.minutes;
    let recent = minutes.iter().rev().take(LATELY);
    let sums = recent.fold([0; super::CLASSES.len()], |mut sums, minute| {
        for (sum, count) in sums.iter_mut().zip(minute) {
            *sum += count;
        }
        sums
    });
    let [.., of_atlas, _, failed] = sums;
    let all: u32 = sums.iter().sum();
    let many = |count: u32| all >= ENOUGH && count * ONE_IN >= all;
    let mut reasons = Vec::new();
    if many(failed) {
        reasons.push(reason(
            "requests",
            format!("{failed} of {all} in the last {LATELY} minutes got no answer of Atlas"),
            Some("see which code, under Refused and failed here"),
        ));
    }
    if many(of_atlas) {
        reasons.push(reason(
            "requests",
            format!("Atlas answered {of_atlas} of {all} in the last {LATELY} minutes with 5xx"),
            Some("see status.mongodb.com"),
        ));
    }
    reasons
}

/// What ends soon.
fn ends(status: &Status) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut ends = |about: String, what: &str, at: Option<At>, cure: &str| {
        if let Some(left) = at.map(|at| at.since(status.time)).filter(|left| *left < URGENT) {
            let when = if left <= 0 {
                "has expired".to_owned()
            } else {
                format!("expires in {}", crate::admin::page::words::span(left))
            };
            reasons.push(reason(about, format!("{what} {when}"), Some(cure)));
        }
    };
    for account in &status.accounts {
        let cure = "make a new one: atlas-auth-proxy rotate-secret";
        ends(
            of_account(account),
            "the client secret",
            account.secret_expires_at,
            cure,
        );
    }
    for listener in &status.listeners {
        let about = format!("listener {}", listener.name);
        let cure = "put another one in its place; it is taken without a restart";
        ends(about, "its certificate", listener.certificate_expires_at, cure);
    }
    reasons
}
