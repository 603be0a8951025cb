//! Where the content of an answer ends: unambiguously, or the answer is refused.

use http::{HeaderMap, HeaderValue, header};

/// Leaves only the framing by which hyper reads (RFC 9112 section 6.3), and returns whether there is one: hyper reads
/// content in an unknown coding to the end of the connection, and we would pass it on without naming the coding.
pub(super) fn one_framing(headers: &mut HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => one_length(headers),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            headers.remove(header::CONTENT_LENGTH);
            true
        }
        _ => false,
    }
}

/// Merges several equal lengths into one (RFC 9112 section 6.3 rule 5).
fn one_length(headers: &mut HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(first), second) = (values.next(), values.next()) else {
        return true;
    };
    let digits = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if second.is_none() && digits(first.as_bytes()) {
        return true;
    }
    let mut all = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let Some(length) = all.next().filter(|length| digits(length)) else {
        return false;
    };
    if !all.all(|other| other == length) {
        return false;
    }
    let Ok(length) = HeaderValue::from_bytes(length) else {
        return false;
    };
    headers.insert(header::CONTENT_LENGTH, length);
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_framing_is_left_or_none() {
        let framed = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            one_framing(&mut headers).then(|| {
                let lengths: Vec<_> = headers.get_all("content-length").iter().cloned().collect();
                lengths
                    .iter()
                    .map(|l| l.to_str().unwrap().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        let some = |lengths: &[&str]| Some(lengths.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(framed(&[]), some(&[]));
        assert_eq!(framed(&[("content-length", "5")]), some(&["5"]));
        assert_eq!(framed(&[("content-length", "5, 5")]), some(&["5"]));
        assert_eq!(
            framed(&[("content-length", "5"), ("content-length", "5")]),
            some(&["5"])
        );
        assert_eq!(
            framed(&[("content-length", "5"), ("transfer-encoding", "chunked")]),
            some(&[])
        );
        for refused in [
            &[("content-length", "5, 6")][..],
            &[("content-length", "+5")],
            &[("content-length", "")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(framed(refused), None, "{refused:?}");
        }
    }
}
