//! A scripted upstream: TLS, HTTP/1.1 or h2, a token endpoint, and a handler for everything else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use atlas_auth_proxy::credential::CredentialSettings;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::proxy::{ProxyBuilder, bearer, proxy};
use super::tls::TestCa;

pub type Answer = Response<BoxBody<Bytes, std::io::Error>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync + 'static>;

/// What the upstream saw of a request's head.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: String,
    pub headers: HeaderMap,
    pub version: Version,
}

/// The token endpoint: what it says, and the tokens that it gave.
#[derive(Default)]
pub struct Tokens {
    requests: AtomicUsize,
    revoked: AtomicUsize,
    /// Seconds; 0 stands for 3600.
    pub life: AtomicU64,
    /// Answers 500 while set.
    pub down: AtomicBool,
    given: Mutex<HashMap<String, Instant>>,
}

impl Tokens {
    fn life(&self) -> u64 {
        match self.life.load(Ordering::SeqCst) {
            0 => 3600,
            life => life,
        }
    }

    fn grant(&self) -> Answer {
        let n = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if self.down.load(Ordering::SeqCst) {
            return json(500, "{}");
        }
        let life = self.life();
        let expiry = Instant::now() + Duration::from_secs(life);
        self.given.lock().insert(format!("Bearer token-{n}"), expiry);
        json(
            200,
            format!(r#"{{"access_token":"token-{n}","expires_in":{life},"token_type":"Bearer"}}"#),
        )
    }

    /// Whether a request carries a token that is still valid.
    pub fn accepts(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get("authorization").and_then(|v| v.to_str().ok()) else {
            return false;
        };
        self.given
            .lock()
            .get(value)
            .is_some_and(|expiry| *expiry > Instant::now())
    }

    /// Every token given so far is refused from now on.
    pub fn expire_all(&self) {
        self.given.lock().clear();
    }
}

pub struct Upstream {
    pub address: SocketAddr,
    pub ca_file: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
    pub tokens: Arc<Tokens>,
    connections: Arc<AtomicUsize>,
    _ca: TestCa,
}

pub fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

/// A body that does not say how long it is, and ends when `end` has a permit.
pub fn that_ends_later(bytes: impl Into<Bytes>, end: Arc<Semaphore>) -> BoxBody<Bytes, std::io::Error> {
    let data = futures_util::stream::iter([Ok(http_body::Frame::data(bytes.into()))]);
    let end = futures_util::stream::once(async move {
        let _permit = end.acquire().await;
        Ok(http_body::Frame::data(Bytes::new()))
    });
    http_body_util::StreamBody::new(futures_util::StreamExt::chain(data, end)).boxed()
}

/// A body that does not say how long it is.
pub fn without_length(bytes: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    let frame = Ok(http_body::Frame::data(bytes.into()));
    http_body_util::StreamBody::new(futures_util::stream::iter([frame])).boxed()
}

pub fn json(status: u16, body: impl Into<String>) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(full(body.into()))
        .unwrap()
}

impl Upstream {
    /// Answers `/api/oauth/token` with tokens `token-1`, `token-2`, …, valid for an hour, and the rest by `handler`.
    pub async fn start<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self::start_with(&["http/1.1"], handler).await
    }

    pub async fn start_with<F, Fut>(alpn: &[&str], handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let ca = TestCa::new();
        let tls = TlsAcceptor::from(ca.server(&["localhost", "127.0.0.1"], alpn));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            ca_file: ca.pem_file.path().to_owned(),
            seen: Arc::default(),
            tokens: Arc::default(),
            connections: Arc::default(),
            _ca: ca,
        };
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let (seen, tokens, connections) = (
            Arc::clone(&upstream.seen),
            Arc::clone(&upstream.tokens),
            Arc::clone(&upstream.connections),
        );
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                connections.fetch_add(1, Ordering::SeqCst);
                let (tls, handler, seen, tokens) = (
                    tls.clone(),
                    Arc::clone(&handler),
                    Arc::clone(&seen),
                    Arc::clone(&tokens),
                );
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (handler, seen, tokens) = (Arc::clone(&handler), Arc::clone(&seen), Arc::clone(&tokens));
                        async move { Ok::<_, Infallible>(answer(request, handler, &seen, &tokens).await) }
                    });
                    let io = TokioIo::new(stream);
                    let _ = if h2 {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    } else {
                        hyper::server::conn::http1::Builder::new()
                            .half_close(true)
                            .serve_connection(io, service)
                            .await
                    };
                });
            }
        });
        upstream
    }

    pub fn base_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// A proxy before it, with a service account.
    pub fn proxy(&self) -> ProxyBuilder {
        self.proxy_with(bearer())
    }

    pub fn proxy_with(&self, credential: CredentialSettings) -> ProxyBuilder {
        proxy(&self.base_url(), Some(&self.ca_file), credential)
    }

    /// The requests to the API so far (not those to the token endpoint).
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen.lock().last().expect("a request reached the upstream").clone()
    }

    pub fn token_requests(&self) -> usize {
        self.tokens.requests.load(Ordering::SeqCst)
    }

    pub fn revocations(&self) -> usize {
        self.tokens.revoked.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(request: Request<Incoming>, handler: Handler, seen: &Mutex<Vec<Seen>>, tokens: &Tokens) -> Answer {
    match request.uri().path() {
        "/api/oauth/token" => tokens.grant(),
        "/api/oauth/revoke" => {
            tokens.revoked.fetch_add(1, Ordering::SeqCst);
            Response::new(full(""))
        }
        _ => {
            seen.lock().push(Seen {
                method: request.method().clone(),
                uri: request
                    .uri()
                    .path_and_query()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                headers: request.headers().clone(),
                version: request.version(),
            });
            handler(request).await
        }
    }
}

/// An upstream that keeps requests waiting.
pub struct Held {
    pub upstream: Upstream,
    /// Has a permit for each request that came.
    begun: Arc<Semaphore>,
    /// Each of its permits lets one request have its answer, `{"done":true}`.
    pub release: Arc<Semaphore>,
}

impl Held {
    pub async fn start() -> Self {
        let (begun, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (tell, wait) = (Arc::clone(&begun), Arc::clone(&release));
        let upstream = Upstream::start(move |_| {
            let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
            async move {
                tell.add_permits(1);
                wait.acquire().await.unwrap().forget();
                json(200, r#"{"done":true}"#)
            }
        })
        .await;
        Self {
            upstream,
            begun,
            release,
        }
    }

    /// Waits until so many more requests are here.
    pub async fn begun(&self, requests: u32) {
        self.begun.acquire_many(requests).await.unwrap().forget();
    }
}
