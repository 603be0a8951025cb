//! The codes of the answers that the proxy makes itself. A shared vocabulary of answers, metrics and logs.

use http::StatusCode;

macro_rules! codes {
    ($(#[doc = $meaning:literal] $name:ident = $text:literal, $status:ident;)*) => {
        /// `errorCode` of a proxy-made answer, value of `X-Atlas-Auth-Proxy-Error` and of the metric label `code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $(#[doc = $meaning] $name,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code as users see it.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$name => $meaning.trim_ascii(),)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(ErrorCode::$name => StatusCode::$status,)* }
            }

            /// Where its cause and its cure are described: the heading's anchor is what GitHub makes of it.
            pub fn page(self) -> String {
                format!("docs/TROUBLESHOOTING.md#{}", self.as_str().to_ascii_lowercase())
            }
        }
    };
}

codes! {
    /// The peer's address is not on the allowlist.
    IpDenied = "PROXY_IP_DENIED", FORBIDDEN;
    /// The settings no longer let the peer of an open connection in.
    PeerDenied = "PROXY_PEER_DENIED", FORBIDDEN;
    /// The request names a host that is not ours.
    HostDenied = "PROXY_HOST_DENIED", MISDIRECTED_REQUEST;
    /// The request comes from a web page.
    BrowserDenied = "PROXY_BROWSER_DENIED", FORBIDDEN;
    /// The required header is missing.
    HeaderRequired = "PROXY_HEADER_REQUIRED", FORBIDDEN;
    /// Nobody knows who the caller is, or what it shows is wrong.
    CallerUnknown = "PROXY_CALLER_UNKNOWN", UNAUTHORIZED;
    /// A rule, or `read_only`, forbids method and path.
    RuleDenied = "PROXY_RULE_DENIED", FORBIDDEN;
    /// CONNECT and TRACE.
    MethodNotAllowed = "PROXY_METHOD_NOT_ALLOWED", METHOD_NOT_ALLOWED;
    /// The request is malformed.
    BadRequest = "PROXY_BAD_REQUEST", BAD_REQUEST;
    /// The head of the request has too many bytes or fields.
    HeadersTooLarge = "PROXY_HEADERS_TOO_LARGE", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// The client took too long.
    RequestTimeout = "PROXY_REQUEST_TIMEOUT", REQUEST_TIMEOUT;
    /// The body is too large for what the upstream demands (Digest `auth-int`).
    BodyTooLarge = "PROXY_BODY_TOO_LARGE", PAYLOAD_TOO_LARGE;
    /// A limit of the listener or the caller on requests.
    RateLimited = "PROXY_RATE_LIMITED", TOO_MANY_REQUESTS;
    /// There is no valid token now.
    TokenUnavailable = "PROXY_TOKEN_UNAVAILABLE", SERVICE_UNAVAILABLE;
    /// Atlas does not accept the credential.
    CredentialRejected = "PROXY_CREDENTIAL_REJECTED", BAD_GATEWAY;
    /// No connection to the upstream, or it broke before a whole answer head.
    UpstreamUnreachable = "PROXY_UPSTREAM_UNREACHABLE", BAD_GATEWAY;
    /// The upstream took too long.
    UpstreamTimeout = "PROXY_UPSTREAM_TIMEOUT", GATEWAY_TIMEOUT;
    /// The request went through too many proxies of this program.
    Loop = "PROXY_LOOP", LOOP_DETECTED;
    /// The change would not be recorded, and so is not forwarded.
    AuditUnavailable = "PROXY_AUDIT_UNAVAILABLE", SERVICE_UNAVAILABLE;
    /// A bound of the proxy is reached.
    Overloaded = "PROXY_OVERLOADED", SERVICE_UNAVAILABLE;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../docs/TROUBLESHOOTING.md");

    #[test]
    fn each_code_has_a_section_with_its_status_and_each_section_a_code() {
        let sections = PAGE
            .split("\n## ")
            .skip(1)
            .filter(|section| section.starts_with("PROXY_"));
        let mut described = BTreeSet::new();
        for section in sections {
            let (heading, text) = section.split_once('\n').unwrap();
            let code = ErrorCode::ALL.iter().find(|code| code.as_str() == heading);
            let code = code.unwrap_or_else(|| panic!("{heading}: there is no such code"));
            let status = format!("**{}**", code.status());
            assert!(text.contains(&status), "{heading}: {status} is missing");
            assert!(described.insert(heading), "{heading} twice");
        }
        for code in ErrorCode::ALL {
            assert!(described.contains(code.as_str()), "{} has no section", code.as_str());
        }
    }
}
