//! A secret of the configuration file: `X_file` names the file that holds it, `X_command` the command that prints it.

use std::fmt::Display;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::account::Roster;
use super::credential;
use super::file::FileConfig;
use super::inputs::{GivenList, Inputs};
use super::problem::{looks_like_a_secret, shown};
use super::secret_value;
use super::shape::{Kind, Said, Written};
use super::source::{Check, Given, Output, Source};
use crate::secret_command::{CommandError, Printer, SecretCommand};

/// What a table says of one secret.
#[derive(Clone, Copy)]
pub(crate) struct SecretPlace<'t> {
    /// `X_file`
    pub(crate) file: Option<&'t Given<String>>,
    /// `X_command`
    pub(crate) command: Option<&'t GivenList>,
}

/// The commands of one table.
#[derive(Default)]
struct TableCommands<'t> {
    /// Each `X_command`.
    commands: Vec<&'t GivenList>,
    /// `command_environment`
    variables: Option<&'t GivenList>,
}

/// Adds the commands of a table and of those below.
fn commands_of<'t>(table: &'t dyn Written, all: &mut Vec<TableCommands<'t>>) {
    let mut own = TableCommands::default();
    for (key, said) in table.said() {
        match (key.kind, said) {
            (Kind::Command, Said::List(command)) => own.commands.extend(command),
            (Kind::Variables, Said::List(variables)) => own.variables = variables,
            (_, Said::Tables(tables)) => tables.into_iter().for_each(|(_, table)| commands_of(table, all)),
            _ => {}
        }
    }
    all.push(own);
}

/// A command as it is run.
#[derive(Clone)]
pub(crate) struct ReadCommand {
    run: SecretCommand,
    /// Variables that it is to get, and that are not set.
    unset: Vec<String>,
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
                let bytes = self.printed(command, &|bytes| parse(bytes).map(|_| None))?;
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

    /// Reads the commands of all tables, and runs those that are due. Only these can be asked for, and each of them is, unless
    /// the settings are refused.
    pub(crate) fn run_commands(&mut self, file: &FileConfig, roster: &Roster) {
        let mut tables = Vec::new();
        commands_of(file, &mut tables);
        for TableCommands { commands, variables } in tables {
            if let Some(variables) = variables.filter(|_| commands.is_empty()) {
                self.problems.add(
                    &variables.source,
                    "this is for commands that print secrets, and there is none in this table: remove it",
                );
            }
            for argv in commands {
                if let Some(command) = self.secret_command(argv, variables) {
                    self.commands.insert(argv.source.clone(), command);
                }
            }
        }
        if let Some(table) = roster.target.as_ref().and_then(|name| file.accounts.get(name)) {
            credential::drop_overridden(table, self);
        }
        let commands = self.commands.values().map(|command| command.run.clone());
        self.sources.commands.run_ahead(commands.collect());
    }

    /// What a command prints, when `good` takes it. `None`: what is wrong has been noted.
    pub(crate) fn printed(&mut self, argv: &GivenList, good: Check<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let command = self.commands.get(&argv.source)?.clone();
        let output = self.sources.commands.output(&command.run, good);
        self.value_of(output, &argv.source, &command)
    }

    /// The same for whoever asks the command again by itself, and the command.
    pub(crate) fn printed_by(
        &mut self,
        argv: &GivenList,
        good: Check<'_>,
    ) -> Option<(Arc<Printer>, Zeroizing<Vec<u8>>)> {
        let command = self.commands.get(&argv.source)?.clone();
        let printer = self.sources.commands.printer(&command.run);
        let output = printer.clone().and_then(|printer| printer.output(good, false));
        let value = self.value_of(output, &argv.source, &command)?;
        Some((printer.ok()?, value))
    }

    fn value_of(
        &mut self,
        output: Result<Output, CommandError>,
        source: &Source,
        command: &ReadCommand,
    ) -> Option<Zeroizing<Vec<u8>>> {
        match output {
            Ok(Output { value, failed }) => {
                if let Some(error) = failed {
                    self.problems.warn(format_args!(
                        "{source}: {}; what it gave before stays in force, and the command is run again after 10 s, later after up to 5 min",
                        told(&error, command)
                    ));
                }
                Some(value)
            }
            Err(error @ CommandError::NotRun) => {
                self.problems.add_not_run(source, error);
                None
            }
            Err(error) if error.may_pass() => {
                self.problems.add_passing(source, told(&error, command));
                None
            }
            Err(error) => {
                self.problems.add(source, error);
                None
            }
        }
    }

    fn secret_command(&mut self, argv: &GivenList, variables: Option<&GivenList>) -> Option<ReadCommand> {
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
        let mut words = argv.value.iter().map(|word| word.value.clone());
        let program = words.next().unwrap_or_default();
        if !program.starts_with('/') {
            self.problems.add(
                &argv.source,
                "write the command as a list that begins with the absolute path of a program, such as `[\"/usr/bin/vault\", \
                 \"kv\", \"get\", …]`; no shell reads it",
            );
        }
        let named = || variables.iter().flat_map(|list| &list.value);
        for name in named().filter(|name| !is_name(&name.value)) {
            self.problems.add(
                &name.source,
                format_args!("{} is no name of a variable", shown(&name.value)),
            );
        }
        if self.problems.count() > before {
            return None;
        }
        let names = || named().map(|name| name.value.as_str());
        let value_of = |name: &str| self.sources.environment.var(name);
        Some(ReadCommand {
            run: SecretCommand {
                program: program.into(),
                arguments: words.collect(),
                environment: ALWAYS
                    .into_iter()
                    .chain(names())
                    .filter_map(|name| Some((name.to_owned(), value_of(name)?)))
                    .collect(),
            },
            unset: names()
                .filter(|name| value_of(name).is_none())
                .map(str::to_owned)
                .collect(),
        })
    }
}

/// What went wrong, and how to see more of it.
fn told(error: &CommandError, command: &ReadCommand) -> String {
    if !error.is_of_the_run() {
        return error.to_string();
    }
    let line = command.run.by_hand();
    let see = match error {
        CommandError::TooLong | CommandError::Unusable(_) => "to see what it prints",
        _ => "what it says on standard error goes nowhere, since it may hold the secret: to see it",
    };
    let mut told = format!(
        "{error}; {see}, run `{line}` with the arguments that the list has, as the user of the proxy and with its variables"
    );
    if !command.unset.is_empty() {
        told += "; not set: ";
        told += &command.unset.join(", ");
    }
    told
}

/// A name that shells take (POSIX.1-2024, XBD 8.1).
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(fits) && text.starts_with(|first: char| !first.is_ascii_digit())
}
