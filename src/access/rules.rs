//! The rules of a caller, compiled, and what they say of a request.

use std::sync::Arc;

use http::Method;

use super::paths::{PathSets, Segments};
use super::reading::One;
use super::sets::{RuleSets, in_order, words};
use super::words::{NONE, Words, hash};
use super::{Action, Decision, OwnCredential, Reading, Rule, Why};
use crate::catalogue::{Catalogue, OperationId};
use crate::guard::{PathPattern, SlashReading, folded, folds_to};

/// Those that rules name; others are odd, or an odd spelling.
static METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

fn method_row(method: &Method) -> usize {
    METHODS.iter().position(|one| one == method).unwrap_or(METHODS.len())
}

/// Letters of a project's or an organization's id.
const ID_LEN: usize = 24;

/// The rules of one caller. The first that matches decides, a `warn` aside; what none matches is denied.
#[derive(Clone)]
pub struct CallerRules {
    rules: Box<[Rule]>,
    /// Of each rule, close together.
    actions: Box<[Action]>,
    /// By [`method_row`]: the rules that match it; in the last row all, which must be asked.
    by_method: RuleSets,
    /// By operation, the last row for what is none: the rules that can match it.
    by_operation: RuleSets,
    projects: IdSets,
    organizations: IdSets,
    paths: PathSets,
    own_account: bool,
    catalogue: Arc<Catalogue>,
}

/// The ids that rules name under one key, and the rules that name each. What keeps out compares loosely, what lets in exactly.
#[derive(Clone)]
struct IdSets {
    /// In lower case.
    ids: Words,
    /// By number, the last row for what is none of them: the rules that name it, or that name no id under this key.
    by_id: RuleSets,
    /// One row: the rules that keep out.
    keeping_out: RuleSets,
}

impl IdSets {
    fn of(rules: &[Rule], key: impl Fn(&Rule) -> Option<&[Box<str>]>) -> Self {
        let ids = Words::new(rules.iter().filter_map(&key).flatten().cloned());
        let named: Vec<Option<Vec<u32>>> = rules
            .iter()
            .map(|rule| key(rule).map(|list| list.iter().map(|id| ids.exact(id)).collect()))
            .collect();
        Self {
            by_id: RuleSets::new(ids.len() + 1, rules.len(), |row, rule| {
                let names = |list: &Vec<u32>| list.iter().any(|number| *number as usize == row);
                named[rule].as_ref().is_none_or(names)
            }),
            keeping_out: RuleSets::new(1, rules.len(), |_, rule| rules[rule].action == Action::Deny),
            ids,
        }
    }

    /// The rows for what stands at an id's place: as it is, and as loosely as a server might see it.
    fn rows(&self, id: Option<&str>) -> [usize; 2] {
        let number = |id: &str| {
            let exact = self.ids.number(hash(id), |known| known.eq_ignore_ascii_case(id));
            if exact != NONE || id.bytes().all(|b| b.is_ascii_graphic()) {
                return [exact; 2];
            }
            [NONE, self.ids.exact(&folded(id))]
        };
        match id {
            Some(id) if self.ids.len() > 0 => number(id),
            _ => [NONE; 2],
        }
        .map(|number| self.ids.row(number))
    }

    /// Of what is no operation: the rules that name no id, or one that stands anywhere in the path, as loosely as a server might
    /// see it: nothing says where ids stand.
    fn naming_any_of(&self, path: &str, word: usize) -> u64 {
        let none = self.by_id.word(self.ids.len(), word);
        // What looks like an id is no shorter than one.
        let parts = path
            .split('/')
            .filter(|part| part.len() >= ID_LEN && self.ids.len() > 0);
        parts.fold(none, |found, part| {
            found | self.by_id.word(self.rows(Some(part))[1], word)
        })
    }

    fn fitting(&self, [exact, loose]: [usize; 2], word: usize) -> u64 {
        if exact == loose {
            return self.by_id.word(exact, word);
        }
        let keeping_out = self.keeping_out.word(0, word);
        (self.by_id.word(exact, word) & !keeping_out) | (self.by_id.word(loose, word) & keeping_out)
    }
}

/// One reading of a request, and what the rules look at, found once.
struct Seen<'s> {
    method: &'s Method,
    one: &'s One<'s>,
    segments: Segments,
    /// Rows of [`IdSets`].
    project: [usize; 2],
    organization: [usize; 2],
}

