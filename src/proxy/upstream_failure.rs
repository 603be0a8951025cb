//! What a failing answer of Atlas is about, read from the answer as it passes: for metrics, logs and the status page. The
//! client gets what Atlas said, byte for byte.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use serde_json::Value;

use crate::credential::identity::detail;
use crate::metrics::UpstreamErrorKind;

/// The most of an answer's body that is kept to be read, bytes. Atlas's errors have less than 1 KiB.
const MOST_BODY: usize = 16 << 10;

/// One failing answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamFailure {
    /// What it is about.
    pub kind: UpstreamErrorKind,
    /// Atlas's status; for an enveloped answer that in its body.
    pub status: u16,
    /// Atlas's `errorCode`, if the answer has one.
    pub code: Option<String>,
    /// For the access list: the address that Atlas saw.
    pub address: Option<IpAddr>,
    /// For a role: those of the operation, any one of which is enough.
    pub needs: Option<String>,
    /// Of a gateway's own answer: why, in its words.
    pub detail: Option<String>,
}

impl UpstreamFailure {
    /// The same with the roles that the operation needs, where it was about a role.
    pub(super) fn with_roles(mut self, roles: &[&str]) -> Self {
        if self.kind == UpstreamErrorKind::Role && !roles.is_empty() {
            self.needs = Some(roles.join(" or "));
        }
        self
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self.kind {
            UpstreamErrorKind::AccessList => {
                let address = self.address.map_or_else(|| "this machine's egress address".to_owned(), |ip| ip.to_string());
                format!("add {address} to the API access list of the credential or its organization")
            }
            UpstreamErrorKind::Role => match &self.needs {
                Some(roles) => format!("the credential's role does not allow this request, which needs {roles}"),
                None => "the credential's role does not allow this request: give it the role that Atlas's documentation names for it".to_owned(),
            },
            UpstreamErrorKind::BadCredential => "Atlas does not accept the credential, or it may not do this: `atlas-auth-proxy check` tells which".to_owned(),
            UpstreamErrorKind::ExpiredSecret => "the client secret has expired: make a new one (`atlas-auth-proxy rotate-secret`, while another is valid, or in Atlas)".to_owned(),
            UpstreamErrorKind::RateLimit => "Atlas's rate limit is reached: send fewer requests, or set `max_requests_per_minute` on the listener that sends too many".to_owned(),
            UpstreamErrorKind::TokenLimit => "the service account has as many live tokens as Atlas allows: fewer replicas, or a `[token_store]`".to_owned(),
            UpstreamErrorKind::Version => "the client asks for a version of the resource that Atlas does not know, or no longer has: look at its `Accept` header".to_owned(),
            UpstreamErrorKind::Upstream => "Atlas has a fault: see status.mongodb.com".to_owned(),
            UpstreamErrorKind::Gateway => match self.code.as_deref() {
                Some("PROXY_CALLER_UNKNOWN") => format!(
                    "the gateway does not know the identity that it is shown ({}): `atlas-auth-proxy check` shows which step fails",
                    self.detail.as_deref().unwrap_or("it does not say why")
                ),
                _ => "the gateway made this answer itself: its log says more".to_owned(),
            },
            _ => "see the log".to_owned(),
        }
    }
}

/// Reads an answer while it passes.
pub(super) struct Observer {
    status: StatusCode,
    code: Option<String>,
    /// Its status is in the body (`envelope=true`).
    enveloped: bool,
    /// A gateway before Atlas made the answer; `code` is its.
    by_gateway: bool,
    readable: bool,
    body: Vec<u8>,
    more: bool,
}

impl Observer {
    /// `None`: the answer is no failure. `query` is the request's; `by_gateway` the code of an answer that a gateway before
    /// Atlas made itself.
    pub(super) fn of(
        status: StatusCode,
        headers: &HeaderMap,
        query: Option<&str>,
        by_gateway: Option<&str>,
    ) -> Option<Box<Self>> {
        let enveloped = status == StatusCode::OK && query.is_some_and(asks_for_envelope);
        if !enveloped && !status.is_client_error() && !status.is_server_error() {
            return None;
        }
        let code = by_gateway.or_else(|| headers.get("x-error-code")?.to_str().ok());
        Some(Box::new(Self {
            status,
            code: code.filter(|code| looks_like_a_code(code)).map(str::to_owned),
            enveloped,
            by_gateway: by_gateway.is_some(),
            readable: !headers.contains_key(header::CONTENT_ENCODING),
            body: Vec::new(),
            more: false,
        }))
    }

