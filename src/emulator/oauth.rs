//! The token endpoint of service accounts, with Atlas's limits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::record::GivenToken;
use super::respond::{self, Answer};
use super::server::{Shared, bare};
use super::settings::EmulatorSettings;

const MAX_FORM: usize = 16 << 10;

/// One secret of a service account. Atlas shows the value once, when it makes it.
#[derive(Debug, Clone)]
pub(super) struct ServiceSecret {
    pub(super) id: String,
    pub(super) value: String,
    pub(super) created: SystemTime,
    pub(super) expires: SystemTime,
}

/// Atlas's default life of a secret.
const SECRET_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
pub(super) struct OAuth {
    /// Secrets by client id.
    accounts: Mutex<BTreeMap<String, Vec<ServiceSecret>>>,
    secrets_made: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) revocations: AtomicU64,
    /// Token, owner, expiry.
    tokens: Mutex<HashMap<String, (String, Instant)>>,
    recent: Mutex<VecDeque<(String, Instant)>>,
}

impl OAuth {
    pub(super) fn new(accounts: &[(String, String)]) -> Self {
        let oauth = Self {
            accounts: Mutex::default(),
            secrets_made: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            revocations: AtomicU64::new(0),
            tokens: Mutex::default(),
            recent: Mutex::default(),
        };
        for (id, secret) in accounts {
            oauth.add_secret(id, secret, super::now() + SECRET_LIFE);
        }
        oauth
    }

    /// Gives a service account one more secret; it need not exist before.
    pub(super) fn add_secret(&self, client_id: &str, value: &str, expires: SystemTime) -> ServiceSecret {
        let number = self.secrets_made.fetch_add(1, Ordering::Relaxed);
        let secret = ServiceSecret {
            id: format!("6a7940c0{number:016x}"),
            value: value.to_owned(),
            created: super::now(),
            expires,
        };
        self.accounts
            .lock()
            .entry(client_id.to_owned())
            .or_default()
            .push(secret.clone());
        secret
    }

    /// Removes the secrets that `which` holds for; returns their number.
    pub(super) fn remove_secrets(&self, client_id: &str, which: impl Fn(&ServiceSecret) -> bool) -> usize {
        let mut accounts = self.accounts.lock();
        let Some(secrets) = accounts.get_mut(client_id) else {
            return 0;
        };
        let before = secrets.len();
        secrets.retain(|secret| !which(secret));
        before - secrets.len()
    }

    /// The secrets of a service account; `None`: there is no such account.
    pub(super) fn secrets(&self, client_id: &str) -> Option<Vec<ServiceSecret>> {
        self.accounts.lock().get(client_id).cloned()
    }

    /// Takes a service account away, with its secrets and tokens; `false`: there is no such account.
    pub(super) fn remove(&self, client_id: &str) -> bool {
        self.revoke_tokens_of(client_id);
        self.accounts.lock().remove(client_id).is_some()
    }

    /// Every token of a service account is invalid from now on.
    pub(super) fn revoke_tokens_of(&self, client_id: &str) {
        self.tokens.lock().retain(|_, (owner, _)| owner != client_id);
    }

    /// Makes the secrets of a service account expire at `until` at the latest.
    pub(super) fn cap_secrets(&self, client_id: &str, until: SystemTime) {
        if let Some(secrets) = self.accounts.lock().get_mut(client_id) {
            for secret in secrets {
                secret.expires = secret.expires.min(until);
            }
        }
    }

