//! When settings are read again, and what becomes of them: on SIGHUP, and when a file that they were made of is another.
//!
//! Files are looked at and read on a thread that may block: one on a mount that does not answer holds up the next reload, and
//! nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::{App, Prepared, StartError};
use crate::blocking;
use crate::config::{self, ConfigErrors, Environment, Flags, Machine, Sources, Watched};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A change is taken in when nothing has changed for so long: several files may change one after the other, and a file that
/// is written in place is empty at first.
const SETTLED_FOR: Duration = Duration::from_millis(200);
/// But not later than this.
const MOST_SETTLING: Duration = Duration::from_secs(5);
/// A file that gives nothing for so long is named in the log.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where settings come from, again and again.
pub(super) struct SettingsSource {
    pub(super) flags: Flags,
    pub(super) environment: &'static dyn Environment,
    pub(super) files: Watched,
    pub(super) machine: Machine,
}

impl SettingsSource {
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources {
            flags: &self.flags,
            environment: self.environment,
            files: &self.files,
            machine: self.machine,
        }
    }
}

/// Looks at the files, and reads the settings again when there is a reason to.
pub(super) struct Reloader {
    source: Arc<SettingsSource>,
    loads: mpsc::Sender<Load>,
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
    /// This file gives nothing.
    Waiting(Option<PathBuf>),
}

impl Reloader {
    /// `source` has been read once. What is read again comes out of the channel.
    pub(super) fn new(source: Arc<SettingsSource>) -> (Self, mpsc::Receiver<Load>) {
        let (loads, read) = mpsc::channel(1);
        (Self { source, loads }, read)
    }

    /// Goes on as long as somebody takes what comes of it.
    pub(super) async fn run(self, mut hangup: Hangup) {
        loop {
            let why = self.due(&mut hangup).await;
            let read = self.on_thread(&mut hangup, |source| {
                config::load(source.sources()).map(|loaded| Loaded {
                    warnings: loaded.warnings,
                    prepared: Prepared::read(loaded.settings),
                })
            });
            let result = match read.await {
                Ok(result) => result.map_err(LoadError::Config),
                Err(error) => Err(LoadError::Thread(error)),
            };
            if self.loads.send(Load { why, result }).await.is_err() {
                return;
            }
        }
    }

    /// Ends when there is a reason to read the settings again.
    async fn due(&self, hangup: &mut Hangup) -> &'static str {
        loop {
            tokio::select! {
                () = hangup.received() => return SIGHUP,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.changed(hangup).await {
                self.settle(hangup).await;
                return "a file changed";
            }
        }
    }

    async fn settle(&self, hangup: &mut Hangup) {
        let until = tokio::time::Instant::now() + MOST_SETTLING;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(SETTLED_FOR).await;
            if !self.changed(hangup).await {
                return;
            }
        }
    }

    async fn changed(&self, hangup: &mut Hangup) -> bool {
        // Without a thread to look on, nothing is seen until there is one; a line has said so.
        self.on_thread(hangup, |source| source.files.changed())
            .await
            .unwrap_or(false)
    }

    /// Waits for work with files. While it takes long, says so once, and answers a SIGHUP.
    async fn on_thread<T: Send + 'static>(
        &self,
        hangup: &mut Hangup,
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
                        tracing::info!("the files that the settings come from can be read again");
                    }
                    return done;
                }
                () = slow.as_mut(), if !said => {
                    said = true;
                    let file = shown(self.source.files.waits_for());
                    tracing::warn!(file, "a file that the settings come from gives nothing: until it does, changes are not seen, and the settings stay as they are");
                }
                () = hangup.received() => {
                    let waiting = LoadError::Waiting(self.source.files.waits_for());
                    // Full: the last one has not been looked at yet, and says as much.
                    let _ = self.loads.try_send(Load { why: SIGHUP, result: Err(waiting) });
                }
            }
        }
    }
}

const SIGHUP: &str = "SIGHUP";

fn shown(file: Option<PathBuf>) -> String {
    file.map_or_else(
        || "none: no thread is free to read on".to_owned(),
        |file| file.display().to_string(),
    )
}

/// Good settings take the place of the old; of bad ones is said what is wrong with them.
pub(super) fn take(running: &mut App, load: Load) {
    let Load { why, result } = load;
    let refused = |running: &App| {
        running.reload_failed();
        tracing::error!(
            reason = why,
            "the configuration was not reloaded; the old one stays in force"
        );
    };
    let loaded = match result {
        Ok(loaded) => loaded,
        Err(LoadError::Config(errors)) => {
            for line in errors.lines() {
                tracing::error!(problem = %line, "the new configuration is not good");
            }
            return refused(running);
        }
        Err(LoadError::Thread(error)) => {
            tracing::error!(%error, "there is no thread to read the configuration on");
            return refused(running);
        }
        Err(LoadError::Waiting(file)) => {
            tracing::error!(file = shown(file), "a file that the settings come from gives nothing");
            return refused(running);
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
        }
        Err(error) => {
            tracing::error!(reason = why, %error, "the configuration was not reloaded; the old one stays in force");
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
        // `None` would say that no more can come; then none does.
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
