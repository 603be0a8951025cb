//! `[[listener.rule]]`, `read_only` and `unmatched`.

use super::{FileListener, FileRule};
use crate::config::problem::Problems;
use crate::config::source::{Given, Source};
use crate::config::value;
use crate::guard::{Action, PathPattern, Policy, Rule};

pub(crate) fn policy(read_only: bool, table: Option<&FileListener>, problems: &mut Problems) -> Option<Policy> {
    let rules = table.map_or(&[][..], |table| &table.rules);
    let unmatched = table.and_then(|table| table.unmatched.clone());
    let unmatched_source = unmatched.as_ref().map(|given| given.source.clone());
    let unmatched = match unmatched {
        Some(given) => problems.parse(given, action)?.value,
        None if rules.is_empty() => Action::Allow,
        None => Action::Deny,
    };
    if let (Some(source), Action::Deny, []) = (&unmatched_source, unmatched, rules) {
        problems.add(
            source,
            "there is no rule, so this would refuse every request: add a `[[listener.rule]]`",
        );
        return None;
    }
    // Collected before the first failure returns: every problem is to be reported at once.
    let rules: Vec<Option<Rule>> = rules.iter().map(|table| rule(table, problems)).collect();
    Some(Policy::new(
        read_only,
        rules.into_iter().collect::<Option<_>>()?,
        unmatched,
    ))
}

fn rule(table: &FileRule, problems: &mut Problems) -> Option<Rule> {
    let mut methods = Vec::new();
    for given in table.methods.iter().flat_map(|list| &list.value) {
        methods.extend(problems.parse(given.clone(), value::method).map(|given| given.value));
    }
    if let Some(list) = table.methods.as_ref().filter(|list| list.value.is_empty()) {
        problems.add(
            &list.source,
            "an empty list matches no request: name a method, or leave `methods` out for any",
        );
    }
    let path = required(table.path.as_ref(), "path", &table.place, problems)
        .and_then(|given| problems.parse(given, |text| PathPattern::parse(text).map_err(|e| e.to_string())));
    let action = required(table.action.as_ref(), "action", &table.place, problems)
        .and_then(|given| problems.parse(given, action));
    Some(Rule::new(methods, path?.value, action?.value))
}

fn required(
    given: Option<&Given<String>>,
    key: &str,
    place: &Source,
    problems: &mut Problems,
) -> Option<Given<String>> {
    if given.is_none() {
        problems.add(place, format_args!("the rule has no `{key}`"));
    }
    given.cloned()
}

fn action(text: &str) -> Result<Action, String> {
    match text {
        "allow" => Ok(Action::Allow),
        "deny" => Ok(Action::Deny),
        _ => Err(value::one_of(text, &["allow", "deny"])),
    }
}
