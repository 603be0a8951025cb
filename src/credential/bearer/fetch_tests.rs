#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::token::Moment;
use super::super::{Bearer, BearerParts, TokenEvents};
use super::*;
use crate::time::{Clock, SystemClock};
use crate::upstream::HttpVersion;

const GRANT: &str = r#"{"access_token":"sesame","expires_in":3600,"token_type":"Bearer"}"#;

/// Answers each connection's one request with the same bytes and closes; keeps the requests.
struct Server {
    origin: Origin,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn plain(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &answer, &log).await;
            }
        });
        Self { origin, requests }
    }

    async fn tls(answer: String, config: rustls::ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Origin::parse(&format!("https://localhost:{port}")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, &answer, &log).await;
                }
            }
        });
        Self { origin, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str, log: &Mutex<Vec<String>>) {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| {
                    l.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                })
                .map_or(0, |n| n.parse::<usize>().unwrap());
            if body.len() >= length {
                log.lock().push(text);
                break;
            }
        }
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return;
        }
    }
    // The client may hang up in the middle of an endless answer.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

fn tls_client(roots: rustls::RootCertStore) -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(crate::crypto::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn endpoint_with(origin: &Origin, roots: rustls::RootCertStore) -> TokenEndpoint {
    let mut tls = tls_client(roots);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    TokenEndpoint::new(
        origin,
        ServiceAccountKey {
            client_id: "mdb_sa_id_1".to_owned(),
            secrets: Secret::new("s%3A:+/ä").into(),
        },
        HttpClient::new(tls, Duration::from_secs(5), None, HttpVersion::Http1),
        Arc::new(SystemClock),
    )
}

fn endpoint(origin: &Origin) -> TokenEndpoint {
    endpoint_with(origin, rustls::RootCertStore::empty())
}

fn token() -> Token {
    let now = Moment::now(&SystemClock);
    Token::new(&Granted::for_tests("se+sa/me==", 3600), now, 1, 0.5)
}

async fn refusal(answer: String) -> Refusal {
    let server = Server::plain(answer).await;
    endpoint(&server.origin).fetch().await.unwrap_err()
}

#[tokio::test]
async fn the_request_is_as_atlas_wants_it() {
    let server = Server::plain(http("200 OK", "", GRANT)).await;
    let granted = endpoint(&server.origin).fetch().await.unwrap();
    assert_eq!(granted.header(), "Bearer sesame");
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/oauth/token HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, "grant_type=client_credentials");
    let head = head.to_ascii_lowercase();
    for line in [
        "accept: application/json",
        "content-type: application/x-www-form-urlencoded",
        &format!("host: {}", server.origin.authority()),
    ] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
    // Not percent-encoded, and with the bytes that the secret has.
    let basic = format!("authorization: Basic {}", STANDARD.encode("mdb_sa_id_1:s%3A:+/ä"));
    assert!(request.contains(&basic));
}

#[tokio::test]
async fn a_token_is_revoked() {
    let server = Server::plain(http("200 OK", "", "")).await;
    endpoint(&server.origin).revoke(&token()).await.unwrap();
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /api/oauth/revoke HTTP/1.1\r\n"));
    assert!(request.contains("authorization: Basic "));
    assert!(request.ends_with("\r\n\r\ntoken=se%2Bsa%2Fme%3D%3D&token_type_hint=access_token"));
    let server = Server::plain(http("503 Busy", "", "")).await;
    assert_eq!(
        endpoint(&server.origin).revoke(&token()).await.unwrap_err().outcome,
        Outcome::Error
    );
}

