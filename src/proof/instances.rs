//! The requests that stand for all others: for each operation and each of its paths, every value at a placeholder that some
//! rule tells from the rest, and one that none does.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::book::RuleText;
use crate::catalogue::{Catalogue, OperationId};

/// The value that no rule names, and how it is shown.
const OTHER: &str = "0other0";
const OTHER_ID: &str = "000000000000000000000000";
/// The same with a slash in it.
const WITH_SLASH: &str = "0other0%2F0other0";
/// At most so many paths are tried for one path of an operation.
const MOST: usize = 20_000;

/// What rules name at the places of paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    projects: BTreeSet<String>,
    organizations: BTreeSet<String>,
    /// Literal segments of path patterns, by place.
    literals: BTreeMap<usize, BTreeSet<String>>,
    /// Path patterns.
    patterns: BTreeSet<String>,
    methods: BTreeSet<String>,
}

/// A request for an operation, or for what is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) method: Method,
    pub(super) path: String,
    /// What stands at `{groupId}` or `{orgId}`.
    pub(super) scope: Option<String>,
}

impl Instance {
    /// `GET /api/atlas/v2/groups/*`
    pub(super) fn shown(&self) -> String {
        let path = self.path.replace(OTHER_ID, "*").replace(OTHER, "*");
        format!("{} {path}", self.method)
    }
}

/// Whether a scope is that of all projects or organizations that no rule names.
pub(super) fn is_other(scope: &str) -> bool {
    scope == OTHER_ID
}

impl Values {
    pub(super) fn add<'r>(&mut self, rules: impl Iterator<Item = &'r RuleText>) {
        for rule in rules {
            let lower = |ids: &Option<Vec<String>>| {
                ids.iter()
                    .flatten()
                    .map(|id| id.to_ascii_lowercase())
                    .collect::<Vec<_>>()
            };
            self.projects.extend(lower(&rule.projects));
            self.organizations.extend(lower(&rule.organizations));
            self.methods.extend(rule.methods.iter().flatten().cloned());
            let Some(path) = &rule.path else { continue };
            self.patterns.insert(path.clone());
            let literals = path[1..].split('/').enumerate();
            for (at, literal) in literals.filter(|(_, part)| !part.is_empty() && !part.starts_with(['*', '{'])) {
                self.literals.entry(at).or_default().insert(literal.to_owned());
            }
        }
    }

    /// Every request that stands for others of an operation.
    pub(super) fn of_operation(&self, id: OperationId, catalogue: &Catalogue) -> Vec<Instance> {
        let operation = catalogue.get(id);
        let mut all = Vec::new();
        for template in catalogue.paths(id) {
            for (path, scope) in self.paths(template) {
                if operation.method == Method::GET {
                    all.push(Instance {
                        method: Method::HEAD,
                        path: path.clone(),
                        scope: scope.clone(),
                    });
                }
                all.push(Instance {
                    method: operation.method.clone(),
                    path,
                    scope,
                });
            }
        }
        all
    }

    fn paths(&self, template: &str) -> Vec<(String, Option<String>)> {
        let mut all = vec![(String::new(), None)];
        let places = template[1..].split('/').count();
        // One with a slash in one of its values at a time.
        let mut with_slash: Vec<(String, Option<String>)> = Vec::new();
        for (at, part) in template[1..].split('/').enumerate() {
            let Some((name, ending)) = part.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                for (path, _) in all.iter_mut().chain(&mut with_slash) {
                    path.push('/');
                    path.push_str(part);
                }
                continue;
            };
            let values = self.values(at, name);
            let extend = |paths: &[(String, Option<String>)], values: &BTreeSet<String>| {
                let mut longer = Vec::with_capacity(paths.len() * values.len());
                for (path, scope) in paths {
                    for value in values {
                        let is_scope = matches!(name, "groupId" | "orgId");
                        let scope = if is_scope {
                            Some(value.to_ascii_lowercase())
                        } else {
                            scope.clone()
                        };
                        longer.push((format!("{path}/{value}{ending}"), scope));
                    }
                }
                longer
            };
            let mut slashed = extend(&with_slash, &values);
            slashed.extend(extend(&all, &BTreeSet::from([WITH_SLASH.to_owned()])));
            with_slash = slashed;
            all = extend(&all, &values);
            if all.len() * places > MOST || with_slash.len() > MOST {
                // More than anybody writes by hand: the rest is tried with values that no rule names.
                all.truncate(MOST / places.max(1));
                with_slash.truncate(MOST);
            }
        }
        all.extend(with_slash);
        all
    }

    fn values(&self, at: usize, name: &str) -> BTreeSet<String> {
        let mut values: BTreeSet<String> = self.literals.get(&at).cloned().unwrap_or_default();
        match name {
            "groupId" => values.extend(self.projects.iter().cloned()),
            "orgId" => values.extend(self.organizations.iter().cloned()),
            _ => {}
        }
        let other = if matches!(name, "groupId" | "orgId") {
            OTHER_ID
        } else {
            OTHER
        };
        values.insert(other.to_owned());
        values
    }

    /// Requests for what is no operation: each pattern that some rule has, with each method that some rule has and some that
    /// none has.
    pub(super) fn of_unknown(&self, catalogue: &Catalogue) -> Vec<Instance> {
        let mut methods: BTreeSet<String> = self.methods.clone();
        methods.extend(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"].map(str::to_owned));
        let mut paths = BTreeSet::from([format!("/{OTHER}"), format!("/api/private/{OTHER}")]);
        for pattern in &self.patterns {
            let parts = pattern[1..].split('/');
            let filled: Vec<&str> = parts
                .map(|part| {
                    if part.starts_with(['*', '{']) && part != "**" {
                        OTHER
                    } else {
                        part
                    }
                })
                .collect();
            let path = format!("/{}", filled.join("/"));
            match path.strip_suffix("/**") {
                Some(above) => {
                    paths.extend([
                        format!("{above}/{OTHER}"),
                        format!("{above}/{OTHER}/{OTHER}"),
                        above.to_owned(),
                    ]);
                }
                None => {
                    paths.insert(path);
                }
            }
        }
        let mut all = Vec::new();
        for path in paths.into_iter().filter(|path| path.len() > 1) {
            for method in &methods {
                let Ok(method) = method.parse::<Method>() else { continue };
                if catalogue.find(&method, &path).is_none() {
                    all.push(Instance {
                        method,
                        path: path.clone(),
                        scope: None,
                    });
                }
            }
        }
        all
    }
}
