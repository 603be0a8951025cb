//! Errors of the gateway, told apart from the leaf's own, and when a leaf asks again.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::support::upstream::{Answer, json as answer_json};
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;

const ERROR: &str = "x-atlas-auth-proxy-error";
const FROM: &str = "x-atlas-auth-proxy-error-from";

fn error(status: u16, code: &'static str) -> Answer {
    let mut answer = answer_json(status, format!(r#"{{"error":{status},"errorCode":"{code}"}}"#));
    answer.headers_mut().insert(ERROR, HeaderValue::from_static(code));
    answer
}

async fn always(status: u16, code: &'static str) -> Upstream {
    Upstream::start(move |request: Request<Incoming>| async move {
        let _ = request.into_body().collect().await;
        error(status, code)
    })
    .await
}

async fn leaf_of(gateway: &Upstream) -> Leaf {
    Leaf::with_token(&gateway.base_url(), Some(&gateway.ca_file), "e30.e30.c2ln").await
}

#[tokio::test]
async fn errors_of_the_gateway_pass_as_they_are_and_say_whose_they_are() {
    let key = IssuerKey::p256("1");
    let upstream = Upstream::start(|_| async { answer_json(404, "{}") }).await;
    upstream.tokens.down.store(true, Ordering::SeqCst);
    let gateway = gateway_by_token(upstream, &key, &caller("billing", "billing", "")).await;
    let leaf = Leaf::with_token(&gateway.url(""), None, &token(&key, "billing")).await;
    let answer = leaf.get(GROUPS).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()[ERROR], "PROXY_TOKEN_UNAVAILABLE");
    assert_eq!(answer.headers()[FROM], "gateway");
    assert!(answer.headers().contains_key("retry-after"));
    let policies = answer.headers().get_all("content-security-policy");
    assert_eq!(policies.iter().count(), 1, "gateway and leaf want the same");
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["errorCode"], "PROXY_TOKEN_UNAVAILABLE");
    let kind = [("kind", "gateway")];
    until("it is counted", async || {
        leaf.metric("atlas_auth_proxy_upstream_errors_total", &kind).await == 1.0
    })
    .await;
    let status: serde_json::Value = leaf.admin("/status.json").await.json().await.unwrap();
    let failure = &status["accounts"][0]["failures"][0];
    assert_eq!(
        (failure["kind"].as_str(), failure["errorCode"].as_str()),
        (Some("gateway"), Some("PROXY_TOKEN_UNAVAILABLE"))
    );
    // A new leaf's own errors are its own.
    let web = leaf.get(GROUPS).header("origin", "http://a").send().await.unwrap();
    assert_eq!(web.headers()[ERROR], "PROXY_BROWSER_DENIED");
    assert!(!web.headers().contains_key(FROM));
}

#[tokio::test]
async fn an_answer_of_atlas_is_none_of_the_gateways() {
    let key = IssuerKey::p256("1");
    let upstream = Upstream::start(|_| async { error(403, "PROXY_RULE_DENIED") }).await;
    let gateway = gateway_by_token(upstream, &key, &caller("billing", "billing", "")).await;
    let leaf = Leaf::with_token(&gateway.url(""), None, &token(&key, "billing")).await;
    // Atlas is not believed at the gateway, and so the leaf hears nothing of it.
    let answer = leaf.get(GROUPS).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(!answer.headers().contains_key(ERROR) && !answer.headers().contains_key(FROM));
    let kind = [("kind", "gateway")];
    assert_eq!(leaf.metric("atlas_auth_proxy_upstream_errors_total", &kind).await, 0.0);
}

#[tokio::test]
async fn what_is_no_error_of_ours_is_not_passed_on() {
    let gateway = Upstream::start(|_| async {
        let mut answer = answer_json(503, "{}");
        let headers = answer.headers_mut();
        headers.append(ERROR, HeaderValue::from_static("no code"));
        headers.append(FROM, HeaderValue::from_static("somebody"));
        headers.append("x-atlas-auth-proxy-caller", HeaderValue::from_static("somebody"));
        answer
    })
    .await;
    let leaf = leaf_of(&gateway).await;
    let answer = leaf.get(GROUPS).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(
        answer
            .headers()
            .keys()
            .all(|name| !name.as_str().starts_with("x-atlas-auth-proxy"))
    );
}

