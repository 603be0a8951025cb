//! A secret of the configuration file: `X_file` names the file that holds it, `X_command` the command that prints it.

use std::collections::BTreeSet;
use std::fmt::Display;

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::credential::all_variables;
use super::inputs::{GivenList, Inputs};
use super::problem::{looks_like_a_secret, shown};
use super::secret_value;
use super::source::{Check, Environment, Given, Source};
use crate::secret_command::{CommandError, SecretCommand};

/// What a table says of one secret.
#[derive(Clone, Copy)]
pub(crate) struct SecretPlace<'t> {
    /// `X_file`
    pub(crate) file: Option<&'t Given<String>>,
    /// `X_command`
    pub(crate) command: Option<&'t GivenList>,
    /// `command_environment`
    pub(crate) environment: Option<&'t GivenList>,
}

impl SecretPlace<'_> {
    /// Where it is said; `None`: nowhere.
    pub(crate) fn source(&self) -> Option<&Source> {
        let command = self.command.map(|given| &given.source);
        self.file.map(|given| &given.source).or(command)
    }
}

/// A parser with its own type of errors, for [`Inputs::secret`].
pub(crate) fn parsed<T, E: Display>(parse: impl Fn(&[u8]) -> Result<T, E>) -> impl Fn(&[u8]) -> Result<T, String> {
    move |bytes| parse(bytes).map_err(|error| error.to_string())
}

/// These go along wherever they are set.
const ALWAYS: [&str; 2] = ["PATH", "HOME"];

impl Inputs<'_> {
    /// Reads a secret where the table says that it is. `parse` says what is wrong with it without any part of it. `None`: it is
    /// nowhere, or what is wrong has been noted.
    pub(crate) fn secret<T>(
        &mut self,
        place: SecretPlace<'_>,
        parse: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Option<T> {
        let (bytes, source, prefix) = match (place.file, place.command) {
            (None, None) => return None,
            (Some(_), Some(command)) => {
                self.both_given(&command.source);
                return None;
            }
            (Some(file), None) => {
                let path = self.credential_path(file);
                let bytes = self.read_secret(&path, secret_value::LARGEST, &file.source)?;
                (bytes, &file.source, format!("{}: ", shown(&path.display().to_string())))
            }
            (None, Some(command)) => {
                let bytes = self.printed(command, place.environment, &|bytes| parse(bytes).map(|_| None))?;
                (bytes, &command.source, String::new())
            }
        };
        match parse(&bytes) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problems.add(source, format_args!("{prefix}{why}"));
                None
            }
        }
    }

    pub(crate) fn both_given(&mut self, command: &Source) {
        self.problems.add(
            command,
            "this secret is given in another way beside the command: remove one of the two",
        );
    }

    /// What a command prints, when `good` takes it.
    pub(crate) fn printed(
        &mut self,
        argv: &GivenList,
        environment: Option<&GivenList>,
        good: Check<'_>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.printed_by(argv, environment, good).map(|(_, value)| value)
    }

    /// The same, and the command.
    pub(crate) fn printed_by(
        &mut self,
        argv: &GivenList,
        environment: Option<&GivenList>,
        good: Check<'_>,
    ) -> Option<(SecretCommand, Zeroizing<Vec<u8>>)> {
        let command = self.secret_command(argv, environment)?;
        match self.sources.commands.output(&command, good) {
            Ok(output) => {
                if let Some(error) = output.failed {
                    self.problems.warn(format_args!(
                        "{}: {}; what it gave before stays in force, and the command is run again after 10 s, later after up to 5 min",
                        argv.source,
                        told(&error, &command, environment)
                    ));
                }
                Some((command, output.value))
            }
            Err(error) if error.may_pass() => {
                self.problems
                    .add_passing(&argv.source, told(&error, &command, environment));
                None
            }
            Err(error) => {
                self.problems.add(&argv.source, error);
                None
            }
        }
    }

    /// Notes names of variables that are for no command.
    pub(crate) fn needs_command(&mut self, environment: Option<&GivenList>, commands: &[&Option<GivenList>]) {
        if let Some(environment) = environment.filter(|_| commands.iter().all(|command| command.is_none())) {
            self.problems.add(
                &environment.source,
                "this is for commands that print secrets, and there is none in this table: remove it",
            );
        }
    }

    fn secret_command(&mut self, argv: &GivenList, environment: Option<&GivenList>) -> Option<SecretCommand> {
        let before = self.problems.count();
        for word in &argv.value {
            if word.value.contains('\0') {
                self.problems.add(&word.source, "no argument can hold a NUL");
            } else if looks_like_a_secret(&word.value) {
                self.problems.add(
                    &word.source,
                    "this looks like a secret (it is not shown): everybody on this machine can read the arguments of a program",
                );
            }
        }
        let program = argv.value.first().map_or("", |word| &word.value);
        if !program.starts_with('/') {
            self.problems.add(
                &argv.source,
                "write the command as a list that begins with the absolute path of a program, such as `[\"/usr/bin/vault\", \
                 \"kv\", \"get\", …]`; no shell reads it",
            );
        }
        for name in environment.iter().flat_map(|list| &list.value) {
            if !is_name(&name.value) {
                self.problems.add(
                    &name.source,
                    format_args!("{} is no name of a variable", shown(&name.value)),
                );
            }
        }
        if self.problems.count() > before {
            return None;
        }
        let argv: Vec<&str> = argv.value.iter().map(|word| word.value.as_str()).collect();
        let named = environment.iter().flat_map(|list| &list.value);
        command_of(&argv, named.map(|name| name.value.as_str()), self.sources.environment)
    }
}

