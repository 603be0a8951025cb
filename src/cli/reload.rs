//! Reloads: on SIGHUP, and when a file that the settings came from has changed.
//!
//! Files are checked and read on a blocking thread: a file on a mount that does not answer delays the next reload, and
//! nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::systemd::Notifier;
use crate::app::{App, Prepared, StartError};
use crate::audit::Audit;
use crate::blocking;
use crate::config::{
    self, CommandRuns, ConfigErrors, Environment, Flags, Machine, SecretCommands, Sources, SystemNetwork, WatchedFiles,
};
use crate::metrics::Metrics;
use crate::server::HandedSockets;

/// How often the files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A change is applied when nothing has changed for this long: several files may change one after the other, and a file
/// that is written in place is empty at first.
const SETTLED_FOR: Duration = Duration::from_millis(200);
/// The longest that further changes delay a reload.
const MOST_SETTLING: Duration = Duration::from_secs(5);
/// A file whose read blocks for this long is named in the log.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sources of settings, for every reload.
pub(super) struct SettingsSource {
    pub(super) flags: Flags,
    pub(super) environment: &'static dyn Environment,
    pub(super) files: WatchedFiles,
    pub(super) commands: SecretCommands,
    pub(super) sockets: HandedSockets,
    pub(super) machine: Machine,
}

impl SettingsSource {
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources {
            flags: &self.flags,
            environment: self.environment,
            files: &self.files,
            sockets: Some(&self.sockets),
            commands: &self.commands,
            network: &SystemNetwork,
            machine: self.machine,
        }
    }

    /// Reads the settings. Blocks.
    pub(super) fn load(&self) -> Result<config::Loaded, ConfigErrors> {
        self.commands.reading();
        let loaded = config::load(self.sources())?;
        self.commands.read();
        Ok(loaded)
    }

    /// The file that is being waited for, or the program that runs.
    fn waits_for(&self) -> Option<String> {
        let file = self.files.waits_for().map(|file| file.display().to_string());
        file.or_else(|| self.commands.waits_for())
    }
}

/// Checks the files, and reads the settings again when there is a reason to.
pub(super) struct Reloader {
    source: Arc<SettingsSource>,
    loads: mpsc::Sender<Load>,
    notifier: Notifier,
    audit: Option<Arc<Audit>>,
    metrics: Arc<Metrics>,
    hangup: Hangup,
    /// A SIGHUP came, and what is read next is for it.
    asked: bool,
}

/// Settings that were read again, and why.
pub(super) struct Load {
    why: &'static str,
    result: Result<Loaded, LoadError>,
}

struct Loaded {
    warnings: Vec<String>,
    prepared: Result<Prepared, StartError>,
}

enum LoadError {
    Config(ConfigErrors),
    /// There was no thread to read on.
    Thread(io::Error),
    /// This file or program is waited for.
    Waiting(Option<String>),
}

impl Reloader {
    /// `source` has been read once. Each reload comes out of the channel.
    pub(super) fn new(
        source: Arc<SettingsSource>,
        notifier: Notifier,
        running: &App,
        hangup: Hangup,
    ) -> (Self, mpsc::Receiver<Load>) {
        let (loads, read) = mpsc::channel(1);
        let reloader = Self {
            source,
            loads,
            notifier,
            audit: running.audit(),
            metrics: running.metrics(),
            hangup,
            asked: false,
        };
        reloader.count();
        (reloader, read)
    }

