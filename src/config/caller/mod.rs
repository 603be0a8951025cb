//! `[[caller]]`, `[[issuer]]` and `[passes]`: the programs that have a name of their own, what they are known by, and what each
//! may do.

mod identity;
mod issuer;
mod passes;
mod rule;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use identity::FileJwt;

use super::file::FileConfig;
use super::inputs::Inputs;
use super::problem::{Problems, shown};
use super::source::{Given, Source};
use super::value;
use crate::access::{CallerRules, MOST_RULES};
use crate::caller::{CallerIdentity, CallerName, CallersError, CallersSettings};
use crate::catalogue::Catalogue;
use crate::proxy::{CallerTerms, FairnessLimits};
use crate::server::{Bind, ListenerSettings, ListenerTls};
use crate::settings::CallerSettings;

pub(crate) use identity::FileCaller;
pub(crate) use issuer::{DEFAULT_MAX_LIFE, FileIssuer};
pub(crate) use passes::FilePasses;
pub(crate) use rule::FileCallerRule;

/// The most callers.
const MOST_CALLERS: usize = 1000;
/// More than any Atlas limit; bounded because the time of each request of the last minute is kept.
const MOST_REQUESTS: usize = 1_000_000;

/// Whether the file says anything of callers: then every listener requires one, unless it says otherwise.
pub(crate) fn are_named(file: &FileConfig) -> bool {
    !file.callers.is_empty() || !file.issuers.is_empty() || file.passes.is_some()
}

/// Reads the tables. What is wrong with them is noted, and left out of what is returned.
pub(crate) fn build(file: &FileConfig, catalogue: &Arc<Catalogue>, inputs: &mut Inputs<'_>) -> CallerSettings {
    if let Some(one_more) = file.callers.get(MOST_CALLERS) {
        inputs.problems.add(
            &one_more.place,
            format_args!("there are more than {MOST_CALLERS} callers"),
        );
        return CallerSettings::default();
    }
    let listeners: BTreeSet<&str> = file
        .listeners
        .iter()
        .filter_map(|l| Some(l.name.as_ref()?.value.as_str()))
        .collect();
    let issuers = file
        .issuers
        .iter()
        .filter_map(|table| issuer::build(table, inputs))
        .collect();
    let passes = file.passes.as_ref().and_then(|table| passes::build(table, inputs));
    let names: BTreeSet<&str> = file
        .issuers
        .iter()
        .filter_map(|i| Some(i.name.as_ref()?.value.as_str()))
        .collect();
    let mut identities = Vec::new();
    let mut terms = Vec::new();
    for table in &file.callers {
        let identity = identity::build(table, &listeners, &names, inputs);
        let rules = rules(table, catalogue, &mut inputs.problems);
        let limits = limits(table, &mut inputs.problems);
        if let (Some(identity), Some(rules)) = (identity, rules) {
            terms.push(CallerTerms {
                name: identity.name.clone(),
                rules,
                limits,
                delegates: is_set(table.delegates.as_ref()),
            });
            identities.push(identity);
        }
    }
    if !inputs.problems.is_empty() {
        return CallerSettings::default();
    }
    match CallersSettings::new(
        identities,
        issuers,
        passes.unwrap_or_default(),
        inputs.sources.machine.overflow_uid,
    ) {
        Ok(identification) => CallerSettings { identification, terms },
        Err(error) => {
            let first = match &error {
                CallersError::SameIdentity { first, .. } => caller_of(first, file).map(|table| (first, &table.place)),
                _ => None,
            };
            let place = place_of(&error, file);
            match first {
                Some(first) => inputs
                    .problems
                    .add(&place, format_args!("{error} (`{}` is in {})", first.0, first.1)),
                None => inputs.problems.add(&place, &error),
            }
            CallerSettings::default()
        }
    }
}

/// The last of this name.
fn caller_of<'f>(name: &CallerName, file: &'f FileConfig) -> Option<&'f FileCaller> {
    let named = |table: &&FileCaller| table.name.as_ref().is_some_and(|given| given.value == name.as_str());
    file.callers.iter().rfind(named)
}