#[tokio::test]
async fn every_fault_has_its_name() {
    let cases = [
        (http("200 OK", "", ""), Outcome::Malformed),
        (http("200 OK", "", "<html>"), Outcome::Malformed),
        (http("200 OK", "", &GRANT.replace("3600", "0")), Outcome::Malformed),
        // Half an answer: closed within the body.
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{GRANT}"),
            Outcome::Malformed,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"acc\r\n".to_owned(),
            Outcome::Malformed,
        ),
        // Half a head, or none at all.
        ("HTTP/1.1 200 OK\r\nContent-Le".to_owned(), Outcome::Unreachable),
        (String::new(), Outcome::Unreachable),
        ("SSH-2.0-x\r\n".to_owned(), Outcome::Unreachable),
        (http("500 Oops", "", &"x".repeat(1 << 20)), Outcome::Error),
        (
            "HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 500\r\n\r\nhalf".to_owned(),
            Outcome::RateLimited,
        ),
        (http("401 No", "", r#"{"error":"invalid_client"}"#), Outcome::Rejected),
    ];
    for (answer, outcome) in cases {
        let shown = answer.chars().take(80).collect::<String>();
        let refusal = refusal(answer).await;
        assert_eq!(refusal.outcome, outcome, "{shown:?}: {refusal:?}");
        assert!(!refusal.cause.contains("s%3A"), "{refusal}");
    }
}

#[tokio::test]
async fn retry_after_arrives() {
    let refusal = refusal(http("429 Slow down", "Retry-After: 17\r\n", "")).await;
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_the_bound_only() {
    // A mebibyte follows, and after it a promise of much more.
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n{}",
        " ".repeat(1 << 20)
    );
    let refusal = refusal(answer).await;
    assert_eq!(refusal.outcome, Outcome::Malformed);
    assert!(refusal.cause.contains("64 KiB"), "{refusal}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::plain(http("200 OK", "", GRANT)).await;
    for status in ["301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"] {
        let location = format!("Location: {}\r\n", elsewhere.origin.url("/api/oauth/token"));
        let refusal = refusal(http(status, &location, "")).await;
        assert_eq!(refusal.outcome, Outcome::Error);
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let refusal = endpoint(&origin).fetch().await.unwrap_err();
    assert_eq!(refusal.outcome, Outcome::Unreachable);
    assert!(refusal.cause.contains("refused"), "{refusal}");
}

// The paused clock jumps to the time-out as soon as nothing else can happen, which is just what is wanted here.
#[tokio::test(start_paused = true)]
async fn silence_ends_in_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let started = tokio::time::Instant::now();
    let refusal = endpoint(&origin).fetch().await.unwrap_err();
    assert_eq!(refusal.outcome, Outcome::Timeout, "{refusal}");
    assert!(started.elapsed() <= FETCH_LIMIT + Duration::from_millis(10));
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    roots: rustls::RootCertStore,
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    Ca {
        issuer: Issuer::new(params, key),
        roots,
    }
}

fn server_config(ca: &Ca, name: &str, last_year: i32) -> rustls::ServerConfig {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let certificate = params.signed_by(&key, &ca.issuer).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(crate::crypto::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[tokio::test]
async fn tls_is_verified_with_the_given_roots() {
    let (ours, twin, other) = (ca("ours"), ca("ours"), ca("other"));
    let answer = || http("200 OK", "", GRANT);
    let server = Server::tls(answer(), server_config(&ours, "localhost", 4000)).await;
    // The server prefers h2, and so did the configuration given: the client speaks HTTP/1.1 all the same.
    endpoint_with(&server.origin, ours.roots.clone()).fetch().await.unwrap();
    assert_eq!(server.requests().len(), 1);

    let wrong_name = Server::tls(answer(), server_config(&ours, "cloud.example.org", 4000)).await;
    let expired = Server::tls(answer(), server_config(&ours, "localhost", 2020)).await;
    for (server, roots) in [
        (&server, other.roots),
        (&server, twin.roots),
        (&server, rustls::RootCertStore::empty()),
        (&wrong_name, ours.roots.clone()),
        (&expired, ours.roots),
    ] {
        let refusal = endpoint_with(&server.origin, roots).fetch().await.unwrap_err();
        assert_eq!(refusal.outcome, Outcome::Unreachable);
        assert!(refusal.cause.starts_with("no TLS connection"), "{refusal}");
    }
    let sent = server.requests().len() + wrong_name.requests().len() + expired.requests().len();
    assert_eq!(sent, 1, "nothing is sent to a server that is not verified");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_on_threads_cause_one_request() {
    let server = Server::plain(http("200 OK", "", GRANT)).await;
    let TokenEndpoint {
        origin,
        key,
        http,
        clock,
        ..
    } = endpoint(&server.origin);
    let bearer = Bearer::new(BearerParts {
        account: "default".into(),
        key,
        origin,
        http,
        clock,
        events: Arc::new(NoEvents),
    });
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let caller = Arc::clone(&bearer);
        calls.spawn(async move { caller.authorization().await.map(|t| t.generation()) });
        if n == 500 {
            tokio::spawn(Arc::clone(&bearer).run(std::future::pending()));
        }
    }
    assert!(calls.join_all().await.into_iter().all(|call| call == Ok(1)));
    assert_eq!(server.requests().len(), 1);
}

struct NoEvents;

impl TokenEvents for NoEvents {
    fn token_request(&self, _: Outcome) {}
    fn token_expiry(&self, _: Option<SystemTime>) {}
    fn token_refreshed(&self, _: SystemTime) {}
    fn usable(&self, _: bool) {}
}

#[test]
fn a_date_before_the_epoch_is_no_trouble() {
    let refusal = parse_answer(
        StatusCode::SERVICE_UNAVAILABLE,
        &http::HeaderMap::from_iter([(
            header::RETRY_AFTER,
            HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"),
        )]),
        b"",
        SystemClock.wall(),
    )
    .unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::ZERO));
}
