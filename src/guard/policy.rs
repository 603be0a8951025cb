//! Which methods and paths are let through.
//!
//! Rules are matched on the canonical reading of a path; a path that has none, because servers differ in
//! what they make of it, is refused as soon as there are rules. What was matched is what is sent, byte for byte. `allow`
//! rules compare exactly; `deny` rules see through upper and lower case, a slash at the end, and wide or invisible
//! characters. `%2F` has two readings, every one part of a segment or every one a separator, and passes when both are
//! allowed. A rule for GET is one for HEAD, too (RFC 9110 section 9.3.2). The query plays no part: Atlas knows no
//! method or path in it. (Method-override headers are dropped before forwarding.)

mod told;

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::path::{Unclear, canonical, slash_readings};
use super::pattern::PathPattern;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    Allow,
    /// It is refused.
    Deny,
}

/// Methods, a path pattern, and what becomes of a request that matches both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Empty: any.
    methods: Box<[Method]>,
    path: PathPattern,
    action: Action,
}

impl Rule {
    /// A rule; no methods: any method.
    pub fn new(methods: Vec<Method>, path: PathPattern, action: Action) -> Self {
        Self {
            methods: methods.into(),
            path,
            action,
        }
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        match self.action {
            Action::Allow => {
                self.has_method(|m| m == method, method == Method::HEAD) && self.path.matches_exactly(path)
            }
            Action::Deny => {
                // Methods are case-sensitive (RFC 9110 section 9.1), but not every server knows.
                let is = |m: &Method| method.as_str().eq_ignore_ascii_case(m.as_str());
                self.has_method(is, is(&Method::HEAD)) && self.path.matches_loosely(path)
            }
        }
    }

    fn has_method(&self, is: impl Fn(&Method) -> bool, is_head: bool) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|m| is(m) || (is_head && m == Method::GET))
    }
}

/// Which reading of `%2F`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlashReading {
    /// Each is part of a segment.
    Part,
    /// Each is a separator.
    Separator,
}

impl fmt::Display for SlashReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "part of a segment",
            Self::Separator => "a separator",
        })
    }
}

/// Why method and path were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyDenied {
    /// The listener lets only reading methods through.
    #[error("the listener is read-only (`read_only`): only GET, HEAD and OPTIONS pass")]
    ReadOnly,
    /// This rule, counted from 1, denies.
    #[error("rule {0} of the listener (`[[listener.rule]]`, counted from 1) denies this method and path")]
    Rule(usize),
    /// There are rules, none matches, and `unmatched` is `deny`.
    #[error("no rule of the listener (`[[listener.rule]]`) allows this method and path")]
    Unmatched,
    /// There are rules, and servers may differ in how they read the path.
    #[error("the path can be read in more than one way and the listener has rules: {0}; send it in its plain form")]
    Unclear(Unclear),
    /// The path has `%2F`, and one of its two readings is refused.
    #[error(
        "the path has `%2F`, which servers read in two ways (part of a segment, or a separator), and rules must allow both; \
         with `%2F` as {reading}: {why}"
    )]
    EncodedSlash {
        /// Which one.
        reading: SlashReading,
        /// Why.
        why: Box<PolicyDenied>,
    },
}

impl PolicyDenied {
    /// The rule that denies, counted from 1.
    pub fn rule(&self) -> Option<usize> {
        match self {
            Self::Rule(n) => Some(*n),
            Self::EncodedSlash { why, .. } => why.rule(),
            Self::ReadOnly | Self::Unmatched | Self::Unclear(_) => None,
        }
    }
}

/// What a listener lets through: `read_only` first, then the first rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    read_only: bool,
    rules: Arc<[Rule]>,
    unmatched: Action,
}

impl Policy {
    /// Lets every method and path through.
    pub fn allow_all() -> Self {
        Self::new(false, Vec::new(), Action::Allow)
    }

    /// `unmatched` is what becomes of a request that no rule matches; it plays no part when there are no rules.
    pub fn new(read_only: bool, rules: Vec<Rule>, unmatched: Action) -> Self {
        Self {
            read_only,
            rules: rules.into(),
            unmatched,
        }
    }

    /// Whether a request with this method and path (percent-encoded, without query) may go on.
    ///
    /// # Errors
    /// When it may not; see [`PolicyDenied`].
    pub fn check(&self, method: &Method, path: &str) -> Result<(), PolicyDenied> {
        self.decided_by(method, path).map(|_| ())
    }

