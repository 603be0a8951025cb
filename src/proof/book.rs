//! All rules of a configuration, and what they say of a request.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::access::{self, CallerRules, Decision, OwnCredential, Reading, RuleError, RuleParts};
use crate::catalogue::Catalogue;
use crate::guard::{self, LocalEndpoint, PathPattern, PathPatternError, Policy, local_endpoint, target};

/// The name of whoever shows nothing.
pub(super) const ANONYMOUS: &str = "anonymous";

/// The rules of a configuration as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookText {
    /// The listeners, each with its rules.
    pub listeners: Vec<ListenerText>,
    /// The callers, each with its rules.
    pub callers: Vec<CallerText>,
}

/// A listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerText {
    /// Its name, or where it is bound.
    pub name: String,
    /// Its account.
    pub account: String,
    /// Whether whoever shows nothing is served.
    pub anonymous: bool,
    /// Whether callers are known there.
    pub callers: bool,
    /// Who may connect.
    pub allow: BTreeSet<String>,
    /// Load balancers whose word says who connects.
    #[serde(default)]
    pub proxy_protocol: BTreeSet<String>,
    /// The authority of its clients' certificates.
    #[serde(default)]
    pub client_ca: Option<String>,
    /// The client id or public key of the account, where the configuration has it.
    pub own: Option<String>,
    /// The id of the account's API key, where the configuration has it.
    #[serde(default)]
    pub api_key_id: Option<String>,
    /// Whether the account has an API key, and not its id.
    #[serde(default)]
    pub key_without_id: bool,
    /// Whether only reading methods pass.
    pub read_only: bool,
    /// Whether what no rule matches passes.
    pub unmatched_passes: bool,
    /// Its rules.
    pub rules: Vec<RuleText>,
}

/// A caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerText {
    /// Its name.
    pub name: String,
    /// The names of its listeners; none: all.
    pub listeners: Option<Vec<String>>,
    /// Its networks.
    pub networks: BTreeSet<String>,
    /// Names in its certificates, of the authority of each listener.
    #[serde(default)]
    pub certificate_names: BTreeSet<String>,
    /// What else it is known by, in words.
    pub known_by: BTreeSet<String>,
    /// Whether it may touch the credential that the proxy itself uses.
    pub own_account: bool,
    /// Its rules.
    pub rules: Vec<RuleText>,
}

/// A rule, of a listener or a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is the key of its name")]
pub struct RuleText {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organizations: Option<Vec<String>>,
    pub action: String,
    /// Where it stands: `FILE:LINE`.
    pub place: String,
}

/// Text that makes no rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// A rule that is wrong.
    #[error("{0}: {1}")]
    Rule(String, RuleError),
    /// A pattern that is wrong.
    #[error("{0}: {1}")]
    Path(String, PathPatternError),
    /// A word that is none.
    #[error("{0}: `{1}` is no method or action")]
    Word(String, String),
}

/// All rules of a configuration, compiled.
pub struct Book {
    pub(super) text: BookText,
    pub(super) catalogue: Arc<Catalogue>,
    policies: Vec<(Policy, OwnCredential)>,
    rules: Vec<CallerRules>,
}

/// Who asks at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever shows nothing.
    Anonymous,
    /// The caller of this index.
    Caller(usize),
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it passes.
    pub allowed: bool,
    /// Whether it passes because of, or in spite of, a rule that warns.
    pub warned: bool,
    /// Whether the proxy answers it itself, so that no rule is asked.
    pub answered_here: bool,
    /// What decided, one sentence each, with the places of the rules.
    pub why: Vec<String>,
}

