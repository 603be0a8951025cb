//! What other parts say went wrong, as an answer.

use std::time::Duration;

use super::ProxyError;
use crate::audit::NotRecorded;
use crate::code::ErrorCode;
use crate::credential::bearer::TokenUnavailable;
use crate::credential::digest::PermitTimeout;
use crate::guard::browser::BrowserDenied;
use crate::guard::target::TargetDenied;
use crate::guard::{HostNames, PolicyDenied};
use crate::proxy::body::ClientFault;
use crate::upstream::{ConnectError, SendError};

/// A disk is not made free within a moment.
const AUDIT_RETRY: Duration = Duration::from_secs(5);

/// The most names of a listener that a client is told.
const MOST_NAMES: usize = 8;

impl ProxyError {
    /// `names` are the listener's own, `scheme` is what it speaks.
    pub(in crate::proxy) fn target_denied(denied: TargetDenied, names: &HostNames, scheme: &str) -> Self {
        let error = match denied {
            TargetDenied::Method => {
                let mut error = Self::new(ErrorCode::MethodNotAllowed, "CONNECT and TRACE are not served here.");
                error.allow = Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
                error
            }
            TargetDenied::Host => Self::new(ErrorCode::HostDenied, host_denied(names, scheme)),
            TargetDenied::Form | TargetDenied::HostCount | TargetDenied::Contradiction => {
                Self::new(ErrorCode::BadRequest, format!("The request is malformed: {denied}."))
            }
        };
        error.closing()
    }
}

/// Beyond loopback clients use names that the certificate has; who called by TLS has seen these there.
fn host_denied(names: &HostNames, scheme: &str) -> String {
    let named: Vec<String> = names.named().take(MOST_NAMES).map(ToString::to_string).collect();
    let (named, add) = match scheme {
        "https" if named.is_empty() => ("localhost alone".to_owned(), "add the names that its certificate has"),
        "https" => (named.join(", "), "add another name that its certificate has"),
        _ => ("localhost, 127.0.0.1 or [::1]".to_owned(), "add a name"),
    };
    format!(
        "The request names a host that is not this proxy's. Use {named}; whoever runs the proxy can {add} (`hosts`, --host)."
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::HostName;

    #[test]
    fn a_wrong_host_is_told_the_right_ones() {
        let none = HostNames::new([]);
        let two = HostNames::new(["a.example", "b.example"].map(|name| HostName::parse(name).unwrap()));
        let said = |names: &HostNames, scheme| ProxyError::target_denied(TargetDenied::Host, names, scheme).detail;
        let plain = said(&two, "http");
        assert!(
            plain.contains("Use localhost, 127.0.0.1 or [::1]") && plain.contains("--host"),
            "{plain}"
        );
        let tls = said(&two, "https");
        assert!(
            tls.contains("Use a.example, b.example;") && tls.contains("its certificate has (`hosts`"),
            "{tls}"
        );
        let bare = said(&none, "https");
        assert!(
            bare.contains("add the names that its certificate has (`hosts`, --host)"),
            "{bare}"
        );
    }
}
