//! Header fields that ask to be more than they are: credentials, `Connection`, forwarded addresses, `Expect`, `Upgrade`.

use super::{Bench, Case, SMUGGLED, Want, get, post};

#[tokio::test]
async fn a_clients_credentials_end_here_in_every_casing() {
    let mut cases = Vec::new();
    for field in [
        "Authorization",
        "authorization",
        "AUTHORIZATION",
        "aUtHoRiZaTiOn",
        "Proxy-Authorization",
        "proxy-authorization",
        "PROXY-AUTHORIZATION",
        "Proxy_Authorization",
        "Cookie",
        "COOKIE",
    ] {
        for value in [
            "Bearer mine",
            "Basic bWluZTptaW5l",
            "Digest username=\"mine\"",
            "",
            "mine, Bearer token-recorded",
        ] {
            cases.push(Case::new("credential", get(&format!("{field}: {value}\r\n")), Want::Served).method("GET"));
        }
    }
    for lines in [
        "Authorization: Bearer one\r\nAuthorization: Bearer two\r\n",
        "Authorization: Bearer one\r\nX: y\r\nauthorization: Basic two\r\nProxy-Authorization: three\r\n",
        "Authorization: Bearer one\r\nConnection: authorization\r\n",
        "Connection: Authorization, close\r\n",
        "Connection: keep-alive, AUTHORIZATION, Proxy-Authorization\r\n",
    ] {
        cases.push(Case::new("several, or nominated", get(lines), Want::Served).method("GET"));
    }
    for field in ["Authorization_", "Author_ization", "X-Authorization", "Authorization-"] {
        cases.push(Case::new("another name", get(&format!("{field}: Bearer mine\r\n")), Want::Either).method("GET"));
    }
    for lines in [
        "Authorization : Bearer mine\r\n",
        "Authorization:\r\n Bearer mine\r\n",
        "X: y\r\n Authorization: Bearer mine\r\n",
        "X: y\rAuthorization: Bearer mine\r\n",
        "X: y\nAuthorization: Bearer mine\r\n",
        "Authorization\0: Bearer mine\r\n",
        " Authorization: Bearer mine\r\n",
    ] {
        cases.push(Case::new("in disguise", get(lines), Want::Refused));
    }
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn connection_names_neither_framing_nor_host_nor_credential() {
    let mut cases = Vec::new();
    for nominated in [
        "Authorization",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Content-Type",
        "Trailer",
        "TE",
        "Connection",
        "close, Content-Length",
        "keep-alive, Host, Authorization, Content-Length, Transfer-Encoding",
        "X-Mine",
        "X-Forwarded-For",
        ",",
        "",
        "Content_Length",
        "\"close\"",
        "cLOSE",
    ] {
        let lines =
            format!("Connection: {nominated}\r\nX-Mine: y\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 5\r\n");
        cases.push(Case::new("with a length", post(&lines, "hello"), Want::Served).body("hello"));
        let lines = format!("Connection: {nominated}\r\nX-Mine: y\r\nTransfer-Encoding: chunked\r\n");
        cases.push(Case::new("chunked", post(&lines, "5\r\nhello\r\n0\r\n\r\n"), Want::Served).body("hello"));
    }
    let bench = Bench::start().await;
    bench.check(cases).await;
    let mark = bench.upstream.mark();
    bench
        .exchange(&get("Connection: x-mine\r\nX-Mine: y\r\nX-Other: z\r\n"), false, 1)
        .await;
    let since = bench.upstream.since(&mark);
    assert!(since.requests[0].all("x-mine").is_empty());
    assert_eq!(since.requests[0].all("x-other"), ["z"]);
}

#[tokio::test]
async fn where_a_request_came_from_and_what_it_really_means_is_not_the_clients_to_say() {
    let mut cases = Vec::new();
    for field in [
        "Forwarded: for=1.2.3.4;host=evil.example",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 127.0.0.1",
        "X-Original-URL: /smuggled",
        "X-Rewrite-URL: /smuggled",
        "X_Forwarded_For: 127.0.0.1",
        "X-Forwarded_For: 127.0.0.1",
        "x_real_ip: 127.0.0.1",
        "X_Original_URL: /smuggled",
        "Via: 1.1 evil",
        "Keep-Alive: timeout=5, max=1000",
        "Proxy-Connection: keep-alive",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        "TE: gzip, trailers;q=0.5",
        "TE: chunked",
    ] {
        cases.push(Case::new("claim", get(&format!("{field}\r\n")), Want::Served).method("GET"));
    }
    let bench = Bench::start().await;
    bench.check(cases).await;
    let mark = bench.upstream.mark();
    let more = [
        "True-Client-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "Client-IP",
        "X-Original-Host",
        "X-Original-Method",
        "X-HTTP-Host-Override",
        "X-Envoy-Original-Path",
        "X-Host",
        "X-Remote-User",
        "Remote-User",
        "Client-Cert",
        "X-Atlas-Auth-Proxy-Error",
    ];
    let lines: String = more.iter().map(|name| format!("{name}: 127.0.0.1\r\n")).collect();
    bench.exchange(&get(&lines), false, 1).await;
    let fields = &bench.upstream.since(&mark).requests[0].fields;
    let left: Vec<_> = fields.iter().filter(|(_, value)| value == "127.0.0.1").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn nothing_is_upgraded() {
    let mut cases = Vec::new();
    for lines in [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Upgrade: TLS/1.2\r\nConnection: upgrade\r\n",
        "Upgrade: h2c\r\n",
        "Connection: Upgrade\r\n",
    ] {
        cases.push(Case::new("upgrade", get(lines), Want::Either).method("GET"));
    }
    cases.push(
        Case::new(
            "h2c by prior knowledge",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
            Want::Refused,
        )
        .half_close(),
    );
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn an_expectation_does_not_change_where_a_message_ends() {
    let mut cases = Vec::new();
    for value in ["100-continue", "100-Continue", "100-CONTINUE"] {
        let lines = format!("Expect: {value}\r\nContent-Length: 5\r\n");
        cases.push(Case::new("length", post(&lines, "hello"), Want::Served).body("hello"));
        let lines = format!("Expect: {value}\r\nTransfer-Encoding: chunked\r\n");
        cases.push(Case::new("chunked", post(&lines, "5\r\nhello\r\n0\r\n\r\n"), Want::Served).body("hello"));
    }
    for lines in [
        "Expect: 100-continue, 100-continue\r\nContent-Length: 5\r\n",
        "Expect: 200-ok\r\nContent-Length: 5\r\n",
        "Expect: x\r\nContent-Length: 5\r\n",
        "Expect:\r\nContent-Length: 5\r\n",
        "Expect: y 100-continue\r\nContent-Length: 5\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
        "Expect_: 100-continue\r\nContent-Length: 5\r\n",
    ] {
        cases.push(Case::new("another expectation", post(lines, "hello"), Want::Either).body("hello"));
    }
    // A refused request's content is content, whether the client waited or not.
    for lines in [
        "Expect: 100-continue\r\nOrigin: https://evil.example\r\n",
        "Expect: 100-continue\r\nX-Y: z\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        let lines = format!("{lines}Content-Length: {}\r\n", SMUGGLED.len());
        cases.push(Case::new("refused at once", post(&lines, SMUGGLED), Want::Status(403)));
    }
    cases.push(Case::new("without content", get("Expect: 100-continue\r\n"), Want::Either).method("GET"));
    Bench::start().await.check(cases).await;
}
