//! Everything that everybody may do.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::book::{Book, Who};
use super::instances::{Instance, Scope, TooMany, Values};
use crate::catalogue::OperationId;

/// What everybody may do, at every listener.
#[derive(Debug, Serialize)]
pub struct Table {
    /// One for each operation that somebody may use at a listener, and for what is unknown.
    pub rows: Vec<Row>,
}

/// What one caller may do with one operation, at one listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The listener.
    pub listener: String,
    /// Its account.
    pub account: String,
    /// The caller, or `anonymous`.
    pub caller: String,
    /// The operation, or `unknown`.
    pub operation: String,
    /// Its method, or those of what is unknown.
    pub method: String,
    /// `any`, `any but …`, ids of projects or organizations, `-` where the path names none, or paths of what is unknown.
    pub scope: String,
    /// `grants`, `crosses`, `warn`, and `some paths` where not all of its paths pass.
    pub marks: Vec<&'static str>,
    /// Of everything that was tried and what passed: it differs as soon as that does, which the words above may not tell.
    pub checksum: String,
}

/// What was tried of one operation, and what passed.
struct Tried<'i> {
    instance: &'i Instance,
    allowed: bool,
    warned: bool,
}

/// Every caller, or one, and every operation that it may use.
///
/// # Errors
/// Where more requests would have to be tried than is reasonable.
pub fn table(book: &Book, only: Option<&str>) -> Result<Table, TooMany> {
    let mut rows = Vec::new();
    for listener in 0..book.text.listeners.len() {
        for who in book.served(listener) {
            if only.is_none_or(|name| name == book.name(who)) {
                rows.extend(rows_of(book, listener, who)?);
            }
        }
    }
    Ok(Table { rows })
}

fn rows_of(book: &Book, listener: usize, who: Who) -> Result<Vec<Row>, TooMany> {
    let values = Values::of([(book, listener, who)]);
    let at = &book.text.listeners[listener];
    let row = |operation: &str, method: String, scope, marks, checksum| Row {
        listener: at.name.clone(),
        account: at.account.clone(),
        caller: book.name(who).to_owned(),
        operation: operation.to_owned(),
        method,
        scope,
        marks,
        checksum,
    };
    let mut rows = Vec::new();
    for id in book.catalogue.ids() {
        let instances = values.of_operation(id, &book.catalogue)?;
        let tried: Vec<Tried<'_>> = instances.iter().map(|one| try_one(book, listener, who, one)).collect();
        if tried.iter().any(|one| one.allowed) {
            let operation = book.catalogue.get(id);
            let method = operation.method.to_string();
            rows.push(row(
                operation.name,
                method,
                scope(&tried),
                marks(book, id, &tried),
                checksum(&tried),
            ));
        }
    }
    let unknown = values.of_unknown(&book.catalogue)?;
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut warned = false;
    for one in unknown
        .iter()
        .map(|one| try_one(book, listener, who, one))
        .filter(|one| one.allowed)
    {
        paths
            .entry(one.instance.shown.clone())
            .or_default()
            .insert(one.instance.method.to_string());
        warned |= one.warned;
    }
    for (path, methods) in paths {
        let methods: Vec<String> = methods.into_iter().collect();
        let marks = if warned { vec!["warn"] } else { Vec::new() };
        rows.push(row("unknown", methods.join(" "), path, marks, String::new()));
    }
    Ok(rows)
}

fn try_one<'i>(book: &Book, listener: usize, who: Who, instance: &'i Instance) -> Tried<'i> {
    let (allowed, warned) = book.decide(listener, who, &instance.method, &instance.path);
    Tried {
        instance,
        allowed,
        warned,
    }
}

/// FNV-1a.
fn checksum(tried: &[Tried<'_>]) -> String {
    let hash = tried.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, one| {
        let Tried {
            instance,
            allowed,
            warned,
        } = one;
        let line = format!(
            "{} {} {:?} {allowed} {warned}\n",
            instance.method, instance.path, instance.scope
        );
        line.bytes().fold(hash, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    });
    format!("{hash:016x}")
}

/// Without those that have a slash in a value: they pass where the others do, or less.
fn plain<'t>(tried: &'t [Tried<'_>]) -> impl Iterator<Item = &'t Tried<'t>> {
    tried.iter().filter(|one| !one.instance.has_slash)
}

fn scope(tried: &[Tried<'_>]) -> String {
    let ids = |tried: &mut dyn Iterator<Item = &Tried<'_>>| -> (BTreeSet<String>, bool) {
        let (mut ids, mut others) = (BTreeSet::new(), false);
        for one in tried {
            match &one.instance.scope {
                Scope::Ids(same) => ids.extend(same.iter().cloned()),
                Scope::Other => others = true,
                Scope::None => {}
            }
        }
        (ids, others)
    };
    let (all, has_scope) = ids(&mut plain(tried));
    let (open, others) = ids(&mut plain(tried).filter(|one| one.allowed));
    let list = |ids: Vec<&String>| ids.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    if !has_scope && all.is_empty() {
        return "-".to_owned();
    }
    if !others {
        return list(open.iter().collect());
    }
    match all.difference(&open).collect::<Vec<_>>() {
        none if none.is_empty() => "any".to_owned(),
        shut => format!("any but {}", list(shut)),
    }
}

fn marks(book: &Book, id: OperationId, tried: &[Tried<'_>]) -> Vec<&'static str> {
    let operation = book.catalogue.get(id);
    let open: BTreeSet<&Scope> = plain(tried)
        .filter(|one| one.allowed)
        .map(|one| &one.instance.scope)
        .collect();
    let partly = plain(tried).any(|one| !one.allowed && open.contains(&one.instance.scope));
    [
        (operation.grants, "grants"),
        (operation.crosses, "crosses"),
        (tried.iter().any(|one| one.warned), "warn"),
        (partly, "some paths"),
    ]
    .into_iter()
    .filter_map(|(holds, mark)| holds.then_some(mark))
    .collect()
}

impl Table {
    /// Columns.
    pub fn text(&self) -> String {
        let mut widths = [0; 7];
        let lines: Vec<[String; 7]> = std::iter::once(HEADER.map(str::to_owned))
            .chain(self.rows.iter().map(Row::cells))
            .collect();
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count()).min(WIDEST);
            }
        }
        let line = |cells: &[String; 7]| {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        lines.iter().map(line).collect()
    }

    /// A table of Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String; 7]| {
            let cells = cells.each_ref().map(|cell| cell.replace('|', "\\|"));
            format!("| {} |\n", cells.join(" | "))
        };
        let head = line(&HEADER.map(str::to_owned));
        let rule = "|---".repeat(HEADER.len()) + "|\n";
        self.rows
            .iter()
            .map(|row| line(&row.cells()))
            .fold(head + &rule, |all, row| all + &row)
    }
}

/// A cell with more than this, of many ids, stands out of its column.
const WIDEST: usize = 100;

const HEADER: [&str; 7] = [
    "listener",
    "account",
    "caller",
    "operation",
    "method",
    "projects, organizations, paths",
    "marks",
];

impl Row {
    fn cells(&self) -> [String; 7] {
        [
            self.listener.clone(),
            self.account.clone(),
            self.caller.clone(),
            self.operation.clone(),
            self.method.clone(),
            self.scope.clone(),
            self.marks.join(", "),
        ]
    }
}
