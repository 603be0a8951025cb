//! Whether a rule of a caller can match anything.

use http::Method;

use super::Action;
use super::rule::{RuleError, RuleParts};
use crate::catalogue::{Catalogue, Operation, OperationId, is_id};
use crate::guard::{End, PathPattern, folded};

/// In `operations`: what is no operation of the catalogue.
const UNKNOWN: &str = "unknown";

fn wrong(key: &'static str, message: String) -> RuleError {
    RuleError {
        key: Some(key),
        message,
    }
}

/// Why a rule does not match an operation, whatever the request: what a rule that matches nothing is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    Name,
    Tag,
    Method,
    Path,
    OtherId,
    NoProject,
    NoOrganization,
    Crosses,
    Grants,
}

/// A rule whose values are right each by itself.
pub(super) struct Checked<'r> {
    parts: &'r RuleParts,
    catalogue: &'r Catalogue,
    pub(super) names_unknown: bool,
}

impl<'r> Checked<'r> {
    pub(super) fn of(parts: &'r RuleParts, catalogue: &'r Catalogue) -> Result<Self, RuleError> {
        let names = parts.operations.as_deref().unwrap_or_default();
        let checked = Self {
            parts,
            catalogue,
            names_unknown: names.iter().any(|name| name == UNKNOWN),
        };
        checked.nothing_is_empty()?;
        checked.ids_are_right()?;
        if let Some(method) = parts.methods.iter().flatten().find(|method| is_odd(method)) {
            let upper = method.as_str().to_ascii_uppercase();
            return Err(wrong(
                "methods",
                format!("`{method}` must be written in capitals: `{upper}`"),
            ));
        }
        if checked.names_unknown {
            checked.unknown_is_narrow()?;
            checked.unknown_is_no_operation()?;
        }
        for name in names.iter().filter(|name| *name != UNKNOWN) {
            checked.name_matches_something(name)?;
        }
        for tag in parts.tags.iter().flatten() {
            checked.tag_matches_something(tag)?;
        }
        checked.methods_match_something()?;
        Ok(checked)
    }

    fn nothing_is_empty(&self) -> Result<(), RuleError> {
        let parts = self.parts;
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_some_and(Vec::is_empty);
        let keys = [
            ("operations", empty(&parts.operations)),
            ("tags", empty(&parts.tags)),
            ("methods", parts.methods.as_ref().is_some_and(Vec::is_empty)),
            ("projects", empty(&parts.projects)),
            ("organizations", empty(&parts.organizations)),
        ];
        match keys.into_iter().find(|(_, empty)| *empty) {
            Some((key, _)) => {
                let message = format!("an empty list matches no request: name one, or leave `{key}` out for any");
                Err(wrong(key, message))
            }
            None => Ok(()),
        }
    }

    fn ids_are_right(&self) -> Result<(), RuleError> {
        if self.parts.projects.is_some() && self.parts.organizations.is_some() {
            let message = "no path of the API has a project and an organization: a rule has `projects` or \
                           `organizations`, not both";
            return Err(wrong("organizations", message.to_owned()));
        }
        for (key, ids) in [
            ("projects", &self.parts.projects),
            ("organizations", &self.parts.organizations),
        ] {
            if let Some(id) = ids.iter().flatten().find(|id| !is_id(id)) {
                return Err(wrong(key, format!("`{id}` is no id: 24 hexadecimal digits")));
            }
        }
        Ok(())
    }

    fn unknown_is_narrow(&self) -> Result<(), RuleError> {
        let parts = self.parts;
        for (key, given) in [("methods", parts.methods.is_some()), ("path", parts.path.is_some())] {
            if !given {
                return Err(wrong(
                    "operations",
                    format!("`{UNKNOWN}` is everything that the catalogue does not know: the rule needs `{key}`, too"),
                ));
            }
        }
        for (key, given) in [
            ("tags", parts.tags.is_some()),
            ("projects", parts.projects.is_some()),
            ("organizations", parts.organizations.is_some()),
        ] {
            if given {
                let message = format!("what is `{UNKNOWN}` has none of `{key}`: write a rule of its own for it");
                return Err(wrong(key, message));
            }
        }
        Ok(())
    }

    /// A path without wildcards that is an operation, or looks like one, is never `unknown`.
    fn unknown_is_no_operation(&self) -> Result<(), RuleError> {
        let Some(path) = self.parts.path.as_ref().filter(|path| path.end() != End::Rest) else {
            return Ok(());
        };
        let Some(literals) = path.segments().collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        let path: String = literals.iter().map(|(exact, _)| format!("/{exact}")).collect();
        let methods = self.parts.methods.iter().flatten();
        let known: Option<Vec<OperationId>> = methods
            .map(|method| self.catalogue.find_loosely(method, &path))
            .collect();
        let Some(id) = known.as_ref().and_then(|known| known.first()) else {
            return Ok(());
        };
        let name = self.catalogue.get(*id).name;
        Err(wrong(
            "operations",
            format!("`{UNKNOWN}` can match nothing here: this path is that of `{name}`"),
        ))
    }