    /// Makes the secrets of a service account older.
    pub(super) fn age_secrets(&self, client_id: &str, by: Duration) {
        if let Some(secrets) = self.accounts.lock().get_mut(client_id) {
            for secret in secrets {
                secret.created = secret.created.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH);
            }
        }
    }

    /// The service account and the secret that the Basic header carries.
    fn client(&self, headers: &HeaderMap) -> Option<(String, String)> {
        let basic = headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .strip_prefix("Basic ")?;
        let decoded = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
        let (id, secret) = decoded.split_once(':')?;
        let now = super::now();
        let good = |known: &ServiceSecret| known.value == secret && known.expires > now;
        self.secrets(id)?
            .iter()
            .any(good)
            .then(|| (id.to_owned(), secret.to_owned()))
    }

    pub(super) fn accepts(&self, token: &str) -> bool {
        self.tokens
            .lock()
            .get(token)
            .is_some_and(|(_, expiry)| *expiry > Instant::now())
    }

    pub(super) fn live(&self) -> usize {
        let now = Instant::now();
        self.tokens.lock().values().filter(|(_, expiry)| *expiry > now).count()
    }

    pub(super) fn live_of(&self, client_id: &str) -> Vec<String> {
        let now = Instant::now();
        let tokens = self.tokens.lock();
        let live = tokens
            .iter()
            .filter(|(_, (owner, expiry))| owner == client_id && *expiry > now);
        live.map(|(token, _)| token.clone()).collect()
    }

    pub(super) fn expire_all(&self) {
        self.tokens.lock().clear();
    }

    pub(super) async fn token(&self, request: Request<Incoming>, shared: &Shared) -> Answer {
        let settings = &shared.settings;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some((client, secret)) = self.client(request.headers()) else {
            return invalid_client();
        };
        let Some(form) = form(request).await else {
            return bare(StatusCode::PAYLOAD_TOO_LARGE);
        };
        if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
            return oauth_error(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "Only client_credentials is supported.",
            );
        }
        if !self.take_request(&client, settings.tokens_per_minute) {
            return respond::error(
                StatusCode::TOO_MANY_REQUESTS,
                "RATE_LIMITED",
                "Resource /api/oauth/token is limited.",
                &[],
            );
        }
        match self.grant(client.clone(), settings) {
            Some(token) => {
                if settings.record {
                    shared.record.lock().tokens.push(GivenToken {
                        client_id: client,
                        secret,
                        token: token.clone(),
                        given: Instant::now(),
                    });
                }
                let life = settings.token_life.as_secs();
                let granted = json!({"access_token": token, "expires_in": life, "token_type": "Bearer"});
                respond::json(StatusCode::OK, &granted)
            }
            None => oauth_error(
                StatusCode::FORBIDDEN,
                "access_denied",
                "Access Token limit reached. Wait for tokens to expire or revoke some.",
            ),
        }
    }

    fn take_request(&self, client: &str, per_minute: usize) -> bool {
        let mut recent = self.recent.lock();
        let now = Instant::now();
        recent.retain(|(_, at)| now - *at <= Duration::from_secs(60));
        let within = recent.iter().filter(|(who, _)| who == client).count() < per_minute;
        if within {
            recent.push_back((client.to_owned(), now));
        }
        within
    }

    fn grant(&self, client: String, settings: &EmulatorSettings) -> Option<String> {
        let mut tokens = self.tokens.lock();
        let now = Instant::now();
        tokens.retain(|_, (_, expiry)| *expiry > now);
        if tokens.values().filter(|(owner, _)| *owner == client).count() >= settings.max_tokens {
            return None;
        }
        let mut random = [0; 96];
        getrandom::fill(&mut random).ok()?;
        let token = format!("eyJhbGciOiJFUzUxMiJ9.{}", URL_SAFE_NO_PAD.encode(random));
        tokens.insert(token.clone(), (client, now + settings.token_life));
        Some(token)
    }

    pub(super) async fn revoke(&self, request: Request<Incoming>) -> Answer {
        self.revocations.fetch_add(1, Ordering::Relaxed);
        if self.client(request.headers()).is_none() {
            return invalid_client();
        }
        // RFC 7009 section 2.2: an unknown token is no error.
        if let Some(token) = form(request).await.and_then(|mut form| form.remove("token")) {
            self.tokens.lock().remove(&token);
        }
        bare(StatusCode::OK)
    }
}

async fn form(request: Request<Incoming>) -> Option<HashMap<String, String>> {
    let body = Limited::new(request.into_body(), MAX_FORM)
        .collect()
        .await
        .ok()?
        .to_bytes();
    Some(url::form_urlencoded::parse(&body).into_owned().collect())
}

fn invalid_client() -> Answer {
    oauth_error(
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        "Invalid credentials provided.",
    )
}

fn oauth_error(status: StatusCode, error: &str, description: &str) -> Answer {
    let mut answer = respond::json(status, &json!({"error": error, "error_description": description}));
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
