//! A listener that speaks TLS: who may come in, and that it serves HTTP/2 and HTTP/1.1 as a plain one serves HTTP/1.1.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use atlas_auth_proxy::server::{Clients, ListenerTls, NamePattern};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::{raw, read_body, read_head, read_to_end};
use crate::support::needs::needs;
use crate::support::proxy::{Proxy, ProxyBuilder};
use crate::support::tls::{Identity, TestCa, expired, for_clients, for_servers_only, not_yet_valid};
use crate::support::upstream::{Answer, Upstream, full, json};
use crate::support::{PATIENCE, until};

const APP: &str = "spiffe://example.org/ns/apps/sa/web";

async fn ok(_: Request<Incoming>) -> Answer {
    json(200, "{}")
}

/// An authority, an upstream, and a proxy before it that demands certificates of the authority.
struct Story {
    ca: TestCa,
    upstream: Upstream,
    proxy: Proxy,
}

fn listener_tls(ca: &TestCa, names: Option<&[&str]>) -> ListenerTls {
    let server = ca.identity(&["localhost"], |_| ());
    let clients = names.map(|names| Clients {
        ca: ca.pem.as_bytes(),
        names: names.iter().map(|name| NamePattern::parse(name).unwrap()).collect(),
        crl: None,
        optional: false,
    });
    ListenerTls::new(server.certificate.as_bytes(), server.key.as_bytes(), clients).unwrap()
}

async fn story(upstream: Upstream, names: Option<&[&str]>, change: impl FnOnce(ProxyBuilder) -> ProxyBuilder) -> Story {
    let ca = TestCa::new();
    let tls = listener_tls(&ca, names);
    let builder = upstream.proxy().with(|s| s.listeners[0].tls = Some(tls));
    let proxy = change(builder).start().await;
    Story { ca, upstream, proxy }
}

impl Story {
    fn app(&self) -> Identity {
        self.ca.identity(&[APP], for_clients)
    }

    async fn connect(&self, identity: Option<&Identity>, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.proxy.address).await?;
        TlsConnector::from(self.ca.client(identity, alpn))
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
    }

    async fn h2(&self) -> TlsStream<TcpStream> {
        let stream = self.connect(Some(&self.app()), &["h2"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream
    }

    /// One request over a connection of its own.
    async fn get(&self, alpn: &str, path: &str) -> (StatusCode, http::HeaderMap, Bytes) {
        let stream = self.connect(Some(&self.app()), &[alpn]).await.unwrap();
        let io = TokioIo::new(stream);
        let request = Request::get(format!("https://localhost:{}{path}", self.proxy.address.port()));
        let response = if alpn == "h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
            tokio::spawn(connection);
            sender
                .send_request(request.body(Full::<Bytes>::default()).unwrap())
                .await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let mut request = request.body(Full::<Bytes>::default()).unwrap();
            let host = format!("localhost:{}", self.proxy.address.port());
            request.headers_mut().insert("host", host.parse().unwrap());
            *request.uri_mut() = path.parse().unwrap();
            sender.send_request(request).await
        };
        let (parts, body) = response.unwrap().into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }
}

