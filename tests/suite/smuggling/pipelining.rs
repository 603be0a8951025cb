//! Several requests on one connection: each is served in its turn, and none behind one that was refused.

use super::{Bench, SMUGGLED};

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// What is expected to end has the time that it needs; what is not, a moment in which it must not.
async fn targets(bench: &Bench, bytes: &str, finals: usize, ends: bool) -> (Vec<String>, Vec<u16>, bool) {
    let grace = if ends {
        super::PATIENCE
    } else {
        std::time::Duration::from_millis(300)
    };
    let outcome = bench.exchange_within(bytes.as_bytes(), false, finals, grace).await;
    for request in &outcome.since.requests {
        bench.clean(request).unwrap();
    }
    assert!(outcome.since.partial.is_empty(), "{bytes:?}: {outcome:?}");
    (
        outcome
            .since
            .requests
            .into_iter()
            .map(|request| request.target)
            .collect(),
        outcome.answers.iter().map(|answer| answer.status).collect(),
        outcome.closed,
    )
}

#[tokio::test]
async fn good_requests_are_served_in_their_order() {
    let bench = Bench::start().await;
    let three =
        get("/1", "") + "POST /2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" + &get("/3", "");
    let (seen, statuses, closed) = targets(&bench, &three, 3, false).await;
    assert_eq!(
        (seen, statuses, closed),
        (vec!["/1".into(), "/2".into(), "/3".into()], vec![200; 3], false)
    );
    let chunked =
        "POST /4 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned();
    let (seen, statuses, _) = targets(&bench, &(chunked + &get("/5", "")), 2, false).await;
    assert_eq!((seen, statuses), (vec!["/4".into(), "/5".into()], vec![200; 2]));
}

const BAD: [&str; 16] = [
    "GET /bad HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
    "GET /bad HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "GET /bad HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n",
    "GET /bad HTTP/1.1\r\n\r\n",
    "GET /bad#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET http://evil.example/bad HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET  /bad HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /bad HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "TRACE /bad HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello",
    "POST /bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 6\r\n\r\nhello",
    "POST /bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST /bad HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "GET /bad HTTP/1.1\nHost: localhost\n\n",
];

#[tokio::test]
async fn nothing_behind_a_refused_request_is_read_as_a_request() {
    let bench = Bench::start().await;
    for bad in BAD {
        let (seen, statuses, closed) = targets(&bench, &(bad.to_owned() + SMUGGLED), 1, true).await;
        assert!(seen.is_empty(), "{bad:?}: {seen:?}");
        assert!(
            statuses.len() <= 1 && statuses.iter().all(|status| *status >= 400),
            "{bad:?}: {statuses:?}"
        );
        assert!(closed, "{bad:?}: the connection goes on");
    }
}

#[tokio::test]
async fn a_bad_request_behind_a_good_one_changes_nothing_about_it() {
    let bench = Bench::start().await;
    for bad in BAD {
        let (seen, statuses, closed) = targets(&bench, &(get("/good", "") + bad + SMUGGLED), 2, true).await;
        // The good one is served, or nothing is: never anything else.
        assert!(seen.is_empty() || seen == ["/good"], "{bad:?}: {seen:?}");
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            seen.len(),
            "{bad:?}: {statuses:?}"
        );
        assert!(statuses.len() <= 2 && closed, "{bad:?}: {statuses:?}, closed: {closed}");
    }
}

#[tokio::test]
async fn the_content_of_a_refused_request_is_never_read_as_a_request() {
    let bench = Bench::start().await;
    for refused in [
        "POST /bad HTTP/1.1\r\nHost: evil.example\r\n",
        "POST /bad HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n",
        "POST http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n",
        "TRACE /bad HTTP/1.1\r\nHost: localhost\r\n",
        "POST /api/oauth/introspect HTTP/1.1\r\nHost: localhost\r\n",
        "GET /api/oauth/token HTTP/1.1\r\nHost: localhost\r\n",
        // Served, but not by the upstream.
        "POST /api/oauth/token HTTP/1.1\r\nHost: localhost\r\n",
        "POST /api/oauth/revoke HTTP/1.1\r\nHost: localhost\r\n",
    ] {
        let length = SMUGGLED.len();
        let sized = format!("{refused}Content-Length: {length}\r\n\r\n{SMUGGLED}");
        let chunked = format!("{refused}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
        // More than the proxy would read away.
        let large = format!(
            "{refused}Content-Length: {}\r\n\r\n{}",
            length * 20_000,
            SMUGGLED.repeat(20_000)
        );
        for bytes in [sized, chunked, large] {
            let (seen, statuses, _) = targets(&bench, &bytes, 1, false).await;
            assert!(
                seen.is_empty() && statuses.len() <= 1,
                "{refused:?}: {seen:?} {statuses:?}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_is_read_behind_connection_close() {
    let bench = Bench::start().await;
    for lines in [
        "Connection: close\r\n",
        "Connection: Close\r\n",
        "Connection: x, close\r\n",
        "Connection: keep-alive, close\r\n",
    ] {
        let (seen, statuses, closed) = targets(&bench, &(get("/1", lines) + SMUGGLED), 2, true).await;
        assert_eq!(
            (seen, statuses, closed),
            (vec!["/1".into()], vec![200], true),
            "{lines:?}"
        );
    }
    let old = format!("GET /1 HTTP/1.0\r\nHost: localhost\r\n\r\n{SMUGGLED}");
    let (seen, statuses, closed) = targets(&bench, &old, 2, true).await;
    assert_eq!((seen, statuses, closed), (vec!["/1".into()], vec![200], true));
}
