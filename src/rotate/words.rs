//! Texts about a step, a secret and an error.

use crate::atlas_api::{AccountError, ServiceSecret};
use crate::report::{Status, Step};

/// Which step failed and why, in one sentence or two.
pub(super) struct Failed(pub(super) &'static str, pub(super) String);

pub(super) fn ok(step: &'static str, detail: String) -> Step {
    Step::new(step, Status::Ok, detail)
}

/// What has begun, for whoever waits.
pub(super) fn running(step: &'static str, what: impl Into<String>) -> Step {
    Step::new(step, Status::Running, what)
}

pub(super) fn until(secret: &ServiceSecret) -> String {
    let expires = secret.expires.and_then(|at| jiff::Timestamp::try_from(at).ok());
    expires.map_or_else(String::new, |at| format!(", which expires at {at:.0}"))
}

/// The error, with what to do.
pub(super) fn hinted(error: &AccountError, searched: bool) -> String {
    let AccountError::Answer { answer, .. } = error else {
        return error.to_string();
    };
    let hint = match answer.error_code() {
        Some(code) if code.contains("ACCESS_LIST") => {
            "add this machine's address to the API access list of the service account"
        }
        Some(code) if code.contains("MAX_SECRETS") || code.contains("SECRETS_EXCEEDED") => {
            "the service account has as many secrets as Atlas allows: delete one that is not in use"
        }
        _ if matches!(answer.status.as_u16(), 401 | 403) => {
            "the service account must be Organization Owner (Project Owner for one of a project) to make secrets for itself"
        }
        _ if searched => "name what it belongs to with --org or --project",
        _ if answer.status.is_server_error() => "Atlas has a fault: try again later",
        _ => "look at what Atlas says",
    };
    format!("{error}; {hint}")
}