#[tokio::test]
async fn a_client_with_the_right_certificate_is_served_over_both_versions_of_http() {
    let upstream = Upstream::start(|request: Request<Incoming>| async move {
        let link = format!(
            "https://{}/api/atlas/v2/groups",
            request.headers()["host"].to_str().unwrap()
        );
        json(200, format!(r#"{{"links":[{{"href":"{link}","rel":"self"}}]}}"#))
    })
    .await;
    let story = story(upstream, Some(&["spiffe://example.org/ns/apps/sa/*"]), |b| b).await;
    for alpn in ["h2", "http/1.1"] {
        let (status, headers, body) = story.get(alpn, "/api/atlas/v2/groups?a=b").await;
        assert_eq!(status, 200);
        assert!(!headers.contains_key("connection"));
        let mine = format!("https://localhost:{}/api/atlas/v2/groups", story.proxy.address.port());
        assert!(String::from_utf8_lossy(&body).contains(&mine), "{alpn}: {body:?}");
        let seen = story.upstream.last();
        assert_eq!(seen.uri, "/api/atlas/v2/groups?a=b");
        assert_eq!(seen.headers["authorization"], "Bearer token-1");
        assert_eq!(seen.headers.get_all("host").iter().count(), 1);
    }
}

#[tokio::test]
async fn other_clients_are_refused_in_the_handshake() {
    let story = story(
        Upstream::start(ok).await,
        Some(&["spiffe://example.org/ns/apps/sa/*", "app.example.org"]),
        |b| b,
    )
    .await;
    let stranger = TestCa::new();
    let cases: [(&str, Option<Identity>); 8] = [
        ("no certificate", None),
        ("another authority", Some(stranger.identity(&[APP], for_clients))),
        ("expired", Some(story.ca.identity(&[APP], expired))),
        ("not yet valid", Some(story.ca.identity(&[APP], not_yet_valid))),
        ("for servers", Some(story.ca.identity(&[APP], for_servers_only))),
        (
            "another name",
            Some(
                story
                    .ca
                    .identity(&["spiffe://example.org/ns/other/sa/web"], for_clients),
            ),
        ),
        (
            "a longer name",
            Some(story.ca.identity(&["app.example.org.evil"], for_clients)),
        ),
        ("no name", Some(story.ca.identity(&[], for_clients))),
    ];
    for (what, identity) in &cases {
        for alpn in ["h2", "http/1.1"] {
            // In TLS 1.3 the client's side may be done before the server has refused it: then the first read tells.
            let refused = match story.connect(identity.as_ref(), &[alpn]).await {
                Err(_) => true,
                Ok(mut stream) => {
                    let _ = stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                        .await;
                    stream.read_u8().await.is_err()
                }
            };
            assert!(refused, "{what}");
        }
    }
    assert!(story.upstream.seen().is_empty());
    let denied = story
        .proxy
        .metric("atlas_auth_proxy_denied_total", &[("reason", "tls")])
        .await;
    assert_eq!(denied, 2.0 * cases.len() as f64);
    assert_eq!(story.get("h2", "/").await.0, 200, "the right one is still served");
}

#[tokio::test]
async fn a_dns_name_is_a_name_too() {
    let story = story(Upstream::start(ok).await, Some(&["*.apps.example.org"]), |b| b).await;
    for (name, served) in [("web.apps.example.org", true), ("a.web.apps.example.org", false)] {
        let identity = story.ca.identity(&[name], for_clients);
        let answered = match story.connect(Some(&identity), &["http/1.1"]).await {
            Err(_) => false,
            Ok(mut stream) => {
                let _ = stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .await;
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                answer.starts_with(b"HTTP/1.1 200 ")
            }
        };
        assert_eq!(answered, served, "{name}");
    }
}

#[tokio::test]
async fn without_a_client_ca_no_certificate_is_asked_for() {
    let story = story(Upstream::start(ok).await, None, |b| b).await;
    let mut stream = story.connect(None, &["http/1.1"]).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let Some(openssl) = needs(&["openssl"], "openssl") else {
        return;
    };
    let story = story(Upstream::start(ok).await, None, |b| b).await;
    let try_version = |version: &'static str| {
        let (openssl, address) = (openssl.clone(), story.proxy.address.to_string());
        async move {
            let output = tokio::process::Command::new(openssl)
                .args(["s_client", "-connect", &address, version, "-cipher", "ALL:@SECLEVEL=0"])
                .stdin(std::process::Stdio::null())
                .output()
                .await
                .unwrap();
            (
                output.status.success(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        }
    };
    for version in ["-tls1", "-tls1_1"] {
        assert!(!try_version(version).await.0, "{version}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let (ok, said) = try_version(version).await;
        assert!(ok, "{version}: {said}");
        assert!(
            said.contains("GCM") || said.contains("CHACHA20"),
            "an AEAD cipher: {said}"
        );
        assert!(
            !said.contains("Secure Renegotiation IS NOT supported") || version == "-tls1_3",
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended() {
    let story = story(Upstream::start(ok).await, None, |b| b).await;
    let mut silent = TcpStream::connect(story.proxy.address).await.unwrap();
    // The clock runs ahead to whatever is waited for.
    tokio::time::pause();
    assert_eq!(read_to_end(&mut silent).await, "");
    tokio::time::resume();
    // A handshake, and then half a head.
    let mut stream = story.connect(None, &["http/1.1"]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
    tokio::time::pause();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn plain_http_on_a_tls_port_and_the_reverse_end_at_once() {
    let story = story(Upstream::start(ok).await, None, |b| b).await;
    let answer = raw(story.proxy.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.contains("PROXY_BAD_REQUEST") && answer.contains("https://"),
        "{answer}"
    );
    let denied = async || {
        let labels = [("reason", "tls")];
        story.proxy.metric("atlas_auth_proxy_denied_total", &labels).await
    };
    assert_eq!(denied().await, 1.0);
    // Load balancers look whether a port is open: nobody is refused by that.
    drop(TcpStream::connect(story.proxy.address).await.unwrap());
    assert_eq!(
        raw(story.proxy.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .get(..12),
        Some("HTTP/1.1 400")
    );
    assert_eq!(denied().await, 2.0);
    let plain = story.upstream.proxy().start().await;
    let answer = raw(plain.address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("http://"),
        "{answer}"
    );
    assert!(story.upstream.seen().is_empty());
}

#[tokio::test]
async fn the_guard_is_the_same_over_http2() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(story.h2().await))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut send = async |request: http::request::Builder| -> Response<Incoming> {
        sender
            .send_request(request.body(Full::<Bytes>::default()).unwrap())
            .await
            .unwrap()
    };
    let many = (0..120).fold(Request::get("https://localhost/"), |request, i| {
        request.header(format!("x-{i}"), "1")
    });
    for (request, status, code) in [
        (Request::get("https://evil.example/"), 421, "PROXY_HOST_DENIED"),
        (
            Request::get("https://localhost/").header("host", "evil.example"),
            400,
            "PROXY_BAD_REQUEST",
        ),
        (
            Request::get("https://localhost/").header("origin", "https://localhost"),
            403,
            "PROXY_BROWSER_DENIED",
        ),
        (
            Request::builder().method("TRACE").uri("https://localhost/"),
            405,
            "PROXY_METHOD_NOT_ALLOWED",
        ),
        (many, 431, "PROXY_HEADERS_TOO_LARGE"),
    ] {
        let response = send(request).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-atlas-auth-proxy-error"], code);
        assert!(!response.headers().contains_key("connection"));
    }
    assert!(story.upstream.seen().is_empty());
    // One stream's refusal is not the connection's end.
    assert_eq!(send(Request::get("https://localhost/")).await.status(), 200);
}

/// What decides over HTTP/1.1 decides here: browsers, the required header, rules under every reading (S1, S2, S8).
#[tokio::test]
async fn browsers_headers_and_rules_are_judged_the_same_over_http2() {
    use atlas_auth_proxy::guard::{Action, PathPattern, Policy, RequiredHeader, Rule};
    let rule = |path: &str, action| Rule::new(Vec::new(), PathPattern::parse(path).unwrap(), action);
    let rules = vec![
        rule("/first/{id}/secret/**", Action::Deny),
        rule("/first/**", Action::Allow),
    ];
    let story = story(Upstream::start(ok).await, Some(&[]), |b| {
        b.with(|s| {
            s.listeners[0].rules.policy = Policy::new(false, rules, Action::Deny);
            let header = http::HeaderName::from_static("x-required");
            s.listeners[0].rules.required_header = Some(RequiredHeader::new(header));
        })
    })
    .await;
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(story.h2().await))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut send = async |path: &str, headers: &[(&str, &str)]| -> (u16, Option<String>) {
        let request = headers.iter().fold(
            Request::get(format!("https://localhost{path}")),
            |request, (name, value)| request.header(*name, *value),
        );
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let code = response.headers().get("x-atlas-auth-proxy-error");
        let code = code.map(|code| code.to_str().unwrap().to_owned());
        assert_eq!(
            response.headers()["content-security-policy"],
            "sandbox; default-src 'none'"
        );
        (response.status().as_u16(), code)
    };
    let browser = (403, Some("PROXY_BROWSER_DENIED".to_owned()));
    for headers in [
        &[("sec-fetch-site", "same-origin")][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "none")],
        &[
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "document"),
        ],
        &[("origin", "https://localhost")],
        &[("referer", "https://evil.example/")],
        &[("referer", "http://localhost/")],
    ] {
        let headers = [headers, &[("x-required", "1")]].concat();
        assert_eq!(send("/first/1/open", &headers).await, browser, "{headers:?}");
    }
    let header = (403, Some("PROXY_HEADER_REQUIRED".to_owned()));
    for headers in [
        &[][..],
        &[("x-required", "")],
        &[("x-required", "a"), ("x-required", "b")],
    ] {
        assert_eq!(send("/first/1/open", headers).await, header, "{headers:?}");
    }
    let denied = (403, Some("PROXY_RULE_DENIED".to_owned()));
    for path in [
        "/first/1/secret",
        "/FIRST/1/Secret/x?y",
        "/first/1/%73ecret",
        "/first/1//secret",
        "/first/1/x/../secret",
        "/first/1/x/%2e%2e/secret",
        "/first/1%2Fsecret",
        "/first/1/secret;x=y",
        "/first/1\\secret",
        "/first/1/secret%00",
        "/first/a%2F..%2F1/x",
        "/second/1",
    ] {
        assert_eq!(send(path, &[("x-required", "1")]).await, denied, "{path}");
    }
    assert!(story.upstream.seen().is_empty(), "{:?}", story.upstream.seen());
    for path in ["/first/1/open", "/first/10.1.0.0%2F16/open?a=/secret"] {
        let good = [
            ("x-required", "1"),
            ("referer", "https://localhost/first"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(send(path, &good).await, (200, None), "{path}");
        assert_eq!(story.upstream.last().uri, path);
    }
}

/// Neither `:authority` nor `Host`: the request names nobody (S1).
#[tokio::test]
async fn a_request_without_an_authority_is_refused_over_http2() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    let mut stream = story.h2().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // `:method: GET`, `:scheme: https`, `:path: /` of the static table (RFC 7541 appendix A); END_STREAM and END_HEADERS.
    let headers = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84];
    let bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &headers].concat();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("\"errorCode\":\"PROXY_HOST_DENIED\"") {
        let read = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut got);
        let read = tokio::time::timeout(crate::support::PATIENCE, read).await;
        assert!(read.unwrap().unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    assert!(story.upstream.seen().is_empty());
}

#[tokio::test]
async fn bodies_stream_both_ways_over_http2() {
    let upstream = Upstream::start(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await;
    let story = story(upstream, Some(&[]), |b| b).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(story.h2().await))
            .await
            .unwrap();
    tokio::spawn(connection);
    for size in [0, 1, 70_000, 5_000_000] {
        let body = Bytes::from(vec![b'x'; size]);
        let request = Request::post("https://localhost/")
            .body(Full::new(body.clone()))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
        let seen = story.upstream.last();
        assert_eq!(seen.headers["content-length"], size.to_string());
        assert!(!seen.headers.contains_key("transfer-encoding"));
    }
}

// ------------------------------------------------------------------------------------------------ floods

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// GET https://localhost/ (RFC 7541 appendix A: indexed fields, and a literal authority).
const GET: &[u8] = b"\x82\x87\x84\x01\x09localhost";
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn get(stream: u32) -> Vec<u8> {
    frame(1, END_STREAM | END_HEADERS, stream, GET)
}

/// A fragment is never sent, and who sends one is told so, as over HTTP/1.1; the types of hyper would cut it off.
#[tokio::test]
async fn a_fragment_is_refused_over_http2_too() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    let with = |path: &[u8]| [b"\x82\x87\x01\x09localhost", path].concat();
    // `/a#b`: as it is, Huffman-coded into the table, out of it, in a query, and in two pieces behind a dependency.
    let requests = [
        frame(1, END_STREAM | END_HEADERS, 1, &with(b"\x04\x04/a#b")),
        frame(1, END_STREAM | END_HEADERS, 3, &with(b"\x44\x84\x60\x7f\xf5\x1f")),
        frame(1, END_STREAM | END_HEADERS, 5, &with(b"\xbe")),
        frame(1, END_HEADERS, 7, &with(b"\x04\x06/a?q#b")),
        frame(0, END_STREAM, 7, b"a#b"),
        frame(
            1,
            END_STREAM | 0x28,
            9,
            &[b"\x01\0\0\0\x07\x0f", &with(b"\x04\x04/")[..], b"#"].concat(),
        ),
        frame(9, END_HEADERS, 9, b"a#b"),
        frame(1, END_STREAM | END_HEADERS, 11, &with(b"\x04\x05/a%23")),
        frame(1, END_STREAM | END_HEADERS, 13, &with(b"\xbe")),
    ]
    .concat();
    let hello = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for piece in [1, 7, requests.len()] {
        let seen = story.upstream.seen().len();
        let (mut reader, mut writer) = tokio::io::split(story.h2().await);
        writer.write_all(&hello).await.unwrap();
        for piece in requests.chunks(piece) {
            writer.write_all(piece).await.unwrap();
            writer.flush().await.unwrap();
        }
        let mut answers = BTreeMap::<u8, (u8, Vec<u8>)>::new();
        let mut ended = 0;
        tokio::time::timeout(PATIENCE, async {
            while ended < 7 {
                let mut header = [0; 9];
                reader.read_exact(&mut header).await.unwrap();
                let mut payload = vec![0; usize::from(header[1]) << 8 | usize::from(header[2])];
                reader.read_exact(&mut payload).await.unwrap();
                let (kind, flags, stream) = (header[3], header[4], header[8]);
                assert!(!matches!(kind, 3 | 7), "{kind}: {payload:?}");
                match kind {
                    1 => answers.entry(stream).or_default().0 = *payload.iter().find(|byte| **byte >= 0x80).unwrap(),
                    0 => answers.entry(stream).or_default().1.extend(payload),
                    _ => continue,
                }
                ended += usize::from(flags & END_STREAM);
            }
        })
        .await
        .unwrap();
        for (stream, (status, body)) in answers {
            let body = String::from_utf8_lossy(&body);
            // Statuses by their index in the static table.
            let (expected, code) = if stream == 11 {
                (0x88, "{}")
            } else {
                (0x8c, "PROXY_BAD_REQUEST")
            };
            assert_eq!(status, expected, "{stream}: {body}");
            assert!(body.contains(code), "{stream}: {body}");
        }
        let paths: Vec<_> = story.upstream.seen()[seen..]
            .iter()
            .map(|seen| seen.uri.clone())
            .collect();
        assert_eq!(paths, ["/a%23"]);
    }
}

/// The HTTP/2 stack ends the stream of a request whose target it can't hold, and no other.
#[tokio::test]
async fn a_target_that_cannot_be_held_resets_its_stream_over_http2() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    for path in [&b"\x04\x03/<b"[..], b"\x04\x03/>b", b"\x04\x03/`b", b"\x04\x03/?\""] {
        let (mut reader, mut writer) = tokio::io::split(story.h2().await);
        let block = [b"\x82\x87\x01\x09localhost", path].concat();
        let bytes = [
            PREFACE,
            &frame(4, 0, 0, &[]),
            &frame(1, END_STREAM | END_HEADERS, 1, &block),
            &get(3),
        ]
        .concat();
        writer.write_all(&bytes).await.unwrap();
        let (mut reset, mut answered) = (false, false);
        tokio::time::timeout(PATIENCE, async {
            while !(reset && answered) {
                let mut header = [0; 9];
                reader.read_exact(&mut header).await.unwrap();
                let mut payload = vec![0; usize::from(header[1]) << 8 | usize::from(header[2])];
                reader.read_exact(&mut payload).await.unwrap();
                match (header[3], header[8]) {
                    (3, 1) => reset = payload == [0, 0, 0, 1],
                    (1, 3) => answered = payload.starts_with(&[0x88]),
                    (1 | 7, _) => panic!("{path:?}: {header:?}"),
                    _ => {}
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{path:?}: {reset} {answered}"));
    }
    assert!(story.upstream.seen().iter().all(|seen| seen.uri == "/"));
}

/// The reader of compressed fields follows a client that uses all of them, and refuses none.
#[tokio::test]
async fn many_fields_over_one_connection_are_no_fragment() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(story.h2().await))
            .await
            .unwrap();
    tokio::spawn(connection);
    for n in 0..400_usize {
        let mut request = Request::get(format!("https://localhost/path/{}?q={n}", n % 7));
        for (name, length) in [
            ("x-a", n % 5),
            ("x-b", n * 37 % 900),
            ("x-c", n * 97 % 4200),
            ("x-d", 3),
        ] {
            // All bytes that a value may have.
            let value: Vec<u8> = (0..length).map(|at| (at * (n + 1) % 94) as u8 + b'!').collect();
            let value = http::HeaderValue::from_bytes(&value).unwrap();
            request = request.header(name, value);
        }
        let request = request.header(
            format!("x-{n}"),
            http::HeaderValue::from_bytes("#/é#".as_bytes()).unwrap(),
        );
        let request = request.body(Full::<Bytes>::default()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200, "{n}");
    }
}

/// The n-th repetition of a flood.
type Repetition = fn(u32) -> Vec<u8>;

const FLOODS: &[(&str, Repetition)] = &[
    ("SETTINGS", |_| frame(4, 0, 0, &[])),
    ("PING", |_| frame(6, 0, 0, &[0; 8])),
    ("PRIORITY", |n| frame(2, 0, 2 * n + 3, &[0, 0, 0, 0, 1])),
    ("WINDOW_UPDATE", |_| frame(8, 0, 0, &[0, 0, 0, 1])),
    ("an unknown frame", |_| frame(0xbb, 0, 0, b"x")),
    ("rapid reset", |n| {
        [get(2 * n + 1), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()
    }),
    ("streams reset for the peer's own errors", |n| {
        [
            frame(1, END_HEADERS, 2 * n + 1, GET),
            frame(8, 0, 2 * n + 1, &[0, 0, 0, 0]),
        ]
        .concat()
    }),
    ("CONTINUATION", |n| {
        if n == 0 {
            frame(1, END_STREAM, 1, GET)
        } else {
            frame(9, 0, 1, b"\x00\x01a\x01b")
        }
    }),
    ("empty CONTINUATION", |n| {
        if n == 0 {
            frame(1, END_STREAM, 1, GET)
        } else {
            frame(9, 0, 1, b"")
        }
    }),
    ("empty DATA", |n| {
        if n == 0 {
            let post = [b"\x83", &GET[1..]].concat();
            frame(1, END_HEADERS, 1, &post)
        } else {
            frame(0, 0, 1, b"")
        }
    }),
];

#[tokio::test]
async fn floods_end_the_connection_and_nothing_else() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    for (what, repetition) in FLOODS {
        let (mut reader, mut writer) = tokio::io::split(story.h2().await);
        let flood = async {
            let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
            for n in 0..50_000 {
                bytes.extend(repetition(n));
                if bytes.len() > 8192 && writer.write_all(&bytes).await.is_err() {
                    return;
                }
                if bytes.len() > 8192 {
                    bytes.clear();
                }
            }
            // It was all taken: it must be the end that the other side waits for.
            std::future::pending::<()>().await;
        };
        let end = async {
            let mut sink = vec![0; 65536];
            while !matches!(reader.read(&mut sink).await, Ok(0) | Err(_)) {}
        };
        tokio::time::timeout(PATIENCE, async {
            tokio::select! { () = flood => {}, () = end => {} }
        })
        .await
        .unwrap_or_else(|_| panic!("{what}: the connection goes on"));
        assert_eq!(story.get("h2", "/").await.0, 200, "{what}: others are served");
    }
    let flooded = story
        .proxy
        .metric("atlas_auth_proxy_denied_total", &[("reason", "flood")])
        .await;
    assert!(flooded >= 5.0, "{flooded}");
    let proxy = &story.proxy;
    until("no connection and no request is left", || async {
        let open = proxy.metric("atlas_auth_proxy_connections_open", &[]).await;
        let in_flight = proxy.metric("atlas_auth_proxy_requests_in_flight", &[]).await;
        (open, in_flight) == (0.0, 0.0)
    })
    .await;
}

#[tokio::test]
async fn a_bomb_of_compressed_headers_is_refused() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    let mut stream = story.h2().await;
    // One field of 4000 bytes goes into the table, and each further byte stands for it (RFC 7541 section 2.3.2).
    let mut block = GET.to_vec();
    block.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
    block.extend_from_slice(&[b'a'; 4000]);
    block.extend_from_slice(&[0xbe; 12_000]);
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    bytes.extend(frame(1, END_STREAM | END_HEADERS, 1, &block));
    stream.write_all(&bytes).await.unwrap();
    // Either the stream gets an answer of 431, or the connection ends.
    let mut got = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => got.extend_from_slice(&chunk[..n]),
            }
            if got
                .windows(5)
                .any(|w| w[0] == 1 && w[1] & END_HEADERS != 0 && w[2..] == [0, 0, 0])
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    assert!(story.upstream.seen().is_empty());
    assert_eq!(story.get("h2", "/").await.0, 200);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_ended_over_http2() {
    let story = story(Upstream::start(ok).await, Some(&[]), |b| b).await;
    let mut stream = story.h2().await;
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    bytes.extend(frame(1, END_STREAM, 1, GET));
    stream.write_all(&bytes).await.unwrap();
    let mut sink = Vec::new();
    // The clock runs ahead to whatever is waited for.
    tokio::time::pause();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut sink))
        .await
        .expect("the connection ends")
        .ok();
    tokio::time::resume();
    assert!(story.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_connection_that_rests_long_is_closed() {
    let story = story(Upstream::start(ok).await, None, |b| b).await;
    let mut stream = story.connect(None, &["http/1.1"]).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut stream).await;
    read_body(&mut stream, &head).await;
    // The clock runs ahead to whatever is waited for.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(start.elapsed().as_secs().clamp(115, 125), start.elapsed().as_secs());
}

#[tokio::test]
async fn draining_lets_http2_requests_in_flight_finish() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let upstream = Upstream::start(move |_: Request<Incoming>| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            json(200, "{}")
        }
    })
    .await;
    let story = story(upstream, Some(&[]), |b| b).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(story.h2().await))
            .await
            .unwrap();
    let ended = tokio::spawn(connection);
    let request = Request::get("https://localhost/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    let upstream = &story.upstream;
    until("the request is in flight", || async { !upstream.seen().is_empty() }).await;
    let shutdown = tokio::spawn(story.proxy.app.shutdown());
    gate.add_permits(1);
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    tokio::time::timeout(PATIENCE, shutdown).await.unwrap().unwrap();
    ended.await.unwrap().unwrap();
}

/// GOAWAY, and a PING that a client answers: one that reads nothing never does.
#[tokio::test]
async fn idle_connections_end_in_a_drain_whether_their_client_reads_or_not() {
    let story = story(Upstream::start(ok).await, None, |b| {
        b.with(|s| s.drain_timeout = Duration::from_secs(3600))
    })
    .await;
    let mut silent = story.connect(None, &["h2"]).await.unwrap();
    // The preface with empty settings; what it gets is never read.
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    silent.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let _nothing = story.connect(None, &["h2"]).await.unwrap();
    let _http1 = story.connect(None, &["http/1.1"]).await.unwrap();
    let mut answered = story.connect(None, &["http/1.1"]).await.unwrap();
    answered
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut answered).await;
    tokio::time::timeout(PATIENCE, story.proxy.app.shutdown())
        .await
        .expect("the drain ends long before its time");
    assert_eq!(story.upstream.revocations(), 1);
}
