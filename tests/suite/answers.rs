//! An answer is whole or visibly broken, means what it says, and gives nothing of the credential back; what the upstream did
//! not process may go again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use atlas_auth_proxy::credential::CredentialSettings;
use atlas_auth_proxy::upstream::HttpVersion;
use base64::Engine as _;
use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::{client, head_of, raw, read_head};
use crate::support::h2_upstream::{H2Upstream, answer};
use crate::support::proxy::{Proxy, bearer, digest, proxy};
use crate::support::upstream::{Upstream, full, json};

async fn before_h2(upstream: &H2Upstream) -> Proxy {
    proxy(&upstream.base_url(), Some(&upstream.ca_file), bearer())
        .upstream(|upstream| upstream.http = HttpVersion::Http2)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_without_an_error_is_a_broken_answer() {
    let upstream = H2Upstream::start(100, |_request, mut respond, _| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(&[b'x'; 1017]), false).unwrap();
        stream.send_reset(h2::Reason::NO_ERROR);
    })
    .await;
    let proxy = before_h2(&upstream).await;
    let got = client().get(proxy.url("/x")).send().await;
    let whole = match got {
        Ok(answer) => answer.status() == 200 && answer.bytes().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "a part of an answer must not look like the whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http2_says_was_not_processed_goes_once_more_whatever_the_method() {
    let upstream = H2Upstream::start(100, |_request, mut respond, nth| async move {
        if nth == 0 {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        } else {
            answer(respond, b"ok");
        }
    })
    .await;
    let proxy = before_h2(&upstream).await;
    let got = client().post(proxy.url("/x")).body("content").send().await.unwrap();
    assert_eq!((got.status().as_u16(), upstream.requests()), (200, 2));
    let cause = [("cause", "not_processed")];
    assert_eq!(
        proxy.metric("atlas_auth_proxy_upstream_attempts_total", &cause).await,
        1.0
    );
    assert_eq!(
        upstream.token_requests(),
        1,
        "over HTTP/2, too: this upstream speaks nothing else"
    );

    // Refused time and again: once more, no oftener.
    let upstream = H2Upstream::start(100, |_request, mut respond, _| async move {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    })
    .await;
    let proxy = before_h2(&upstream).await;
    let got = client().post(proxy.url("/x")).body("content").send().await.unwrap();
    assert_eq!((got.status().as_u16(), upstream.requests()), (502, 2));

    // Any other reset may have been processed.
    let upstream = H2Upstream::start(100, |_request, mut respond, _| async move {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    })
    .await;
    let proxy = before_h2(&upstream).await;
    let got = client().post(proxy.url("/x")).body("content").send().await.unwrap();
    assert_eq!((got.status().as_u16(), upstream.requests()), (502, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_streams_is_waited_for() {
    let upstream = H2Upstream::start(3, |_request, respond, _| async move {
        tokio::task::yield_now().await;
        answer(respond, b"ok");
    })
    .await;
    let proxy = before_h2(&upstream).await;
    let calls: Vec<_> = (0..60)
        .map(|_| tokio::spawn(client().post(proxy.url("/x")).body("content").send()))
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(upstream.requests(), 60, "none was refused");
    assert!(upstream.most_at_once() <= 3, "{}", upstream.most_at_once());
}

/// As many clients as would fill the window of a connection, if it were no larger than a few of an answer's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_their_answers_hold_up_no_others_on_the_connection() {
    const SLOW: usize = 40;
    let upstream = H2Upstream::start(100, |request, mut respond, _| async move {
        if request.uri().path() == "/large" {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(vec![b'x'; 32 << 20].into(), true).unwrap();
        } else {
            answer(respond, b"ok");
        }
    })
    .await;
    let proxy = before_h2(&upstream).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream
            .write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        read_head(&mut stream).await;
        slow.push(stream);
    }
    // The windows fill meanwhile.
    for _ in 0..50 {
        let got = async { client().get(proxy.url("/small")).send().await?.text().await };
        let got = tokio::time::timeout(std::time::Duration::from_secs(20), got).await;
        assert_eq!(got.expect("no answer in time").unwrap(), "ok");
    }
}

/// Sends the same bytes for every request to the API; `AUTH` in them is the `Authorization` that came.
async fn echoing(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Some(head) = head_of(&mut stream).await else { return };
                let sent = head
                    .lines()
                    .find_map(|line| line.strip_prefix("authorization: "))
                    .unwrap_or_default();
                let reply = if head.starts_with("POST /api/oauth/token") {
                    let token = r#"{"access_token":"a-token-that-is-long-enough-to-be-one","expires_in":3600,"token_type":"Bearer"}"#;
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{token}",
                        token.len()
                    )
                } else if sent.is_empty() {
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
                } else {
                    let base64 = base64::engine::general_purpose::STANDARD.encode(sent);
                    let percent =
                        percent_encoding::utf8_percent_encode(sent, percent_encoding::NON_ALPHANUMERIC).to_string();
                    answer
                        .replace("AUTH64", &base64)
                        .replace("AUTH%", &percent)
                        .replace("AUTH", sent)
                };
                let _ = stream.write_all(reply.as_bytes()).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    url
}

