//! What rules tell apart at one place of a path: values that the same rules name are one and the same to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::book::RuleText;
use crate::catalogue::Operation;
use crate::guard::{End, PathPattern, folded};

/// A rule as far as values in paths matter to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Looks {
    operations: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    /// As it is and as [`folded`] sees it; None: a wildcard.
    segments: Vec<Option<[String; 2]>>,
    /// None: it has no `path`.
    end: Option<End>,
    /// In lower case.
    projects: Option<BTreeSet<String>>,
    organizations: Option<BTreeSet<String>>,
    keeps_out: bool,
    /// Whether somebody passes because of it: for a caller that is a rule of its own.
    pub(super) lets_in: bool,
    of_listener: bool,
}

/// A rule that still may match the path so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Live {
    pub(super) rule: usize,
    /// Bit n: reading n of the path. The last bit: what the rule names of projects or organizations stands in the path.
    bits: u32,
}

const NAMED: u32 = 1 << 31;
/// Reading 1 is that of `%2F` as a separator, where there is one.
const OF_SLASH: u32 = 1 << 1;

/// Where ids stand in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    None,
    Project,
    Organization,
    /// Here as well as anywhere else: the path is no operation's.
    Any,
}

/// A place that values are tried at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'t> {
    /// In each reading the segment, and what follows the value in it: `:verb`, `.gz`.
    pub(super) at: &'t [(usize, &'t str)],
    pub(super) ids: Ids,
}

/// A value, and whatever else is the same to all rules.
#[derive(Debug)]
pub(super) struct Value {
    /// None: what no rule names.
    pub(super) words: Vec<String>,
    pub(super) live: Vec<Live>,
}

/// The name and the ending of a placeholder.
pub(super) fn placeholder(part: &str) -> Option<(&str, &str)> {
    part.strip_prefix('{').and_then(|rest| rest.split_once('}'))
}

/// A value as it is sent.
pub(super) fn encoded(value: &str) -> String {
    value
        .bytes()
        .fold(String::with_capacity(value.len()), |mut text, byte| {
            if byte.is_ascii_graphic() {
                text.push(char::from(byte));
            } else {
                // A String takes everything.
                let _ = write!(text, "%{byte:02X}");
            }
            text
        })
}

/// Leaves one id of all that the same rules name, so that a long list costs no more than a short one. All of them, by that one.
pub(super) fn only_one_of_each_kind(rules: &mut [Looks]) -> BTreeMap<String, Arc<[String]>> {
    let mut naming: BTreeMap<String, Vec<(usize, bool)>> = BTreeMap::new();
    for (n, rule) in rules.iter().enumerate() {
        for (ids, is_project) in [(&rule.projects, true), (&rule.organizations, false)] {
            for id in ids.iter().flatten() {
                naming.entry(id.clone()).or_default().push((n, is_project));
            }
        }
    }
    // What a path names, too, is of a kind of its own.
    let in_paths: BTreeSet<&str> = rules.iter().flat_map(Looks::literals).collect();
    let mut alike: BTreeMap<String, Arc<[String]>> = BTreeMap::new();
    let mut kinds: BTreeMap<Vec<(usize, bool)>, Vec<String>> = BTreeMap::new();
    for (id, naming) in naming {
        if in_paths.contains(id.as_str()) {
            alike.insert(id.clone(), Arc::new([id]));
        } else {
            kinds.entry(naming).or_default().push(id);
        }
    }
    alike.extend(kinds.into_values().map(|ids| (ids[0].clone(), ids.into())));
    for rule in rules {
        for ids in [&mut rule.projects, &mut rule.organizations].into_iter().flatten() {
            ids.retain(|id| alike.contains_key(id));
        }
    }
    alike
}

impl Value {
    /// Whether an id stands there that a rule names which may stand anywhere.
    pub(super) fn names_ids(&self, rules: &Rules) -> bool {
        let names = |one: &Live| one.bits & NAMED != 0 && rules.get(*one).ids(Ids::Any).is_some();
        self.live.iter().any(names)
    }
}

impl Looks {
    /// `is_anonymous`: of whoever has no rules of its own.
    pub(super) fn of(rule: &RuleText, of_listener: bool, is_anonymous: bool) -> Self {
        let lower = |ids: &Option<Vec<String>>| {
            let ids = ids.as_ref()?.iter();
            Some(ids.map(|id| id.to_ascii_lowercase()).collect())
        };
        let path = rule.path.as_ref().and_then(|path| PathPattern::parse(path).ok());
        let segments = path.iter().flat_map(PathPattern::segments);
        let owned = |(exact, loose): (&str, &str)| [exact.to_owned(), loose.to_owned()];
        let keeps_out = rule.action == "deny";
        Self {
            operations: rule.operations.clone(),
            tags: rule.tags.clone(),
            methods: rule.methods.clone(),
            segments: segments.map(|segment| segment.map(owned)).collect(),
            end: path.as_ref().map(PathPattern::end),
            projects: lower(&rule.projects),
            organizations: lower(&rule.organizations),
            keeps_out,
            lets_in: !keeps_out && of_listener == is_anonymous,
            of_listener,
        }
    }

