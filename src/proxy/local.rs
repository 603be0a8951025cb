//! The token endpoints, answered here: a client with placeholder credentials just works, and none can read or revoke the
//! shared token.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};

use super::error::ProxyError;

/// What is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LocalEndpoint {
    Token,
    Revoke,
    /// Anything else below `/api/oauth`, which has to do with credentials: never forwarded.
    Other,
}

const PLACEHOLDER: &[u8] =
    br#"{"access_token":"atlas-auth-proxy-placeholder","expires_in":3600,"token_type":"Bearer"}"#;

/// Recognises the endpoints in any spelling that some server could understand.
pub(super) fn local_endpoint(path: &str) -> Option<LocalEndpoint> {
    // Cheap for nearly all requests: below `/api/atlas/` without doubtful characters.
    let rest = path.strip_prefix("/api/atlas/");
    if rest.is_some_and(|rest| !rest.contains(['%', ';', '\\']) && !rest.starts_with('.') && !rest.contains("/.")) {
        return None;
    }
    let segments = plainest(path);
    match segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["api", "oauth", "token"] => Some(LocalEndpoint::Token),
        ["api", "oauth", "revoke"] => Some(LocalEndpoint::Revoke),
        ["api", "oauth", ..] => Some(LocalEndpoint::Other),
        _ => None,
    }
}

/// Decoded until nothing changes, in small letters, without parameters, empty and dot segments.
fn plainest(path: &str) -> Vec<String> {
    let mut text = path.to_owned();
    for _ in 0..4 {
        let decoded = percent_encoding::percent_decode_str(&text)
            .decode_utf8_lossy()
            .into_owned();
        if decoded == text {
            break;
        }
        text = decoded;
    }
    let mut segments = Vec::new();
    for segment in text.to_ascii_lowercase().replace('\\', "/").split('/') {
        // What stands behind a parameter, a control character or a stray percent sign may be cut off by a server.
        match segment
            .split(|c: char| matches!(c, ';' | '%') || c.is_control())
            .next()
            .unwrap_or_default()
            .trim()
        {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            plain => segments.push(plain.to_owned()),
        }
    }
    segments
}

/// The local answer.
///
/// # Errors
/// For another method than POST, and for what is not answered.
pub(super) fn answer(endpoint: LocalEndpoint, method: &Method) -> Result<Response<Bytes>, ProxyError> {
    if endpoint == LocalEndpoint::Other {
        return Err(ProxyError::oauth_path_denied());
    }
    if *method != Method::POST {
        return Err(ProxyError::post_only());
    }
    let mut response = Response::new(match endpoint {
        LocalEndpoint::Token => Bytes::from_static(PLACEHOLDER),
        LocalEndpoint::Revoke | LocalEndpoint::Other => Bytes::new(),
    });
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    if endpoint == LocalEndpoint::Token {
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    }
    // RFC 6749 section 5.1.
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_stays_here() {
        for path in [
            "/api/oauth/token",
            "/api/oauth/token/",
            "//api//oauth/token",
            "/api/oauth/./token",
            "/api/x/../oauth/token",
            "/api/%6fauth/token",
            "/api/%256fauth/token",
            "/API/OAuth/Token",
            "/api/oauth%2ftoken",
            "/api/oauth/token;a=b",
            "/api\\oauth\\token",
            "/api/atlas/../oauth/token",
            "/api/atlas/%2e%2e/oauth/token",
            "/api/atlas/..%2foauth/token",
        ] {
            assert_eq!(local_endpoint(path), Some(LocalEndpoint::Token), "{path}");
        }
        assert_eq!(local_endpoint("/api/oauth/revoke"), Some(LocalEndpoint::Revoke));
        assert_eq!(local_endpoint("/api/oauth%00%25"), Some(LocalEndpoint::Other));
        assert_eq!(local_endpoint("/api/oauth/introspect"), Some(LocalEndpoint::Other));
        for path in [
            "/",
            "/api/atlas/v2/groups",
            "/api/oauthx/token",
            "/x/api/oauth/token",
            "/api/atlas/v2/a%20b",
        ] {
            assert_eq!(local_endpoint(path), None, "{path}");
        }
    }
}
