//! The token endpoints, answered here: a client with placeholder credentials just works, and none can read or revoke the
//! shared token.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::body::ClientBody;
use super::callers::{self, ListenerCallers, Who};
use super::error::{ERROR_HEADER, ProxyError};
use super::record::Record;
use super::{Client, Pipeline};
use crate::caller::{Identified, NotIdentified, TokenAnswer};
use crate::code::ErrorCode;
pub(super) use crate::guard::{LocalEndpoint, local_endpoint};
use crate::metrics::DenyReason;

const PLACEHOLDER: &str = r#"{"access_token":"atlas-auth-proxy-placeholder","expires_in":3600,"token_type":"Bearer"}"#;

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
                let who = callers.identify(self.place(), client, parts, &mut record.why).await;
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
            TokenAnswer::InvalidClient { description, logged } => {
                Ok(self.invalid_client(&description, logged.map(Cow::into_owned), record))
            }
            TokenAnswer::Placeholder(Identified::Caller { index, by }) => {
                record.who = Who::Caller(index, by);
                Ok(placeholder())
            }
            TokenAnswer::Placeholder(Identified::Anonymous { .. }) if !callers.required => {
                record.who = Who::Anonymous;
                Ok(placeholder())
            }
            TokenAnswer::Placeholder(Identified::Anonymous { unrecognised }) => {
                let why = callers::nobody(client, unrecognised);
                Ok(self.invalid_client(NotIdentified::NOBODY, Some(why), record))
            }
            TokenAnswer::Refused(_) => Err(callers.not_for_anonymous()),
        }
    }

    /// RFC 6749 section 5.2. `why`: for the log, where that is told something else.
    fn invalid_client(&self, description: &str, why: Option<String>, record: &mut Record) -> Response<Bytes> {
        let code = ErrorCode::CallerUnknown;
        record.denied = Some(code);
        record.why = Some(why.unwrap_or_else(|| description.to_owned()));
        record.who = Who::Unknown;
        self.denied(Who::Unknown, DenyReason::Caller);
        self.note_refusal(code, record);
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
