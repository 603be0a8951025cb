//! What goes in comes out: targets, bodies, trailers, framing, connections, failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::client::{client, raw, read_head, read_to_end};
use crate::support::proxy::{bearer, proxy};
use crate::support::upstream::{Answer, Upstream, full, json};
use crate::support::{time_passes, until, until_steady};

async fn ok(_: http::Request<hyper::body::Incoming>) -> Answer {
    json(200, r#"{"ok":true}"#)
}

async fn echo(request: http::Request<hyper::body::Incoming>) -> Answer {
    let collected = request.into_body().collect().await.unwrap();
    let trailer = collected.trailers().and_then(|t| t.get("x-checksum")).cloned();
    let mut answer = Response::new(full(collected.to_bytes()));
    if let Some(trailer) = trailer {
        answer.headers_mut().insert("x-saw-trailer", trailer);
    }
    answer
}

#[tokio::test]
async fn a_request_without_credentials_gets_an_authenticated_answer() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream.proxy().start().await;
    let answer = client().get(proxy.url("/api/atlas/v2/groups")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().get("x-atlas-auth-proxy-error").is_none());
    assert_eq!(answer.text().await.unwrap(), r#"{"ok":true}"#);
    let seen = upstream.last();
    assert_eq!(seen.headers["authorization"], "Bearer token-1");
    assert_eq!(seen.headers["host"], format!("localhost:{}", upstream.address.port()));
    assert!(seen.headers.get("via").is_none());
    assert_eq!(upstream.token_requests(), 1);
}

#[tokio::test]
async fn path_and_query_go_through_byte_for_byte() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream.proxy().start().await;
    for target in [
        "/api/atlas/v2/groups/1/clusters/c:restart",
        "/api/atlas/v2/a%2Fb%20c/%7Bx%7D?q=%zz&a=b+c&&=",
        "/api/atlas/v2/groups//x/./y/../z?",
        "/api/atlas/v2/logs/mongodb.gz?a='b'|c",
        "/",
    ] {
        let answer = raw(
            proxy.address,
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        assert_eq!(upstream.last().uri, target);
    }
}

#[tokio::test]
async fn bodies_go_through_with_length_and_chunked() {
    let upstream = Upstream::start(echo).await;
    let proxy = upstream.proxy().start().await;
    let content: Bytes = (0..3_000_000u32).map(|i| (i >> 4) as u8).collect::<Vec<_>>().into();
    for size in [0, 1, 65_536, 3_000_000] {
        let body = content.slice(..size);
        let answer = client().post(proxy.url("/x")).body(body.clone()).send().await.unwrap();
        assert_eq!(upstream.last().headers["content-length"], size.to_string());
        assert_eq!(answer.bytes().await.unwrap(), body);
    }
    let chunked = b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let answer = raw(proxy.address, chunked).await;
    assert!(answer.ends_with("abcde"), "{answer}");
    assert_eq!(upstream.last().headers["transfer-encoding"], "chunked");
    assert!(upstream.last().headers.get("content-length").is_none());
}

#[tokio::test]
async fn a_get_may_have_a_body() {
    let upstream = Upstream::start(echo).await;
    let proxy = upstream.proxy().start().await;
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert!(raw(proxy.address, get).await.ends_with("abc"));
}

#[tokio::test]
async fn trailers_go_both_ways_but_never_a_credential() {
    let upstream = Upstream::start(|request| async move {
        let echoed = echo(request).await;
        let saw = echoed
            .headers()
            .get("x-saw-trailer")
            .cloned()
            .unwrap_or(HeaderValue::from_static("none"));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("down"));
        trailers.insert("set-cookie", HeaderValue::from_static("a=b"));
        let frames = vec![
            Ok(Frame::data(Bytes::from_static(b"hello"))),
            Ok(Frame::trailers(trailers)),
        ];
        Response::builder()
            .header("trailer", "x-checksum, set-cookie")
            .header("x-saw-trailer", saw)
            .body(BodyExt::boxed(StreamBody::new(tokio_stream(frames))))
            .unwrap()
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let answer = raw(
        proxy.address,
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close, TE\r\nTE: trailers\r\nTrailer: x-checksum, authorization\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-checksum: up\r\nAuthorization: Bearer mine\r\n\r\n",
    )
    .await;
    assert!(answer.contains("x-saw-trailer: up"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("x-checksum: down"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("set-cookie: a=b"), "{answer}");
}

fn tokio_stream<T>(items: Vec<T>) -> impl futures_core::Stream<Item = T> {
    futures_util::stream::iter(items)
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it_before_it_sends() {
    let upstream = Upstream::start(echo).await;
    let proxy = upstream.proxy().start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").await.unwrap();
    let rest = read_to_end(&mut stream).await;
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("hello"), "{rest}");
    assert!(upstream.last().headers.get("expect").is_none());
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let upstream = Upstream::start(|request| async move {
        let status = request.uri().path().trim_start_matches('/').parse().unwrap_or(200);
        let mut answer = Response::new(full(if status == 200 { "hello" } else { "" }));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        answer
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("text/plain"));
        answer
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for (method, path) in [("HEAD", "/200"), ("GET", "/204"), ("GET", "/304"), ("DELETE", "/204")] {
        stream
            .write_all(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {}", &path[1..])), "{head}");
        if method == "HEAD" {
            assert!(head.contains("content-length: 5"), "{head}");
        }
    }
}

#[tokio::test]
async fn connections_are_kept_and_reused() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream.proxy().start().await;
    for _ in 0..20 {
        client()
            .get(proxy.url("/x"))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
    }
    // One for the token, one for the API.
    assert_eq!(upstream.connections(), 2);
    assert_eq!(
        proxy.metric("atlas_auth_proxy_upstream_connections_open", &[]).await,
        1.0
    );
}

/// An upload that can't be made again would not survive an idle connection that the upstream closes just then. Nor do
/// its connections pile up.
#[tokio::test]
async fn an_upload_that_cannot_be_repeated_goes_over_a_connection_of_its_own() {
    let upstream = Upstream::start(echo).await;
    let proxy = upstream.proxy().start().await;
    let http = client();
    assert_eq!(http.get(proxy.url("/x")).send().await.unwrap().status(), 200);
    let before = upstream.connections();
    for sent in 1..=3 {
        let large = vec![b'x'; (1 << 20) + 1];
        let answer = http.post(proxy.url("/x")).body(large).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap().len(), (1 << 20) + 1);
        assert_eq!(upstream.connections(), before + sent);
    }
    assert_eq!(http.get(proxy.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!(upstream.connections(), before + 3);
    until("one connection is left", || async {
        proxy.metric("atlas_auth_proxy_upstream_connections_open", &[]).await == 1.0
    })
    .await;
}

#[tokio::test]
async fn http_2_upstream_is_spoken_when_asked_for_or_alone_on_offer() {
    let both = &["h2", "http/1.1"][..];
    for (offer, setting, credential) in [
        (both, atlas_auth_proxy::upstream::HttpVersion::Http2, bearer()),
        (&["h2"], Default::default(), bearer()),
        (&["h2"], Default::default(), crate::support::proxy::digest()),
    ] {
        let with_token = matches!(
            credential,
            atlas_auth_proxy::credential::CredentialSettings::ServiceAccount(_)
        );
        let upstream = Upstream::start_with(offer, echo).await;
        let proxy = upstream
            .proxy_with(credential)
            .upstream(|u| u.http = setting)
            .start()
            .await;
        let answer = client().post(proxy.url("/x?y=1")).body("hello").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{setting:?}");
        assert_eq!(answer.text().await.unwrap(), "hello");
        let seen = upstream.last();
        assert_eq!((seen.version, seen.uri.as_str()), (http::Version::HTTP_2, "/x?y=1"));
        assert_eq!(
            seen.headers.get("authorization").is_some_and(|v| v == "Bearer token-1"),
            with_token
        );
    }
}

#[tokio::test]
async fn an_unreachable_upstream_is_a_clear_502() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream.proxy().start().await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let nowhere = crate::support::proxy::proxy(&format!("http://{closed}"), None, crate::support::proxy::digest());
    let proxy = nowhere.start().await;
    let answer = client().get(proxy.url("/x")).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.headers()["x-atlas-auth-proxy-error"],
        "PROXY_UPSTREAM_UNREACHABLE"
    );
    let body: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["error"], 502);
    assert_eq!(body["errorCode"], "PROXY_UPSTREAM_UNREACHABLE");
    assert!(body["detail"].as_str().unwrap().contains("127.0.0.1"), "{body}");
    assert!(body["parameters"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn an_untrusted_certificate_is_a_502_and_nothing_is_sent() {
    let upstream = Upstream::start(ok).await;
    let other = Upstream::start(ok).await;
    let proxy = proxy(
        &upstream.base_url(),
        Some(&other.ca_file),
        crate::support::proxy::digest(),
    )
    .start()
    .await;
    let answer = client().get(proxy.url("/x")).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("ca_file"));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_silent_upstream_is_a_504() {
    let upstream = Upstream::start(|request| async move {
        if request.uri().path() == "/hang" {
            std::future::pending::<()>().await;
        }
        json(200, "{}")
    })
    .await;
    let proxy = upstream
        .proxy()
        .upstream(|u| u.limits.response_head_timeout = Duration::from_secs(10))
        .start()
        .await;
    let hangs = tokio::spawn(client().get(proxy.url("/hang")).send());
    until("it is asked for", || async { !upstream.seen().is_empty() }).await;
    time_passes(Duration::from_secs(11)).await;
    let answer = hangs.await.unwrap().unwrap();
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["x-atlas-auth-proxy-error"], "PROXY_UPSTREAM_TIMEOUT");
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_a_clean_end() {
    let upstream = Upstream::start(|_| async move {
        let frames = vec![
            // Enough that the head is on its way before the end.
            Ok(Frame::data(Bytes::from(vec![b'x'; 4 << 20]))),
            Err(std::io::Error::other("the upstream gives up")),
        ];
        Response::new(BodyExt::boxed(StreamBody::new(tokio_stream(frames))))
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = raw(proxy.address, get).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"));
    // The whole client notices.
    assert!(match client().get(proxy.url("/x")).send().await {
        Ok(answer) => answer.bytes().await.is_err(),
        Err(_) => true,
    });
}

#[tokio::test]
async fn an_idle_connection_closed_by_the_upstream_costs_no_request() {
    // Each connection answers one request and closes without saying so.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                read_head(&mut stream).await;
                count.fetch_add(1, Ordering::SeqCst);
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await
                    .unwrap();
            });
        }
    });
    let proxy = proxy(&format!("http://{address}"), None, crate::support::proxy::digest())
        .start()
        .await;
    for n in 1..=20 {
        let answer = client().post(proxy.url("/x")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), "ok");
        assert_eq!(served.load(Ordering::SeqCst), n);
    }
}

#[tokio::test]
async fn a_download_is_paced_by_its_reader() {
    let produced = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&produced);
    let upstream = Upstream::start(move |_| {
        let counter = Arc::clone(&counter);
        async move {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let stream = futures_util::stream::iter(0..4096).map_frames(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(Frame::data(chunk.clone()))
            });
            Response::new(BodyExt::boxed(StreamBody::new(stream)))
        }
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut stream).await;
    // Nobody reads: production stops with the buffers on the way full, long before the 256 MiB are made.
    until("the first is made", || async { produced.load(Ordering::SeqCst) > 0 }).await;
    until_steady("production stands still", || async {
        produced.load(Ordering::SeqCst) as f64
    })
    .await;
    assert!(
        produced.load(Ordering::SeqCst) < 1024,
        "{} chunks of 64 KiB were made",
        produced.load(Ordering::SeqCst)
    );
}

trait MapFrames: futures_core::Stream + Sized {
    fn map_frames<T, F: FnMut(Self::Item) -> T>(self, f: F) -> futures_util::stream::Map<Self, F> {
        futures_util::StreamExt::map(self, f)
    }
}

impl<S: futures_core::Stream> MapFrames for S {}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_upstream_request() {
    struct OnDrop(Arc<Notify>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let gone = Arc::new(Notify::new());
    let tell = Arc::clone(&gone);
    let upstream = Upstream::start(move |_| {
        let guard = OnDrop(Arc::clone(&tell));
        async move {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let endless = futures_util::stream::repeat(()).map_frames(move |()| {
                let _held = &guard;
                Ok(Frame::data(chunk.clone()))
            });
            Response::new(BodyExt::boxed(StreamBody::new(endless)))
        }
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut stream).await;
    drop(stream);
    tokio::time::timeout(crate::support::PATIENCE, gone.notified())
        .await
        .expect("the upstream request ended");
}

#[tokio::test]
async fn a_client_that_shuts_its_side_still_gets_its_answer() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream.proxy().start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_unix_socket_serves_with_its_mode_and_is_removed_at_the_end() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let upstream = Upstream::start(ok).await;
    let proxy = upstream
        .proxy()
        .with(|s| {
            s.listeners[0].bind = atlas_auth_proxy::server::Bind::Unix {
                path: path.clone(),
                mode: 0o600,
                uids: vec![],
            };
        })
        .start()
        .await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200 "));
    proxy.app.shutdown().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn ipv6_listens_and_forwards() {
    let upstream = Upstream::start(ok).await;
    let proxy = upstream
        .proxy()
        .with(|s| s.listeners[0].bind = atlas_auth_proxy::server::Bind::Tcp("[::1]:0".parse().unwrap()))
        .start()
        .await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
}
