//! The control port: plain HTTP on loopback.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;

use super::faults::Fault;
use super::respond::{self, Answer};
use super::server::Shared;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(request, &shared).await) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Answer {
    match (request.method().clone(), request.uri().path()) {
        (Method::POST, "/faults") => match order::<Fault>(request).await {
            Ok(fault) => shared.faults.order(fault),
            Err(why) => return respond::json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
        },
        (Method::DELETE, "/faults") => shared.faults.clear(),
        (Method::POST, "/secrets") => match order::<SecretOrder>(request).await {
            Ok(order) => order.carry_out(shared),
            Err(why) => return respond::json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
        },
        (Method::POST, "/expire-tokens") => shared.oauth.expire_all(),
        (Method::POST, "/expire-nonces") => shared.digest.expire_all(),
        (Method::GET, "/stats") => {
            return respond::json(
                StatusCode::OK,
                &json!({
                    "apiRequests": shared.api_requests.load(Ordering::Relaxed),
                    "tokenRequests": shared.oauth.requests.load(Ordering::Relaxed),
                    "revokeRequests": shared.oauth.revocations.load(Ordering::Relaxed),
                    "liveTokens": shared.oauth.live(),
                }),
            );
        }
        _ => {
            let known = "POST or DELETE /faults, POST /secrets, POST /expire-tokens, POST /expire-nonces, GET /stats";
            return respond::json(StatusCode::NOT_FOUND, &json!({ "error": known }));
        }
    }
    respond::json(StatusCode::OK, &json!({}))
}

/// Atlas's longest life of a secret.
pub(super) const SECRET_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Secrets of a service account that come or go: a rotation or a revocation somewhere else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SecretOrder {
    client_id: String,
    add: Option<String>,
    /// The life of what is added, seconds; a year if left out.
    expires_in: Option<u64>,
    remove: Option<String>,
    /// Its tokens go, too.
    #[serde(default)]
    revoke_tokens: bool,
}

impl SecretOrder {
    fn carry_out(self, shared: &Shared) {
        if let Some(secret) = self.add {
            let life = self.expires_in.map_or(SECRET_LIFE, Duration::from_secs);
            let expires = super::now().checked_add(life);
            let expires = expires.unwrap_or_else(|| super::now() + SECRET_LIFE);
            shared.oauth.add_secret(&self.client_id, &secret, expires);
        }
        if let Some(secret) = self.remove {
            shared
                .oauth
                .remove_secrets(&self.client_id, |known| known.value == secret);
        }
        if self.revoke_tokens {
            shared.oauth.revoke_tokens_of(&self.client_id);
        }
    }
}

async fn order<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    let body = Limited::new(request.into_body(), 64 << 10)
        .collect()
        .await
        .map_err(|e| e.to_string())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|e| e.to_string())
}
