//! What is scarce with Digest (nonces for one request at a time, `digest_max_concurrent`) is held by no client that dawdles.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use atlas_auth_proxy::credential::{ApiKeyPair, CredentialSettings};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::client;
use crate::support::proxy::{PRIVATE_KEY, PUBLIC_KEY, Proxy, listener};
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// Takes each nonce once.
async fn upstream_of_one_time_nonces() -> Upstream {
    let used: Arc<Mutex<HashSet<String>>> = Arc::default();
    let nonces = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |request| {
        let sent = request.headers().get("authorization").map(|v| v.to_str().unwrap());
        let nonce = sent.and_then(|sent| Some(sent.split_once(" nonce=\"")?.1.split('"').next()?.to_owned()));
        let accepted = nonce.is_some_and(|nonce| used.lock().insert(nonce));
        let fresh = nonces.fetch_add(1, Ordering::Relaxed);
        async move {
            if accepted {
                let _ = request.into_body().collect().await;
                return json(200, "{}");
            }
            let challenge = format!("Digest realm=\"r\", nonce=\"n{fresh}\", algorithm=MD5, qop=\"auth\"");
            let mut refused = json(401, "{}");
            refused
                .headers_mut()
                .insert("www-authenticate", challenge.parse().unwrap());
            refused
        }
    })
    .await
}

/// With two listeners.
async fn before(upstream: &Upstream, max_concurrent: Option<usize>) -> Proxy {
    let credential = CredentialSettings::ApiKey(ApiKeyPair {
        public_key: PUBLIC_KEY.to_owned(),
        private_key: atlas_auth_proxy::secret::Secret::new(PRIVATE_KEY),
        max_concurrent: max_concurrent.and_then(NonZeroUsize::new),
    });
    upstream
        .proxy_with(credential)
        .with(|settings| {
            let mut other = listener("default");
            other.name = Some("other".to_owned());
            settings.listeners.push(other);
        })
        .start()
        .await
}

/// Begins so many uploads of this length, and sends little of each.
async fn begin_uploads(proxy: &Proxy, number: usize, length: usize) -> Vec<TcpStream> {
    let mut uploads = Vec::new();
    for _ in 0..number {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let head = format!("POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nbegin");
        stream.write_all(head.as_bytes()).await.unwrap();
        uploads.push(stream);
    }
    uploads
}

fn uploads_begun(upstream: &Upstream) -> usize {
    let seen = upstream.seen();
    let with_credential = |seen: &&crate::support::upstream::Seen| {
        seen.method == "POST" && seen.uri == "/slow" && seen.headers.contains_key("authorization")
    };
    seen.iter().filter(with_credential).count()
}

async fn others_are_served(proxy: &Proxy) {
    for listener in proxy.app.listeners() {
        let url = format!("{}/x", listener.url);
        assert_eq!(client().get(&url).send().await.unwrap().status(), 200, "{url}");
        for size in [1000, 2 << 20] {
            let answer = client().post(&url).body(vec![7; size]).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{url}: {size} bytes");
        }
    }
}

/// More than there are places, of bodies that can be repeated and of others.
async fn nothing_is_held_up(upstream: &Upstream, proxy: &Proxy, number: usize) {
    let _small = begin_uploads(proxy, number, 500_000).await;
    until("the small ones are under way", || async {
        proxy.metric("atlas_auth_proxy_requests_in_flight", &[]).await >= number as f64
    })
    .await;
    others_are_served(proxy).await;
    let _large = begin_uploads(proxy, number, 2_000_000).await;
    until("each large one has reached the upstream", || async {
        uploads_begun(upstream) >= number
    })
    .await;
    others_are_served(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_dawdle_hold_no_nonces_of_a_server_that_minds_the_order() {
    let upstream = upstream_of_one_time_nonces().await;
    let proxy = before(&upstream, None).await;
    // The second is refused on the shared nonce, and passes on one of its own.
    for _ in 0..2 {
        assert_eq!(client().get(proxy.url("/x")).send().await.unwrap().status(), 200);
    }
    nothing_is_held_up(&upstream, &proxy, 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_dawdle_take_nothing_of_digest_max_concurrent() {
    let upstream = upstream_of_one_time_nonces().await;
    let proxy = before(&upstream, Some(1)).await;
    nothing_is_held_up(&upstream, &proxy, 3).await;
}