/// Everything of an answer but its body is judged: for both kinds of credential.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_credential_never_comes_back_by_any_way() {
    const ANSWER: &str = "HTTP/1.1 299 AUTH\r\nX-Echo: AUTH\r\nX-Within: you sent AUTH.\r\nX-Base64: AUTH64\r\nX-Percent: AUTH%\r\n\
        X-Good: yes\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailer, X-Fine\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: AUTH\r\n\
        X-Trailer-64: AUTH64\r\nX-Fine: yes\r\n\r\n";
    const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: close\r\n\r\n";
    let check = async |credential: CredentialSettings, secret: &str| {
        let proxy = proxy(&echoing(ANSWER).await, None, credential).start().await;
        let got = raw(proxy.address, GET).await;
        assert!(
            got.starts_with("HTTP/1.1 299 \r\n"),
            "no reason of the upstream's: {got}"
        );
        assert!(got.contains("X-Good: yes\r\n") && got.contains("ok\r\n"), "{got}");
        for gone in [
            "X-Echo",
            "X-Within",
            "X-Base64",
            "X-Percent",
            "X-Trailer:",
            "X-Trailer-64:",
            secret,
        ] {
            let found = got.to_ascii_lowercase().contains(&gone.to_ascii_lowercase());
            assert!(
                !found || gone == "X-Trailer:" && got.contains("Trailer: X-Trailer"),
                "{gone}: {got}"
            );
        }
    };
    check(bearer(), "a-token-that-is-long-enough").await;
    check(digest(), "response=").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn field_names_come_as_atlas_wrote_them_and_ours_in_title_case() {
    let url =
        echoing("HTTP/1.1 200 OK\r\nX-MongoDB-Thing: a\r\nx-lower: b\r\nETag: \"c\"\r\nContent-length: 2\r\n\r\nok")
            .await;
    let proxy = proxy(&url, None, bearer()).start().await;
    let got = raw(
        proxy.address,
        b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    for line in [
        "X-MongoDB-Thing: a",
        "x-lower: b",
        "ETag: \"c\"",
        "X-Content-Type-Options: nosniff",
    ] {
        assert!(got.contains(&format!("\r\n{line}\r\n")), "{line}: {got}");
    }
    let refused = raw(proxy.address, b"GET /x HTTP/1.1\r\nHost: elsewhere\r\n\r\n").await;
    for name in [
        "\r\nContent-Type: ",
        "\r\nX-Atlas-Auth-Proxy-Error: PROXY_HOST_DENIED\r\n",
        "\r\nContent-Length: ",
    ] {
        assert!(refused.contains(name), "{name}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_works_with_the_tag_that_its_read_brought() {
    let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let log = Arc::clone(&seen);
    let upstream = Upstream::start(move |request| {
        let log = Arc::clone(&log);
        async move {
            for name in ["if-match", "if-none-match", "if-range", "range"] {
                if let Some(value) = request.headers().get(name) {
                    log.lock().push((name.to_owned(), value.to_str().unwrap().to_owned()));
                }
            }
            let same = request
                .headers()
                .get("if-none-match")
                .is_some_and(|tag| tag == "\"v1\"")
                || request.headers().contains_key("if-modified-since");
            let mut answer = if same {
                Response::builder().status(304).body(full("")).unwrap()
            } else {
                json(200, r#"{"a":1}"#)
            };
            answer.headers_mut().insert("etag", "\"v1\"".parse().unwrap());
            answer.headers_mut().insert("accept-ranges", "bytes".parse().unwrap());
            answer
        }
    })
    .await;
    let proxy = upstream.proxy().start().await;
    let read = client().get(proxy.url("/x")).send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with("W/\"") && tag != "W/\"v1\"", "{tag}");
    assert!(!read.headers().contains_key("accept-ranges"));

    let head = client().head(proxy.url("/x")).send().await.unwrap();
    assert_eq!(head.headers()["etag"], *tag);
    client()
        .patch(proxy.url("/x"))
        .header("if-match", &tag)
        .body("{}")
        .send()
        .await
        .unwrap();
    let unchanged = client()
        .get(proxy.url("/x"))
        .header("if-none-match", &tag)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            unchanged.status().as_u16(),
            unchanged.headers()["etag"].to_str().unwrap()
        ),
        (304, &*tag)
    );
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    for (name, validator, status) in [
        ("if-range", &*tag, 200),
        ("if-none-match", &*tag, 304),
        ("if-range", date, 200),
    ] {
        let resumed = client()
            .get(proxy.url("/x"))
            .header(name, validator)
            .header("range", "bytes=3-")
            .send()
            .await
            .unwrap();
        assert_eq!(resumed.status().as_u16(), status, "{name}: {validator}");
        assert_eq!(resumed.headers()["etag"], *tag);
    }
    // Of what the client has nothing is known: it gets no tag for it.
    let unchanged = client()
        .get(proxy.url("/x"))
        .header("if-modified-since", date)
        .send()
        .await
        .unwrap();
    assert_eq!(unchanged.status(), 304);
    assert!(!unchanged.headers().contains_key("etag") && !unchanged.headers().contains_key("accept-ranges"));
    let expected = [
        ("if-match", "\"v1\""),
        ("if-none-match", "\"v1\""),
        ("if-none-match", "\"v1\""),
    ];
    assert_eq!(
        *seen.lock(),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_401_to_an_upload_that_outgrows_its_record_is_atlass_or_cured() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refusals);
    // Refuses the first token before it has read the body.
    let upstream = Upstream::start(move |request| {
        let count = Arc::clone(&count);
        async move {
            if request
                .headers()
                .get("authorization")
                .is_some_and(|value| value == "Bearer token-1")
            {
                count.fetch_add(1, Ordering::SeqCst);
                return json(401, r#"{"detail":"from Atlas"}"#);
            }
            let _ = http_body_util::BodyExt::collect(request.into_body()).await;
            json(200, "{}")
        }
    })
    .await;
    for size in [1000, 3 << 20] {
        let proxy = upstream.proxy().start().await;
        let pieces: Vec<_> = (0..size / 1000)
            .map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1000])))
            .collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let got = client().post(proxy.url("/x")).body(body).send().await.unwrap();
        assert!(matches!(got.status().as_u16(), 200 | 401), "{size}: {}", got.status());
        assert!(!got.headers().contains_key("x-atlas-auth-proxy-error"), "{size}");
    }
    assert!(refusals.load(Ordering::SeqCst) > 0);
}
