//! Where the content of a message ends, and whether another message may follow it on the connection.

use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::body::BodySource;
use super::record::Record;
use super::response_body::Content;

/// An answer that overtakes its request's body ends an HTTP/1.1 connection: what follows may be the rest of the body. The
/// client is told, so that it sends nothing more that would be lost (RFC 9112 section 9.6).
pub(super) fn close_after_half_a_body(headers: &mut HeaderMap, record: &Record, version: Version) {
    let whole = match &record.inbound {
        Some(inbound) => inbound.ended(),
        None => !record.unread,
    };
    if !whole && version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A client of HTTP/1.0 finds the end of an answer without a length at the end of the connection (RFC 9112 section
/// 6.3), so that another request can't follow.
pub(super) fn close_without_length(headers: &mut HeaderMap, content: &Content, version: Version) {
    if version == Version::HTTP_10 && !content.is_end_stream() && content.size_hint().exact().is_none() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// One unambiguous framing (RFC 9112 section 6): the length that was given, or chunked.
pub(super) fn frame(headers: &mut HeaderMap, method: &Method, source: &BodySource, had_length: bool) {
    if source.is_empty() {
        // RFC 9110 section 8.6: a method that anticipates content says that there is none.
        let anticipates = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        headers.remove(header::CONTENT_LENGTH);
        if had_length || anticipates {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if let Some(length) = source.length() {
        // Once, with the length that was understood: HTTP/2 may have brought it several times.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
