//! `audit verify`: proves that nothing was cut out of audit files, swapped or changed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{exit, print_error};
use crate::audit::verify::{HeadSeen, Report, Verifier, heads};
use crate::crypto::{KeyFile, RootKey};

/// What is to be done with audit files.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Find lines that were cut out of audit files, swapped or changed; list changes whose outcome is unknown.
    ///
    /// Exits with 0 when the files are whole (also with unknown outcomes, a torn line, an end that is not proven), with 1 when
    /// something is found or no key fits, with 2 on wrong usage.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Log or answer of /status.json, whose `audit` shows how far the files must reach; may be repeated, for files of several
    /// processes.
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,

    /// Key file (`chain_key_file`); may be repeated, for files with lines of several keys.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,

    /// Audit file; several of one chain, the oldest first.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn audit(args: &AuditArgs) -> ExitCode {
    let AuditCommand::Verify(args) = &args.command;
    match verify(args) {
        Ok(report) => {
            // An error means that the reader has closed the output, and does not want it.
            let _ = io::stdout().lock().write_all(told(&report).as_bytes());
            if report.whole() { exit::CLEAN } else { exit::failed() }
        }
        Err(problem) => {
            print_error(&problem);
            exit::misused()
        }
    }
}

fn verify(args: &VerifyArgs) -> Result<Report, String> {
    let seen: Vec<_> = args.heads.iter().map(|file| head(file)).collect::<Result<_, _>>()?;
    let mut keys: Vec<(&Path, RootKey)> = Vec::new();
    for file in &args.keys {
        let content = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
        let read = KeyFile::parse(&content).map_err(|error| format!("{}: {error}", file.display()))?;
        let both = [Some(read.current), read.previous].into_iter().flatten();
        keys.extend(both.map(|key| (file.as_path(), key)));
    }
    let keys = keys.iter().map(|(file, key)| (file.display().to_string(), key));
    let mut verifier = Verifier::new(keys, seen);
    for file in &args.files {
        let name = file.display().to_string();
        File::open(file)
            .and_then(|open| verifier.read(&name, BufReader::new(open)))
            .map_err(|error| unreadable(file, &error))?;
    }
    Ok(verifier.end())
}

fn head(file: &Path) -> Result<Vec<HeadSeen>, String> {
    let content = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    let seen = heads(&String::from_utf8_lossy(&content));
    if seen.is_empty() {
        return Err(format!(
            "{} tells of no audit log: name the proxy's log, which has a line about it each minute, or the answer of /status.json",
            file.display()
        ));
    }
    Ok(seen)
}

fn unreadable(file: &Path, error: &io::Error) -> String {
    format!("cannot read the file {}: {error}", file.display())
}

fn told(report: &Report) -> String {
    let mut text = String::new();
    for found in &report.found {
        let _ = writeln!(text, "FOUND   {found}");
    }
    for change in &report.unknown_outcomes {
        let _ = writeln!(text, "outcome unknown   {change}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "note    {note}");
    }
    let (lines, findings) = (report.lines, report.found.len());
    let _ = if findings == 0 {
        write!(text, "whole: {}", many(lines, "line"))
    } else if findings == report.missing_keys {
        write!(text, "NOT PROVEN: a key is missing, for {}", many(lines, "line"))
    } else {
        write!(
            text,
            "NOT WHOLE: {} in {}",
            many(findings as u64, "finding"),
            many(lines, "line")
        )
    };
    let unknown = many(report.unknown_outcomes.len() as u64, "change");
    let _ = write!(text, "; {unknown} with unknown outcome");
    if report.unrecorded > 0 {
        let _ = write!(
            text,
            "; {} forwarded without a line (`when_full = \"drop\"`)",
            many(report.unrecorded, "change")
        );
    }
    text.push('\n');
    text
}

/// `1 line`, `2 lines`.
fn many(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
