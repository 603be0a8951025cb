//! `man`: manual pages, made from the command line as it is.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::args::Cli;
use super::{exit, print_error};

/// What every page ends with: title and paragraphs.
const AFTER: &[(&str, &[&str])] = &[
    (
        "EXIT STATUS",
        &[
            "0: a clean stop, or a check that passed.",
            "1: the start failed, or a check did.",
            "2: the configuration or the command line is wrong; starting again does not mend it.",
        ],
    ),
    (
        "SIGNALS",
        &[
            "SIGTERM, SIGINT: accepts nothing new, lets requests in flight end (--drain-timeout), and stops.",
            "SIGHUP: reads the configuration and its files anew; what is wrong is logged, and the old stays in force.",
        ],
    ),
    (
        "FILES",
        &[
            "No file is read that is not named: by --config, by a variable, or in the configuration file. config-schema prints \
             which keys that file may have, print-config what is in force.",
            "Where CREDENTIALS_DIRECTORY is set (systemd), the files client-id, client-secret, public-key and private-key in it.",
        ],
    ),
    (
        "EXAMPLES",
        &[
            "MONGODB_ATLAS_CLIENT_ID=mdb_sa_id_... MONGODB_ATLAS_CLIENT_SECRET_FILE=secret atlas-auth-proxy",
            "curl -H 'Accept: application/vnd.atlas.2023-01-01+json' http://localhost:8080/api/atlas/v2/groups",
            "atlas-auth-proxy check",
        ],
    ),
];

/// Prints the page of the program, or of the command that the words name.
pub(super) fn man(words: &[String]) -> ExitCode {
    let mut whole = Cli::command();
    // Gives each command its full name.
    whole.build();
    let mut command = &whole;
    for word in words {
        match command.find_subcommand(word) {
            Some(found) => command = found,
            None => {
                let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
                print_error(&format!(
                    "{} has no command `{}`: there is {}",
                    command.get_name(),
                    super::without_credentials(word),
                    known.join(", ")
                ));
                return exit::misused();
            }
        }
    }
    // Errors can't happen: the page is written to memory.
    let page = page(command).unwrap_or_default();
    // An error means that the reader has closed the output, and does not want it.
    let _ = io::stdout().lock().write_all(&page);
    exit::CLEAN
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .manual("atlas-auth-proxy")
        .source(concat!("atlas-auth-proxy ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut after = Roff::new();
    for (title, paragraphs) in AFTER {
        after.control("SH", [*title]);
        for (number, paragraph) in paragraphs.iter().enumerate() {
            if number > 0 {
                after.control("PP", []);
            }
            after.text([roman(*paragraph)]);
        }
    }
    after.to_writer(&mut page)?;
    Ok(page)
}
