//! `run`: starts the app from its settings, and ends it on a signal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit;
use super::reload::{self, Hangup, Reloader, SettingsSource};
use super::systemd::Notifier;
use crate::app::App;
use crate::audit::Audit;
use crate::blocking;
use crate::config::Loaded;
use crate::credential::CredentialSettings;
use crate::crypto;
use crate::log::Outlet;
use crate::settings::{AccountSettings, Settings};

/// How long requests that are broken off, and the audit log then, have for their end.
const BREAK_OFF: Duration = Duration::from_millis(400);

/// Serves until a signal or the admin port ends it.
pub(crate) fn run(loaded: Loaded, source: SettingsSource) -> ExitCode {
    let Loaded { settings, warnings, .. } = loaded;
    let stdout = match crate::log::init(&settings.log).and_then(|()| Outlet::stdout()) {
        Ok(stdout) => stdout,
        Err(error) => return no_thread(&error),
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = crypto::self_check() {
        return start_failed(&error);
    }
    if !crypto::MD5_ALLOWED {
        for (name, _) in settings
            .accounts
            .iter()
            .filter(|(_, account)| matches!(account.credential, CredentialSettings::ApiKey(_)))
        {
            tracing::warn!(account = %name, "an API key in a FIPS build: Atlas offers Digest with MD5 only, which is not answered; use a service account");
        }
    }
    let runtime = match runtime(&settings) {
        Ok(runtime) => runtime,
        Err(error) => return no_thread(&error),
    };
    let mut audit = None;
    let code = runtime.block_on(serve(settings, source, &stdout, &mut audit));
    match audit.filter(|audit| !audit.is_closed()) {
        // The drain was cut short: what is broken off now has its end in the audit log.
        Some(audit) => {
            runtime.shutdown_timeout(BREAK_OFF);
            audit.close_at_once(BREAK_OFF);
        }
        // A name lookup that hangs must not keep the process: what counts has been drained.
        None => runtime.shutdown_background(),
    }
    stdout.flush(Duration::from_millis(100));
    code
}

/// Reports that a thread which the process needs can't be made.
pub(super) fn no_thread(error: &io::Error) -> ExitCode {
    super::print_error(&format!(
        "cannot start: no thread can be made ({error}); raise the limit of processes and threads: `ulimit -u`, in systemd \
         TasksMax, in Kubernetes the pids limit of the pod"
    ));
    exit::failed()
}

fn runtime(settings: &Settings) -> io::Result<Runtime> {
    let workers = settings.workers.get();
    let mut builder = if workers == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    blocking::start()?;
    if workers > 1 {
        // tokio panics, or goes on with fewer workers.
        blocking::can_make(workers)?;
        builder.worker_threads(workers);
    }
    builder.thread_name("worker").enable_all().build()
}

async fn serve(
    settings: Settings,
    source: SettingsSource,
    stdout: &Outlet,
    audit: &mut Option<Arc<Audit>>,
) -> ExitCode {
    // Before anything is bound: a signal during the start must not end the process half way.
    let (mut signals, hangup) = match Signals::new().and_then(|signals| Ok((signals, Hangup::new()?))) {
        Ok(both) => both,
        Err(error) => return start_failed(&error),
    };
    let accounts = describe(&settings.accounts);
    let mut running = tokio::select! {
        started = App::start(settings) => match started {
            Ok(running) => running,
            Err(error) => return start_failed(&error),
        },
        // Reading a file of certificate authorities may take long.
        (signal, _) = signals.heard() => {
            tracing::info!(signal, "stopping, before anything was served");
            return exit::CLEAN;
        }
    };
    *audit = running.audit();
    let notifier = Notifier::new(source.environment);
    notifier.watch(source.environment);
    let (reloader, mut loads) = Reloader::new(Arc::new(source), notifier.clone(), &running, hangup);
    let reloading = tokio::spawn(reloader.run());
    announce(&running, &accounts, stdout);
    notifier.ready("serving");
    loop {
        tokio::select! {
            (signal, ends) = signals.heard() => {
                tracing::info!(signal, "stopping");
                if ends {
                    return exit::failed();
                }
                break;
            }
            () = running.quit_requested() => {
                tracing::info!("stopping, as the admin port was asked to");
                break;
            }
            Some(load) = loads.recv() => {
                let taken = reload::take(&mut running, load);
                notifier.ready(if taken { "serving" } else { "serving; the last reload was refused: see the log" });
            }
        }
    }
    notifier.stopping();
    reloading.abort();
    drain(running, &mut signals).await
}

/// The drain. Only the last of several signals cuts it short: supervisors may send more than one, and requests in
/// flight are worth more than a fast end.
pub(super) async fn drain(running: App, signals: &mut Signals) -> ExitCode {
    let mut shutdown = std::pin::pin!(running.shutdown());
    loop {
        tokio::select! {
            () = shutdown.as_mut() => return exit::CLEAN,
            (signal, ends) = signals.heard() => {
                if ends {
                    tracing::warn!(signal, "stopping at once: what is in flight is broken off");
                    return exit::failed();
                }
                tracing::info!(
                    signal,
                    "stopping already: the drain goes on; a second SIGINT, a third SIGTERM or SIGQUIT cuts it short"
                );
            }
        }
    }
}

/// SIGTERM, SIGINT and SIGQUIT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    terminated: u32,
    interrupted: u32,
}