impl Book {
    /// Compiles the rules.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub fn new(text: BookText, catalogue: Arc<Catalogue>) -> Result<Self, BookError> {
        // No caller of one account may touch the credential of another.
        let named = |listener: &'_ ListenerText| [listener.own.clone(), listener.api_key_id.clone()];
        let named: Vec<String> = text.listeners.iter().flat_map(named).flatten().collect();
        let own = OwnCredential::new(named.iter().map(String::as_str));
        let policies = text.listeners.iter().map(|listener| {
            let rules = listener
                .rules
                .iter()
                .map(listener_rule)
                .collect::<Result<Vec<_>, _>>()?;
            let unmatched = match listener.unmatched_passes {
                true => guard::Action::Allow,
                false => guard::Action::Deny,
            };
            let policy = Policy::new(listener.read_only, rules, unmatched);
            let own = match listener.key_without_id {
                true => own.clone().with_a_key_without_id(),
                false => own.clone(),
            };
            Ok((policy, own))
        });
        let policies = policies.collect::<Result<_, _>>()?;
        let rules = text.callers.iter().map(|caller| {
            let rules = caller.rules.iter().map(|rule| caller_rule(rule, &catalogue));
            let rules = rules.collect::<Result<Vec<_>, _>>()?;
            Ok(CallerRules::new(rules, caller.own_account, Arc::clone(&catalogue)))
        });
        let rules = rules.collect::<Result<_, _>>()?;
        Ok(Self {
            text,
            catalogue,
            policies,
            rules,
        })
    }

    /// As it is written.
    pub fn text(&self) -> &BookText {
        &self.text
    }

    /// Who is served at a listener, of those that the settings name: the callers, and whoever shows nothing.
    pub fn served(&self, listener: usize) -> impl Iterator<Item = Who> {
        let at = &self.text.listeners[listener];
        let anonymous = at.anonymous.then_some(Who::Anonymous);
        let callers = self.text.callers.iter().enumerate().filter(|(_, caller)| {
            let named = caller.listeners.as_ref();
            at.callers && named.is_none_or(|names| names.contains(&at.name))
        });
        anonymous.into_iter().chain(callers.map(|(n, _)| Who::Caller(n)))
    }

    /// The name of somebody.
    pub fn name(&self, who: Who) -> &str {
        match who {
            Who::Anonymous => ANONYMOUS,
            Who::Caller(n) => &self.text.callers[n].name,
        }
    }

    /// The rules of somebody at a listener: the listener's, and its own.
    pub(super) fn rules_of(&self, listener: usize, who: Who) -> [&[RuleText]; 2] {
        let own = match who {
            Who::Anonymous => &[][..],
            Who::Caller(n) => &self.text.callers[n].rules,
        };
        [&self.text.listeners[listener].rules, own]
    }

    /// What is decided before any rule is asked: whether the proxy answers it itself or refuses it, and why.
    fn before_rules(&self, listener: usize, method: &Method, path: &str) -> Option<(bool, &'static str)> {
        if target::refuses(method) {
            return Some((false, "this method is never served, whatever the rules say"));
        }
        match local_endpoint(path)? {
            LocalEndpoint::Caller if self.text.listeners[listener].callers => {}
            LocalEndpoint::Token | LocalEndpoint::Revoke => {}
            LocalEndpoint::Caller | LocalEndpoint::Other => {
                return Some((
                    false,
                    "paths below /api/oauth are never forwarded, whatever the rules say",
                ));
            }
        }
        let why = "the proxy answers this itself, whatever the rules say; nothing of it goes to Atlas";
        Some((true, why))
    }

    /// The accounts whose credential the configuration does not tell, so that a decision about a path that names it is not known:
    /// for those among these to whom it matters.
    pub fn untold(&self, all: &[(usize, Who)]) -> Vec<&str> {
        let matters = |(listener, who): &(usize, Who)| match who {
            Who::Anonymous => self.text.listeners[*listener].callers,
            Who::Caller(n) => !self.text.callers[*n].own_account,
        };
        if !all.iter().any(matters) {
            return Vec::new();
        }
        let untold = self.text.listeners.iter().filter(|at| at.own.is_none());
        let names: BTreeSet<&str> = untold.map(|at| at.account.as_str()).collect();
        names.into_iter().collect()
    }

    /// Whether a request passes, and whether a rule warns of it.
    pub(super) fn decide(&self, listener: usize, who: Who, method: &Method, path: &str) -> (bool, bool) {
        let (policy, own) = &self.policies[listener];
        if self.before_rules(listener, method, path).is_some() || policy.check(method, path).is_err() {
            return (false, false);
        }
        let reading = Reading::of(&self.catalogue, method, path);
        match who {
            Who::Anonymous => {
                let asks = self.text.listeners[listener].callers;
                (!asks || own.touched_by(&reading).is_none(), false)
            }
            Who::Caller(n) => {
                let decision = self.rules[n].decide(&reading, own);
                (decision.allowed, decision.allowed && decision.warned.is_some())
            }
        }
    }

    /// What becomes of a request, and why. `path`: as sent, without query.
    pub fn explain(&self, listener: usize, who: Who, method: &Method, path: &str) -> Verdict {
        if let Some((answered_here, why)) = self.before_rules(listener, method, path) {
            return Verdict {
                allowed: false,
                warned: false,
                answered_here,
                why: vec![why.to_owned()],
            };
        }
        let (allowed, warned) = self.decide(listener, who, method, path);
        let (policy, own) = &self.policies[listener];
        let at = &self.text.listeners[listener];
        let reading = Reading::of(&self.catalogue, method, path);
        let mut why = vec![match policy.decided_by(method, path) {
            Ok(None) => "the listener lets it pass".to_owned(),
            Ok(Some(n)) => format!("the listener lets it pass: rule {n} ({})", place(&at.rules, n)),
            Err(denied) => match denied.rule() {
                Some(n) => format!("{denied} ({})", place(&at.rules, n)),
                None => denied.to_string(),
            },
        }];
        match who {
            Who::Anonymous => {
                let touched = own.touched_by(&reading).filter(|_| at.callers);
                why.extend(touched.map(|touched| touched.to_string()));
            }
            Who::Caller(n) => {
                let caller = &self.text.callers[n];
                let decision = self.rules[n].decide(&reading, own);
                why.push(format!(
                    "caller `{}`: {}",
                    caller.name,
                    self.told(&decision, &caller.rules)
                ));
            }
        }
        Verdict {
            allowed,
            warned,
            answered_here: false,
            why,
        }
    }

    fn told(&self, decision: &Decision, rules: &[RuleText]) -> String {
        let mut said = decision.told(&self.catalogue).to_string();
        if let access::Why::Rule(n) = decision.why {
            said.push_str(&format!(" ({})", place(rules, n)));
        }
        if let Some(n) = decision.warned.filter(|n| decision.why != access::Why::Rule(*n)) {
            said.push_str(&format!("; rule {n} warns of it ({})", place(rules, n)));
        }
        said
    }

    /// The operation that a request is, for people.
    pub fn operation(&self, method: &Method, path: &str) -> &str {
        let operation = Reading::of(&self.catalogue, method, path).operation();
        operation.map_or("unknown", |id| self.catalogue.get(id).name)
    }
}

