//! A TOML document that keeps positions: every value taken out of it carries its line, column and key, and an unknown
//! key is reported with the one that was probably meant.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::inputs::GivenList;
use super::problem::{Problems, looks_like_a_secret};
use super::shape::{Shape, Written};
use super::source::{Given, Position, Source};
use super::value::{self, nearest};

const SECRET_AS_KEY: &str = "a key that looks like a secret (it is not shown)";

/// A kind of table: which keys it has, and how they are read (`file.rs`).
pub(crate) trait Table: Default + Written {
    const SHAPE: &'static Shape;

    fn read(reader: &Reader<'_>, problems: &mut Problems) -> Self;
}

/// The text of a file, and its name.
pub(crate) struct Document<'d> {
    file: Arc<Path>,
    text: &'d str,
}

impl<'d> Document<'d> {
    pub(crate) fn new(file: &Path, text: &'d str) -> Self {
        Self {
            file: file.into(),
            text,
        }
    }

    /// Reads the text; what is wrong with it is noted. `None`: it is not TOML.
    pub(crate) fn read<T: Table>(&self, problems: &mut Problems) -> Option<T> {
        let table = self.parse(problems)?;
        let reader = Reader::new::<T>(self, table.get_ref(), String::new(), self.place(0, ""), problems);
        Some(T::read(&reader, problems))
    }

    /// Reads the text as TOML. The first syntax error, from which others follow, is noted with its place, never with the
    /// line itself: that may hold a secret.
    fn parse(&self, problems: &mut Problems) -> Option<Spanned<DeTable<'d>>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if let Some(error) = errors.first() {
            let place = self.place(error.span().map_or(0, |span| span.start), "");
            let message = error.message();
            if looks_like_a_secret(message) {
                problems.add(&place, "this is not TOML");
            } else {
                problems.add(&place, format_args!("this is not TOML: {message}"));
            }
        }
        errors.is_empty().then_some(table)
    }

    fn place(&self, offset: usize, key: &str) -> Source {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Source::File(Position {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
        })
    }
}

/// One table of a document.
pub(crate) struct Reader<'d> {
    document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    /// The path to the table, with a dot at the end; empty for the document itself.
    path: String,
    place: Source,
    shape: &'static Shape,
}

impl<'d> Reader<'d> {
    fn new<T: Table>(
        document: &'d Document<'d>,
        table: &'d DeTable<'d>,
        path: String,
        place: Source,
        problems: &mut Problems,
    ) -> Self {
        let reader = Self {
            document,
            table,
            path,
            place,
            shape: T::SHAPE,
        };
        reader.report_strange_keys(problems);
        reader
    }

