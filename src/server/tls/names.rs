//! Names in certificates, and patterns of them.

/// A text that is no name pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name pattern: write a DNS name (`app.example.org`, `*.example.org`) or a URI (`spiffe://example.org/ns/apps/sa/*`), where `*` stands for part of one label or segment"
)]
pub struct NamePatternError(pub String);

/// A pattern of subject alternative names (RFC 5280 section 4.2.1.6): a URI when it has `://`, else a DNS name. `*` stands
/// for at least one character other than `/` in a URI, other than `.` in a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    uri: bool,
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When no name could match it.
    pub fn parse(text: &str) -> Result<Self, NamePatternError> {
        let text = text.trim();
        let uri = text.contains("://");
        let right = if uri {
            !text.starts_with("://") && text.bytes().all(|b| b.is_ascii_graphic())
        } else {
            !text.is_empty()
                && text.split('.').all(|label| {
                    !label.is_empty()
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*'))
                })
        };
        if !right {
            return Err(NamePatternError(text.to_owned()));
        }
        Ok(Self {
            // DNS names have no case; URIs do.
            text: if uri {
                text.to_owned()
            } else {
                text.to_ascii_lowercase()
            },
            uri,
        })
    }

    /// As it was written, DNS names in lower case.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn matches_uri(&self, name: &str) -> bool {
        self.uri && glob(self.text.as_bytes(), name.as_bytes(), b'/')
    }

    pub(super) fn matches_dns(&self, name: &str) -> bool {
        // A wildcard certificate is for many clients: it doesn't tell which one this is.
        !self.uri && !name.contains('*') && glob(self.text.as_bytes(), name.to_ascii_lowercase().as_bytes(), b'.')
    }
}

/// `*` takes one or more bytes up to `separator`. Bounded: a pattern is walked with one place to go back to for each star.
fn glob(pattern: &[u8], name: &[u8], separator: u8) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(b'*') if name.get(n).is_some_and(|b| *b != separator) => {
                n += 1;
                p += 1;
                back = Some((p, n));
                continue;
            }
            Some(byte) if *byte != b'*' && name.get(n) == Some(byte) => {
                p += 1;
                n += 1;
                continue;
            }
            None if n == name.len() => return true,
            _ => {}
        }
        match back {
            Some((star, taken)) if name.get(taken).is_some_and(|b| *b != separator) => {
                p = star;
                n = taken + 1;
                back = Some((star, taken + 1));
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, uri, dns) in [
            (
                "spiffe://example.org/ns/apps/sa/*",
                "spiffe://example.org/ns/apps/sa/web.1",
                true,
                false,
            ),
            (
                "spiffe://example.org/ns/apps/sa/*",
                "spiffe://example.org/ns/apps/sa/",
                false,
                false,
            ),
            (
                "spiffe://example.org/ns/apps/sa/*",
                "spiffe://example.org/ns/apps/sa/a/b",
                false,
                false,
            ),
            (
                "spiffe://example.org/ns/*/sa/web",
                "spiffe://example.org/ns/apps/sa/web",
                true,
                false,
            ),
            (
                "spiffe://example.org/ns/*/sa/web",
                "spiffe://example.org/ns/a/b/sa/web",
                false,
                false,
            ),
            ("spiffe://a/*-x", "spiffe://a/b-x-x", true, false),
            ("spiffe://a/*-x*", "spiffe://a/b-x", false, false),
            ("spiffe://A/b", "spiffe://a/b", false, false),
            ("app.example.org", "APP.example.org", false, true),
            ("app.example.org", "app.example.org.evil", false, false),
            ("*.example.org", "app.example.org", false, true),
            ("*.example.org", "a.b.example.org", false, false),
            ("*.example.org", ".example.org", false, false),
            ("*.example.org", "*.example.org", false, false),
            ("app-*.example.org", "app-7.example.org", false, true),
            ("app.example.org", "spiffe://app.example.org", false, false),
        ] {
            let parsed = NamePattern::parse(pattern).unwrap();
            assert_eq!(
                (parsed.matches_uri(name), parsed.matches_dns(name)),
                (uri, dns),
                "{pattern} {name}"
            );
        }
        for bad in ["", " ", "a b", "a..b", ".a", "://x", "spiffe://a b", "a/b", "a:80"] {
            assert!(NamePattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn globs_end() {
        let pattern = "*a".repeat(30);
        let name = "a".repeat(200);
        assert!(!glob(format!("{pattern}b").as_bytes(), name.as_bytes(), b'/'));
        assert!(glob(pattern.as_bytes(), name.as_bytes(), b'/'));
    }
}