    fn name_matches_something(&self, name: &str) -> Result<(), RuleError> {
        let named: Vec<OperationId> = self.where_named(|operation| is_named(name, operation.name));
        if named.is_empty() {
            let names = self.catalogue.operations().iter().map(|operation| operation.name);
            return Err(wrong("operations", none_such(name, "operation", names)));
        }
        self.some_match(&named, "operations", name)
    }

    fn tag_matches_something(&self, tag: &str) -> Result<(), RuleError> {
        let tagged = self.where_named(|operation| self.catalogue.tags()[operation.tag.index()] == tag);
        if tagged.is_empty() {
            return Err(wrong(
                "tags",
                none_such(tag, "tag", self.catalogue.tags().iter().copied()),
            ));
        }
        self.some_match(&tagged, "tags", tag)
    }

    /// What a rule says of methods must hold for some operation, where it names operations at all.
    fn methods_match_something(&self) -> Result<(), RuleError> {
        if self.names_unknown || (self.parts.operations.is_none() && self.parts.tags.is_none()) {
            return Ok(());
        }
        for method in self.parts.methods.iter().flatten() {
            let has = |id: OperationId| {
                let operation = self.catalogue.get(id);
                has_method(method, &operation.method) && self.matches(id).is_ok()
            };
            if !self.catalogue.ids().any(has) {
                let message = format!("no operation that the rule matches otherwise has the method `{method}`");
                return Err(wrong("methods", message));
            }
        }
        Ok(())
    }

    fn where_named(&self, is: impl Fn(&Operation) -> bool) -> Vec<OperationId> {
        let ids = self.catalogue.ids();
        ids.filter(|id| is(self.catalogue.get(*id))).collect()
    }

    fn some_match(&self, ids: &[OperationId], key: &'static str, value: &str) -> Result<(), RuleError> {
        match self.last_miss(ids) {
            None => Ok(()),
            Some(miss) => Err(wrong(
                key,
                format!("`{value}` can match nothing here: {}", self.told(miss, ids)),
            )),
        }
    }

    /// What stops the operation that comes furthest: what a reader has to look at. None where one matches.
    fn last_miss(&self, ids: &[OperationId]) -> Option<Miss> {
        let mut last = None;
        for id in ids {
            last = last.max(Some(self.matches(*id).err()?));
        }
        last
    }

    pub(super) fn matches_nothing(&self) -> RuleError {
        let ids: Vec<OperationId> = self.catalogue.ids().collect();
        let why = self.last_miss(&ids).map(|miss| self.told(miss, &ids));
        RuleError {
            key: None,
            message: format!("the rule can match nothing: {}", why.unwrap_or_default()),
        }
    }

    fn told(&self, miss: Miss, ids: &[OperationId]) -> String {
        let example = ids.iter().find(|id| self.matches(**id) == Err(miss));
        let name = example.map_or("", |id| self.catalogue.get(*id).name);
        match miss {
            Miss::Name => "no operation has one of the names in `operations`, too".to_owned(),
            Miss::Tag => "no such operation has one of the `tags`".to_owned(),
            Miss::Method => "no such operation has one of the `methods`".to_owned(),
            Miss::Path => "`path` describes the path of no such operation; what is no operation passes by \
                           `operations = [\"unknown\"]` only"
                .to_owned(),
            Miss::OtherId => format!(
                "`path` names another id at `{name}` than those of `projects` or `organizations`, so the two never match together"
            ),
            Miss::NoProject => format!("the path of `{name}` names no project, so `projects` never matches"),
            Miss::NoOrganization => {
                format!("the path of `{name}` names no organization, so `organizations` never matches")
            }
            Miss::Crosses => format!(
                "the body of `{name}` names another project or organization than its path, so that a rule with `projects` or \
                 `organizations` reaches it only by its full name in `operations`"
            ),
            Miss::Grants => format!(
                "`{name}` makes or changes credentials, roles or members, so that a rule reaches it only by its full name in \
                 `operations`"
            ),
        }
    }

