//! Validators of bodies that are decoded or may be rewritten (RFC 9110 section 8.8.3).
//!
//! What the client gets is a representation different from Atlas's, under the same name: a strong `ETag` would let a
//! client join parts of both. So the tag becomes weak and is marked, and `Accept-Ranges` is removed. When the client
//! sends the tag back, the mark is taken off again, so that an editing client's `If-Match` works.
//!
//! | Atlas | the client |
//! |---|---|
//! | `"abc"` | `W/"abc~links"` |
//! | `W/"abc"` | `W/"abc~links-weak"` |

use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memmem;

const STRONG: &[u8] = b"~links\"";
const WEAK: &[u8] = b"~links-weak\"";
/// Part of both marked forms.
const MARK: &[u8] = b"~links";

/// Marks the tag of an answer, and lets nobody ask for parts of it.
pub fn mark(headers: &mut HeaderMap) {
    headers.remove(header::ACCEPT_RANGES);
    let Some(tag) = headers.get(header::ETAG) else { return };
    match marked(tag.as_bytes()).and_then(|tag| HeaderValue::from_bytes(&tag).ok()) {
        Some(tag) => headers.insert(header::ETAG, tag),
        // Not a tag.
        None => headers.remove(header::ETAG),
    };
}

fn marked(tag: &[u8]) -> Option<Vec<u8>> {
    let (opaque, mark) = match tag.strip_prefix(b"W/") {
        Some(opaque) => (opaque, WEAK),
        None => (tag, STRONG),
    };
    let inner = opaque.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    (!inner.contains(&b'"')).then(|| [b"W/\"", inner, mark].concat())
}

/// Which representation a request is about, by the tags that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Ours: one of the tags is marked.
    Marked,
    /// Atlas's: that of a body which passed as it was.
    Unmarked,
    /// No tag: it may be either.
    Nothing,
}

/// Takes the mark off the tags of a request (`If-Match`, `If-None-Match`). Where a marked tag stands in `If-Range`, or
/// in any of them beside `Range`, the request becomes one for the whole: parts of ours and of Atlas's do not fit
/// together. So does a request whose `If-Range` is a date, which is the same for both.
pub fn unmark(headers: &mut HeaderMap) -> Named {
    let in_range = has_mark(headers, &header::IF_RANGE);
    let mut found = in_range;
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        if has_mark(headers, &name) {
            found = true;
            unmark_field(headers, &name);
        }
    }
    let by_date = headers
        .get(header::IF_RANGE)
        .is_some_and(|validator| !validator.as_bytes().contains(&b'"'));
    if in_range || by_date || found && headers.contains_key(header::RANGE) {
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
    let names_one = |tags: &HeaderValue| tags.as_bytes().contains(&b'"');
    match found {
        true => Named::Marked,
        false if headers.get_all(header::IF_NONE_MATCH).iter().any(names_one) => Named::Unmarked,
        false => Named::Nothing,
    }
}

/// For a listener that no longer rewrites links: what a client has read before may be edited (`If-Match`), but none of
/// it is current.
pub fn unmark_edits(headers: &mut HeaderMap) {
    if has_mark(headers, &header::IF_MATCH) {
        unmark_field(headers, &header::IF_MATCH);
    }
}

/// Keeps an answer 304 from saying anything wrong about the representation that the client has.
pub fn not_modified(headers: &mut HeaderMap, named: Named) {
    match named {
        Named::Marked => mark(headers),
        Named::Unmarked => {}
        Named::Nothing => {
            headers.remove(header::ACCEPT_RANGES);
            headers.remove(header::ETAG);
        }
    }
}

fn has_mark(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.contains_key(name)
        && headers
            .get_all(name)
            .iter()
            .any(|value| memmem::find(value.as_bytes(), MARK).is_some())
}

fn unmark_field(headers: &mut HeaderMap, name: &HeaderName) {
    let header::Entry::Occupied(mut entry) = headers.entry(name) else {
        return;
    };
    for value in entry.iter_mut() {
        if let Ok(unmarked) = HeaderValue::from_bytes(&unmarked(value.as_bytes())) {
            *value = unmarked;
        }
    }
}

