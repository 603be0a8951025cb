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
        (Method::POST, "/faults") => {
            let body = Limited::new(request.into_body(), 64 << 10).collect().await;
            let fault = body
                .map_err(|e| e.to_string())
                .and_then(|body| serde_json::from_slice::<Fault>(&body.to_bytes()).map_err(|e| e.to_string()));
            match fault {
                Ok(fault) => shared.faults.order(fault),
                Err(why) => return respond::json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
            }
        }
        (Method::DELETE, "/faults") => shared.faults.clear(),
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
            let known = "POST or DELETE /faults, POST /expire-tokens, POST /expire-nonces, GET /stats";
            return respond::json(StatusCode::NOT_FOUND, &json!({ "error": known }));
        }
    }
    respond::json(StatusCode::OK, &json!({}))
}
