//! Where an error becomes an answer: JSON in Atlas's own error shape.

mod causes;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};

use super::fairness::Exceeded;
use super::refusal::deny_reason;
use crate::code::ErrorCode;
use crate::metrics::DenyReason;

/// Marks an answer as made here, and holds its error code.
pub(super) const ERROR_HEADER: HeaderName = HeaderName::from_static("x-atlas-auth-proxy-error");

/// W3C Clear Site Data.
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// An answer in place of Atlas's.
#[derive(Debug, Clone)]
pub struct ProxyError {
    /// Which error.
    pub code: ErrorCode,
    /// What happened, where, and what to do. For the client: no secret.
    pub detail: String,
    /// What the log says in place of `detail`.
    pub(super) logged: Option<String>,
    retry_after: Option<Duration>,
    close: bool,
    allow: Option<&'static str>,
    /// How a client can show who it is: the values of `WWW-Authenticate`.
    challenges: Vec<HeaderValue>,
    /// The reason that it counts as, where its code alone does not tell.
    counts_as: Option<DenyReason>,
    /// The browser is to forget the service worker that an earlier program left at this address.
    forget_workers: bool,
}

impl ProxyError {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            logged: None,
            retry_after: None,
            close: false,
            allow: None,
            challenges: Vec::new(),
            counts_as: None,
            forget_workers: false,
        }
    }

    /// The reason that it counts as, where it is a refusal.
    pub(super) fn deny_reason(&self) -> Option<DenyReason> {
        self.counts_as.or_else(|| deny_reason(self.code))
    }

    fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    pub(super) fn refused(code: ErrorCode, detail: &str) -> Self {
        Self::new(code, detail).closing()
    }

    pub(super) fn header_required(name: &HeaderName) -> Self {
        Self::new(
            ErrorCode::HeaderRequired,
            format!("This listener serves requests with exactly one, not empty `{name}` header only. Add it."),
        )
        .closing()
    }

    fn request_body_timeout() -> Self {
        Self::new(
            ErrorCode::RequestTimeout,
            "The request body paused for longer than `request_body_idle_timeout`; the request was broken off.",
        )
        .closing()
    }

    fn request_body_slow() -> Self {
        Self::new(
            ErrorCode::RequestTimeout,
            "The request body came more slowly than `request_body_min_rate` over 30 s; the request was broken off.",
        )
        .closing()
    }

    pub(super) fn request_body_broken() -> Self {
        Self::new(
            ErrorCode::BadRequest,
            "The request body broke off, or its framing is wrong.",
        )
        .closing()
    }

    pub(super) fn body_too_large_for_auth_int() -> Self {
        Self::new(
            ErrorCode::BodyTooLarge,
            "The upstream accepts Digest with `auth-int` only, which needs the whole body in advance, and this one is \
             larger than `replay_limit`. Send a smaller one, or raise the limit.",
        )
        .closing()
    }

    pub(super) fn upstream_broke_unrepeatable() -> Self {
        Self::new(
            ErrorCode::UpstreamUnreachable,
            "The request could not be completed, and its body cannot be sent again. Send the request once more.",
        )
        .closing()
    }

    pub(super) fn response_broke(error: &dyn std::error::Error) -> Self {
        Self::new(
            ErrorCode::UpstreamUnreachable,
            format!(
                "The upstream's answer broke off at the start of its body: {error}. The request may have been processed."
            ),
        )
    }

    pub(super) fn oauth_path_denied() -> Self {
        Self::new(
            ErrorCode::RuleDenied,
            "Paths below /api/oauth have to do with the credential and are not forwarded. `POST /api/oauth/token` and \
             `POST /api/oauth/revoke` are answered by the proxy itself.",
        )
    }

    /// Of a local endpoint.
    pub(super) fn only(allow: &'static str, detail: &str) -> Self {
        let mut error = Self::new(ErrorCode::MethodNotAllowed, detail);
        error.allow = Some(allow);
        error
    }

    /// Nobody knows who the caller is; `challenges` tell how it can show that.
    pub(super) fn caller_unknown(why: &str, challenges: Vec<HeaderValue>) -> Self {
        let mut error = Self::new(ErrorCode::CallerUnknown, format!("Who calls is not known: {why}."));
        error.challenges = challenges;
        error
    }

    /// The client showed nothing of who it is.
    pub(super) fn asking(mut self) -> Self {
        self.counts_as = Some(DenyReason::Challenge);
        self
    }

    /// What `curl --digest` sends first, without the content of the request.
    pub(super) fn content_is_missing(challenges: Vec<HeaderValue>) -> Self {
        let mut error = Self::new(
            ErrorCode::CallerUnknown,
            "This operation needs content, and the request has none (`Content-Length: 0`): clients that do HTTP Digest send \
             such a request first, to be asked for their credential. Any answer to this challenge is taken; or send the \
             content at once (`digest_compatible = false` turns this off).",
        );
        error.challenges = challenges;
        error.asking()
    }

    pub(super) fn caller_denied(decision: &str) -> Self {
        Self::new(
            ErrorCode::RuleDenied,
            format!("Refused by this proxy's configuration: {decision}. Whoever runs the proxy can change it."),
        )
    }

    /// `own`: how many are the caller's own.
    pub(super) fn too_many_connections(caller: &str, own: usize) -> Self {
        let detail = format!(
            "There is no room for another connection of caller `{caller}`: its own {own} are in use, and so is the half that \
             is anybody's (`max_connections`). Use those that are open, close some, or come again later."
        );
        let mut error = Self::refused(ErrorCode::Overloaded, &detail);
        error.counts_as = Some(DenyReason::Connections);
        error
    }

    pub(super) fn one_authorization() -> Self {
        Self::new(
            ErrorCode::BadRequest,
            "The request has more than one Authorization field: send one.",
        )
        .closing()
    }

    pub(super) fn too_many_failed_checks(retry_after: Duration) -> Self {
        let mut error = Self::new(
            ErrorCode::RateLimited,
            "Too many tokens of your address were wrong in the last minute: further ones are not looked at for now.",
        );
        error.retry_after = Some(retry_after);
        error
    }

    pub(super) fn too_many_nonces() -> Self {
        let mut error = Self::new(
            ErrorCode::Overloaded,
            "So many Digest answers are remembered that another one can't be: try again.",
        );
        error.retry_after = Some(Duration::from_secs(1));
        error
    }

    /// A gateway refused the handshake; `said`: why.
    pub(super) fn certificate_refused(said: String) -> Self {
        Self::new(ErrorCode::UpstreamUnreachable, said)
    }

    /// `who` has met a bound of its own: a listener, or a caller.
    pub(super) fn exceeded(who: &str, exceeded: &Exceeded) -> Self {
        let Exceeded { what, limit, .. } = exceeded;
        let mut error = Self::new(
            ErrorCode::RateLimited,
            format!(
                "{who} may make {limit} requests {} (`{what}`), so that others have their share of Atlas's limits. \
                 Send fewer, or have whoever runs the proxy raise it.",
                if *what == "max_requests_per_minute" {
                    "a minute"
                } else {
                    "at once"
                }
            ),
        );
        error.retry_after = Some(exceeded.retry_after);
        error
    }

    /// The answer.
    pub(super) fn into_response(self) -> Response<Bytes> {
        let status = self.code.status();
        let body = Bytes::from(body(self.code, &self.detail));
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.code.as_str()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            // Whole seconds (RFC 9110 section 10.2.3), rounded up: trying too early helps nobody.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.forget_workers {
            headers.insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"storage\""));
        }
        for challenge in self.challenges {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// In Atlas's shape, which has no field for it: the page about the code stands at the end of `detail`.
pub(super) fn body(code: ErrorCode, detail: &str) -> String {
    let status = code.status();
    serde_json::json!({
        "error": status.as_u16(),
        "errorCode": code.as_str(),
        "reason": status.canonical_reason().unwrap_or_default(),
        "detail": format!("{detail} ({})", code.page()),
        "parameters": [],
    })
    .to_string()
}
