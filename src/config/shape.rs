//! What a table of the configuration file may hold, as data: for messages about unknown keys, for the JSON Schema, and for
//! whoever walks over all that a file says.

use std::collections::BTreeMap;

use super::inputs::GivenList;
use super::source::Given;

/// The keys that a table may have.
pub(crate) struct Shape {
    /// Those that are read.
    pub(crate) keys: &'static [Key],
    /// Those that are recognised and refused, each with its reason.
    pub(crate) refused: &'static [(&'static str, &'static str)],
}

/// One key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What a value looks like, beyond its kind.
    pub(crate) form: Form,
    /// What holds where the key is left out, as it would be written; `None`: nothing, or what the description says.
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
    /// One sentence or two, for people.
    pub(crate) about: &'static str,
}

/// The type of a value, by the method of [`Reader`](super::document::Reader) that reads it.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Name,
    Integer,
    TextOrInteger,
    Boolean,
    Texts,
    Integers,
    /// A program and its arguments.
    Command,
    /// Names of variables for the commands of the table.
    Variables,
    /// Texts by names that the user chooses.
    TextsByName,
    /// `[key]`
    Table(&'static Shape),
    /// `[[key]]`
    Tables(&'static Shape),
    /// `[key.NAME]`, by names that the user chooses.
    Named(&'static Shape),
}

/// What a value looks like, beyond its kind.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Any,
    OneOf(&'static [&'static str]),
    /// Least and most.
    Range(u64, u64),
    /// `1m30s`
    Duration,
    /// `64KiB`
    Size,
    /// `0600`
    Mode,
    /// `2025-03-12`
    Date,
    /// 24 hexadecimal digits.
    Id,
}

impl Shape {
    /// The names of the keys that are read.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// Every key with the header of its table, such as `[[listener]]`, and those of the tables below.
    #[cfg(test)]
    pub(crate) fn walk(&'static self, header: &str, all: &mut Vec<(String, &'static Key)>) {
        for key in self.keys {
            all.push((header.to_owned(), key));
            if let Some((below, shape)) = key.below(header) {
                shape.walk(&below, all);
            }
        }
    }
}

impl Key {
    /// The table that stands at this key of the table with that header: its header and its shape.
    pub(crate) fn below(&self, header: &str) -> Option<(String, &'static Shape)> {
        let path = format!("{}.{}", header.trim_matches(['[', ']']), self.name);
        let path = path.trim_start_matches('.');
        match self.kind {
            Kind::Table(shape) => Some((format!("[{path}]"), shape)),
            Kind::Tables(shape) => Some((format!("[[{path}]]"), shape)),
            Kind::Named(shape) => Some((format!("[{path}.NAME]"), shape)),
            _ => None,
        }
    }
}

/// What a table of a file says.
pub(crate) trait Written {
    /// What is said for each key, in the order of its shape.
    fn said(&self) -> Vec<(&'static Key, Said<'_>)>;
}

/// What is said for one key.
pub(crate) enum Said<'t> {
    /// A text, or an integer as it is written.
    Text(Option<&'t Given<String>>),
    Boolean(Option<&'t Given<bool>>),
    List(Option<&'t GivenList>),
    ByName(&'t BTreeMap<String, Given<String>>),
    /// Tables, where they have names by these.
    Tables(Vec<(Option<&'t str>, &'t dyn Written)>),
}
