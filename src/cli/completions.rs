//! `completions`: a script for a shell, made from the command line as it is.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::args::Cli;
use super::exit;

/// Prints the script.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Made whole before it is printed: the generator panics where its output can't be written.
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    // An error means that the reader has closed the output, and does not want it.
    let _ = io::stdout().lock().write_all(&script);
    exit::CLEAN
}
