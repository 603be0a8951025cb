//! Who may come in, over raw sockets. What is refused never reaches the upstream.

use atlas_auth_proxy::guard::{Allowlist, HostName, HostNames, RequiredHeader};

use crate::support::client::{raw, read_to_end};
use crate::support::proxy::{Proxy, ProxyBuilder};
use crate::support::upstream::{Answer, Upstream, json};

async fn ok(_: http::Request<hyper::body::Incoming>) -> Answer {
    json(200, "{}")
}

async fn upstream() -> Upstream {
    Upstream::start(ok).await
}

fn builder(upstream: &Upstream) -> ProxyBuilder {
    upstream.proxy()
}

async fn refused(proxy: &Proxy, upstream: &Upstream, request: &str, status: u16, code: &str) {
    let answer = raw(proxy.address, request.as_bytes()).await;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{request:?} got {answer}"
    );
    assert!(
        answer
            .to_ascii_lowercase()
            .contains(&format!("x-atlas-auth-proxy-error: {code}").to_ascii_lowercase()),
        "{request:?} got {answer}"
    );
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(
        (body["error"].as_u64(), body["errorCode"].as_str()),
        (Some(status.into()), Some(code))
    );
    let page = format!(" (docs/TROUBLESHOOTING.md#{})", code.to_ascii_lowercase());
    assert!(body["detail"].as_str().unwrap().ends_with(&page), "{body}");
    assert_eq!(upstream.seen().len(), 0, "{request:?} reached the upstream");
}

fn get(head: &str) -> String {
    format!("GET /api/atlas/v2/groups HTTP/1.1\r\nConnection: close\r\n{head}\r\n")
}

#[tokio::test]
async fn only_names_of_ours_are_served() {
    let upstream = upstream().await;
    let proxy = builder(&upstream)
        .with(|s| s.listeners[0].rules.hosts = HostNames::new([HostName::parse("atlas-proxy.platform.svc").unwrap()]))
        .start()
        .await;
    for host in [
        "evil.example",
        "localhost.evil.example",
        "cloud.mongodb.com",
        "127.0.0.1.nip.io",
        "127.1",
        "2130706433",
        "user@localhost",
        "localhost:99999",
        "[::1%25lo]",
        "[::1%lo]:80",
        "localhost, evil.example",
        "localhost/evil",
        "",
    ] {
        let request = get(&format!("Host: {host}\r\n"));
        let answer = raw(proxy.address, request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "),
            "{host}: {answer}"
        );
    }
    assert!(upstream.seen().is_empty());
    for host in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:8080",
        "[::1]:8080",
        "[::1]",
        "Atlas-Proxy.platform.svc:80",
    ] {
        let answer = raw(proxy.address, get(&format!("Host: {host}\r\n")).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}

#[tokio::test]
async fn dns_rebinding_is_a_421() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    refused(
        &proxy,
        &upstream,
        &get("Host: rebound.example:8080\r\n"),
        421,
        "PROXY_HOST_DENIED",
    )
    .await;
}

#[tokio::test]
async fn a_web_page_gets_nothing() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    for head in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: document\r\n",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
        "Sec-Fetch-Site: none, same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
        "Sec-Fetch-Site:\r\n",
        "Referer: http://evil.example/page\r\n",
        "Referer: http://localhost:1/\r\n",
        "Referer: https://localhost/\r\n",
        "Referer: /relative\r\n",
        "Referer: \u{e9}\r\n",
        "Referer:\r\n",
        "Referer: http://localhost/\r\nReferer: http://evil.example/\r\n",
    ] {
        let request = get(&format!("Host: localhost\r\n{head}"));
        refused(&proxy, &upstream, &request, 403, "PROXY_BROWSER_DENIED").await;
    }
    let preflight = "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: https://e.example\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    refused(&proxy, &upstream, preflight, 403, "PROXY_BROWSER_DENIED").await;
    assert!(
        !raw(proxy.address, preflight.as_bytes())
            .await
            .to_ascii_lowercase()
            .contains("access-control")
    );
    for head in [
        "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
        // What Node's own `fetch` sends.
        "Sec-Fetch-Mode: cors\r\n",
        "Sec-Fetch-Dest: empty\r\nSec-Fetch-User: ?1\r\n",
        // What Go's client sends after a redirect within the proxy.
        "Referer: http://localhost/api/atlas/v2\r\n",
    ] {
        let answer = raw(proxy.address, get(&format!("Host: localhost\r\n{head}")).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{head}: {answer}");
    }
}