fn place(rules: &[RuleText], n: usize) -> &str {
    rules.get(n - 1).map_or("", |rule| &rule.place)
}

fn methods(rule: &RuleText) -> Result<Option<Vec<Method>>, BookError> {
    let parsed = rule.methods.as_ref().map(|list| {
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| BookError::Word(rule.place.clone(), text.clone()))
        };
        list.iter().map(parse).collect()
    });
    parsed.transpose()
}

fn pattern(rule: &RuleText) -> Result<Option<PathPattern>, BookError> {
    let parse = |text: &String| PathPattern::parse(text).map_err(|error| BookError::Path(rule.place.clone(), error));
    rule.path.as_ref().map(parse).transpose()
}

fn listener_rule(rule: &RuleText) -> Result<guard::Rule, BookError> {
    let action = match rule.action.as_str() {
        "allow" => guard::Action::Allow,
        "deny" => guard::Action::Deny,
        odd => return Err(BookError::Word(rule.place.clone(), odd.to_owned())),
    };
    let path = pattern(rule)?.ok_or_else(|| BookError::Word(rule.place.clone(), String::new()))?;
    Ok(guard::Rule::new(methods(rule)?.unwrap_or_default(), path, action))
}

fn caller_rule(rule: &RuleText, catalogue: &Catalogue) -> Result<access::Rule, BookError> {
    let action = match rule.action.as_str() {
        "allow" => access::Action::Allow,
        "deny" => access::Action::Deny,
        "warn" => access::Action::Warn,
        odd => return Err(BookError::Word(rule.place.clone(), odd.to_owned())),
    };
    let parts = RuleParts {
        operations: rule.operations.clone(),
        tags: rule.tags.clone(),
        methods: methods(rule)?,
        path: pattern(rule)?,
        projects: rule.projects.clone(),
        organizations: rule.organizations.clone(),
        action,
    };
    access::Rule::new(parts, catalogue).map_err(|error| BookError::Rule(rule.place.clone(), error))
}
