//! Everything has a bound; beyond it there is a clear answer, or the end of the connection, and a metric.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

use crate::support::client::{client, raw, read_body, read_head, read_to_end};
use crate::support::metrics::metric;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::{Proxy, ProxyBuilder};
use crate::support::upstream::{Answer, Upstream, json};
use crate::support::{time_passes, until};

async fn ok(_: http::Request<hyper::body::Incoming>) -> Answer {
    json(200, "{}")
}

fn builder(upstream: &Upstream) -> ProxyBuilder {
    upstream.proxy()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const GET_AND_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A connection that has had one answer, and rests.
async fn kept(proxy: &Proxy, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(proxy.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    read_body(&mut stream, &head).await;
    stream
}

async fn denied(proxy: &Proxy, reason: &str) -> f64 {
    proxy
        .metric("atlas_auth_proxy_denied_total", &[("reason", reason)])
        .await
}

#[tokio::test]
async fn beyond_max_connections_a_client_is_told_so() {
    let upstream = Upstream::start(ok).await;
    let proxy = builder(&upstream)
        .with(|s| s.limits.capacity.max_connections = 2)
        .start()
        .await;
    let (first, _second) = (kept(&proxy, "127.0.0.1").await, kept(&proxy, "127.0.0.1").await);
    for _ in 0..3 {
        let answer = raw(proxy.address, GET_AND_CLOSE).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.contains("PROXY_OVERLOADED") && answer.contains("max_connections"),
            "{answer}"
        );
    }
    assert_eq!(denied(&proxy, "connections").await, 3.0);
    drop(first);
    until("its place is free again", || async {
        raw(proxy.address, GET_AND_CLOSE).await.starts_with("HTTP/1.1 200 ")
    })
    .await;
}

#[tokio::test]
async fn one_peer_cannot_take_all_connections() {
    let upstream = Upstream::start(ok).await;
    let proxy = builder(&upstream)
        .with(|s| s.limits.capacity.max_connections_per_peer = 2)
        .start()
        .await;
    let mine = [kept(&proxy, "127.0.0.1").await, kept(&proxy, "127.0.0.1").await];
    let answer = raw(proxy.address, GET_AND_CLOSE).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("max_connections_per_peer"),
        "{answer}"
    );
    kept(&proxy, "127.0.0.2").await;
    drop(mine);
    until("its places are free again", || async {
        raw(proxy.address, GET_AND_CLOSE).await.starts_with("HTTP/1.1 200 ")
    })
    .await;
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_fields() {
    let upstream = Upstream::start(ok).await;
    let proxy = builder(&upstream)
        .with(|s| {
            s.limits.connection.max_header_bytes = 16 << 10;
            s.limits.connection.max_headers = 20;
        })
        .start()
        .await;
    let head = |fields: String| format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    for (fields, status) in [
        ("X: a\r\n".repeat(18), 200),
        ("X: a\r\n".repeat(19), 431),
        (format!("X: {}\r\n", "a".repeat(15 << 10)), 200),
        (format!("X: {}\r\n", "a".repeat(16 << 10)), 431),
        (format!("{}: a\r\n", "X".repeat(16 << 10)), 431),
    ] {
        let answer = raw(proxy.address, head(fields).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("PROXY_HEADERS_TOO_LARGE"), status == 431);
    }
    // An endless one, without a line break.
    let mut endless = TcpStream::connect(proxy.address).await.unwrap();
    endless.write_all(b"GET /").await.unwrap();
    let (mut reader, mut writer) = endless.split();
    let send = async { while writer.write_all(&[b'a'; 4096]).await.is_ok() {} };
    let receive = read_to_end(&mut reader);
    let answer = tokio::select! { answer = receive => answer, () = send => String::new() };
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(denied(&proxy, "malformed").await, 4.0);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn heads_that_dawdle_end_also_between_requests() {
    let upstream = Upstream::start(ok).await;
    let proxy = builder(&upstream)
        .with(|s| s.limits.connection.header_read_timeout = Duration::from_millis(200))
        .start()
        .await;
    // Nothing at all; half a head; half a second head.
    for sent in [&b""[..], b"GET / HT", &[GET, b"GET / HTTP/1.1\r\nHost: "].concat()] {
        let answer = raw(proxy.address, sent).await;
        let last = answer.rfind("HTTP/1.1 ").map(|at| &answer[at..]).unwrap_or_default();
        assert!(
            last.starts_with("HTTP/1.1 408 ") && last.contains("PROXY_REQUEST_TIMEOUT"),
            "{sent:?}: {answer}"
        );
    }
    let timeouts = proxy
        .metric(
            "atlas_auth_proxy_proxy_errors_total",
            &[("code", "PROXY_REQUEST_TIMEOUT")],
        )
        .await;
    assert_eq!(timeouts, 3.0);
    // An empty line behind a request begins none.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(&[GET, b"\r\n"].concat()).await.unwrap();
    read_head(&mut stream).await;
    // Three times as long as a head may take.
    time_passes(Duration::from_millis(600)).await;
    stream.write_all(GET_AND_CLOSE).await.unwrap();
    let rest = read_to_end(&mut stream).await;
    assert!(rest.contains("HTTP/1.1 200 ") && !rest.contains("408"), "{rest}");
}

#[tokio::test]
async fn a_connection_that_rests_is_served_again_and_in_the_end_closed() {
    let upstream = Upstream::start(ok).await;
    let proxy = builder(&upstream).start().await;
    let mut stream = kept(&proxy, "127.0.0.1").await;
    for pause in [900, 1100, 3000] {
        time_passes(Duration::from_millis(pause)).await;
        stream.write_all(GET).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        read_body(&mut stream, &head).await;
    }
    // The clock runs ahead to whatever is waited for.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(start.elapsed().as_secs().clamp(115, 125), start.elapsed().as_secs());
    tokio::time::resume();
    assert_eq!(proxy.metric("atlas_auth_proxy_connections_open", &[]).await, 0.0);
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let upstream = Upstream::start(ok).await;
    let proxy = builder(&upstream).start().await;
    let head = "POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2000000\r\n\r\n";
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // More than the kernel holds: it would be reset if nobody took it.
    stream.write_all(&vec![b'x'; 2_000_000]).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert!(answer.ends_with('}'), "the whole of it: {answer}");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn running_out_of_descriptors_ends_nothing() {
    let upstream = Upstream::start(ok).await;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\"", PROGRAM]);
    let program = Program::start(shell, &upstream, &SERVICE_ACCOUNT, &[]).await;
    let mut open = Vec::new();
    for _ in 0..300 {
        // The kernel completes more connections than the process can have.
        open.push(TcpStream::connect(program.address).await.unwrap());
    }
    // The first are served although there is no room for more: the upstream's share is kept for them.
    open[0].write_all(GET).await.unwrap();
    assert!(read_head(&mut open[0]).await.starts_with("HTTP/1.1 200 "));
    drop(open);
    let address = program.address;
    until("there is room again", || async move {
        raw(address, GET_AND_CLOSE).await.starts_with("HTTP/1.1 200 ")
    })
    .await;
    let live = client()
        .get(format!("http://{}/livez", program.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(live.status(), 200);
    let (status, _) = program.stop().await;
    assert_eq!(status.code(), Some(0));
}

/// The client's own words, repeated in each of many links, must not make an answer thousands of times as long.
#[tokio::test]
async fn a_host_with_a_port_of_zeros_is_refused() {
    let upstream = Upstream::start(ok).await;
    let proxy = builder(&upstream).start().await;
    for zeros in [2, 60_000] {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: localhost:{}8080\r\nConnection: close\r\n\r\n",
            "0".repeat(zeros)
        );
        let answer = raw(proxy.address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    }
    assert!(upstream.seen().is_empty());
}

/// Bytes that come one by one are recorded for a second try; what is held for them is about what they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_single_bytes_holds_little_memory() {
    let upstream = Upstream::start(|request: http::Request<hyper::body::Incoming>| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let program = Program::start(Command::new(PROGRAM), &upstream, &SERVICE_ACCOUNT, &["--workers", "1"]).await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    // One whole request first: connections and buffers are there.
    raw(program.address, GET_AND_CLOSE).await;
    let before = resident();
    const BYTES: usize = 3000;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(program.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            BYTES + 1
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    for _ in 0..BYTES {
        for stream in &mut streams {
            stream.write_all(b"x").await.unwrap();
        }
        // Each byte is to be read by itself: a pause of the hostile client, with nothing to be seen from outside.
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    let grown = resident().saturating_sub(before);
    // A read buffer for each byte would be 8 * 3000 * 8 KiB: 190 MiB.
    assert!(grown < 24 << 10, "{grown} KiB more");
    drop(streams);
    assert!(program.stop().await.0.success());
}

/// A byte each second never pauses for long, and would hold its place for ever.
#[tokio::test]
async fn a_body_that_trickles_is_a_408() {
    let upstream = Upstream::start(|request: http::Request<hyper::body::Incoming>| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let proxy = builder(&upstream).start().await;
    // There is a token: the wait for it must not run ahead, too.
    assert!(raw(proxy.address, GET_AND_CLOSE).await.starts_with("HTTP/1.1 200 "));
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    // No patience of ours: it would be over as soon as the clock runs ahead.
    let answer = tokio::spawn(async move {
        let mut answer = String::new();
        let _ = reader.read_to_string(&mut answer).await;
        answer
    });
    for _ in 0..200 {
        if answer.is_finished() {
            break;
        }
        // The clock runs ahead by a second, and the byte is read.
        time_passes(Duration::from_secs(1)).await;
        let _ = writer.write_all(b"x").await;
        // What is paced here is the hostile client: the byte is to be read before the next second begins.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = answer.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_body_min_rate"),
        "{answer}"
    );
}

/// Requests whose bodies don't end hold places on the way to the upstream: one listener's can't hold the other's part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_full_of_slow_bodies_leaves_the_others_their_part() {
    let upstream = Upstream::start(|request: http::Request<hyper::body::Incoming>| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -n 160; exec \"$0\" \"$@\"", PROGRAM]);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("proxy.sock");
    let listen = format!("unix:{}", socket.display());
    let program = Program::start(shell, &upstream, &SERVICE_ACCOUNT, &["--listen", &listen]).await;
    let mut slow = Vec::new();
    let post = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1234";
    // More than there are places (a third of what 160 descriptors leave), fewer than there are connections.
    for _ in 0..45 {
        let mut stream = TcpStream::connect(program.address).await.unwrap();
        stream.write_all(post).await.unwrap();
        slow.push(stream);
    }
    until("one is told that there is no place", || async {
        metric(program.admin, "atlas_auth_proxy_upstream_errors_total", &[]).await > 0.0
    })
    .await;
    for _ in 0..5 {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(GET_AND_CLOSE).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    drop(slow);
    assert!(program.stop().await.0.success());
}

/// Everything at the values that hold when nothing is set.
#[tokio::test]
async fn the_default_bounds_hold_and_one_peer_may_have_many_connections() {
    let upstream = Upstream::start(|request: http::Request<hyper::body::Incoming>| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let proxy = builder(&upstream).start().await;
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    let of_size = |bytes: usize| head(&format!("X: {}\r\n", "a".repeat(bytes - head("X: \r\n").len())));
    for (head, status) in [
        (head(&"X: a\r\n".repeat(98)), 200),
        (head(&"X: a\r\n".repeat(99)), 431),
        (of_size(64 << 10), 200),
        (of_size((64 << 10) + 1), 431),
    ] {
        let answer = raw(proxy.address, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    // All loopback peers look alike, and so do those behind one balancer: what one may have is the operator's to say.
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(kept(&proxy, "127.0.0.1").await);
    }
    let limits = atlas_auth_proxy::server::CapacityLimits::default();
    assert_eq!((limits.max_connections, limits.max_connections_per_peer), (16_384, 0));
    drop(held);
    // Time: half a head, and a body that pauses. The clock runs ahead to whatever is waited for.
    let half_a_body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf";
    for (sent, seconds) in [(&b"GET / HTTP/1.1\r\nHost: loc"[..], 10), (half_a_body, 30)] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        tokio::time::pause();
        let start = tokio::time::Instant::now();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let took = start.elapsed().as_secs();
        tokio::time::resume();
        assert!(
            answer.starts_with(b"HTTP/1.1 408 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(took.clamp(seconds - 1, seconds + 1), took, "{seconds} s");
    }
}