/// A worker that an earlier program left at this address is refused what it asks for, and forgotten.
#[tokio::test]
async fn a_service_worker_of_a_former_owner_gets_nothing_and_is_forgotten() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    for (head, forgotten) in [
        (
            "Service-Worker: script\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: same-origin\r\nSec-Fetch-Dest: serviceworker\r\n",
            true,
        ),
        (
            "Service-Worker-Navigation-Preload: true\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
            true,
        ),
        (
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
            false,
        ),
    ] {
        let request = get(&format!("Host: localhost\r\n{head}"));
        refused(&proxy, &upstream, &request, 403, "PROXY_BROWSER_DENIED").await;
        let answer = raw(proxy.address, request.as_bytes()).await.to_ascii_lowercase();
        assert_eq!(answer.contains("clear-site-data: \"storage\""), forgotten, "{answer}");
    }
}

/// The values of a field, whatever the case of its name.
fn values<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    head.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

const OURS: &str = "sandbox; default-src 'none'";

fn assert_sandboxed(answer: &str, policies: &[&str]) {
    assert_eq!(values(answer, "content-security-policy"), policies, "{answer}");
    assert_eq!(values(answer, "x-content-type-options"), ["nosniff"], "{answer}");
    assert_eq!(
        values(answer, "cross-origin-resource-policy"),
        ["same-origin"],
        "{answer}"
    );
}

#[tokio::test]
async fn every_answer_of_a_listener_is_sandboxed() {
    let upstream = Upstream::start(|request| async move {
        let mut answer = json(200, "{\"links\":[]}");
        for (name, value) in [
            ("content-security-policy", "default-src 'self'"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "cross-origin"),
        ] {
            answer.headers_mut().append(name, http::HeaderValue::from_static(value));
        }
        if request.uri().path() == "/html" {
            answer
                .headers_mut()
                .insert("content-type", http::HeaderValue::from_static("text/html"));
            answer.headers_mut().remove("content-security-policy");
        } else if request.uri().path() == "/304" {
            *answer.status_mut() = http::StatusCode::NOT_MODIFIED;
        }
        answer
    })
    .await;
    let proxy = builder(&upstream)
        .with(|s| {
            let mut stranger = crate::support::proxy::listener("default");
            stranger.allow = Allowlist::new(vec!["127.0.0.2/32".parse().unwrap()]).unwrap();
            s.listeners.push(stranger);
        })
        .start()
        .await;
    let both = ["default-src 'self'", OURS];
    for (request, status, policies) in [
        (get("Host: localhost\r\n"), 200, &both[..]),
        (
            "GET /304 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            304,
            &both,
        ),
        (
            "GET /html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            200,
            &[OURS],
        ),
        (
            "POST /api/oauth/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            200,
            &[OURS],
        ),
        (
            "POST /api/oauth/revoke HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            200,
            &[OURS],
        ),
        (get("Host: evil.example\r\n"), 421, &[OURS]),
        (get("Host: localhost\r\nOrigin: null\r\n"), 403, &[OURS]),
        ("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 405, &[OURS]),
        // Before a request is parsed.
        ("GET / HTTP/1.1\r\nX : y\r\n\r\n".to_owned(), 400, &[OURS]),
        (
            get(&format!("Host: localhost\r\nX: {}\r\n", "x".repeat(70_000))),
            431,
            &[OURS],
        ),
    ] {
        let answer = raw(proxy.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_sandboxed(&answer, policies);
    }
    let url = &proxy.app.listeners()[1].url;
    let stranger = raw(url.strip_prefix("http://").unwrap().parse().unwrap(), b"GET").await;
    assert!(stranger.starts_with("HTTP/1.1 403 "), "{stranger}");
    assert_sandboxed(&stranger, &[OURS]);
}

#[tokio::test]
async fn connect_trace_and_foreign_targets_are_refused() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    let head = "Host: localhost\r\nConnection: close\r\n\r\n";
    refused(
        &proxy,
        &upstream,
        &format!("CONNECT cloud.mongodb.com:443 HTTP/1.1\r\n{head}"),
        405,
        "PROXY_METHOD_NOT_ALLOWED",
    )
    .await;
    refused(
        &proxy,
        &upstream,
        &format!("TRACE /x HTTP/1.1\r\n{head}"),
        405,
        "PROXY_METHOD_NOT_ALLOWED",
    )
    .await;
    refused(
        &proxy,
        &upstream,
        &format!("GET http://evil.example/x HTTP/1.1\r\n{head}"),
        421,
        "PROXY_HOST_DENIED",
    )
    .await;
    refused(
        &proxy,
        &upstream,
        &format!("GET https://cloud.mongodb.com/x HTTP/1.1\r\n{head}"),
        421,
        "PROXY_HOST_DENIED",
    )
    .await;
    let own = raw(
        proxy.address,
        format!("GET http://localhost:1/x?y HTTP/1.1\r\n{head}").as_bytes(),
    )
    .await;
    assert!(own.starts_with("HTTP/1.1 200 "), "{own}");
    let seen = upstream.last();
    assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("GET", "/x?y"));
}

