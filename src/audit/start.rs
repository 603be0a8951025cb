//! Opens the log, writes its first line, and makes the thread that writes the others.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::chain::Chain;
use super::file::{self, AuditFile, AuditFileError};
use super::keys::{AuditKeys, PathKey, hex};
use super::line::{self, Event};
use super::queue::Queue;
use super::refusals::Refusals;
use super::settings::{AuditFormat, AuditSettings, Destination, WhenFull};
use super::trouble::Troubles;
use super::writer::{Sink, Writer};
use super::{Audit, put_counts, second};
use crate::crypto::RootKey;
use crate::time::SharedClock;

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditStartError {
    /// The file can't be used.
    #[error("audit: {0}")]
    File(#[from] AuditFileError),
    /// The first line can't be written.
    #[error("audit: the first line can't be written to {path}: {source}; free some room, or name another file")]
    FirstLine {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no name for the chain.
    #[error("audit: the system gives no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// There is no thread to write on.
    #[error("audit: no thread can be made: {0}")]
    Thread(#[source] io::Error),
}

impl Audit {
    /// Opens the log and writes its first line. `configuration` names the settings. `dropped` is told of lines that are lost.
    /// Blocks.
    ///
    /// # Errors
    /// See [`AuditStartError`].
    pub fn start(
        settings: &AuditSettings,
        configuration: &str,
        clock: SharedClock,
        dropped: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, AuditStartError> {
        let mut name = [0; 8];
        getrandom::fill(&mut name)?;
        let chain: Arc<str> = hex(&name).into();
        let keys = settings
            .keys
            .as_ref()
            .map(|keys| Arc::new(AuditKeys::of(&keys.current)));
        let mut found = file::Found::default();
        let mut sink = match &settings.to {
            Destination::File(wanted) => {
                let (file, end) = AuditFile::open(wanted, &chain)?;
                found = end;
                if file.path() != wanted {
                    tracing::warn!(file = %file.path().display(), "another process writes to the audit file: this one has a file of its own");
                }
                Sink::File {
                    file,
                    chain: Chain::new(Arc::clone(&chain), keys),
                }
            }
            Destination::Stdout => {
                let out = io::stdout().as_fd().try_clone_to_owned();
                Sink::Stdout(out.map_err(AuditStartError::Thread)?.into())
            }
        };
        let format = settings.format;
        let mut members = vec![
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("configuration", json!(configuration)),
        ];
        if let Some(hash) = &found.hash {
            members.push(("previous", json!(hash)));
        }
        if found.torn {
            members.push(("torn", json!(true)));
            tracing::warn!(
                "the last line of the audit file had no end: the process before was killed, or the machine stopped"
            );
        }
        let open = line::of_log(format, Event::Open, clock.wall(), &members);
        let head = Arc::new(Mutex::new(None));
        let queue = Arc::new(Queue::new(Box::new(dropped)));
        match &mut sink {
            Sink::File { file, chain, .. } => {
                let mut sealed = if found.open { vec![b'\n'] } else { Vec::new() };
                chain.seal(&open, format, &mut sealed);
                file.size()
                    .and_then(|size| {
                        file.reserve(size, sealed.len() as u64)?;
                        file.append(size, &sealed)?;
                        file.sync()
                    })
                    .map_err(|source| AuditStartError::FirstLine {
                        path: file.path().display().to_string(),
                        source,
                    })?;
                *head.lock() = Some(chain.head());
            }
            Sink::Stdout(_) => drop(queue.other(open)),
        }
        let path_key = match &settings.keys {
            Some(keys) => PathKey::of(&keys.current),
            None => PathKey::of(&RootKey::generate()?),
        };
        let refusals = Arc::new(Mutex::new(Refusals::default()));
        let (trouble, ended) = (Arc::<Troubles>::default(), Arc::new(super::Ended::default()));
        let end = Arc::clone(&ended);
        let writer = Writer {
            queue: Arc::clone(&queue),
            sink,
            format,
            head: Arc::clone(&head),
            refuses: settings.when_full == WhenFull::Refuse,
            clock: Arc::clone(&clock),
            again: Vec::new(),
            unsynced: false,
            synced_at: Instant::now(),
            trouble: Arc::clone(&trouble),
            tick: {
                let (queue, refusals, clock) = (Arc::clone(&queue), Arc::clone(&refusals), Arc::clone(&clock));
                Box::new(move || count_refusals(&refusals, &queue, format, &clock))
            },
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                writer.run();
                end.set();
            })
            .map_err(AuditStartError::Thread)?;
        Ok(Arc::new(Self {
            include: settings.include,
            format,
            when_full: settings.when_full,
            path: settings.path,
            to_file: matches!(settings.to, Destination::File(_)),
            chain,
            requests: AtomicU64::new(0),
            queue,
            head,
            logged: AtomicU64::new(0),
            path_key: ArcSwap::from_pointee(path_key),
            keys: Mutex::new(settings.keys.clone()),
            refusals,
            trouble,
            to: settings.to.clone(),
            clock,
            ended,
        }))
    }
}

/// Writes the counted lines of a second that is over.
fn count_refusals(refusals: &Mutex<Refusals>, queue: &Queue, format: AuditFormat, clock: &SharedClock) {
    let now = clock.wall();
    let mut refusals = refusals.lock();
    if !refusals.pending() {
        return;
    }
    let ended = refusals.ended(second(now));
    drop(refusals);
    put_counts(ended, queue, format, now);
}
