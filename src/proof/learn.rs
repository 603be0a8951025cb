//! The least rules under which what a log tells of would pass again.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde::Deserialize;

use super::request;
use crate::access::{MOST_RULES, Reading};
use crate::catalogue::{Catalogue, is_id};
use crate::guard::{PathPattern, local_endpoint};

/// A line of the request log, or of an audit file: the fields have the same names.
#[derive(Debug, Deserialize)]
struct Line {
    caller: Option<String>,
    method: Option<String>,
    path: Option<String>,
    status: Option<u16>,
    decision: Option<String>,
}

/// Why nothing was learned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// No line counts.
    #[error("no line tells of a request that was forwarded and answered 2xx: is this the request log, as JSON?")]
    Nothing,
    /// Only writes.
    #[error(
        "no line tells of a read: the log was probably cut, and rules learned from it would keep out what the caller reads; \
         `--writes-only` says that it is meant"
    )]
    NoReads,
}

/// Rules, as TOML.
#[derive(Debug, PartialEq, Eq)]
pub struct Learned {
    /// `[[caller]]` and `[[caller.rule]]`.
    pub toml: String,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// The name for whoever was known by none; with a number where a caller has it.
const NOBODY: &str = "learned";

/// What one caller did.
#[derive(Default)]
struct Done {
    /// For each operation the projects; empty: its path names none.
    by_project: BTreeMap<&'static str, BTreeSet<String>>,
    by_organization: BTreeMap<&'static str, BTreeSet<String>>,
    everywhere: BTreeSet<&'static str>,
    /// Paths of what is no operation, with their methods.
    unknown: BTreeMap<String, BTreeSet<String>>,
}

/// Makes rules of a log. `writes_only`: it may be without reads.
///
/// # Errors
/// When there is nothing to learn from.
pub fn learn(log: &str, writes_only: bool, catalogue: &Catalogue) -> Result<Learned, LearnError> {
    // None: whoever was known by none.
    let mut all: BTreeMap<Option<String>, Done> = BTreeMap::new();
    let mut left_out = BTreeSet::new();
    let mut reads = false;
    for line in log.lines() {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            continue;
        };
        let passed = line.decision.as_deref().is_none_or(|decision| decision == "forwarded")
            && line.status.is_some_and(|status| (200..300).contains(&status));
        let (Some(method), Some(path), true) = (line.method, line.path, passed) else {
            continue;
        };
        // The proxy answers these itself, before any rule.
        if local_endpoint(&path).is_some() {
            continue;
        }
        let Ok(method) = request::method(&method) else {
            left_out.insert(format!("{method} {path}: no rule can name this method"));
            continue;
        };
        reads |= matches!(method, Method::GET | Method::HEAD);
        let name = line
            .caller
            .filter(|name| !matches!(name.as_str(), "none" | "unknown" | "anonymous"));
        if name.as_deref().is_some_and(|name| !is_name(name)) {
            left_out.insert(format!(
                "{method} {path}: its caller has a name that no caller can have"
            ));
            continue;
        }
        if let Err(why) = all.entry(name).or_default().learn(&method, &path, catalogue) {
            left_out.insert(format!("{method} {path}: {why}"));
        }
    }
    // A caller of whom all was left out has no rule, which no configuration takes.
    all.retain(|_, done| !done.is_empty());
    let numbered = (2..).map(|n| format!("{NOBODY}-{n}"));
    let mut names = std::iter::once(NOBODY.to_owned()).chain(numbered);
    let is_free = |name: &String| !all.contains_key(&Some(name.clone()));
    let nobody = names.find(is_free).unwrap_or_default();
    match (all.is_empty(), reads || writes_only) {
        (true, _) => Err(LearnError::Nothing),
        (false, false) => Err(LearnError::NoReads),
        (false, true) => Ok(Learned {
            toml: all
                .iter()
                .map(|(name, done)| done.toml(name.as_deref().unwrap_or(&nobody), &mut left_out))
                .collect(),
            left_out: left_out.into_iter().collect(),
        }),
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=63).contains(&name.len()) && name.bytes().all(fits)
}

impl Done {
    fn is_empty(&self) -> bool {
        let operations = self.by_project.len() + self.by_organization.len() + self.everywhere.len();
        operations + self.unknown.len() == 0
    }

    fn learn(&mut self, method: &Method, path: &str, catalogue: &Catalogue) -> Result<(), &'static str> {
        // Every reading of `%2F` that is an operation must be allowed.
        let separated = path.replace("%2F", "/").replace("%2f", "/");
        let readings = [path, &separated];
        let readings = &readings[..if separated == path { 1 } else { 2 }];
        let mut found = false;
        for path in readings {
            let reading = Reading::of(catalogue, method, path);
            let Some(id) = reading.operation() else { continue };
            found = true;
            let name = catalogue.get(id).name;
            match (reading.project(), reading.organization()) {
                (Some(project), _) if is_id(project) => {
                    self.by_project
                        .entry(name)
                        .or_default()
                        .insert(project.to_ascii_lowercase());
                }
                (None, Some(organization)) if is_id(organization) => {
                    let ids = self.by_organization.entry(name).or_default();
                    ids.insert(organization.to_ascii_lowercase());
                }
                (None, None) => {
                    self.everywhere.insert(name);
                }
                _ => return Err("what stands for a project or organization is no id"),
            }
        }
        if found {
            return Ok(());
        }
        if readings.len() > 1 || path.contains(['*', '{', '}', '\u{2026}']) || PathPattern::parse(path).is_err() {
            return Err("no rule can name this path alone");
        }
        self.unknown
            .entry(path.to_owned())
            .or_default()
            .insert(method.to_string());
        Ok(())
    }

    fn toml(&self, name: &str, left_out: &mut BTreeSet<String>) -> String {
        let mut rules = Vec::new();
        let mut rule = |keys: &[(&str, String)]| {
            let keys: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            rules.push(format!("\n[[caller.rule]]\n{keys}action = \"allow\"\n"));
        };
        if !self.everywhere.is_empty() {
            rule(&[("operations", list(self.everywhere.iter().copied()))]);
        }
        for (key, by) in [("projects", &self.by_project), ("organizations", &self.by_organization)] {
            // Operations with the same ids share a rule.
            let mut same: BTreeMap<&BTreeSet<String>, BTreeSet<&str>> = BTreeMap::new();
            for (name, ids) in by {
                same.entry(ids).or_default().insert(name);
            }
            for (ids, names) in same {
                let ids = list(ids.iter().map(String::as_str));
                rule(&[("operations", list(names.into_iter())), (key, ids)]);
            }
        }
        for (path, methods) in &self.unknown {
            rule(&[
                ("operations", "[\"unknown\"]".to_owned()),
                ("methods", list(methods.iter().map(String::as_str))),
                ("path", quoted(path)),
            ]);
        }
        if rules.len() > MOST_RULES {
            let more = rules.len() - MOST_RULES;
            left_out.insert(format!(
                "caller {name}: {more} rules more than the {MOST_RULES} that a caller may have"
            ));
            rules.truncate(MOST_RULES);
        }
        format!("[[caller]]\nname = {}\n{}\n", quoted(name), rules.concat())
    }
}

fn list<'t>(items: impl Iterator<Item = &'t str>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML: of these characters JSON's is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