#[tokio::test]
async fn no_header_of_the_client_reaches_the_credential_or_lies_about_it() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    let request = get(
        "Host: localhost\r\nAuthorization: Basic mine\r\nauthorization: Digest mine\r\nProxy-Authorization: Basic mine\r\n\
         Cookie: a=b\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 1.2.3.4\r\n\
         X-HTTP-Method-Override: DELETE\r\nKeep-Alive: timeout=5\r\nX-Named: hop\r\nConnection: x-named, authorization\r\n\
         Upgrade: h2c\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Mine: stays\r\nAccept: a/b\r\n",
    );
    let answer = raw(proxy.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let headers = upstream.last().headers;
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["accept", "authorization", "host", "traceparent", "x-mine"]);
    assert_eq!(
        headers.get_all("authorization").iter().collect::<Vec<_>>(),
        ["Bearer token-1"]
    );
}

#[tokio::test]
async fn answers_carry_no_authentication_of_the_upstream() {
    let upstream = Upstream::start(|_| async {
        let mut answer = json(200, "{}");
        for (name, value) in [
            ("set-cookie", "session=1"),
            ("www-authenticate", "Digest realm=\"x\""),
            ("strict-transport-security", "max-age=1"),
            ("x-named", "hop"),
            ("connection", "x-named"),
            ("x-atlas-auth-proxy-error", "FAKE"),
            ("x-java-method", "stays"),
        ] {
            answer.headers_mut().append(name, http::HeaderValue::from_static(value));
        }
        answer
    })
    .await;
    let proxy = builder(&upstream).start().await;
    let answer = raw(proxy.address, get("Host: localhost\r\n").as_bytes())
        .await
        .to_ascii_lowercase();
    for gone in [
        "set-cookie",
        "www-authenticate",
        "strict-transport",
        "x-named",
        "x-atlas-auth-proxy-error",
    ] {
        assert!(!answer.contains(gone), "{gone} in {answer}");
    }
    assert!(answer.contains("x-java-method: stays"), "{answer}");
}

