//! `config-schema` and `print-config`: what a configuration may say, and what this one says.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{exit, misconfigured};
use crate::config::{self, Sources};

/// Prints the JSON Schema of the configuration file.
pub(super) fn schema() -> ExitCode {
    put(&format!("{:#}\n", config::schema()));
    exit::CLEAN
}

/// Prints the configuration of these sources, and what is wrong with it.
pub(super) fn print(sources: Sources<'_>) -> ExitCode {
    match config::effective(sources) {
        Ok(text) => put(&text),
        Err(errors) => return misconfigured(&errors),
    }
    // That commands are not run here is no fault of the configuration.
    match config::load(sources).err().and_then(config::ConfigErrors::but_commands) {
        None => exit::CLEAN,
        Some(errors) => misconfigured(&errors),
    }
}

fn put(text: &str) {
    // An error means that the reader has closed the output, and does not want it.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}
