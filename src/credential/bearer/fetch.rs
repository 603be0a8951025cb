//! The HTTP requests to the token endpoint.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header, request};
use zeroize::Zeroizing;

use super::answer::{Granted, MOST_BODY_BYTES, Refusal, parse_answer};
use super::{Outcome, Token};
use crate::credential::ServiceAccountKey;
use crate::own_http::{HttpClient, HttpError, HttpResponse};
use crate::secret::Secret;
use crate::time::SharedClock;
use crate::upstream::{Origin, PROXY_NOT_ATLAS};

/// The bound on one token request, from the name look-up to the last byte of the answer.
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where tokens come from. Bounds its own time. A trait so that the logic is tested without sockets, and so that a source
/// that replicas share can stand before the token endpoint.
pub trait TokenSource: Send + Sync {
    /// A token other than `held`, which is about to expire or was refused.
    fn fetch<'a>(&'a self, held: Option<&'a Token>) -> BoxFuture<'a, Result<Granted, Refusal>>;
    /// Called now and then while `held` is in use: gives it to those who share, if they need one. Whether they may have it
    /// now.
    fn offer<'a>(&'a self, _held: &'a Token) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(false))
    }
    /// Revokes a token that nobody else uses.
    fn revoke<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<(), Refusal>>;
    /// The client secret that tokens are asked for with, if there is one.
    fn secret_in_force(&self) -> Option<Secret> {
        None
    }
}

/// The token endpoint of one origin, with the credential for it.
pub struct TokenEndpoint {
    origin: Origin,
    key: ServiceAccountKey,
    /// Whether the next secret is in force: the one that was accepted last is.
    next_in_force: AtomicBool,
    http: HttpClient,
    clock: SharedClock,
}

impl TokenEndpoint {
    /// Asks for nothing yet.
    pub fn new(origin: &Origin, key: ServiceAccountKey, http: HttpClient, clock: SharedClock) -> Self {
        Self {
            origin: origin.clone(),
            key,
            next_in_force: AtomicBool::new(false),
            http,
            clock,
        }
    }

    /// Whether the token endpoint no longer accepts the current secret, and does accept the next.
    pub fn next_is_in_force(&self) -> bool {
        self.next_in_force.load(Ordering::Relaxed)
    }

    /// The client secret that was accepted last; before that, the current one.
    pub fn in_force(&self) -> &Secret {
        match &self.key.secrets.next {
            Some(next) if self.next_in_force.load(Ordering::Relaxed) => next,
            _ => &self.key.secrets.current,
        }
    }

    /// Asks for a token (RFC 6749 section 4.4.2), within 10 s. When the secret is refused and the other one accepted,
    /// the other one is used from then on, until it is refused in its turn.
    ///
    /// # Errors
    /// A [`Refusal`] that tells what went wrong; when both secrets are refused, that of the one in force.
    pub async fn fetch(&self) -> Result<Granted, Refusal> {
        let refusal = match self.fetch_with(self.in_force()).await {
            Err(refusal) if refusal.outcome == Outcome::Rejected => refusal,
            other => return other,
        };
        let Some(next) = &self.key.secrets.next else {
            return Err(refusal);
        };
        let was_next = self.next_in_force.load(Ordering::Relaxed);
        let other = if was_next { &self.key.secrets.current } else { next };
        match self.fetch_with(other).await {
            Ok(granted) => {
                self.next_in_force.store(!was_next, Ordering::Relaxed);
                tracing::warn!(
                    client_id = self.key.client_id,
                    in_force = if was_next { "current" } else { "next" },
                    "the client secret in use is no longer accepted; the other one is, and is in force now"
                );
                Ok(granted)
            }
            Err(second) if second.outcome == Outcome::Rejected => Err(Refusal {
                cause: format!("{}; the next client secret is not accepted either", refusal.cause),
                ..refusal
            }),
            // The other secret may be good: it could not be tried.
            Err(second) => Err(second),
        }
    }

    async fn fetch_with(&self, secret: &Secret) -> Result<Granted, Refusal> {
        let form = Bytes::from_static(b"grant_type=client_credentials");
        let mut response = self.post("/api/oauth/token", secret, form).await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = match response.read(MOST_BODY_BYTES).await {
            Ok(body) => body,
            Err(e) if status == StatusCode::OK => return Err(self.half_an_answer(&e)),
            // For an error answer the head is enough.
            Err(_) => Vec::new(),
        };
        parse_answer(status, &headers, &body, self.clock.wall())
    }

