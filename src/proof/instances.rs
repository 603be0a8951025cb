//! The requests that stand for all others: for each operation and each of its paths, every value at a placeholder that some
//! rule tells from the rest, and one that none does. Built place by place, so that only rules that match the path so far add to
//! it: that is linear in rules that have nothing to do with one another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use super::book::{Book, Who};
use super::places::{Ids, Live, Looks, Place, Rules, Value, encoded, only_one_of_each_kind, others, placeholder};
use crate::access::Reading;
use crate::catalogue::{Catalogue, OperationId};

/// So many requests are tried for one operation. Beyond it nothing is left out: the proof is refused.
const MOST: usize = 200_000;
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
    open: bool,
    /// For ids that rules name: those that the same rules name.
    alike: BTreeMap<String, Arc<[String]>>,
    /// A value that no rule names, and an id.
    other: String,
    other_id: String,
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
    shown: String,
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

    pub(super) fn shown_path(&self) -> &str {
        &self.shown
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
        for template in catalogue.paths(id) {
            let parts: Vec<&str> = template[1..].split('/').collect();
            let holds = |rule: &Looks| [rule.is_about(operation, tag) && rule.fits(&parts), false];
            walk.parts = Parts {
                all: parts.clone(),
                slash: None,
            };
            walk.template(0, &rules.start(true, holds), &At::default());
            let places = (0..parts.len()).filter(|at| placeholder(parts[*at]).is_some());
            for slash in places {
                walk.with_slash(&parts, slash, |rule| rule.is_about(operation, tag));
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
        walk.unknown(0, &rules.start(false, |_| [true, false]), &At::default());
        walk.end("unknown", |one| catalogue.find(&one.method, &one.path).is_none())
    }

    fn scope(&self, words: &[String]) -> Scope {
        let alike = |word: &String| self.alike.get(word).cloned();
        let ids = |word: &String| alike(word).unwrap_or_else(|| Arc::new([word.to_ascii_lowercase()]));
        match words {
            [] => Scope::Other,
            [word] => Scope::Ids(ids(word)),
            words => Scope::Ids(words.iter().flat_map(|word| ids(word).to_vec()).collect()),
        }
    }
}

/// The segments of a template.
#[derive(Default)]
struct Parts<'t> {
    all: Vec<&'t str>,
    /// The one whose value has a slash in it.
    slash: Option<usize>,
}

/// Where a walk is.
#[derive(Default, Clone)]
struct At {
    path: String,
    shown: String,
    scope: Option<Scope>,
}

/// Collects paths.
struct Walk<'r> {
    rules: &'r Rules,
    values: &'r Values,
    methods: &'r [Method],
    parts: Parts<'r>,
    found: Vec<Instance>,
    is_full: bool,
}

impl<'r> Walk<'r> {
    fn new(rules: &'r Rules, values: &'r Values, methods: &'r [Method]) -> Self {
        Self {
            rules,
            values,
            methods,
            parts: Parts::default(),
            found: Vec::new(),
            is_full: false,
        }
    }

    fn end(self, operation: &str, is_it: impl Fn(&Instance) -> bool) -> Result<Vec<Instance>, TooMany> {
        if self.is_full {
            return Err(TooMany {
                operation: operation.to_owned(),
            });
        }
        let mut found = self.found;
        found.retain(is_it);
        Ok(found)
    }

    fn may_pass(&self, live: &[Live]) -> bool {
        self.values.open || live.iter().any(|one| self.rules.get(*one).lets_in)
    }

    /// Goes on with a segment.
    fn step(&mut self, here: &At, segment: &str, shown: &str, scope: Option<Scope>, go: impl FnOnce(&mut Self, &At)) {
        let next = At {
            path: format!("{}/{segment}", here.path),
            shown: format!("{}/{shown}", here.shown),
            scope: scope.or_else(|| here.scope.clone()),
        };
        go(self, &next);
    }

