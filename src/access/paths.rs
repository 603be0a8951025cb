//! Path patterns of the rules of one caller, compared with a path all at once: for each of its segments, the rules whose
//! patterns fit there.

use super::sets::RuleSets;
use super::words::{NONE, Words, hash};
use super::{Action, Rule};
use crate::guard::{End, folded};

/// Patterns and paths are compared in their first segments; no operation has more.
const MOST: usize = 24;

/// The patterns of all rules; a rule without one fits every path.
#[derive(Clone)]
pub(super) struct PathSets {
    /// One for each segment of the longest pattern.
    positions: Box<[Position]>,
    /// Whether any rule has a pattern.
    any: bool,
    /// Segments of the longest pattern.
    longest: usize,
    /// By what [`Segments::ending`] says.
    endings: RuleSets,
    /// One row: the rules that keep out and have a pattern.
    denials: RuleSets,
}

/// One segment of all patterns. What keeps out compares loosely, what lets in exactly.
#[derive(Clone)]
struct Position {
    exact: Words,
    loose: Words,
    /// By a segment's number in `exact`, the last row for one that has none: the rules that let in and fit, and all others.
    by_exact: RuleSets,
    /// By a segment's number in `loose`: the rules that keep out and fit, and all others.
    by_loose: RuleSets,
    /// One row: the rules that let in and have a wildcard here, which takes no `:verb`.
    wildcards: RuleSets,
}

/// The segments of a canonical path, looked up once for all rules.
pub(super) struct Segments {
    exact: [u32; MOST],
    loose: [u32; MOST],
    /// A row of [`PathSets::endings`].
    ending: usize,
    /// Bit n: no wildcard of a rule that lets in takes segment n.
    verbs: u32,
}

impl Segments {
    const NONE: Self = Self {
        exact: [NONE; MOST],
        loose: [NONE; MOST],
        ending: 0,
        verbs: 0,
    };
}

fn keeps_out(rule: &Rule) -> bool {
    rule.action == Action::Deny
}

/// A row for a path of so many segments, not counting the empty one after a slash at its end.
fn ending(len: usize, ends_with_slash: bool) -> usize {
    len * 2 + usize::from(ends_with_slash)
}

impl Position {
    fn of(rules: &[Rule], place: usize) -> Self {
        // None: the rule has no pattern, or a shorter one. Some(None): a wildcard.
        let segments: Vec<_> = rules
            .iter()
            .map(|rule| rule.path.as_ref()?.segments().nth(place))
            .collect();
        let literals = |of_denials: bool| {
            let of = rules
                .iter()
                .zip(&segments)
                .filter(move |(rule, _)| keeps_out(rule) == of_denials);
            of.filter_map(|(_, segment)| segment.flatten())
        };
        let exact = Words::new(literals(false).map(|(exact, _)| exact.into()));
        let loose = Words::new(literals(true).map(|(_, loose)| loose.into()));
        let sets = |of_denials: bool, words: &Words| {
            let numbers: Vec<Option<u32>> = segments
                .iter()
                .map(|segment| {
                    let (exact, loose) = (*segment)??;
                    Some(words.exact(if of_denials { loose } else { exact }))
                })
                .collect();
            RuleSets::new(words.len() + 1, rules.len(), |row, rule| {
                let fits = numbers[rule].is_none_or(|number| number as usize == row);
                keeps_out(&rules[rule]) != of_denials || fits
            })
        };
        Self {
            by_exact: sets(false, &exact),
            by_loose: sets(true, &loose),
            wildcards: RuleSets::new(1, rules.len(), |_, rule| {
                !keeps_out(&rules[rule]) && segments[rule] == Some(None)
            }),
            exact,
            loose,
        }
    }
}

