//! `[audit]`: the record of who changed what.

use super::inputs::Inputs;
use super::problem::shown;
use super::secret_value;
use super::source::Given;
use super::table::tables;
use super::value::one_of;
use crate::audit::{AuditFormat, AuditSettings, Destination, Include, PathShown, WhenFull};
use crate::crypto::KeyFile;

tables! {
    /// `[audit]`.
    FileAudit {
        file: text,
        include: text,
        format: text,
        when_full: text,
        chain_key_file: text,
        path: text,
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
    if to == Some(Destination::Stdout) {
        if when_full != Some(WhenFull::Drop) {
            inputs.problems.add(
                &table.place,
                "nobody knows whether what goes to standard output is kept: write `when_full = \"drop\"`, or name a file",
            );
        }
        if let Some(given) = &table.chain_key_file {
            inputs.problems.add(
                &given.source,
                "standard output takes no chain: remove `chain_key_file`, or name a file",
            );
        }
    }
    let keys = match &table.chain_key_file {
        Some(given) => Some(key_file(given, inputs)?),
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

/// The keys of a key file: 64 hexadecimal digits a line.
pub(crate) fn key_file(given: &Given<String>, inputs: &mut Inputs<'_>) -> Option<KeyFile> {
    let path = inputs.credential_path(given);
    let bytes = inputs.read_secret(&path, secret_value::LARGEST, &given.source)?;
    match KeyFile::parse(&bytes) {
        Ok(keys) => Some(keys),
        Err(error) => {
            let file = path.display().to_string();
            inputs
                .problems
                .add(&given.source, format_args!("{}: {error}", shown(&file)));
            None
        }
    }
}
