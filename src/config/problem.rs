//! What is wrong with a configuration, one line each: where, what, and what to do.

use std::fmt;

use super::source::{Given, Source};
use crate::report::is_no_text;

/// Everything that was found wrong. `Display` is one line for each problem; no line holds a secret value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// Whether all of them may be gone at another try, without a change of the configuration.
    pub fn may_pass(&self) -> bool {
        self.problems.iter().all(|problem| problem.kind == Kind::Passing)
    }

    /// All but that a command was not run; `None`: there is nothing else.
    pub fn but_commands(mut self) -> Option<Self> {
        self.problems.retain(|problem| problem.kind != Kind::NotRun);
        (!self.problems.is_empty()).then_some(self)
    }

    /// The problems, one line each.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.iter().map(Problem::to_string)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    source: Source,
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Wrong,
    /// It may be gone at another try, without a change of the configuration.
    Passing,
    /// A command was not run, as it never is here.
    NotRun,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self.source {
            Source::Nowhere => self.text.clone(),
            _ => format!("{}: {}", self.source, self.text),
        };
        f.write_str(&without_controls(&line))
    }
}

/// Collects problems while the settings are put together: a user wants to see all of them at once.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Problems {
    pub(crate) fn add(&mut self, source: &Source, text: impl fmt::Display) {
        self.put(source, text, Kind::Wrong);
    }

    /// A command is needed that is not run here.
    pub(crate) fn add_not_run(&mut self, source: &Source, text: impl fmt::Display) {
        self.put(source, text, Kind::NotRun);
    }

    /// One that may be gone at another try, without a change of the configuration.
    pub(crate) fn add_passing(&mut self, source: &Source, text: impl fmt::Display) {
        self.put(source, text, Kind::Passing);
    }

    fn put(&mut self, source: &Source, text: impl fmt::Display, kind: Kind) {
        let problem = Problem {
            source: source.clone(),
            text: text.to_string(),
            kind,
        };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Something that works, but hardly as meant.
    pub(crate) fn warn(&mut self, text: impl fmt::Display) {
        self.warnings.push(without_controls(&text.to_string()));
    }

    /// Reads a text as a `T`; a failure is noted with the place that the text came from.
    pub(crate) fn parse<T>(
        &mut self,
        given: Given<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Given<T>> {
        match parse(&given.value) {
            Ok(value) => Some(Given {
                value,
                source: given.source,
            }),
            Err(_) if looks_like_a_secret(&given.value) => {
                self.add(
                    &given.source,
                    "the value looks like a secret and does not belong here (it is not shown)",
                );
                None
            }
            Err(text) => {
                self.add(&given.source, text);
                None
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn into_errors(mut self) -> ConfigErrors {
        self.found.sort();
        ConfigErrors { problems: self.found }
    }

    /// A correction, which may interest whoever looks for a mistake.
    pub(crate) fn note(&mut self, text: impl fmt::Display) {
        self.notes.push(without_controls(&text.to_string()));
    }

    /// Warnings, and notes.
    pub(crate) fn into_remarks(self) -> (Vec<String>, Vec<String>) {
        (self.warnings, self.notes)
    }
}

/// A value that is not meant to be secret, as a message may show it. People paste secrets into the wrong place, so what
/// looks like one is left out; so is what is too long to help.
pub(crate) fn shown(value: &str) -> String {
    const LONGEST: usize = 120;
    let masked;
    let value = match (value.find("://"), value.rfind('@')) {
        // What stands before the `@` may be a password.
        (Some(scheme), Some(at)) if at > scheme => {
            masked = format!("{}://…{}", &value[..scheme], &value[at..]);
            &masked
        }
        // The same without a scheme.
        (None, Some(at)) if value[..at].contains(':') => {
            masked = format!("…{}", &value[at..]);
            &masked
        }
        _ => value,
    };
    if looks_like_a_secret(value) {
        "(not shown: it looks like a secret)".to_owned()
    } else if value.chars().count() > LONGEST {
        format!("`{}…`", value.chars().take(LONGEST).collect::<String>())
    } else {
        format!("`{value}`")
    }
}

/// Whether a text holds a service account's id or secret, or has the shape of an API key's private key (a UUID).
pub(crate) fn looks_like_a_secret(value: &str) -> bool {
    value.contains("mdb_sa_") || value.split(|c: char| !c.is_ascii_hexdigit() && c != '-').any(is_uuid)
}

/// Whether a text of hexadecimal digits and dashes has the shape of an API key's private key.
fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

/// One line, without anything that a terminal would act on.
fn without_controls(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_no_text(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
