//! The token endpoints, answered here: a client with placeholder credentials just works, and none can read or revoke the
//! shared token.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::body::ClientBody;
use super::callers::{ListenerCallers, Who};
use super::error::{ERROR_HEADER, ProxyError};
use super::record::Record;
use super::{Client, Pipeline};
use crate::caller::{Identified, NotIdentified, TokenAnswer};
use crate::code::ErrorCode;
use crate::guard::{canonical, folded, loosest};
use crate::metrics::DenyReason;

/// What is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LocalEndpoint {
    Token,
    Revoke,
    /// Says who the caller is, where callers have names.
    Caller,
    /// Anything else below `/api/oauth`, which has to do with credentials: never forwarded.
    Other,
}

const PLACEHOLDER: &str = r#"{"access_token":"atlas-auth-proxy-placeholder","expires_in":3600,"token_type":"Bearer"}"#;

/// The endpoint that a path (percent-encoded, without query) is under any reading that a server might take; `None`: it
/// is none, and may be forwarded.
pub(super) fn local_endpoint(path: &str) -> Option<LocalEndpoint> {
    let Ok(path) = canonical(path) else {
        return disguised_endpoint(path);
    };
    let mut segments = path[1..].split('/');
    let mut next_is = |name| segments.next().is_some_and(|s| folded(s) == name);
    if !next_is("api") || !next_is("oauth") {
        return None;
    }
    let rest: Vec<_> = segments.map(folded).filter(|s| !s.is_empty()).collect();
    Some(named(&rest))
}

/// A path that servers may read differently. Where segments can move or end elsewhere (dot segments, `;`, control
/// characters), `oauth` anywhere is enough: no honest path has both.
fn disguised_endpoint(path: &str) -> Option<LocalEndpoint> {
    let read = loosest(path);
    if let [api, oauth, rest @ ..] = read.segments.as_slice()
        && api == "api"
        && oauth == "oauth"
    {
        return Some(named(rest));
    }
    let anywhere = read.movable && read.segments.iter().any(|s| s.contains("oauth"));
    anywhere.then_some(LocalEndpoint::Other)
}

fn named(rest: &[impl AsRef<str>]) -> LocalEndpoint {
    match rest {
        [one] if one.as_ref() == "token" => LocalEndpoint::Token,
        [one] if one.as_ref() == "revoke" => LocalEndpoint::Revoke,
        [one] if one.as_ref() == "caller" => LocalEndpoint::Caller,
        _ => LocalEndpoint::Other,
    }
}

/// The most content of a client's request that is read here, bytes, and how long that may take.
const MOST_CONTENT: usize = 64 << 10;
/// The most of it that is kept: a pass has less.
const MOST_KEPT: usize = 20 << 10;
const MOST_TIME: Duration = Duration::from_secs(1);

/// Reads the content, and keeps it where it is looked at; `None`: that was not all of it.
pub(super) async fn take_in(
    mut content: ClientBody,
    endpoint: LocalEndpoint,
    method: &Method,
) -> Option<Zeroizing<Vec<u8>>> {
    let keeps = endpoint == LocalEndpoint::Revoke && *method == Method::POST;
    let take = async {
        let mut taken = Zeroizing::new(Vec::new());
        let mut left = MOST_CONTENT;
        while let Some(frame) = content.frame().await {
            let frame = frame.ok()?;
            let Some(data) = frame.data_ref() else { continue };
            left = left.checked_sub(data.len())?;
            if keeps && taken.len() + data.len() <= MOST_KEPT {
                taken.extend_from_slice(data);
            }
        }
        Some(taken)
    };
    tokio::time::timeout(MOST_TIME, take).await.ok().flatten()
}

