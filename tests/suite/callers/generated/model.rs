//! An independent reading of the configuration: who may do what, by docs/CALLERS.md, in the simplest way there is. Nothing of the
//! program's own is used.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

const OPERATIONS: &str = include_str!("../../../../src/catalogue/operations.tsv");
const TWINS: &str = include_str!("../../../../src/catalogue/twins.tsv");

/// One line of the catalogue.
pub struct Operation {
    pub name: String,
    pub method: String,
    /// Its own path, and those of its twins.
    pub paths: Vec<String>,
    tag: String,
    grants: bool,
    crosses: bool,
}

pub struct Model {
    pub operations: Vec<Operation>,
    templates: Vec<Template>,
    callers: BTreeMap<String, Caller>,
}

/// A path of an operation, taken apart.
struct Template {
    operation: usize,
    parts: Vec<String>,
    lower: Vec<String>,
}

struct Caller {
    rules: Vec<Rule>,
    own_account: bool,
    own_id: Vec<String>,
}

struct Rule {
    keys: Map<String, Value>,
    action: String,
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('\t').collect())
}

fn table(table: &DeTable<'_>) -> Map<String, Value> {
    let entries = table.iter();
    entries
        .map(|(key, given)| (key.get_ref().to_string(), value(given.get_ref())))
        .collect()
}

fn value(given: &DeValue<'_>) -> Value {
    match given {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Array(list) => list.iter().map(|item| value(item.get_ref())).collect(),
        DeValue::Table(inner) => table(inner).into(),
        other => format!("{other:?}").into(),
    }
}

impl Model {
    /// `own`: the client ids and public keys of the accounts.
    pub fn read(toml: &str, own: &[&str]) -> Self {
        let mut operations: Vec<Operation> = rows(OPERATIONS)
            .map(|row| Operation {
                method: row[0].to_owned(),
                paths: vec![row[1].to_owned()],
                name: row[2].to_owned(),
                tag: row[3].to_owned(),
                grants: row[8].contains("grants"),
                crosses: row[8].contains("crosses"),
            })
            .collect();
        for row in rows(TWINS) {
            let of = operations
                .iter_mut()
                .find(|operation| operation.name == row[2])
                .unwrap();
            of.paths.push(row[1].to_owned());
        }
        let file = table(DeTable::parse(toml).unwrap().get_ref());
        let mut callers = BTreeMap::new();
        for table in file["caller"].as_array().unwrap() {
            let rules = table["rule"].as_array().unwrap().iter();
            let rules = rules.map(|rule| Rule {
                keys: rule.as_object().unwrap().clone(),
                action: rule["action"].as_str().unwrap().to_owned(),
            });
            let caller = Caller {
                rules: rules.collect(),
                own_account: table.get("own_account").is_some_and(|value| value.as_bool().unwrap()),
                own_id: own.iter().map(|id| (*id).to_lowercase()).collect(),
            };
            callers.insert(table["name"].as_str().unwrap().to_owned(), caller);
        }
        let templates = operations.iter().enumerate().flat_map(|(at, operation)| {
            operation.paths.iter().map(move |path| Template {
                operation: at,
                parts: path.split('/').map(str::to_owned).collect(),
                lower: path.to_lowercase().split('/').map(str::to_owned).collect(),
            })
        });
        Self {
            templates: templates.collect(),
            operations,
            callers,
        }
    }

    /// Whether the caller may make this request. `path` is as sent.
    pub fn allows(&self, caller: &str, method: &str, path: &str) -> bool {
        let caller = &self.callers[caller];
        let Some(readings) = readings(path) else { return false };
        if !caller.own_account && caller.names_own_account(path) {
            return false;
        }
        let found: Vec<Option<(&Operation, BTreeMap<String, String>)>> =
            readings.iter().map(|reading| self.find(method, reading)).collect();
        if found.iter().all(Option::is_none) && readings.iter().any(|reading| self.is_disguised(method, reading)) {
            return false;
        }
        if let [inside, apart] = &readings[..]
            && path.starts_with("/api/atlas/v2/")
            && found[0].is_some() != found[1].is_some()
        {
            let (is, other) = if found[0].is_some() { (0, apart) } else { (1, inside) };
            let at = if is == 0 { inside } else { apart };
            let (allowed, by_path) = caller.judge(method, at, found[is].as_ref());
            return allowed && caller.passes_over(method, other, by_path);
        }
        readings
            .iter()
            .zip(&found)
            .all(|(reading, found)| caller.judge(method, reading, found.as_ref()).0)
    }

    /// The operation's name, for the record; empty: the path has no clear reading.
    pub fn operation(&self, method: &str, path: &str) -> String {
        let Some(readings) = readings(path) else {
            return String::new();
        };
        let found = self.find(method, &readings[0]);
        found.map_or("unknown".to_owned(), |(operation, _)| operation.name.clone())
    }

