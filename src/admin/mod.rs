//! Health, metrics and the end, on a port of their own (never on the proxied one).
//!
//! Gets what it shows through [`AdminState`]; knows no part by name.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::guard::{HostNames, browser, target};

/// Connections at once: a scraper, a kubelet, some people.
const MAX_CONNECTIONS: usize = 64;
/// Bound on a request head; also how long a kept-alive connection may be silent.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin port shows and does. `Err` lists what is missing.
pub trait AdminState: Send + Sync + 'static {
    /// Prometheus text format.
    fn metrics_text(&self) -> String;
    /// Listeners bound, and a first attempt to get a credential made.
    fn started(&self) -> Result<(), Vec<String>>;
    /// Serving, not draining, and at least one account usable.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// The same of one account; `None`: there is no such account.
    fn account_ready(&self, name: &str) -> Option<Result<(), Vec<String>>>;
    /// For programs; no secret.
    fn status(&self) -> serde_json::Value;
    /// Drain, then end.
    fn quit(&self);
    /// Names that are ours.
    fn hosts(&self) -> &HostNames;
}

/// Serves until `shutdown`. There is always room for one more connection, at the cost of the oldest: nobody can keep the
/// kubelet out by holding connections.
pub async fn serve(listener: TcpListener, state: Arc<dyn AdminState>, shutdown: impl Future<Output = ()>) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    let stop = watch::Sender::new(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tokio::spawn(connection(
                    stream,
                    peer,
                    Arc::clone(&state),
                    stop.subscribe(),
                )));
            }
            Err(error) => {
                tracing::warn!(%error, "admin port: cannot accept a connection; trying on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // What is being answered is answered: whoever asked for the end learns that it comes.
    drop((listener, stop));
    for connection in open {
        let _ = connection.await;
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, state: Arc<dyn AdminState>, mut stop: watch::Receiver<()>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, peer, state.as_ref());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .half_close(true)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = tokio::select! {
        served = serving.as_mut() => served,
        _ = stop.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

type Answer = Response<Full<Bytes>>;

fn answer<B>(request: &Request<B>, peer: SocketAddr, state: &dyn AdminState) -> Answer {
    let path = request.uri().path();
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    // For the kubelet and Prometheus, from wherever they come: nothing here is secret or changes anything.
    let open = match path {
        "/metrics" => Some(Open::Metrics),
        "/livez" => Some(Open::Health(Ok(()))),
        "/readyz" => Some(Open::Health(state.ready())),
        "/startupz" => Some(Open::Health(state.started())),
        _ => match path.strip_prefix("/readyz/") {
            Some(account) => match state.account_ready(account) {
                Some(ready) => Some(Open::Health(ready)),
                None => return error(StatusCode::NOT_FOUND, "There is no such account.", None),
            },
            None => None,
        },
    };
    match open {
        Some(_) if !read => error(
            StatusCode::METHOD_NOT_ALLOWED,
            "This page can be read only.",
            Some("GET, HEAD"),
        ),
        Some(Open::Metrics) => text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            state.metrics_text(),
        ),
        Some(Open::Health(Ok(()))) => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
        Some(Open::Health(Err(missing))) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            missing.join("\n") + "\n",
        ),
        None => guarded(request, peer, state),
    }
}

enum Open {
    Metrics,
    Health(Result<(), Vec<String>>),
}

/// For people and programs on this machine; guarded against web pages as a listener is.
fn guarded<B>(request: &Request<B>, peer: SocketAddr, state: &dyn AdminState) -> Answer {
    let (path, method) = (request.uri().path(), request.method());
    if !peer.ip().to_canonical().is_loopback() {
        return error(
            StatusCode::FORBIDDEN,
            "This page is for programs on the proxy's own machine.",
            None,
        );
    }
    if let Err((status, detail)) = guard(request, state.hosts()) {
        return error(status, detail, None);
    }
    let read = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/quitquitquit" if *method == Method::POST => {
            state.quit();
            text(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                "draining, then ending\n".to_owned(),
            )
        }
        "/quitquitquit" => error(
            StatusCode::METHOD_NOT_ALLOWED,
            "The end is asked for with POST.",
            Some("POST"),
        ),
        "/status.json" | "/" if !read => error(
            StatusCode::METHOD_NOT_ALLOWED,
            "This page can be read only.",
            Some("GET, HEAD"),
        ),
        "/status.json" => text(StatusCode::OK, "application/json", format!("{:#}\n", state.status())),
        "/" => text(StatusCode::OK, "text/plain; charset=utf-8", INDEX.to_owned()),
        _ => error(StatusCode::NOT_FOUND, "There is no such page; / lists them.", None),
    }
}

const INDEX: &str = "atlas-auth-proxy, admin port

/metrics           Prometheus metrics
/livez             the process is alive
/readyz            it serves, with a usable credential
/readyz/ACCOUNT    the same of one account
/startupz          listeners are bound and a first credential attempt was made
/status.json       listeners and accounts
POST /quitquitquit drain, then end
";

fn guard<B>(request: &Request<B>, hosts: &HostNames) -> Result<(), (StatusCode, &'static str)> {
    let headers: &HeaderMap = request.headers();
    let target = match target::resolve(request.method(), request.uri(), request.version(), headers, hosts) {
        Ok(target) => target,
        Err(target::TargetDenied::Host) => {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "The request names a host that is not this port's.",
            ));
        }
        Err(target::TargetDenied::Method) => return Err((StatusCode::METHOD_NOT_ALLOWED, "Not served here.")),
        Err(_) => return Err((StatusCode::BAD_REQUEST, "The request is malformed.")),
    };
    let own = browser::Own {
        authority: target.authority,
        scheme: "http",
    };
    browser::check(headers, own).map_err(|_| (StatusCode::FORBIDDEN, "Web pages may not use this port."))
}

fn text(status: StatusCode, media_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn error(status: StatusCode, detail: &str, allow: Option<&'static str>) -> Answer {
    let body = serde_json::json!({
        "error": status.as_u16(),
        "reason": status.canonical_reason().unwrap_or_default(),
        "detail": detail,
    });
    let mut response = text(status, "application/json", body.to_string());
    if let Some(allow) = allow {
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    response
}
