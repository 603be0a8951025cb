//! Turns flags, environment, file and defaults into [`Settings`]: the one place where settings are text.
//!
//! For each setting a flag wins over a variable, a variable over the file, the file over the default. Flags and
//! variables about a listener hold for every listener; `--listen` itself takes the place of the `bind` of the only one.
//! Flags and variables about the account, credentials among them, apply to the account `default`, or to the only one
//! that the file mentions. `docs/CONFIGURATION.md` is the reference for users.
//!
//! It does no I/O but reading files and asking for the addresses of names, and knows nothing of what runs with the settings.

mod account;
mod admin;
mod audit;
mod caller;
mod conflict;
mod credential;
mod document;
mod effective;
mod egress;
mod file;
mod gateway;
mod handed;
mod inputs;
mod limits;
mod listener;
mod log;
mod problem;
mod process;
mod rule_book;
mod schema;
mod secret_commands;
mod secret_place;
mod secret_value;
mod shape;
mod source;
mod table;
mod tls;
mod token_store;
mod traces;
mod unix;
mod value;
mod variable;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use effective::effective;
pub use problem::ConfigErrors;
pub use rule_book::{Expectation, expectations, rule_book};
pub use schema::schema;
pub use secret_commands::{CommandRuns, SecretCommands};
pub use source::{
    Check, Commands, Contents, Disk, Environment, Files, Flags, Machine, Network, NoCommands, NoNetwork, Output,
    Sources, SystemNetwork,
};
pub use watch::WatchedFiles;

use crate::catalogue::Catalogue;
use crate::server::Bind;
use crate::settings::Settings;
use crate::upstream::Origin;
use file::FileConfig;
use inputs::Inputs;
use source::{Given, Source};

/// The largest configuration file that is read, bytes.
const LARGEST_FILE: usize = 1 << 20;

/// Settings, and what about them is worth a warning in the log.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One sentence each; none holds a secret.
    pub warnings: Vec<String>,
    /// What was corrected while reading, one sentence each.
    pub notes: Vec<String>,
    /// The file that an account's client secret came from, by account; secrets from elsewhere have none.
    pub secret_files: BTreeMap<String, PathBuf>,
}

/// Reads all sources.
///
/// # Errors
/// When a setting is wrong or missing: every problem that was found, with its place.
pub fn load(sources: Sources<'_>) -> Result<Loaded, ConfigErrors> {
    let mut inputs = Inputs::new(sources);
    let file = read_file(&mut inputs);
    if !inputs.problems.is_empty() {
        // A file that can't be parsed makes everything in it look missing: reporting that would only be noise.
        return Err(inputs.problems.into_errors());
    }
    let roster = account::Roster::of(
        &file.accounts,
        file.listeners
            .iter()
            .filter_map(|listener| Some(&listener.account.as_ref()?.value)),
    );
    inputs.run_commands(&file, &roster);
    variable::check_unknown(&mut inputs);
    let limits = limits::build(&file.limits, &mut inputs.problems);
    let admin = admin::build(&file.admin, &mut inputs);
    let audit = audit::build(file.audit.as_ref(), &mut inputs);
    let workers = process::workers(&file, &mut inputs);
    let drain_timeout = process::drain_timeout(&file, &mut inputs);
    let drain_delay = process::drain_delay(&file, &mut inputs);
    let log = log::build(&file.log, &mut inputs);
    let accounts = account::build(&file.accounts, &roster, limits.upstream, &mut inputs);
    #[cfg(feature = "token-store")]
    let token_store = token_store::build(file.token_store.as_ref(), &mut inputs);
    #[cfg(not(feature = "token-store"))]
    token_store::refuse(file.token_store.as_ref(), &mut inputs);
    let traces = traces::build(&mut inputs);
    let catalogue = Arc::new(Catalogue::new());
    let listeners = listener::build(&file.listeners, &roster, caller::are_named(&file), &mut inputs);
    let callers = caller::build(&file, &catalogue, &mut inputs);
    caller::check_balancers(&file, &listeners, &callers, &mut inputs.problems);
    inputs.check_sockets();
    caller::warn(&file, &listeners, &callers, &mut inputs.problems);
    conflict::check(&listeners, &accounts, &admin, sources.network, &mut inputs.problems);
    if !inputs.problems.is_empty() {
        return Err(inputs.problems.into_errors());
    }
    let settings = Settings {
        listeners: listeners.into_iter().map(|given| given.value).collect(),
        handed: sources.sockets.cloned().unwrap_or_default(),
        accounts: accounts
            .into_iter()
            .map(|(name, built)| (name, built.settings))
            .collect(),
        #[cfg(feature = "token-store")]
        token_store,
        catalogue,
        callers,
        admin: admin.value,
        audit,
        traces,
        digest: inputs.digest(),
        limits,
        workers,
        drain_timeout,
        drain_delay,
        log,
    };
    let (warnings, notes) = inputs.problems.into_remarks();
    Ok(Loaded {
        settings,
        warnings,
        notes,
        secret_files: inputs.secret_files,
    })
}

