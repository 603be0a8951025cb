//! `docs/CONFIGURATION.md` and the code name the same variables, tables and keys, and put the same ones together. (Its flags
//! are compared with the command line's own in `cli`.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::document::Table;
use super::super::file::FileConfig;
use super::super::variable;
use super::precedence::rows;

const REFERENCE: &str = include_str!("../../../docs/CONFIGURATION.md");

/// A key, with the header of its table; that of the file's own keys is empty.
type Key = (String, String);

/// Every key that the file may have.
pub(super) fn keys() -> BTreeSet<Key> {
    let mut all = Vec::new();
    FileConfig::SHAPE.walk("", &mut all);
    all.into_iter()
        .map(|(header, key)| (header, key.name.to_owned()))
        .collect()
}

/// What stands in backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `[listener.tls]` and its like, not `[::1]`.
fn is_header(text: &str) -> bool {
    let name = text.trim_start_matches('[').trim_end_matches(']');
    text.starts_with('[') && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains(':')
}

/// The table that a row's keys stand in, and the cells of the row, by their columns' names.
struct Row<'d> {
    table: &'d str,
    cells: Vec<(&'d str, &'d str)>,
}

impl<'d> Row<'d> {
    fn cell(&self, column: &str) -> Option<&'d str> {
        let mut cells = self.cells.iter();
        cells.find(|(name, _)| *name == column).map(|(_, cell)| *cell)
    }

    /// The keys of the file that it is about.
    fn keys(&self) -> Vec<Key> {
        let Some(cell) = self.cell("key").or(self.cell("file")) else {
            return Vec::new();
        };
        let (headers, keys): (Vec<&str>, Vec<&str>) = code(cell).partition(|text| is_header(text));
        let table = headers.first().copied().unwrap_or(self.table);
        keys.into_iter().map(|key| (table.to_owned(), key.to_owned())).collect()
    }
}

/// Every row of the reference's tables.
fn documented() -> Vec<Row<'static>> {
    let mut rows = Vec::new();
    let mut table = "";
    let mut columns: Vec<&str> = Vec::new();
    for line in REFERENCE.lines() {
        if line == "## Credentials" {
            table = "[account.NAME]";
        }
        let Some(cells) = line.strip_prefix('|') else {
            columns.clear();
            let start = line.trim_start_matches('#').trim_start();
            if start.starts_with('`') {
                table = code(start).next().filter(|text| is_header(text)).unwrap_or(table);
            }
            continue;
        };
        let cells: Vec<&str> = cells.trim_end_matches('|').split('|').map(str::trim).collect();
        if columns.is_empty() {
            columns = cells;
        } else if !cells[0].starts_with("---") {
            let cells = columns.iter().copied().zip(cells).collect();
            rows.push(Row { table, cells });
        }
    }
    rows
}

#[test]
fn the_reference_names_the_keys_that_there_are() {
    let named: BTreeSet<Key> = documented().iter().flat_map(Row::keys).collect();
    let mut all = Vec::new();
    FileConfig::SHAPE.walk("", &mut all);
    let headers: BTreeSet<&String> = all.iter().map(|(header, _)| header).collect();
    // The header of a table says that it stands below another.
    let values = all.iter().filter(|(header, key)| key.below(header).is_none());
    let known: BTreeSet<Key> = values
        .map(|(header, key)| (header.clone(), key.name.to_owned()))
        .collect();
    let not_documented: Vec<&Key> = known.difference(&named).collect();
    let unknown: Vec<&Key> = named.difference(&known).collect();
    assert!(not_documented.is_empty(), "not in the reference: {not_documented:?}");
    assert!(unknown.is_empty(), "in the reference alone: {unknown:?}");
    for header in code(REFERENCE).filter(|text| is_header(text)) {
        let exists = headers.contains(&header.replace("account.default", "account.NAME"));
        assert!(exists, "the reference speaks of {header}, and there is no such table");
    }
}

#[test]
fn the_reference_names_the_variables_that_there_are() {
    let is_variable = |text: &&str| {
        let ours = ["ATLAS_PROXY_", "MONGODB_ATLAS_"]
            .iter()
            .any(|start| text.starts_with(start) && text != start);
        ours || text.starts_with("OTEL_")
            || text.to_ascii_lowercase().ends_with("_proxy")
            || text.ends_with("_DIRECTORY")
    };
    let mut named: BTreeSet<&str> = code(REFERENCE).filter(is_variable).collect();
    for not_looked_at in ["HTTP_PROXY", "OTEL_PROPAGATORS"] {
        assert!(
            named.remove(not_looked_at),
            "it says that {not_looked_at} is not looked at"
        );
    }
    let known: BTreeSet<&str> = variable::ALL
        .iter()
        .chain(variable::ELSEWHERE)
        .chain(variable::PAIRS.as_flattened())
        .copied()
        .collect();
    assert_eq!(named, known);
}

/// Flag, variable and key of a row are ways to say the same thing, which `precedence.rs` tries.
#[test]
fn each_row_of_the_settings_is_tried_as_it_stands() {
    // These have tests of their own there.
    let apart = ["--config", "--insecure-plaintext"];
    let tried = rows();
    let mut seen = 0;
    for row in documented() {
        let Some(flag) = row.cell("flag").map(|cell| cell.trim_matches('`')) else {
            continue;
        };
        let flag = flag.split([' ', '`']).next().expect("a part at least");
        if apart.contains(&flag) {
            continue;
        }
        let variables: Vec<&str> = code(row.cell("environment").expect("a column")).collect();
        let [(header, key)] = &row.keys()[..] else {
            panic!("{flag}: one key")
        };
        let header = header.replace("NAME", "default");
        let exists = tried.iter().any(|tried| {
            tried.name == flag.trim_start_matches('-')
                && tried.variable.0 == variables[0]
                && tried.file.0.starts_with(&header)
                && tried.file.0.contains(&format!("{key} = "))
        });
        assert!(exists, "{flag}, {variables:?}, {header} {key}: not tried together");
        seen += 1;
    }
    assert_eq!(seen, tried.len());
}

/// Whatever stands below a header of ours, in a file of settings, an example of the docs, or a manifest.
#[test]
fn keys_that_docs_and_examples_name_exist() {
    let known = keys();
    let headers: BTreeSet<&str> = known.iter().map(|(header, _)| header.as_str()).collect();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = ["README.md", "docs", "deploy", "config"]
        .map(|name| top.join(name))
        .into();
    let mut seen = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // Other programs have tables of their own, and so has a file of expectations.
        let ours = path
            .extension()
            .is_some_and(|end| ["md", "toml", "yaml", "yml"].iter().any(|one| end == *one));
        if !ours {
            continue;
        }
        let Some(text) = fs::read_to_string(&path)
            .ok()
            .filter(|_| !path.ends_with("gateway-callers.test.toml"))
        else {
            continue;
        };
        let mut table = None;
        for line in text.lines().map(|line| line.trim_start_matches(['#', ' '])) {
            let start = line.split(" #").next().unwrap_or_default().trim();
            if line.starts_with("```") {
                table = None;
            } else if start.ends_with(']') && is_header(start) {
                let account = start.starts_with("[account.");
                let header = if account { "[account.NAME]" } else { start };
                table = headers.get(header).copied();
            } else if let (Some(table), Some((key, _))) = (table, line.split_once(" = ")) {
                let key = key.trim();
                let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let exists = !is_key || known.contains(&(table.to_owned(), key.to_owned()));
                assert!(exists, "{}: {table} has no key `{key}`", path.display());
                seen += usize::from(is_key);
            }
        }
    }
    assert!(seen > 200, "only {seen}");
}
