//! Where the content of an answer ends (RFC 9112 section 6.3): unambiguously, or the answer is refused.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::chunked::Chunks;

/// What is still to come of the content of an answer.
pub(super) enum Content {
    /// So many bytes; none at the end, whatever the framing was.
    Length(u64),
    Chunked(Box<Chunks>),
    UntilClose,
}

impl Content {
    /// The content that a head announces to a request of `method`, and whether another answer can surely follow it; `None`: in
    /// no single way. Only fields of the framing that is read are left.
    ///
    /// Who announces content where there is none may send it, too, and who gives two framings may mean the other.
    pub(super) fn of(
        headers: &mut HeaderMap,
        method: &Method,
        status: StatusCode,
        version: Version,
    ) -> Option<(Self, bool)> {
        let both = headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH);
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        let content = match (codings.next(), codings.next()) {
            (None, _) => match one_length(headers)? {
                Some(length) => Self::Length(length),
                None => Self::UntilClose,
            },
            (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11 => {
                headers.remove(header::CONTENT_LENGTH);
                Self::Chunked(Box::default())
            }
            _ => return None,
        };
        let sure = !both
            && match (&content, status) {
                (Self::UntilClose, _) => false,
                (Self::Length(length), StatusCode::NO_CONTENT) => *length == 0,
                (Self::Chunked(_), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => false,
                _ => true,
            };
        let none = method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // An answer without content needs no framing to end.
        let unframed = none && matches!(content, Self::UntilClose);
        let content = if none { Self::Length(0) } else { content };
        Some((content, sure || unframed))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0))
    }
}

/// The length that is given, once or several times the same (rule 5); the outer `None`: there is no single one.
fn one_length(headers: &mut HeaderMap) -> Option<Option<u64>> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (first, second) = (values.next(), values.next());
    let Some(first) = first else { return Some(None) };
    if let (Some(length), None) = (length(first.as_bytes()), second)
        && (first == "0" || !first.as_bytes().starts_with(b"0"))
    {
        return Some(Some(length));
    }
    let mut all = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|one| length(one.trim_ascii()));
    let length = all.next()??;
    if !all.all(|other| other == Some(length)) {
        return None;
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Some(Some(length))
}

fn length(digits: &[u8]) -> Option<u64> {
    // `parse` would take a sign.
    let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    digits.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The content that is read, and the lengths that are passed on.
    fn read(fields: &[(&'static str, &str)]) -> Option<(String, Vec<String>)> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let content = match Content::of(&mut headers, &Method::GET, StatusCode::OK, Version::HTTP_11)?.0 {
            Content::Length(length) => length.to_string(),
            Content::Chunked(_) => "chunked".to_owned(),
            Content::UntilClose => "until close".to_owned(),
        };
        let lengths = headers.get_all("content-length").iter();
        Some((content, lengths.map(|l| l.to_str().unwrap().to_owned()).collect()))
    }

    #[test]
    fn one_framing_is_read_and_passed_on_or_none() {
        let some = |content: &str, lengths: &[&str]| {
            Some((content.to_owned(), lengths.iter().map(ToString::to_string).collect()))
        };
        assert_eq!(read(&[]), some("until close", &[]));
        assert_eq!(read(&[("content-length", "5")]), some("5", &["5"]));
        assert_eq!(read(&[("content-length", "5, 5")]), some("5", &["5"]));
        assert_eq!(read(&[("content-length", "005")]), some("5", &["5"]));
        assert_eq!(
            read(&[("content-length", "5"), ("content-length", "5")]),
            some("5", &["5"])
        );
        assert_eq!(
            read(&[("content-length", "5"), ("transfer-encoding", "Chunked")]),
            some("chunked", &[])
        );
        for refused in [
            &[("content-length", "5, 6")][..],
            &[("content-length", "5"), ("content-length", "6")],
            &[("content-length", "+5")],
            &[("content-length", "-5")],
            &[("content-length", "")],
            &[("content-length", "5,")],
            &[("content-length", "18446744073709551616")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(read(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn some_answers_have_no_content_and_chunks_are_of_http_1_1() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from(5));
        let mut over = |method, status| {
            Content::of(&mut headers, &method, status, Version::HTTP_11)
                .unwrap()
                .0
                .is_over()
        };
        assert!(over(Method::HEAD, StatusCode::OK));
        assert!(over(Method::GET, StatusCode::NO_CONTENT));
        assert!(over(Method::GET, StatusCode::NOT_MODIFIED));
        assert!(!over(Method::GET, StatusCode::OK));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        assert!(Content::of(&mut headers, &Method::GET, StatusCode::OK, Version::HTTP_10).is_none());
    }
}
