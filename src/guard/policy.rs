//! Which methods and paths are let through.

use http::Method;

use super::path::{PathPattern, normalize};

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Let through.
    Allow,
    /// Refuse.
    Deny,
}

/// Methods and a path pattern, and what happens to requests that match both.
#[derive(Debug, Clone)]
pub struct Rule {
    methods: Vec<Method>,
    path: PathPattern,
    action: Action,
}

impl Rule {
    /// No methods stand for any. A rule for GET is one for HEAD, too.
    pub fn new(methods: Vec<Method>, path: PathPattern, action: Action) -> Self {
        Self { methods, path, action }
    }

    fn covers_method(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyDenied {
    /// `read_only` is set.
    #[error("the listener is read-only: GET, HEAD and OPTIONS only")]
    ReadOnly,
    /// A rule says so.
    #[error("rule {} of the listener denies this method and path", .0 + 1)]
    Rule(usize),
    /// No rule allows it.
    #[error("no rule of the listener allows this method and path")]
    Unmatched,
    /// With rules, a path must have one reading.
    #[error(
        "the path can be read in more than one way (dot segments, `//`, `;`, `\\`, doubtful percent-encoding), which is refused where rules exist"
    )]
    Ambiguous,
}

/// A listener's rules, in order.
#[derive(Debug, Clone)]
pub struct Policy {
    read_only: bool,
    rules: Vec<Rule>,
    unmatched: Action,
}

impl Policy {
    /// Everything (but what is refused everywhere).
    pub fn allow_all() -> Self {
        Self::new(false, Vec::new(), Action::Allow)
    }

    /// First match decides; `unmatched` is for requests that match none of at least one rule.
    pub fn new(read_only: bool, rules: Vec<Rule>, unmatched: Action) -> Self {
        Self {
            read_only,
            rules,
            unmatched,
        }
    }

    /// Decides on a method and a path (without query).
    ///
    /// # Errors
    /// See [`PolicyDenied`].
    pub fn check(&self, method: &Method, path: &str) -> Result<(), PolicyDenied> {
        if self.read_only && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Err(PolicyDenied::ReadOnly);
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        let path = normalize(path).map_err(|_| PolicyDenied::Ambiguous)?;
        for (number, rule) in self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.covers_method(method))
        {
            match rule.action {
                Action::Allow if rule.path.matches(&path) => return Ok(()),
                Action::Deny if rule.path.matches_any_case(&path) => return Err(PolicyDenied::Rule(number)),
                Action::Allow | Action::Deny => {}
            }
        }
        match self.unmatched {
            Action::Allow => Ok(()),
            Action::Deny => Err(PolicyDenied::Unmatched),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(methods: &[&str], path: &str, action: Action) -> Rule {
        let methods = methods
            .iter()
            .map(|m| Method::from_bytes(m.as_bytes()).unwrap())
            .collect();
        Rule::new(methods, PathPattern::parse(path).unwrap(), action)
    }

    #[test]
    fn first_match_decides() {
        let policy = Policy::new(
            false,
            vec![
                rule(&[], "/api/atlas/v2/groups/{id}/databaseUsers/**", Action::Deny),
                rule(&["GET"], "/api/atlas/v2/**", Action::Allow),
            ],
            Action::Deny,
        );
        let check = |method: &str, path: &str| policy.check(&Method::from_bytes(method.as_bytes()).unwrap(), path);
        assert_eq!(check("GET", "/api/atlas/v2/groups"), Ok(()));
        assert_eq!(check("HEAD", "/api/atlas/v2/groups"), Ok(()));
        assert_eq!(check("POST", "/api/atlas/v2/groups"), Err(PolicyDenied::Unmatched));
        for path in [
            "/api/atlas/v2/groups/1/databaseUsers",
            "/API/atlas/v2/GROUPS/1/databaseusers/",
            "/api/atlas/v2/groups/1/databaseUsers/x",
        ] {
            assert_eq!(check("GET", path), Err(PolicyDenied::Rule(0)), "{path}");
        }
        for path in [
            "/api/atlas/v2/groups/1/%64atabaseUsers",
            "/api/atlas/v2/groups/1//databaseUsers",
            "/api/atlas/v2/x/../groups/1/databaseUsers",
        ] {
            assert_eq!(check("GET", path), Err(PolicyDenied::Ambiguous), "{path}");
        }
    }

    #[test]
    fn read_only_alone_looks_at_the_method_only() {
        let policy = Policy::new(true, vec![], Action::Allow);
        assert_eq!(policy.check(&Method::GET, "/a//b"), Ok(()));
        assert_eq!(policy.check(&Method::DELETE, "/a"), Err(PolicyDenied::ReadOnly));
    }
}
