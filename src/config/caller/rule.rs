//! `[[caller.rule]]`.

use std::sync::Arc;

use crate::access::{Action, Rule, RuleError, RuleParts};
use crate::catalogue::Catalogue;
use crate::config::inputs::GivenList;
use crate::config::problem::Problems;
use crate::config::source::Source;
use crate::config::table::tables;
use crate::config::value;
use crate::guard::PathPattern;

tables! {
    /// One `[[caller.rule]]`.
    FileCallerRule {
        /// Ids of operations in Atlas's documentation, `*` within a name; `unknown` is everything else.
        operations: texts,
        /// Tags of operations, as `Clusters`.
        tags: texts,
        /// Names of methods, in capitals; GET includes HEAD.
        methods: texts,
        /// Pattern of the path, as of a listener's rule.
        path: text,
        /// Ids of projects: what stands at `{groupId}` of the operation's path.
        projects: texts,
        /// Ids of organizations: what stands at `{orgId}`; not beside `projects`.
        organizations: texts,
        /// `warn`: would deny, but lets through, logs and counts.
        action: text as OneOf("allow", "deny", "warn") default required,
        "operation" => "there is no such key; write `operations`, a list",
        "tag" => "there is no such key; write `tags`, a list",
        "method" => "there is no such key; write `methods`, a list",
        "paths" => "there is no such key; write `path`, and a rule for each",
        "project" => "there is no such key; write `projects`, a list",
        "organization" => "there is no such key; write `organizations`, a list",
    }
}

pub(super) fn build(table: &FileCallerRule, catalogue: &Arc<Catalogue>, problems: &mut Problems) -> Option<Rule> {
    let before = problems.count();
    let methods = table.methods.as_ref().map(|list| {
        let parsed = list
            .value
            .iter()
            .filter_map(|given| problems.parse(given.clone(), value::method));
        parsed.map(|given| given.value).collect()
    });
    let path = table
        .path
        .clone()
        .and_then(|given| problems.parse(given, |text| PathPattern::parse(text).map_err(|e| e.to_string())))
        .map(|given| given.value);
    if table.action.is_none() {
        problems.add(
            &table.place,
            "the rule has no `action`: write \"allow\", \"deny\" or \"warn\"",
        );
    }
    let action = table.action.clone().and_then(|given| problems.parse(given, action));
    if problems.count() > before {
        return None;
    }
    let parts = RuleParts {
        operations: texts(table.operations.as_ref()),
        tags: texts(table.tags.as_ref()),
        methods,
        path,
        projects: texts(table.projects.as_ref()),
        organizations: texts(table.organizations.as_ref()),
        action: action?.value,
    };
    match Rule::new(parts, catalogue) {
        Ok(rule) => Some(rule),
        Err(error) => {
            problems.add(place_of(&error, table), &error);
            None
        }
    }
}

fn texts(list: Option<&GivenList>) -> Option<Vec<String>> {
    let list = list?;
    Some(list.value.iter().map(|given| given.value.clone()).collect())
}

/// The key that is wrong, or the whole rule.
fn place_of<'t>(error: &RuleError, table: &'t FileCallerRule) -> &'t Source {
    let list = match error.key {
        Some("operations") => table.operations.as_ref(),
        Some("tags") => table.tags.as_ref(),
        Some("methods") => table.methods.as_ref(),
        Some("projects") => table.projects.as_ref(),
        Some("organizations") => table.organizations.as_ref(),
        _ => None,
    };
    list.map_or(&table.place, |list| &list.source)
}

fn action(text: &str) -> Result<Action, String> {
    match text {
        "allow" => Ok(Action::Allow),
        "deny" => Ok(Action::Deny),
        "warn" => Ok(Action::Warn),
        _ => Err(value::one_of(text, &["allow", "deny", "warn"])),
    }
}
