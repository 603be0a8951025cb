//! Header fields that end here, in both directions (RFC 9110 section 7.6).

use http::header::{self, HeaderMap, HeaderName};

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
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
    )
}

/// Fields of a request that never reach the upstream. `name` has `-` where the client wrote `_`.
fn ends_request(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "authorization"
                | "cookie"
                | "cookie2"
                | "host"
                | "expect"
                | "via"
                | "forwarded"
                | "x-real-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-url"
                | "x-original-host"
                | "x-rewrite-url"
                | "x-host"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "x-http-method"
                | "x-http-method-override"
                | "x-method-override"
                | "x-envoy-external-address"
                | "x-atlas-auth-proxy-error"
        )
        || name.starts_with("x-forwarded")
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
                | "x-atlas-auth-proxy-error"
        )
        || name.starts_with("access-control-")
}

/// Fields that have no business in a trailer section (RFC 9110 section 6.5.1).
fn ends_trailer(name: &str) -> bool {
    ends_request(name)
        || ends_response(name)
        || name.starts_with("content-")
        || matches!(
            name,
            "trailer" | "cache-control" | "expires" | "location" | "link" | "range" | "age" | "date" | "vary"
        )
}

/// Removes what ends here from a request; says whether the client takes trailers (`TE: trailers`).
///
/// The length (`Content-Length`) stays for the caller to frame the message anew.
pub(super) fn clean_request(headers: &mut HeaderMap) -> bool {
    let trailers = headers.get_all(header::TE).iter().any(|te| {
        te.as_bytes()
            .split(|b| *b == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    remove_nominated(headers);
    remove(headers, ends_request);
    trailers
}

/// Removes what ends here from a response.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    remove_nominated(headers);
    remove(headers, ends_response);
}

/// Removes from a trailer section what could change the meaning of the message.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove(trailers, ends_trailer);
}

/// Fields named by `Connection` are for this hop only. The framing is not theirs to remove: it is made anew.
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

/// Most messages have nothing to remove beside a field or two: looks first, allocates only for what goes.
fn remove(headers: &mut HeaderMap, ends: fn(&str) -> bool) {
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| goes(name.as_str(), ends))
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Some servers read `X_Forwarded_For` as `X-Forwarded-For`.
fn goes(name: &str, ends: fn(&str) -> bool) -> bool {
    if name.as_bytes().contains(&b'_') {
        ends(&name.replace('_', "-")) || name.replace('_', "-") == "content-length"
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
    fn trailers() {
        let mut headers = map(&[
            ("x-checksum", "a"),
            ("content-length", "1"),
            ("authorization", "x"),
            ("set-cookie", "y"),
        ]);
        clean_trailers(&mut headers);
        assert_eq!(names(&headers), ["x-checksum"]);
    }
}
