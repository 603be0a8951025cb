//! What goes wrong at the other side: what the client sees, what is counted, and that nothing is left over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::{client, head_of, raw, read_head};
use crate::support::proxy::{Proxy, bearer, digest, proxy};
use crate::support::until;

const TOKEN: &str = r#"{"access_token":"t","expires_in":3600,"token_type":"Bearer"}"#;

/// What an upstream does with the nth request to the API, once its head has come.
type Deed = fn(TcpStream, usize) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A plain upstream of bytes: the token endpoint works, the rest is as `deed` says. Counts requests to the API.
async fn upstream(deed: Deed) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let Some(head) = head_of(&mut stream).await else { return };
                if head.starts_with("POST /api/oauth/") {
                    let length = TOKEN.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{TOKEN}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                    // Its form is still to be read: closing over it would be a reset.
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                } else {
                    let nth = count.fetch_add(1, Ordering::SeqCst);
                    deed(stream, nth).await;
                }
            });
        }
    });
    (url, asked)
}

async fn answer(mut stream: TcpStream, bytes: &[u8]) -> TcpStream {
    let _ = stream.write_all(bytes).await;
    stream
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const POST: &[u8] = b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";

/// Nothing is open, under way or held.
async fn nothing_is_left(proxy: &Proxy) {
    until("nothing is left over", || async {
        let mut left = 0.0;
        for gauge in ["connections_open", "requests_in_flight", "upstream_connections_open"] {
            left += proxy.metric(&format!("atlas_auth_proxy_{gauge}"), &[]).await;
        }
        left == 0.0
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_told_apart_by_when_it_does() {
    // What it does the first time, what the client sees, and how often the upstream was asked by a POST.
    let cases: &[(&str, Deed, &str)] = &[
        (
            "a reset before the head",
            |stream, nth| {
                Box::pin(async move {
                    if nth == 0 {
                        reset(stream)
                    } else {
                        drop(answer(stream, OK).await)
                    }
                })
            },
            "502",
        ),
        (
            "a close before the head",
            |stream, nth| {
                Box::pin(async move {
                    if nth == 0 {
                        drop(stream)
                    } else {
                        drop(answer(stream, OK).await)
                    }
                })
            },
            "502",
        ),
        (
            "a reset in the head",
            |stream, nth| {
                Box::pin(async move {
                    if nth == 0 {
                        reset(answer(stream, b"HTTP/1.1 200 OK\r\nContent-Le").await);
                    } else {
                        drop(answer(stream, OK).await);
                    }
                })
            },
            "502",
        ),
        (
            "a short body of known length",
            |stream, nth| {
                Box::pin(async move {
                    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this";
                    drop(answer(stream, if nth == 0 { short } else { OK }).await);
                })
            },
            "broken",
        ),
        (
            "a chunked body without its end",
            |stream, nth| {
                Box::pin(async move {
                    let short = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n";
                    drop(answer(stream, if nth == 0 { short } else { OK }).await);
                })
            },
            "broken",
        ),
        (
            "JSON without its end",
            |stream, nth| {
                Box::pin(async move {
                    let short =
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"a\":";
                    drop(answer(stream, if nth == 0 { short } else { OK }).await);
                })
            },
            "broken",
        ),
        (
            "no HTTP at all",
            |stream, nth| {
                Box::pin(async move { drop(answer(stream, if nth == 0 { b"SSH-2.0-x\r\n\r\n" } else { OK }).await) })
            },
            "502",
        ),
    ];
    for (what, deed, seen) in cases {
        let (url, asked) = upstream(*deed).await;
        let proxy = proxy(&url, None, bearer()).start().await;
        let got = raw(proxy.address, POST).await;
        match *seen {
            "broken" => {
                let (head, body) = got.split_once("\r\n\r\n").unwrap_or((&got, ""));
                let lower = head.to_ascii_lowercase();
                let whole = lower.contains("chunked") && body.ends_with("0\r\n\r\n")
                    || lower.contains(&format!("content-length: {}", body.len()));
                // Either it was told before its head went out, or the transfer is visibly broken.
                assert!(head.contains(" 502 ") || head.is_empty() || !whole, "{what}: {got}");
            }
            status => {
                assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {got}");
                assert!(got.contains("PROXY_UPSTREAM_UNREACHABLE"), "{what}: {got}");
                let kind = [("kind", "reset")];
                assert_eq!(
                    proxy.metric("atlas_auth_proxy_upstream_errors_total", &kind).await,
                    1.0,
                    "{what}"
                );
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{what}: a POST goes once");
        let next = raw(proxy.address, GET).await;
        assert!(
            next.starts_with("HTTP/1.1 200 ") && next.ends_with("ok"),
            "{what}: {next}"
        );
        nothing_is_left(&proxy).await;
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_whole_upload_reaches_the_client() {
    let (url, _) = upstream(|stream, _| {
        Box::pin(async move {
            // Not a byte of the content is read; a while later the connection ends.
            let refusal = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large";
            let mut stream = answer(stream, refusal).await;
            let _ = stream.shutdown().await;
            let mut left = 64 << 10;
            let mut sink = [0; 4096];
            while left > 0 {
                match stream.read(&mut sink).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => left -= read.min(left),
                }
            }
        })
    })
    .await;
    let proxy = proxy(&url, None, bearer()).start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let size = 3 << 20;
    let head = format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let body = vec![b'x'; size];
    let send = writer.write_all(&body);
    let mut got = Vec::new();
    let receive = reader.read_to_end(&mut got);
    let (_, _) = tokio::join!(send, receive);
    let got = String::from_utf8_lossy(&got);
    assert!(got.starts_with("HTTP/1.1 413 ") && got.ends_with("too large"), "{got}");
    assert!(got.to_ascii_lowercase().contains("connection: close"), "{got}");
    nothing_is_left(&proxy).await;
}

#[tokio::test]
async fn a_name_without_an_address_is_told_and_needed_by_nobody_to_start() {
    let proxy = proxy("https://atlas.invalid", None, digest()).start().await;
    let start = tokio::time::Instant::now();
    let answer = client().get(proxy.url("/x")).send().await.unwrap();
    // A resolver that does not answer at all is a matter of time.
    assert!(matches!(answer.status().as_u16(), 502 | 504), "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(30), "`connect_timeout` bounds it");
    let said = answer.text().await.unwrap();
    assert!(said.contains("atlas.invalid"), "{said}");
    let live = client()
        .get(format!("http://{}/livez", proxy.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(live.status(), 200);
    nothing_is_left(&proxy).await;
}

#[tokio::test]
async fn clients_that_go_away_at_any_point_leave_nothing() {
    let (url, _) = upstream(|stream, _| {
        Box::pin(async move {
            // An answer that never ends.
            let mut stream = answer(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            while stream.write_all(b"5\r\nhello\r\n").await.is_ok() {
                // The pace of a slow upstream.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    })
    .await;
    let proxy = proxy(&url, None, bearer()).start().await;
    for sent in [
        &b""[..],
        b"GET /x HT",
        GET,
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha",
    ] {
        for by_reset in [false, true] {
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            if sent == GET {
                assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
            }
            if by_reset {
                reset(stream);
            }
        }
    }
    nothing_is_left(&proxy).await;
}

#[cfg(feature = "emulator")]
mod token_endpoint {
    use atlas_auth_proxy::emulator::{Emulator, EmulatorSettings, Fault, FaultKind, Target};
    use std::io::Write;

    use super::*;
    use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};

    fn fault(kind: FaultKind, status: Option<u16>, body: Option<&str>) -> Fault {
        Fault {
            times: 0,
            status,
            body: body.map(str::to_owned),
            ..Fault::once(Target::Token, kind)
        }
    }

    fn grant(life: &str) -> Fault {
        let body = format!(r#"{{"access_token":"from-the-fault","expires_in":{life},"token_type":"Bearer"}}"#);
        fault(FaultKind::Status, Some(200), Some(&body))
    }

    /// For each fault: 503 with `Retry-After` and not one request without a token, the count of its kind, and recovery.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_fault_of_it_lets_a_request_through_without_a_token() {
        let cases = [
            ("status 500", fault(FaultKind::Status, Some(500), None), "error"),
            (
                "status 429",
                Fault {
                    retry_after: Some(1),
                    ..fault(FaultKind::Status, Some(429), Some("{}"))
                },
                "rate_limited",
            ),
            ("garbage", fault(FaultKind::Garbage, None, None), "malformed"),
            ("an empty 200", fault(FaultKind::Empty, None, None), "malformed"),
            ("half an answer", fault(FaultKind::Truncate, None, None), "unreachable"),
            ("a reset", fault(FaultKind::Reset, None, None), "unreachable"),
            ("a life of 0", grant("0"), "malformed"),
            ("a negative life", grant("-1"), "malformed"),
            ("a life as text", grant("\"3600\""), "malformed"),
            ("a life of 10^12 s", grant("1000000000000"), "malformed"),
            (
                "an answer of a MiB",
                fault(FaultKind::Status, Some(200), Some(&"x".repeat(1 << 20))),
                "malformed",
            ),
            ("silence", fault(FaultKind::Hang, None, None), "timeout"),
        ];
        let mut running = Vec::new();
        for (what, fault, outcome) in cases {
            running.push(tokio::spawn(one(what, fault, outcome)));
        }
        for case in running {
            case.await.unwrap();
        }
    }

    async fn one(what: &str, fault: Fault, outcome: &str) {
        let emulator = Emulator::start(EmulatorSettings {
            service_accounts: vec![(CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned())],
            tokens_per_minute: 1000,
            ..EmulatorSettings::default()
        })
        .await
        .unwrap();
        let hangs = fault.kind == FaultKind::Hang;
        emulator.fault(fault);
        let mut ca = tempfile::NamedTempFile::new().unwrap();
        ca.write_all(emulator.ca_pem().as_bytes()).unwrap();
        let proxy = proxy(&emulator.base_url(), Some(ca.path()), bearer()).start().await;
        for _ in 0..2 {
            let answer = client().get(proxy.url("/api/atlas/v2/groups")).send().await.unwrap();
            assert_eq!(answer.status(), 503, "{what}");
            assert_eq!(
                answer.headers()["x-atlas-auth-proxy-error"],
                "PROXY_TOKEN_UNAVAILABLE",
                "{what}"
            );
            assert!(answer.headers().contains_key("retry-after"), "{what}");
        }
        assert_eq!(emulator.api_requests(), 0, "{what}: a request went without a token");
        if !hangs {
            let labels = [("outcome", outcome)];
            let counted = proxy.metric("atlas_auth_proxy_token_requests_total", &labels).await;
            let all = proxy.metric("atlas_auth_proxy_token_requests_total", &[]).await;
            assert!(
                counted >= 1.0 && counted == all,
                "{what}: {counted} of {all} are `{outcome}`"
            );
            emulator.clear_faults();
            until(what, || async {
                client()
                    .get(proxy.url("/api/atlas/v2/groups"))
                    .send()
                    .await
                    .is_ok_and(|answer| answer.status() == 200)
            })
            .await;
        }
        proxy.app.shutdown().await;
    }
}

/// The end of the connection is all that tells an HTTP/1.0 client where its answer ends: it must not look like a good one.
#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset_for_a_client_of_http_1_0() {
    let (url, _) = upstream(|stream, _| {
        Box::pin(async {
            answer(
                stream,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            )
            .await;
        })
    })
    .await;
    let proxy = proxy(&url, None, bearer()).start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// The same where it is we who break off: the drain is over.
#[tokio::test]
async fn an_answer_that_the_drain_breaks_off_is_a_reset_for_a_client_of_http_1_0() {
    let (url, _) = upstream(|stream, _| {
        Box::pin(async {
            let head_and_part = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
            let _open = answer(stream, head_and_part).await;
            std::future::pending().await
        })
    })
    .await;
    let proxy = proxy(&url, None, bearer())
        .with(|s| s.drain_timeout = Duration::from_millis(100))
        .start()
        .await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /x HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut stream).await;
    let mut part = [0; 5];
    stream.read_exact(&mut part).await.unwrap();
    assert_eq!(&part, b"hello");
    let ending = tokio::spawn(proxy.app.shutdown());
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    ending.await.unwrap();
}