    /// The literals of its path, as [`folded`] sees them.
    fn literals(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().flatten().map(|[_, loose]| loose.as_str())
    }

    pub(super) fn has_path(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it looks at every path of an operation, not only at the one that was sent.
    pub(super) fn sees_twins(&self) -> bool {
        self.keeps_out && self.has_path() && !self.of_listener
    }

    /// Whether it can tell a path of so many segments from the one with a slash at its end.
    pub(super) fn sees_slash(&self, len: usize) -> bool {
        !self.keeps_out && matches!(self.end, Some(End::Here | End::Slash)) && self.segments.len() == len
    }

    /// So many segments of a path it looks at, and two that it does not, where it goes on.
    pub(super) fn depth(&self) -> usize {
        let goes_on = self.end == Some(End::Rest);
        self.segments.len() + if goes_on { 2 } else { 0 }
    }

    pub(super) fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().flatten().map(String::as_str)
    }

    pub(super) fn has_any_method(&self) -> bool {
        self.methods.is_none()
    }

    pub(super) fn has_method(&self, of_operation: &str) -> bool {
        let is = |given: &str| {
            given.eq_ignore_ascii_case(of_operation) || (of_operation == "GET" && given.eq_ignore_ascii_case("HEAD"))
        };
        self.methods.is_none() || self.methods().any(is)
    }

    /// Whether it may be about an operation; says rather too often that it is.
    pub(super) fn is_about(&self, operation: &Operation, tag: &str) -> bool {
        let begins = |name: &String| match name.split_once('*') {
            Some((start, _)) => operation.name.starts_with(start),
            None => operation.name == name,
        };
        let has = |ids: &Option<BTreeSet<String>>, name: &str| ids.is_none() || operation.path.contains(name);
        self.operations.as_ref().is_none_or(|names| names.iter().any(begins))
            && self.tags.as_ref().is_none_or(|tags| tags.iter().any(|one| one == tag))
            && has(&self.projects, "{groupId}")
            && has(&self.organizations, "{orgId}")
    }

    /// Whether it may be about what is no operation.
    pub(super) fn is_about_unknown(&self) -> bool {
        let names = |names: &Vec<String>| names.iter().any(|name| name == "unknown");
        match (self.of_listener, self.keeps_out) {
            (true, _) => true,
            (false, true) => self.tags.is_none() && self.operations.as_ref().is_none_or(names),
            (false, false) => self.operations.as_ref().is_some_and(names),
        }
    }

    /// Whether it may match some path of a template.
    pub(super) fn fits(&self, parts: &[String]) -> bool {
        let long_enough = match self.end {
            None | Some(End::Rest) => self.segments.len() <= parts.len(),
            Some(End::Here | End::Slash) => self.segments.len() == parts.len(),
        };
        let mut both = self.segments.iter().zip(parts);
        long_enough
            && both.all(|(segment, part)| {
                let Some([exact, loose]) = segment else { return true };
                match (placeholder(part), self.keeps_out) {
                    (Some((_, ending)), true) => loose.ends_with(&*folded(ending)),
                    (Some((_, ending)), false) => exact.ends_with(ending),
                    (None, true) => *loose == folded(part),
                    (None, false) => exact == part,
                }
            })
    }

    fn takes(&self, at: usize, segment: &str) -> bool {
        match self.segments.get(at) {
            None => !matches!(self.end, Some(End::Here | End::Slash)),
            Some(None) => true,
            Some(Some([_, loose])) if self.keeps_out => *loose == folded(segment),
            Some(Some([exact, _])) => exact == segment,
        }
    }

    fn ids(&self, ids: Ids) -> Option<&BTreeSet<String>> {
        match ids {
            Ids::None => None,
            Ids::Project => self.projects.as_ref(),
            Ids::Organization => self.organizations.as_ref(),
            Ids::Any => self.projects.as_ref().or(self.organizations.as_ref()),
        }
    }

    /// What it names at a place, for the readings that it still may match.
    fn words(&self, live: Live, place: Place<'_>) -> impl Iterator<Item = String> {
        let readings = place
            .at
            .iter()
            .enumerate()
            .filter(move |(n, _)| live.bits >> n & 1 == 1);
        let literals = readings.filter_map(|(_, (at, ending))| {
            let [exact, _] = self.segments.get(*at)?.as_ref()?;
            let (value, end) = exact.split_at_checked(exact.len().checked_sub(ending.len())?)?;
            (!value.is_empty() && end.eq_ignore_ascii_case(ending)).then(|| value.to_owned())
        });
        literals.chain(self.ids(place.ids).into_iter().flatten().cloned())
    }
}

