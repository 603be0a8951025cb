//! The lines, in the two formats. They end where the chain begins: see [`Chain::seal`](super::chain::Chain::seal).

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::settings::AuditFormat;
use crate::log::{Line, clean};

/// The most of a path that is recorded, bytes.
pub(super) const MOST_PATH: usize = 2048;
/// The most of `User-Agent`.
pub(super) const MOST_USER_AGENT: usize = 256;
/// The most of a method, or of what names a request at Atlas.
pub(super) const MOST_WORD: usize = 64;
/// The most by which the line of a request's end is longer than that of its begin, without the chain.
pub(super) const END_MORE: usize = 768;

/// OCSF's schema version, category and class: Application Activity, API Activity.
const OCSF_VERSION: &str = "1.6.0";
const OCSF_CATEGORY: u32 = 6;
const OCSF_CLASS: u32 = 6003;

/// What a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A process begins its chain.
    Open,
    /// A change is about to be forwarded.
    Begin,
    /// Its end.
    End,
    /// Everything about a request that was not begun: a read, or a refusal.
    One,
    /// Settings were read again.
    Reload,
    /// From the next line on another key hashes.
    Key,
    /// The process ends its chain.
    Close,
}

impl Event {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Begin => "begin",
            Self::End => "end",
            Self::One => "one",
            Self::Reload => "reload",
            Self::Key => "key",
            Self::Close => "close",
        }
    }
}

/// Who asked for what. Texts of clients are clean already, and bounded.
#[derive(Clone, Copy)]
pub struct AuditRequest<'a> {
    /// The caller's name; `None`: the listener asks nobody.
    pub caller: Option<&'a str>,
    /// The caller that this caller says it acts for.
    pub claimed_caller: Option<&'a str>,
    /// What the caller was known by.
    pub identified_by: Option<&'a str>,
    /// The peer's address, or its user id on a unix socket.
    pub peer: &'a dyn fmt::Display,
    /// Whom the peer counts as where refusals are counted.
    pub site: &'a dyn fmt::Display,
    /// The listener's label.
    pub listener: &'a str,
    /// The account's name.
    pub account: &'a str,
    /// The operation's name in Atlas's documentation, or `unknown`.
    pub operation: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path as [`Audit::path`](super::Audit::path) shows it.
    pub path: &'a str,
    /// What stands at `{groupId}` of the operation's path.
    pub project: Option<&'a str>,
    /// What stands at `{orgId}`.
    pub organization: Option<&'a str>,
    /// The caller's rule that decided, counted from 1.
    pub rule: Option<usize>,
    /// `User-Agent`.
    pub user_agent: Option<&'a str>,
}

/// How a request ended.
#[derive(Clone, Copy)]
pub struct AuditOutcome<'a> {
    /// The status that the client got.
    pub status: u16,
    /// The status that the upstream sent.
    pub upstream_status: Option<u16>,
    /// As in the request log.
    pub decision: &'a str,
    /// Requests sent upstream.
    pub attempts: u32,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// What names the request at Atlas.
    pub request_id: Option<&'a str>,
}

/// The line of a request.
pub(super) fn of_request(
    format: AuditFormat,
    event: Event,
    at: SystemTime,
    id: &str,
    request: &AuditRequest<'_>,
    outcome: Option<&AuditOutcome<'_>>,
) -> Vec<u8> {
    let method = clean(request.method, MOST_WORD);
    let mut line = match format {
        AuditFormat::Json => flat(event, at),
        AuditFormat::Ocsf => ocsf(event, at, ocsf_request(id, request, &method, outcome)),
    };
    let mut text = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            line.field(name, value);
        }
    };
    text("id", Some(id));
    text("caller", request.caller);
    text("claimed_caller", request.claimed_caller);
    text("identified_by", request.identified_by);
    text("peer", Some(&request.peer.to_string()));
    text("listener", Some(request.listener));
    text("account", Some(request.account));
    text("operation", Some(request.operation));
    text("method", Some(&method));
    text("path", Some(request.path));
    text("project", request.project);
    text("organization", request.organization);
    text("user_agent", request.user_agent);
    if let Some(rule) = &request.rule {
        line.field("rule", rule);
    }
    if let Some(outcome) = outcome {
        line.field("status", &outcome.status);
        if let Some(status) = &outcome.upstream_status {
            line.field("upstream_status", status);
        }
        line.field("decision", outcome.decision);
        line.field("attempts", &outcome.attempts);
        line.field("duration_ms", &milliseconds(outcome.duration));
        line.field("bytes_in", &outcome.bytes_in);
        line.field("bytes_out", &outcome.bytes_out);
        if let Some(id) = outcome.request_id {
            line.field("request_id", clean(id, MOST_WORD).as_ref());
        }
    }
    line.0
}

