//! Accepts, checks credentials and limits, and hands over to the API.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::{Mutex, MutexGuard};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::api;
use super::digest::{Digest, Verdict};
use super::faults::{Faults, Target};
use super::oauth::OAuth;
use super::record::{Record, SeenRequest};
use super::resources::Store;
use super::respond::{self, Answer};
use super::settings::EmulatorSettings;
use crate::catalogue::{Catalogue, OperationId};

/// All that requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: EmulatorSettings,
    pub(super) oauth: OAuth,
    pub(super) digest: Digest,
    pub(super) faults: Faults,
    store: Mutex<Store>,
    pub(super) catalogue: Catalogue,
    /// Operations of Atlas that were asked for, and that the emulator lacks.
    pub(super) lacking: Mutex<BTreeSet<OperationId>>,
    pub(super) api_requests: AtomicU64,
    pub(super) record: Mutex<Record>,
    recent: Mutex<VecDeque<Instant>>,
}

impl Shared {
    pub(super) fn new(settings: EmulatorSettings, base_url: String) -> Self {
        Self {
            oauth: OAuth::new(&settings.service_accounts),
            digest: Digest::default(),
            faults: Faults::default(),
            store: Mutex::new(Store::seeded(&settings, base_url)),
            catalogue: Catalogue::new(),
            lacking: Mutex::default(),
            api_requests: AtomicU64::new(0),
            record: Mutex::default(),
            recent: Mutex::default(),
            settings,
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock()
    }

    /// Counts a request; returns how many are left in this minute. `None`: it is one too many.
    fn take_request(&self) -> Option<usize> {
        let mut recent = self.recent.lock();
        let now = Instant::now();
        while recent.front().is_some_and(|at| now - *at > Duration::from_secs(60)) {
            recent.pop_front();
        }
        let left = self.settings.requests_per_minute.checked_sub(recent.len() + 1)?;
        recent.push_back(now);
        Some(left)
    }
}

pub(super) async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    let tls = TlsAcceptor::from(tls);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, tls.clone(), Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    // A `reset` fault ends the connection without an answer.
    let reset = Arc::new(Notify::new());
    let cut = Arc::clone(&reset);
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, cut) = (Arc::clone(&shared), Arc::clone(&cut));
        async move { Ok::<_, Infallible>(answer(request, peer, &shared, &cut).await) }
    });
    let io = TokioIo::new(stream);
    if h2 {
        tokio::select! {
            _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service) => {}
            () = reset.notified() => {}
        }
    } else {
        tokio::select! {
            _ = http1::Builder::new().half_close(true).serve_connection(io, service) => {}
            () = reset.notified() => {}
        }
    }
}

async fn answer(request: Request<Incoming>, peer: SocketAddr, shared: &Arc<Shared>, cut: &Notify) -> Answer {
    let target = match request.uri().path() {
        "/api/oauth/token" => Target::Token,
        "/api/oauth/revoke" => Target::Revoke,
        _ => Target::Api,
    };
    if let Some(fault) = shared.faults.next(target)
        && let Some(answer) = fault.play(cut).await
    {
        return answer;
    }
    match target {
        Target::Token => shared.oauth.token(request, shared).await,
        Target::Revoke => shared.oauth.revoke(request).await,
        Target::Api => api_answer(request, peer, shared).await,
    }
}

async fn api_answer(request: Request<Incoming>, peer: SocketAddr, shared: &Arc<Shared>) -> Answer {
    shared.api_requests.fetch_add(1, Ordering::Relaxed);
    if request.uri().path().starts_with("/api/private/unauth/") {
        return respond::text("8.0");
    }
    if let Err(refused) = authenticate(&request, shared) {
        return refused;
    }
    if shared.settings.record {
        shared.record.lock().requests.push(SeenRequest {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
        });
    }
    if shared
        .settings
        .access_list
        .as_ref()
        .is_some_and(|list| !list.contains(&peer.ip()))
    {
        let ip = peer.ip().to_string();
        let detail = format!("IP address {ip} is not allowed to access this resource.");
        return respond::error(StatusCode::FORBIDDEN, "IP_ADDRESS_NOT_ON_ACCESS_LIST", &detail, &[&ip]);
    }
    let Some(left) = shared.take_request() else {
        let mut answer = respond::error(
            StatusCode::TOO_MANY_REQUESTS,
            "RATE_LIMITED_TOKEN_BUCKET",
            "The request rate limit is exceeded. Try again later.",
            &[],
        );
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        return rate(answer, shared, 0);
    };
    rate(api::answer(request, peer, shared).await, shared, left)
}

fn rate(mut answer: Answer, shared: &Shared, left: usize) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(
        "ratelimit-limit",
        HeaderValue::from(shared.settings.requests_per_minute),
    );
    headers.insert("ratelimit-remaining", HeaderValue::from(left));
    answer
}

fn authenticate(request: &Request<Incoming>, shared: &Shared) -> Result<(), Answer> {
    let credential = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let (scheme, rest) = credential.split_once(' ').unwrap_or((credential, ""));
    if scheme.eq_ignore_ascii_case("Bearer") {
        return if shared.oauth.accepts(rest) {
            Ok(())
        } else {
            Err(respond::unauthorized(None))
        };
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let verdict = if scheme.eq_ignore_ascii_case("Digest") {
        shared
            .digest
            .verify(rest, request.method().as_str(), target, &shared.settings)
    } else {
        Verdict::Refused
    };
    match verdict {
        Verdict::Accepted => Ok(()),
        Verdict::Stale => Err(respond::unauthorized(Some(
            shared.digest.challenge(true, &shared.settings),
        ))),
        Verdict::Refused => Err(respond::unauthorized(Some(
            shared.digest.challenge(false, &shared.settings),
        ))),
    }
}

/// An answer without content.
pub(super) fn bare(status: StatusCode) -> Answer {
    let mut response = Response::new(respond::empty());
    *response.status_mut() = status;
    response
}