/// The rules of somebody that matter to an operation.
#[derive(Debug)]
pub(super) struct Rules {
    all: Vec<Looks>,
}

/// A value, and an id, that none of these rules names.
pub(super) fn others(rules: &[Looks]) -> [String; 2] {
    let mut named: BTreeSet<&str> = rules.iter().flat_map(Looks::literals).collect();
    for rule in rules {
        let ids = [&rule.projects, &rule.organizations];
        named.extend(ids.into_iter().flatten().flatten().map(String::as_str));
    }
    // One of so many is not among them.
    let free = |make: fn(usize) -> String| {
        let mut made = (0..=named.len()).map(make);
        made.find(|text| !named.contains(text.as_str())).unwrap_or_default()
    };
    [free(|n| format!("{n}other{n}")), free(|n| format!("{n:024x}"))]
}

impl Rules {
    pub(super) fn new(all: Vec<Looks>) -> Self {
        Self { all }
    }

    pub(super) fn get(&self, live: Live) -> &Looks {
        &self.all[live.rule]
    }

    /// Those of which something holds, for each reading. `named`: they match unless another id than theirs turns up.
    pub(super) fn start(&self, named: bool, readings: usize, holds: impl Fn(&Looks, usize) -> bool) -> Vec<Live> {
        let all = self.all.iter().enumerate();
        let live = all.filter_map(|(rule, looks)| {
            let holding = (0..readings).filter(|n| holds(looks, *n));
            let bits = holding.fold(0, |bits, n| bits | 1 << n);
            (bits != 0).then_some(Live {
                rule,
                bits: bits | if named { NAMED } else { 0 },
            })
        });
        live.collect()
    }

    /// As it is after a value at a place; None: it matches nothing that goes on so.
    fn after(&self, live: Live, place: Place<'_>, value: &str) -> Option<Live> {
        let (looks, mut bits) = (self.get(live), live.bits);
        for (reading, (at, ending)) in place.at.iter().enumerate() {
            if live.bits >> reading & 1 == 1 && !looks.takes(*at, &format!("{value}{ending}")) {
                bits &= !(1 << reading);
            }
        }
        if let Some(ids) = looks.ids(place.ids) {
            match (ids.contains(&*folded(value)), place.ids) {
                (true, Ids::Any) => bits |= NAMED,
                (true, _) => {}
                (false, Ids::Any) => {}
                // A rule with a path counts for another reading of `%2F` whatever it names.
                (false, _) => bits &= OF_SLASH,
            }
        }
        (bits & !NAMED != 0).then_some(Live { bits, ..live })
    }

    /// The values at a place: one for all that no rule names, and one for each set of rules that name the same.
    pub(super) fn values(&self, live: &[Live], place: Place<'_>, other: &str) -> Vec<Value> {
        let base: Vec<Live> = live.iter().filter_map(|one| self.after(*one, place, other)).collect();
        let mut named: BTreeMap<String, BTreeSet<Live>> = BTreeMap::new();
        let mut words = BTreeSet::new();
        for one in live {
            for word in self.get(*one).words(*one, place) {
                named.entry(folded(&word).into_owned()).or_default().insert(*one);
                words.insert(word);
            }
        }
        // What keeps out looks at no case: so a spelling that none has may be told from those.
        let odd: Vec<String> = words.iter().filter_map(|word| odd_spelling(word, &words)).collect();
        let mut classes = BTreeMap::from([(base.clone(), 0)]);
        let mut values = vec![Value {
            words: Vec::new(),
            live: base,
        }];
        for (word, is_odd) in words
            .iter()
            .map(|word| (word, false))
            .chain(odd.iter().map(|word| (word, true)))
        {
            let Some(naming) = named.get(&*folded(word)) else {
                continue;
            };
            let names = |one: &Live| naming.iter().any(|naming| naming.rule == one.rule);
            let rest = values[0].live.iter().filter(|one| !names(one)).copied();
            let meant = naming.iter().filter_map(|one| self.after(*one, place, word));
            let mut live: Vec<Live> = rest.chain(meant).collect();
            live.sort_unstable();
            match classes.get(&live) {
                Some(0) => {}
                Some(at) if !is_odd => values[*at].words.push(word.clone()),
                Some(_) => {}
                None => {
                    classes.insert(live.clone(), values.len());
                    values.push(Value {
                        words: vec![word.clone()],
                        live,
                    });
                }
            }
        }
        values
    }
}

/// The same word with one letter in the other case, as no rule has it.
fn odd_spelling(word: &str, words: &BTreeSet<String>) -> Option<String> {
    let letters = word.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic());
    let mut spellings = letters.map(|(at, byte)| {
        let other = char::from(byte ^ 0x20);
        format!("{}{other}{}", &word[..at], &word[at + 1..])
    });
    spellings.find(|spelling| !words.contains(spelling))
}
