//! `[passes]`: what the token endpoint gives to callers.

use crate::caller::PassSettings;
use crate::config::inputs::Inputs;
use crate::config::secret_place::{SecretPlace, parsed};
use crate::config::table::tables;
use crate::config::value;
use crate::crypto::KeyFile;

tables! {
    /// `[passes]`.
    FilePasses {
        /// File with the key that seals passes, 64 hexadecimal digits, the same for all replicas; a second line is the previous key. Left out: made at the start.
        key_file: text,
        /// Command that prints the same: an absolute path, then arguments.
        key_command: command,
        /// Variables that the commands of this table get, beside `PATH` and `HOME`.
        command_environment: variables,
        /// How long a pass is good. Left out: `1h`, without a key at most `1m`.
        life: text as Duration,
        "key" => "no secret in this file: put it into a file of its own and name that with `key_file`",
    }
}

pub(super) fn build(table: &FilePasses, inputs: &mut Inputs<'_>) -> Option<PassSettings> {
    let place = SecretPlace {
        file: table.key_file.as_ref(),
        command: table.key_command.as_ref(),
    };
    let keys = match place.source() {
        Some(_) => inputs.secret(place, parsed(KeyFile::parse)).map(Some),
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
