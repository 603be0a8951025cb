//! Targets and methods: what goes on, and that it goes on as it came.

use atlas_auth_proxy::guard::{Action, PathPattern, Policy, Rule};

use super::{Bench, Case, SMUGGLED, Want, line};
use crate::support::recording_upstream::RecordingUpstream;

#[tokio::test]
async fn targets_go_on_byte_for_byte_or_not_at_all() {
    let mut cases = Vec::new();
    let long = format!("/{}", "a".repeat(40_000));
    for target in [
        "/",
        "//evil.example/x",
        "///",
        "////evil.example",
        "/\\evil.example",
        "/\\\\evil.example/x",
        "/@evil.example",
        "/x@evil.example:80/",
        "/http://evil.example/",
        "/x/../../etc/passwd",
        "/%2e%2e/%2e%2e/x",
        "/..;/x",
        "/x%00y",
        "/x%0d%0aHost:%20evil",
        "/x%0aAuthorization:%20mine",
        "/x%20HTTP/1.1",
        "/x?",
        "/x??&&==",
        "/x?_method=DELETE",
        "/x?_method=DELETE&X-HTTP-Method-Override=DELETE",
        "/x?url=http://evil.example/",
        "/x?a=%zz",
        "/x|y",
        "/x'y",
        "/~x;a=b,c/!$&'()*+",
        &long,
    ] {
        cases.push(
            Case::new("origin-form", line(&format!("{target} HTTP/1.1")), Want::Served)
                .method("GET")
                .target(target),
        );
    }
    for target in ["/x\"y", "/x^y", "/x{y}|", "/x?`^{}|"] {
        cases.push(
            Case::new("not of RFC 3986", line(&format!("{target} HTTP/1.1")), Want::Served)
                .method("GET")
                .target(target),
        );
    }
    for target in ["/x<y", "/x>y", "/x`y", "/x?\"", "/x?<", "/x?>"] {
        cases.push(Case::new("unheld", line(&format!("{target} HTTP/1.1")), Want::Refused));
    }
    let latin = |target: &str| target.bytes().map(char::from).collect::<String>();
    for target in ["/\u{e9}", "/\u{ff0e}\u{ff0e}/x", "/x?\u{e9}"] {
        cases.push(
            Case::new("beyond ASCII", line(&format!("{target} HTTP/1.1")), Want::Served)
                .method("GET")
                .target(latin(target)),
        );
    }
    let mut lone = b"GET /x\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    cases.push(Case::new("no UTF-8", lone.clone(), Want::Refused));
    lone[6] = b'?';
    cases.push(Case::new("no UTF-8 in the query", lone, Want::Refused));
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn targets_that_lead_elsewhere_are_refused() {
    let mut cases = Vec::new();
    for target in [
        "http://evil.example/x",
        "https://cloud.mongodb.com/x",
        "http://localhost@evil.example/x",
        "http://evil.example@localhost/x",
        "http://user:pw@localhost/x",
        "http://localhost:80:80/x",
        "http://localhost:99999/x",
        "http://localhost.evil.example/x",
        "http://localhost./x",
        "http://[::1%25lo]/x",
        "http://local%68ost/x",
        "http://127.1/x",
        "http://2130706433/x",
        "http://localhost#/x",
        "http://localhost/x#y",
        "http:///x",
        "http://",
        "http:/x",
        "http:x",
        "http:\\\\localhost\\x",
        "//localhost/x\u{9}",
        "ftp://localhost/x",
        "file:///etc/passwd",
        "javascript:x",
        "data:x",
        "ws://localhost/x",
        "httpx://localhost/x",
        "localhost",
        "localhost:80",
        "cloud.mongodb.com:443",
        "evil.example:443",
        "*",
        "x",
        "x/y",
        "..",
        "../x",
        "?x",
        "?",
        "#x",
        "/x#y",
        "/x#",
        "/#",
        "/x?y#z",
        "/x#?y",
        "\\x",
        "\\\\evil.example\\x",
        "@evil.example/x",
        ":80/x",
        ".evil.example/x",
        "%2fx",
        "%2F%2Fevil.example",
        "<x>",
        "",
    ] {
        cases.push(Case::new("elsewhere", line(&format!("{target} HTTP/1.1")), Want::Refused).half_close());
    }
    let own = |target: &'static str, reduced: &'static str| {
        Case::new(
            "absolute-form of ours",
            line(&format!("{target} HTTP/1.1")),
            Want::Served,
        )
        .method("GET")
        .target(reduced)
    };
    cases.push(own("http://localhost/x", "/x"));
    cases.push(own("http://localhost:1234/x?y=http://z", "/x?y=http://z"));
    cases.push(own("http://127.0.0.1", "/"));
    cases.push(own("HTTP://LOCALHOST/x", "/x"));
    cases.push(own("https://[::1]:443//evil.example/", "//evil.example/"));
    // RFC 9112 section 3.2.2 wants a slash there.
    let mut without_path = own("http://localhost?x", "/?x");
    without_path.want = Want::Either;
    cases.push(without_path);
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn tunnels_and_echoes_are_refused_in_any_spelling() {
    let mut cases = Vec::new();
    for method in ["TRACE", "trace", "Trace", "TRACK", "track", "Track"] {
        let bytes = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        cases.push(Case::new("echo", bytes, Want::Status(405)));
        let bytes =
            format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 0\r\nContent-Length: 5\r\n\r\nhello");
        cases.push(Case::new("echo with content", bytes, Want::Status(405)));
    }
    for method in ["CONNECT", "connect", "Connect"] {
        for target in ["cloud.mongodb.com:443", "localhost:80", "/x", "http://localhost/x", "*"] {
            let bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n{SMUGGLED}");
            cases.push(Case::new("tunnel", bytes, Want::Refused));
        }
    }
    cases.push(Case::new(
        "an extended CONNECT",
        "CONNECT /x HTTP/1.1\r\nHost: localhost\r\n:protocol: websocket\r\n\r\n",
        Want::Refused,
    ));
    cases.push(Case::new(
        "OPTIONS *",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        Want::Refused,
    ));
    cases.push(Case::new(
        "a method of 10 kB",
        format!("{} /x HTTP/1.1\r\nHost: localhost\r\n\r\n", "M".repeat(10_000)),
        Want::Refused,
    ));
    for method in [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "PROPFIND",
        "get",
        "Delete",
        "M-SEARCH",
        "QUERY",
        "X!#$%&'*+-.^_`|~",
    ] {
        let bytes = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        cases.push(Case::new("goes on as it is", bytes, Want::Served).method(method));
    }
    Bench::start().await.check(cases).await;
}

/// What says that a GET is really a DELETE ends here; what stands in the query passes, for it is the upstream's own affair.
#[tokio::test]
async fn method_overrides_in_headers_end_here() {
    let mut cases = Vec::new();
    for field in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x-http-method-override",
        "X_HTTP_Method_Override",
        "X-HTTP_Method-Override",
    ] {
        let bytes = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{field}: DELETE\r\n\r\n");
        cases.push(Case::new("override", bytes, Want::Served).method("GET"));
    }
    Bench::start().await.check(cases).await;
}

#[tokio::test]
async fn no_spelling_of_a_denied_path_or_method_goes_around_a_rule() {
    let deny = |methods: &[&str], path: &str| {
        let methods = methods.iter().map(|method| method.parse().unwrap()).collect();
        Rule::new(methods, PathPattern::parse(path).unwrap(), Action::Deny)
    };
    let rules = vec![deny(&[], "/first/{id}/secret/**"), deny(&["DELETE"], "/first/**")];
    let policy = Policy::new(false, rules, Action::Allow);
    let mut cases = Vec::new();
    for target in [
        "/first/1/secret",
        "/first/1/secret/",
        "/first/1/secret/x?y",
        "/FIRST/1/Secret",
        "/first/1/%73ecret",
        "/first/1/secre%74/x",
        "/first/1//secret",
        "//first/1/secret",
        "/first//1/secret",
        "/first/1/./secret",
        "/first/1/x/../secret",
        "/first/1/%2e/secret",
        "/first/1/x/%2e%2e/secret",
        "/first/1/x/%252e%252e/secret",
        "/first%2f1%2fsecret",
        "/first/1%2Fsecret",
        "/first/1/secret%2fx",
        "/first/a%2Fb/secret",
        "/second/a%2F..%2F..%2Ffirst/1/open",
        "/second/a%2F%2Fb",
        "/first/1\\secret",
        "/first/1%5csecret",
        "/first/1/secret;x=y",
        "/first;/1/secret",
        "/first/1/secret%3b",
        "/first/1/secret%00",
        "/first/1/secret%20",
        "/first/1/%20secret",
        "/first/1/secret%3fx",
        "/first/1/secret%23",
        "/first/1/secret%09",
        "/first/1/secret%0a",
        "/first/1/%c0%afsecret",
        "/first/1/secre%ef%bd%94",
        "/first/1/%EF%BC%8Fsecret",
        "/first/1/%u0073ecret",
        "/x/..;/first/1/secret",
        "http://localhost/first/1/secret",
        "http://localhost//first/1/secret",
        "HTTP://LOCALHOST:80/first/1/%73ecret",
    ] {
        cases.push(Case::new(
            "denied path",
            line(&format!("{target} HTTP/1.1")),
            Want::Status(403),
        ));
    }
    for method in ["DELETE", "delete", "Delete"] {
        let bytes = format!("{method} /first/1/open HTTP/1.1\r\nHost: localhost\r\n\r\n");
        cases.push(Case::new("denied method", bytes, Want::Status(403)));
    }
    for target in [
        "/first/1/open",
        "/first/1/secrets",
        "/first/1/x?/secret",
        "/second/%C3%A9%20x",
        "/first/10.1.0.0%2F16/open",
        "/second/a%2fb",
    ] {
        let case = Case::new("allowed", line(&format!("{target} HTTP/1.1")), Want::Served);
        cases.push(case.method("GET").target(target));
    }
    let bench = Bench::with_policy(RecordingUpstream::start().await, policy).await;
    bench.check(cases).await;
}

#[tokio::test]
async fn a_read_only_listener_knows_three_methods_and_no_other_spelling() {
    let mut cases = Vec::new();
    for method in [
        "POST", "PUT", "PATCH", "DELETE", "post", "get", "Get", "head", "options", "PROPFIND", "LOCK", "QUERY",
        "MERGE", "GETX",
    ] {
        let bytes =
            format!("{method} /x?_method=GET HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: GET\r\n\r\n");
        cases.push(Case::new("writes, perhaps", bytes, Want::Status(403)));
    }
    for method in ["GET", "HEAD", "OPTIONS"] {
        let bytes = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: DELETE\r\n\r\n");
        cases.push(Case::new("reads", bytes, Want::Served).method(method));
    }
    let policy = Policy::new(true, Vec::new(), Action::Allow);
    let bench = Bench::with_policy(RecordingUpstream::start().await, policy).await;
    bench.check(cases).await;
}