/// A line of the log itself.
pub(super) fn of_log(format: AuditFormat, event: Event, at: SystemTime, members: &[(&str, Value)]) -> Vec<u8> {
    let mut line = match format {
        AuditFormat::Json => flat(event, at),
        AuditFormat::Ocsf => ocsf(event, at, ocsf_own(event)),
    };
    for (name, value) in members {
        line.field(name, value);
    }
    line.0
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// RFC 3339, in UTC.
fn timestamp(at: SystemTime) -> Timestamp {
    Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn flat(event: Event, at: SystemTime) -> Line {
    let mut line = Line(Vec::with_capacity(1024));
    line.0
        .extend_from_slice(format!("{{\"event\":\"{}\",\"time\":\"{:.6}\"", event.as_str(), timestamp(at)).as_bytes());
    line
}

/// The members that the schema knows, then `unmapped` with all of ours, open at its end.
fn ocsf(event: Event, at: SystemTime, mut known: Value) -> Line {
    let activity = known["activity_id"].as_u64().unwrap_or_default();
    let more = json!({
        "category_uid": OCSF_CATEGORY,
        "class_uid": OCSF_CLASS,
        "type_uid": u64::from(OCSF_CLASS) * 100 + activity,
        "severity_id": 1,
        "time": timestamp(at).as_millisecond(),
        "metadata": {
            "version": OCSF_VERSION,
            "profiles": ["cloud"],
            "product": {
                "name": env!("CARGO_PKG_NAME"),
                "vendor_name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
        "cloud": { "provider": "MongoDB Atlas" },
    });
    if let (Some(known), Value::Object(more)) = (known.as_object_mut(), more) {
        known.extend(more);
    }
    let mut text = known.to_string().into_bytes();
    text.pop();
    text.extend_from_slice(format!(",\"unmapped\":{{\"event\":\"{}\"", event.as_str()).as_bytes());
    Line(text)
}

/// <https://schema.ocsf.io/classes/api_activity>
fn ocsf_request(id: &str, request: &AuditRequest<'_>, method: &str, outcome: Option<&AuditOutcome<'_>>) -> Value {
    let peer = request.peer.to_string();
    let endpoint = match peer.parse::<std::net::IpAddr>() {
        Ok(ip) => json!({ "ip": ip }),
        Err(_) => json!({ "name": peer }),
    };
    let activity = match method {
        "POST" => 1,
        "GET" | "HEAD" | "OPTIONS" => 2,
        "PUT" | "PATCH" => 3,
        "DELETE" => 4,
        _ => 99,
    };
    let resources = [("project", request.project), ("organization", request.organization)]
        .into_iter()
        .filter_map(|(kind, uid)| Some(json!({ "type": kind, "uid": uid? })))
        .collect::<Vec<_>>();
    let mut value = json!({
        "activity_id": activity,
        "actor": { "user": { "name": request.caller.unwrap_or("none") } },
        "api": {
            "operation": request.operation,
            "service": { "name": "MongoDB Atlas Administration API" },
            "request": { "uid": id },
        },
        "src_endpoint": endpoint,
        "dst_endpoint": { "svc_name": request.listener },
        "http_request": { "http_method": method, "url": { "path": request.path } },
    });
    if activity == 99 {
        value["activity_name"] = method.into();
    }
    if let Some(agent) = request.user_agent {
        value["http_request"]["user_agent"] = agent.into();
    }
    if !resources.is_empty() {
        value["resources"] = resources.into();
    }
    if let Some(outcome) = outcome {
        value["status_id"] = if outcome.status < 400 { 1 } else { 2 }.into();
        value["status_code"] = outcome.status.to_string().into();
        value["http_response"] = json!({ "code": outcome.status, "latency": outcome.duration.as_millis() as u64 });
    }
    value
}

fn ocsf_own(event: Event) -> Value {
    json!({
        "activity_id": 99,
        "activity_name": event.as_str(),
        "actor": { "app_name": env!("CARGO_PKG_NAME") },
        "api": { "operation": event.as_str() },
        "src_endpoint": { "svc_name": env!("CARGO_PKG_NAME") },
    })
}
