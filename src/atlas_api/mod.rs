//! The proxy's own calls to the Admin API with an account's credential: to verify a new key, to read when a secret
//! expires, to rotate one, and for the doctor. Few and small; requests of clients never go this way.

mod service_account;
mod session;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request};
use serde_json::Value;

use crate::credential::bearer::Refusal;
use crate::credential::digest::{BodyForDigest, Digest, MAX_RETRIES, Verdict};
use crate::own_http::{HttpClient, HttpError, HttpResponse};
use crate::upstream::Origin;

pub use service_account::{AccountError, Home, ServiceAccount, ServiceSecret, in_use};
pub use session::{ApiClient, Session};

/// The resource version that these calls are written for.
const VERSION: HeaderValue = HeaderValue::from_static("application/vnd.atlas.2024-08-05+json");
/// The bound on one call.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// The most of an answer that is read, bytes.
const MOST_BODY_BYTES: usize = 1 << 20;

/// What authorizes a call.
enum Authority {
    /// A token of a service account, or what a gateway is shown; `None`: the connection shows it.
    Token(Option<HeaderValue>),
    /// An API key.
    Key(Box<Digest>),
}

/// The Admin API of one origin, with a credential for it.
pub struct AtlasApi {
    http: HttpClient,
    origin: Origin,
    authority: Authority,
}

/// Why there is no answer. Holds nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke.
    #[error("{origin} gave no answer: {why}")]
    NoAnswer {
        /// The origin that was asked.
        origin: String,
        /// What happened.
        why: String,
    },
    /// The API key was refused, or could not be used.
    #[error("{0}")]
    Refused(String),
    /// No token.
    #[error(transparent)]
    Token(#[from] Refusal),
}

/// An answer of the API, whatever its status.
#[derive(Debug)]
pub struct ApiAnswer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, if it is JSON; else null.
    pub body: Value,
    /// Whether the server asked for the credential; always true with a token.
    pub challenged: bool,
}

impl ApiAnswer {
    /// `errorCode` (or the header `X-Error-Code`), if its value looks like an error code.
    pub fn error_code(&self) -> Option<&str> {
        let looks_right = |code: &&str| {
            !code.is_empty()
                && code.len() <= 100
                && code
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        let header = || self.headers.get("x-error-code").and_then(|v| v.to_str().ok());
        self.body["errorCode"].as_str().or_else(header).filter(looks_right)
    }

    /// `HTTP 403 (IP_ADDRESS_NOT_ON_ACCESS_LIST)`.
    pub fn summary(&self) -> String {
        match self.error_code() {
            Some(code) => format!("HTTP {} ({code})", self.status.as_u16()),
            None => format!("HTTP {}", self.status.as_u16()),
        }
    }
}

impl AtlasApi {
    /// `http` verifies as the account's upstream demands.
    fn new(http: HttpClient, origin: Origin, authority: Authority) -> Self {
        Self {
            http,
            origin,
            authority,
        }
    }

    /// Makes one call. `target` is path and query; `body` is sent as JSON.
    ///
    /// # Errors
    /// See [`CallError`]. An answer with an error status is an answer.
    pub async fn call(&self, method: Method, target: &str, body: Option<&Value>) -> Result<ApiAnswer, CallError> {
        match &self.authority {
            Authority::Token(token) => {
                let response = self.send(&method, target, body, token.clone()).await?;
                self.read(response).await
            }
            Authority::Key(digest) => self.call_with_key(digest, method, target, body).await,
        }
    }

    async fn call_with_key(
        &self,
        digest: &Digest,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<ApiAnswer, CallError> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        for attempt in 0..=MAX_RETRIES {
            let authorized = digest.authorize(&method, target, BodyForDigest::Bytes(text.as_bytes()));
            let header = authorized.as_ref().map(|authorized| authorized.header.clone());
            // Without a challenge only a GET is sent: a request with content waits for one.
            let (method, body) = match header {
                None => (&Method::GET, None),
                Some(_) => (&method, body),
            };
            let response = self.send(method, target, body, header).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                if let Some(authorized) = &authorized {
                    digest.observe_success(response.headers(), authorized);
                }
                let answer = self.read(response).await?;
                return Ok(ApiAnswer {
                    challenged: authorized.is_some(),
                    ..answer
                });
            }
            match digest.challenged(response.headers(), authorized.as_ref(), attempt) {
                Verdict::Retry if attempt < MAX_RETRIES => {}
                Verdict::Retry => break,
                Verdict::GiveUp(why) if authorized.is_none() => return Err(CallError::Refused(why.to_string())),
                Verdict::GiveUp(_) => return self.read(response).await,
            }
        }
        Err(CallError::Refused(
            "the upstream refused the API key on fresh nonces: check public and private key, and that the key exists"
                .to_owned(),
        ))
    }

    async fn send(
        &self,
        method: &Method,
        target: &str,
        body: Option<&Value>,
        authorization: Option<HeaderValue>,
    ) -> Result<HttpResponse, CallError> {
        let mut request = request::Builder::new()
            .method(method)
            .uri(self.origin.url(target))
            .header(header::ACCEPT, VERSION);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, VERSION);
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let sent = self.http.send(request, body, CALL_LIMIT).await;
        sent.map_err(|error| self.no_answer(&error))
    }

    async fn read(&self, mut response: HttpResponse) -> Result<ApiAnswer, CallError> {
        let body = response.read(MOST_BODY_BYTES).await;
        let mut body = body.map_err(|error| self.no_answer(&error))?;
        if body.len() > MOST_BODY_BYTES {
            body.clear();
        }
        Ok(ApiAnswer {
            status: response.status(),
            headers: response.headers().clone(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            challenged: true,
        })
    }

    fn no_answer(&self, error: &HttpError) -> CallError {
        let why = if error.is_timeout() {
            "it took too long".to_owned()
        } else {
            error.reason()
        };
        let origin = match self.http.connect_to() {
            None => self.origin.to_string(),
            Some(to) => to.way(&self.origin),
        };
        CallError::NoAnswer { origin, why }
    }
}

impl std::fmt::Debug for AtlasApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtlasApi")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