#[tokio::test]
async fn a_redirect_is_passed_back_and_not_followed() {
    let upstream = Upstream::start(|_| async {
        let mut answer = json(302, "");
        answer.headers_mut().insert(
            "location",
            http::HeaderValue::from_static("https://elsewhere.example/api/x"),
        );
        answer
    })
    .await;
    let proxy = builder(&upstream).start().await;
    let answer = raw(proxy.address, get("Host: localhost\r\n").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 302 ") && answer.contains("https://elsewhere.example/api/x"),
        "{answer}"
    );
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn who_is_not_on_the_allowlist_gets_a_fixed_403() {
    let upstream = upstream().await;
    let proxy = builder(&upstream)
        .with(|s| s.listeners[0].allow = Allowlist::new(vec!["127.0.0.2/32".parse().unwrap()]).unwrap())
        .start()
        .await;
    let answer = raw(proxy.address, b"not even HTTP\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("PROXY_IP_DENIED"),
        "{answer}"
    );
    assert!(upstream.seen().is_empty());
    assert_eq!(
        proxy.metric("atlas_auth_proxy_denied_total", &[("reason", "ip")]).await,
        1.0
    );
    // From the address that is allowed.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(proxy.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, get("Host: localhost\r\n").as_bytes())
        .await
        .unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn ipv4_peers_of_a_dual_stack_listener_are_ipv4() {
    let upstream = upstream().await;
    let proxy = builder(&upstream)
        .with(|s| {
            s.listeners[0].bind = atlas_auth_proxy::server::Bind::Tcp("[::]:0".parse().unwrap());
            s.listeners[0].allow = Allowlist::new(vec!["127.0.0.1/32".parse().unwrap()]).unwrap();
        })
        .start()
        .await;
    let port = proxy.address.port();
    let v4 = raw(([127, 0, 0, 1], port).into(), get("Host: localhost\r\n").as_bytes()).await;
    assert!(v4.starts_with("HTTP/1.1 200 "), "{v4}");
    let v6 = raw(
        format!("[::1]:{port}").parse().unwrap(),
        get("Host: localhost\r\n").as_bytes(),
    )
    .await;
    assert!(v6.starts_with("HTTP/1.1 403 "), "{v6}");
}

/// One listener with one name at both of `localhost`'s addresses, with the same port; taken at one, it is no start.
#[tokio::test]
async fn localhost_is_both_of_its_addresses_or_no_start() {
    use atlas_auth_proxy::server::Bind;
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        return crate::support::needs::skip("this machine has no [::1]");
    }
    let upstream = upstream().await;
    let proxy = builder(&upstream)
        .with(|s| s.listeners[0].bind = Bind::Localhost { port: 0 })
        .start()
        .await;
    let listeners = proxy.app.listeners();
    let [listener] = &listeners[..] else {
        panic!("{listeners:?}")
    };
    let port = proxy.address.port();
    assert_eq!(listener.name, format!("127.0.0.1:{port}"));
    assert_eq!(listener.also.as_deref(), Some(&*format!("http://[::1]:{port}")));
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let answer = raw(
            address.parse().unwrap(),
            get(&format!("Host: {address}\r\n")).as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{address}: {answer}");
    }
    // Whether the failed start names the address that is taken. The same port of the other one may be taken, too, by another test.
    let is_named = async |taken: &str| -> Result<(), String> {
        let taken = tokio::net::TcpListener::bind(taken).await.unwrap();
        let address = taken.local_addr().unwrap();
        let settings = builder(&upstream)
            .with(|s| s.listeners[0].bind = Bind::Localhost { port: address.port() })
            .settings;
        let error = atlas_auth_proxy::app::App::start(settings)
            .await
            .unwrap_err()
            .to_string();
        if error.contains(&address.to_string()) {
            Ok(())
        } else {
            Err(error)
        }
    };
    for taken in ["127.0.0.1:0", "[::1]:0"] {
        let mut errors = Vec::new();
        while errors.len() < 5 {
            match is_named(taken).await {
                Ok(()) => break,
                Err(error) => errors.push(error),
            }
        }
        assert!(errors.len() < 5, "{taken}: {errors:#?}");
    }
}

#[tokio::test]
async fn the_required_header_is_required() {
    let upstream = upstream().await;
    let proxy = builder(&upstream)
        .with(|s| {
            s.listeners[0].rules.required_header =
                Some(RequiredHeader::new(http::HeaderName::from_static("x-atlas-auth-proxy")));
        })
        .start()
        .await;
    for head in [
        "",
        "X-Atlas-Auth-Proxy:\r\n",
        "X-Atlas-Auth-Proxy: a\r\nX-Atlas-Auth-Proxy: b\r\n",
    ] {
        let request = get(&format!("Host: localhost\r\n{head}"));
        refused(&proxy, &upstream, &request, 403, "PROXY_HEADER_REQUIRED").await;
    }
    let answer = raw(
        proxy.address,
        get("Host: localhost\r\nX-Atlas-Auth-Proxy: 1\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// What the parser's types hold goes on as it is; of the rest the client is told which byte to percent-encode.
#[tokio::test]
async fn a_byte_that_no_url_has_goes_on_or_is_named() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    for (target, encoded) in [
        (&b"/a<b"[..], "%3C"),
        (b"/a>b", "%3E"),
        (b"/a`b", "%60"),
        (b"/a?\"b", "%22"),
        (b"/a\xff", "%FF"),
        (b"/?\xc3", "%C3"),
    ] {
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &request)
            .await
            .unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target:?}: {answer}");
        let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["errorCode"], "PROXY_BAD_REQUEST", "{answer}");
        let detail = body["detail"].as_str().unwrap();
        assert!(
            detail.contains("percent-encode it") && detail.contains(encoded),
            "{detail}"
        );
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    for target in ["/a\"{}|^b", "/a?`", "/\u{e9}?\u{fc}"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(proxy.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        assert_eq!(upstream.last().uri, target);
    }
}

#[tokio::test]
async fn a_read_only_listener_reads_only() {
    let upstream = upstream().await;
    let proxy = builder(&upstream)
        .with(|s| {
            s.listeners[0].rules.policy =
                atlas_auth_proxy::guard::Policy::new(true, vec![], atlas_auth_proxy::guard::Action::Allow);
        })
        .start()
        .await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
        let request = format!(
            "{method} /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-HTTP-Method-Override: GET\r\n\r\n"
        );
        refused(&proxy, &upstream, &request, 403, "PROXY_RULE_DENIED").await;
    }
    let answer = raw(proxy.address, get("Host: localhost\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// They use nothing of the account: whoever may send a request at all gets them, and nobody else does.
#[tokio::test]
async fn the_token_endpoints_come_before_rules_and_after_the_guard() {
    use atlas_auth_proxy::guard::{Action, PathPattern, Policy, Rule};
    let upstream = upstream().await;
    let rule = Rule::new(
        vec![http::Method::GET],
        PathPattern::parse("/api/atlas/**").unwrap(),
        Action::Allow,
    );
    for policy in [
        Policy::new(true, vec![], Action::Allow),
        Policy::new(true, vec![rule], Action::Deny),
    ] {
        let proxy = builder(&upstream)
            .with(|s| {
                s.listeners[0].rules.policy = policy;
                s.listeners[0].rules.required_header =
                    Some(RequiredHeader::new(http::HeaderName::from_static("x-required")));
            })
            .start()
            .await;
        let post = |path: &str, head: &str| {
            format!("POST {path} HTTP/1.1\r\nConnection: close\r\n{head}Content-Length: 0\r\n\r\n")
        };
        for path in ["/api/oauth/token", "/api/oauth/revoke"] {
            let good = raw(
                proxy.address,
                post(path, "Host: localhost\r\nX-Required: 1\r\n").as_bytes(),
            )
            .await;
            assert!(good.starts_with("HTTP/1.1 200 "), "{good}");
            for (head, status, code) in [
                ("Host: evil.example\r\nX-Required: 1\r\n", 421, "PROXY_HOST_DENIED"),
                (
                    "Host: localhost\r\nX-Required: 1\r\nSec-Fetch-Site: same-origin\r\n",
                    403,
                    "PROXY_BROWSER_DENIED",
                ),
                ("Host: localhost\r\n", 403, "PROXY_HEADER_REQUIRED"),
            ] {
                refused(&proxy, &upstream, &post(path, head), status, code).await;
            }
        }
        let other = post("/api/atlas/v2/groups", "Host: localhost\r\nX-Required: 1\r\n");
        refused(&proxy, &upstream, &other, 403, "PROXY_RULE_DENIED").await;
    }
}

#[tokio::test]
async fn ambiguous_framing_never_becomes_two_requests() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for head in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 6\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length : 5\r\n",
        "X: a\r\n b\r\n",
        "Host: localhost\r\n",
    ] {
        let request = format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{head}\r\nhello{smuggled}");
        let answer = raw(proxy.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
    }
    assert!(
        upstream.seen().iter().all(|seen| !seen.uri.contains("smuggled")),
        "{:?}",
        upstream.seen()
    );
}

#[tokio::test]
async fn a_head_that_dawdles_is_a_408() {
    let upstream = upstream().await;
    let proxy = builder(&upstream)
        .with(|s| s.limits.connection.header_read_timeout = std::time::Duration::from_millis(200))
        .start()
        .await;
    let answer = raw(proxy.address, b"GET /x HTTP/1.1\r\nHost: loc").await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("PROXY_REQUEST_TIMEOUT"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_that_dawdles_is_a_408() {
    let upstream = Upstream::start(|request| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        json(200, "{}")
    })
    .await;
    let proxy = builder(&upstream)
        .with(|s| s.limits.body.request_body_idle_timeout = std::time::Duration::from_millis(200))
        .start()
        .await;
    let answer = raw(
        proxy.address,
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhel",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_431() {
    let upstream = upstream().await;
    let proxy = builder(&upstream).start().await;
    let large = get(&format!("Host: localhost\r\nX-Large: {}\r\n", "x".repeat(70_000)));
    assert!(raw(proxy.address, large.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let many: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    assert!(
        raw(proxy.address, get(&format!("Host: localhost\r\n{many}")).as_bytes())
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    assert!(upstream.seen().is_empty());
}
