//! What Atlas refuses is passed on as it is, and told apart for whoever runs the proxy; what one listener may use of Atlas's
//! limits is bounded.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atlas_auth_proxy::proxy::FairnessLimits;
use atlas_auth_proxy::upstream::HttpVersion;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{client, read_head};
use crate::support::proxy::ProxyBuilder;
use crate::support::upstream::{Answer, Upstream, json};
use crate::support::{time_passes, until};

fn error(status: u16, code: &str) -> Answer {
    let mut answer = json(
        status,
        format!(r#"{{"detail":"d","error":{status},"errorCode":"{code}","parameters":["203.0.113.9"],"reason":"r"}}"#),
    );
    answer.headers_mut().insert("ratelimit-remaining", "7".parse().unwrap());
    answer
}

/// Says no to `/<status>/<code>`.
async fn upstream() -> Upstream {
    Upstream::start(|request| async move {
        let path = request.uri().path().to_owned();
        let mut parts = path[1..].split('/');
        match (parts.next().and_then(|status| status.parse().ok()), parts.next()) {
            (Some(status), Some(code)) => error(status, code),
            _ => json(200, r#"{"status":403,"content":{"errorCode":"USER_UNAUTHORIZED"}}"#),
        }
    })
    .await
}

fn before(upstream: &Upstream) -> ProxyBuilder {
    upstream.proxy()
}

#[tokio::test]
async fn each_no_is_counted_by_what_it_is_about_and_passed_on_as_it_is() {
    let upstream = upstream().await;
    let proxy = before(&upstream).start().await;
    let cases = [
        (403, "IP_ADDRESS_NOT_ON_ACCESS_LIST", "access_list"),
        (403, "USER_UNAUTHORIZED", "role"),
        (401, "UNAUTHORIZED", "bad_credential"),
        (406, "INVALID_VERSION_DATE", "version"),
        (410, "VERSION_GONE", "version"),
        (429, "RATE_LIMITED_TOKEN_BUCKET", "rate_limit"),
        (500, "UNEXPECTED_ERROR", "upstream"),
    ];
    let counted = async |kind: &str| {
        let labels = [("account", "default"), ("kind", kind)];
        proxy.metric("atlas_auth_proxy_upstream_errors_total", &labels).await
    };
    for (status, code, kind) in cases {
        let before = counted(kind).await;
        let answer = client()
            .get(proxy.url(&format!("/{status}/{code}")))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["ratelimit-remaining"], "7");
        assert!(!answer.headers().contains_key("x-atlas-auth-proxy-error"));
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["errorCode"], code);
        assert_eq!(counted(kind).await, before + 1.0, "{kind}");
    }
    // Not the proxy's business.
    client().get(proxy.url("/404/GROUP_NOT_FOUND")).send().await.unwrap();
    assert_eq!(counted("").await, 0.0);
    let enveloped = client().get(proxy.url("/x?envelope=true")).send().await.unwrap();
    assert_eq!(enveloped.status(), 200);
    assert_eq!(counted("role").await, 2.0);
    let remaining = proxy.metric("atlas_auth_proxy_rate_limit_remaining", &[]).await;
    assert_eq!(remaining, 7.0);

    let status = client()
        .get(format!("http://{}/status.json", proxy.admin))
        .send()
        .await
        .unwrap()
        .json::<serde_json::Value>()
        .await
        .unwrap();
    let failures = status["accounts"][0]["failures"].as_array().unwrap();
    let of = |kind: &str| failures.iter().find(|failure| failure["kind"] == kind).unwrap();
    assert_eq!(of("version")["count"], 2);
    assert!(
        of("access_list")["hint"].as_str().unwrap().contains("203.0.113.9"),
        "{status}"
    );
    assert_eq!(of("rate_limit")["errorCode"], "RATE_LIMITED_TOKEN_BUCKET");
    assert!(status["accounts"][0]["tokenExpiresAt"].as_str().unwrap().ends_with('Z'));
}

/// Faults of Atlas take no replica out of service.
#[tokio::test]
async fn readiness_and_liveness_know_nothing_of_what_atlas_refuses() {
    let upstream = upstream().await;
    let proxy = before(&upstream).start().await;
    for path in ["/500/X", "/403/X", "/429/X", "/401/X"] {
        for _ in 0..3 {
            client().get(proxy.url(path)).send().await.unwrap();
        }
        for page in ["readyz", "livez", "readyz/default"] {
            let url = format!("http://{}/{page}", proxy.admin);
            assert_eq!(client().get(url).send().await.unwrap().status(), 200, "{path} {page}");
        }
    }
}

