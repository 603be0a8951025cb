//! What becomes different, and whether somebody gets more.

use std::collections::BTreeSet;
use std::fmt;

use http::Method;

use super::book::{Book, ListenerText, Who};
use super::instances::{Instance, TooMany, Values};
use super::ways::{Way, ways};

/// Everything that differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// One for each thing.
    pub changes: Vec<Change>,
}

/// One thing that differs, for somebody at a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Listener, account and caller.
    pub place: String,
    /// An operation, `unknown`, or what somebody is known by.
    pub what: String,
    /// What is new: ways of being known, or requests that pass.
    pub added: Vec<String>,
    /// What is gone.
    pub removed: Vec<String>,
    /// Whether somebody has to look at it: it is wider, beyond a GET that was not there.
    pub is_wider: bool,
}

impl Diff {
    /// Whether somebody gets more that somebody has to look at.
    pub fn is_wider(&self) -> bool {
        self.changes.iter().any(|change| change.is_wider)
    }
}

/// So many requests of a change are shown.
const SHOWN: usize = 8;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_wider { "WIDER " } else { "" };
        writeln!(f, "{mark}{}: {}", self.place, self.what)?;
        for (sign, list) in [('+', &self.added), ('-', &self.removed)] {
            for one in list.iter().take(SHOWN) {
                writeln!(f, "  {sign} {one}")?;
            }
            if list.len() > SHOWN {
                writeln!(f, "  {sign} and {} more", list.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

/// One side of the comparison.
#[derive(Clone, Copy)]
struct Side<'b> {
    book: &'b Book,
    at: Option<(usize, Who)>,
}

impl Side<'_> {
    fn allows(self, instance: &Instance) -> bool {
        self.at
            .is_some_and(|(listener, who)| self.book.decide(listener, who, &instance.method, &instance.path).0)
    }
}

/// Compares two configurations. `known`: the names of the operations when the old one was written down, if that was earlier: what
/// has come since, nobody had.
///
/// # Errors
/// Where more requests would have to be tried than is reasonable.
pub fn diff(old: &Book, new: &Book, known: Option<&BTreeSet<String>>) -> Result<Diff, TooMany> {
    let mut all: BTreeSet<(String, String, String)> = BTreeSet::new();
    for book in [old, new] {
        for (listener, at) in book.text.listeners.iter().enumerate() {
            for who in book.served(listener) {
                all.insert((at.name.clone(), at.account.clone(), book.name(who).to_owned()));
            }
        }
    }
    let mut changes = Vec::new();
    for (listener, account, caller) in &all {
        let side = |book| side(book, listener, account, caller);
        let place = format!("listener {listener}, account {account}, caller {caller}");
        changes.extend(changes_of(side(old), side(new), &place, known)?);
    }
    Ok(Diff { changes })
}

fn side<'b>(book: &'b Book, listener: &str, account: &str, caller: &str) -> Side<'b> {
    let is = |at: &ListenerText| at.name == listener && at.account == account;
    let at = book.text.listeners.iter().position(is).and_then(|listener| {
        let who = book.served(listener).find(|who| book.name(*who) == caller)?;
        Some((listener, who))
    });
    Side { book, at }
}

fn changes_of(
    old: Side<'_>,
    new: Side<'_>,
    place: &str,
    known: Option<&BTreeSet<String>>,
) -> Result<Vec<Change>, TooMany> {
    let mut changes = Vec::new();
    let change = |what: &str, added: Vec<String>, removed: Vec<String>, is_wider| Change {
        place: place.to_owned(),
        what: what.to_owned(),
        added,
        removed,
        is_wider,
    };
    let ways = |side: Side<'_>| {
        let at = side.at;
        at.map(|(listener, who)| ways(side.book, listener, who))
            .unwrap_or_default()
    };
    let (before, after) = (ways(old), ways(new));
    let beyond = |ways: &BTreeSet<Way>, others| -> Vec<String> {
        let beyond = ways.iter().filter(|way| !way.is_within(others));
        beyond.map(Way::to_string).collect()
    };
    let (added, removed) = (beyond(&after, &before), beyond(&before, &after));
    if before != after {
        let is_wider = !added.is_empty();
        changes.push(change("known by", added, removed, is_wider));
    }
    let sides = [old, new].into_iter();
    let values = Values::of(sides.filter_map(|side| side.at.map(|(listener, who)| (side.book, listener, who))));
    let catalogue = &new.book.catalogue;
    let mut compare = |what: &str, instances: &[Instance], was_known: bool, is_calm: bool| {
        let decided: Vec<(bool, bool)> = instances
            .iter()
            .map(|one| (was_known && old.allows(one), new.allows(one)))
            .collect();
        let shown = |is: (bool, bool)| -> Vec<String> {
            let these = instances.iter().zip(&decided).filter(|(_, decided)| **decided == is);
            these.map(|(one, _)| one.shown()).collect()
        };
        let (added, removed) = (shown((false, true)), shown((true, false)));
        if added.is_empty() && removed.is_empty() {
            return;
        }
        let had = decided.iter().any(|(had, _)| *had);
        let is_wider = !added.is_empty() && (had || !is_calm);
        changes.push(change(what, added, removed, is_wider));
    };
    for id in catalogue.ids() {
        let operation = catalogue.get(id);
        let was_known = known.is_none_or(|names| names.contains(operation.name));
        let is_calm = operation.method == Method::GET && !operation.grants;
        compare(operation.name, &values.of_operation(id, catalogue)?, was_known, is_calm);
    }
    compare("unknown", &values.of_unknown(catalogue)?, true, false);
    Ok(changes)
}
