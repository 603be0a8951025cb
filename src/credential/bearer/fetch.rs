//! The HTTP requests to the token endpoint.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use zeroize::Zeroizing;

use super::answer::{Granted, MOST_BODY_BYTES, Refusal, parse_answer};
use super::{Outcome, Token};
use crate::secret::Secret;
use crate::time::SharedClock;
use crate::upstream::Origin;

/// The bound on one token request, from the name look-up to the last byte of the answer.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
/// The longest foreign error text that is repeated, in characters.
const MOST_REASON: usize = 200;

/// A future that a trait object can return.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where tokens come from. Bounds its own time. A trait so that the logic is tested without sockets.
pub(crate) trait TokenSource: Send + Sync {
    fn fetch(&self) -> BoxFuture<'_, Result<Granted, Refusal>>;
    fn revoke<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<(), Refusal>>;
}

/// Why there is no HTTP client for token requests.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for token requests can't be made: {0}")]
pub struct HttpClientError(#[from] reqwest::Error);

/// The HTTP client for token requests. It verifies with `tls` alone, follows no redirect (the credential must not go
/// elsewhere), reads no proxy variables, and keeps no idle connections: there is one request in an hour.
///
/// # Errors
/// When reqwest does not take the configuration.
pub fn http_client(
    mut tls: rustls::ClientConfig,
    connect_timeout: Duration,
) -> Result<reqwest::Client, HttpClientError> {
    // A configuration shared with the API's connections may offer h2, which this client doesn't speak.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(0)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// The token endpoint of one origin, with the credential for it.
pub struct TokenEndpoint {
    origin: Origin,
    client_id: String,
    client_secret: Secret,
    http: reqwest::Client,
    clock: SharedClock,
}

impl TokenEndpoint {
    /// `http` is made by [`http_client`].
    pub fn new(
        origin: &Origin,
        client_id: String,
        client_secret: Secret,
        http: reqwest::Client,
        clock: SharedClock,
    ) -> Self {
        Self {
            origin: origin.clone(),
            client_id,
            client_secret,
            http,
            clock,
        }
    }

    /// Asks for a token (RFC 6749 section 4.4.2), within 10 s.
    ///
    /// # Errors
    /// A [`Refusal`] that tells what went wrong.
    pub async fn fetch(&self) -> Result<Granted, Refusal> {
        let request = self
            .post("/api/oauth/token")
            .form(&[("grant_type", "client_credentials")]);
        let mut response = request.send().await.map_err(|e| self.no_answer(&e))?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = match read_bounded(&mut response).await {
            Ok(body) => body,
            Err(e) if status == StatusCode::OK => return Err(self.half_an_answer(&e)),
            // Of an error answer the head says enough.
            Err(_) => Vec::new(),
        };
        parse_answer(status, &headers, &body, self.clock.wall())
    }

    /// Revokes a token (RFC 7009 section 2.1), within 10 s.
    ///
    /// # Errors
    /// A [`Refusal`] that tells what went wrong.
    pub async fn revoke(&self, token: &Token) -> Result<(), Refusal> {
        let value = token.header().as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        let value = std::str::from_utf8(value).unwrap_or_default();
        let request = self
            .post("/api/oauth/revoke")
            .form(&[("token", value), ("token_type_hint", "access_token")]);
        let response = request.send().await.map_err(|e| self.no_answer(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Refusal::new(
            Outcome::Error,
            format!("{} answered the revocation with HTTP {}", self.origin, status.as_u16()),
        ))
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http
            .post(self.origin.url(path))
            .timeout(FETCH_LIMIT)
            .header(header::AUTHORIZATION, basic(&self.client_id, &self.client_secret))
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
    }

    fn no_answer(&self, error: &reqwest::Error) -> Refusal {
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
        let reason = reason(error);
        let cause = if is_tls(error) {
            format!("no TLS connection to the token endpoint at {origin}: {reason}; is the right CA configured?")
        } else if error.is_connect() {
            format!("the token endpoint at {origin} can't be reached: {reason}")
        } else {
            format!("the connection to the token endpoint at {origin} broke before an answer: {reason}")
        };
        Refusal::new(Outcome::Unreachable, cause)
    }

    fn half_an_answer(&self, error: &reqwest::Error) -> Refusal {
        let origin = &self.origin;
        if error.is_timeout() {
            let cause = format!("the token endpoint at {origin} stopped in the middle of its answer");
            return Refusal::new(Outcome::Timeout, cause);
        }
        let cause = format!(
            "the answer of the token endpoint at {origin} is cut off: {}",
            reason(error)
        );
        Refusal::new(Outcome::Malformed, cause)
    }
}

impl TokenSource for TokenEndpoint {
    fn fetch(&self) -> BoxFuture<'_, Result<Granted, Refusal>> {
        Box::pin(self.fetch())
    }

    fn revoke<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.revoke(token))
    }
}

/// RFC 7617, of id and secret as they are: Atlas does not want RFC 6749 section 2.3.1's percent-encoding. Made anew for
/// each of the rare requests, so that the secret does not lie about in a second shape.
fn basic(id: &str, secret: &Secret) -> HeaderValue {
    let pair = Zeroizing::new(format!("{id}:{}", secret.expose()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

/// At most one chunk more than [`MOST_BODY_BYTES`]; the parser refuses what is longer than that.
async fn read_bounded(response: &mut reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() <= MOST_BODY_BYTES {
        match response.chunk().await? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok(body)
}

/// The innermost error's text: the outer ones only say "error sending request". It may quote the peer's certificate,
/// so it is cut to a line of printable characters.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_REASON)
        .collect()
}

/// Whether rustls is at the bottom of it. `source` of an `io::Error` skips the error that it wraps, which may be the
/// one, or another `io::Error` around it.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