/// Where the later of two that do not agree stands.
fn place_of(error: &CallersError, file: &FileConfig) -> Source {
    let caller = |name: &CallerName| caller_of(name, file);
    let issuer = |name: &str| {
        let named = |table: &&FileIssuer| table.name.as_ref().is_some_and(|given| given.value == name);
        file.issuers.iter().rfind(named).map(|table| table.place.clone())
    };
    let place = match error {
        CallersError::SameName(name) => caller(name).map(|table| table.place.clone()),
        CallersError::UnknownIssuer { caller: name, .. } => caller(name).map(|table| table.place.clone()),
        CallersError::SameNetwork { second, .. } => {
            caller(second).and_then(|table| Some(table.networks.as_ref()?.source.clone()))
        }
        CallersError::SameIdentity { second, .. } => caller(second).map(|table| table.place.clone()),
        CallersError::OverflowUid { caller: name, .. } => {
            caller(name).and_then(|table| Some(table.uids.as_ref()?.source.clone()))
        }
        CallersError::SameIssuerName(name) => issuer(name),
        CallersError::SameIssuer { second, .. } => issuer(second),
    };
    place.unwrap_or_default()
}

/// Notes networks of callers that load balancers have: whose preamble is missing or wrong would be that caller.
pub(crate) fn check_balancers(
    file: &FileConfig,
    listeners: &[Given<ListenerSettings>],
    callers: &CallerSettings,
    problems: &mut Problems,
) {
    let balancers: Vec<_> = listeners
        .iter()
        .filter_map(|listener| listener.value.proxy_protocol.as_ref())
        .collect();
    for caller in callers.identification.callers() {
        let overlaps = |network| balancers.iter().any(|balancers| balancers.overlaps(network));
        let Some(network) = caller.networks.iter().copied().find(|network| overlaps(*network)) else {
            continue;
        };
        let named = |table: &&FileCaller| {
            table
                .name
                .as_ref()
                .is_some_and(|given| given.value == caller.name.as_str())
        };
        let place = file
            .callers
            .iter()
            .find(named)
            .and_then(|table| table.networks.as_ref());
        problems.add(
            place.map_or(&Source::Nowhere, |list| &list.source),
            format_args!(
                "`{network}` overlaps with load balancers of a listener (`proxy_protocol`), who are never clients: name the \
                 networks of the caller alone"
            ),
        );
    }
}

/// Notes what about callers works, but hardly as meant.
pub(crate) fn warn(
    file: &FileConfig,
    listeners: &[Given<ListenerSettings>],
    callers: &CallerSettings,
    problems: &mut Problems,
) {
    let identities = callers.identification.callers();
    for listener in listeners.iter().map(|given| &given.value) {
        let reached = identities.iter().any(|caller| can_reach(caller, listener));
        if listener.rules.requires_callers() && !reached {
            problems.warn(format_args!(
                "listener `{}` requires a caller, and no `[[caller]]` can be known there: it answers 401 to everybody",
                listener.name.as_deref().unwrap_or("without a name")
            ));
        }
    }
    let unix = listeners
        .iter()
        .any(|listener| matches!(listener.value.bind, Bind::Unix { .. }));
    for caller in identities.iter().filter(|caller| !caller.uids.is_empty()) {
        if !unix {
            problems.warn(format_args!(
                "caller `{}` is known by user ids, and no listener is a unix socket: nobody shows one",
                caller.name
            ));
        }
        if caller.uids.contains(&0) {
            problems.warn(format_args!(
                "caller `{}` is known by user id 0: whatever runs as root on this machine is this caller",
                caller.name
            ));
        }
    }
    for table in &file.callers {
        let name = table.name.as_ref().map_or("", |name| name.value.as_str());
        if table.jwt.iter().any(|jwt| is_open_to_all_of_github(jwt, &file.issuers)) {
            problems.warn(format_args!(
                "caller {} is known by tokens that anybody's repository on GitHub can get: write its owner into `subject` \
                 (`repo:OWNER/…`), or name `repository_owner` in `claims`",
                shown(name)
            ));
        }
        for rule in table
            .rules
            .iter()
            .filter(|rule| rule.action.as_ref().is_some_and(|action| action.value == "warn"))
        {
            problems.warn(format_args!(
                "{}: a rule of caller {} only warns (`action = \"warn\"`): what it matches is let through",
                rule.place,
                shown(name)
            ));
        }
    }
}

