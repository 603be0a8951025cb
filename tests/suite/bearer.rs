//! The life of a token, as a client sees it: it sees nothing of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::client::client;
use crate::support::proxy::Proxy;
use crate::support::until;
use crate::support::upstream::{Tokens, Upstream, json};

/// An upstream that refuses every token but a valid one of its own.
async fn strict() -> Upstream {
    let tokens: Arc<std::sync::OnceLock<Arc<Tokens>>> = Arc::default();
    let known = Arc::clone(&tokens);
    let upstream = Upstream::start(move |request| {
        let known = Arc::clone(&known);
        async move {
            if known.get().is_some_and(|tokens| tokens.accepts(request.headers())) {
                json(200, "{}")
            } else {
                json(401, r#"{"error":401,"errorCode":"UNAUTHORIZED"}"#)
            }
        }
    })
    .await;
    assert!(tokens.set(Arc::clone(&upstream.tokens)).is_ok());
    upstream
}

async fn before(upstream: &Upstream) -> Proxy {
    upstream.proxy().start().await
}

async fn ready(proxy: &Proxy) {
    let url = format!("http://{}/readyz", proxy.admin);
    until("the proxy is ready", || async {
        client().get(&url).send().await.unwrap().status() == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_on_a_cold_proxy_make_one_token_request() {
    let upstream = strict().await;
    let proxy = before(&upstream).await;
    let http = client();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let (http, url) = (http.clone(), proxy.url("/x"));
            tokio::spawn(async move { http.get(url).send().await.unwrap().status() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(upstream.token_requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_five_seconds_are_never_seen_to_expire() {
    let upstream = strict().await;
    upstream.tokens.life.store(5, Ordering::SeqCst);
    let proxy = before(&upstream).await;
    let http = client();
    let mut calls = 0;
    while upstream.token_requests() < 5 {
        assert_eq!(
            http.get(proxy.url("/x")).send().await.unwrap().status(),
            200,
            "call {calls}"
        );
        calls += 1;
    }
    assert!(calls > 100);
    // No call needed a second try: the token was replaced before it expired.
    assert_eq!(
        proxy
            .metric(
                "atlas_auth_proxy_upstream_attempts_total",
                &[("cause", "token_renewed")]
            )
            .await,
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_bridged_until_expiry_then_told_then_over() {
    let upstream = strict().await;
    upstream.tokens.life.store(4, Ordering::SeqCst);
    // Before it is granted: however busy the machine is, this long at least has passed when it ends.
    let given = Instant::now();
    let proxy = before(&upstream).await;
    let http = client();
    assert_eq!(http.get(proxy.url("/x")).send().await.unwrap().status(), 200);
    upstream.tokens.down.store(true, Ordering::SeqCst);
    let refused = loop {
        let answer = http.get(proxy.url("/x")).send().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
    };
    // A token of 4 s was used to its end: to within the tolerance of the clocks.
    assert!(
        given.elapsed() >= Duration::from_millis(2500),
        "gave up after {:?}",
        given.elapsed()
    );
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["x-atlas-auth-proxy-error"], "PROXY_TOKEN_UNAVAILABLE");
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    upstream.tokens.down.store(false, Ordering::SeqCst);
    until("it recovers by itself", || async {
        http.get(proxy.url("/x")).send().await.unwrap().status() == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_replaced_once_and_the_request_repeated() {
    let upstream = strict().await;
    let proxy = before(&upstream).await;
    let http = client();
    assert_eq!(http.get(proxy.url("/x")).send().await.unwrap().status(), 200);
    upstream.tokens.expire_all();
    assert_eq!(
        http.post(proxy.url("/x")).body("hello").send().await.unwrap().status(),
        200
    );
    assert_eq!(upstream.token_requests(), 2);
    assert_eq!(upstream.last().headers["authorization"], "Bearer token-2");
    assert_eq!(upstream.last().headers["content-length"], "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_revoked_at_shutdown() {
    let upstream = strict().await;
    let proxy = before(&upstream).await;
    ready(&proxy).await;
    proxy.app.shutdown().await;
    assert_eq!(upstream.revocations(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_with_placeholder_credentials_get_a_placeholder_token() {
    let upstream = strict().await;
    let proxy = before(&upstream).await;
    ready(&proxy).await;
    let http = client();
    let answer = http
        .post(proxy.url("/api/oauth/token"))
        .basic_auth("any", Some("thing"))
        .form(&[("grant_type", "client_credentials")])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let token: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(token["token_type"], "Bearer");
    assert!(!token["access_token"].as_str().unwrap().contains("token-1"));
    let call = http
        .get(proxy.url("/x"))
        .bearer_auth(token["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(call.status(), 200);
    assert_eq!(
        http.post(proxy.url("/api/oauth/revoke")).send().await.unwrap().status(),
        200
    );
    for odd in [
        "/api//oauth/token",
        "/api/oauth/./token",
        "/api/%6fauth/token",
        "/api/oauth/token/",
    ] {
        http.post(proxy.url(odd)).send().await.unwrap();
    }
    assert_eq!((upstream.token_requests(), upstream.revocations()), (1, 0));
}
