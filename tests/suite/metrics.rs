//! The admin port: what it tells, to whom, and that it tells it in the right format.

use std::collections::BTreeSet;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::{client, raw};
use crate::support::metrics::metrics;
use crate::support::until;
use crate::support::upstream::{Upstream, json};

async fn upstream() -> Upstream {
    Upstream::start(|_| async { json(200, "{}") }).await
}

#[tokio::test]
async fn every_promised_family_is_there_and_parses() {
    let upstream = upstream().await;
    let proxy = upstream.proxy().start().await;
    until("the token is there", || async {
        client()
            .get(format!("http://{}/readyz", proxy.admin))
            .send()
            .await
            .unwrap()
            .status()
            == 200
    })
    .await;
    let answer = client()
        .get(format!("http://{}/metrics", proxy.admin))
        .send()
        .await
        .unwrap();
    assert!(
        answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.text().await.unwrap();
    let scrape = prometheus_parse::Scrape::parse(text.lines().map(|l| Ok(l.to_owned()))).unwrap();
    let families: BTreeSet<_> = scrape.docs.keys().cloned().collect();
    for name in [
        "requests_total",
        "request_duration_seconds",
        "upstream_duration_seconds",
        "requests_in_flight",
        "connections_open",
        "denied_total",
        "proxy_errors_total",
        "token_requests_total",
        "token_expiry_timestamp_seconds",
        "token_refresh_timestamp_seconds",
        "credential_usable",
        "credential_reloads_total",
        "digest_challenges_total",
        "digest_nonce_uses_total",
        "upstream_attempts_total",
        "upstream_connections_open",
        "upstream_errors_total",
        "bytes_total",
        "config_reloads_total",
        "build_info",
    ] {
        assert!(
            families.contains(&format!("atlas_auth_proxy_{name}")),
            "{name} is missing from {families:?}"
        );
    }
    assert!(families.contains("process_resident_memory_bytes"), "{families:?}");
    // A timestamp that is not known is absent.
    assert!(!text.contains("atlas_auth_proxy_secret_expiry_timestamp_seconds{"));
}

#[tokio::test]
async fn a_request_is_counted_before_its_client_can_ask() {
    let upstream = upstream().await;
    let proxy = upstream.proxy().start().await;
    for n in 1..=5 {
        client()
            .get(proxy.url("/x"))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let counted = proxy
            .metric(
                "atlas_auth_proxy_requests_total",
                &[("method", "GET"), ("status", "200"), ("account", "default")],
            )
            .await;
        assert_eq!(counted, f64::from(n));
    }
    client()
        .get(proxy.url("/x"))
        .header("origin", "https://e.example")
        .send()
        .await
        .unwrap();
    assert_eq!(
        proxy
            .metric("atlas_auth_proxy_denied_total", &[("reason", "browser")])
            .await,
        1.0
    );
    let code = [("code", "PROXY_BROWSER_DENIED")];
    assert_eq!(proxy.metric("atlas_auth_proxy_proxy_errors_total", &code).await, 1.0);
    assert_eq!(proxy.metric("atlas_auth_proxy_requests_in_flight", &[]).await, 0.0);
}

#[tokio::test]
async fn odd_methods_and_paths_make_no_labels() {
    let upstream = upstream().await;
    let proxy = upstream.proxy().start().await;
    raw(
        proxy.address,
        b"FROBNICATE /secret-project HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    let text = metrics(proxy.admin).await;
    assert!(!text.contains("FROBNICATE") && !text.contains("secret-project"));
    assert_eq!(
        proxy
            .metric(
                "atlas_auth_proxy_requests_total",
                &[("method", "other"), ("status", "200")]
            )
            .await,
        1.0
    );
}

#[tokio::test]
async fn health_tells_apart_alive_ready_and_started() {
    let upstream = upstream().await;
    upstream.tokens.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let proxy = upstream.proxy().start().await;
    let status = |path: &'static str| {
        let url = format!("http://{}{path}", proxy.admin);
        async move { client().get(url).send().await.unwrap().status().as_u16() }
    };
    assert_eq!(status("/livez").await, 200);
    until("a first attempt was made", || async {
        status("/startupz").await == 200
    })
    .await;
    assert_eq!(status("/readyz").await, 503);
    assert_eq!(status("/readyz/default").await, 503);
    assert_eq!(status("/readyz/unknown").await, 404);
    upstream.tokens.down.store(false, std::sync::atomic::Ordering::SeqCst);
    until("it is ready", || async { status("/readyz").await == 200 }).await;
    assert_eq!(status("/readyz/default").await, 200);
}

#[tokio::test]
async fn quitting_is_for_posts_of_local_programs() {
    let upstream = upstream().await;
    let proxy = upstream.proxy().start().await;
    let url = format!("http://{}/quitquitquit", proxy.admin);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 405);
    assert_eq!(
        client()
            .post(&url)
            .header("origin", "http://localhost")
            .send()
            .await
            .unwrap()
            .status(),
        403
    );
    assert_eq!(
        client()
            .post(&url)
            .header("host", "rebound.example")
            .send()
            .await
            .unwrap()
            .status(),
        421
    );
    assert!(client().post(&url).send().await.unwrap().status().is_success());
    tokio::time::timeout(crate::support::PATIENCE, proxy.app.quit_requested())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_admin_pages_are_not_on_the_proxied_port() {
    let upstream = upstream().await;
    let proxy = upstream.proxy().start().await;
    let answer = client().get(proxy.url("/metrics")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "{}");
    assert_eq!(upstream.last().uri, "/metrics");
}

/// Whoever holds connections and takes nothing of what he asked for keeps nobody else out: a probe must have its answer.
#[tokio::test]
async fn connections_that_are_held_keep_no_probe_out() {
    let upstream = upstream().await;
    let proxy = upstream.proxy().start().await;
    let mut held = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(proxy.admin).await.unwrap();
        stream
            .write_all(&b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50))
            .await
            .unwrap();
        held.push(stream);
    }
    for _ in 0..3 {
        let alive = client()
            .get(format!("http://{}/livez", proxy.admin))
            .send()
            .await
            .unwrap();
        assert_eq!(alive.status(), 200);
    }
}

/// Also what the HTTP parser refuses by itself is counted.
#[tokio::test]
async fn a_target_that_is_none_is_counted() {
    let upstream = upstream().await;
    let proxy = upstream.proxy().start().await;
    let answer = raw(proxy.address, b"GET /<>^ HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let denied = [("reason", "malformed")];
    assert_eq!(proxy.metric("atlas_auth_proxy_denied_total", &denied).await, 1.0);
}
