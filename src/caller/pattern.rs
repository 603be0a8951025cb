//! Patterns of names that somebody else vouches for: of certificates, subjects and claims.

use std::fmt;

/// What separates the parts of a name.
const SEPARATORS: [char; 3] = [':', '/', '.'];

/// A pattern. `*` is one whole part between `:`, `/` or `.`, and never an empty one; `**` is all the rest, and stands at
/// the end only. Letter case counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
    /// It ends in `**`.
    open: bool,
}

/// Why a text is no pattern, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing.
    #[error("the pattern is empty: write a name, in which `*` may stand for one whole part")]
    Empty,
    /// Blanks, control characters.
    #[error("`{0}` has a character that no such name has: leave out blanks and control characters")]
    Character(String),
    /// `web-*`
    #[error(
        "`{0}`: `*` is one whole part between `:`, `/` or `.`, and can't be a piece of one: write `*` in place of the whole part, or one pattern for each name"
    )]
    PartOfAPart(String),
    /// `a/**/b`
    #[error("`{0}`: `**` is all the rest, and so stands at the end only: write `*` for each part before it")]
    RestInTheMiddle(String),
    /// `*:a`
    #[error("`{0}` begins with a wildcard: begin with what is fixed, such as `spiffe://example.org/` or `repo:owner/`")]
    NoLiteral(String),
    /// `spiffe://*/a`
    #[error("`{0}` leaves the trust domain open: write it out, as in `spiffe://example.org/ns/billing/sa/*`")]
    TrustDomain(String),
    /// `system:serviceaccount:*:a`
    #[error(
        "`{0}` leaves the namespace open: whoever may make a namespace would be this caller; write it out, as in `system:serviceaccount:billing:*`"
    )]
    Namespace(String),
}