fn is_open_to_all_of_github(jwt: &FileJwt, issuers: &[FileIssuer]) -> bool {
    const GITHUB: &str = "https://token.actions.githubusercontent.com";
    const SAY_WHOSE: [&str; 6] = [
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "job_workflow_ref",
        "enterprise",
    ];
    let text = |given: &Option<Given<String>>| given.as_ref().map(|given| given.value.clone());
    let is_github = |issuer: &FileIssuer| {
        text(&issuer.name) == text(&jwt.issuer) && text(&issuer.issuer).is_some_and(|url| url == GITHUB)
    };
    let owner_is_open = text(&jwt.subject).is_none_or(|subject| subject.starts_with("repo:*"));
    owner_is_open && !SAY_WHOSE.iter().any(|claim| jwt.claims.contains_key(*claim)) && issuers.iter().any(is_github)
}

fn can_reach(caller: &CallerIdentity, listener: &ListenerSettings) -> bool {
    let named = match (&caller.listeners, &listener.name) {
        (None, _) => true,
        (Some(listeners), Some(name)) => listeners.contains(name),
        (Some(_), None) => false,
    };
    let is_unix = matches!(listener.bind, Bind::Unix { .. });
    let asked = listener.tls.as_ref().is_some_and(ListenerTls::asks_for_certificates);
    let known = !caller.jwt.is_empty()
        || caller.secrets.current.is_some()
        || (!caller.networks.is_empty() && !is_unix)
        || (!caller.uids.is_empty() && is_unix)
        || (!caller.certificate_names.is_empty() && asked);
    named && known
}

pub(crate) fn rules(table: &FileCaller, catalogue: &Arc<Catalogue>, problems: &mut Problems) -> Option<CallerRules> {
    if let Some(given) = table.unmatched.as_ref().filter(|given| given.value != "deny") {
        problems.add(
            &given.source,
            "what no rule of a caller allows is denied, always: remove this, and allow more by a `[[caller.rule]]` at the end",
        );
    }
    if table.rules.is_empty() {
        problems.add(
            &table.place,
            "this caller has no `[[caller.rule]]`, and what no rule allows is denied: write what it may do",
        );
        return None;
    }
    if let Some(one_more) = table.rules.get(MOST_RULES) {
        problems.add(&one_more.place, format_args!("there are more than {MOST_RULES} rules"));
        return None;
    }
    // Collected before the first failure returns: every problem is to be reported at once.
    let rules: Vec<_> = table
        .rules
        .iter()
        .map(|rule| rule::build(rule, catalogue, problems))
        .collect();
    Some(CallerRules::new(
        rules.into_iter().collect::<Option<_>>()?,
        is_set(table.own_account.as_ref()),
        Arc::clone(catalogue),
    ))
}

fn limits(table: &FileCaller, problems: &mut Problems) -> FairnessLimits {
    FairnessLimits {
        per_minute: share(table.max_requests_per_minute.as_ref(), problems),
        at_once: share(table.max_concurrent_requests.as_ref(), problems),
    }
}

/// A bound of requests, of a listener or a caller.
pub(crate) fn share(given: Option<&Given<String>>, problems: &mut Problems) -> Option<NonZeroUsize> {
    let within = |text: &str| match value::count(text)? {
        count @ 1..=MOST_REQUESTS => Ok(NonZeroUsize::new(count)),
        _ => Err(format!("{} is not within 1 and {MOST_REQUESTS}", shown(text))),
    };
    problems.parse(given?.clone(), within)?.value
}

fn is_set(given: Option<&Given<bool>>) -> bool {
    given.is_some_and(|given| given.value)
}