/// Walks the tags of a list; what is not one of ours stays byte for byte.
fn unmarked(list: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.len());
    let mut rest = list;
    while let Some(open) = memchr::memchr(b'"', rest) {
        let Some(length) = memchr::memchr(b'"', &rest[open + 1..]) else {
            break;
        };
        let (before, tag) = (&rest[..open], &rest[open..open + length + 2]);
        rest = &rest[open + length + 2..];
        match (
            before.strip_suffix(b"W/"),
            tag.strip_suffix(STRONG),
            tag.strip_suffix(WEAK),
        ) {
            (Some(before), Some(inner), _) => out.extend_from_slice(&[before, inner, b"\""].concat()),
            (Some(_), None, Some(inner)) => out.extend_from_slice(&[before, inner, b"\""].concat()),
            _ => out.extend_from_slice(&[before, tag].concat()),
        }
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_tag_is_marked_and_comes_back_as_it_was() {
        for (tag, marked) in [
            ("\"v1\"", "W/\"v1~links\""),
            ("W/\"v1\"", "W/\"v1~links-weak\""),
            ("\"\"", "W/\"~links\""),
            ("\"~links\"", "W/\"~links~links\""),
        ] {
            let mut answer = headers(&[("etag", tag), ("accept-ranges", "bytes")]);
            mark(&mut answer);
            assert_eq!(answer[header::ETAG], marked);
            assert!(!answer.contains_key(header::ACCEPT_RANGES));
            for name in ["if-match", "if-none-match"] {
                let mut request = headers(&[(name, marked)]);
                assert_eq!(unmark(&mut request), Named::Marked);
                assert_eq!(request[name], tag);
                let mut edit = headers(&[(name, marked)]);
                unmark_edits(&mut edit);
                assert_eq!(edit[name], if name == "if-match" { tag } else { marked });
            }
        }
        let mut answer = headers(&[("etag", "v1")]);
        mark(&mut answer);
        assert!(answer.is_empty(), "not a tag");
    }

    #[test]
    fn lists_keep_what_is_not_ours() {
        let mut request = headers(&[(
            "if-none-match",
            "\"a\", W/\"b~links\" ,W/\"c~links-weak\",W/\"d\", \"e~links\"",
        )]);
        assert_eq!(unmark(&mut request), Named::Marked);
        assert_eq!(request["if-none-match"], "\"a\", \"b\" ,W/\"c\",W/\"d\", \"e~links\"");
        for same in ["*", "\"a\"", "W/\"a\", \"b", "~"] {
            let mut request = headers(&[("if-match", same), ("range", "bytes=0-1")]);
            assert_eq!(unmark(&mut request), Named::Nothing);
            assert_eq!(request["if-match"], same);
            assert!(request.contains_key(header::RANGE));
        }
    }

    #[test]
    fn a_marked_tag_and_a_range_ask_for_the_whole() {
        for field in ["if-range", "if-match", "if-none-match"] {
            let mut request = headers(&[(field, "W/\"a~links\""), ("range", "bytes=5-")]);
            assert_eq!(unmark(&mut request), Named::Marked);
            assert!(
                !request.contains_key(header::RANGE) && !request.contains_key(header::IF_RANGE),
                "{field}"
            );
        }
        let mut request = headers(&[("if-range", "\"a\""), ("range", "bytes=5-")]);
        assert_eq!(unmark(&mut request), Named::Nothing);
        assert_eq!(request.len(), 2);
        // Both representations have the same date.
        let mut request = headers(&[("if-range", "Wed, 21 Oct 2015 07:28:00 GMT"), ("range", "bytes=5-")]);
        assert_eq!(unmark(&mut request), Named::Nothing);
        assert!(request.is_empty());
    }

    #[test]
    fn what_is_not_modified_has_the_tag_that_the_client_named_or_none() {
        for (field, value, tag) in [
            ("if-none-match", "W/\"a~links\"", Some("W/\"a~links\"")),
            ("if-none-match", "\"a\"", Some("\"a\"")),
            ("if-none-match", "*", None),
            ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT", None),
        ] {
            let mut answer = headers(&[("etag", "\"a\""), ("accept-ranges", "bytes")]);
            not_modified(&mut answer, unmark(&mut headers(&[(field, value)])));
            assert_eq!(
                answer.get(header::ETAG).map(|tag| tag.to_str().unwrap()),
                tag,
                "{value}"
            );
            assert_eq!(
                answer.contains_key(header::ACCEPT_RANGES),
                tag == Some("\"a\""),
                "{value}"
            );
        }
    }
}
