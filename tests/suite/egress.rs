//! The way out: an egress proxy, addresses that are raced, connections that grow old.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use atlas_auth_proxy::credential::CredentialSettings::ServiceAccount;
use atlas_auth_proxy::upstream::{ConnectTo, EgressProxy};
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::client::{client, head_of};
use crate::support::program::{PROGRAM, Program};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, bearer, proxy};
use crate::support::upstream::{Upstream, json};
use crate::support::{time_passes, until};

/// A forward proxy that wants `user:pass`, and remembers what it was asked for and every byte that it saw.
struct Forward {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    async fn start(credentials: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let forward = Self {
            address: listener.local_addr().unwrap(),
            heads: Arc::default(),
        };
        let heads = Arc::clone(&forward.heads);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let heads = Arc::clone(&heads);
                tokio::spawn(async move {
                    let Some(head) = head_of(&mut stream).await else { return };
                    heads.lock().push(head.clone());
                    let authorized = credentials.is_none_or(|c| {
                        head.lines()
                            .filter_map(|line| line.split_once(": "))
                            .any(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value == c)
                    });
                    let target = head.split(' ').nth(1).unwrap();
                    // Only this proxy knows the name.
                    let target = target.replace("atlas.internal", "localhost");
                    if !authorized {
                        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n";
                        let _ = stream.write_all(refusal).await;
                        return;
                    }
                    let Ok(mut there) = TcpStream::connect(target).await else {
                        let _ = stream
                            .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                            .await;
                        return;
                    };
                    stream
                        .write_all(b"HTTP/1.1 200 Connection established\r\nX-Via: y\r\n\r\n")
                        .await
                        .unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut there).await;
                });
            }
        });
        forward
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }

    fn url(&self, userinfo: &str) -> String {
        format!("http://{userinfo}{}", self.address)
    }
}

/// `user:pass`
const BASIC: &str = "Basic dXNlcjpwYXNz";

#[tokio::test]
async fn token_and_api_go_through_the_proxy_with_its_credentials() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let forward = Forward::start(Some(BASIC)).await;
    let proxy = upstream
        .proxy()
        .upstream(|upstream| upstream.egress = Some(EgressProxy::parse(&forward.url("user:pass@")).unwrap()))
        .start()
        .await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    let heads = forward.heads();
    assert_eq!(heads.len(), 2, "one tunnel for the token, one for the API: {heads:?}");
    let target = format!("CONNECT localhost:{} HTTP/1.1\r\n", upstream.address.port());
    for head in &heads {
        assert!(head.starts_with(&target), "{head}");
        // The credential for Atlas is for Atlas.
        assert!(!head.contains("Bearer") && head.matches("Basic").count() == 1, "{head}");
    }
    // What it got from us is not for the upstream.
    assert!(!upstream.last().headers.contains_key("proxy-authorization"));
    proxy.app.shutdown().await;
    assert_eq!(upstream.revocations(), 1);
}

#[tokio::test]
async fn it_is_asked_for_connect_to_and_the_upstream_is_verified_by_its_own_name() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let forward = Forward::start(None).await;
    let to = format!("atlas.internal:{}", upstream.address.port());
    let proxy = upstream
        .proxy()
        .upstream(|upstream| {
            upstream.egress = Some(EgressProxy::parse(&forward.url("")).unwrap());
            upstream.connect_to = Some(ConnectTo::parse(&to).unwrap());
        })
        .start()
        .await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    proxy.app.shutdown().await;
    let heads = forward.heads();
    assert_eq!(heads.len(), 3, "for the token, the API, the revocation: {heads:?}");
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT {to} HTTP/1.1\r\n")), "{head}");
    }
    let host = format!("localhost:{}", upstream.address.port());
    assert_eq!(upstream.last().headers["host"], host.as_str());
}

#[tokio::test]
async fn what_the_proxy_says_no_to_is_said_by_name_and_without_its_password() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let forward = Forward::start(Some(BASIC)).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, words) in [
        (forward.url("user:wrong-password@"), "407"),
        (format!("http://user:wrong-password@{closed}"), "can't be reached"),
    ] {
        let proxy = proxy(
            &upstream.base_url(),
            Some(&upstream.ca_file),
            crate::support::proxy::digest(),
        )
        .upstream(|upstream| upstream.egress = Some(EgressProxy::parse(&url).unwrap()))
        .start()
        .await;
        let answer = client().get(proxy.url("/x")).send().await.unwrap();
        assert_eq!(answer.status(), 502);
        let text = answer.text().await.unwrap();
        assert!(
            text.contains(words) && text.contains("egress proxy") && !text.contains("wrong-password"),
            "{text}"
        );
    }
    assert!(upstream.seen().is_empty());
}

/// The machine's variables, a name that only the proxy can look up, and `NO_PROXY`.
#[tokio::test]
async fn https_proxy_and_no_proxy_are_followed() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let forward = Forward::start(Some(BASIC)).await;
    let (through, nowhere) = (forward.url("user:pass@"), "http://127.0.0.1:1");
    for (variables, tunnels) in [
        (&[("HTTPS_PROXY", through.as_str())][..], 2),
        (&[("https_proxy", &through)], 2),
        (&[("ALL_PROXY", &through)], 2),
        (&[("HTTPS_PROXY", nowhere), ("NO_PROXY", "other.example, localhost")], 0),
        (&[("HTTPS_PROXY", nowhere), ("no_proxy", "*")], 0),
        (&[("HTTP_PROXY", nowhere)], 0),
    ] {
        let before = forward.heads().len();
        let mut environment = vec![
            ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
            ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
        ];
        environment.extend_from_slice(variables);
        let program = Program::start(Command::new(PROGRAM), &upstream, &environment, &[]).await;
        let url = format!("http://{}/x", program.address);
        assert_eq!(client().get(url).send().await.unwrap().status(), 200, "{variables:?}");
        let came = forward.heads().len() - before;
        assert!(came >= tunnels && (tunnels > 0 || came == 0), "{variables:?}: {came}");
        let (status, said) = program.stop().await;
        assert!(status.success() && !said.contains("user:pass"), "{said}");
    }
}

