//! `[audit]`: the record of who changed what.

use super::inputs::Inputs;
use super::secret_place::{SecretPlace, parsed};
use super::source::Given;
use super::table::tables;
use super::value::one_of;
use crate::audit::{AuditFormat, AuditSettings, Destination, Include, PathShown, WhenFull};
use crate::crypto::KeyFile;

tables! {
    /// `[audit]`.
    FileAudit {
        /// Where lines go: a regular file that only this user can read (it is made with mode 0600), or `stdout`.
        file: text default required,
        /// Which requests: `changes` is all but GET, HEAD and OPTIONS.
        include: text as OneOf("changes", "all") default "changes",
        /// `json`, or `ocsf`: Open Cybersecurity Schema Framework, API Activity.
        format: text as OneOf("json", "ocsf") default "json",
        /// What happens to a change that would not be recorded: `refuse` (503), or `drop` (it is forwarded, and counted).
        when_full: text as OneOf("refuse", "drop") default "refuse",
        /// File with the key that each line is hashed with, 64 hexadecimal digits; a second line is the previous key.
        chain_key_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        chain_key_command: command,
        /// Variables that the commands of this table get, beside `PATH` and `HOME`.
        command_environment: variables,
        /// `template`: what is neither project nor organization in a path is a keyed hash.
        path: text as OneOf("full", "template") default "full",
        "chain_key" => "no secret in this file: put it into a file of its own and name that with `chain_key_file`",
        "key_file" => "there is no such key; did you mean `chain_key_file`?",
    }
}

/// Reads the table, if there is one.
pub(crate) fn build(table: Option<&FileAudit>, inputs: &mut Inputs<'_>) -> Option<AuditSettings> {
    let table = table?;
    let to = match &table.file {
        Some(given) if given.value == "stdout" => Some(Destination::Stdout),
        Some(given) => Some(Destination::File(inputs.path(given))),
        None => {
            let text = "`file` is missing: name the file that lines go to, or write `stdout`";
            inputs.problems.add(&table.place, text);
            None
        }
    };
    let include = choose(
        &table.include,
        &[("changes", Include::Changes), ("all", Include::All)],
        inputs,
    );
    let format = choose(
        &table.format,
        &[("json", AuditFormat::Json), ("ocsf", AuditFormat::Ocsf)],
        inputs,
    );
    let when_full = choose(
        &table.when_full,
        &[("refuse", WhenFull::Refuse), ("drop", WhenFull::Drop)],
        inputs,
    );
    let path = choose(
        &table.path,
        &[("full", PathShown::Full), ("template", PathShown::Template)],
        inputs,
    );
    let place = SecretPlace {
        file: table.chain_key_file.as_ref(),
        command: table.chain_key_command.as_ref(),
    };
    if to == Some(Destination::Stdout) {
        if when_full != Some(WhenFull::Drop) {
            inputs.problems.add(
                &table.place,
                "nobody knows whether what goes to standard output is kept: write `when_full = \"drop\"`, or name a file",
            );
        }
        if let Some(source) = place.source() {
            inputs
                .problems
                .add(source, "standard output takes no chain: remove the key, or name a file");
        }
    }
    let keys = match place.source() {
        Some(_) => Some(inputs.secret(place, parsed(KeyFile::parse))?),
        None => None,
    };
    Some(AuditSettings {
        to: to?,
        include: include?,
        format: format?,
        when_full: when_full?,
        path: path?,
        keys,
    })
}

/// One of these words; without one the default.
fn choose<T: Copy + Default>(given: &Option<Given<String>>, words: &[(&str, T)], inputs: &mut Inputs<'_>) -> Option<T> {
    let Some(given) = given.clone() else {
        return Some(T::default());
    };
    let parse = |text: &str| {
        let found = words.iter().find(|(word, _)| *word == text.trim());
        let choices = || one_of(text, &words.iter().map(|(word, _)| *word).collect::<Vec<_>>());
        found.map(|(_, meant)| *meant).ok_or_else(choices)
    };
    inputs.problems.parse(given, parse).map(|given| given.value)
}
