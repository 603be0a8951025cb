//! An upstream that speaks HTTP/2 only, and says frame by frame how each stream ends. Its token endpoint works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::tls::TestCa;

type Done = Pin<Box<dyn Future<Output = ()> + Send>>;
type Deed = Arc<dyn Fn(Request<RecvStream>, SendResponse<Bytes>, usize) -> Done + Send + Sync>;

pub struct H2Upstream {
    pub address: SocketAddr,
    pub ca_file: PathBuf,
    requests: Arc<AtomicUsize>,
    token_requests: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    _ca: TestCa,
}

impl H2Upstream {
    /// `deed` answers the nth request (from 0) to the API. `most_streams`: as its SETTINGS say.
    pub async fn start<F, Fut>(most_streams: u32, deed: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let ca = TestCa::new();
        let tls = TlsAcceptor::from(ca.server(&["localhost"], &["h2"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            ca_file: ca.pem_file.path().to_owned(),
            requests: Arc::default(),
            token_requests: Arc::default(),
            at_once: Arc::default(),
            _ca: ca,
        };
        let deed: Deed = Arc::new(move |request, respond, nth| Box::pin(deed(request, respond, nth)));
        let (requests, tokens) = (Arc::clone(&upstream.requests), Arc::clone(&upstream.token_requests));
        let at_once = Arc::clone(&upstream.at_once);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (tls, deed, requests, tokens) = (
                    tls.clone(),
                    Arc::clone(&deed),
                    Arc::clone(&requests),
                    Arc::clone(&tokens),
                );
                let at_once = Arc::clone(&at_once);
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let mut connection = Builder::new()
                        .max_concurrent_streams(most_streams)
                        .handshake::<_, Bytes>(stream)
                        .await
                        .unwrap();
                    let open = Arc::new(AtomicUsize::new(0));
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if request.uri().path() == "/api/oauth/token" {
                            tokens.fetch_add(1, Ordering::SeqCst);
                            let token = r#"{"access_token":"token-of-the-h2-upstream","expires_in":3600,"token_type":"Bearer"}"#;
                            let head = Response::builder()
                                .header("content-type", "application/json")
                                .body(())
                                .unwrap();
                            let mut body = respond.send_response(head, false).unwrap();
                            body.send_data(Bytes::from_static(token.as_bytes()), true).unwrap();
                            continue;
                        }
                        let nth = requests.fetch_add(1, Ordering::SeqCst);
                        let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                        at_once.fetch_max(now, Ordering::SeqCst);
                        let (deed, open) = (Arc::clone(&deed), Arc::clone(&open));
                        tokio::spawn(async move {
                            deed(request, respond, nth).await;
                            open.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        upstream
    }

    pub fn base_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn token_requests(&self) -> usize {
        self.token_requests.load(Ordering::SeqCst)
    }

    /// The most requests that one connection had open.
    pub fn most_at_once(&self) -> usize {
        self.at_once.load(Ordering::SeqCst)
    }
}

/// Answers 200 with a body.
pub fn answer(mut respond: SendResponse<Bytes>, body: &'static [u8]) {
    let head = Response::builder()
        .header("content-length", body.len())
        .body(())
        .unwrap();
    if let Ok(mut stream) = respond.send_response(head, false) {
        let _ = stream.send_data(Bytes::from_static(body), true);
    }
}