impl CallerRules {
    /// `own_account`: whether the caller may touch the credential that the proxy itself uses.
    pub fn new(rules: Vec<Rule>, own_account: bool, catalogue: Arc<Catalogue>) -> Self {
        let operations: Vec<OperationId> = catalogue.ids().collect();
        Self {
            actions: rules.iter().map(|rule| rule.action).collect(),
            by_method: RuleSets::new(METHODS.len() + 1, rules.len(), |row, rule| {
                METHODS.get(row).is_none_or(|method| rules[rule].has_method(method))
            }),
            by_operation: RuleSets::new(operations.len() + 1, rules.len(), |row, rule| {
                match operations.get(row) {
                    Some(id) => rules[rule].operations.has(*id),
                    None => rules[rule].unknown,
                }
            }),
            projects: IdSets::of(&rules, |rule| rule.projects.as_deref()),
            organizations: IdSets::of(&rules, |rule| rule.organizations.as_deref()),
            paths: PathSets::of(&rules),
            rules: rules.into(),
            own_account,
            catalogue,
        }
    }

    /// What becomes of a request. `own`: the credential that the account uses. Allocates nothing for ordinary paths.
    pub fn decide(&self, reading: &Reading<'_>, own: &OwnCredential) -> Decision {
        let refused = |why| Decision {
            allowed: false,
            why,
            warned: None,
            operation: reading.operation(),
            reading: None,
        };
        let (inside, separated) = match reading.readings() {
            Ok(readings) => readings,
            Err(why) => return refused(Why::Unclear(why)),
        };
        // A path that is clear has these readings alone.
        let mut readings = std::iter::once(inside).chain(separated);
        let touched = readings.find_map(|one| own.touched_by_decoded(reading.method, &one.path));
        if let Some(touched) = touched.filter(|_| !self.own_account) {
            return refused(Why::OwnCredential(touched));
        }
        let inside = self.see(reading.method, inside);
        let Some(separated) = separated else {
            return self.judge(&inside);
        };
        let separated = self.see(reading.method, separated);
        let with = |decision, which| Decision {
            reading: Some(which),
            ..decision
        };
        let (part, separator) = (SlashReading::Part, SlashReading::Separator);
        let of_the_catalogue = reading.path.starts_with("/api/atlas/v2/");
        match (inside.one.operation, separated.one.operation) {
            (Some(_), None) if of_the_catalogue => self.judge_alone((&inside, part), (&separated, separator)),
            (None, Some(_)) if of_the_catalogue => self.judge_alone((&separated, separator), (&inside, part)),
            _ => {
                let first = with(self.judge(&inside), part);
                let second = with(self.judge(&separated), separator);
                match (first.allowed, second.allowed) {
                    (true, false) => second,
                    (true, true) => Decision {
                        warned: first.warned.or(second.warned),
                        ..first
                    },
                    (false, _) => first,
                }
            }
        }
    }

    /// Where only one reading of `%2F` is an operation: it is judged, and of the other one only what rules with `path` say.
    fn judge_alone(&self, operation: (&Seen<'_>, SlashReading), other: (&Seen<'_>, SlashReading)) -> Decision {
        let decision = Decision {
            reading: Some(operation.1),
            ..self.judge(operation.0)
        };
        let Why::Rule(by) = decision.why else {
            return decision;
        };
        if !decision.allowed {
            return decision;
        }
        let refused = |why| Decision {
            allowed: false,
            why,
            warned: None,
            operation: None,
            reading: Some(other.1),
        };
        let other = other.0;
        if let Some(why) = self.disguised(other) {
            return refused(why);
        }
        let mut warned = None;
        let fitting = |word| self.paths.fitting(&other.segments, word);
        for at in (0..words(self.rules.len())).flat_map(|word| in_order(word, fitting(word))) {
            let (rule, n) = (&self.rules[at], at + 1);
            if rule.path.is_none() || !rule.has_method(other.method) {
                continue;
            }
            match rule.action {
                Action::Deny => return refused(Why::Rule(n)),
                Action::Allow => {
                    return Decision {
                        warned: decision.warned.or(warned),
                        ..decision
                    };
                }
                Action::Warn => warned = warned.or(Some(n)),
            }
        }
        if warned.is_none() && self.rules[by - 1].path.is_some() {
            return refused(Why::Unmatched);
        }
        Decision {
            warned: decision.warned.or(warned),
            ..decision
        }
    }

