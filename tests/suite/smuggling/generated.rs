//! Requests out of a grammar, with faults: whatever a client sends, what reaches the upstream is what a strict parser reads
//! in it, from its first byte on, or one repaired request, or nothing. `PROPTEST_CASES` raises their number.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bench, PATIENCE, SMUGGLED};
use crate::support::recording_upstream::Since;
use crate::support::strict_http::{self, Request};

const CASES: u32 = 1500;

fn request_line() -> impl Strategy<Value = String> {
    let method = prop_oneof![
        6 => select(vec!["GET", "POST", "PUT", "DELETE"]),
        1 => select(vec!["HEAD", "OPTIONS", "TRACE", "track", "CONNECT", "get", "P@ST", ""]),
    ];
    let target = prop_oneof![
        6 => select(vec!["/x", "/", "/x?y=z", "/a%20b"]),
        1 => select(vec![
            "//evil.example/", "/x#y", "http://localhost/x", "http://evil.example/", "*", "", "/x y", "/\u{e9}", "/x\ty",
            "localhost:80", "/\\x",
        ]),
    ];
    let version = prop_oneof![
        8 => Just("HTTP/1.1"),
        1 => select(vec!["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", ""]),
    ];
    (method, target, version).prop_map(|(method, target, version)| format!("{method} {target} {version}"))
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![40 => Just("\r\n"), 1 => select(vec!["\n", "\r", "\r\r\n", "\n\r", "\0\r\n", "\r\n\r\n"])]
}

fn field() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => select(vec!["X-Mine", "Accept", "User-Agent", "Traceparent"]),
        3 => select(vec![
            "Authorization", "Proxy-Authorization", "Cookie", "Connection", "TE", "Trailer", "Expect", "Upgrade",
            "X-Forwarded-For", "X-HTTP-Method-Override", "Host", "Content_Length", "Transfer_Encoding",
        ]),
        2 => select(vec!["Content-Length", "Transfer-Encoding", "content-length", "TRANSFER-ENCODING"]),
        1 => select(vec![" X", "X Y", "", "X\0", "Transfer-Encoding ", "\tContent-Length", "X\u{e9}", "GET /smuggled HTTP/1.1"]),
    ];
    let colon = prop_oneof![12 => Just(": "), 2 => Just(":"), 1 => select(vec![" : ", "", ":\t", ":\u{b}", ":\r\n ", ": \r\n\t"])];
    let value = prop_oneof![
        4 => select(vec!["y", "Bearer mine", "close", "keep-alive", "trailers", "100-continue", "localhost"]),
        3 => select(vec!["0", "5", "05", "+5", "-1", "5, 5", "5,6", "0x5", "5 ", "99999999999999999999", "4294967301", "1e1"]),
        3 => select(vec!["chunked", "Chunked", "xchunked", "chunked, chunked", "gzip, chunked", "identity", "chunked;x", "\"chunked\""]),
        1 => select(vec!["", "authorization, host", "content-length", "a\0b", "a\rb", "a\nb", "\u{7f}", "evil.example", "a\r\n b"]),
    ];
    (name, colon, value, line_end()).prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"))
}

