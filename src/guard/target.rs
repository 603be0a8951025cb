//! The request target and who it is meant for (RFC 9112 sections 3.2 and 3.3).

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri, Version, header};

use super::HostNames;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// The effective authority: one of our names, perhaps with a port.
    pub authority: &'a str,
    /// Path and query, byte for byte.
    pub path_and_query: PathAndQuery,
}

/// Why a target is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetDenied {
    /// CONNECT, TRACE and TRACK, whatever the case.
    #[error("the method is not served here")]
    Method,
    /// Not for us.
    #[error("the request is for another host")]
    Host,
    /// Neither origin-form nor absolute-form.
    #[error("the request target must begin with a slash")]
    Form,
    /// No `Host`, or more than one.
    #[error("the request must have exactly one Host header")]
    HostCount,
    /// `Host` contradicts the target.
    #[error("the Host header and the request target name different hosts")]
    Contradiction,
}

/// Whether no request with this method is served.
pub fn refuses(method: &Method) -> bool {
    // TRACK is an old server's name for TRACE; some servers ignore the case of methods.
    let refused = ["CONNECT", "TRACE", "TRACK"];
    refused.iter().any(|name| method.as_str().eq_ignore_ascii_case(name))
}

/// Finds the effective authority and the path. `uri` is as hyper parsed it; nothing is decoded.
///
/// # Errors
/// See [`TargetDenied`].
pub fn resolve<'a>(
    method: &Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    names: &HostNames,
) -> Result<Target<'a>, TargetDenied> {
    if refuses(method) {
        return Err(TargetDenied::Method);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(TargetDenied::HostCount),
        (Some(host), None) => Some(host.to_str().map_err(|_| TargetDenied::Host)?),
        (None, None) => None,
    };
    // Absolute-form wins over Host (RFC 9112 section 3.2.2); in HTTP/2 it is :authority (RFC 9113 section 8.3.1).
    let authority = match (uri.authority(), host) {
        // RFC 9112 section 3.2: no Host is an error, whatever the target says.
        (_, None) if version == Version::HTTP_11 => return Err(TargetDenied::HostCount),
        (Some(authority), host) => {
            if !matches!(uri.scheme_str(), Some("http" | "https")) {
                return Err(TargetDenied::Form);
            }
            if version == Version::HTTP_2 && host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_str())) {
                return Err(TargetDenied::Contradiction);
            }
            authority.as_str()
        }
        (None, Some(host)) => host,
        (None, None) => return Err(TargetDenied::Host),
    };
    if !names.knows(authority) {
        return Err(TargetDenied::Host);
    }
    // Both names must be ours, where there are two: a Host that is not ours shows that the client was led here under
    // another name.
    if host.is_some_and(|host| host != authority && !names.knows(host)) {
        return Err(TargetDenied::Host);
    }
    match uri.path_and_query() {
        Some(path_and_query) if path_and_query.as_str().starts_with('/') => Ok(Target {
            authority,
            path_and_query: path_and_query.clone(),
        }),
        _ => Err(TargetDenied::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, uri: &str, hosts: &[&str]) -> Result<String, TargetDenied> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        let uri: Uri = uri.parse().unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        resolve(&method, &uri, Version::HTTP_11, &headers, &HostNames::new([]))
            .map(|target| format!("{} {}", target.authority, target.path_and_query))
    }

    #[test]
    fn forms() {
        assert_eq!(check("GET", "/a?b", &["localhost:1"]).unwrap(), "localhost:1 /a?b");
        assert_eq!(
            check("GET", "http://127.0.0.1:2/a?b", &["localhost"]).unwrap(),
            "127.0.0.1:2 /a?b"
        );
        assert_eq!(check("GET", "http://localhost", &["localhost"]).unwrap(), "localhost /");
        assert_eq!(
            check("CONNECT", "localhost:80", &["localhost"]),
            Err(TargetDenied::Method)
        );
        for echo in ["TRACE", "trace", "Track", "TRACK", "connect"] {
            assert_eq!(check(echo, "/", &["localhost"]), Err(TargetDenied::Method), "{echo}");
        }
        assert_eq!(check("GET", "http://localhost/", &[]), Err(TargetDenied::HostCount));
        assert_eq!(check("OPTIONS", "*", &["localhost"]), Err(TargetDenied::Form));
        assert_eq!(check("GET", "http://evil/", &["localhost"]), Err(TargetDenied::Host));
        assert_eq!(check("GET", "http://localhost/", &["evil"]), Err(TargetDenied::Host));
        assert_eq!(
            check("GET", "http://u@localhost/", &["localhost"]),
            Err(TargetDenied::Host)
        );
        assert_eq!(check("GET", "/", &["evil"]), Err(TargetDenied::Host));
        assert_eq!(check("GET", "/", &[]), Err(TargetDenied::HostCount));
        assert_eq!(
            check("GET", "/", &["localhost", "localhost"]),
            Err(TargetDenied::HostCount)
        );
        assert_eq!(
            check("GET", "ftp://localhost/", &["localhost"]),
            Err(TargetDenied::Form)
        );
        assert_eq!(check("GET", "localhost:80", &["localhost"]), Err(TargetDenied::Form));
    }
}
