//! Answers that come before a request's content was taken in: a client gets them whole, and learns what becomes of its
//! connection.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use atlas_auth_proxy::server::ListenerTls;
use atlas_auth_proxy::settings::Settings;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsConnector;

use crate::support::PATIENCE;
use crate::support::client::{raw, read_head, read_to_end};
use crate::support::needs::needs;
use crate::support::proxy::{Proxy, bearer, proxy};
use crate::support::tls::TestCa;
use crate::support::upstream::{Answer, Upstream, full, json, that_ends_later};

/// Answers at once, whatever comes.
async fn too_large(_: http::Request<hyper::body::Incoming>) -> Answer {
    json(413, r#"{"error":413}"#)
}

async fn over_tls(upstream: &Upstream, ca: &TestCa, change: impl FnOnce(&mut Settings)) -> Proxy {
    let server = ca.identity(&["localhost"], |_| ());
    let tls = ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), None).unwrap();
    upstream
        .proxy()
        .with(|s| s.listeners[0].tls = Some(tls))
        .with(change)
        .start()
        .await
}

/// Debian 12's curl reports exit code 92 where a stream is reset before its request was taken in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_refusals_of_large_posts_over_both_versions_of_http() {
    let Some(program) = needs(&["curl"], "curl") else {
        return;
    };
    let upstream = Upstream::start(too_large).await;
    let proxy = over_tls(&upstream, &TestCa::new(), |_| ()).await;
    let mut content = tempfile::NamedTempFile::new().unwrap();
    content.write_all(&vec![b'x'; 6 << 20]).unwrap();
    let data = format!("@{}", content.path().display());
    let url = format!("https://127.0.0.1:{}/x", proxy.address.port());
    for version in ["--http2", "--http1.1"] {
        for (field, status) in [
            ("Host: evil.example", "421"),
            ("Origin: https://evil.example", "403"),
            ("X-Any: thing", "413"),
        ] {
            for _ in 0..10 {
                let curl = Command::new(&program)
                    .args(["-q", "-sS", "-k", version, "--noproxy", "*", "-o", "/dev/null"])
                    .args(["-w", "%{http_code} %{http_version}", "-H", field, "-H", "Expect:"])
                    .args(["--data-binary", &data, &url])
                    .output()
                    .await
                    .unwrap();
                let said = String::from_utf8_lossy(&curl.stdout);
                assert!(
                    curl.status.success() && said.starts_with(status),
                    "{version} {field}: {said} {}",
                    String::from_utf8_lossy(&curl.stderr)
                );
            }
        }
    }
}

/// What the proxy says of its own in the middle of content, over HTTP/2: to a client that sends no more, and to one that
/// would send much more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_408_and_429_arrive_whole_over_http2_while_content_is_unread() {
    let upstream = Upstream::start(|request: http::Request<hyper::body::Incoming>| async move {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let ca = TestCa::new();
    for (status, code) in [(408, "PROXY_REQUEST_TIMEOUT"), (429, "PROXY_RATE_LIMITED")] {
        let proxy = over_tls(&upstream, &ca, |s| {
            if status == 408 {
                s.limits.body.request_body_idle_timeout = Duration::from_millis(200);
            } else {
                s.listeners[0].rules.fairness.per_minute = NonZeroUsize::new(1);
            }
        })
        .await;
        let tcp = TcpStream::connect(proxy.address).await.unwrap();
        let stream = TlsConnector::from(ca.client(None, &["h2"]))
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake::<_, _, BoxBody<Bytes, std::io::Error>>(
            TokioExecutor::new(),
            TokioIo::new(stream),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        let url = format!("https://localhost:{}/x", proxy.address.port());
        if status == 429 {
            let allowed = http::Request::get(&url).body(full("")).unwrap();
            assert_eq!(sender.send_request(allowed).await.unwrap().status(), 200);
        }
        // 408: a part, and then nothing. 429: more than any window.
        let part = Bytes::from(vec![b'x'; 1000]);
        let body = if status == 408 {
            let begins = futures_util::stream::iter([Ok(Frame::data(part))]);
            BodyExt::boxed(StreamBody::new(begins.chain(futures_util::stream::pending())))
        } else {
            full(vec![b'x'; 6 << 20])
        };
        let answer = sender
            .send_request(http::Request::post(&url).body(body).unwrap())
            .await
            .unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                answer.headers()["x-atlas-auth-proxy-error"].to_str().unwrap()
            ),
            (status, code)
        );
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains(code), "{text:?}");
        // The connection serves on.
        if status == 408 {
            let next = http::Request::get(&url).body(full("")).unwrap();
            assert_eq!(sender.send_request(next).await.unwrap().status(), 200);
        }
    }
}

const LARGE: usize = 24 << 20;

