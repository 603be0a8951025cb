#![allow(clippy::unwrap_used)]

mod errors;
mod properties;
mod rules;
mod slashes;

use std::sync::Arc;

use http::Method;

use super::*;
use crate::catalogue::Catalogue;
use crate::guard::PathPattern;

pub(super) const PROJECT: &str = "5a0a1e7e0f2912c554080adc";
pub(super) const OTHER: &str = "5a0a1e7e0f2912c554080aaa";

fn list(text: &str) -> Option<Vec<String>> {
    Some(text.split(' ').map(str::to_owned).collect())
}

/// `allow operations=a,b methods=GET`: a rule as a line; values are split at commas, `_` in a tag is a blank.
pub(super) fn parts(line: &str) -> RuleParts {
    let mut words = line.split_whitespace();
    let action = match words.next().unwrap() {
        "allow" => Action::Allow,
        "deny" => Action::Deny,
        "warn" => Action::Warn,
        odd => panic!("{odd}"),
    };
    let mut parts = RuleParts::of_any(action);
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let values = || list(&value.replace(',', " "));
        match key {
            "operations" => parts.operations = values(),
            "tags" => parts.tags = Some(value.split(',').map(|tag| tag.replace('_', " ")).collect()),
            "methods" => {
                let methods = value
                    .split(',')
                    .map(|method| Method::from_bytes(method.as_bytes()).unwrap());
                parts.methods = Some(methods.collect());
            }
            "path" => parts.path = Some(PathPattern::parse(value).unwrap()),
            "projects" => parts.projects = values(),
            "organizations" => parts.organizations = values(),
            odd => panic!("{odd}"),
        }
    }
    parts
}

/// The rules of a caller, and the account's own client id.
pub(super) struct Caller {
    catalogue: Arc<Catalogue>,
    rules: CallerRules,
    own: OwnCredential,
}

impl Caller {
    pub(super) fn new(lines: &[&str]) -> Self {
        Self::with(lines, false)
    }

    pub(super) fn with(lines: &[&str], own_account: bool) -> Self {
        let catalogue = Arc::new(Catalogue::new());
        let rule = |line: &&str| Rule::new(parts(line), &catalogue).unwrap_or_else(|error| panic!("{line}: {error}"));
        Self {
            rules: CallerRules::new(lines.iter().map(rule).collect(), own_account, catalogue.clone()),
            catalogue,
            own: OwnCredential::new(Some("mdb_sa_id_0123456789AbCdEf")),
        }
    }

    pub(super) fn decide(&self, method: &str, path: &str) -> Decision {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.rules
            .decide(&Reading::of(&self.catalogue, &method, path), &self.own)
    }

    /// `allow 2`, `warn 1`, `deny 3`, or what else decided. A path that begins with no slash is one below `/api/atlas/v2/`.
    pub(super) fn says(&self, method: &str, path: &str) -> String {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/api/atlas/v2/{path}")
        };
        let decision = self.decide(method, &path);
        let rule = |n: usize| match (decision.allowed, decision.warned) {
            (true, Some(by)) if by == n => format!("warn {n}"),
            (true, Some(by)) => format!("allow {n}, warn {by}"),
            (true, None) => format!("allow {n}"),
            (false, _) => format!("deny {n}"),
        };
        match decision.why {
            Why::Rule(n) => rule(n),
            why => {
                assert!(!decision.allowed);
                match why {
                    Why::OwnCredential(touched) => format!("own {touched:?}").to_lowercase(),
                    Why::Disguised(id) => format!("disguised {}", self.catalogue.get(id).name),
                    why => format!("{why:?}").to_lowercase(),
                }
            }
        }
    }
}
