//! The end: in flight finishes, new is refused, the exit is clean.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atlas_auth_proxy::credential::CredentialSettings;
use atlas_auth_proxy::secret::Secret;
use atlas_auth_proxy::server::{Bind, ListenerTls};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use crate::support::client::{client, read_head, read_to_end};
use crate::support::proxy::listener;
use crate::support::tls::TestCa;
use crate::support::upstream::{Held, Upstream, full, json};
use crate::support::{PATIENCE, time_passes, until, until_steady};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_finish_and_new_ones_are_refused() {
    let held = Held::start().await;
    let upstream = &held.upstream;
    let proxy = upstream.proxy().start().await;
    let address = proxy.address;
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let url = proxy.url("/x");
            tokio::spawn(async move { client().get(url).send().await.unwrap().text().await.unwrap() })
        })
        .collect();
    held.begun(200).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let ending = tokio::spawn(proxy.app.shutdown());
    // An idle connection ends at once, and nobody is accepted any more.
    assert_eq!(read_to_end(&mut idle).await, "");
    until("nobody is accepted", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    assert!(!ending.is_finished());
    held.release.add_permits(200);
    for call in calls {
        assert_eq!(call.await.unwrap(), r#"{"done":true}"#);
    }
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_finish_in_time_is_broken_off() {
    let begun = Arc::new(Notify::new());
    let tell = Arc::clone(&begun);
    let upstream = Upstream::start(move |_| {
        tell.notify_one();
        async { std::future::pending().await }
    })
    .await;
    let proxy = upstream
        .proxy()
        .with(|s| s.drain_timeout = Duration::from_millis(100))
        .start()
        .await;
    let url = proxy.url("/x");
    let call = tokio::spawn(async move { client().get(url).send().await });
    begun.notified().await;
    tokio::time::timeout(PATIENCE, proxy.app.shutdown()).await.unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_alive_client_is_told_to_close() {
    let held = Held::start().await;
    let proxy = held.upstream.proxy().start().await;
    let (address, admin) = (proxy.address, proxy.admin);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    held.begun(1).await;
    let ending = tokio::spawn(proxy.app.shutdown());
    let url = format!("http://{admin}/readyz");
    until("readyz says draining", || async {
        client()
            .get(&url)
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 503)
    })
    .await;
    held.release.add_permits(1);
    assert!(
        read_head(&mut stream)
            .await
            .to_ascii_lowercase()
            .contains("connection: close")
    );
    ending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_its_way_when_the_drain_begins_is_served_as_the_last() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = upstream.proxy().start().await;
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut resting = TcpStream::connect(proxy.address).await.unwrap();
    let mut new = TcpStream::connect(proxy.address).await.unwrap();
    resting.write_all(get).await.unwrap();
    assert!(read_head(&mut resting).await.starts_with("HTTP/1.1 200 "));
    let address = proxy.address;
    let ending = tokio::spawn(proxy.app.shutdown());
    until("nobody is accepted", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    // Both at once: they have half a second.
    for stream in [&mut resting, &mut new] {
        stream.write_all(get).await.unwrap();
    }
    for stream in [&mut resting, &mut new] {
        let rest = read_to_end(stream).await.to_ascii_lowercase();
        assert!(
            rest.contains("http/1.1 200 ") && rest.contains("connection: close"),
            "{rest}"
        );
    }
    ending.await.unwrap();
}

/// Another account with a listener of its own, both taken away by a reload while a request is in flight there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reload_took_away_ends_as_well_as_what_stays() {
    let held = Held::start().await;
    let upstream = &held.upstream;
    let builder = upstream.proxy();
    let rest = builder.settings.clone();
    let mut proxy = builder
        .with(|s| {
            s.accounts.insert("other".to_owned(), s.accounts["default"].clone());
            s.listeners.push(listener("other"));
        })
        .start()
        .await;
    let url = proxy.app.listeners()[1].url.clone();
    let call = tokio::spawn(async move { client().get(url).send().await.unwrap().text().await.unwrap() });
    held.begun(1).await;
    proxy.app.reload(rest).unwrap();
    let ending = tokio::spawn(proxy.app.shutdown());
    until("what stays is revoked", || async { upstream.revocations() == 1 }).await;
    assert!(!ending.is_finished(), "a request is in flight");
    held.release.add_permits(1);
    assert_eq!(call.await.unwrap(), r#"{"done":true}"#);
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
    assert_eq!(upstream.revocations(), 2);
}

/// Idle connections have half a second: those that are taken for idle have ended when this is over, too.
const A_LITTLE_LATER: Duration = Duration::from_millis(500);

/// A socket takes in so much, and hyper 64 KiB more: of one of these answers all is handed over, and not all is written.
#[tokio::test]
async fn a_slow_reader_has_its_whole_answer_in_a_drain() {
    let upstream = Upstream::start(|request| async move {
        let size = request.uri().path()[1..].parse().unwrap();
        Response::new(full(vec![b'x'; size]))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let bind = Bind::Unix {
        path: path.clone(),
        mode: 0o600,
        uids: Vec::new(),
    };
    let proxy = upstream
        .proxy()
        .with(|s| {
            s.drain_timeout = Duration::from_secs(3600);
            s.listeners[0].bind = bind;
        })
        .start()
        .await;
    let mut readers = Vec::new();
    for size in (1..=24).map(|n| n * (32 << 10)) {
        let mut reader = UnixStream::connect(&path).await.unwrap();
        let request = format!("GET /{size} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        reader.write_all(request.as_bytes()).await.unwrap();
        readers.push((size, reader));
    }
    let sent = || proxy.metric("atlas_auth_proxy_requests_in_flight", &[]);
    let all = readers.len();
    until("all are under way", || async { upstream.seen().len() == all }).await;
    until_steady("all that fits is handed over", sent).await;
    let mut idle = UnixStream::connect(&path).await.unwrap();
    let ending = tokio::spawn(proxy.app.shutdown());
    assert_eq!(read_to_end(&mut idle).await, "");
    time_passes(A_LITTLE_LATER).await;
    for (size, mut reader) in readers {
        read_head(&mut reader).await;
        let read = reader.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(read, size);
    }
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_reader_of_http2_has_its_whole_answer_in_a_drain() {
    let (size, window) = (128 << 10, 1 << 10);
    let upstream = Upstream::start(move |_| async move { Response::new(full(vec![b'x'; size])) }).await;
    let ca = TestCa::new();
    let server = ca.identity(&["localhost"], |_| ());
    let tls = ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), None).unwrap();
    let proxy = upstream
        .proxy()
        .with(|s| {
            s.drain_timeout = Duration::from_secs(3600);
            s.listeners[0].tls = Some(tls);
        })
        .start()
        .await;
    let connect = async |alpn| {
        let tcp = TcpStream::connect(proxy.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(ca.client(None, &[alpn]))
            .connect(name, tcp)
            .await
            .unwrap()
    };
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(connect("h2").await))
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    let request = Request::get("https://localhost/x")
        .body(Full::<Bytes>::default())
        .unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut got = 0;
    while proxy.metric("atlas_auth_proxy_requests_in_flight", &[]).await > 0.0 {
        got += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    assert!(got < size);
    let mut idle = connect("http/1.1").await;
    let ending = tokio::spawn(proxy.app.shutdown());
    assert_eq!(read_to_end(&mut idle).await, "");
    time_passes(A_LITTLE_LATER).await;
    got += body.collect().await.unwrap().to_bytes().len();
    assert_eq!(got, size);
    drop(sender);
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
    let _ = ended.await.unwrap();
}

/// A reload may change the way to Atlas, and leave the credential as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_not_revoked_under_a_request_from_before_a_reload() {
    let held = Held::start().await;
    let upstream = &held.upstream;
    let before = || upstream.proxy();
    let other = Upstream::start(|_| async { json(200, "{}") }).await;
    let idle = other.proxy().start().await;
    assert_eq!(client().get(idle.url("/x")).send().await.unwrap().status(), 200);
    let mut proxy = before().start().await;
    let url = proxy.url("/x");
    let call = tokio::spawn(async move { client().get(url).send().await.unwrap().status() });
    held.begun(1).await;
    let changed = before()
        .upstream(|upstream| upstream.limits.connect_timeout *= 2)
        .settings;
    proxy.app.reload(changed).unwrap();
    let ending = tokio::spawn(proxy.app.shutdown());
    // Another proxy, on which nothing is under way, begins to end later: it is through.
    idle.app.shutdown().await;
    assert_eq!((other.revocations(), upstream.revocations()), (1, 0));
    held.release.add_permits(1);
    assert_eq!(call.await.unwrap(), 200);
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
    assert_eq!(upstream.revocations(), 1);
}

/// A credential may be accepted while the proxy ends: the one before it is still in use then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_not_revoked_under_a_request_when_another_credential_comes_during_the_drain() {
    let held = Held::start().await;
    let upstream = &held.upstream;
    let mut proxy = upstream.proxy().start().await;
    let url = proxy.url("/x");
    let call = tokio::spawn(async move { client().get(url).send().await.unwrap().status() });
    held.begun(1).await;
    upstream.tokens.down.store(true, Ordering::SeqCst);
    let mut changed = upstream.proxy().settings;
    let CredentialSettings::ServiceAccount(key) = &mut changed.accounts.get_mut("default").unwrap().credential else {
        panic!("a service account");
    };
    key.secrets.current = Secret::new("mdb_sa_sk_another-client-secret-for-tests");
    proxy.app.reload(changed).unwrap();
    until("the new credential is tried", || async {
        upstream.token_requests() > 1
    })
    .await;
    let (admin, ending) = (proxy.admin, tokio::spawn(proxy.app.shutdown()));
    // Another proxy, on which nothing is under way, begins to end later: this one has looked for what is in use.
    let other = Upstream::start(|_| async { json(200, "{}") }).await;
    other.proxy().start().await.app.shutdown().await;
    upstream.tokens.down.store(false, Ordering::SeqCst);
    until("the new credential is in force", || async {
        let text = client().get(format!("http://{admin}/metrics")).send().await.unwrap();
        let text = text.text().await.unwrap();
        text.contains(r#"credential_reloads_total{account="default",outcome="ok"} 1"#)
    })
    .await;
    other.proxy().start().await.app.shutdown().await;
    assert_eq!(upstream.revocations(), 0);
    held.release.add_permits(1);
    assert_eq!(call.await.unwrap(), 200);
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
    assert_eq!(upstream.revocations(), 2);
}
