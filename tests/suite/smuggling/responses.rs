//! Hostile answers: what an upstream, or somebody who can write into its headers, sends towards the client and the next one.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Bench;
use crate::support::recording_upstream::{AUTHORIZATION, RecordingUpstream, Reply, ok};
use crate::support::strict_http::{self, Request, Response};

/// Answers `/n` with the nth of these, and all else with 200.
async fn bench(answers: Vec<Vec<u8>>, close: bool) -> Bench {
    let upstream = RecordingUpstream::start_with(move |request: &Request| {
        let number = request.target[1..].parse::<usize>().ok();
        match number.and_then(|number| answers.get(number)) {
            Some(bytes) => Reply {
                bytes: bytes.clone(),
                close,
            },
            None => ok(request),
        }
    })
    .await;
    Bench::before(upstream).await
}

/// One answer to one request; `None`: it was broken off, so that any client notices.
async fn ask(bench: &Bench, method: &str, target: &str) -> Option<Response> {
    let mut stream = TcpStream::connect(bench.proxy.address).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let read = tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut got)).await;
    // A reset is an end, too.
    let _ = read.expect("the proxy closes");
    let parsed = strict_http::response(&got, method == "HEAD", false)
        .unwrap_or_else(|why| panic!("the proxy's answer: {why}\n{:?}", String::from_utf8_lossy(&got)));
    let (answer, length) = parsed?;
    assert_eq!(
        length,
        got.len(),
        "bytes behind the answer: {:?}",
        String::from_utf8_lossy(&got)
    );
    Some(answer)
}

/// The connection that the last answer came on serves nobody else, or serves him well.
async fn next_is_clean(bench: &Bench, what: &str) {
    let next = ask(bench, "GET", "/next").await.expect(what);
    assert_eq!(
        (next.status, next.body.as_slice()),
        (200, &b"ok"[..]),
        "{what}: {next:?}"
    );
}

#[tokio::test]
async fn an_echoed_credential_never_comes_back_in_header_fields() {
    // What a body holds passes byte for byte: only an upstream that echoes credentials could put one there.
    let body = format!("you sent {AUTHORIZATION}");
    let echo = format!(
        "HTTP/1.1 200 OK\r\nAuthorization: {AUTHORIZATION}\r\nauthorization: again\r\nProxy-Authorization: {AUTHORIZATION}\r\n\
         WWW-Authenticate: {AUTHORIZATION}\r\nProxy-Authenticate: {AUTHORIZATION}\r\nAuthentication-Info: {AUTHORIZATION}\r\n\
         Proxy-Authentication-Info: {AUTHORIZATION}\r\nSet-Cookie: a={AUTHORIZATION}\r\nX-Echo: you sent {AUTHORIZATION}\r\nX-Debug: token-recorded\r\n\
         Location: /x?access_token=token-recorded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let trailers = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n2\r\nok\r\n0\r\n\
         Authorization: {AUTHORIZATION}\r\nWWW-Authenticate: {AUTHORIZATION}\r\nSet-Cookie: {AUTHORIZATION}\r\nX-Sum: 1\r\n\r\n"
    );
    let early = format!(
        "HTTP/1.1 103 Early Hints\r\nAuthorization: {AUTHORIZATION}\r\nLink: {AUTHORIZATION}\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    );
    let bench = bench(
        vec![echo.into_bytes(), trailers.into_bytes(), early.into_bytes()],
        false,
    )
    .await;
    for (target, expected) in [("/0", body.as_str()), ("/1", "ok"), ("/2", "ok")] {
        let answer = ask(&bench, "GET", target).await.unwrap();
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, expected.as_bytes()),
            "{target}"
        );
        let all = format!("{:?} {:?}", answer.fields, answer.trailers);
        assert!(!all.contains("token-recorded"), "{target}: {all}");
    }
}

#[tokio::test]
async fn an_echo_request_never_reaches_an_upstream_that_would_answer_it() {
    let bench = bench(Vec::new(), false).await;
    let mark = bench.upstream.mark();
    for method in ["TRACE", "trace", "TRACK", "TrAcK"] {
        let answer = ask(&bench, method, "/x").await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
    }
    assert!(bench.upstream.since(&mark).requests.is_empty());
}

#[tokio::test]
async fn redirects_are_passed_back_and_never_followed() {
    let elsewhere = RecordingUpstream::start().await;
    let address = elsewhere.address;
    let mut answers = Vec::new();
    for status in [301, 302, 303, 307, 308, 300, 305] {
        for location in [
            format!("http://{address}/x"),
            format!("//{address}/x"),
            format!("http://user:pw@{address}/x"),
            format!("/x?to=http://{address}"),
        ] {
            let bytes = format!(
                "HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nRefresh: 0; url={location}\r\nContent-Length: 0\r\n\r\n"
            );
            answers.push((status, location, bytes));
        }
    }
    let bench = bench(
        answers.iter().map(|(.., bytes)| bytes.clone().into_bytes()).collect(),
        false,
    )
    .await;
    let mark = bench.upstream.mark();
    for (number, (status, location, _)) in answers.iter().enumerate() {
        let answer = ask(&bench, "GET", &format!("/{number}")).await.unwrap();
        assert_eq!(
            (answer.status, answer.all("location")),
            (*status, vec![location.as_str()])
        );
    }
    assert_eq!(bench.upstream.since(&mark).requests.len(), answers.len());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(
        elsewhere.everything().is_empty(),
        "somebody connected to the other host"
    );
}