impl Pipeline {
    /// The answer of a local endpoint.
    ///
    /// # Errors
    /// For another method than the endpoint takes, for [`LocalEndpoint::Other`], and for callers that are not known.
    pub(super) async fn answer_here(
        &self,
        endpoint: LocalEndpoint,
        client: Client<'_>,
        parts: &http::request::Parts,
        content: Zeroizing<Vec<u8>>,
        record: &mut Record,
    ) -> Result<Response<Bytes>, ProxyError> {
        let callers = self.callers.as_ref();
        match (endpoint, callers) {
            (LocalEndpoint::Other, _) | (LocalEndpoint::Caller, None) => Err(ProxyError::oauth_path_denied()),
            (LocalEndpoint::Caller, Some(callers)) => {
                if !matches!(parts.method, Method::GET | Method::HEAD) {
                    return Err(ProxyError::only("GET, HEAD", "This endpoint takes GET only."));
                }
                let who = callers.identify(self.place(), client, parts).await;
                record.who = *who.as_ref().unwrap_or(&Who::Unknown);
                let said = serde_json::json!({ "caller": callers.label(who?), "identified_by": record.who.known_by() });
                Ok(json(StatusCode::OK, said.to_string()))
            }
            (LocalEndpoint::Token | LocalEndpoint::Revoke, _) if parts.method != Method::POST => {
                Err(ProxyError::only("POST", "The token endpoints take POST only."))
            }
            (LocalEndpoint::Token, None) => Ok(placeholder()),
            (LocalEndpoint::Token, Some(callers)) => self.token(callers, client, parts, record).await,
            (LocalEndpoint::Revoke, callers) => {
                if let Some(callers) = callers {
                    callers.revoke(&content);
                }
                Ok(no_store(StatusCode::OK, Bytes::new()))
            }
        }
    }

    /// A pass for whoever shows a secret or a JWT. Others get the placeholder token where they are served without.
    async fn token(
        &self,
        callers: &ListenerCallers,
        client: Client<'_>,
        parts: &http::request::Parts,
        record: &mut Record,
    ) -> Result<Response<Bytes>, ProxyError> {
        match callers.token(self.place(), client, &parts.headers).await? {
            TokenAnswer::Pass {
                access_token,
                expires_in,
                index,
                by,
            } => {
                record.who = Who::Caller(index, by);
                let said = serde_json::json!({
                    "access_token": access_token.expose(),
                    "expires_in": expires_in,
                    "token_type": "Bearer",
                });
                Ok(json(StatusCode::OK, said.to_string()))
            }
            TokenAnswer::InvalidClient { description } => Ok(self.invalid_client(&description, record)),
            TokenAnswer::Placeholder(Identified::Caller { index, by }) => {
                record.who = Who::Caller(index, by);
                Ok(placeholder())
            }
            TokenAnswer::Placeholder(Identified::Anonymous) if !callers.required => {
                record.who = Who::Anonymous;
                Ok(placeholder())
            }
            TokenAnswer::Placeholder(Identified::Anonymous) => Ok(self.invalid_client(NotIdentified::NOBODY, record)),
            TokenAnswer::Refused(_) => Err(callers.not_for_anonymous()),
        }
    }

    /// RFC 6749 section 5.2.
    fn invalid_client(&self, description: &str, record: &mut Record) -> Response<Bytes> {
        let code = ErrorCode::CallerUnknown;
        record.denied = Some(code);
        record.who = Who::Unknown;
        self.denied(Who::Unknown, DenyReason::Caller);
        self.shared.metrics.error(code);
        let said = serde_json::json!({ "error": "invalid_client", "error_description": description });
        let mut response = json(code.status(), said.to_string());
        let headers = response.headers_mut();
        headers.insert(ERROR_HEADER, HeaderValue::from_static(code.as_str()));
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"atlas-auth-proxy\""),
        );
        response
    }
}

fn placeholder() -> Response<Bytes> {
    json(StatusCode::OK, PLACEHOLDER)
}