/// Once, and nothing is asked beside the request.
#[tokio::test]
async fn only_a_gateway_that_does_not_know_the_caller_is_asked_again() {
    let unknown = always(401, "PROXY_CALLER_UNKNOWN").await;
    let leaf = leaf_of(&unknown).await;
    for request in [leaf.get(GROUPS), leaf.post(GROUPS)] {
        let before = unknown.seen().len();
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()[ERROR], "PROXY_CALLER_UNKNOWN");
        assert_eq!(answer.headers()[FROM], "gateway");
        assert_eq!(unknown.seen().len() - before, 2);
    }
    assert!(unknown.seen().iter().all(|seen| seen.uri == GROUPS), "no probe");
    let cause = [("cause", "identity_read")];
    assert_eq!(
        leaf.metric("atlas_auth_proxy_upstream_attempts_total", &cause).await,
        2.0
    );

    for (status, code) in [
        (403, "PROXY_CALLER_UNKNOWN"),
        (401, "PROXY_RULE_DENIED"),
        (503, "PROXY_OVERLOADED"),
    ] {
        let gateway = always(status, code).await;
        let leaf = leaf_of(&gateway).await;
        assert_eq!(leaf.post(GROUPS).send().await.unwrap().status(), status);
        assert_eq!(gateway.seen().len(), 1, "{code}");
    }
    // Atlas's own 401, which came through the gateway.
    let atlas = Upstream::start(|_| async { answer_json(401, "{}") }).await;
    let leaf = leaf_of(&atlas).await;
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 401);
    assert_eq!(atlas.seen().len(), 1);
}

#[tokio::test]
async fn a_body_that_can_not_be_repeated_is_not_sent_again() {
    let gateway = always(401, "PROXY_CALLER_UNKNOWN").await;
    let leaf = leaf_of(&gateway).await;
    let answer = leaf.post(GROUPS).body(vec![b' '; 2 << 20]).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(gateway.seen().len(), 1);
}

#[tokio::test]
async fn the_identity_is_read_anew_before_the_gateway_is_asked_again() {
    let (refused, folder) = (Arc::new(AtomicUsize::new(0)), Arc::new(OnceLock::<PathBuf>::new()));
    let (count, at) = (Arc::clone(&refused), Arc::clone(&folder));
    let gateway = Upstream::start(move |request: Request<Incoming>| {
        let right = request.headers()["authorization"] == "Bearer e30.e30.bmV3";
        if !right {
            count.fetch_add(1, Ordering::SeqCst);
            // Renewed at this very moment, so that nobody has read it by chance.
            let next = at.get().unwrap().join("next");
            fs::write(&next, "e30.e30.bmV3").unwrap();
            fs::rename(&next, next.with_file_name("token")).unwrap();
        }
        async move {
            if right {
                answer_json(200, "{}")
            } else {
                error(401, "PROXY_CALLER_UNKNOWN")
            }
        }
    })
    .await;
    let leaf = Leaf::with_token(&gateway.base_url(), Some(&gateway.ca_file), "e30.e30.b2xk").await;
    folder.set(leaf.folder.path().to_owned()).unwrap();
    assert_eq!(leaf.post(GROUPS).send().await.unwrap().status(), 200);
    assert_eq!(refused.load(Ordering::SeqCst), 1);
}

/// An ordinary account's upstream says what it likes.
#[tokio::test]
async fn nobody_else_is_believed() {
    let upstream = always(401, "PROXY_CALLER_UNKNOWN").await;
    let proxy = upstream.proxy().start().await;
    let answer = client().get(proxy.url(GROUPS)).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(
        answer
            .headers()
            .keys()
            .all(|name| !name.as_str().starts_with("x-atlas-auth-proxy"))
    );
}