    /// Runs until the receiver is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let why = self.due().await;
            self.notifier.reloading();
            let read = self.on_thread(|source| {
                source.load().map(|loaded| Loaded {
                    warnings: loaded.warnings,
                    prepared: Prepared::read(loaded.settings),
                })
            });
            let result = match read.await {
                Ok(result) => result.map_err(LoadError::Config),
                Err(error) => Err(LoadError::Thread(error)),
            };
            self.count();
            if self.loads.send(Load { why, result }).await.is_err() {
                return;
            }
        }
    }

    /// Ends when there is a reason to read the settings again.
    async fn due(&mut self) -> &'static str {
        loop {
            if std::mem::take(&mut self.asked) {
                return SIGHUP;
            }
            tokio::select! {
                () = self.hangup.received() => {
                    self.hung_up();
                    continue;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.count();
            if self.changed().await {
                self.settle().await;
                return match std::mem::take(&mut self.asked) {
                    true => SIGHUP,
                    false => "a file changed",
                };
            }
            if !self.asked && self.source.commands.due() {
                return "a secret command is due";
            }
        }
    }

    /// What a SIGHUP brings about at once; what it asks for beside that is read when the files are free.
    fn hung_up(&mut self) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
        self.source.commands.renew();
        self.asked = true;
    }

    fn count(&self) {
        let CommandRuns { good, failed, failing } = self.source.commands.runs();
        self.metrics.secret_commands(good, failed, failing);
    }

    async fn settle(&mut self) {
        let until = tokio::time::Instant::now() + MOST_SETTLING;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(SETTLED_FOR).await;
            if !self.changed().await {
                return;
            }
        }
    }

    async fn changed(&mut self) -> bool {
        // Without a thread to check on, no change is seen until there is one; the log has said so.
        self.on_thread(|source| source.files.changed()).await.unwrap_or(false)
    }

    /// Runs `work` on a blocking thread. While it takes long, logs that once, and answers each SIGHUP.
    async fn on_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&SettingsSource) -> T + Send + 'static,
    ) -> io::Result<T> {
        let source = Arc::clone(&self.source);
        let mut done = std::pin::pin!(blocking::run(move || work(&source)));
        let mut slow = std::pin::pin!(tokio::time::sleep(PATIENCE));
        let mut said = false;
        loop {
            tokio::select! {
                done = done.as_mut() => {
                    if said {
                        tracing::info!("no file or command that the settings come from is waited for any more; what came of it follows");
                    }
                    return done;
                }
                () = slow.as_mut(), if !said => {
                    said = true;
                    let file = shown(self.source.waits_for());
                    tracing::warn!(file, "a file or command that the settings come from gives nothing: until it does, changes are not seen, and the settings stay as they are");
                }
                () = self.hangup.received() => self.hung_up(),
            }
            if said && self.asked {
                let result = Err(LoadError::Waiting(self.source.waits_for()));
                // Full: what is in there is taken first, and this SIGHUP is answered later.
                self.asked = self.loads.try_send(Load { why: SIGHUP, result }).is_err();
            }
        }
    }
}

const SIGHUP: &str = "SIGHUP";

fn shown(waits_for: Option<String>) -> String {
    waits_for.unwrap_or_else(|| "none: no thread is free to read on".to_owned())
}

/// Valid settings replace the old ones; what is wrong with invalid ones is logged. Whether they were taken.
pub(super) fn take(running: &mut App, load: Load) -> bool {
    let Load { why, result } = load;
    let refused = |running: &App, messages: Vec<String>| {
        running.reload_failed(messages);
        tracing::error!(
            reason = why,
            "the configuration was not reloaded; the old one stays in force"
        );
        false
    };
    let loaded = match result {
        Ok(loaded) => loaded,
        Err(LoadError::Config(errors)) => {
            let lines: Vec<String> = errors.lines().collect();
            for line in &lines {
                tracing::error!(problem = %line, "the new configuration is not good");
            }
            return refused(running, lines);
        }
        Err(LoadError::Thread(error)) => {
            tracing::error!(%error, "there is no thread to read the configuration on");
            return refused(
                running,
                vec![format!("there is no thread to read the configuration on: {error}")],
            );
        }
        Err(LoadError::Waiting(file)) => {
            let file = shown(file);
            tracing::error!(file, "a file or command that the settings come from gives nothing");
            return refused(
                running,
                vec![format!(
                    "a file or command that the settings come from gives nothing: {file}"
                )],
            );
        }
    };
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    match running.reload_prepared(loaded.prepared) {
        Ok(later) => {
            tracing::info!(reason = why, "configuration reloaded");
            if !later.is_empty() {
                tracing::warn!(
                    settings = later.join(", "),
                    "these settings take effect at the next start"
                );
            }
            true
        }
        Err(error) => {
            tracing::error!(reason = why, %error, "the configuration was not reloaded; the old one stays in force");
            false
        }
    }
}

/// SIGHUP.
pub(super) struct Hangup(Signal);

impl Hangup {
    pub(super) fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    async fn received(&mut self) {
        // `None`: no more signals can come, so this waits for ever.
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
