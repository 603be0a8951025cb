//! What the token endpoint said: a pure function of status, headers and body.
//!
//! It is strict. Whatever it doesn't take for a grant is retried with backoff, so that an empty or garbled 200 is never
//! final. Nothing that the server wrote is repeated in a [`Refusal`]: an endpoint that echoes the request could put the
//! client secret there.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::Outcome;
use crate::time::retry_after;

/// The most of an answer's body that is read, in bytes. Real ones have about one KiB.
pub const MOST_BODY_BYTES: usize = 64 * 1024;
/// The longest token that is accepted, in bytes: more would not fit into a request's header section.
pub const MOST_TOKEN_BYTES: usize = 16 * 1024;
/// The longest life that is believed. Atlas grants an hour; 10^12 seconds is a fault, not a grant.
pub const MOST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whose a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// This process asked for it, and nobody else has it.
    Own,
    /// This process asked for it, and others have it too (or may have it).
    Published,
    /// Another process asked for it.
    Taken,
}

/// A token that was granted, to this process or to one that shares it.
#[derive(Debug, Clone)]
pub struct Granted {
    // Its Debug says "Sensitive".
    header: HeaderValue,
    life: Duration,
    age: Duration,
    counts_after: Duration,
    ownership: Ownership,
}

impl Granted {
    /// `Bearer …`, marked as sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// `expires_in`.
    pub fn life(&self) -> Duration {
        self.life
    }

    /// How much of the life had passed when the token was obtained: none, unless it was taken from others.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// The delay between the start of the call that obtained the token and the moment for which `age` is true: the call
    /// may have waited first.
    pub fn counts_after(&self) -> Duration {
        self.counts_after
    }

    /// Whose it is.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// The token itself, without `Bearer `.
    pub fn token(&self) -> &str {
        let text = self.header.to_str().unwrap_or_default();
        text.strip_prefix("Bearer ").unwrap_or_default()
    }

    /// A token that another process asked for, some time ago; `None` if the value can't be a token.
    pub fn taken(token: &str, life: Duration, age: Duration) -> Option<Self> {
        let header = bearer_value(token).filter(|_| life <= MOST_LIFE)?;
        Some(Self {
            header,
            life,
            age,
            counts_after: Duration::ZERO,
            ownership: Ownership::Taken,
        })
    }

    /// The same token with another ownership.
    #[must_use]
    pub fn owned_as(self, ownership: Ownership) -> Self {
        Self { ownership, ..self }
    }

    /// The same token, with this delay between the start of the call and the moment for which `age` is true.
    #[must_use]
    pub fn counting_after(self, counts_after: Duration) -> Self {
        Self { counts_after, ..self }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(token: &str, life_seconds: u64) -> Self {
        Self {
            header: bearer_value(token).expect("a test's token is one"),
            life: Duration::from_secs(life_seconds),
            age: Duration::ZERO,
            counts_after: Duration::ZERO,
            ownership: Ownership::Own,
        }
    }
}

/// Why there is no token. The text is ours throughout and holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}{}", .way.as_ref().map(|way| format!(" ({way}: is that the right place?)")).unwrap_or_default())]
pub struct Refusal {
    /// The kind of failure; never [`Outcome::Ok`].
    pub outcome: Outcome,
    /// The answer's status, if there was an answer.
    pub status: Option<StatusCode>,
    /// `Retry-After`, as the server sent it.
    pub retry_after: Option<Duration>,
    /// What happened and what to do about it. Clients are told this alone.
    pub cause: String,
    /// Where the request went, where there was no answer and `connect_to` led it elsewhere than its URL.
    pub way: Option<String>,
}

impl Refusal {
    pub(crate) fn new(outcome: Outcome, cause: impl Into<String>) -> Self {
        Self {
            outcome,
            status: None,
            retry_after: None,
            cause: cause.into(),
            way: None,
        }
    }