    /// Takes in a part of the body that goes to the client.
    pub(super) fn passed(&mut self, data: &Bytes) {
        let room = MOST_BODY - self.body.len();
        self.more |= data.len() > room;
        self.body.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// The failure, at the end of the body; `None`: the client's own business (not found, a conflict), or no failure.
    pub(super) fn ended(self) -> Option<UpstreamFailure> {
        let document = (self.readable && !self.more)
            .then(|| serde_json::from_slice::<Value>(&self.body).ok())
            .flatten();
        if self.by_gateway {
            return Some(UpstreamFailure {
                kind: UpstreamErrorKind::Gateway,
                status: self.status.as_u16(),
                code: self.code,
                address: None,
                needs: None,
                detail: document.as_ref().and_then(detail),
            });
        }
        if self.enveloped {
            return self.enveloped_failure(document.as_ref());
        }
        failure(self.status.as_u16(), self.code, document.as_ref())
    }

    fn enveloped_failure(&self, document: Option<&Value>) -> Option<UpstreamFailure> {
        let status = match document {
            Some(document) => document["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok()),
            None if self.readable => status_at_start(&self.body),
            None => None,
        };
        match status {
            Some(status) if status < 400 => None,
            Some(status) => failure(status, None, document.map(|document| &document["content"])),
            None => Some(UpstreamFailure {
                kind: UpstreamErrorKind::Unknown,
                status: self.status.as_u16(),
                code: None,
                address: None,
                needs: None,
                detail: None,
            }),
        }
    }
}

fn asks_for_envelope(query: &str) -> bool {
    query.split('&').any(|pair| pair == "envelope=true")
}

/// The status of a document too long to be kept whole: it stands in front (`{"status": 403, …`).
fn status_at_start(body: &[u8]) -> Option<u16> {
    let text = body.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let text = text.strip_prefix(b"\"status\"")?.trim_ascii_start();
    let text = text.strip_prefix(b":")?.trim_ascii_start();
    let digits = text.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn looks_like_a_code(code: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !code.is_empty() && code.len() <= 100 && code.bytes().all(fits)
}

fn failure(status: u16, code: Option<String>, document: Option<&Value>) -> Option<UpstreamFailure> {
    let said = |key: &str| document.and_then(|document| document[key].as_str());
    let code = code.or_else(|| {
        said("errorCode")
            .filter(|code| looks_like_a_code(code))
            .map(str::to_owned)
    });
    let has = |part: &str| code.as_deref().is_some_and(|code| code.contains(part));
    let kind = match status {
        _ if has("VERSION_DATE") || has("VERSION_GONE") => UpstreamErrorKind::Version,
        _ if has("ACCESS_LIST") || has("WHITELIST") => UpstreamErrorKind::AccessList,
        401 => UpstreamErrorKind::BadCredential,
        403 if said("error_description").is_some_and(|text| text.to_ascii_lowercase().contains("token limit")) => {
            UpstreamErrorKind::TokenLimit
        }
        403 => UpstreamErrorKind::Role,
        406 | 410 => UpstreamErrorKind::Version,
        429 => UpstreamErrorKind::RateLimit,
        500.. => UpstreamErrorKind::Upstream,
        _ => return None,
    };
    let address = document
        .filter(|_| kind == UpstreamErrorKind::AccessList)
        .and_then(|document| document["parameters"][0].as_str()?.parse().ok());
    Some(UpstreamFailure {
        kind,
        status,
        code,
        address,
        needs: None,
        detail: None,
    })
}

/// The failures of one account since the start, by kind: the last of each, and how many.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<&'static str, Seen>>);

/// Failures of one kind.
#[derive(Debug, Clone)]
pub struct Seen {
    /// How many.
    pub count: u64,
    /// When the last one was.
    pub at: SystemTime,
    /// The last one.
    pub last: UpstreamFailure,
}

impl Failures {
    /// Counts one.
    pub fn add(&self, failure: UpstreamFailure, at: SystemTime) {
        let mut all = self.0.lock();
        let count = all.get(failure.kind.as_str()).map_or(0, |seen| seen.count) + 1;
        let kind = failure.kind.as_str();
        all.insert(
            kind,
            Seen {
                count,
                at,
                last: failure,
            },
        );
    }

    /// The failures of every kind seen so far, by the kind's name.
    pub fn all(&self) -> BTreeMap<&'static str, Seen> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen(status: u16, headers: &[(&'static str, &str)], query: Option<&str>, body: &str) -> Option<UpstreamFailure> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
            .collect();
        let mut observer = Observer::of(StatusCode::from_u16(status).unwrap(), &headers, query, None)?;
        for piece in body.as_bytes().chunks(7) {
            observer.passed(&Bytes::copy_from_slice(piece));
        }
        observer.ended()
    }

    fn kind(status: u16, body: &str) -> Option<UpstreamErrorKind> {
        seen(status, &[], None, body).map(|failure| failure.kind)
    }

    #[test]
    fn classes() {
        use UpstreamErrorKind::{AccessList, BadCredential, RateLimit, Role, TokenLimit, Upstream, Version};
        let code = |code: &str| format!(r#"{{"errorCode":"{code}","parameters":["203.0.113.9"]}}"#);
        for (status, body, expected) in [
            (401, code("UNEXPECTED_ERROR"), Some(BadCredential)),
            (401, String::new(), Some(BadCredential)),
            (403, code("IP_ADDRESS_NOT_ON_ACCESS_LIST"), Some(AccessList)),
            (403, code("USER_UNAUTHORIZED"), Some(Role)),
            (403, "<html>".to_owned(), Some(Role)),
            (
                403,
                r#"{"error":"access_denied","error_description":"Access Token limit reached."}"#.to_owned(),
                Some(TokenLimit),
            ),
            (406, code("INVALID_VERSION_DATE"), Some(Version)),
            (410, code("VERSION_GONE"), Some(Version)),
            (400, code("INVALID_VERSION_DATE"), Some(Version)),
            (429, code("RATE_LIMITED_TOKEN_BUCKET"), Some(RateLimit)),
            (500, code("UNEXPECTED_ERROR"), Some(Upstream)),
            (503, String::new(), Some(Upstream)),
            (404, code("GROUP_NOT_FOUND"), None),
            (409, code("DUPLICATE"), None),
            (400, code("INVALID_ATTRIBUTE"), None),
            (200, code("USER_UNAUTHORIZED"), None),
        ] {
            assert_eq!(kind(status, &body), expected, "{status} {body}");
        }
        let denied = seen(403, &[], None, &code("IP_ADDRESS_NOT_ON_ACCESS_LIST")).unwrap();
        assert!(denied.hint().contains("203.0.113.9"), "{}", denied.hint());
        let named = seen(403, &[("x-error-code", "IP_ADDRESS_NOT_ON_ACCESS_LIST")], None, "").unwrap();
        assert_eq!(named.kind, AccessList);
    }

    #[test]
    fn an_envelope_hides_a_status_that_is_found_where_it_can_be() {
        let query = Some("pretty=true&envelope=true");
        let of = |body: &str| seen(200, &[], query, body).map(|failure| failure.kind);
        assert_eq!(of(r#"{"status":200,"content":{}}"#), None);
        assert_eq!(
            of(r#"{"content":{"errorCode":"USER_UNAUTHORIZED"},"status":403}"#),
            Some(UpstreamErrorKind::Role)
        );
        assert_eq!(
            of(r#"{ "status" : 429, "content" : {} }"#),
            Some(UpstreamErrorKind::RateLimit)
        );
        let long = "x".repeat(2 * MOST_BODY);
        assert_eq!(of(&format!(r#"{{"status":200,"content":"{long}"}}"#)), None);
        assert_eq!(
            of(&format!(r#"{{"status":503,"content":"{long}"}}"#)),
            Some(UpstreamErrorKind::Upstream)
        );
        assert_eq!(
            of(&format!(r#"{{"content":"{long}","status":503}}"#)),
            Some(UpstreamErrorKind::Unknown)
        );
        assert_eq!(of("<html>"), Some(UpstreamErrorKind::Unknown));
        let coded = seen(200, &[("content-encoding", "br")], query, "");
        assert_eq!(coded.unwrap().kind, UpstreamErrorKind::Unknown);
        assert_eq!(seen(200, &[], Some("notenvelope=true"), "<html>"), None);
    }
}