    fn report_strange_keys(&self, problems: &mut Problems) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.shape.names().any(|known| known == name) {
                continue;
            }
            if let Some((_, why)) = self.shape.refused.iter().find(|(refused, _)| *refused == name) {
                problems.add(&self.place_of(key.span().start, name), why);
            } else if looks_like_a_secret(name) {
                problems.add(
                    &self.document.place(key.span().start, ""),
                    "an unknown key that looks like a secret",
                );
            } else {
                let text = match nearest(name, self.shape.names()) {
                    Some(meant) => format!("there is no such key; did you mean `{meant}`?"),
                    None => format!(
                        "there is no such key; known here: {}",
                        self.shape.names().collect::<Vec<_>>().join(", ")
                    ),
                };
                problems.add(&self.place_of(key.span().start, name), text);
            }
        }
    }

    /// Where the table stands.
    pub(crate) fn place(&self) -> &Source {
        &self.place
    }

    fn place_of(&self, offset: usize, key: &str) -> Source {
        self.document.place(offset, &format!("{}{key}", self.path))
    }

    fn value(&self, key: &str) -> Option<(&'d DeValue<'d>, Source)> {
        debug_assert!(
            self.shape.names().any(|known| known == key),
            "`{key}` is missing from its shape"
        );
        let value = self.table.get(key)?;
        Some((value.get_ref(), self.place_of(value.span().start, key)))
    }

    pub(crate) fn text(&self, key: &str, problems: &mut Problems) -> Option<Given<String>> {
        let (value, source) = self.value(key)?;
        text_of(value, source, problems)
    }

    /// A string, or an integer as it is written: for keys such as `http = 2` and `replay_limit = 65536`.
    pub(crate) fn text_or_integer(&self, key: &str, problems: &mut Problems) -> Option<Given<String>> {
        match self.value(key)? {
            (DeValue::Integer(number), source) => Some(Given {
                value: number.to_string(),
                source,
            }),
            (value, source) => text_of(value, source, problems),
        }
    }

    pub(crate) fn boolean(&self, key: &str, problems: &mut Problems) -> Option<Given<bool>> {
        match self.value(key)? {
            (DeValue::Boolean(value), source) => Some(Given { value: *value, source }),
            (value, source) => wrong_type("true or false, without quotes", value, &source, problems),
        }
    }

    /// An integer, as text: what it may be is decided where it is parsed.
    pub(crate) fn integer(&self, key: &str, problems: &mut Problems) -> Option<Given<String>> {
        let (value, source) = self.value(key)?;
        integer_of(value, source, problems)
    }

    pub(crate) fn texts(&self, key: &str, problems: &mut Problems) -> Option<Given<Vec<Given<String>>>> {
        self.array(key, "an array of strings", text_of, problems)
    }

    /// A program and its arguments.
    pub(crate) fn command(&self, key: &str, problems: &mut Problems) -> Option<GivenList> {
        self.texts(key, problems)
    }

    /// Names of variables for the commands of the table.
    pub(crate) fn variables(&self, key: &str, problems: &mut Problems) -> Option<GivenList> {
        self.texts(key, problems)
    }

    pub(crate) fn integers(&self, key: &str, problems: &mut Problems) -> Option<Given<Vec<Given<String>>>> {
        self.array(key, "an array of integers", integer_of, problems)
    }

    fn array(
        &self,
        key: &str,
        wanted: &str,
        item: fn(&DeValue<'_>, Source, &mut Problems) -> Option<Given<String>>,
        problems: &mut Problems,
    ) -> Option<Given<Vec<Given<String>>>> {
        match self.value(key)? {
            (DeValue::Array(items), source) => {
                let mut all = Vec::new();
                for value in items.iter() {
                    all.extend(item(value.get_ref(), self.place_of(value.span().start, key), problems));
                }
                Some(Given { value: all, source })
            }
            (value, source) => wrong_type(wanted, value, &source, problems),
        }
    }

    /// A table of strings whose keys are names that the user chooses.
    pub(crate) fn texts_by_name(&self, key: &str, problems: &mut Problems) -> BTreeMap<String, Given<String>> {
        let Some((value, source)) = self.value(key) else {
            return BTreeMap::new();
        };
        let DeValue::Table(table) = value else {
            wrong_type::<()>(
                "a table of strings, such as `{ name = \"value\" }`",
                value,
                &source,
                problems,
            );
            return BTreeMap::new();
        };
        let mut texts = BTreeMap::new();
        for (name, value) in table.iter() {
            let place = self.place_of(value.span().start, key);
            if let Some(given) = text_of(value.get_ref(), place, problems) {
                texts.insert(name.get_ref().to_string(), given);
            }
        }
        texts
    }

    /// The name of a listener or an account. It is checked here because every later message about one repeats it.
    pub(crate) fn name(&self, key: &str, problems: &mut Problems) -> Option<Given<String>> {
        let given = self.text(key, problems)?;
        problems.parse(given, value::name)
    }

    /// The table `[key]`.
    pub(crate) fn table<T: Table>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        match self.value(key)? {
            (DeValue::Table(table), place) => {
                let reader = self.within::<T>(table, place, key, problems);
                Some(T::read(&reader, problems))
            }
            (value, source) => wrong_type(&format!("a table `[{}{key}]`", self.path), value, &source, problems),
        }
    }

    /// The table `[key]`, where a missing one means the same as an empty one.
    pub(crate) fn section<T: Table>(&self, key: &str, problems: &mut Problems) -> T {
        self.table(key, problems).unwrap_or_default()
    }

    /// The tables `[[key]]`.
    pub(crate) fn tables<T: Table>(&self, key: &str, problems: &mut Problems) -> Vec<T> {
        let wanted = format!("written `[[{}{key}]]`, with two brackets, once for each", self.path);
        let Some((value, source)) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value else {
            wrong_type::<()>(&wanted, value, &source, problems);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            let place = self.place_of(item.span().start, key);
            match item.get_ref() {
                DeValue::Table(table) => {
                    let reader = self.within::<T>(table, place, key, problems);
                    tables.push(T::read(&reader, problems));
                }
                other => {
                    wrong_type::<()>(&wanted, other, &place, problems);
                }
            }
        }
        tables
    }

    /// Every table `[key.NAME]`, by NAME: for tables whose keys are names that the user chooses.
    pub(crate) fn named<T: Table>(&self, key: &str, problems: &mut Problems) -> BTreeMap<String, T> {
        let mut tables = BTreeMap::new();
        let Some((value, source)) = self.value(key) else {
            return tables;
        };
        let DeValue::Table(all) = value else {
            wrong_type::<()>(
                &format!("written `[{key}.NAME]`, once for each name"),
                value,
                &source,
                problems,
            );
            return tables;
        };
        for (name, value) in all.iter() {
            if looks_like_a_secret(name.get_ref()) {
                problems.add(&self.document.place(name.span().start, ""), SECRET_AS_KEY);
                continue;
            }
            let path = format!("{key}.{}", name.get_ref());
            let place = self.place_of(name.span().start, &path);
            let DeValue::Table(table) = value.get_ref() else {
                problems.add(
                    &place,
                    format_args!("settings of an account stand in a table of its name, such as `[{key}.default]`"),
                );
                continue;
            };
            let reader = self.within::<T>(table, place.clone(), &path, problems);
            let name = Given {
                value: name.get_ref().to_string(),
                source: place,
            };
            if let Some(name) = problems.parse(name, value::name) {
                tables.insert(name.value, T::read(&reader, problems));
            }
        }
        tables
    }

    fn within<T: Table>(
        &self,
        table: &'d DeTable<'d>,
        place: Source,
        key: &str,
        problems: &mut Problems,
    ) -> Reader<'d> {
        Reader::new::<T>(self.document, table, format!("{}{key}.", self.path), place, problems)
    }
}

fn text_of(value: &DeValue<'_>, source: Source, problems: &mut Problems) -> Option<Given<String>> {
    match value {
        DeValue::String(text) => Some(Given {
            value: text.to_string(),
            source,
        }),
        other => wrong_type("a string, in quotes", other, &source, problems),
    }
}

fn integer_of(value: &DeValue<'_>, source: Source, problems: &mut Problems) -> Option<Given<String>> {
    match value {
        DeValue::Integer(number) => Some(Given {
            value: number.to_string(),
            source,
        }),
        other => wrong_type("an integer, without quotes", other, &source, problems),
    }
}

/// The value is not shown: what stands in a wrong place may be a secret.
fn wrong_type<T>(wanted: &str, found: &DeValue<'_>, source: &Source, problems: &mut Problems) -> Option<T> {
    problems.add(source, format_args!("this must be {wanted}, not {}", kind(found)));
    None
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