    fn malformed(what: &str) -> Self {
        Self::new(
            Outcome::Malformed,
            format!("the token endpoint's answer is malformed: {what}; is the base URL Atlas's?"),
        )
    }
}

/// Reads an answer of the token endpoint (RFC 6749 sections 5.1 and 5.2). `now` is the wall clock, for a `Retry-After`
/// that is a date.
///
/// # Errors
/// A [`Refusal`] for everything but a 200 with a usable token, the type `Bearer` (in any case) and a life of 1 s to
/// [`MOST_LIFE`] given as a JSON number.
pub fn parse_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Result<Granted, Refusal> {
    let result = if status == StatusCode::OK {
        granted(body)
    } else {
        Err(refusal(status, body))
    };
    result.map_err(|refusal| Refusal {
        status: Some(status),
        retry_after: retry_after(headers, Some(now)),
        ..refusal
    })
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
}

/// Reads the three fields; an error names the field that is wrong, without its value.
fn granted(body: &[u8]) -> Result<Granted, Refusal> {
    if body.len() > MOST_BODY_BYTES {
        return Err(Refusal::malformed("its body is longer than 64 KiB"));
    }
    if body.is_empty() {
        return Err(Refusal::malformed("its body is empty"));
    }
    let fields: TokenBody = object(body).ok_or_else(|| Refusal::malformed("its body is not one JSON object"))?;
    match &fields.token_type {
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => {}
        _ => return Err(Refusal::malformed("`token_type` is not `Bearer`")),
    }
    let life = fields
        .expires_in
        .as_ref()
        .and_then(life)
        .ok_or_else(|| Refusal::malformed("`expires_in` is not a number of seconds from 1 to 30 days"))?;
    let header = match &fields.access_token {
        Some(Value::String(token)) => bearer_value(token),
        _ => None,
    }
    .ok_or_else(|| Refusal::malformed("`access_token` is missing, empty, too long or has characters no token has"))?;
    Ok(Granted {
        header,
        life,
        age: Duration::ZERO,
        counts_after: Duration::ZERO,
        ownership: Ownership::Own,
    })
}

/// A JSON object; serde would also take an array for a struct.
fn object<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Option<T> {
    body.trim_ascii_start().starts_with(b"{").then_some(())?;
    serde_json::from_slice(body).ok()
}

/// Only a JSON number counts: a server that sends a string is not the one that we know.
fn life(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(n) => n.as_f64()?,
        _ => return None,
    };
    (seconds >= 1.0 && seconds <= MOST_LIFE.as_secs_f64()).then(|| Duration::from_secs_f64(seconds.floor()))
}

/// RFC 6749 allows every printable character in a token, RFC 6750 a subset; blanks, controls and what lies beyond ASCII
/// must not get into a header.
fn bearer_value(token: &str) -> Option<HeaderValue> {
    if token.is_empty() || token.len() > MOST_TOKEN_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Option<Value>,
    error_description: Option<Value>,
    #[serde(rename = "errorCode")]
    error_code: Option<Value>,
}

/// The error codes that a message may repeat: RFC 6749 section 5.2 and 4.1.2.1, and Atlas's own.
const KNOWN_CODES: [&str; 11] = [
    "invalid_client",
    "access_denied",
    "invalid_request",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
    "RATE_LIMITED",
    "IP_ADDRESS_NOT_ON_ACCESS_LIST",
];

fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let fields = if body.len() > MOST_BODY_BYTES {
        None
    } else {
        object::<ErrorBody>(body)
    };
    let code = fields.as_ref().and_then(|f| {
        let said = [&f.error, &f.error_code];
        KNOWN_CODES
            .into_iter()
            .find(|known| said.iter().any(|s| s.as_ref().and_then(Value::as_str) == Some(known)))
    });
    let token_limit = || {
        fields
            .as_ref()
            .and_then(|f| f.error_description.as_ref())
            .and_then(Value::as_str)
            .is_some_and(|text| text.to_ascii_lowercase().contains("token limit"))
    };
    match (status, code) {
        // RFC 6749 section 5.2 has 401 for a client that used Basic, and lets servers answer 400.
        (StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST, Some("invalid_client")) => Refusal::new(
            Outcome::Rejected,
            "the token endpoint does not accept the client id and secret (invalid_client): check both, whether the \
             secret has expired or was deleted, and whether they belong to this realm (commercial or government)",
        ),
        (StatusCode::TOO_MANY_REQUESTS, _) => Refusal::new(
            Outcome::RateLimited,
            "the token endpoint's rate limit is reached (HTTP 429): too many token requests from this address for \
             this service account",
        ),
        (StatusCode::FORBIDDEN, Some("access_denied")) if token_limit() => Refusal::new(
            Outcome::TokenLimit,
            "the service account has as many live tokens as Atlas allows (Access Token limit reached): fewer replicas \
             per service account, or wait until tokens expire",
        ),
        (status, code) => {
            let code = code.map(|c| format!(" ({c})")).unwrap_or_default();
            let hint = if status.is_redirection() || status == StatusCode::NOT_FOUND {
                "; is the base URL Atlas's?"
            } else {
                ""
            };
            Refusal::new(
                Outcome::Error,
                format!("the token endpoint answered HTTP {}{code}{hint}", status.as_u16()),
            )
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