impl PathSets {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let len = |rule: &Rule| rule.path.as_ref().map_or(0, |path| path.segments().count());
        let longest = rules.iter().map(len).max().unwrap_or_default();
        let ends_fit = |rule: &Rule, full: usize, slash: bool| {
            let Some(path) = &rule.path else { return true };
            let (len, out) = (path.segments().count(), keeps_out(rule));
            // Beyond what is looked up: what keeps out keeps out, what lets in does not.
            if !out && path.segments().skip(MOST).any(|segment| segment.is_some()) {
                return false;
            }
            match path.end() {
                End::Rest => full >= len,
                End::Here => full == len && (out || !slash),
                End::Slash => full == len && (out || slash),
            }
        };
        Self {
            denials: RuleSets::new(1, rules.len(), |_, rule| {
                keeps_out(&rules[rule]) && rules[rule].path.is_some()
            }),
            positions: (0..longest.min(MOST)).map(|place| Position::of(rules, place)).collect(),
            any: rules.iter().any(|rule| rule.path.is_some()),
            longest,
            // The last two rows: longer than any pattern.
            endings: RuleSets::new(ending(longest + 2, false), rules.len(), |row, rule| {
                ends_fit(&rules[rule], row / 2, row % 2 == 1)
            }),
        }
    }

    /// `path` is canonical. `verbs`: bit n says that segment n ends in a `:verb` of the catalogue.
    pub(super) fn segments(&self, path: &str, verbs: impl Fn(&str) -> u32) -> Segments {
        if !self.any {
            return Segments::NONE;
        }
        let (whole, ends_with_slash) = match path.strip_suffix('/') {
            Some(whole) => (whole, true),
            None => (path, false),
        };
        let mut segments = Segments {
            verbs: verbs(path),
            ..Segments::NONE
        };
        let mut len = 0;
        for part in whole.split('/').skip(1) {
            if let Some(position) = self.positions.get(len) {
                (segments.exact[len], segments.loose[len]) = position.numbers(part);
            }
            len += 1;
        }
        segments.ending = ending(len.min(self.longest + 1), ends_with_slash);
        segments
    }

    /// The rules that keep out, of those 64 * `word` to 64 * `word` + 63, whose pattern fits a path of these segments.
    pub(super) fn keeping_out(&self, path: impl Iterator<Item = impl AsRef<str>>, word: usize) -> u64 {
        let mut set = self.denials(word);
        let mut len = 0;
        for part in path {
            if set == 0 {
                return 0;
            }
            if let Some(position) = self.positions.get(len) {
                let number = position.loose_number(part.as_ref(), hash(part.as_ref()));
                set &= position.by_loose.word(position.loose.row(number), word);
            }
            len += 1;
        }
        set & self.endings.word(ending(len.min(self.longest + 1), false), word)
    }

    /// The rules that keep out and have a pattern.
    pub(super) fn denials(&self, word: usize) -> u64 {
        self.denials.word(0, word)
    }

    /// Which of the rules 64 * `word` to 64 * `word` + 63 have no pattern, or one that fits.
    pub(super) fn fitting(&self, segments: &Segments, word: usize) -> u64 {
        let mut set = self.endings.word(segments.ending, word);
        let numbers = segments.exact.iter().zip(&segments.loose);
        for ((place, position), (exact, loose)) in (0..).zip(&self.positions).zip(numbers) {
            if set == 0 {
                break;
            }
            set &= position.by_exact.word(position.exact.row(*exact), word);
            set &= position.by_loose.word(position.loose.row(*loose), word);
            if segments.verbs >> place & 1 == 1 {
                set &= !position.wildcards.word(0, word);
            }
        }
        set
    }
}

impl Position {
    fn numbers(&self, part: &str) -> (u32, u32) {
        if self.exact.len() + self.loose.len() == 0 {
            return (NONE, NONE);
        }
        let place = hash(part);
        let exact = self.exact.number(place, |known| known == part);
        (exact, self.loose_number(part, place))
    }

    /// `place`: the part's [`hash`].
    fn loose_number(&self, part: &str, place: u64) -> u32 {
        let loose = self.loose.number(place, |known| known.eq_ignore_ascii_case(part));
        if loose == NONE && self.loose.len() > 0 && !part.bytes().all(|b| b.is_ascii_graphic()) {
            return self.loose.exact(&folded(part));
        }
        loose
    }
}
