//! Where an error becomes an answer: JSON in Atlas's own error shape.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};

use super::body::ClientFault;
use super::fairness::Exceeded;
use super::refusal::deny_reason;
use crate::audit::NotRecorded;
use crate::code::ErrorCode;
use crate::credential::bearer::TokenUnavailable;
use crate::credential::digest::PermitTimeout;
use crate::guard::PolicyDenied;
use crate::guard::browser::BrowserDenied;
use crate::guard::target::TargetDenied;
use crate::metrics::DenyReason;
use crate::upstream::{ConnectError, SendError};

/// Marks an answer as made here, and holds its error code.
pub(super) const ERROR_HEADER: HeaderName = HeaderName::from_static("x-atlas-auth-proxy-error");

/// A disk is not made free within a moment.
const AUDIT_RETRY: Duration = Duration::from_secs(5);

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

pub(super) fn body(code: ErrorCode, detail: &str) -> String {
    let status = code.status();
    serde_json::json!({
        "error": status.as_u16(),
        "errorCode": code.as_str(),
        "reason": status.canonical_reason().unwrap_or_default(),
        "detail": detail,
        "parameters": [],
    })
    .to_string()
}

impl From<ClientFault> for ProxyError {
    fn from(fault: ClientFault) -> Self {
        match fault {
            ClientFault::Idle => Self::request_body_timeout(),
            ClientFault::Slow => Self::request_body_slow(),
            ClientFault::Broken => Self::request_body_broken(),
        }
    }
}

impl From<TargetDenied> for ProxyError {
    fn from(denied: TargetDenied) -> Self {
        match denied {
            TargetDenied::Method => {
                let mut error = Self::new(ErrorCode::MethodNotAllowed, "CONNECT and TRACE are not served here.").closing();
                error.allow = Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
                error
            }
            TargetDenied::Host => Self::new(
                ErrorCode::HostDenied,
                "The request names a host that is not this proxy's. Use localhost, 127.0.0.1 or [::1]; whoever runs the \
                 proxy can add a name (`hosts`, --host).",
            )
            .closing(),
            TargetDenied::Form | TargetDenied::HostCount | TargetDenied::Contradiction => {
                Self::new(ErrorCode::BadRequest, format!("The request is malformed: {denied}.")).closing()
            }
        }
    }
}

impl From<BrowserDenied> for ProxyError {
    fn from(denied: BrowserDenied) -> Self {
        let mut error = Self::new(
            ErrorCode::BrowserDenied,
            format!(
                "The request seems to come from a web page: {denied}. Web pages may not use this proxy's credential; \
                 programs leave this header out."
            ),
        )
        .closing();
        // A browser asks for the worker's script anew each time that the worker has served a page.
        error.forget_workers = denied == BrowserDenied::ServiceWorker;
        error
    }
}

impl From<PolicyDenied> for ProxyError {
    fn from(denied: PolicyDenied) -> Self {
        Self::new(
            ErrorCode::RuleDenied,
            format!("Refused by this proxy's configuration: {denied}. Whoever runs the proxy can change it."),
        )
        .closing()
    }
}

impl From<PermitTimeout> for ProxyError {
    fn from(timeout: PermitTimeout) -> Self {
        let mut error = Self::new(ErrorCode::Overloaded, format!("Too many requests at once: {timeout}."));
        error.retry_after = Some(Duration::from_secs(1));
        error
    }
}

impl From<NotRecorded> for ProxyError {
    fn from(why: NotRecorded) -> Self {
        let mut error = Self::new(
            ErrorCode::AuditUnavailable,
            format!(
                "This change would not be recorded, so it was not forwarded: {why}. Reads go on; whoever runs the proxy can \
                 make room for the audit log."
            ),
        );
        error.retry_after = Some(AUDIT_RETRY);
        error
    }
}

impl From<TokenUnavailable> for ProxyError {
    fn from(unavailable: TokenUnavailable) -> Self {
        let (code, after) = match &unavailable {
            TokenUnavailable::NotYet { retry_after, .. } => (ErrorCode::TokenUnavailable, *retry_after),
            TokenUnavailable::NotAtlas { retry_after, .. } => (ErrorCode::UpstreamUnreachable, *retry_after),
            TokenUnavailable::Rejected { retry_after, .. } => (ErrorCode::CredentialRejected, *retry_after),
        };
        let mut error = Self::new(code, unavailable.to_string());
        error.retry_after = Some(after);
        error
    }
}

impl From<&SendError> for ProxyError {
    fn from(error: &SendError) -> Self {
        let retry_after = matches!(error, SendError::Queue { .. }).then_some(Duration::from_secs(1));
        let code = match error {
            SendError::Queue { .. } => ErrorCode::Overloaded,
            SendError::HeadTimeout { .. } | SendError::Connect(ConnectError::Timeout { .. }) => {
                ErrorCode::UpstreamTimeout
            }
            SendError::Connect(_)
            | SendError::Broken { .. }
            | SendError::Switched { .. }
            | SendError::Framing { .. } => ErrorCode::UpstreamUnreachable,
        };
        let mut answer = Self::new(code, error.for_client());
        answer.logged = Some(error.to_string());
        answer.retry_after = retry_after;
        answer
    }
}