#[tokio::test]
async fn one_listener_takes_no_more_than_its_share() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = before(&upstream)
        .with(|s| s.listeners[0].rules.fairness.per_minute = NonZeroUsize::new(5))
        .start()
        .await;
    for _ in 0..5 {
        assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    }
    let answer = client().get(proxy.url("/x")).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["x-atlas-auth-proxy-error"], "PROXY_RATE_LIMITED");
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let text = answer.text().await.unwrap();
    assert!(text.contains("max_requests_per_minute"), "{text}");
    assert_eq!(upstream.seen().len(), 5);
    assert_eq!(
        proxy
            .metric("atlas_auth_proxy_denied_total", &[("reason", "rate")])
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_place_among_the_requests_at_once_is_free_again_at_the_end_of_an_answer() {
    let upstream = Upstream::start(|request| async move {
        if request.uri().path() == "/held" {
            std::future::pending::<()>().await;
        }
        json(200, "{}")
    })
    .await;
    let proxy = before(&upstream)
        .with(|s| {
            s.listeners[0].rules.fairness = FairnessLimits {
                at_once: NonZeroUsize::new(1),
                per_minute: None,
            };
            s.accounts
                .get_mut("default")
                .unwrap()
                .upstream
                .limits
                .response_head_timeout = Duration::from_secs(10);
        })
        .start()
        .await;
    let held = tokio::spawn(client().get(proxy.url("/held")).send());
    until("it is held", || async { !upstream.seen().is_empty() }).await;
    let answer = client().get(proxy.url("/x")).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.text().await.unwrap().contains("max_concurrent_requests"));
    time_passes(Duration::from_secs(11)).await;
    assert_eq!(held.await.unwrap().unwrap().status(), 504);
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
}

/// Answers 429 so often, with this `Retry-After`, then 200.
async fn limited(times: usize, retry_after: Option<&'static str>) -> (Upstream, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = Upstream::start(move |_| {
        let nth = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if nth >= times {
                return json(200, "{}");
            }
            let mut answer = error(429, "RATE_LIMITED_TOKEN_BUCKET");
            if let Some(retry_after) = retry_after {
                answer.headers_mut().insert("retry-after", retry_after.parse().unwrap());
            }
            answer
        }
    })
    .await;
    (upstream, asked)
}

#[tokio::test]
async fn a_429_is_waited_out_where_that_is_wanted_and_can_do_no_harm() {
    let patient =
        |upstream: &Upstream, limit| before(upstream).with(move |s| s.listeners[0].rules.retry_429 = Some(limit));
    // In time.
    let (upstream, asked) = limited(2, Some("0")).await;
    let proxy = patient(&upstream, Duration::from_secs(10)).start().await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let labels = [("cause", "rate_limited")];
    assert_eq!(
        proxy.metric("atlas_auth_proxy_upstream_attempts_total", &labels).await,
        2.0
    );
    // With a body that can be sent again.
    let (upstream, asked) = limited(1, Some("0")).await;
    let proxy = patient(&upstream, Duration::from_secs(10)).start().await;
    assert_eq!(
        client()
            .put(proxy.url("/x"))
            .body("content")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // A POST could be done twice.
    let (upstream, asked) = limited(9, Some("0")).await;
    let proxy = patient(&upstream, Duration::from_secs(10)).start().await;
    assert_eq!(
        client()
            .post(proxy.url("/x"))
            .body("content")
            .send()
            .await
            .unwrap()
            .status(),
        429
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Longer than is allowed: at once, as Atlas said it.
    let (upstream, asked) = limited(9, Some("60")).await;
    let proxy = patient(&upstream, Duration::from_secs(10)).start().await;
    let answer = client().get(proxy.url("/x")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"60".parse().unwrap())
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // A date that is as far away, and what can't be read.
    for wait in ["Fri, 31 Dec 2100 23:59:59 GMT", "soon"] {
        let (upstream, asked) = limited(9, Some(wait)).await;
        let proxy = patient(&upstream, Duration::from_secs(10)).start().await;
        let answer = client().get(proxy.url("/x")).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (429, &wait.parse().unwrap())
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{wait}");
    }
    // One that has passed.
    let (upstream, asked) = limited(1, Some("Sun, 06 Nov 1994 08:49:37 GMT")).await;
    let proxy = patient(&upstream, Duration::from_secs(10)).start().await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // Not asked for.
    let (upstream, asked) = limited(9, Some("0")).await;
    let proxy = before(&upstream).start().await;
    assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 429);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// The rest of the content, more than is recorded, comes while the proxy waits: nobody takes it for the try that was
/// refused, which would make another one impossible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_to_an_upload_that_outgrows_its_record_is_atlass_or_waited_out() {
    const SIZE: usize = 3 << 20;
    for alpn in ["http/1.1", "h2"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let upstream = Upstream::start_with(&[alpn], move |request| {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            async move {
                let reads = request.into_body().collect();
                if nth > 0 {
                    let length = reads.await.map_or(0, |content| content.to_bytes().len());
                    return json(200, length.to_string());
                }
                // Answers at once, and reads on.
                tokio::spawn(reads);
                let mut answer = error(429, "RATE_LIMITED_TOKEN_BUCKET");
                answer.headers_mut().insert("retry-after", "1".parse().unwrap());
                answer
            }
        })
        .await;
        let proxy = before(&upstream)
            .with(|s| s.listeners[0].rules.retry_429 = Some(Duration::from_secs(10)))
            .upstream(|upstream| {
                if alpn == "h2" {
                    upstream.http = HttpVersion::Http2;
                }
            })
            .start()
            .await;
        let (sender, pieces) = tokio::sync::mpsc::channel::<Bytes>(1);
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async {
            let piece = pieces.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), pieces))
        });
        let body = reqwest::Body::wrap_stream(pieces);
        let put = tokio::spawn(client().put(proxy.url("/x")).body(body).send());
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        sender.send(piece.clone()).await.unwrap();
        until("it is refused", || async { asked.load(Ordering::SeqCst) == 1 }).await;
        for _ in 1..SIZE / piece.len() {
            // Who is refused reads no more.
            let _ = sender.send(piece.clone()).await;
        }
        drop(sender);
        let answer = put.await.unwrap().unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        assert!(!headers.contains_key("x-atlas-auth-proxy-error"), "{alpn}: {text}");
        match status {
            200 => assert_eq!(text, SIZE.to_string(), "{alpn}"),
            // It had grown too large before the answer was there.
            _ => assert_eq!(
                (status, &headers["retry-after"]),
                (429, &"1".parse().unwrap()),
                "{alpn}"
            ),
        }
    }
}