    fn see<'s>(&self, method: &'s Method, one: &'s One<'s>) -> Seen<'s> {
        let path: &str = &one.path;
        Seen {
            method,
            one,
            segments: self.paths.segments(path, |path| self.catalogue.verbs(path)),
            project: self.projects.rows(one.project.as_deref()),
            organization: self.organizations.rows(one.organization.as_deref()),
        }
    }

    fn judge(&self, seen: &Seen<'_>) -> Decision {
        let operation = seen.one.operation;
        let decided = |allowed, why, warned| Decision {
            allowed,
            why,
            warned,
            operation,
            reading: None,
        };
        if let Some(why) = self.disguised(seen) {
            return decided(false, why, None);
        }
        let mut warned = None;
        let is_odd = method_row(seen.method) == METHODS.len();
        for at in self.candidates(seen) {
            let n = at + 1;
            if (is_odd && !self.rules[at].has_method(seen.method))
                || (operation.is_none() && !matches_unknown(&self.rules[at], &seen.one.path))
            {
                continue;
            }
            match self.actions[at] {
                Action::Allow => return decided(true, Why::Rule(n), warned),
                Action::Deny => return decided(false, Why::Rule(n), None),
                Action::Warn => warned = warned.or(Some(n)),
            }
        }
        match warned {
            Some(n) => decided(true, Why::Rule(n), warned),
            None => decided(false, Why::Unmatched, None),
        }
    }

    /// Whether a forgiving server might take it for another operation than it is.
    fn disguised(&self, seen: &Seen<'_>) -> Option<Why> {
        let path: &str = &seen.one.path;
        let loosely = if path.bytes().all(|b| b.is_ascii_graphic()) {
            self.catalogue.find_loosely(seen.method, path)
        } else {
            let folded: Vec<_> = path.split('/').map(folded).collect();
            self.catalogue.find_loosely(seen.method, &folded.join("/"))
        };
        loosely.filter(|id| seen.one.operation != Some(*id)).map(Why::Disguised)
    }

    /// The rules that match, in their order, counted from 0. For an odd method, and of what is no operation: all that may match.
    fn candidates<'s>(&'s self, seen: &'s Seen<'_>) -> impl Iterator<Item = usize> + 's {
        let unknown = self.catalogue.operations().len();
        let row = seen.one.operation.map_or(unknown, OperationId::index);
        let method = method_row(seen.method);
        let of_word = move |word| {
            let mut set = self.by_operation.word(row, word) & self.by_method.word(method, word);
            if seen.one.operation.is_some() {
                set &= self.projects.fitting(seen.project, word) & self.organizations.fitting(seen.organization, word);
            }
            if set != 0 {
                set &= self.paths.fitting(&seen.segments, word) | self.by_twins(seen, word, set);
            }
            if set != 0 && seen.one.operation.is_none() {
                set &= self.projects.naming_any_of(&seen.one.path, word);
                set &= self.organizations.naming_any_of(&seen.one.path, word);
            }
            in_order(word, set)
        };
        (0..words(self.rules.len())).flat_map(of_word)
    }

    /// Of `set`, the rules that keep out by a path of the operation other than the one that was sent: what must not be done must
    /// not be done by any path.
    fn by_twins(&self, seen: &Seen<'_>, word: usize, set: u64) -> u64 {
        let Some(operation) = seen.one.operation.filter(|_| set & self.paths.denials(word) != 0) else {
            return 0;
        };
        let twins = self.catalogue.twins(operation, seen.one.template, &seen.one.path);
        twins.fold(0, |found, twin| found | self.paths.keeping_out(twin, word))
    }
}

/// Of what is no operation, whether its path is one that the rule may mean.
fn matches_unknown(rule: &Rule, path: &str) -> bool {
    let may_be_private = |pattern: &PathPattern| rule.action == Action::Deny || begins_private(pattern);
    rule.path
        .as_ref()
        .is_none_or(|pattern| may_be_private(pattern) || !is_private(path))
}

impl Rule {
    fn has_method(&self, method: &Method) -> bool {
        let Some(methods) = &self.methods else {
            return true;
        };
        // Methods are case-sensitive (RFC 9110 section 9.1), but not every server knows.
        let same = |one: &Method, other: &Method| match self.action {
            Action::Deny => one.as_str().eq_ignore_ascii_case(other.as_str()),
            Action::Allow | Action::Warn => one == other,
        };
        let is_head = same(method, &Method::HEAD);
        let fits = |given: &Method| same(given, method) || (is_head && *given == Method::GET);
        methods.iter().any(fits)
    }
}

fn is_private(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    ["api", "private"]
        .iter()
        .all(|name| parts.next().is_some_and(|part| folds_to(part, name)))
}

/// Whether a pattern itself says that it is about `/api/private/`.
fn begins_private(path: &PathPattern) -> bool {
    let mut segments = path.segments();
    let mut next_is = |name: &str| segments.next().flatten().is_some_and(|(exact, _)| exact == name);
    next_is("api") && next_is("private")
}