/// A connection that is in use all the time would never see another address.
#[tokio::test]
async fn a_connection_serves_no_request_beyond_its_age() {
    for alpn in ["http/1.1", "h2"] {
        let upstream = Upstream::start_with(&[alpn], |_| async { json(200, "{}") }).await;
        let proxy = proxy(
            &upstream.base_url(),
            Some(&upstream.ca_file),
            crate::support::proxy::digest(),
        )
        .upstream(|upstream| upstream.limits.connection_max_age = Duration::from_secs(1))
        .start()
        .await;
        let began = tokio::time::Instant::now();
        while upstream.connections() < 4 {
            assert_eq!(
                client().get(proxy.url("/x")).send().await.unwrap().status(),
                200,
                "{alpn}"
            );
            assert!(
                began.elapsed() < crate::support::PATIENCE,
                "{alpn}: the first connection goes on for ever"
            );
        }
        assert!(upstream.seen().len() > 4, "{alpn}: they are used more than once");
    }
}

/// `Keep-Alive: timeout=N`: what would find the door shut does not knock.
#[tokio::test]
async fn an_idle_connection_is_not_used_beyond_what_the_upstream_says() {
    let upstream = Upstream::start(|request| async move {
        let mut answer = json(200, "{}");
        let keeps = match request.uri().path() {
            "/long" => "timeout=60, max=100",
            "/soon" => "timeout=2",
            _ => "timeout=1",
        };
        answer.headers_mut().insert("keep-alive", keeps.parse().unwrap());
        answer
    })
    .await;
    let key = crate::support::proxy::digest();
    let proxy = upstream.proxy_with(key).start().await;
    let get = async |path: &str| {
        let answer = client().get(proxy.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        upstream.connections()
    };
    assert_eq!(get("/long").await, 1);
    assert_eq!(get("/long").await, 1, "it is used again");
    // Less than a second is left of one: too little to get there.
    assert_eq!(get("/at-once").await, 1);
    assert_eq!(get("/soon").await, 2);
    // One that lies longer than that is not used, although the upstream never closes it.
    time_passes(Duration::from_secs(2)).await;
    assert_eq!(get("/soon").await, 3);
}

/// What a proxy may say before its answer, and what may stand in the place of 200 (RFC 9110 sections 9.3.6 and 15.2).
#[tokio::test]
async fn a_tunnel_begins_with_any_2xx_after_any_number_of_1xx() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    for answers in [
        "HTTP/1.1 201 Created\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.0 200 OK\r\nX: y\r\n\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = upstream.address;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    head_of(&mut stream).await.unwrap();
                    let mut there = TcpStream::connect(target).await.unwrap();
                    stream.write_all(answers.as_bytes()).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut there).await;
                });
            }
        });
        for credential in [bearer(), crate::support::proxy::digest()] {
            let tokens = upstream.token_requests() + usize::from(matches!(credential, ServiceAccount(_)));
            let proxy = upstream
                .proxy_with(credential)
                .upstream(|upstream| upstream.egress = Some(EgressProxy::parse(&url).unwrap()))
                .start()
                .await;
            let answer = client().get(proxy.url("/x")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{answers:?}");
            assert_eq!(upstream.token_requests(), tokens, "{answers:?}");
        }
    }
}

/// The status of a proxy that refuses is in what a client, and the log, are told of the token.
#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_status_in_token_errors() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                head_of(&mut stream).await.unwrap();
                let _ = stream
                    .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    .await;
            });
        }
    });
    let proxy = upstream
        .proxy()
        .upstream(|upstream| upstream.egress = Some(EgressProxy::parse(&url).unwrap()))
        .start()
        .await;
    let answer = client().get(proxy.url("/x")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let text = answer.text().await.unwrap();
    assert!(text.contains("egress proxy") && text.contains("HTTP 403"), "{text}");
    assert!(upstream.seen().is_empty() && upstream.token_requests() == 0);
}

/// What is known of its version of HTTP is no reason to wait for it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_no_longer_reached_is_waited_for_once() {
    let upstream = Upstream::start_with(&["h2"], |_| async { json(200, "{}") }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (silent, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_silent, count, target) = (Arc::clone(&silent), Arc::clone(&came), upstream.address);
    let (cut, _) = tokio::sync::broadcast::channel::<()>(1);
    let cuts = cut.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            if is_silent.load(Ordering::SeqCst) {
                held.push(stream);
                continue;
            }
            let mut cut = cuts.subscribe();
            tokio::spawn(async move {
                let mut there = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut stream, &mut there) => {}
                    _ = cut.recv() => {}
                }
            });
        }
    });
    let key = crate::support::proxy::digest();
    let proxy = proxy(&base_url, Some(&upstream.ca_file), key)
        .upstream(|upstream| upstream.limits.connect_timeout = Duration::from_millis(500))
        .start()
        .await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    silent.store(true, Ordering::SeqCst);
    cut.send(()).unwrap();
    until("the connection is gone", || async {
        proxy.metric("atlas_auth_proxy_upstream_connections_open", &[]).await == 0.0
    })
    .await;
    let before = came.load(Ordering::SeqCst);
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 504);
    assert_eq!(came.load(Ordering::SeqCst) - before, 1);
    // It speaks what it spoke.
    silent.store(false, Ordering::SeqCst);
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
}
