//! What the proxy says of itself: `/status.json` as it is, the page in words. Plain facts that `app` gathers, none of them
//! secret; names of members are a promise to programs.

mod account;
mod at;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

pub use account::{Account, DigestUse, Failure, RateLimit, TokenFailure};
pub use at::At;
pub(super) use verdict::URGENT;
pub use verdict::{Condition, Reason, Verdict};

/// How many minutes are remembered.
pub const MINUTES: usize = 60;
/// What the requests of a minute are told apart by: class of Atlas's answer, refused here, failed here.
pub const CLASSES: [&str; 6] = ["2xx", "3xx", "4xx", "5xx", "refused", "failed"];
/// The same of one account: class of Atlas's answer, no answer of Atlas.
pub const ANSWERS: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

/// Which build of the program it is.
#[derive(Debug, Clone, Serialize)]
pub struct Build {
    /// `standard` or `fips`.
    pub flavour: &'static str,
    /// The cargo features beside.
    pub features: Vec<&'static str>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// Which build it is.
    pub build: Build,
    /// Now.
    pub time: At,
    /// When it started.
    pub started_at: Option<At>,
    /// How long ago that was.
    pub uptime_seconds: u64,
    /// Whether the drain has begun.
    pub draining: bool,
    /// How it is, and why.
    pub verdict: Verdict,
    /// The settings in force.
    pub configuration: Configuration,
    /// Requests by minute.
    pub last_hour: LastHour,
    /// Answers made here, by code; those that there were.
    pub refusals: Vec<Refusal>,
    /// Connections and requests refused, by listener, caller and reason; those that there were.
    pub denied: Vec<Denied>,
    /// Where replicas share tokens.
    pub token_store: Option<TokenStore>,
    /// The last line of the audit log; `audit verify --head` takes it.
    pub audit: Option<serde_json::Value>,
    /// How the audit log is.
    pub audit_log: Option<AuditLog>,
    /// In the order of the settings.
    pub listeners: Vec<Listener>,
    /// In the order of the settings.
    pub callers: Vec<Caller>,
    /// Requests of those who are no caller: `anonymous`, `unknown`.
    pub unnamed: Vec<Caller>,
    /// Whose tokens make callers known.
    pub issuers: Vec<Issuer>,
    /// By name.
    pub accounts: Vec<Account>,
    /// Who asks for versions that vanish.
    pub sunset: Vec<Sunset>,
}

/// The settings in force, as far as they are no secret and belong to no listener or account alone.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Names the settings: a hash over file, variables and flags.
    pub digest: String,
    /// Since when they are in force.
    pub loaded_at: Option<At>,
    /// Keys of theirs that wait for the next start.
    pub after_restart: Vec<&'static str>,
    /// Settings that were read since, and refused.
    pub last_refused: Option<RefusedReload>,
    /// Each with its value as the file would have it.
    pub process: BTreeMap<&'static str, String>,
    /// `[limits]`.
    pub limits: BTreeMap<&'static str, String>,
}

/// Settings that were not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedReload {
    /// When they were read.
    pub at: Option<At>,
    /// What is wrong with them.
    pub messages: Vec<String>,
}

/// Requests of the last hour, the oldest minute first; the last is the one that goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LastHour {
    /// What the numbers of a minute count.
    pub classes: [&'static str; CLASSES.len()],
    /// Of all accounts.
    pub minutes: Vec<[u32; CLASSES.len()]>,
    /// By account.
    pub accounts: BTreeMap<String, AccountHour>,
}

/// The last hour of one account.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccountHour {
    /// What the numbers of a minute count.
    pub classes: [&'static str; ANSWERS.len()],
    /// As above.
    pub minutes: Vec<[u32; ANSWERS.len()]>,
    /// Seconds within which Atlas's answer began for half of the tries, and for 95 of 100; the upper bound of the metric's
    /// bucket. `None`: there was none, or it took longer than the last bucket.
    pub p50: Option<f64>,
    /// See `p50`.
    pub p95: Option<f64>,
}

/// Answers of the proxy's own, of one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// `PROXY_…`.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// How many since the start.
    pub count: u64,
    /// The last one; `None`: its circumstances were not noted.
    pub last: Option<LastRefusal>,
}

