//! When settings are read again, and what becomes of them: on SIGHUP, and when a file that they were made of is another.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::Running;
use crate::config::{self, Sources, Watched};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A change is taken in when nothing has changed for so long: several files may change one after the other, and a file that
/// is written in place is empty at first.
const SETTLED_FOR: Duration = Duration::from_millis(200);
/// But not later than this.
const MOST_SETTLING: Duration = Duration::from_secs(5);

/// Where settings come from, again and again.
pub(super) struct Reloader<'a> {
    sources: Sources<'a>,
    files: &'a Watched,
}

/// Why settings are read again.
pub(super) enum Reason {
    Signal,
    Files,
}

impl<'a> Reloader<'a> {
    /// `sources` reads files through `files`, and has been read once.
    pub(super) fn new(sources: Sources<'a>, files: &'a Watched) -> Self {
        Self { sources, files }
    }

    /// Ends when there is a reason to read the settings again.
    pub(super) async fn due(&self, hangup: &mut Hangup) -> Reason {
        loop {
            tokio::select! {
                () = hangup.received() => return Reason::Signal,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.files.changed() {
                self.settle().await;
                return Reason::Files;
            }
        }
    }

    async fn settle(&self) {
        let settled = async {
            loop {
                tokio::time::sleep(SETTLED_FOR).await;
                if !self.files.changed() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(MOST_SETTLING, settled).await;
    }

    /// Reads the settings again. Good ones take the place of the old; of bad ones is said what is wrong with them.
    pub(super) fn reload(&self, running: &mut Running, reason: &Reason) {
        let why = match reason {
            Reason::Signal => "SIGHUP",
            Reason::Files => "a file changed",
        };
        let loaded = match config::load(self.sources) {
            Ok(loaded) => loaded,
            Err(errors) => {
                running.reload_failed();
                for line in errors.lines() {
                    tracing::error!(problem = %line, "the new configuration is not good");
                }
                tracing::error!(
                    reason = why,
                    "the configuration was not reloaded; the old one stays in force"
                );
                return;
            }
        };
        for warning in loaded.warnings {
            tracing::warn!("{warning}");
        }
        match running.reload(loaded.settings) {
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