/// A body and the field that frames it, rightly or not.
fn content() -> impl Strategy<Value = (String, String)> {
    let text = select(vec!["", "hello", "0\r\n\r\n", SMUGGLED]);
    let chunk = prop_oneof![
        6 => Just(String::new()),
        1 => select(vec![";a", ";a=\"b\"", " ", "\t", ";a=\"\r\n\"", "\n", "g", "\0", "\r"]).prop_map(str::to_owned),
    ];
    let trailers = prop_oneof![
        5 => Just(""),
        1 => select(vec![
            "X-Sum: 1\r\n", "Content-Length: 50\r\n", "Authorization: Bearer mine\r\n", " folded\r\n", "X: \0\r\n", "X\r\n", "\n",
        ]),
    ];
    (text, chunk, trailers, 0..10u8, -2..3i64).prop_map(|(text, odd, trailers, kind, off)| {
        let size = text.len();
        let chunks = if size == 0 {
            String::new()
        } else {
            format!("{size:x}{odd}\r\n{text}\r\n")
        };
        let chunked = format!("{chunks}0\r\n{trailers}\r\n");
        match kind {
            0..3 => (String::new(), String::new()),
            3..5 => (format!("Content-Length: {size}\r\n"), text.to_owned()),
            5 => (format!("Content-Length: {}\r\n", size as i64 + off), text.to_owned()),
            6..8 => ("Transfer-Encoding: chunked\r\n".to_owned(), chunked),
            8 => (
                format!("Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n"),
                chunked,
            ),
            _ => (
                format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", chunked.len()),
                chunked,
            ),
        }
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let host = prop_oneof![
        12 => Just("Host: localhost\r\n"),
        1 => select(vec!["", "Host: evil.example\r\n", "Host: localhost\r\nHost: localhost\r\n", "Host : localhost\r\n", " Host: localhost\r\n"]),
    ];
    let fields = prop::collection::vec(field(), 0..4);
    (request_line(), line_end(), host, fields, content(), line_end()).prop_map(
        |(line, end, host, fields, (framing, body), empty)| {
            format!("{line}{end}{host}{}{framing}{empty}{body}", fields.concat()).into_bytes()
        },
    )
}

#[derive(Debug, Clone)]
enum Fault {
    Insert(u8),
    Delete,
    Replace(u8),
    Repeat,
}

fn fault() -> impl Strategy<Value = (Index, Fault)> {
    let byte = prop_oneof![
        4 => select(b"\r\n\t \0:;,\"\\/#0\x0b\x7f\xff".to_vec()),
        1 => any::<u8>(),
    ];
    let fault = prop_oneof![
        byte.clone().prop_map(Fault::Insert),
        Just(Fault::Delete),
        byte.prop_map(Fault::Replace),
        Just(Fault::Repeat),
    ];
    (any::<Index>(), fault)
}

fn spoil(mut bytes: Vec<u8>, faults: Vec<(Index, Fault)>) -> Vec<u8> {
    for (at, fault) in faults {
        let at = at.index(bytes.len());
        match fault {
            Fault::Insert(byte) => bytes.insert(at, byte),
            Fault::Delete if bytes.len() > 1 => drop(bytes.remove(at)),
            Fault::Delete => {}
            Fault::Replace(byte) => bytes[at] = byte,
            Fault::Repeat => {
                let end = bytes.len().min(at + 24);
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// One or two messages, perhaps with a hidden one behind, perhaps spoilt, and where the bytes are cut in two.
fn input() -> impl Strategy<Value = (Vec<u8>, Option<Index>)> {
    let faults = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(fault(), 1..3)];
    let behind = select(vec!["", "", "", SMUGGLED]);
    let messages = prop_oneof![3 => prop::collection::vec(message(), 1), 1 => prop::collection::vec(message(), 2)];
    (messages, behind, faults, prop::option::of(any::<Index>())).prop_map(|(messages, behind, faults, cut)| {
        let whole = [messages.concat(), behind.as_bytes().to_vec()].concat();
        (spoil(whole, faults), cut)
    })
}

async fn provoke(bench: &Bench, bytes: &[u8], cut: Option<Index>) -> Since {
    let mark = bench.upstream.mark();
    let mut stream = TcpStream::connect(bench.proxy.address).await.unwrap();
    let (first, second) = bytes.split_at(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
    let _ = stream.write_all(first).await;
    if !second.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _ = stream.write_all(second).await;
    }
    let _ = stream.shutdown().await;
    let mut sink = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut sink)).await;
    let _ = read.expect("the connection ends");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    bench.upstream.since(&mark)
}

/// The requests that everybody reads in the same way, and the rest.
fn plain(mut bytes: &[u8]) -> (Vec<Request>, &[u8]) {
    let mut found = Vec::new();
    while let Ok(Some((request, length))) = strict_http::client_request(bytes) {
        found.push(request);
        bytes = &bytes[length..];
    }
    (found, bytes)
}

fn judge(bench: &Bench, bytes: &[u8], since: &Since) -> Result<(), TestCaseError> {
    let (sent, rest) = plain(bytes);
    let doubtful = usize::from(!rest.is_empty());
    prop_assert!(
        since.requests.len() + since.partial.len() <= sent.len() + doubtful,
        "{} and {} begun",
        since.requests.len(),
        since.partial.len()
    );
    for (came, sent) in since.requests.iter().zip(&sent) {
        prop_assert_eq!(
            (&came.method, &came.target, &came.body),
            (&sent.method, &sent.target, &sent.body)
        );
    }
    // Anything more is the first thing that the doubtful rest says, and no other.
    if let Some(repaired) = since.requests.get(sent.len()) {
        let start = rest.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(0);
        prop_assert!(
            rest[start..].starts_with(repaired.method.as_bytes()),
            "{:?} was made up",
            repaired
        );
    }
    for request in &since.requests {
        bench.clean(request).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

#[test]
fn whatever_a_client_sends_the_upstream_gets_clean_requests_and_no_more_than_were_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bench = runtime.block_on(Bench::start());
    let cases = std::env::var_os("PROPTEST_CASES").map_or(CASES, |_| Config::default().cases);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let served = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&input(), |(bytes, cut)| {
        let since = runtime.block_on(provoke(&bench, &bytes, cut));
        served.set(served.get() + since.requests.len());
        judge(&bench, &bytes, &since)
    });
    if let Err(why) = result {
        let shown = match &why {
            proptest::test_runner::TestError::Fail(_, (bytes, _)) => String::from_utf8_lossy(bytes).into_owned(),
            proptest::test_runner::TestError::Abort(_) => String::new(),
        };
        panic!("{why}\n{shown:?}");
    }
    // A grammar of which nothing gets through would show nothing.
    assert!(served.get() >= cases as usize / 20, "only {} were served", served.get());
}