/// A client that gives up while its request waits for another try leaves nothing behind.
#[tokio::test]
async fn a_client_that_leaves_during_the_wait_is_let_go() {
    let (upstream, _) = limited(usize::MAX, Some("1")).await;
    let proxy = before(&upstream)
        .with(|s| {
            s.listeners[0].rules.retry_429 = Some(Duration::from_secs(3));
            s.listeners[0].rules.fairness.at_once = NonZeroUsize::new(1);
        })
        .start()
        .await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    until("it is asked for", || async { !upstream.seen().is_empty() }).await;
    drop(stream);
    until("nothing is in flight", || async {
        proxy.metric("atlas_auth_proxy_requests_in_flight", &[]).await == 0.0
    })
    .await;
    // The one place is free.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut stream).await;
    assert!(
        head.starts_with("HTTP/1.1 429 ") && !head.contains("x-atlas-auth-proxy-error"),
        "{head}"
    );
    let _ = stream.read(&mut [0; 1024]).await;
}

#[tokio::test]
async fn the_roles_that_an_operation_needs_are_named_where_atlas_refuses_for_one() {
    let upstream = Upstream::start(|_| async { error(403, "USER_UNAUTHORIZED") }).await;
    let proxy = before(&upstream).start().await;
    let project = proxy.url("/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc");
    client().delete(&project).send().await.unwrap();
    let status = async || -> serde_json::Value {
        let page = client().get(format!("http://{}/status.json", proxy.admin)).send().await;
        page.unwrap().json().await.unwrap()
    };
    let failure = status().await["accounts"][0]["failures"][0].clone();
    assert_eq!(failure["needs"], "Project Owner", "{failure}");
    assert!(
        failure["hint"].as_str().unwrap().ends_with("which needs Project Owner"),
        "{failure}"
    );
    // The gauge is that of the operation's tag, and the request is counted by it.
    let of_tag = [("tag", "Projects")];
    assert_eq!(
        proxy.metric("atlas_auth_proxy_rate_limit_remaining", &of_tag).await,
        7.0
    );
    let refused = [("tag", "Projects"), ("class", "4xx")];
    assert_eq!(
        proxy.metric("atlas_auth_proxy_requests_by_tag_total", &refused).await,
        1.0
    );
    client().get(proxy.url("/elsewhere")).send().await.unwrap();
    assert_eq!(
        status().await["accounts"][0]["failures"][0]["needs"],
        serde_json::Value::Null
    );
    let unknown = [("tag", "unknown"), ("class", "4xx")];
    assert_eq!(
        proxy.metric("atlas_auth_proxy_requests_by_tag_total", &unknown).await,
        1.0
    );
}
