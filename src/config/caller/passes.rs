//! `[passes]`: what the token endpoint gives to callers.

use crate::caller::{PassKeys, PassSettings};
use crate::config::inputs::Inputs;
use crate::config::problem::shown;
use crate::config::source::Given;
use crate::config::table::tables;
use crate::config::{secret_value, value};

tables! {
    /// `[passes]`.
    FilePasses {
        key_file: text,
        life: text,
        "key" => "no secret in this file: put it into a file of its own and name that with `key_file`",
    }
}

pub(super) fn build(table: &FilePasses, inputs: &mut Inputs<'_>) -> Option<PassSettings> {
    let keys = match &table.key_file {
        Some(given) => keys(given, inputs).map(Some),
        None => Some(None),
    };
    let life = match table.life.clone() {
        Some(given) => inputs.problems.parse(given, value::wait).map(|given| given.value),
        None => Some(PassSettings::default().life),
    };
    Some(PassSettings {
        keys: keys?,
        life: life?,
    })
}

fn keys(given: &Given<String>, inputs: &mut Inputs<'_>) -> Option<PassKeys> {
    let path = inputs.credential_path(given);
    let bytes = inputs.read_secret(&path, secret_value::LARGEST, &given.source)?;
    match PassKeys::parse_file(&bytes) {
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
