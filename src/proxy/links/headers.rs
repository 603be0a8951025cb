//! `Location` and `Link`.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::LinkRewriter;

impl LinkRewriter {
    /// Turns links in `Location` (RFC 9110 section 10.2.2) and `Link` (RFC 8288) into links to `client`, an origin.
    pub fn rewrite_headers(&self, headers: &mut HeaderMap, client: &str) {
        self.rewrite(headers, &header::LOCATION, |value| {
            self.origin_length(value)
                .map(|origin| [client.as_bytes(), &value[origin..]].concat())
        });
        self.rewrite(headers, &header::LINK, |value| {
            self.rewrite_link(value, client.as_bytes())
        });
    }

    fn rewrite(&self, headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let Ok(mut entry) = headers.try_entry(name) else { return };
        if let header::Entry::Occupied(entry) = &mut entry {
            for value in entry.iter_mut() {
                if let Some(Ok(changed)) = change(value.as_bytes()).map(|new| HeaderValue::from_bytes(&new)) {
                    *value = changed;
                }
            }
        }
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
    fn link() {
        assert_eq!(
            rewritten(
                "link",
                r#"<https://cloud.mongodb.com/api/a>; rel="next", <https://cloud.mongodb.com/api/b>; rel="https://cloud.mongodb.com/api/c"; t="\"<https://cloud.mongodb.com/api/d>", </api/e>"#
            ),
            r#"<http://localhost:8080/api/a>; rel="next", <http://localhost:8080/api/b>; rel="https://cloud.mongodb.com/api/c"; t="\"<https://cloud.mongodb.com/api/d>", </api/e>"#
        );
    }
}