impl Refusal {
    /// Where its cause and its cure are described.
    pub(super) fn section(&self) -> String {
        format!("docs/TROUBLESHOOTING.md#{}", self.code.to_ascii_lowercase())
    }
}

/// One answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRefusal {
    /// When.
    pub at: Option<At>,
    /// The listener.
    pub listener: String,
    /// The caller, where it is known.
    pub caller: Option<String>,
    /// The address or user that it came from.
    pub peer: String,
    /// The HTTP method, where it is a common one.
    pub method: Option<String>,
    /// The operation, or how its path began.
    pub what: &'static str,
}

/// Refusals for one reason, as `denied_total` counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The listener.
    pub listener: String,
    /// The caller; empty where it is not known.
    pub caller: String,
    /// The metric's label.
    pub reason: String,
    /// How many since the start.
    pub count: u64,
}

/// Where replicas share tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenStore {
    /// Without user and password.
    pub address: String,
    /// Whether it answers; `None`: nobody has asked yet.
    pub up: Option<bool>,
    /// Why it doesn't.
    pub cause: Option<String>,
}

/// How the audit log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLog {
    /// A file, or `stdout`.
    pub to: String,
    /// `refuse` or `drop`: what happens to a change that would not be recorded.
    pub when_full: &'static str,
    /// Whether lines are written.
    pub writes: bool,
    /// Whether changes are refused now, because they would not be recorded.
    pub refuses_changes: bool,
    /// Since when lines are not written.
    pub since: Option<At>,
    /// Why.
    pub cause: Option<String>,
    /// Lines that were lost since the start.
    pub lines_dropped: u64,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its label.
    pub name: String,
    /// Where it is bound.
    pub address: String,
    /// The second address of `localhost`.
    pub also_at: Option<String>,
    /// Whose credential it adds.
    pub account: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// `required` or `optional`; `None`: clients are asked for no certificate.
    pub client_certificates: Option<&'static str>,
    /// When its own certificate expires.
    pub certificate_expires_at: Option<At>,
    /// Networks whose addresses may connect.
    pub allow: Vec<String>,
    /// Whether only reading methods pass.
    pub read_only: bool,
    /// How many rules it has.
    pub rules: usize,
    /// `required` or `optional`; `None`: nobody is asked who it is.
    pub callers: Option<&'static str>,
    /// The version that requests get which name none.
    pub default_accept: Option<String>,
    /// The header that requests must carry.
    pub required_header: Option<String>,
    /// Whether links to the upstream are rewritten.
    pub rewrite_links: bool,
    /// What it uses of its bounds.
    pub share: Share,
}

/// What is used of the bounds on requests; counted only where there is a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// `max_requests_per_minute`.
    pub per_minute: Option<usize>,
    /// Requests of the last 60 s.
    pub last_minute: usize,
    /// `max_concurrent_requests`.
    pub at_once: Option<usize>,
    /// Requests under way.
    pub now: usize,
}

/// A caller, or those who are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Its name.
    pub name: String,
    /// Where it exists; `None`: at all listeners.
    pub listeners: Option<Vec<String>>,
    /// Requests since the start.
    pub requests: u64,
    /// The same by class of the answer, whoever made it: `2xx`, …, `5xx`; those that there were.
    pub answers: BTreeMap<&'static str, u64>,
    /// How many of them were refused here.
    pub refused: u64,
    /// What it uses of its bounds; `None`: it is none.
    pub share: Option<Share>,
}

/// An issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// Its name.
    pub name: String,
    /// How many keys are usable.
    pub keys: usize,
    /// How old what is known of them is.
    pub age_seconds: Option<u64>,
    /// Why they could not be fetched.
    pub last_error: Option<String>,
}

/// Calls of one operation in a version that vanishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sunset {
    /// The listener.
    pub listener: String,
    /// The caller; `none` where nobody is asked.
    pub caller: String,
    /// The operation, or `unknown`.
    pub operation: &'static str,
    /// `sunset`, `deprecated`, `gone` or `not_acceptable`.
    pub kind: &'static str,
    /// The version that was asked for last.
    pub version: Option<String>,
    /// The day on which it ends.
    pub sunset: Option<String>,
    /// The newest that is known.
    pub newest_version: Option<String>,
    /// How many since the start.
    pub count: u64,
    /// When the last one was.
    pub last_at: Option<At>,
}