    /// Whether some request for this operation matches the rule.
    pub(super) fn matches(&self, id: OperationId) -> Result<(), Miss> {
        let (parts, operation) = (self.parts, self.catalogue.get(id));
        let any = |list: &Option<Vec<String>>, is: &dyn Fn(&str) -> bool| {
            list.as_ref().is_none_or(|list| list.iter().any(|value| is(value)))
        };
        let fails = |holds: bool, miss: Miss| if holds { Ok(()) } else { Err(miss) };
        fails(
            any(&parts.operations, &|name| is_named(name, operation.name)),
            Miss::Name,
        )?;
        let tag = self.catalogue.tags()[operation.tag.index()];
        fails(any(&parts.tags, &|value| value == tag), Miss::Tag)?;
        let methods = parts.methods.as_ref();
        let method = methods.is_none_or(|list| list.iter().any(|method| has_method(method, &operation.method)));
        fails(method, Miss::Method)?;
        let paths = self.catalogue.paths(id);
        let has_one = |pattern: &PathPattern| paths.iter().any(|path| overlaps(pattern, path, parts.action));
        fails(parts.path.as_ref().is_none_or(has_one), Miss::Path)?;
        let ids = [("{groupId}", &parts.projects), ("{orgId}", &parts.organizations)];
        let names_one = |pattern: &PathPattern| {
            let one_of_them = |path: &str| {
                ids.iter()
                    .all(|(place, ids)| may_name(pattern, path, place, ids.as_deref()))
            };
            paths
                .iter()
                .any(|path| overlaps(pattern, path, parts.action) && one_of_them(path))
        };
        fails(parts.path.as_ref().is_none_or(names_one), Miss::OtherId)?;
        let has = |placeholder: &str| paths.iter().any(|path| path.contains(placeholder));
        fails(parts.projects.is_none() || has("{groupId}"), Miss::NoProject)?;
        fails(parts.organizations.is_none() || has("{orgId}"), Miss::NoOrganization)?;
        let in_full = || parts.operations.iter().flatten().any(|name| name == operation.name);
        if parts.action == Action::Deny || in_full() {
            return Ok(());
        }
        let narrowed = parts.projects.is_some() || parts.organizations.is_some();
        fails(!(narrowed && operation.crosses), Miss::Crosses)?;
        fails(!operation.grants, Miss::Grants)
    }
}

/// Not the spelling that the API knows. Methods are case-sensitive (RFC 9110 section 9.1), but not every server knows.
fn is_odd(method: &Method) -> bool {
    method.as_str().bytes().any(|b| b.is_ascii_lowercase())
}

/// Whether a rule for this method matches requests for an operation with that one.
fn has_method(given: &Method, of_operation: &Method) -> bool {
    given == of_operation || (given == Method::HEAD && of_operation == Method::GET)
}

/// `*` stands for any number of letters.
fn is_named(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let Some((middle, last)) = rest.rsplit_once('*') else {
        return name.ends_with(rest);
    };
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

fn none_such<'c>(value: &str, kind: &str, choices: impl Iterator<Item = &'c str>) -> String {
    let near = choices.min_by_key(|choice| strsim::damerau_levenshtein(value, choice));
    let near = near.filter(|_| !value.contains('*'));
    let meant = near.map_or_else(String::new, |near| format!("; the nearest is `{near}`"));
    format!("the catalogue has no {kind} `{value}`{meant}")
}

/// Whether what a pattern has at the place of an id in a template may be one of these ids.
fn may_name(pattern: &PathPattern, template: &str, place: &str, ids: Option<&[String]>) -> bool {
    let mut parts = template[1..].split('/');
    let (Some(ids), Some(at)) = (ids, parts.position(|part| part.starts_with(place))) else {
        return true;
    };
    let is_one = |literal: &str| {
        ids.iter().any(|id| {
            literal
                .split(':')
                .next()
                .is_some_and(|one| one.eq_ignore_ascii_case(id))
        })
    };
    pattern
        .segments()
        .nth(at)
        .flatten()
        .is_none_or(|(literal, _)| is_one(literal))
}

/// Whether some path of a template is one that a pattern describes, as a rule with this action sees it.
fn overlaps(pattern: &PathPattern, template: &str, action: Action) -> bool {
    let loosely = action == Action::Deny;
    let mut parts = template[1..].split('/');
    for literal in pattern.segments() {
        let Some(part) = parts.next() else { return false };
        let (is_placeholder, ending) = match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((_, ending)) => (true, ending),
            None => (false, part),
        };
        let fits = match literal {
            // No wildcard of what lets in takes a `:verb`.
            None => loosely || !ending.contains(':'),
            Some((exact, loose)) => match (is_placeholder, loosely) {
                (true, true) => loose.ends_with(&*folded(ending)),
                (true, false) => exact.ends_with(ending),
                (false, true) => loose == folded(ending),
                (false, false) => exact == ending,
            },
        };
        if !fits {
            return false;
        }
    }
    match (pattern.end(), parts.next()) {
        (End::Rest, _) | (End::Here, None) => true,
        (End::Slash, None) => loosely,
        (_, Some(_)) => false,
    }
}
