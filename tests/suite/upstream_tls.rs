//! Towards the upstream there is verified TLS or nothing: not one byte of a request or a credential goes to a server that
//! does not prove its name.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use atlas_auth_proxy::upstream::HttpVersion;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::client::client;
use crate::support::needs::{needs, skip};
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, bearer, digest, proxy};
use crate::support::tls::{Identity, TestCa, expired, for_clients, not_yet_valid};
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// A TLS server that takes whatever comes, and counts it.
struct Impostor {
    address: SocketAddr,
    handshakes: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Impostor {
    async fn start(identity: &Identity) -> Self {
        let acceptor = TlsAcceptor::from(identity.server(&["http/1.1", "h2"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let impostor = Self {
            address: listener.local_addr().unwrap(),
            handshakes: Arc::default(),
            bytes: Arc::default(),
        };
        let (handshakes, bytes) = (Arc::clone(&impostor.handshakes), Arc::clone(&impostor.bytes));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                handshakes.fetch_add(1, Ordering::SeqCst);
                let (acceptor, bytes) = (acceptor.clone(), Arc::clone(&bytes));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut chunk = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                        bytes.fetch_add(read, Ordering::SeqCst);
                    }
                });
            }
        });
        impostor
    }
}

#[tokio::test]
async fn an_impostor_gets_no_byte_of_a_request() {
    let (ca, stranger) = (TestCa::new(), TestCa::new());
    let cases = [
        ("another name", ca.identity(&["cloud.example.org"], |_| ())),
        ("a longer name", ca.identity(&["localhost.example.org"], |_| ())),
        ("another authority", stranger.identity(&["localhost"], |_| ())),
        ("no authority", TestCa::self_signed(&["localhost"])),
        ("expired", ca.identity(&["localhost"], expired)),
        ("not yet valid", ca.identity(&["localhost"], not_yet_valid)),
        ("for clients", ca.identity(&["localhost"], for_clients)),
    ];
    for (what, identity) in &cases {
        let impostor = Impostor::start(identity).await;
        let url = format!("https://localhost:{}", impostor.address.port());
        // The first thing that a key's request needs is the API itself; a service account's, the token endpoint.
        for (credential, status, code) in [
            (digest(), 502, "PROXY_UPSTREAM_UNREACHABLE"),
            (bearer(), 503, "PROXY_TOKEN_UNAVAILABLE"),
        ] {
            let before = impostor.handshakes.load(Ordering::SeqCst);
            let proxy = proxy(&url, Some(ca.pem_file.path()), credential).start().await;
            let answer = client()
                .post(proxy.url("/api/atlas/v2/groups"))
                .body("content")
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), status, "{what}");
            assert_eq!(answer.headers()["x-atlas-auth-proxy-error"], code, "{what}");
            let said = answer.text().await.unwrap();
            assert!(said.contains("ertificate") || status == 503, "{what}: {said}");
            let handshakes = &impostor.handshakes;
            until("it was tried", || async { handshakes.load(Ordering::SeqCst) > before }).await;
            proxy.app.shutdown().await;
        }
        assert_eq!(impostor.bytes.load(Ordering::SeqCst), 0, "{what}");
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_old_tls_only_is_refused() {
    let Some(openssl) = needs(&["openssl"], "openssl") else {
        return;
    };
    let ca = TestCa::new();
    let identity = ca.identity(&["localhost"], |_| ());
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = (files.path().join("crt"), files.path().join("key"));
    std::fs::write(&certificate, &identity.certificate).unwrap();
    std::fs::write(&key, &identity.key).unwrap();
    let port = free_address().port();
    let mut server = tokio::process::Command::new(openssl)
        .args([
            "s_server",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-tls1_1",
            "-cipher",
            "ALL:@SECLEVEL=0",
        ])
        .arg("-cert")
        .arg(&certificate)
        .arg("-key")
        .arg(&key)
        .args(["-quiet", "-naccept", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is installed (package openssl)");
    let proxy = proxy(&format!("https://localhost:{port}"), Some(ca.pem_file.path()), digest())
        .start()
        .await;
    let said = parking_lot::Mutex::new(String::new());
    until("it is refused for its version", || async {
        let answer = client().get(proxy.url("/")).send().await.unwrap();
        assert_eq!(answer.status(), 502);
        let text = answer.text().await.unwrap();
        // Before it listens the connection is refused.
        let refused = text.contains("TLS");
        *said.lock() = text;
        refused
    })
    .await;
    let said = said.into_inner();
    assert!(said.contains("version") || said.contains("alert"), "{said}");
    server.kill().await.unwrap();
    let mut received = String::new();
    server
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut received)
        .await
        .unwrap();
    assert_eq!(received, "");
}

/// A resolver (here: the hosts file) that sends `localhost` elsewhere gets neither the client secret nor the token.
#[tokio::test]
async fn localhost_is_this_machine_whatever_a_resolver_says() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    // Loopback, too, but not what the name stands for.
    let elsewhere = TcpListener::bind(("127.9.9.9", upstream.address.port())).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.9.9.9 localhost\n").unwrap();
    let script = format!("mount --bind '{}' /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
    let mut probe = tokio::process::Command::new("unshare");
    probe.args(["-m", "sh", "-c", "mount --bind /etc/hosts /etc/hosts"]);
    if !probe.output().await.is_ok_and(|output| output.status.success()) {
        return skip("this user may not have a mount namespace of its own");
    }
    let mut command = tokio::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, PROGRAM]);
    let environment = [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
    ];
    let program = Program::start(command, &upstream, &environment, &[]).await;
    let url = format!("http://{}/x", program.address);
    assert_eq!(client().get(url).send().await.unwrap().status(), 200);
    assert_eq!(upstream.token_requests(), 1);
    let came = tokio::time::timeout(Duration::from_millis(1), elsewhere.accept()).await;
    assert!(came.is_err(), "somebody called there");
}

/// One after the other, each with a limit of its own, the last of them would wait for minutes.
#[tokio::test]
async fn requests_that_wait_for_one_http2_connection_share_its_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let proxy = proxy(&url, None, digest())
        .upstream(|upstream| {
            upstream.http = HttpVersion::Http2;
            upstream.limits.connect_timeout = Duration::from_secs(2);
        })
        .start()
        .await;
    let began = Instant::now();
    let calls: Vec<_> = (0..20)
        .map(|n| tokio::spawn(client().post(proxy.url(&format!("/{n}"))).body("x").send()))
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), 504);
    }
    // Twenty in a row would take forty seconds; a request may make two attempts.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}
