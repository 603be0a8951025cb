//! Header fields that are not forwarded, in both directions (RFC 9110 section 7.6).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What keeps a browser from doing anything with an answer: no page of ours is ever served. A sandboxed document has an
/// origin of its own, runs no script, and loads nothing (W3C Content Security Policy); no other origin's page may
/// embed it (Fetch, "Cross-Origin-Resource-Policy"); nobody guesses a type (Fetch, "X-Content-Type-Options").
pub(super) static SANDBOX: [(HeaderName, HeaderValue); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Atlas's count of requests that may still be made.
static RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// That count, where it is given.
pub(super) fn rate_limit_remaining(headers: &HeaderMap) -> Option<i64> {
    headers.get(&RATELIMIT_REMAINING)?.to_str().ok()?.trim().parse().ok()
}

/// Connection-specific fields.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy"
    ) || name.starts_with("proxy-auth")
}

/// Fields of a request that never reach the upstream. `name` has `-` where the client wrote `_`.
fn ends_request(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "authorization"
                | "x-authorization"
                | "cookie"
                | "cookie2"
                | "host"
                | "x-host"
                | "expect"
                | "via"
                | "forwarded"
                | "forwarded-for"
                | "client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "cf-connecting-ipv6"
                | "fastly-client-ip"
                | "client-cert"
                | "client-cert-chain"
                | "remote-user"
                | "x-remote-user"
                | "x-method-override"
        )
        || name.starts_with("x-")
            && [
                "x-atlas-auth-proxy",
                "x-envoy-",
                "x-forward",
                "x-http-host",
                "x-http-method",
                "x-original-",
                "x-real-ip",
                "x-rewrite-",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Fields of a response that never reach the client.
fn ends_response(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "set-cookie"
                | "set-cookie2"
                | "www-authenticate"
                | "authentication-info"
                | "authorization"
                | "strict-transport-security"
                | "public-key-pins"
                | "alt-svc"
                | "clear-site-data"
                | "expect-ct"
                | "nel"
                | "public-key-pins-report-only"
                | "report-to"
                | "reporting-endpoints"
        )
        || name.starts_with("access-control-")
        || name.starts_with("x-atlas-auth-proxy")
}

/// Fields that may not be in a trailer section (RFC 9110 section 6.5.1).
fn ends_trailer(name: &str) -> bool {
    ends_request(name)
        || ends_response(name)
        || name.starts_with("content-")
        || name.starts_with("if-")
        || matches!(
            name,
            "trailer"
                | "cache-control"
                | "expires"
                | "location"
                | "link"
                | "range"
                | "age"
                | "date"
                | "vary"
                | "pragma"
                | "warning"
                | "max-forwards"
                | "retry-after"
        )
}