/// An upstream that answers `POST /x` so as soon as it has the head, and takes all of the content meanwhile; or it closes instead.
/// How much it took is told.
async fn answering_early(
    answer: Option<Vec<u8>>,
    change: impl FnOnce(&mut Settings),
) -> (Proxy, UnboundedReceiver<usize>) {
    let (says, taken) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answer, says) = (answer.clone(), says.clone());
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                if head.starts_with("POST /api/oauth/token") {
                    let token = r#"{"access_token":"token","expires_in":3600,"token_type":"Bearer"}"#;
                    let answer = json_bytes(token);
                    return stream.write_all(&answer).await.unwrap();
                }
                let Some(answer) = answer else {
                    return says.send(0).unwrap();
                };
                let (mut reads, mut writes) = stream.into_split();
                tokio::spawn(async move { writes.write_all(&answer).await });
                let (mut length, mut part) = (0, vec![0; 64 << 10]);
                while length < LARGE {
                    match reads.read(&mut part).await {
                        Ok(0) | Err(_) => break,
                        Ok(read) => length += read,
                    }
                }
                says.send(length).unwrap();
            });
        }
    });
    let proxy = proxy(&base, None, bearer()).with(change);
    (proxy.start().await, taken)
}

fn json_bytes(text: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    [head.as_bytes(), text.as_bytes()].concat()
}

/// A client that reads nothing before it has sent all.
async fn upload(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LARGE}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let part = vec![b'x'; 64 << 10];
    for nth in 0..LARGE / part.len() {
        if nth == 8 {
            // Longer than a connection without a request is kept awake.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let written = tokio::time::timeout(PATIENCE, stream.write_all(&part)).await;
        written.expect("the upload stands still").unwrap();
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_when_its_answer_has_come_and_ended() {
    let (proxy, mut taken) = answering_early(Some(json_bytes("{}")), |_| ()).await;
    let mut stream = upload(&proxy).await;
    let got = read_to_end(&mut stream).await;
    assert!(got.starts_with("HTTP/1.1 200 ") && got.contains("{}"), "{got}");
    assert_eq!(tokio::time::timeout(PATIENCE, taken.recv()).await.unwrap(), Some(LARGE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_large_answer_nor_the_upload_that_it_overtakes_waits_for_the_other() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {LARGE}\r\n\r\n");
    let (proxy, mut taken) = answering_early(Some([head.into_bytes(), vec![b'y'; LARGE]].concat()), |_| ()).await;
    let mut stream = upload(&proxy).await;
    let got = read_to_end(&mut stream).await;
    let (head, content) = got.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(content.len(), LARGE);
    assert_eq!(tokio::time::timeout(PATIENCE, taken.recv()).await.unwrap(), Some(LARGE));
}

/// Content of no length that does not end with the head, as only HTTP/2 has it: nobody asks for a byte of it, and yet the whole
/// request was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_with_empty_content_is_not_taken_for_unsent() {
    let ca = TestCa::new();
    let server = ca.identity(&["localhost"], |_| ());
    let tls = ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), None).unwrap();
    let (proxy, mut taken) = answering_early(None, |s| s.listeners[0].tls = Some(tls)).await;
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    let stream = TlsConnector::from(ca.client(None, &["h2"]))
        .connect(ServerName::try_from("localhost").unwrap(), tcp)
        .await
        .unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let url = format!("https://localhost:{}/x", proxy.address.port());
    let request = http::Request::post(url).header("content-length", "0").body(()).unwrap();
    let (answer, mut content) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    content.send_data(Bytes::new(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 502);
    assert_eq!(taken.recv().await, Some(0));
    assert!(taken.try_recv().is_err(), "it was sent again");
}

/// What is refused with content that nobody reads ends the connection, and says so.
#[tokio::test]
async fn an_answer_that_ends_the_connection_says_so() {
    let upstream = Upstream::start(too_large).await;
    let proxy = upstream
        .proxy()
        .with(|s| s.listeners[0].rules.fairness.per_minute = std::num::NonZeroUsize::new(1))
        .start()
        .await;
    // The last byte never comes.
    let post =
        |fields: &str| format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n{fields}\r\n12345678");
    for (fields, status) in [("Origin: https://evil.example\r\n", 403), ("", 413), ("", 429)] {
        let answer = raw(proxy.address, post(fields).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(
            answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
    }
    // The token endpoint takes its content in, and serves on.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for _ in 0..2 {
        let token = b"POST /api/oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 29\r\n\r\ngrant_type=client_credentials";
        stream.write_all(token).await.unwrap();
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(
            head.starts_with("http/1.1 200 ") && !head.contains("connection: close"),
            "{head}"
        );
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split('\r').next().unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await.unwrap();
    }
}

#[tokio::test]
async fn http_1_0_is_promised_another_request_only_where_it_finds_the_end_of_the_answer() {
    let end = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&end);
    let upstream = Upstream::start(move |request: http::Request<hyper::body::Incoming>| {
        let held = Arc::clone(&held);
        async move {
            let mut answer = json(200, "0123456789");
            if request.uri().path() == "/endless" {
                *answer.body_mut() = that_ends_later("0123456789", held);
            }
            answer
        }
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let get = |path: &str| format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(get("/short").as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(
            head.contains("content-length: 10\r\n") && head.contains("connection: keep-alive\r\n"),
            "{head}"
        );
        stream.read_exact(&mut [0; 10]).await.unwrap();
    }
    stream.write_all(get("/endless").as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(
        !head.contains("keep-alive") && !head.contains("transfer-encoding") && !head.contains("content-length"),
        "{head}"
    );
    end.add_permits(1);
    assert_eq!(read_to_end(&mut stream).await, "0123456789");
}
