//! Validators of bodies that are decoded or may be rewritten (RFC 9110 section 8.8.3).
//!
//! What the client gets is another representation than Atlas's, under the same name: a strong `ETag` would let a client join
//! parts of both. So the tag becomes weak and is marked, and `Accept-Ranges` goes. When the client sends the tag back, the
//! mark comes off again, so that an editing client's `If-Match` works.
//!
//! | Atlas | the client |
//! |---|---|
//! | `"abc"` | `W/"abc~links"` |
//! | `W/"abc"` | `W/"abc~links-weak"` |

use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memmem;

const STRONG: &[u8] = b"~links\"";
const WEAK: &[u8] = b"~links-weak\"";
/// Stands in both.
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

/// Takes the mark off the tags of a request (`If-Match`, `If-None-Match`). Where one stands in `If-Range`, or anywhere beside
/// `Range`, the request becomes one for the whole: parts of ours and of Atlas's do not fit. True: there was a mark.
pub fn unmark(headers: &mut HeaderMap) -> bool {
    let in_range = has_mark(headers, &header::IF_RANGE);
    let mut found = in_range;
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        if has_mark(headers, &name) {
            found = true;
            unmark_field(headers, &name);
        }
    }
    if found && (in_range || headers.contains_key(header::RANGE)) {
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
    found
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
                assert!(unmark(&mut request));
                assert_eq!(request[name], tag);
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
        assert!(unmark(&mut request));
        assert_eq!(request["if-none-match"], "\"a\", \"b\" ,W/\"c\",W/\"d\", \"e~links\"");
        for same in ["*", "\"a\"", "W/\"a\", \"b", "~"] {
            let mut request = headers(&[("if-match", same), ("range", "bytes=0-1")]);
            assert!(!unmark(&mut request));
            assert_eq!(request["if-match"], same);
            assert!(request.contains_key(header::RANGE));
        }
    }

    #[test]
    fn a_marked_tag_and_a_range_ask_for_the_whole() {
        for field in ["if-range", "if-match", "if-none-match"] {
            let mut request = headers(&[(field, "W/\"a~links\""), ("range", "bytes=5-")]);
            assert!(unmark(&mut request));
            assert!(
                !request.contains_key(header::RANGE) && !request.contains_key(header::IF_RANGE),
                "{field}"
            );
        }
        let mut request = headers(&[("if-range", "\"a\""), ("range", "bytes=5-")]);
        assert!(!unmark(&mut request));
        assert_eq!(request.len(), 2);
    }
}