    /// The operation whose path has a literal where others have a placeholder, the earliest first. A slash at the end means
    /// nothing.
    fn find(&self, method: &str, path: &str) -> Option<(&Operation, BTreeMap<String, String>)> {
        let method = if method == "HEAD" { "GET" } else { method };
        let path = path.strip_suffix('/').unwrap_or(path);
        let given: Vec<&str> = path.split('/').collect();
        let mut best: Option<(Vec<bool>, &Operation, BTreeMap<String, String>)> = None;
        for template in &self.templates {
            let operation = &self.operations[template.operation];
            if template.parts.len() != given.len() || operation.method != method {
                continue;
            }
            let Some((literal, captured)) = template.fits(self, &given) else {
                continue;
            };
            if best.as_ref().is_none_or(|(before, ..)| literal > *before) {
                best = Some((literal, operation, captured));
            }
        }
        best.map(|(_, operation, captured)| (operation, captured))
    }

    fn has_verb(&self, before: &[String], segment: &str) -> bool {
        if !segment.contains(':') {
            return false;
        }
        let blank = |part: &String| {
            if part.starts_with('{') {
                "{}".to_owned()
            } else {
                part.clone()
            }
        };
        self.templates.iter().any(|template| {
            let Some(last) = template.parts.get(before.len()) else {
                return false;
            };
            let Some((_, verb)) = last.split_once("}:") else {
                return false;
            };
            let same = template
                .parts
                .iter()
                .zip(before)
                .all(|(one, other)| blank(one) == blank(other));
            same && segment.ends_with(&format!(":{verb}"))
        })
    }

    fn is_disguised(&self, method: &str, path: &str) -> bool {
        let lower = path.to_lowercase();
        let given: Vec<&str> = std::iter::once("")
            .chain(lower.split('/').filter(|part| !part.is_empty()))
            .collect();
        let method = method.to_uppercase();
        let method = if method == "HEAD" { "GET" } else { &method };
        self.templates.iter().any(|template| {
            let wanted = &template.lower;
            wanted.len() == given.len()
                && self.operations[template.operation].method == method
                && wanted
                    .iter()
                    .zip(&given)
                    .all(|(wanted, given)| match wanted.split_once('}') {
                        Some((_, ending)) => given.ends_with(ending),
                        None => wanted == given,
                    })
        })
    }
}

impl Template {
    /// Which segments are literal, and what stands at the placeholders.
    fn fits(&self, model: &Model, given: &[&str]) -> Option<(Vec<bool>, BTreeMap<String, String>)> {
        let (mut literal, mut captured) = (Vec::new(), BTreeMap::new());
        for (at, (wanted, given)) in self.parts.iter().zip(given).enumerate() {
            let Some((name, ending)) = wanted.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                if wanted != given {
                    return None;
                }
                literal.push(true);
                continue;
            };
            let value = given.strip_suffix(ending)?;
            if value.is_empty() {
                return None;
            }
            // A placeholder takes no `:verb` that the catalogue has there.
            if ending.is_empty() && model.has_verb(&self.parts[..at], given) {
                return None;
            }
            literal.push(!ending.is_empty());
            captured.insert(name.to_owned(), value.to_owned());
        }
        Some((literal, captured))
    }
}

/// The readings of a path: one, or two where it has `%2F`. None: servers may read it in more than these.
fn readings(path: &str) -> Option<Vec<String>> {
    let encoded = path.to_uppercase().contains("%2F");
    let ways: &[&str] = if encoded { &["\u{1}", "/"] } else { &["/"] };
    ways.iter()
        .map(|slash| {
            let mut read = Vec::new();
            let bytes = path.as_bytes();
            let mut at = 0;
            while at < bytes.len() {
                if bytes[at] == b'%' {
                    let byte = u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?;
                    at += 3;
                    match byte {
                        b'/' => read.extend(slash.bytes()),
                        b'%' | b';' | b'\\' | b'?' | b'#' => return None,
                        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || byte.is_ascii_control() => {
                            return None;
                        }
                        byte => read.push(byte),
                    }
                } else {
                    read.push(bytes[at]);
                    at += 1;
                }
            }
            let text = String::from_utf8(read).ok()?;
            let segments: Vec<&str> = text.split('/').collect();
            let odd = |(at, segment): (usize, &&str)| {
                let last = at + 1 == segments.len();
                (segment.is_empty() && at > 0 && !last)
                    || matches!(*segment, "." | "..")
                    || segment.contains([';', '\\'])
            };
            let inner_dots = text.split(['/', '\u{1}']).any(|part| matches!(part, "." | ".."));
            let is_odd = segments.iter().enumerate().any(odd) || inner_dots;
            (!is_odd).then_some(text)
        })
        .collect()
}

impl Caller {
    fn names_own_account(&self, path: &str) -> bool {
        let lower = path.to_lowercase().replace("%2f", "/").replace("%3a", ":");
        lower
            .split('/')
            .any(|segment| segment.split(':').any(|part| self.own_id.iter().any(|id| id == part)))
    }

