//! Links in answers lead back to the proxy: a client that pages or follows `Location` stays on it.
//!
//! Only string values of the key `href` in JSON, and the headers `Location`, `Content-Location`, `Refresh` and `Link`,
//! change, and only when they are the upstream's origin followed by `/api/` or `//api/`. Everything else stays byte for
//! byte: `rel` values are identifiers that look like URLs, and an app that reads, edits and writes back must not store
//! our address in Atlas.
//!
//! gzip is decoded for this; `restrict_accept_encoding` keeps the upstream from choosing another content coding.

mod body;
mod gzip;
mod headers;
mod json;
mod pattern;
pub mod validators;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

pub use body::{LinkBody, LinkBodyError};
pub use json::JsonRewriter;
pub use pattern::LinkRewriter;

/// What to do with a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPlan {
    /// Byte for byte.
    Untouched,
    /// To be wrapped in a [`LinkBody`].
    Rewrite {
        /// It is gzip: decode it.
        gzip: bool,
    },
}

/// Decides on the body of a response, by its status and header fields.
pub fn plan(status: StatusCode, headers: &HeaderMap) -> BodyPlan {
    // A part of a document (RFC 9110 section 15.3.7) has offsets that must stay right.
    if status == StatusCode::PARTIAL_CONTENT || !is_json(headers) {
        return BodyPlan::Untouched;
    }
    let mut codings = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // Neither changes the content.
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
    match (codings.next(), codings.next()) {
        (None, _) => BodyPlan::Rewrite { gzip: false },
        (Some(one), None) if one.eq_ignore_ascii_case(b"gzip") || one.eq_ignore_ascii_case(b"x-gzip") => {
            BodyPlan::Rewrite { gzip: true }
        }
        _ => BodyPlan::Untouched,
    }
}

/// `application/json` or `application/vnd.atlas.…+json`, in UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    is_json_as_atlas_writes_it(value.as_bytes()) || value.to_str().is_ok_and(is_json_in_any_spelling)
}

/// Spares nearly all answers the long way.
fn is_json_as_atlas_writes_it(value: &[u8]) -> bool {
    let essence = value.strip_suffix(b";charset=utf-8").unwrap_or(value);
    let version = essence
        .strip_prefix(b"application/vnd.atlas.")
        .and_then(|rest| rest.strip_suffix(b"+json"));
    let of_version = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    essence == b"application/json" || version.is_some_and(|version| version.iter().all(of_version))
}

fn is_json_in_any_spelling(value: &str) -> bool {
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let essence = essence.trim();
    let begins = |text: &str| {
        essence
            .get(..text.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(text))
    };
    let ends = |text: &str| {
        let at = essence.len().checked_sub(text.len());
        at.and_then(|at| essence.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(text))
    };
    let json = essence.eq_ignore_ascii_case("application/json") || (begins("application/vnd.atlas.") && ends("+json"));
    if !json || parameters.is_empty() {
        return json;
    }
    match parameters.to_ascii_lowercase().split_once("charset=") {
        None => true,
        Some((_, charset)) => {
            let charset = charset.split(';').next().unwrap_or_default().trim().trim_matches('"');
            matches!(charset, "utf-8" | "utf8" | "us-ascii")
        }
    }
}

/// Removes what described the body as it was. Its `ETag` is the business of [`validators`].
pub(super) fn forget_body_headers(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_ENCODING);
    // Rare: looking at the names is cheaper than looking each of these up.
    let described = |name: &&HeaderName| {
        matches!(
            name.as_str(),
            "content-digest" | "repr-digest" | "digest" | "content-md5"
        )
    };
    while let Some(name) = headers.keys().find(described).cloned() {
        headers.remove(name);
    }
}

/// Narrows `Accept-Encoding` (RFC 9110 section 12.5.3) to what can be rewritten: gzip and identity.
pub fn restrict_accept_encoding(headers: &mut HeaderMap) {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return;
    }
    let kept: Vec<String> = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|coding| {
            let name = coding.split(';').next().unwrap_or_default().trim();
            ["gzip", "x-gzip", "identity"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
        })
        .map(str::to_owned)
        .collect();
    let narrowed = if kept.is_empty() {
        "identity".to_owned()
    } else {
        kept.join(", ")
    };
    // Made of visible ASCII that came from a header.
    if let Ok(value) = HeaderValue::from_str(&narrowed) {
        headers.insert(header::ACCEPT_ENCODING, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(fields: &[(&'static str, &'static str)]) -> BodyPlan {
        let headers = fields
            .iter()
            .map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect();
        plan(StatusCode::OK, &headers)
    }

    #[test]
    fn which_bodies_are_rewritten() {
        let identity = BodyPlan::Rewrite { gzip: false };
        for media in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.atlas.2023-01-01+json;charset=utf-8",
            "application/vnd.atlas.preview+json",
        ] {
            assert_eq!(plan_of(&[("content-type", media)]), identity, "{media}");
        }
        for media in [
            "application/vnd.atlas.2023-01-01+gzip",
            "application/vnd.atlas.2023-01-01+csv",
            "application/vnd.atlas.2023-01-01+json;charset=utf-16",
            "text/x;application/vnd.atlas.2023-01-01+json",
            "text/plain",
            "application/json; charset=utf-16",
            "application/jsonx",
        ] {
            assert_eq!(plan_of(&[("content-type", media)]), BodyPlan::Untouched, "{media}");
        }
        let json = ("content-type", "application/json");
        assert_eq!(
            plan_of(&[json, ("content-encoding", "GZIP")]),
            BodyPlan::Rewrite { gzip: true }
        );
        assert_eq!(plan_of(&[json, ("content-encoding", "br")]), BodyPlan::Untouched);
        assert_eq!(
            plan_of(&[json, ("content-encoding", "gzip, gzip")]),
            BodyPlan::Untouched
        );
        assert_eq!(plan_of(&[]), BodyPlan::Untouched);
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_to_json_leads_where_the_long_one_does(
            value in "(application/(json|vnd\\.atlas\\.[0-9a-z;+ -]{0,12}\\+json)?)(;? ?charset=\"?(utf-8|utf-16))?"
        ) {
            if is_json_as_atlas_writes_it(value.as_bytes()) {
                assert!(is_json_in_any_spelling(&value), "{value}");
            }
        }
    }

    #[test]
    fn only_codings_that_can_be_rewritten_are_asked_for() {
        for (asked, sent) in [
            ("gzip, deflate, br, zstd", "gzip"),
            ("br", "identity"),
            ("GZIP;q=0.5, identity;q=0", "GZIP;q=0.5, identity;q=0"),
            ("*", "identity"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(asked));
            restrict_accept_encoding(&mut headers);
            assert_eq!(headers[header::ACCEPT_ENCODING], sent);
        }
        let mut none = HeaderMap::new();
        restrict_accept_encoding(&mut none);
        assert!(none.is_empty());
    }
}