fn command_of<'n>(
    argv: &[&str],
    named: impl Iterator<Item = &'n str>,
    environment: &dyn Environment,
) -> Option<SecretCommand> {
    let (program, arguments) = argv.split_first()?;
    let names = ALWAYS.into_iter().chain(named);
    Some(SecretCommand {
        program: program.into(),
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        environment: names
            .filter_map(|name| Some((name.to_owned(), environment.var(name)?)))
            .collect(),
    })
}

/// The commands of the tables in `text`, TOML: keys that end in `_command`. Those that will be refused are left out, and those of
/// credentials where a variable may take their place.
pub(crate) fn commands_of(text: &str, environment: &dyn Environment) -> BTreeSet<SecretCommand> {
    let mut found = BTreeSet::new();
    if let Ok(table) = DeTable::parse(text) {
        collect(table.get_ref(), environment, &mut found);
    }
    found
}

fn collect(table: &DeTable<'_>, environment: &dyn Environment, found: &mut BTreeSet<SecretCommand>) {
    let named = table.get("command_environment");
    let named = named.and_then(|names| texts_of(names.get_ref())).unwrap_or_default();
    for (key, value) in table {
        match value.get_ref() {
            DeValue::Table(table) => collect(table, environment, found),
            value if key.get_ref().ends_with("_command") => {
                if all_variables().any(|name| environment.var(name).is_some()) && of_credential(key.get_ref()) {
                    continue;
                }
                let argv = texts_of(value).filter(|argv| may_run(argv)).unwrap_or_default();
                found.extend(command_of(
                    &argv,
                    named.iter().copied().filter(|name| is_name(name)),
                    environment,
                ));
            }
            DeValue::Array(array) => {
                for table in array.iter().filter_map(|value| value.get_ref().as_table()) {
                    collect(table, environment, found);
                }
            }
            _ => {}
        }
    }
}

fn of_credential(key: &str) -> bool {
    ["client_", "public_key", "private_key"]
        .iter()
        .any(|start| key.starts_with(start))
}

fn may_run(argv: &[&str]) -> bool {
    argv.first().is_some_and(|program| program.starts_with('/'))
        && !argv.iter().any(|word| word.contains('\0') || looks_like_a_secret(word))
}

fn texts_of<'v>(value: &'v DeValue<'_>) -> Option<Vec<&'v str>> {
    value.as_array()?.iter().map(|word| word.get_ref().as_str()).collect()
}

/// What went wrong, and how to see more of it.
fn told(error: &CommandError, command: &SecretCommand, environment: Option<&GivenList>) -> String {
    if !error.is_of_the_run() {
        return error.to_string();
    }
    let line = command.by_hand();
    let see = match error {
        CommandError::TooLong | CommandError::Unusable(_) => "to see what it prints",
        _ => "what it says on standard error goes nowhere, since it may hold the secret: to see it",
    };
    let mut told = format!(
        "{error}; {see}, run `{line}` with the arguments that the list has, as the user of the proxy and with its variables"
    );
    let named = environment.iter().flat_map(|list| &list.value);
    let unset: Vec<&str> = named
        .map(|name| name.value.as_str())
        .filter(|name| !command.environment.contains_key(*name))
        .collect();
    if !unset.is_empty() {
        told += "; not set: ";
        told += &unset.join(", ");
    }
    told
}

/// A name that shells take (POSIX.1-2024, XBD 8.1).
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(fits) && text.starts_with(|first: char| !first.is_ascii_digit())
}
