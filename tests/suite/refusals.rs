//! What a 401 is about: a dead credential is replaced at once, a missing permission costs nothing, and what is refused for good
//! is said and shown until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{HeaderValue, Request};
use hyper::body::Incoming;

use crate::support::client::client;
use crate::support::proxy::{Proxy, digest};
use crate::support::until;
use crate::support::upstream::{Answer, Tokens, Upstream, json};

const PROBE: &str = "/api/atlas/v2/groups?itemsPerPage=1";

fn refused(challenge: &str) -> Answer {
    let mut answer = json(401, r#"{"error":401,"detail":"from Atlas"}"#);
    let challenge = HeaderValue::from_str(challenge).unwrap();
    answer.headers_mut().insert("www-authenticate", challenge);
    answer
}

/// Refuses every token but a valid one of its own; `/forbidden` refuses those, too.
async fn upstream_of_tokens() -> Upstream {
    let tokens: Arc<std::sync::OnceLock<Arc<Tokens>>> = Arc::default();
    let known = Arc::clone(&tokens);
    let upstream = Upstream::start(move |request| {
        let known = Arc::clone(&known);
        async move {
            let valid = known.get().is_some_and(|tokens| tokens.accepts(request.headers()));
            match request.uri().path() {
                "/forbidden" => refused("Bearer"),
                "/always-says-so" => refused("Bearer error=\"invalid_token\""),
                "/says-so" if !valid => refused("Bearer realm=\"x\", error=\"invalid_token\""),
                _ if valid => json(200, "{}"),
                _ => refused("Bearer"),
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

fn probes(upstream: &Upstream) -> usize {
    upstream.seen().iter().filter(|seen| seen.uri == PROBE).count()
}

async fn status(proxy: &Proxy, path: &str) -> u16 {
    client().get(proxy.url(path)).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_revoked_again_and_again_is_replaced_each_time() {
    let upstream = upstream_of_tokens().await;
    let proxy = before(&upstream).await;
    assert_eq!(status(&proxy, "/x").await, 200);
    for revocation in 1..=4 {
        upstream.tokens.expire_all();
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let call = client().post(proxy.url("/x")).body("content").send();
                tokio::spawn(async move { call.await.unwrap().status() })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap(), 200, "revocation {revocation}");
        }
        assert_eq!(upstream.token_requests(), 1 + revocation);
    }
    assert!(
        probes(&upstream) <= 8,
        "{} probes for four revocations",
        probes(&upstream)
    );
    let probe = upstream.seen().into_iter().find(|seen| seen.uri == PROBE).unwrap();
    assert_eq!(probe.headers["accept"], "application/vnd.atlas.2023-01-01+json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_only_announced_take_nothing_of_the_replay_budget() {
    let upstream = upstream_of_tokens().await;
    let proxy = upstream
        .proxy()
        .with(|settings| settings.limits.body.replay_budget = settings.limits.body.replay_limit)
        .start()
        .await;
    assert_eq!(status(&proxy, "/x").await, 200);
    let head = "POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nbegin";
    let mut slow = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut slow, head.as_bytes())
        .await
        .unwrap();
    until("it is under way", || async {
        upstream.seen().iter().any(|seen| seen.uri == "/slow")
    })
    .await;
    upstream.tokens.expire_all();
    let answer = client().post(proxy.url("/x")).body(vec![7; 500_000]).send().await;
    assert_eq!(answer.unwrap().status(), 200, "it could be sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_costs_no_token() {
    let upstream = upstream_of_tokens().await;
    let proxy = before(&upstream).await;
    for _ in 0..3 {
        let answer = client().get(proxy.url("/forbidden")).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(answer.headers().get("www-authenticate").is_none());
        assert!(answer.headers().get("x-atlas-auth-proxy-error").is_none());
        assert!(answer.text().await.unwrap().contains("from Atlas"));
    }
    assert_eq!(upstream.token_requests(), 1);
    let own = upstream.seen().iter().filter(|seen| seen.uri == "/forbidden").count();
    assert_eq!(own, 3, "none is repeated");
    assert_eq!(
        proxy
            .metric("atlas_auth_proxy_upstream_attempts_total", &[("cause", "probe")])
            .await,
        probes(&upstream) as f64
    );
    assert_eq!(proxy.metric("atlas_auth_proxy_credential_usable", &[]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_names_the_token_needs_no_probe() {
    let upstream = upstream_of_tokens().await;
    let proxy = before(&upstream).await;
    assert_eq!(status(&proxy, "/says-so").await, 200);
    upstream.tokens.expire_all();
    assert_eq!(status(&proxy, "/says-so").await, 200);
    assert_eq!((upstream.token_requests(), probes(&upstream)), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_always_names_the_token_uses_up_no_renewals() {
    let upstream = upstream_of_tokens().await;
    let proxy = before(&upstream).await;
    for _ in 0..4 {
        let calls: Vec<_> = (0..8)
            .map(|_| tokio::spawn(client().get(proxy.url("/always-says-so")).send()))
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().status(), 401);
        }
        assert_eq!(status(&proxy, "/x").await, 200, "others are accepted all the while");
    }
    assert_eq!(upstream.token_requests(), 2, "it is believed once");
    upstream.tokens.expire_all();
    assert_eq!(status(&proxy, "/x").await, 200, "what is revoked in truth is replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_401_passes_while_nobody_can_tell_what_it_is_about() {
    for status_of_probe in [429, 500, 503] {
        let upstream = Upstream::start(move |request| async move {
            match request.uri().path() {
                "/api/atlas/v2/groups" => json(status_of_probe, "{}"),
                _ => refused("Bearer"),
            }
        })
        .await;
        let proxy = before(&upstream).await;
        assert_eq!(status(&proxy, "/x").await, 401);
        assert_eq!(
            (upstream.token_requests(), probes(&upstream)),
            (1, 1),
            "{status_of_probe}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_refused_for_good_show_and_their_end_does() {
    let refuses = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&refuses);
    let upstream = Upstream::start(move |_| {
        let refuses = switch.load(Ordering::SeqCst);
        async move { if refuses { refused("Bearer") } else { json(200, "{}") } }
    })
    .await;
    let proxy = before(&upstream).await;
    let usable = || proxy.metric("atlas_auth_proxy_credential_usable", &[]);
    until("the credential counts as refused", || async {
        assert_eq!(status(&proxy, "/x").await, 401);
        usable().await == 0.0
    })
    .await;
    assert!(upstream.token_requests() <= 6, "{}", upstream.token_requests());
    let ready = client()
        .get(format!("http://{}/readyz/default", proxy.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    refuses.store(false, Ordering::SeqCst);
    assert_eq!(status(&proxy, "/x").await, 200);
    assert_eq!(usable().await, 1.0);
}

/// Some paths need no credential, and what stands before Atlas may answer by itself: neither says that the token is good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_need_no_credential_do_not_hide_that_every_token_is_refused() {
    let upstream = Upstream::start(|request| async move {
        match request.uri().path() {
            "/api/private/unauth/nds" | "/api/private/%75nauth/nds" => json(200, "{}"),
            "/nowhere" => json(404, "{}"),
            _ => refused("Bearer"),
        }
    })
    .await;
    let proxy = before(&upstream).await;
    until("the credential counts as refused", || async {
        assert_eq!(status(&proxy, "/x").await, 401);
        assert_eq!(status(&proxy, "/api/private/unauth/nds").await, 200);
        assert_eq!(status(&proxy, "/api/private/%75nauth/nds").await, 200);
        assert_eq!(status(&proxy, "/nowhere").await, 404);
        proxy.metric("atlas_auth_proxy_credential_usable", &[]).await == 0.0
    })
    .await;
}

/// What a 401 without an answerable challenge, or one that is of no use, looks like.
fn of_no_use(kind: usize, nonce: usize) -> Answer {
    match kind {
        0 => json(401, "{}"),
        1 => refused("Basic realm=\"r\""),
        2 => refused("Digest realm=\"r\", nonce=\"n\", algorithm=SHA-1, qop=\"auth\""),
        _ => refused(&format!(
            "Digest realm=\"r\", nonce=\"s{nonce}\", algorithm=MD5, qop=\"auth\", stale=true"
        )),
    }
}

/// Challenges as it should, or in a way that is of no use while `broken` says so.
async fn upstream_that_breaks(kind: usize, broken: &Arc<AtomicBool>) -> Upstream {
    let (broken, nonces) = (Arc::clone(broken), AtomicUsize::new(0));
    Upstream::start(move |request| {
        let nonce = nonces.fetch_add(1, Ordering::SeqCst);
        let answer = if broken.load(Ordering::SeqCst) {
            of_no_use(kind, nonce)
        } else if request.headers().contains_key("authorization") {
            json(200, "{}")
        } else {
            refused(&format!(
                "Digest realm=\"r\", nonce=\"n{nonce}\", algorithm=MD5, qop=\"auth\""
            ))
        };
        async move { answer }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn challenges_that_are_of_no_use_show_and_their_end_does() {
    for kind in 0..4 {
        for proven in [true, false] {
            let broken = Arc::new(AtomicBool::new(!proven));
            let upstream = upstream_that_breaks(kind, &broken).await;
            let proxy = upstream.proxy_with(digest()).start().await;
            if proven {
                assert_eq!(status(&proxy, "/x").await, 200);
                // One alone says nothing.
                broken.store(true, Ordering::SeqCst);
                assert_eq!(status(&proxy, "/x").await, 401);
                broken.store(false, Ordering::SeqCst);
                assert_eq!(status(&proxy, "/x").await, 200);
                assert_eq!(probes(&upstream), 0, "kind {kind}");
            }
            broken.store(true, Ordering::SeqCst);
            let usable = || proxy.metric("atlas_auth_proxy_credential_usable", &[]);
            until("the key counts as refused", || async {
                assert_eq!(status(&proxy, "/x").await, 401);
                usable().await == 0.0
            })
            .await;
            broken.store(false, Ordering::SeqCst);
            until("and as accepted again", || async {
                status(&proxy, "/x").await == 200 && usable().await == 1.0
            })
            .await;
        }
    }
}

/// Digest: refuses whatever `refuses` says, and every request without an answer to a challenge.
async fn upstream_of_keys(
    refuses: impl Fn(&Request<Incoming>) -> bool + Send + Sync + 'static,
) -> (Upstream, Arc<AtomicUsize>) {
    let nonces = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&nonces);
    let upstream = Upstream::start(move |request| {
        let answered = request
            .headers()
            .get("authorization")
            .is_some_and(|value| value.as_bytes().starts_with(b"Digest "));
        let answer = if answered && !refuses(&request) {
            json(200, "{}")
        } else {
            let nonce = count.fetch_add(1, Ordering::SeqCst);
            refused(&format!(
                "Digest realm=\"r\", nonce=\"n{nonce}\", algorithm=MD5, qop=\"auth\", stale=false"
            ))
        };
        async move { answer }
    })
    .await;
    (upstream, nonces)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_refuses_every_key_spoils_no_other_path() {
    let (upstream, _) = upstream_of_keys(|request| request.uri().path() == "/forbidden").await;
    let proxy = upstream.proxy_with(digest()).start().await;
    for _ in 0..4 {
        assert_eq!(status(&proxy, "/forbidden").await, 401);
    }
    until("a probe has told", || async { probes(&upstream) > 0 }).await;
    assert_eq!(status(&proxy, "/x").await, 200);
    assert_eq!(proxy.metric("atlas_auth_proxy_credential_usable", &[]).await, 1.0);
    let ready = client()
        .get(format!("http://{}/readyz", proxy.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_everywhere_shows_and_its_end_does() {
    let refuses = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&refuses);
    let (upstream, _) = upstream_of_keys(move |_| switch.load(Ordering::SeqCst)).await;
    let proxy = upstream.proxy_with(digest()).start().await;
    assert_eq!(status(&proxy, "/x").await, 200);
    refuses.store(true, Ordering::SeqCst);
    let usable = || proxy.metric("atlas_auth_proxy_credential_usable", &[]);
    until("the key counts as refused", || async {
        assert_eq!(status(&proxy, "/x").await, 401);
        usable().await == 0.0
    })
    .await;
    let before = upstream.seen().len();
    assert_eq!(status(&proxy, "/x").await, 401);
    assert_eq!(upstream.seen().len() - before, 1, "one request, not three");
    refuses.store(false, Ordering::SeqCst);
    assert_eq!(status(&proxy, "/x").await, 200);
    assert_eq!(usable().await, 1.0);
}

/// A body that can go only once needs a challenge first, which a GET of the same path fetches. Where that brings none, the
/// body does not go on a venture: the client learns why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hinders_the_request_for_a_challenge_is_the_answer_to_an_upload() {
    for refusal in [429, 503] {
        let upstream = Upstream::start(move |request| async move {
            if request.method() == "GET" {
                let mut answer = json(refusal, r#"{"detail":"from Atlas"}"#);
                answer.headers_mut().insert("retry-after", "20".parse().unwrap());
                return answer;
            }
            refused("Digest realm=\"r\", nonce=\"n\", algorithm=MD5, qop=\"auth\"")
        })
        .await;
        let proxy = upstream.proxy_with(digest()).start().await;
        let answer = client()
            .post(proxy.url("/x"))
            .body(vec![b'x'; 5 << 20])
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (refusal, &HeaderValue::from_static("20"))
        );
        assert!(!answer.headers().contains_key("x-atlas-auth-proxy-error"));
        assert!(answer.text().await.unwrap().contains("from Atlas"));
        let methods: Vec<_> = upstream.seen().into_iter().map(|seen| seen.method).collect();
        assert_eq!(methods, ["GET"], "{refusal}: the body stays here");
    }
    // What needs no credential gets none.
    let upstream = Upstream::start(|request| async move {
        if request.method() == "GET" {
            return json(405, "{}");
        }
        let content = http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
        json(200, content.to_bytes().len().to_string())
    })
    .await;
    let proxy = upstream.proxy_with(digest()).start().await;
    let post = client().post(proxy.url("/x")).body(vec![b'x'; 5 << 20]);
    let answer = post.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap()),
        (200, (5 << 20).to_string())
    );
}
