//! A TLS upstream that gives a token to anybody, and answers everything else the same after a while.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use super::on_a_thread;
use super::support::page_of_projects;
use super::support::tls::tls;

pub(super) struct Upstream {
    address: SocketAddr,
    ca: NamedTempFile,
}

impl Upstream {
    /// `after`: how long each answer takes.
    pub(super) async fn start(after: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ca, tls) = tls(&["http/1.1"]);
        let page: Bytes = page_of_projects("https://elsewhere", 1024).into();
        let listener = listener.into_std().unwrap();
        drop(on_a_thread(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, page) = (tls.clone(), page.clone());
                tokio::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, page.clone(), after));
                    // The proxy closes its connections when it ends: no error here.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        }));
        Self { address, ca }
    }

    pub(super) fn base_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(super) fn ca_file(&self) -> &Path {
        self.ca.path()
    }
}

async fn answer(request: Request<Incoming>, page: Bytes, after: Duration) -> Result<Response<Full<Bytes>>, Infallible> {
    let token = request.uri().path() == "/api/oauth/token";
    let _ = request.into_body().collect().await;
    let body = if token {
        let token = "t".repeat(1200);
        format!(r#"{{"access_token":"{token}","expires_in":3600,"token_type":"Bearer"}}"#).into()
    } else {
        tokio::time::sleep(after).await;
        page
    };
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .unwrap())
}
