//! A service account's view of itself and of its secrets, under an organisation or a project.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::api::{Call, method_not_allowed};
use super::oauth::ServiceSecret;
use super::respond::{self, Answer};
use super::server::Shared;

/// Atlas lets an account have this many secrets.
const MOST_SECRETS: usize = 2;
/// The longest life that a new secret leaves the old one.
const OLD_SECRET_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// From 8 hours to a year.
const LIFE_HOURS: std::ops::RangeInclusive<u64> = 8..=8760;

/// `rest`: what follows `serviceAccounts/` in the path.
pub(super) fn answer(call: &Call, rest: &[&str], shared: &Shared) -> Answer {
    match (&call.method, rest) {
        (&Method::GET, [client]) => account(call, client, shared),
        (&Method::GET, [client, "secrets"]) => match shared.oauth.secrets(client) {
            Some(secrets) => call.document(StatusCode::OK, json!(secrets.iter().map(masked).collect::<Vec<_>>())),
            None => unknown(client),
        },
        (&Method::POST, [client, "secrets"]) => create(call, client, shared),
        (&Method::DELETE, [client, "secrets", secret]) => {
            if shared.oauth.remove_secrets(client, |known| known.id == *secret) == 0 {
                return unknown(secret);
            }
            respond::no_content(call.version.as_deref())
        }
        _ => method_not_allowed(),
    }
}

fn account(call: &Call, client: &str, shared: &Shared) -> Answer {
    let Some(secrets) = shared.oauth.secrets(client) else {
        return unknown(client);
    };
    call.document(
        StatusCode::OK,
        json!({
            "clientId": client,
            "createdAt": "2026-08-05T10:00:00Z",
            "description": "Made by the emulator",
            "name": "emulated",
            "roles": ["ORG_OWNER"],
            "secrets": secrets.iter().map(masked).collect::<Vec<_>>(),
        }),
    )
}

fn create(call: &Call, client: &str, shared: &Shared) -> Answer {
    let Some(secrets) = shared.oauth.secrets(client) else {
        return unknown(client);
    };
    let Some(hours) = call.body["secretExpiresAfterHours"]
        .as_u64()
        .filter(|hours| LIFE_HOURS.contains(hours))
    else {
        let detail = "The attribute secretExpiresAfterHours must be between 8 and 8760.";
        return respond::error(
            StatusCode::BAD_REQUEST,
            "INVALID_ATTRIBUTE",
            detail,
            &["secretExpiresAfterHours"],
        );
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
    let mut random = [0; 30];
    if getrandom::fill(&mut random).is_err() {
        return super::server::bare(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let value = format!("mdb_sa_sk_{}", URL_SAFE_NO_PAD.encode(random));
    let now = super::now();
    shared.oauth.cap_secrets(client, now + OLD_SECRET_LIFE);
    let made = shared
        .oauth
        .add_secret(client, &value, now + Duration::from_secs(hours * 3600));
    let mut document = masked(&made);
    document["secret"] = made.value.into();
    call.document(StatusCode::CREATED, document)
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
