//! `Location`, `Content-Location`, `Refresh` and `Link`.

use http::{HeaderMap, HeaderValue, header};

use super::LinkRewriter;

impl LinkRewriter {
    /// Turns links in `Location`, `Content-Location` (RFC 9110 sections 10.2.2 and 8.7), `Refresh` (HTML standard, section
    /// 4.2.5.3) and `Link` (RFC 8288) into links to `client`, an origin.
    pub fn rewrite_headers(&self, headers: &mut HeaderMap, client: &str) {
        for (name, value) in headers.iter_mut() {
            let old = value.as_bytes();
            let new = match name {
                &header::LOCATION | &header::CONTENT_LOCATION => self.rewrite_at(old, 0, client),
                &header::REFRESH => refresh_target(old).and_then(|at| self.rewrite_at(old, at, client)),
                &header::LINK => self.rewrite_link(old, client.as_bytes()),
                _ => None,
            };
            if let Some(Ok(new)) = new.map(|new| HeaderValue::from_bytes(&new)) {
                *value = new;
            }
        }
    }

    /// Changes the URL that begins at `at`.
    fn rewrite_at(&self, value: &[u8], at: usize, client: &str) -> Option<Vec<u8>> {
        let origin = self.origin_length(&value[at..])?;
        Some([&value[..at], client.as_bytes(), &value[at + origin..]].concat())
    }

    /// Changes what stands in angle brackets, outside of quoted parameters.
    fn rewrite_link(&self, value: &[u8], client: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(value.len() + client.len());
        let (mut from, mut at, mut quoted, mut changed) = (0, 0, false, false);
        while at < value.len() {
            match value[at] {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b'<' if !quoted => {
                    if let Some(origin) = self.origin_length(&value[at + 1..]) {
                        out.extend_from_slice(&value[from..=at]);
                        out.extend_from_slice(client);
                        from = at + 1 + origin;
                        at = from;
                        changed = true;
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        out.extend_from_slice(&value[from..]);
        changed.then_some(out)
    }
}

/// Where the URL of `5; url="https://…` begins.
fn refresh_target(value: &[u8]) -> Option<usize> {
    let separator = value.iter().position(|byte| matches!(byte, b';' | b','))?;
    let skip_blanks = |from: usize| {
        from + value[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count()
    };
    let mut at = skip_blanks(separator + 1);
    if value
        .get(at..at + 3)
        .is_some_and(|name| name.eq_ignore_ascii_case(b"url"))
    {
        let equals = skip_blanks(at + 3);
        if value.get(equals) == Some(&b'=') {
            at = skip_blanks(equals + 1);
        }
    }
    if matches!(value.get(at), Some(b'"' | b'\'')) {
        at += 1;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Origin;

    fn rewritten(name: &'static str, value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        LinkRewriter::new(&Origin::commercial()).rewrite_headers(&mut headers, "http://localhost:8080");
        headers[name].to_str().unwrap().to_owned()
    }

    #[test]
    fn location() {
        for (from, to) in [
            (
                "https://cloud.mongodb.com//api/atlas/v1.0",
                "http://localhost:8080//api/atlas/v1.0",
            ),
            ("HTTPS://Cloud.MongoDB.com/api/x", "http://localhost:8080/api/x"),
            ("https://cloud.mongodb.com:443/api/x", "http://localhost:8080/api/x"),
        ] {
            assert_eq!(rewritten("location", from), to);
        }
        for same in [
            "https://cloud.mongodb.com/v2",
            "https://cloud.mongodb.com.evil/api/x",
            "https://cloud.mongodb.com:444/api/x",
            "http://cloud.mongodb.com/api/x",
            "https://cloud.mongodb.com/apix",
            "/api/x",
            "https://cloud.mongodb.com",
        ] {
            assert_eq!(rewritten("location", same), same);
        }
    }

    #[test]
    fn content_location_and_refresh() {
        assert_eq!(
            rewritten("content-location", "https://cloud.mongodb.com/api/x"),
            "http://localhost:8080/api/x"
        );
        for (from, to) in [
            (
                "5; url=https://cloud.mongodb.com/api/x?a=1;b",
                "5; url=http://localhost:8080/api/x?a=1;b",
            ),
            (
                "0;URL = 'https://cloud.mongodb.com/api/x'",
                "0;URL = 'http://localhost:8080/api/x'",
            ),
            ("1, https://cloud.mongodb.com/api/x", "1, http://localhost:8080/api/x"),
        ] {
            assert_eq!(rewritten("refresh", from), to);
        }
        for same in [
            "5",
            "5;",
            "5; url=",
            "5; url=/api/x",
            "5; url=https://cloud.mongodb.com/x",
            "5; u",
        ] {
            assert_eq!(rewritten("refresh", same), same);
        }
    }

    #[test]
    fn link() {
        assert_eq!(
            rewritten(
                "link",
                r#"<https://cloud.mongodb.com/api/a>; rel="next", <https://cloud.mongodb.com/api/b>; rel="https://cloud.mongodb.com/api/c"; t="\"<https://cloud.mongodb.com/api/d>", </api/e>"#
            ),
            r#"<http://localhost:8080/api/a>; rel="next", <http://localhost:8080/api/b>; rel="https://cloud.mongodb.com/api/c"; t="\"<https://cloud.mongodb.com/api/d>", </api/e>"#
        );
    }

    #[test]
    fn each_line_of_a_field() {
        let mut headers = HeaderMap::new();
        for path in ["a", "b"] {
            let link = format!("<https://cloud.mongodb.com/api/{path}>");
            headers.append(header::LINK, HeaderValue::from_str(&link).unwrap());
            headers.append("x-other", HeaderValue::from_str(&link).unwrap());
        }
        LinkRewriter::new(&Origin::commercial()).rewrite_headers(&mut headers, "http://localhost:8080");
        let lines = |name| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(
            lines("link"),
            ["<http://localhost:8080/api/a>", "<http://localhost:8080/api/b>"]
        );
        assert_eq!(lines("x-other")[1], "<https://cloud.mongodb.com/api/b>");
    }
}