/// Removes the fields of a request that are not forwarded; returns whether the client takes trailers (`TE: trailers`).
///
/// The length (`Content-Length`) stays for the caller to frame the message anew.
pub fn clean_request(headers: &mut HeaderMap) -> bool {
    let trailers = headers.get_all(header::TE).iter().any(|te| {
        te.as_bytes()
            .split(|b| *b == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    remove_nominated(headers);
    remove(headers, ends_request);
    trailers
}

/// Removes the fields of a response that are not forwarded.
pub fn clean_response(headers: &mut HeaderMap) {
    remove_nominated(headers);
    remove(headers, ends_response);
}

/// Adds [`SANDBOX`]. A policy of Atlas's own stays beside ours, as a field of its own: both hold then. A gateway's is ours
/// already.
pub(super) fn sandbox(headers: &mut HeaderMap) {
    for (name, value) in &SANDBOX {
        if *name != header::CONTENT_SECURITY_POLICY {
            headers.insert(name, value.clone());
        } else if !headers.get_all(name).iter().any(|there| there == value) {
            headers.append(name, value.clone());
        }
    }
}

/// Removes from a trailer section what could change the meaning of the message.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove(trailers, ends_trailer);
}

/// Fields named by `Connection` are for this hop only, except those of the framing, which is made anew.
fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE && *name != header::TRAILER)
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// Most messages have nothing to remove beside a field or two: looks first, allocates only for what is removed.
fn remove(headers: &mut HeaderMap, ends: impl Fn(&str) -> bool) {
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| goes(name.as_str(), &ends))
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Some servers read `X_Forwarded_For` as `X-Forwarded-For`.
fn goes(name: &str, ends: impl Fn(&str) -> bool) -> bool {
    if memchr::memchr(b'_', name.as_bytes()).is_some() {
        let name = name.replace('_', "-");
        ends(&name) || name == "content-length"
    } else {
        ends(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn requests() {
        let mut headers = map(&[
            ("accept", "a"),
            ("authorization", "x"),
            ("x_forwarded_for", "1"),
            ("content_length", "1"),
            ("transfer_encoding", "chunked"),
            ("x-forwarded-anything", "1"),
            ("te", "gzip, Trailers"),
            ("connection", "x-mine, close, content-length, authorization"),
            ("x-mine", "1"),
            ("content-length", "3"),
            ("traceparent", "t"),
        ]);
        assert!(clean_request(&mut headers));
        assert_eq!(names(&headers), ["accept", "content-length", "traceparent"]);
        assert!(!clean_request(&mut headers));
    }

    #[test]
    fn responses() {
        let mut headers = map(&[
            ("content-type", "a"),
            ("set-cookie", "x"),
            ("www-authenticate", "x"),
            ("access-control-allow-origin", "*"),
            ("ratelimit-remaining", "1"),
        ]);
        clean_response(&mut headers);
        assert_eq!(names(&headers), ["content-type", "ratelimit-remaining"]);
    }

    #[test]
    fn a_policy_stands_once_however_many_proxies_an_answer_has_passed() {
        let mut headers = map(&[("content-security-policy", "default-src 'self'")]);
        sandbox(&mut headers);
        let once = headers.clone();
        sandbox(&mut headers);
        assert_eq!(headers, once);
        let policies: Vec<_> = headers.get_all(header::CONTENT_SECURITY_POLICY).iter().collect();
        assert_eq!(policies, ["default-src 'self'", "sandbox; default-src 'none'"]);
    }

    #[test]
    fn what_a_client_claims_ends_here_in_either_spelling_and_the_rest_passes() {
        for name in [
            "client-cert",
            "client-ip",
            "fastly-client-ip",
            "proxy",
            "proxy-authorization",
            "remote-user",
            "x-atlas-auth-proxy-error",
            "x-authorization",
            "x-envoy-original-path",
            "x-forwarded-prefix",
            "x-http-host-override",
            "x-http-method",
            "x-original-method",
            "x-real-ip",
            "x-rewrite-url",
        ] {
            for spelling in [name.to_owned(), name.replace('-', "_"), name.replacen('-', "_", 1)] {
                let mut headers = map(&[(&spelling, "1")]);
                clean_request(&mut headers);
                assert!(headers.is_empty(), "{spelling}");
            }
        }
        for name in [
            "accept",
            "content-type",
            "digest",
            "idempotency-key",
            "if-match",
            "proxy-status",
            "range",
            "referer",
            "tracestate",
            "user-agent",
            "x-request-id",
            "x_custom",
        ] {
            let mut headers = map(&[(name, "1")]);
            clean_request(&mut headers);
            assert_eq!(names(&headers), [name]);
        }
    }

    #[test]
    fn what_only_the_upstream_itself_may_promise_ends_here() {
        for name in [
            "access-control-allow-credentials",
            "authorization",
            "expect-ct",
            "nel",
            "proxy-authenticate",
            "proxy-authorization",
            "public-key-pins-report-only",
            "report-to",
            "set_cookie",
            "x-atlas-auth-proxy-error",
            "www_authenticate",
        ] {
            let mut headers = map(&[(name, "1")]);
            clean_response(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
    }

    #[test]
    fn trailers() {
        let mut headers = map(&[
            ("x-checksum", "a"),
            ("content-length", "1"),
            ("transfer_encoding", "chunked"),
            ("if-match", "1"),
            ("host", "x"),
            ("authorization", "x"),
            ("set-cookie", "y"),
            ("x-atlas-auth-proxy-caller", "z"),
        ]);
        clean_trailers(&mut headers);
        assert_eq!(names(&headers), ["x-checksum"]);
    }
}