/// This many SIGTERM end the process at once: the first begins the drain, and many a supervisor sends two.
const LAST_TERMINATE: u32 = 3;
/// This many SIGINT do, too: Ctrl-C typed twice.
const LAST_INTERRUPT: u32 = 2;

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminated: 0,
            interrupted: 0,
        })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> &'static str {
        self.heard().await.0
    }

    /// The next signal, and whether it ends the process at once.
    pub(super) async fn heard(&mut self) -> (&'static str, bool) {
        tokio::select! {
            _ = self.terminate.recv() => {
                self.terminated += 1;
                ("SIGTERM", self.terminated >= LAST_TERMINATE)
            }
            _ = self.interrupt.recv() => {
                self.interrupted += 1;
                ("SIGINT", self.interrupted >= LAST_INTERRUPT)
            }
            _ = self.quit.recv() => ("SIGQUIT", true),
        }
    }
}

fn start_failed(error: &dyn std::error::Error) -> ExitCode {
    super::print_error(&format!("cannot start: {error}"));
    exit::failed()
}

/// `account default, service account, https://cloud.mongodb.com` for each account, by name.
fn describe(accounts: &BTreeMap<String, AccountSettings>) -> BTreeMap<String, String> {
    let describe = |name: &str, account: &AccountSettings| {
        let kind = match account.credential {
            CredentialSettings::ServiceAccount(_) => "service account",
            CredentialSettings::ApiKey(_) => "API key",
            CredentialSettings::Identity(_) => "gateway",
        };
        let to = account.upstream.connect_to.as_ref();
        let to = to.map_or_else(String::new, |to| format!(" at {to}"));
        format!("account {name}, {kind}, {}{to}", account.upstream.origin)
    };
    accounts
        .iter()
        .map(|(name, account)| (name.clone(), describe(name, account)))
        .collect()
}

/// One line to standard output with the bound addresses: whoever started the process reads there that it serves, and
/// where.
fn announce(running: &App, accounts: &BTreeMap<String, String>, stdout: &Outlet) {
    let mut line = format!("atlas-auth-proxy {} serves", env!("CARGO_PKG_VERSION"));
    for listener in running.listeners() {
        let account = accounts.get(&listener.account).map_or("", String::as_str);
        // Writing to a string can't fail.
        let also = listener.also.map(|also| format!(" and {also}")).unwrap_or_default();
        let _ = write!(line, " {}{also} ({account}),", listener.url);
    }
    let _ = writeln!(line, " admin {}", running.admin());
    // A closed standard output, or one that nobody reads, is no reason not to serve.
    stdout.put(line.as_bytes());
}
