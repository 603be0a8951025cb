//! The rules of a caller, compiled, and what they say of a request.

use std::sync::Arc;

use http::Method;

use super::parts::Parts;
use super::reading::One;
use super::{Action, Decision, OwnCredential, Reading, Rule, Why};
use crate::catalogue::Catalogue;
use crate::guard::{PathPattern, SlashReading, folded, folds_to};

/// The rules of one caller. The first that matches decides, a `warn` aside; what none matches is denied.
#[derive(Clone)]
pub struct CallerRules {
    rules: Box<[Compiled]>,
    /// All ids that any rule names, in lower case and sorted.
    ids: Box<[Box<str>]>,
    own_account: bool,
    catalogue: Arc<Catalogue>,
}

#[derive(Clone)]
struct Compiled {
    rule: Rule,
    projects: Option<Ids>,
    organizations: Option<Ids>,
}

/// Places in [`CallerRules::ids`], one bit for each.
#[derive(Clone)]
struct Ids(Box<[u64]>);

impl Ids {
    fn has(&self, place: Option<usize>) -> bool {
        place.is_some_and(|place| self.0.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1))
    }
}

/// One reading of a request, and what the rules look at, found once.
struct Seen<'s> {
    method: &'s Method,
    one: &'s One<'s>,
    parts: Parts<'s>,
    /// Segments that no wildcard takes in a rule that lets in.
    verbs: u32,
    /// Places in [`CallerRules::ids`], as they are and as loosely as a server might see them.
    project: [Option<usize>; 2],
    organization: [Option<usize>; 2],
}

impl CallerRules {
    /// `own_account`: whether the caller may touch the credential that the proxy itself uses.
    pub fn new(rules: Vec<Rule>, own_account: bool, catalogue: Arc<Catalogue>) -> Self {
        let mut ids: Vec<Box<str>> = Vec::new();
        for rule in &rules {
            let both = rule.projects.iter().chain(&rule.organizations);
            ids.extend(both.flat_map(|ids| ids.iter().cloned()));
        }
        ids.sort_unstable();
        ids.dedup();
        let compiled = |list: &Option<Box<[Box<str>]>>| {
            list.as_ref().map(|list| {
                let mut words = vec![0_u64; ids.len().div_ceil(64)];
                for place in list.iter().filter_map(|id| ids.binary_search(id).ok()) {
                    words[place / 64] |= 1 << (place % 64);
                }
                Ids(words.into())
            })
        };
        let rules = rules
            .into_iter()
            .map(|rule| Compiled {
                projects: compiled(&rule.projects),
                organizations: compiled(&rule.organizations),
                rule,
            })
            .collect();
        Self {
            rules,
            ids: ids.into(),
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
            let Some(path) = &compiled.rule.path else { continue };
            let rule = &compiled.rule;
            if !rule.has_method(other.method) || !other.matches(path, rule.action) {
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
            parts: Parts::of(path),
            verbs: self.catalogue.verbs(path),
            project: self.place_of(one.project.as_deref()),
            organization: self.place_of(one.organization.as_deref()),
        }
    }

    fn place_of(&self, id: Option<&str>) -> [Option<usize>; 2] {
        let Some(id) = id.filter(|_| !self.ids.is_empty()) else {
            return [None; 2];
        };
        let lower = id.bytes().map(|b| b.to_ascii_lowercase());
        let exact = self.ids.binary_search_by(|known| known.bytes().cmp(lower.clone())).ok();
        if exact.is_some() || id.bytes().all(|b| b.is_ascii_graphic()) {
            return [exact; 2];
        }
        let loose = folded(id);
        [None, self.ids.binary_search_by(|known| (**known).cmp(&loose)).ok()]
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
            let folded: Vec<_> = seen.parts.iter().map(folded).collect();
            self.catalogue
                .find_loosely(seen.method, &format!("/{}", folded.join("/")))
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
            && rule.path.as_ref().is_none_or(|path| seen.matches(path, rule.action))
    }

    /// Of what is no operation. Where a denying rule names projects or organizations, any segment may be one: nothing says
    /// where they stand.
    fn matches_unknown(&self, compiled: &Compiled, seen: &Seen<'_>) -> bool {
        let rule = &compiled.rule;
        let names = |ids: &[Box<str>]| seen.parts.iter().any(|part| ids.iter().any(|id| folds_to(part, id)));
        rule.has_method(seen.method)
            && rule.projects.as_ref().is_none_or(|ids| names(ids))
            && rule.organizations.as_ref().is_none_or(|ids| names(ids))
            && rule.path.as_ref().is_none_or(|path| {
                seen.matches(path, rule.action)
                    && (rule.action == Action::Deny || !seen.is_private() || begins_private(path))
            })
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

impl Seen<'_> {
    fn matches(&self, path: &PathPattern, action: Action) -> bool {
        match action {
            Action::Deny => path.matches_parts(self.parts.iter(), 0, true),
            Action::Allow | Action::Warn => path.matches_parts(self.parts.iter(), self.verbs, false),
        }
    }

    fn is_private(&self) -> bool {
        let mut parts = self.parts.iter().filter(|part| !part.is_empty());
        ["api", "private"]
            .iter()
            .all(|name| parts.next().is_some_and(|part| folds_to(part, name)))
    }
}

/// Whether a pattern itself says that it is about `/api/private/`.
fn begins_private(path: &PathPattern) -> bool {
    let mut segments = path.segments();
    let mut next_is = |name: &str| segments.next().flatten().is_some_and(|(exact, _)| exact == name);
    next_is("api") && next_is("private")
}