    /// The same, with the rule that lets it through, counted from 1. None: there is no rule about it.
    ///
    /// # Errors
    /// As for [`Policy::check`].
    pub fn decided_by(&self, method: &Method, path: &str) -> Result<Option<usize>, PolicyDenied> {
        if self.read_only && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Err(PolicyDenied::ReadOnly);
        }
        if self.rules.is_empty() {
            return Ok(None);
        }
        match canonical(path) {
            Ok(path) => self.decide(method, &path),
            Err(Unclear::EncodedSlash) => self.check_slashes(method, path),
            Err(why) => Err(PolicyDenied::Unclear(why)),
        }
    }

    fn check_slashes(&self, method: &Method, path: &str) -> Result<Option<usize>, PolicyDenied> {
        let mut first = None;
        let readings = [SlashReading::Part, SlashReading::Separator];
        for (reading, path) in readings.into_iter().zip(slash_readings(path)) {
            let by = path
                .map_err(PolicyDenied::Unclear)
                .and_then(|path| self.decide(method, &path))
                .map_err(|why| PolicyDenied::EncodedSlash {
                    reading,
                    why: Box::new(why),
                })?;
            first = first.or(by);
        }
        Ok(first)
    }

    /// The first rule that matches a reading decides.
    fn decide(&self, method: &Method, path: &str) -> Result<Option<usize>, PolicyDenied> {
        let decisive = self
            .rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.matches(method, path));
        match decisive.map(|(i, rule)| (i, rule.action)) {
            Some((i, Action::Allow)) => Ok(Some(i + 1)),
            Some((i, Action::Deny)) => Err(PolicyDenied::Rule(i + 1)),
            None if self.unmatched == Action::Allow => Ok(None),
            None => Err(PolicyDenied::Unmatched),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(methods: &[&str], path: &str, action: Action) -> Rule {
        let methods = methods.iter().map(|m| m.parse().unwrap()).collect();
        Rule::new(methods, PathPattern::parse(path).unwrap(), action)
    }

    fn method(text: &str) -> Method {
        Method::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn without_rules_everything_passes_as_it_is() {
        for path in ["/", "/a//b/../%2e;x\\", "*", ""] {
            assert_eq!(Policy::allow_all().check(&Method::DELETE, path), Ok(()));
            assert_eq!(
                Policy::new(false, Vec::new(), Action::Deny).check(&Method::DELETE, path),
                Ok(())
            );
        }
    }

    #[test]
    fn read_only_is_about_methods_alone() {
        let policy = Policy::new(true, Vec::new(), Action::Allow);
        for good in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(policy.check(&method(good), "/a//../b"), Ok(()), "{good}");
        }
        for bad in [
            "POST", "PUT", "PATCH", "DELETE", "get", "QUERY", "PROPFIND", "LOCK", "X",
        ] {
            assert_eq!(policy.check(&method(bad), "/a"), Err(PolicyDenied::ReadOnly), "{bad}");
        }
        let allowing = Policy::new(true, vec![rule(&[], "/**", Action::Allow)], Action::Allow);
        assert_eq!(allowing.check(&Method::POST, "/a"), Err(PolicyDenied::ReadOnly));
    }

    #[test]
    fn the_first_match_decides() {
        let policy = Policy::new(
            false,
            vec![
                rule(&[], "/groups/open/**", Action::Allow),
                rule(&["DELETE"], "/groups/**", Action::Deny),
                rule(&["GET", "DELETE"], "/groups/*/users", Action::Allow),
            ],
            Action::Deny,
        );
        assert_eq!(policy.check(&Method::DELETE, "/groups/open/x"), Ok(()));
        assert_eq!(
            policy.check(&Method::DELETE, "/groups/1/users"),
            Err(PolicyDenied::Rule(2))
        );
        assert_eq!(policy.check(&Method::GET, "/groups/1/users"), Ok(()));
        assert_eq!(
            policy.check(&Method::GET, "/groups/1/other"),
            Err(PolicyDenied::Unmatched)
        );
        assert_eq!(
            policy.check(&Method::POST, "/groups/1/users"),
            Err(PolicyDenied::Unmatched)
        );
    }

    #[test]
    fn head_follows_get() {
        let allow = Policy::new(false, vec![rule(&["GET"], "/a", Action::Allow)], Action::Deny);
        assert_eq!(allow.check(&Method::HEAD, "/a"), Ok(()));
        let deny = Policy::new(false, vec![rule(&["GET"], "/a", Action::Deny)], Action::Allow);
        assert_eq!(deny.check(&Method::HEAD, "/a"), Err(PolicyDenied::Rule(1)));
        let head = Policy::new(false, vec![rule(&["HEAD"], "/a", Action::Allow)], Action::Deny);
        assert_eq!(head.check(&Method::GET, "/a"), Err(PolicyDenied::Unmatched));
    }

    #[test]
    fn deny_sees_through_case_and_trailing_slash_and_allow_does_not() {
        let deny = Policy::new(
            false,
            vec![rule(&["GET"], "/a/databaseUsers/**", Action::Deny)],
            Action::Allow,
        );
        for path in [
            "/a/databaseUsers",
            "/a/databaseusers/",
            "/A/DATABASEUSERS/x",
            "/a/%20databaseUsers/x",
            "/a/databa%C5%BFeUsers",
        ] {
            for name in ["GET", "get", "Head"] {
                assert_eq!(
                    deny.check(&method(name), path),
                    Err(PolicyDenied::Rule(1)),
                    "{name} {path}"
                );
            }
        }
        let allow = Policy::new(
            false,
            vec![rule(&["GET"], "/a/databaseUsers", Action::Allow)],
            Action::Deny,
        );
        assert_eq!(allow.check(&Method::GET, "/a/databaseUsers"), Ok(()));
        for (name, path) in [
            ("GET", "/a/databaseusers"),
            ("GET", "/a/databaseUsers/"),
            ("get", "/a/databaseUsers"),
        ] {
            assert_eq!(
                allow.check(&method(name), path),
                Err(PolicyDenied::Unmatched),
                "{name} {path}"
            );
        }
    }

    #[test]
    fn a_path_with_two_readings_is_refused_when_there_are_rules() {
        let policy = Policy::new(false, vec![rule(&[], "/**", Action::Allow)], Action::Allow);
        for path in [
            "/a/../b", "/a//b", "/a;b", "/a\\b", "/%61", "/%252e", "/a%00", "/%c0%ae",
        ] {
            assert!(
                matches!(policy.check(&Method::GET, path), Err(PolicyDenied::Unclear(_))),
                "{path}"
            );
        }
        for path in ["/a%20b", "/c:pause", "/x.gz", "/%24external/%C3%A9", "/"] {
            assert_eq!(policy.check(&Method::GET, path), Ok(()), "{path}");
        }
    }

    #[test]
    fn an_encoded_slash_passes_when_both_readings_are_allowed() {
        let entry = "/groups/1/accessList/10.1.0.0%2F16";
        let one = rule(&["GET"], "/groups/{id}/accessList/{entry}", Action::Allow);
        let two = rule(&["GET"], "/groups/{id}/accessList/{address}/{bits}", Action::Allow);
        let both = Policy::new(false, vec![one.clone(), two.clone()], Action::Deny);
        for path in [entry, "/groups/1/accessList/10.1.0.0%2f16"] {
            assert_eq!(both.check(&Method::GET, path), Ok(()), "{path}");
        }
        for (rules, refused) in [(vec![one], SlashReading::Separator), (vec![two], SlashReading::Part)] {
            let policy = Policy::new(false, rules, Action::Deny);
            let said = policy.check(&Method::GET, entry).unwrap_err();
            let why = Box::new(PolicyDenied::Unmatched);
            assert_eq!(said, PolicyDenied::EncodedSlash { reading: refused, why });
            assert!(said.to_string().contains(&format!("as {refused}: no rule")), "{said}");
        }
        let open = Policy::new(
            false,
            vec![
                rule(&[], "/groups/*/secret/**", Action::Deny),
                rule(&[], "/groups/**", Action::Allow),
            ],
            Action::Deny,
        );
        assert_eq!(open.check(&Method::GET, "/groups/a%2Fb%2Fc/x"), Ok(()));
        for path in [
            "/groups/1%2Fsecret",
            "/groups/1%2Fsecret%2Fx",
            "/groups/a%2Fb/secret",
            "/groups%2F1",
            "/groups/a%2F..%2Fb",
            "/groups/a%2F%2Fb",
            "/groups/%2Fa",
            "/groups/..%2Fa",
            "/groups/a%2F.",
            "/groups/a%2F;x",
            "/groups/a%2F%61",
            "/groups/a%252Fb",
            "/groups/a%2F\\b",
        ] {
            assert!(open.check(&Method::GET, path).is_err(), "{path}");
        }
        assert!(
            PathPattern::parse("/groups/a%2Fb")
                .unwrap_err()
                .to_string()
                .contains("two readings")
        );
    }

    #[test]
    fn many_rules_and_a_long_path_take_no_time() {
        let rules = (0..200)
            .map(|i| rule(&["GET"], &format!("/a/{{x}}/b{i}/**"), Action::Allow))
            .collect();
        let policy = Policy::new(false, rules, Action::Deny);
        let long = format!("/a/x/b199/{}", "y/".repeat(30_000));
        assert_eq!(policy.check(&Method::GET, &long), Ok(()));
    }
}

#[cfg(test)]
mod properties;