/// The Atlas realm that flag and variable choose, as its origin; nothing else is looked at.
///
/// # Errors
/// When it is another word.
pub fn realm(sources: Sources<'_>) -> Result<Origin, ConfigErrors> {
    let mut inputs = Inputs::new(sources);
    let over = inputs.setting(
        "--environment",
        inputs.sources.flags.environment.as_ref(),
        variable::SERVICE,
    );
    let origin = account::realm(None, over, &mut inputs).map_or_else(Origin::commercial, |given| given.value);
    if inputs.problems.is_empty() {
        Ok(origin)
    } else {
        Err(inputs.problems.into_errors())
    }
}

/// Where a running proxy can be asked whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthTarget {
    /// At its admin port or socket.
    Admin(Bind),
    /// There is none; this is its first listener.
    Listener {
        /// Where it is bound.
        bind: Bind,
        /// Whether it speaks TLS.
        tls: bool,
    },
}

/// Where a proxy with these sources is asked for its health: all that `healthcheck` needs to know.
///
/// # Errors
/// When the file or an address is wrong.
pub fn health(sources: Sources<'_>) -> Result<HealthTarget, ConfigErrors> {
    let mut inputs = Inputs::new(sources);
    let file = read_file(&mut inputs);
    let asked = match admin::build(&file.admin, &mut inputs).value.bind {
        Some(bind) => Some(HealthTarget::Admin(bind)),
        None => listener::first(&file.listeners, &mut inputs).map(|(bind, tls)| HealthTarget::Listener { bind, tls }),
    };
    if inputs.unknown_sockets {
        inputs.problems.add(
            &Source::Nowhere,
            "where a socket of systemd is bound is not known here: say where the proxy is asked with --admin-listen",
        );
    }
    match asked {
        Some(asked) if inputs.problems.is_empty() => Ok(asked),
        _ => Err(inputs.problems.into_errors()),
    }
}

fn read_file(inputs: &mut Inputs<'_>) -> FileConfig {
    let named: Option<Given<PathBuf>> = match &inputs.sources.flags.config {
        Some(path) => Some(Given {
            value: path.clone(),
            source: Source::Flag("--config"),
        }),
        None => inputs.variable(variable::CONFIG).map(|given| given.map(PathBuf::from)),
    };
    let Some(Given { value: path, source }) = named else {
        return FileConfig::default();
    };
    inputs.folder = path.parent().map(Path::to_owned);
    let Some(bytes) = inputs.read(&path, LARGEST_FILE, &source) else {
        return FileConfig::default();
    };
    inputs.digest_file(&bytes);
    match std::str::from_utf8(&bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            FileConfig::parse(&path, text, &mut inputs.problems)
        }
        Err(error) => {
            inputs.problems.add(
                &source,
                format_args!(
                    "the file `{}` is not UTF-8 text (at byte {})",
                    path.display(),
                    error.valid_up_to()
                ),
            );
            FileConfig::default()
        }
    }
}