fn json(status: StatusCode, content: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = no_store(status, content.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// RFC 6749 section 5.1.
fn no_store(status: StatusCode, content: Bytes) -> Response<Bytes> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guard::readings::{readings, under};

    #[test]
    fn no_spelling_is_forwarded() {
        for path in [
            "/api/oauth/token",
            "/api/oauth/token/",
            "/API/OAuth/Token",
            "//api//oauth//token//",
            "/api/oauth/%74oken",
            "/api/oauth%2ftoken",
            "/%61%70%69/oauth/token",
            "/api/oauth%252ftoken",
            "/api\\oauth\\token",
            "/api/oauth%5Ctoken",
            "/api/oauth/token%00",
            "/api/o%00auth/token",
            "/api/oauth/token%20",
            "/api/oauth%c0%aftoken",
            "/api/oauth/to%e2%84%aaen",
        ] {
            assert_eq!(local_endpoint(path), Some(LocalEndpoint::Token), "{path}");
        }
        for path in [
            "/api/oauth",
            "/api/oauth/",
            "/api/oauth/authorize",
            "/api/oauth/token/x",
            "/api/oauth/token%3fx",
            "/api/oauth%00%25",
            "/api/oauth%2500x/token",
            "/api/./oauth/token",
            "/api/x/../oauth/token",
            "/x/../api/oauth/token",
            "/../api/oauth/token",
            "/api/%2e/oauth/token",
            "/x/%2e%2e/api/oauth/token",
            "/x/%252e%252e/api/oauth/token",
            "/api/x/..;/oauth/token",
            "/api;a%2fb/oauth/token",
            "/api/;/../oauth/token",
            "/api//../oauth/token",
            "/api/oauth/../oauth/token",
        ] {
            assert_eq!(local_endpoint(path), Some(LocalEndpoint::Other), "{path}");
        }
    }

    #[test]
    fn honest_paths_are_not_touched() {
        for path in [
            "/",
            "/api",
            "/api/atlas/v2/groups",
            "/api/oauthx/token",
            "/oauth/token",
            "/api/atlas/v2/groups/byName/oauth",
            "/api/atlas/v2/groups/1/databaseUsers/$external/arn:aws:iam::1:role%2Foauth",
            "//api/atlas/v1.0/groups/oauth/token",
            "/api/atlas/v2/groups/../orgs",
        ] {
            assert_eq!(local_endpoint(path), None, "{path}");
        }
    }

    fn disguise() -> impl Strategy<Value = String> {
        let letter = |plain: char| {
            prop_oneof![
                8 => Just(plain.to_string()),
                1 => Just(plain.to_ascii_uppercase().to_string()),
                1 => Just(format!("%{:02x}", u32::from(plain))),
                1 => Just(format!("%25{:02X}", u32::from(plain))),
                1 => Just(format!("%2525{:02X}", u32::from(plain))),
            ]
        };
        let slash = prop::sample::select(vec![
            "/",
            "/",
            "/",
            "//",
            "/./",
            "\\",
            "%2f",
            "%5C",
            "%252F",
            "/x/../",
            ";v/",
            "/%2e/",
            "/%2e%2e/../api/../",
        ]);
        let word = move |w: &'static str| w.chars().map(letter).collect::<Vec<_>>().prop_map(|p| p.concat());
        (
            slash.clone(),
            word("api"),
            slash.clone(),
            word("oauth"),
            slash,
            word("token"),
        )
            .prop_map(|(a, b, c, d, e, f)| format!("/{}{b}{c}{d}{e}{f}", a.trim_start_matches('/')))
    }

    fn walk() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "/", "/", "/", "//", "\\", "%2f", "%5c", "%252f", "%c0%af", ".", "..", "/../", "/./", "%2e%2e", "%252e",
            ";", ";x", "%3b", "..;", "%00", "%20", "%25", "%", "api", "api", "API", "%61pi", "oauth", "oauth",
            "%6fauth", "oa", "uth", "token", "atlas",
        ]);
        prop::collection::vec(pieces, 0..9).prop_map(|p| format!("/{}", p.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

        /// Against an independent normaliser.
        #[test]
        fn what_any_server_could_read_as_oauth_is_never_forwarded(path in walk()) {
            if local_endpoint(&path).is_none() {
                for reading in readings(&path) {
                    prop_assert!(!under(&reading.to_lowercase(), &["api", "oauth"]), "{path} is read as {reading}");
                }
            }
        }

        #[test]
        fn disguises_are_recognised(path in disguise()) {
            prop_assert!(local_endpoint(&path).is_some(), "{}", path);
        }

        #[test]
        fn any_path_is_decided(path in any::<String>()) {
            let _ = local_endpoint(&path);
        }
    }
}