#[tokio::test]
async fn control_characters_in_the_upstreams_header_fields_give_502() {
    let heads = [
        "X: y\rSet-Cookie: evil\r\n",
        "X: y\r\rZ: a\r\n",
        "X: \0\r\n",
        "X: y\0z\r\n",
        "X\0Y: z\r\n",
        "X: \u{1b}[31m\r\n",
        "X: \u{7f}\r\n",
        "X: \u{b}\r\n",
        "X Y: z\r\n",
        ": y\r\n",
        "X\r\n",
        "X\rY: z\r\n",
        "Location: http://x/\r\rSet-Cookie: a\r\n",
        "Location: http://x/\0\r\n",
        "X: y\r\n folded: z\r\n",
        " X: y\r\n",
    ];
    let answers = heads
        .iter()
        .map(|head| format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\n\r\nok").into_bytes());
    let bench = bench(answers.collect(), true).await;
    let mut faults = Vec::new();
    for (number, head) in heads.iter().enumerate() {
        match ask(&bench, "POST", &format!("/{number}")).await {
            Some(answer)
                if answer.status == 502 && answer.all("x-atlas-auth-proxy-error") == ["PROXY_UPSTREAM_UNREACHABLE"] => {
            }
            other => faults.push(format!("{head:?}: {other:?}")),
        }
        next_is_clean(&bench, head).await;
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        heads.len(),
        faults.join("\n")
    );
}

/// RFC 9112 section 2.2 lets a recipient take LF alone for the end of a line. Not here.
#[tokio::test]
async fn a_bare_lf_in_the_upstreams_head_is_refused() {
    let heads = [
        "X: y\nSet-Cookie: evil\r\n",
        "X: y\n\nHTTP/1.1 200 OK\r\nSet-Cookie: evil\r\n",
    ];
    let answers = heads
        .iter()
        .map(|head| format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\n\r\nok").into_bytes());
    let bench = bench(answers.collect(), true).await;
    for (number, head) in heads.iter().enumerate() {
        let answer = ask(&bench, "POST", &format!("/{number}"))
            .await
            .expect("one whole answer");
        assert_eq!(answer.status, 502, "{head:?}: {answer:?}");
        assert!(answer.all("set-cookie").is_empty(), "{head:?}: {answer:?}");
        next_is_clean(&bench, head).await;
    }
}

#[tokio::test]
async fn answers_with_doubtful_framing_are_refused_or_broken_off_and_never_meet_the_next_client() {
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    let cases: Vec<String> = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        "HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 High\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\0\0\u{12}\u{4}\0\0\0\0\0",
    ]
    .into_iter()
    .map(|bytes| format!("{bytes}{smuggled}"))
    .collect();
    let bench = bench(cases.iter().map(|case| case.clone().into_bytes()).collect(), true).await;
    let mut faults = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if let Some(answer) = ask(&bench, "POST", &format!("/{number}")).await
            && answer.status != 502
        {
            faults.push(format!("{case:?}: {answer:?}"));
        }
        next_is_clean(&bench, case).await;
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

#[tokio::test]
async fn two_framings_of_an_answer_become_the_one_that_it_was_read_by() {
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let cases = [
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n{chunked}"),
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 300\r\n{chunked}"),
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
    ];
    let bench = bench(cases.iter().map(|case| case.clone().into_bytes()).collect(), false).await;
    for (number, case) in cases.iter().enumerate() {
        let answer = ask(&bench, "GET", &format!("/{number}")).await.expect(case);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{case:?}");
        next_is_clean(&bench, case).await;
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_become_the_next_clients_answer() {
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    for (method, answer) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 47\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 47\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let bench = bench(vec![format!("{answer}{smuggled}").into_bytes()], false).await;
        let first = ask(&bench, method, "/0").await;
        if let Some(first) = first {
            assert!(
                !first.body.starts_with(b"smuggled") && !first.body.starts_with(b"HTTP"),
                "{answer:?}: {first:?}"
            );
        }
        next_is_clean(&bench, answer).await;
        next_is_clean(&bench, answer).await;
    }
}

#[tokio::test]
async fn interim_answers_with_hostile_fields_leave_no_trace() {
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let good: Vec<String> = [
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        "HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=b\r\nConnection: close\r\nX-Evil: 1\r\n\r\n".to_owned(),
        "HTTP/1.1 102 Processing\r\nLocation: http://evil.example/\r\n\r\n".to_owned(),
        "HTTP/1.1 199 Odd\r\nX-Evil: 1\r\n\r\n".repeat(50),
    ]
    .into_iter()
    .map(|interim| interim + last)
    .collect();
    let bad: Vec<String> = [
        "HTTP/1.1 103 Early Hints\r\nX: \0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nX: y\rZ: a\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ]
    .into_iter()
    .map(|interim| interim.to_owned() + last)
    .collect();
    // An interim answer has no content: with these fields it does not frame anything (RFC 9112 section 6.3).
    let framed: Vec<String> = [
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 38\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]
    .into_iter()
    .map(|interim| interim.to_owned() + last)
    .collect();
    let all = [&good[..], &bad[..], &framed[..]].concat();
    let bench = bench(all.iter().map(|case| case.clone().into_bytes()).collect(), false).await;
    for (number, case) in all.iter().enumerate() {
        let answer = ask(&bench, "POST", &format!("/{number}")).await;
        let is_ok = answer.as_ref().is_some_and(|answer| {
            answer.status == 200
                && answer.body == b"ok"
                && answer.all("x-evil").is_empty()
                && answer.all("set-cookie").is_empty()
        });
        let is_502 = answer.as_ref().is_some_and(|answer| answer.status == 502);
        let right = match number {
            n if n < good.len() => is_ok,
            n if n < good.len() + bad.len() => is_502,
            _ => is_ok || is_502,
        };
        assert!(right, "{case:?}: {answer:?}");
        next_is_clean(&bench, case).await;
    }
}