    fn template(&mut self, at: usize, live: &[Live], here: &At) {
        if self.is_full || !self.may_pass(live) {
            return;
        }
        let Some(part) = self.parts.all.get(at).copied() else {
            return self.take(at, live, here);
        };
        let (rules, values) = (self.rules, self.values);
        let Some((name, ending)) = placeholder(part) else {
            return self.step(here, part, part, None, |walk, here| walk.template(at + 1, live, here));
        };
        if self.parts.slash == Some(at) {
            let segment = format!("{0}%2F{0}{ending}", values.other);
            let shown = format!("*%2F*{ending}");
            return self.step(here, &segment, &shown, None, |walk, here| {
                walk.template(at + 1, live, here)
            });
        }
        let (ids, other) = match name {
            "groupId" => (Ids::Project, &values.other_id),
            "orgId" => (Ids::Organization, &values.other_id),
            _ => (Ids::None, &values.other),
        };
        let is_after = self.parts.slash.is_some_and(|slash| slash < at);
        let place = Place {
            at: [at, at + usize::from(is_after)],
            ending,
            ids,
        };
        for value in rules.values(live, place, other) {
            let scope = (ids != Ids::None).then(|| self.values.scope(&value.words));
            let (segment, shown) = value.segment(other, ending);
            self.step(here, &segment, &shown, scope, |walk, here| {
                walk.template(at + 1, &value.live, here)
            });
        }
    }

    /// The same with a slash in one value. That is told from another value by rules with `path` alone, in either reading.
    fn with_slash(&mut self, parts: &[&'r str], slash: usize, is_about: impl Fn(&Looks) -> bool) {
        let Some((_, ending)) = placeholder(parts[slash]) else {
            return;
        };
        let other = &self.values.other;
        let (segment, last) = (format!("{other}%2F{other}{ending}"), format!("{other}{ending}"));
        let (mut inside, mut separated) = (parts.to_vec(), parts.to_vec());
        inside[slash] = &segment;
        separated.splice(slash..=slash, [other.as_str(), &last]);
        let holds = |rule: &Looks| {
            let of_other = rule.has_path() && rule.fits(&separated);
            [is_about(rule) && rule.fits(&inside), of_other]
        };
        let live = self.rules.start(true, holds);
        if live.iter().any(|one| self.rules.get(*one).has_path()) {
            self.parts = Parts {
                all: parts.to_vec(),
                slash: Some(slash),
            };
            self.template(0, &live, &At::default());
        }
    }

    fn unknown(&mut self, depth: usize, live: &[Live], here: &At) {
        if self.is_full || !self.may_pass(live) {
            return;
        }
        self.take(depth, live, here);
        let (rules, values) = (self.rules, self.values);
        let deepest = live.iter().map(|one| rules.get(*one).depth()).max().unwrap_or_default();
        if depth >= deepest.max(1) {
            return;
        }
        // One id in a path is enough to tell the rules that name it.
        let ids = if here.scope.is_none() { Ids::Any } else { Ids::None };
        let place = Place {
            at: [depth; 2],
            ending: "",
            ids,
        };
        for value in rules.values(live, place, &values.other) {
            let scope = value.names_ids(rules).then(|| self.values.scope(&value.words));
            let (segment, shown) = value.segment(&values.other, "");
            self.step(here, &segment, &shown, scope, |walk, here| {
                walk.unknown(depth + 1, &value.live, here)
            });
        }
    }

    /// Takes a path, and the same with a slash at its end where a rule tells them apart.
    fn take(&mut self, len: usize, live: &[Live], here: &At) {
        let sees_slash = live.iter().any(|one| self.rules.get(*one).sees_slash(len));
        let endings = [(len > 0).then_some(""), sees_slash.then_some("/")];
        for ending in endings.into_iter().flatten() {
            for method in self.methods {
                self.is_full |= self.found.len() >= MOST;
                if self.is_full {
                    return;
                }
                self.found.push(Instance {
                    method: method.clone(),
                    path: format!("{}{ending}", here.path),
                    scope: here.scope.clone().unwrap_or(Scope::None),
                    has_slash: self.parts.slash.is_some(),
                    shown: format!("{}{ending}", here.shown),
                });
            }
        }
    }
}

impl Value {
    /// As it is sent, and as it is shown.
    fn segment(&self, other: &str, ending: &str) -> (String, String) {
        match self.words.first() {
            Some(word) => {
                let sent = encoded(word) + ending;
                (sent.clone(), sent)
            }
            None => (format!("{other}{ending}"), format!("*{ending}")),
        }
    }
}