    /// Whether it passes, and whether the rule that let it has a path.
    fn judge(&self, method: &str, path: &str, found: Option<&(&Operation, BTreeMap<String, String>)>) -> (bool, bool) {
        let mut warned = None;
        for rule in &self.rules {
            let lets_in = rule.action != "deny";
            if !rule.matches(method, path, found, lets_in) {
                continue;
            }
            match rule.action.as_str() {
                "deny" => return (false, false),
                "allow" => return (true, rule.has("path")),
                _ => warned = warned.or(Some(rule.has("path"))),
            }
        }
        (warned.is_some(), warned.unwrap_or_default())
    }

    /// Of a reading that is no operation, where another one is: rules with a path see it.
    fn passes_over(&self, method: &str, path: &str, by_path: bool) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.has("path")) {
            let lets_in = rule.action != "deny";
            if rule.matches_method(method, lets_in) && rule.matches_path(path, lets_in) {
                return lets_in;
            }
        }
        !by_path
    }
}

impl Rule {
    fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    fn values(&self, key: &str) -> Option<Vec<&str>> {
        let list = self.keys.get(key)?.as_array().unwrap();
        Some(list.iter().filter_map(Value::as_str).collect())
    }

    fn matches(
        &self,
        method: &str,
        path: &str,
        found: Option<&(&Operation, BTreeMap<String, String>)>,
        lets_in: bool,
    ) -> bool {
        // What is denied by one path of an operation is denied by all.
        let by_twin = || {
            let twins = found
                .iter()
                .flat_map(|(operation, captured)| operation.paths.iter().map(|template| filled(template, captured)));
            !lets_in && twins.into_iter().any(|twin| self.matches_path(&twin, false))
        };
        if !self.matches_method(method, lets_in) || !(self.matches_path(path, lets_in) || by_twin()) {
            return false;
        }
        let names = self.values("operations");
        let Some((operation, captured)) = found else {
            if self.has("tags") || self.has("projects") || self.has("organizations") {
                return false;
            }
            let named = names.as_ref().map(|names| names.contains(&"unknown"));
            if !lets_in {
                return named.unwrap_or(true);
            }
            let private = |path: &str| path.starts_with("/api/private/");
            return named == Some(true) && (!private(path) || private(self.keys["path"].as_str().unwrap()));
        };
        let is_named = |names: &Vec<&str>| names.iter().any(|name| glob(name, &operation.name));
        if names.as_ref().is_some_and(|names| !is_named(names)) {
            return false;
        }
        if self
            .values("tags")
            .is_some_and(|tags| !tags.contains(&operation.tag.as_str()))
        {
            return false;
        }
        for (key, placeholder) in [("projects", "groupId"), ("organizations", "orgId")] {
            let Some(ids) = self.values(key) else { continue };
            let Some(value) = captured.get(placeholder) else {
                return false;
            };
            if !ids.iter().any(|id| id.eq_ignore_ascii_case(value)) {
                return false;
            }
        }
        let in_full = names.is_some_and(|names| names.contains(&operation.name.as_str()));
        let narrowed = self.has("projects") || self.has("organizations");
        !lets_in || in_full || !(operation.grants || (operation.crosses && narrowed))
    }

    fn matches_method(&self, method: &str, lets_in: bool) -> bool {
        let Some(methods) = self.values("methods") else {
            return !lets_in || method == method.to_uppercase();
        };
        let same = |wanted: &&str| {
            let given = if lets_in {
                method.to_owned()
            } else {
                method.to_uppercase()
            };
            **wanted == given || (**wanted == *"GET" && given == "HEAD")
        };
        methods.iter().any(same)
    }

    fn matches_path(&self, path: &str, lets_in: bool) -> bool {
        let Some(pattern) = self.keys.get("path") else {
            return true;
        };
        let fold = |text: &str| {
            if lets_in {
                text.to_owned()
            } else {
                text.trim_end_matches('/').to_lowercase()
            }
        };
        let (pattern, path) = (fold(pattern.as_str().unwrap()), fold(path));
        let (wanted, given): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
        for (at, wanted) in wanted.iter().enumerate() {
            if *wanted == "**" {
                return true;
            }
            let Some(given) = given.get(at) else { return false };
            let wildcard = *wanted == "*" || (wanted.starts_with('{') && wanted.ends_with('}'));
            if (wildcard && given.is_empty()) || (!wildcard && wanted != given) {
                return false;
            }
        }
        wanted.len() == given.len()
    }
}

fn filled(template: &str, captured: &BTreeMap<String, String>) -> String {
    captured.iter().fold(template.to_owned(), |path, (name, value)| {
        path.replace(&format!("{{{name}}}"), value)
    })
}

fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name
            .strip_prefix(start)
            .is_some_and(|name| (0..=name.len()).any(|at| name.is_char_boundary(at) && glob(rest, &name[at..]))),
    }
}
