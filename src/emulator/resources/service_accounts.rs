//! A service account's view of itself and of its secrets, under an organisation or a project.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::emulator::api::{Call, method_not_allowed};
use crate::emulator::now;
use crate::emulator::oauth::ServiceSecret;
use crate::emulator::respond::{self, Answer};
use crate::emulator::server::{Shared, bare};

/// Atlas lets an account have this many secrets.
const MOST_SECRETS: usize = 2;
/// The longest life that a new secret leaves the old one.
const OLD_SECRET_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// From 8 hours to a year.
const LIFE_HOURS: std::ops::RangeInclusive<u64> = 8..=8760;

/// The service accounts that were made at a place: of an organization, or of a project.
pub(super) fn all(at: &[String], shared: &Shared) -> Vec<Value> {
    let kept: Vec<Value> = shared.store().members(at).into_iter().cloned().collect();
    kept.into_iter().filter_map(|account| shown(account, shared)).collect()
}

/// A new one, with its first secret, which is shown this once.
pub(super) fn make(call: &Call, at: &[String], shared: &Shared) -> Answer {
    let Some(name) = call.body["name"].as_str() else {
        let detail = "The required attribute name was not specified.";
        return respond::error(StatusCode::BAD_REQUEST, "MISSING_ATTRIBUTE", detail, &["name"]);
    };
    let life = match life(call) {
        Ok(life) => life,
        Err(refused) => return refused,
    };
    let Some(value) = new_secret() else {
        return bare(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let client = format!("mdb_sa_id_{}", shared.store().id());
    let secret = shared.oauth.add_secret(&client, &value, now() + life);
    let account = json!({
        "clientId": client,
        "createdAt": timestamp(secret.created),
        "description": call.body["description"].as_str().unwrap_or_default(),
        "name": name,
        "roles": call.body["roles"].as_array().cloned().unwrap_or_default(),
    });
    let mut document = shared.store().add(at, account, None).clone();
    document["secrets"] = json!([with_value(&secret)]);
    call.document(StatusCode::CREATED, document)
}

/// `rest`: what follows `serviceAccounts/` in the path.
pub(super) fn one(call: &Call, at: &[String], rest: &[&str], shared: &Shared) -> Answer {
    match (&call.method, rest) {
        (&Method::GET | &Method::HEAD, [client]) => match account(client, at, shared) {
            Some(account) => call.document(StatusCode::OK, account),
            None => unknown(client),
        },
        (&Method::PATCH, [client]) => {
            let Some(mut account) = kept(client, at, shared) else {
                return unknown(client);
            };
            for name in ["name", "description", "roles"] {
                if !call.body[name].is_null() {
                    account[name] = call.body[name].clone();
                }
            }
            shared
                .store()
                .replace(at, |known| known["clientId"] == *client, account.clone());
            call.document(StatusCode::OK, shown(account, shared).unwrap_or_default())
        }
        (&Method::DELETE, [client]) => {
            if !shared.oauth.remove(client) {
                return unknown(client);
            }
            shared.store().remove(at, |known| known["clientId"] == *client, None);
            respond::no_content(call.version)
        }
        (&Method::GET, [client, "secrets"]) => match shared.oauth.secrets(client) {
            Some(secrets) => call.document(StatusCode::OK, json!(secrets.iter().map(masked).collect::<Vec<_>>())),
            None => unknown(client),
        },
        (&Method::POST, [client, "secrets"]) => create(call, client, shared),
        (&Method::DELETE, [client, "secrets", secret]) => {
            if shared.oauth.remove_secrets(client, |known| known.id == *secret) == 0 {
                return unknown(secret);
            }
            respond::no_content(call.version)
        }
        _ => method_not_allowed(),
    }
}

/// A service account as its document was made; one of the emulator's settings has a document of the same shape.
fn kept(client: &str, at: &[String], shared: &Shared) -> Option<Value> {
    shared.oauth.secrets(client)?;
    let known = shared
        .store()
        .member(at, |account| account["clientId"] == client)
        .cloned();
    Some(known.unwrap_or_else(|| first(client)))
}

fn account(client: &str, at: &[String], shared: &Shared) -> Option<Value> {
    shown(kept(client, at, shared)?, shared)
}

/// With its secrets as they are now, masked.
fn shown(mut account: Value, shared: &Shared) -> Option<Value> {
    let secrets = shared.oauth.secrets(account["clientId"].as_str()?)?;
    account["secrets"] = secrets.iter().map(masked).collect();
    Some(account)
}

/// The document of a service account that exists from the start.
pub(super) fn first(client: &str) -> Value {
    json!({
        "clientId": client,
        "createdAt": "2026-08-05T10:00:00Z",
        "description": "Made by the emulator",
        "name": "emulated",
        "roles": ["ORG_OWNER"],
    })
}

/// How long a new secret lives.
fn life(call: &Call) -> Result<Duration, Answer> {
    const ATTRIBUTE: &str = "secretExpiresAfterHours";
    match call.body[ATTRIBUTE].as_u64().filter(|hours| LIFE_HOURS.contains(hours)) {
        Some(hours) => Ok(Duration::from_secs(hours * 3600)),
        None => {
            let detail = "The attribute secretExpiresAfterHours must be between 8 and 8760.";
            Err(respond::error(
                StatusCode::BAD_REQUEST,
                "INVALID_ATTRIBUTE",
                detail,
                &[ATTRIBUTE],
            ))
        }
    }
}

fn new_secret() -> Option<String> {
    let mut random = [0; 30];
    getrandom::fill(&mut random).ok()?;
    Some(format!("mdb_sa_sk_{}", URL_SAFE_NO_PAD.encode(random)))
}

fn create(call: &Call, client: &str, shared: &Shared) -> Answer {
    let Some(secrets) = shared.oauth.secrets(client) else {
        return unknown(client);
    };
    let life = match life(call) {
        Ok(life) => life,
        Err(refused) => return refused,
    };
    if secrets.len() >= MOST_SECRETS {
        let detail = "The service account has the maximum number of secrets.";
        return respond::error(
            StatusCode::BAD_REQUEST,
            "SERVICE_ACCOUNT_MAX_SECRETS_EXCEEDED",
            detail,
            &[client],
        );
    }
    let Some(value) = new_secret() else {
        return bare(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let now = now();
    shared.oauth.cap_secrets(client, now + OLD_SECRET_LIFE);
    let made = shared.oauth.add_secret(client, &value, now + life);
    call.document(StatusCode::CREATED, with_value(&made))
}

/// As it is shown once.
fn with_value(secret: &ServiceSecret) -> Value {
    let mut document = masked(secret);
    document["secret"] = secret.value.as_str().into();
    document
}

fn masked(secret: &ServiceSecret) -> Value {
    let tail = secret.value.len().saturating_sub(4);
    json!({
        "id": secret.id,
        "createdAt": timestamp(secret.created),
        "expiresAt": timestamp(secret.expires),
        "lastUsedAt": Value::Null,
        "maskedSecretValue": format!("mdb_sa_sk_...{}", secret.value.get(tail..).unwrap_or_default()),
    })
}

/// RFC 3339, whole seconds.
fn timestamp(at: SystemTime) -> String {
    let seconds = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

fn unknown(what: &str) -> Answer {
    let detail = format!("No service account or secret {what} exists.");
    respond::error(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", &detail, &[what])
}