    /// Revokes a token (RFC 7009 section 2.1), within 10 s.
    ///
    /// # Errors
    /// A [`Refusal`] that tells what went wrong.
    pub async fn revoke(&self, token: &Token) -> Result<(), Refusal> {
        self.revoke_value(token.header()).await
    }

    /// The same for a grant that never became a token in use.
    ///
    /// # Errors
    /// A [`Refusal`] that tells what went wrong.
    pub async fn revoke_granted(&self, granted: &Granted) -> Result<(), Refusal> {
        self.revoke_value(granted.header()).await
    }

    async fn revoke_value(&self, header: &HeaderValue) -> Result<(), Refusal> {
        let value = header.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        // Allocated in full size: growing would leave copies.
        let mut form = Zeroizing::new(Vec::with_capacity(64 + 3 * value.len()));
        form.extend_from_slice(b"token=");
        for part in url::form_urlencoded::byte_serialize(value) {
            form.extend_from_slice(part.as_bytes());
        }
        form.extend_from_slice(b"&token_type_hint=access_token");
        let form = Bytes::from_owner(form);
        let response = self.post("/api/oauth/revoke", self.in_force(), form).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Refusal::new(
            Outcome::Error,
            format!("{} answered the revocation with HTTP {}", self.origin, status.as_u16()),
        ))
    }

    async fn post(&self, path: &str, secret: &Secret, form: Bytes) -> Result<HttpResponse, Refusal> {
        let request = request::Builder::new()
            .method(Method::POST)
            .uri(self.origin.url(path))
            .header(header::AUTHORIZATION, basic(&self.key.client_id, secret))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let sent = self.http.send(request, form, FETCH_LIMIT).await;
        sent.map_err(|error| Refusal {
            way: self.http.connect_to().map(|to| to.way(&self.origin)),
            ..self.no_answer(&error)
        })
    }

    fn no_answer(&self, error: &HttpError) -> Refusal {
        let origin = &self.origin;
        if error.is_timeout() {
            let during = if error.is_connect() {
                "a connection"
            } else {
                "an answer"
            };
            return Refusal::new(
                Outcome::Timeout,
                format!("{during} of the token endpoint at {origin} took too long"),
            );
        }
        let reason = error.reason();
        if reason == PROXY_NOT_ATLAS {
            let cause = format!("no TLS connection to the token endpoint at {origin}: {reason}");
            return Refusal::new(Outcome::NotAtlas, cause);
        }
        let cause = if error.is_tls() {
            format!("no TLS connection to the token endpoint at {origin}: {reason}; is the right CA configured?")
        } else if error.is_connect() {
            format!("the token endpoint at {origin} can't be reached: {reason}")
        } else {
            format!("the connection to the token endpoint at {origin} broke before an answer: {reason}")
        };
        Refusal::new(Outcome::Unreachable, cause)
    }

    fn half_an_answer(&self, error: &HttpError) -> Refusal {
        let origin = &self.origin;
        if error.is_timeout() {
            let cause = format!("the token endpoint at {origin} stopped in the middle of its answer");
            return Refusal::new(Outcome::Timeout, cause);
        }
        let cause = format!(
            "the answer of the token endpoint at {origin} is cut off: {}",
            error.reason()
        );
        Refusal::new(Outcome::Malformed, cause)
    }
}

impl TokenSource for TokenEndpoint {
    fn fetch<'a>(&'a self, _held: Option<&'a Token>) -> BoxFuture<'a, Result<Granted, Refusal>> {
        // `held` is of no use: the endpoint always grants a new token.
        Box::pin(self.fetch())
    }

    fn revoke<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.revoke(token))
    }

    fn secret_in_force(&self) -> Option<Secret> {
        Some(self.in_force().clone())
    }
}

/// RFC 7617, of id and secret as they are: Atlas does not want RFC 6749 section 2.3.1's percent-encoding. Made anew for
/// each of the rare requests, so that no second form of the secret stays in memory.
fn basic(id: &str, secret: &Secret) -> HeaderValue {
    let pair = Zeroizing::new(format!("{id}:{}", secret.expose()));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    let value = Zeroizing::new(["Basic ", &encoded].concat());
    // The `HeaderValue` owns a copy that is wiped, too, with its last clone.
    let bytes = Bytes::from_owner(Zeroizing::new(value.as_bytes().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(bytes).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
