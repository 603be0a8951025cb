//! A TLS upstream that always answers the same bytes: a token, a page of projects, a log. It checks no credential, but asks
//! for one, by Digest, where there is none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::support::page_of_projects;
use super::support::tls::tls;

/// A page of 1 KiB.
pub(super) const SMALL: &str = "/api/atlas/v2/groups";
/// A page of 100 KiB.
pub(super) const LARGE: &str = "/api/atlas/v2/groups?itemsPerPage=500";
/// 100 KiB that are not JSON.
pub(super) const LOG: &str = "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/clusters/host.mongodb.net/logs/mongodb.gz";

const SMALL_BYTES: usize = 1 << 10;
const LARGE_BYTES: usize = 100 << 10;

const JSON: &str = "application/vnd.atlas.2023-01-01+json;charset=utf-8";

pub(super) struct Upstream {
    address: SocketAddr,
    ca: NamedTempFile,
}

/// Made once.
struct Bodies {
    small: Bytes,
    large: Bytes,
    log: Bytes,
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ca, tls) = tls(&["h2", "http/1.1"]);
        let base = format!("https://localhost:{}", address.port());
        let bodies = Arc::new(Bodies {
            small: page_of_projects(&base, SMALL_BYTES).into(),
            large: page_of_projects(&base, LARGE_BYTES).into(),
            log: vec![0x5a; LARGE_BYTES].into(),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, tls.clone(), Arc::clone(&bodies)));
            }
        });
        Self { address, ca }
    }

    pub(super) fn base_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(super) fn ca_file(&self) -> &Path {
        self.ca.path()
    }

    /// How long an answer is when its links lead to `client`.
    pub(super) fn length_of_answer(&self, path: &str, client: &str) -> usize {
        let size = match path {
            LOG => return LARGE_BYTES,
            LARGE => LARGE_BYTES,
            _ => SMALL_BYTES,
        };
        let page = String::from_utf8(page_of_projects(&self.base_url(), size)).unwrap();
        page.replace(&self.base_url(), client).len()
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, bodies: Arc<Bodies>) {
    stream.set_nodelay(true).unwrap();
    let Ok(stream) = tls.accept(stream).await else { return };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let bodies = Arc::clone(&bodies);
        async move { Ok::<_, Infallible>(answer(&request, &bodies)) }
    });
    // The proxy closes its connections when it ends: no error here.
    let io = TokioIo::new(stream);
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

fn answer(request: &Request<Incoming>, bodies: &Bodies) -> Response<Full<Bytes>> {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let answer = Response::builder();
    let (answer, body) = match target {
        "/api/oauth/token" => {
            let token = format!(
                r#"{{"access_token":"{}","expires_in":3600,"token_type":"Bearer"}}"#,
                "t".repeat(1200)
            );
            (answer.header(header::CONTENT_TYPE, "application/json"), token.into())
        }
        "/api/oauth/revoke" => (answer, Bytes::new()),
        _ if !request.headers().contains_key(header::AUTHORIZATION) => {
            let challenge = r#"Digest realm="MMS Public API", domain="", nonce="WTCgJ7dDC9SBzYTeLvRyAqP0ZHLTzOPX", algorithm=MD5, qop="auth", stale=false"#;
            let refused = answer
                .status(StatusCode::UNAUTHORIZED)
                .header(header::WWW_AUTHENTICATE, challenge);
            (refused, Bytes::new())
        }
        LARGE => (answer.header(header::CONTENT_TYPE, JSON), bodies.large.clone()),
        LOG => {
            let media = "application/vnd.atlas.2023-02-01+gzip";
            (answer.header(header::CONTENT_TYPE, media), bodies.log.clone())
        }
        _ => (answer.header(header::CONTENT_TYPE, JSON), bodies.small.clone()),
    };
    // What Atlas sends along.
    [
        ("server", "mdbws"),
        ("strict-transport-security", "max-age=31536000; includeSubdomains;"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-permitted-cross-domain-policies", "none"),
        ("x-envoy-upstream-service-time", "7"),
        ("x-java-method", "ApiAtlasGroupsResource::getAllGroups"),
        ("ratelimit-limit", "10000"),
        ("ratelimit-remaining", "9999"),
    ]
    .into_iter()
    .fold(answer, |answer, (name, value)| answer.header(name, value))
    .body(Full::new(body))
    .unwrap()
}
