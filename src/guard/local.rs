//! The paths that the proxy answers itself: they have to do with credentials, and are never forwarded.

use super::path::{canonical, folded, loosest};

/// What is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalEndpoint {
    /// `/api/oauth/token`
    Token,
    /// `/api/oauth/revoke`
    Revoke,
    /// Says who the caller is, where callers have names.
    Caller,
    /// Anything else below `/api/oauth`, which has to do with credentials: never forwarded.
    Other,
}

/// The endpoint that a path (percent-encoded, without query) is under any reading that a server might take; `None`: it
/// is none, and may be forwarded.
pub fn local_endpoint(path: &str) -> Option<LocalEndpoint> {
    let Ok(path) = canonical(path) else {
        return disguised_endpoint(path);
    };
    let mut segments = path[1..].split('/');
    let mut next_is = |name| segments.next().is_some_and(|s| folded(s) == name);
    if !next_is("api") || !next_is("oauth") {
        return None;
    }
    let rest: Vec<_> = segments.map(folded).filter(|s| !s.is_empty()).collect();
    Some(named(&rest))
}

/// A path that servers may read differently. Where segments can move or end elsewhere (dot segments, `;`, control
/// characters), `oauth` anywhere is enough: no honest path has both.
fn disguised_endpoint(path: &str) -> Option<LocalEndpoint> {
    let read = loosest(path);
    if let [api, oauth, rest @ ..] = read.segments.as_slice()
        && api == "api"
        && oauth == "oauth"
    {
        return Some(named(rest));
    }
    let anywhere = read.movable && read.segments.iter().any(|s| s.contains("oauth"));
    anywhere.then_some(LocalEndpoint::Other)
}

fn named(rest: &[impl AsRef<str>]) -> LocalEndpoint {
    match rest {
        [one] if one.as_ref() == "token" => LocalEndpoint::Token,
        [one] if one.as_ref() == "revoke" => LocalEndpoint::Revoke,
        [one] if one.as_ref() == "caller" => LocalEndpoint::Caller,
        _ => LocalEndpoint::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guard::readings::{readings, under};

    #[test]
    fn no_spelling_is_forwarded() {
        for path in [
            "/api/oauth/token",
            "/api/oauth/token/",
            "/API/OAuth/Token",
            "//api//oauth//token//",
            "/api/oauth/%74oken",
            "/api/oauth%2ftoken",
            "/%61%70%69/oauth/token",
            "/api/oauth%252ftoken",
            "/api\\oauth\\token",
            "/api/oauth%5Ctoken",
            "/api/oauth/token%00",
            "/api/o%00auth/token",
            "/api/oauth/token%20",
            "/api/oauth%c0%aftoken",
            "/api/oauth/to%e2%84%aaen",
        ] {
            assert_eq!(local_endpoint(path), Some(LocalEndpoint::Token), "{path}");
        }
        for path in [
            "/api/oauth",
            "/api/oauth/",
            "/api/oauth/authorize",
            "/api/oauth/token/x",
            "/api/oauth/token%3fx",
            "/api/oauth%00%25",
            "/api/oauth%2500x/token",
            "/api/./oauth/token",
            "/api/x/../oauth/token",
            "/x/../api/oauth/token",
            "/../api/oauth/token",
            "/api/%2e/oauth/token",
            "/x/%2e%2e/api/oauth/token",
            "/x/%252e%252e/api/oauth/token",
            "/api/x/..;/oauth/token",
            "/api;a%2fb/oauth/token",
            "/api/;/../oauth/token",
            "/api//../oauth/token",
            "/api/oauth/../oauth/token",
        ] {
            assert_eq!(local_endpoint(path), Some(LocalEndpoint::Other), "{path}");
        }
    }

    #[test]
    fn honest_paths_are_not_touched() {
        for path in [
            "/",
            "/api",
            "/api/atlas/v2/groups",
            "/api/oauthx/token",
            "/oauth/token",
            "/api/atlas/v2/groups/byName/oauth",
            "/api/atlas/v2/groups/1/databaseUsers/$external/arn:aws:iam::1:role%2Foauth",
            "//api/atlas/v1.0/groups/oauth/token",
            "/api/atlas/v2/groups/../orgs",
        ] {
            assert_eq!(local_endpoint(path), None, "{path}");
        }
    }

    fn disguise() -> impl Strategy<Value = String> {
        let letter = |plain: char| {
            prop_oneof![
                8 => Just(plain.to_string()),
                1 => Just(plain.to_ascii_uppercase().to_string()),
                1 => Just(format!("%{:02x}", u32::from(plain))),
                1 => Just(format!("%25{:02X}", u32::from(plain))),
                1 => Just(format!("%2525{:02X}", u32::from(plain))),
            ]
        };
        let slash = prop::sample::select(vec![
            "/",
            "/",
            "/",
            "//",
            "/./",
            "\\",
            "%2f",
            "%5C",
            "%252F",
            "/x/../",
            ";v/",
            "/%2e/",
            "/%2e%2e/../api/../",
        ]);
        let word = move |w: &'static str| w.chars().map(letter).collect::<Vec<_>>().prop_map(|p| p.concat());
        (
            slash.clone(),
            word("api"),
            slash.clone(),
            word("oauth"),
            slash,
            word("token"),
        )
            .prop_map(|(a, b, c, d, e, f)| format!("/{}{b}{c}{d}{e}{f}", a.trim_start_matches('/')))
    }

    fn walk() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "/", "/", "/", "//", "\\", "%2f", "%5c", "%252f", "%c0%af", ".", "..", "/../", "/./", "%2e%2e", "%252e",
            ";", ";x", "%3b", "..;", "%00", "%20", "%25", "%", "api", "api", "API", "%61pi", "oauth", "oauth",
            "%6fauth", "oa", "uth", "token", "atlas",
        ]);
        prop::collection::vec(pieces, 0..9).prop_map(|p| format!("/{}", p.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

        /// Against an independent normaliser.
        #[test]
        fn what_any_server_could_read_as_oauth_is_never_forwarded(path in walk()) {
            if local_endpoint(&path).is_none() {
                for reading in readings(&path) {
                    prop_assert!(!under(&reading.to_lowercase(), &["api", "oauth"]), "{path} is read as {reading}");
                }
            }
        }

        #[test]
        fn disguises_are_recognised(path in disguise()) {
            prop_assert!(local_endpoint(&path).is_some(), "{}", path);
        }

        #[test]
        fn any_path_is_decided(path in any::<String>()) {
            let _ = local_endpoint(&path);
        }
    }
}
