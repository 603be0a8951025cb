//! Which host a request names, and how often.

use super::{Bench, Case, Want};

#[tokio::test]
async fn a_request_names_one_host_and_that_is_ours() {
    let request = |host_lines: &str| format!("GET /x HTTP/1.1\r\n{host_lines}\r\n");
    let mut cases = Vec::new();
    for lines in [
        "",
        "X: localhost\r\n",
        "X-Forwarded-Host: localhost\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: evil.example\r\nHost: localhost\r\n",
        "Host: localhost\r\nhOST: localhost\r\n",
        "Host: localhost\r\nX: y\r\nHost:\r\n",
        "Host: localhost\r\nHost : evil.example\r\n",
        "Host_: localhost\r\n",
    ] {
        cases.push(Case::new("none, or two", request(lines), Want::Refused));
    }
    for host in [
        "",
        " ",
        "evil.example",
        "cloud.mongodb.com",
        "localhost.evil.example",
        "evil.localhost",
        "localhost, evil.example",
        "localhost,localhost",
        "localhost evil.example",
        "localhost\tevil.example",
        "localhost;evil.example",
        "user@localhost",
        "localhost@evil.example",
        "evil.example#@localhost",
        "localhost:80@evil.example",
        "localhost:",
        "localhost:0x50",
        "localhost:-1",
        "localhost:+80",
        "localhost: 80",
        "localhost :80",
        "localhost:65536",
        "localhost:99999999999999999999",
        "localhost:80:80",
        "localhost:80/x",
        "localhost.",
        "localhost.:80",
        ".localhost",
        "LOCALHOST.",
        "[::1%25lo]",
        "[::1%lo]",
        "[::1%25lo]:80",
        "[::1",
        "::1",
        "::1]:80",
        "[::1]x",
        "[[::1]]",
        "[127.0.0.1]",
        "[localhost]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "0.0.0.0",
        "0",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "127.0.0.1.",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "local%68ost",
        "localhost%00",
        "localhost%2eevil.example",
        "localhost/",
        "localhost/x",
        "localhost\\",
        "localhost\\@evil.example",
        "localhost?",
        "localhost#",
        "localhost'",
        "\"localhost\"",
        "<localhost>",
        "http://localhost",
        "//localhost",
        "*",
        "\u{ff4c}ocalhost",
        "loc\u{e1}lhost",
        "xn--localhost",
    ] {
        // A name with an empty port is a name (RFC 3986 section 3.2.3).
        let want = if host == "localhost:" {
            Want::Served
        } else {
            Want::Refused
        };
        cases.push(Case::new("host", request(&format!("Host: {host}\r\n")), want).method("GET"));
    }
    for control in [
        "localhost\0",
        "localhost\0.evil.example",
        "\0localhost",
        "localhost\u{b}",
        "localhost\u{7f}",
        "localhost\u{a0}",
        "localhost\r.evil",
    ] {
        cases.push(Case::new(
            "control",
            request(&format!("Host: {control}\r\n")),
            Want::Refused,
        ));
    }
    for host in [
        "localhost",
        "LocalHost:1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
        " localhost ",
        "\tlocalhost\t",
    ] {
        cases.push(Case::new("ours", request(&format!("Host: {host}\r\n")), Want::Served).method("GET"));
    }
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn the_target_and_the_host_header_must_both_be_ours() {
    let mut cases = Vec::new();
    for (target, host) in [
        ("http://localhost/x", "evil.example"),
        ("http://evil.example/x", "localhost"),
        ("http://localhost/x", "localhost, evil.example"),
        ("http://localhost/x", ""),
        ("http://user@localhost/x", "localhost"),
        ("http://localhost:99999/x", "localhost"),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        cases.push(Case::new("contradiction", bytes, Want::Refused));
    }
    cases.push(Case::new(
        "absolute-form without Host",
        "GET http://localhost/x HTTP/1.1\r\n\r\n",
        Want::Refused,
    ));
    cases.push(Case::new(
        "absolute-form with two Hosts",
        "GET http://localhost/x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        Want::Refused,
    ));
    cases.push(
        Case::new(
            "other name of ours",
            "GET http://localhost:1/x HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n",
            Want::Either,
        )
        .method("GET"),
    );
    cases.push(Case::new(
        "HTTP/1.0 without Host",
        "GET /x HTTP/1.0\r\n\r\n",
        Want::Refused,
    ));
    cases.push(Case::new(
        "HTTP/1.0 of another host",
        "GET /x HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        Want::Refused,
    ));
    Bench::start().await.check(cases).await;
}
