//! The requests that stand for all others: for each operation and each of its paths, every value at a placeholder that some
//! rule tells from the rest, and one that none does. Built place by place, so that only rules that match the path so far add to
//! it: that is linear in rules that have nothing to do with one another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use super::book::{Book, Who};
use super::places::{Looks, Rules, only_one_of_each_kind, others};
use super::walk::{At, Walk, places};
use crate::access::Reading;
use crate::catalogue::{Catalogue, OperationId};

/// So many requests are tried for one operation. Beyond it nothing is left out: the proof is refused.
pub(super) const MOST: usize = 200_000;
/// So many values are shown of those that are alike.
const SHOWN: usize = 8;

/// More requests would have to be tried than is reasonable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{operation}`: rules tell more than {MOST} paths apart, which is more than is tried. Rules that name values at several places \
     of one path multiply: write `*` at those that needn't be named, put ids that are treated alike in one list, `projects` or \
     `organizations`, or split the caller in two"
)]
pub struct TooMany {
    /// Of this one, or of `unknown`.
    pub operation: String,
}

/// The rules of somebody, of one configuration or of two that are compared.
#[derive(Debug)]
pub(super) struct Values {
    rules: Vec<Looks>,
    /// Whether something passes without a rule.
    pub(super) open: bool,
    /// For ids that rules name: those that the same rules name.
    alike: BTreeMap<String, Arc<[String]>>,
    /// A value that no rule names, and an id.
    pub(super) other: String,
    pub(super) other_id: String,
}

/// What stands at `{groupId}` or `{orgId}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The path has no such place.
    None,
    /// What no rule names.
    Other,
    /// Ids that rules don't tell apart, in lower case: the first one stands in the path.
    Ids(Arc<[String]>),
}

/// A request for an operation, or for what is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) scope: Scope,
    /// Whether a value has a slash in it.
    pub(super) has_slash: bool,
    /// `/api/atlas/v2/groups/*`
    pub(super) shown: String,
}

impl Instance {
    /// `GET /api/atlas/v2/groups/*`
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{} {}", self.method, self.shown);
        if let Scope::Ids(ids) = &self.scope
            && ids.len() > 1
        {
            text.push_str(", and so with ");
            text.push_str(
                &ids[1..]
                    .iter()
                    .take(SHOWN)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
            if ids.len() > SHOWN + 1 {
                text.push_str(&format!(" and {} more", ids.len() - SHOWN - 1));
            }
        }
        text
    }
}

impl Values {
    /// Of somebody, in one configuration or in two.
    pub(super) fn of<'b>(sides: impl IntoIterator<Item = (&'b Book, usize, Who)>) -> Self {
        let (mut rules, mut open) = (Vec::new(), false);
        for (book, listener, who) in sides {
            let is_anonymous = who == Who::Anonymous;
            open |= is_anonymous && book.text.listeners[listener].unmatched_passes;
            for (texts, of_listener) in book.rules_of(listener, who).into_iter().zip([true, false]) {
                for text in texts {
                    let rule = Looks::of(text, of_listener, is_anonymous);
                    // Most rules stand in both configurations.
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
            }
        }
        let [other, other_id] = others(&rules);
        Self {
            alike: only_one_of_each_kind(&mut rules),
            rules,
            open,
            other,
            other_id,
        }
    }

    /// Every request that stands for others of an operation and may pass.
    pub(super) fn of_operation(&self, id: OperationId, catalogue: &Catalogue) -> Result<Vec<Instance>, TooMany> {
        let operation = catalogue.get(id);
        let tag = catalogue.tags()[operation.tag.index()];
        let method = operation.method.as_str();
        // What says nothing of the operation can matter where `%2F` makes another path of it.
        let has = |rule: &&Looks| rule.has_method(method) && (rule.has_path() || rule.is_about(operation, tag));
        let rules = Rules::new(self.rules.iter().filter(has).cloned().collect());
        // Who names GET names HEAD, too: so only a rule for HEAD tells it apart.
        let is_head = |rule: &Looks| rule.methods().any(|name| name.eq_ignore_ascii_case("HEAD"));
        let mut methods = vec![operation.method.clone()];
        if operation.method == Method::GET && self.rules.iter().any(is_head) {
            methods.push(Method::HEAD);
        }
        let mut walk = Walk::new(&rules, self, &methods);
        let is_about = |rule: &Looks| rule.is_about(operation, tag);
        for template in catalogue.paths(id) {
            let twins = catalogue.paths(id).iter().filter(|twin| *twin != template);
            let paths: Vec<Vec<&str>> = std::iter::once(template)
                .chain(twins)
                .map(|path| segments(path))
                .collect();
            walk.operation(&paths, None, is_about);
            for slash in 0..places(&paths[0]).len() {
                walk.operation(&paths, Some(slash), is_about);
            }
        }
        let is_it = |one: &Instance| Reading::of(catalogue, &one.method, &one.path).operation() == Some(id);
        walk.end(operation.name, is_it)
    }

    /// Requests for what is no operation: each pattern that some rule has, with each method that may pass. What one pattern names
    /// is tried at the wildcards of the others.
    pub(super) fn of_unknown(&self, catalogue: &Catalogue) -> Result<Vec<Instance>, TooMany> {
        let rules = Rules::new(
            self.rules
                .iter()
                .filter(|rule| rule.is_about_unknown())
                .cloned()
                .collect(),
        );
        let mut letting_in = self.rules.iter().filter(|rule| rule.is_about_unknown() && rule.lets_in);
        let mut methods: BTreeSet<&str> = letting_in.clone().flat_map(Looks::methods).collect();
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        if self.open || letting_in.any(Looks::has_any_method) {
            methods.extend(self.rules.iter().flat_map(Looks::methods));
            methods.extend(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"]);
        }
        let methods: Vec<Method> = methods.into_iter().filter_map(|name| name.parse().ok()).collect();
        let mut walk = Walk::new(&rules, self, &methods);
        walk.unknown(0, &rules.start(false, 1, |_, _| true), &At::default());
        walk.end("unknown", |one| catalogue.find(&one.method, &one.path).is_none())
    }

    pub(super) fn scope(&self, words: &[String]) -> Scope {
        let alike = |word: &String| self.alike.get(word).cloned();
        let ids = |word: &String| alike(word).unwrap_or_else(|| Arc::new([word.to_ascii_lowercase()]));
        match words {
            [] => Scope::Other,
            [word] => Scope::Ids(ids(word)),
            words => Scope::Ids(words.iter().flat_map(|word| ids(word).to_vec()).collect()),
        }
    }
}

fn segments(path: &str) -> Vec<&str> {
    path[1..].split('/').collect()
}
