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
    if shell == Shell::Bash {
        script = mended(script);
    }
    // An error means that the reader has closed the output, and does not want it.
    let _ = io::stdout().lock().write_all(&script);
    exit::CLEAN
}

/// clap_complete 4.6.11 takes the dashes in a program's name for those before a command's in one half of the script, so that
/// neither flags nor words are completed. Where it doesn't, this changes nothing.
fn mended(script: Vec<u8>) -> Vec<u8> {
    let script = String::from_utf8_lossy(&script);
    script
        .replace("atlas__subcmd__auth__subcmd__proxy", "atlas__auth__proxy")
        .into_bytes()
}
