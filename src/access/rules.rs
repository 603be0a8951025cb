//! The rules of a caller, compiled, and what they say of a request.

use std::sync::Arc;

use http::Method;

use super::paths::{Literals, NumberedPattern, Segments};
use super::reading::One;
use super::words::{NONE, Words, hash};
use super::{Action, Decision, OwnCredential, Reading, Rule, Why};
use crate::catalogue::Catalogue;
use crate::guard::{PathPattern, SlashReading, folded, folds_to};

/// The rules of one caller. The first that matches decides, a `warn` aside; what none matches is denied.
#[derive(Clone)]
pub struct CallerRules {
    rules: Box<[Compiled]>,
    /// All ids that any rule names, in lower case.
    ids: Words,
    /// Of the paths of all rules.
    literals: Literals,
    own_account: bool,
    catalogue: Arc<Catalogue>,
}

#[derive(Clone)]
struct Compiled {
    rule: Rule,
    path: Option<NumberedPattern>,
    /// A path that is private must be named as such: whether it is.
    begins_private: bool,
    projects: Option<Ids>,
    organizations: Option<Ids>,
}

/// Numbers of [`CallerRules::ids`], one bit for each.
#[derive(Clone)]
struct Ids(Box<[u64]>);

impl Ids {
    fn has(&self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, number % 64);
        self.0.get(word).is_some_and(|word| word >> bit & 1 == 1)
    }
}

/// One reading of a request, and what the rules look at, found once.
struct Seen<'s> {
    method: &'s Method,
    one: &'s One<'s>,
    segments: Segments,
    /// Numbers of [`CallerRules::ids`], as they are and as loosely as a server might see them.
    project: [u32; 2],
    organization: [u32; 2],
}

impl CallerRules {
    /// `own_account`: whether the caller may touch the credential that the proxy itself uses.
    pub fn new(rules: Vec<Rule>, own_account: bool, catalogue: Arc<Catalogue>) -> Self {
        let named = |rule: &Rule| {
            rule.projects
                .iter()
                .chain(&rule.organizations)
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
        };
        let ids = Words::new(rules.iter().flat_map(named));
        let literals = Literals::of(rules.iter().filter_map(|rule| rule.path.as_ref()));
        let numbered = |list: &Option<Box<[Box<str>]>>| {
            list.as_ref().map(|list| {
                let mut words = vec![0_u64; ids.len().div_ceil(64)];
                for number in list.iter().map(|id| ids.exact(id)).filter(|number| *number != NONE) {
                    words[number as usize / 64] |= 1 << (number % 64);
                }
                Ids(words.into())
            })
        };
        let rules = rules
            .into_iter()
            .map(|rule| Compiled {
                path: rule.path.as_ref().map(|path| literals.pattern(path, rule.action)),
                begins_private: rule.path.as_ref().is_some_and(begins_private),
                projects: numbered(&rule.projects),
                organizations: numbered(&rule.organizations),
                rule,
            })
            .collect();
        Self {
            rules,
            ids,
            literals,
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
        if !self.own_account && own.is_named_in(reading.path) {
            return refused(Why::OwnCredential);
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
        for (n, compiled) in (1..).zip(&self.rules) {
            let Some(path) = &compiled.path else { continue };
            let rule = &compiled.rule;
            if !rule.has_method(other.method) || !path.matches(&other.segments) {
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
        if warned.is_none() && self.rules[by - 1].rule.path.is_some() {
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
            segments: self.literals.segments(path, self.catalogue.verbs(path)),
            project: self.number_of(one.project.as_deref()),
            organization: self.number_of(one.organization.as_deref()),
        }
    }

    fn number_of(&self, id: Option<&str>) -> [u32; 2] {
        let Some(id) = id else {
            return [NONE; 2];
        };
        let exact = self.ids.number(hash(id), |known| known.eq_ignore_ascii_case(id));
        if exact != NONE || id.bytes().all(|b| b.is_ascii_graphic()) {
            return [exact; 2];
        }
        [NONE, self.ids.exact(&folded(id))]
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
        for (n, compiled) in (1..).zip(&self.rules) {
            if !self.matches(compiled, seen) {
                continue;
            }
            match compiled.rule.action {
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

    fn matches(&self, compiled: &Compiled, seen: &Seen<'_>) -> bool {
        let rule = &compiled.rule;
        let Some(id) = seen.one.operation else {
            return rule.unknown && self.matches_unknown(compiled, seen);
        };
        if !rule.operations.has(id) {
            return false;
        }
        let loosely = usize::from(rule.action == Action::Deny);
        rule.has_method(seen.method)
            && compiled
                .projects
                .as_ref()
                .is_none_or(|ids| ids.has(seen.project[loosely]))
            && compiled
                .organizations
                .as_ref()
                .is_none_or(|ids| ids.has(seen.organization[loosely]))
            && compiled.path.as_ref().is_none_or(|path| path.matches(&seen.segments))
    }

    /// Of what is no operation. Where a denying rule names projects or organizations, any segment may be one: nothing says
    /// where they stand.
    fn matches_unknown(&self, compiled: &Compiled, seen: &Seen<'_>) -> bool {
        let rule = &compiled.rule;
        let path: &str = &seen.one.path;
        let names = |ids: &[Box<str>]| path.split('/').any(|part| ids.iter().any(|id| folds_to(part, id)));
        // What costs most comes last.
        rule.has_method(seen.method)
            && compiled.path.as_ref().is_none_or(|pattern| {
                pattern.matches(&seen.segments)
                    && (rule.action == Action::Deny || compiled.begins_private || !is_private(path))
            })
            && rule.projects.as_ref().is_none_or(|ids| names(ids))
            && rule.organizations.as_ref().is_none_or(|ids| names(ids))
    }
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