impl Pattern {
    /// Reads a pattern of subjects or claims.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let own = || text.to_owned();
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(PatternError::Character(own()));
        }
        let parts: Vec<&str> = text.split(SEPARATORS).collect();
        let is_wild = |part: &&str| matches!(*part, "*" | "**");
        if parts.iter().any(|part| part.contains('*') && !is_wild(part)) {
            return Err(PatternError::PartOfAPart(own()));
        }
        if parts[..parts.len() - 1].contains(&"**") {
            return Err(PatternError::RestInTheMiddle(own()));
        }
        if parts.iter().find(|part| !part.is_empty()).is_none_or(is_wild) {
            return Err(PatternError::NoLiteral(own()));
        }
        if leaves_trust_domain_open(text) {
            return Err(PatternError::TrustDomain(own()));
        }
        if leaves_namespace_open(&parts) {
            return Err(PatternError::Namespace(own()));
        }
        Ok(Self {
            text: own(),
            open: parts.last() == Some(&"**"),
        })
    }

    /// Reads a pattern of a certificate's names: of a URI when it has a `:`, else of a DNS name, which has no letter
    /// case.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse_certificate_name(text: &str) -> Result<Self, PatternError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PatternError::Character(text.to_owned()));
        }
        if text.contains(':') {
            Self::parse(text)
        } else {
            Self::parse(&text.to_ascii_lowercase())
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is a pattern of URIs, when it is one of a certificate's names.
    pub(super) fn is_uri(&self) -> bool {
        self.text.contains(':')
    }

    /// Whether `name` fits, byte for byte but for the wildcards.
    pub fn matches(&self, name: &str) -> bool {
        let mut rest = name;
        let fixed = if self.open {
            &self.text[..self.text.len() - 2]
        } else {
            &*self.text
        };
        // Between two wildcards stands a separator at least, so no wildcard has a choice of where to end.
        for (at, literal) in fixed.split('*').enumerate() {
            if at > 0 {
                let end = rest.find(SEPARATORS).unwrap_or(rest.len());
                if end == 0 {
                    return false;
                }
                rest = &rest[end..];
            }
            match rest.strip_prefix(literal) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        if self.open { !rest.is_empty() } else { rest.is_empty() }
    }
}

fn leaves_trust_domain_open(text: &str) -> bool {
    let scheme = "spiffe:";
    if !text
        .get(..scheme.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    {
        return false;
    }
    let rest = &text[scheme.len()..];
    let Some(domain) = rest.strip_prefix("//").and_then(|rest| rest.split('/').next()) else {
        return true;
    };
    domain.is_empty() || domain.contains('*')
}

/// Whether it can be the subject of service accounts of more than one namespace.
fn leaves_namespace_open(parts: &[&str]) -> bool {
    for (part, fixed) in parts.iter().zip(["system", "serviceaccount"]) {
        match *part {
            "**" => return true,
            "*" => {}
            part if part == fixed => {}
            _ => return false,
        }
    }
    parts.get(2).is_some_and(|namespace| matches!(*namespace, "*" | "**"))
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_are_whole_parts() {
        for (pattern, name, fits) in [
            (
                "spiffe://example.org/ns/billing/sa/*",
                "spiffe://example.org/ns/billing/sa/web",
                true,
            ),
            (
                "spiffe://example.org/ns/billing/sa/*",
                "spiffe://example.org/ns/billing/sa/",
                false,
            ),
            (
                "spiffe://example.org/ns/billing/sa/*",
                "spiffe://example.org/ns/billing/sa/web/x",
                false,
            ),
            (
                "spiffe://example.org/ns/billing/sa/*",
                "spiffe://example.org/ns/billing/sa/web.x",
                false,
            ),
            (
                "spiffe://example.org/ns/billing/sa/*",
                "spiffe://example.orgx/ns/billing/sa/web",
                false,
            ),
            (
                "spiffe://example.org/ns/*/sa/web",
                "spiffe://example.org/ns/a/sa/web",
                true,
            ),
            (
                "spiffe://example.org/ns/*/sa/web",
                "spiffe://example.org/ns/a/b/sa/web",
                false,
            ),
            (
                "spiffe://example.org/ns/*/sa/web",
                "spiffe://example.org/ns//sa/web",
                false,
            ),
            ("spiffe://example.org/**", "spiffe://example.org/a/b.c:d", true),
            ("spiffe://example.org/**", "spiffe://example.org/", false),
            ("spiffe://example.org/**", "spiffe://example.organization/a", false),
            (
                "system:serviceaccount:billing:*",
                "system:serviceaccount:billing:web",
                true,
            ),
            (
                "system:serviceaccount:billing:*",
                "system:serviceaccount:billing:web:x",
                false,
            ),
            (
                "system:serviceaccount:billing:*",
                "system:serviceaccount:billing",
                false,
            ),
            (
                "repo:octo/app:ref:refs/heads/*",
                "repo:octo/app:ref:refs/heads/main",
                true,
            ),
            (
                "repo:octo/app:ref:refs/heads/*",
                "repo:octo/app:ref:refs/heads/a/b",
                false,
            ),
            ("repo:octo/app:*", "repo:octo/app-evil:x", false),
            ("a.*.*", "a.b.c", true),
            ("a.*.*", "a.b", false),
            ("a.*.*", "a.b.c.d", false),
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("a/b", "a.b", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn what_would_let_in_too_many_is_refused_with_what_to_write() {
        type Refused = fn(String) -> PatternError;
        for (text, error) in [
            ("web-*", PatternError::PartOfAPart as Refused),
            ("a/***", PatternError::PartOfAPart),
            ("a/**x", PatternError::PartOfAPart),
            ("a/**/b", PatternError::RestInTheMiddle),
            ("**:a", PatternError::RestInTheMiddle),
            ("*", PatternError::NoLiteral),
            ("**", PatternError::NoLiteral),
            ("*.example.org", PatternError::NoLiteral),
            ("/*/a", PatternError::NoLiteral),
            (":/.", PatternError::NoLiteral),
            ("spiffe://*/a", PatternError::TrustDomain),
            ("spiffe://*.org/a", PatternError::TrustDomain),
            ("spiffe://example.*/a", PatternError::TrustDomain),
            ("spiffe://example.**", PatternError::TrustDomain),
            ("spiffe://**", PatternError::TrustDomain),
            ("spiffe:**", PatternError::TrustDomain),
            ("SPIFFE:*", PatternError::TrustDomain),
            ("spiffe:///a", PatternError::TrustDomain),
            ("system:serviceaccount:*:a", PatternError::Namespace),
            ("system:serviceaccount:*:*", PatternError::Namespace),
            ("system:serviceaccount:**", PatternError::Namespace),
            ("system:*:*:a", PatternError::Namespace),
            ("system:**", PatternError::Namespace),
            ("a b\n", PatternError::Character),
            (" a", PatternError::Character),
        ] {
            let said = Pattern::parse(text).unwrap_err();
            assert_eq!(said, error(text.to_owned()));
        }
        assert_eq!(Pattern::parse("").unwrap_err(), PatternError::Empty);
        for fine in [
            "system:serviceaccount:a:*",
            "system:node:*",
            "systems:*:*:a",
            "system:serviceaccount:a:**",
            "spiffe://a/**",
        ] {
            assert!(Pattern::parse(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn names_of_hosts_have_no_letter_case_and_uris_have() {
        let of = |text| Pattern::parse_certificate_name(text).unwrap();
        assert_eq!(of("App.Example.ORG").as_str(), "app.example.org");
        assert_eq!(of("spiffe://example.org/A").as_str(), "spiffe://example.org/A");
        assert!(of("urn:uuid:*").is_uri() && !of("app.example.org").is_uri());
        assert!(Pattern::parse_certificate_name("käse.example.org").is_err());
        assert!(Pattern::parse_certificate_name("a b").is_err());
    }

    /// Another way to read the definition: part by part.
    fn fits(pattern: &str, name: &str) -> bool {
        fn cut(text: &str) -> Vec<&str> {
            text.split_inclusive(SEPARATORS).collect()
        }
        fn bare(part: &str) -> (&str, &str) {
            let name = part.trim_end_matches(SEPARATORS);
            (name, &part[name.len()..])
        }
        let (pattern, name) = (cut(pattern), cut(name));
        for (at, wanted) in pattern.iter().enumerate() {
            if *wanted == "**" {
                return name[at.min(name.len())..].concat() != "";
            }
            let Some(part) = name.get(at) else { return false };
            let ((wanted, end), (part, its_end)) = (bare(wanted), bare(part));
            let same = if wanted == "*" {
                !part.is_empty()
            } else {
                wanted == part
            };
            if !same || end != its_end {
                return false;
            }
        }
        pattern.len() == name.len()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn two_readings_agree(pattern in "a([:/.](a|b|\\*|)){0,4}([/.]\\*\\*)?", name in "a([:/.](a|b|c|)){0,5}") {
            if let Ok(read) = Pattern::parse(&pattern) {
                prop_assert_eq!(read.matches(&name), fits(&pattern, &name), "{} {}", pattern, name);
            }
        }

        #[test]
        fn anything_is_decided(pattern in any::<String>(), name in any::<String>()) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&name);
            }
        }
    }
}
