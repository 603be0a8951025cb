//! The command line: arguments to a command, its outcome to an exit code.

mod args;
mod audit;
mod check;
mod completions;
mod configuration;
#[cfg(feature = "emulator")]
mod demo;
mod exit;
mod healthcheck;
mod make_ca;
mod man;
mod mistaken;
mod reload;
mod rotate_secret;
mod rules;
mod run;
mod shell;
mod steps;
mod systemd;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;

use crate::config::{
    self, Commands, ConfigErrors, Disk, Environment, Flags, Machine, NoCommands, SecretCommands, Sources,
    SystemNetwork, WatchedFiles,
};
use crate::hardening::NotHardened;
use crate::time::SystemClock;
#[cfg(feature = "emulator")]
use args::DemoArgs;
use args::{Cli, Command};
use reload::SettingsSource;

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect()
    }
}

/// Runs the command that `args` (the program's own name first) ask for.
pub fn main(args: impl IntoIterator<Item = OsString>, environment: &'static dyn Environment) -> ExitCode {
    let unhardened = crate::hardening::harden();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    let code = match cli.command {
        None => run(cli.run.into(), environment, &unhardened),
        Some(Command::Run(args)) => run((*args).into(), environment, &unhardened),
        #[cfg(feature = "emulator")]
        Some(Command::Demo(DemoArgs { callers, strict })) => demo::run(callers, strict),
        Some(Command::Check(args)) => {
            let (flags, account, answer) = args.parts();
            let commands = SecretCommands::new(Arc::new(SystemClock));
            let sources = sources(&flags, environment, &commands);
            check::check(sources, environment, account.as_deref(), answer)
        }
        Some(Command::RotateSecret(args)) => {
            let (flags, wishes) = args.parts();
            rotate_secret::rotate_secret(sources(&flags, environment, &NoCommands), environment, &wishes)
        }
        Some(Command::Healthcheck(args)) => healthcheck(&args.into(), environment),
        Some(Command::Audit(args)) => audit::audit(&args),
        Some(Command::Rules(args)) => rules::rules(&args, environment),
        Some(Command::MakeCa(args)) => make_ca::make_ca(&args, environment),
        Some(Command::MakeSecret) => make_secret(),
        Some(Command::Completions(args)) => completions::completions(args.shell),
        Some(Command::Man(args)) => man::man(&args.command),
        Some(Command::ConfigSchema) => configuration::schema(),
        Some(Command::PrintConfig(args)) => {
            let flags = (*args).into();
            configuration::print(sources(&flags, environment, &NoCommands))
        }
    };
    crate::log::flush();
    code
}

fn run(flags: Flags, environment: &'static dyn Environment, unhardened: &[NotHardened]) -> ExitCode {
    // Before there are threads: it changes the environment.
    let sockets = match systemd::sockets(environment) {
        Ok(sockets) => sockets,
        Err(error) => {
            print_error(&error);
            return exit::misused();
        }
    };
    // The settings' files are read on its threads, too.
    if let Err(error) = crate::blocking::start() {
        return run::no_thread(&error);
    }
    let machine = sources(&flags, environment, &NoCommands).machine;
    let source = SettingsSource {
        flags,
        environment,
        files: WatchedFiles::new(|file| {
            print_error(&format!(
                "still waiting for the content of `{}`: a FIFO without a writer, or a mount that does not answer",
                file.display()
            ));
        }),
        commands: SecretCommands::new(Arc::new(SystemClock)),
        sockets,
        machine,
    };
    match source.load() {
        Ok(mut loaded) => {
            loaded.warnings.extend(unhardened.iter().map(ToString::to_string));
            source.files.started();
            run::run(loaded, source)
        }
        Err(errors) => misconfigured(&errors),
    }
}

fn healthcheck(flags: &Flags, environment: &dyn Environment) -> ExitCode {
    let asked = match config::health(sources(flags, environment, &NoCommands)) {
        Ok(asked) => asked,
        Err(errors) => return misconfigured(&errors),
    };
    match healthcheck::check(&asked) {
        Ok(()) => exit::CLEAN,
        Err(not_ready) => {
            print_error(&not_ready.to_string());
            exit::failed()
        }
    }
}

fn make_secret() -> ExitCode {
    match crate::caller::make_secret() {
        Ok(secret) => {
            // An error means that the reader has closed the output, and does not want it.
            let _ = writeln!(io::stdout().lock(), "{}", secret.expose());
            exit::CLEAN
        }
        Err(error) => {
            print_error(&format!("the system gives no randomness: {error}"));
            exit::failed()
        }
    }
}

fn sources<'a>(flags: &'a Flags, environment: &'a dyn Environment, commands: &'a dyn Commands) -> Sources<'a> {
    Sources {
        flags,
        environment,
        files: &Disk,
        sockets: None,
        commands,
        network: &SystemNetwork,
        machine: Machine {
            cores: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            overflow_uid: crate::caller::overflow_uid(),
            log_to_terminal: io::stderr().is_terminal(),
        },
    }
}

fn misconfigured(errors: &ConfigErrors) -> ExitCode {
    for line in errors.lines() {
        print_error(&line);
    }
    // A supervisor starts it again then.
    if errors.may_pass() {
        exit::failed()
    } else {
        exit::misused()
    }
}

/// Help and version to standard output, a usage error to standard error.
fn answer(error: &clap::Error) -> ExitCode {
    let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let mut text = error.render().to_string();
    if let Some(tip) = mistaken::tip(error) {
        // What clap takes for similar would mislead.
        let first = text.lines().next().unwrap_or_default();
        text = format!("{first}\n\n  tip: {tip}\n\nFor more information, try '--help'.\n");
    }
    let text = without_credentials(&text);
    // An error means that the reader has closed the output, and does not want it.
    let _ = if wanted {
        io::stdout().lock().write_all(text.as_bytes())
    } else {
        io::stderr().lock().write_all(text.as_bytes())
    };
    if wanted { exit::CLEAN } else { exit::misused() }
}

/// A credential that somebody typed as an argument is not repeated on the screen or in a supervisor's log.
fn without_credentials(text: &str) -> String {
    let mut parts = text.split("mdb_sa_");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
            .unwrap_or(part.len());
        clean.push_str("mdb_sa_…");
        clean.push_str(&part[end..]);
    }
    clean
}

/// One line to standard error: also what goes wrong before, or without, logging.
fn print_error(line: &str) {
    crate::log::say(&format!("atlas-auth-proxy: {line}"));
}
