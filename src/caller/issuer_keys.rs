//! The keys of an issuer: fetched ahead, kept while it is away, fetched once more for a `kid` that is not among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::fetch;
use super::jwks::{KeySet, KeyUse};
use super::{IssuerKind, IssuerSettings, IssuerStatus, JwksSource};
use crate::time::SharedClock;

/// Keys are fetched so long after the last time.
const EVERY: Duration = Duration::from_secs(600);
/// A file is read so often: that costs nothing, and a change counts at once.
const EVERY_FILE: Duration = Duration::from_secs(10);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(30);
/// For unknown `kid`s the keys are fetched once in this time, whoever shows them.
const COOLDOWN: Duration = Duration::from_secs(30);
/// A request waits for keys so long at most.
const WAIT: Duration = Duration::from_secs(5);

/// The keys of one source. They outlive a reload that does not change where they come from.
pub(super) struct IssuerKeys {
    /// For the log.
    name: String,
    source: JwksSource,
    usage: KeyUse,
    clock: SharedClock,
    current: ArcSwapOption<Generation>,
    progress: Mutex<Progress>,
    /// Counts the attempts that have ended.
    ended: watch::Sender<u64>,
    wanted: Notify,
    generations: AtomicU64,
}

/// A set of keys, and which it is.
pub(super) struct Generation {
    pub(super) keys: KeySet,
    pub(super) number: u64,
    body: [u8; 32],
}

/// All by the boot-time clock.
#[derive(Default)]
struct Progress {
    under_way: bool,
    /// The last good answer.
    answered: Option<Duration>,
    /// The last fetch for an unknown `kid`.
    asked: Option<Duration>,
    last_error: Option<String>,
}

impl IssuerKeys {
    pub(super) fn new(settings: &IssuerSettings, clock: SharedClock) -> Self {
        Self {
            name: settings.name.clone(),
            source: settings.keys.clone(),
            usage: usage(&settings.kind),
            clock,
            current: ArcSwapOption::empty(),
            progress: Mutex::default(),
            ended: watch::Sender::new(0),
            wanted: Notify::new(),
            generations: AtomicU64::new(0),
        }
    }

    /// Whether these are the keys of that issuer.
    pub(super) fn are_of(&self, settings: &IssuerSettings) -> bool {
        self.source == settings.keys && self.usage == usage(&settings.kind)
    }

    /// The keys, if there was a good answer within `keep`.
    pub(super) fn usable(&self, keep: Duration) -> Option<Arc<Generation>> {
        let answered = self.progress.lock().answered?;
        let age = self.clock.boot().saturating_sub(answered);
        self.current.load_full().filter(|_| age <= keep)
    }

    /// Has the keys fetched for a token that names another key, unless that was done just now. All who wait share one
    /// fetch.
    pub(super) async fn refresh(&self) {
        let mut ended = self.ended.subscribe();
        {
            let now = self.clock.boot();
            let mut progress = self.progress.lock();
            let is_cool = progress.asked.is_none_or(|asked| asked + COOLDOWN <= now);
            if is_cool {
                progress.asked = Some(now);
                progress.under_way = true;
                self.wanted.notify_one();
            } else if !progress.under_way {
                return;
            }
        }
        // Whoever is late is refused, as if the keys had not come.
        let _ = timeout(WAIT, ended.changed()).await;
    }

    /// Fetches, for as long as it is polled.
    pub(super) async fn keep(&self) {
        let every = match self.source {
            JwksSource::File(_) => EVERY_FILE,
            _ => EVERY,
        };
        let answered = self.progress.lock().answered;
        let due = answered.map_or(Duration::ZERO, |answered| answered + every);
        let mut pause = due.saturating_sub(self.clock.boot());
        if self.progress.lock().under_way {
            // A reload has broken off the one before, and somebody may wait for it.
            pause = Duration::ZERO;
        }
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
            pause = if self.attempt().await { every } else { every.min(AGAIN) };
        }
    }

    /// Returns whether there was a good answer.
    async fn attempt(&self) -> bool {
        self.progress.lock().under_way = true;
        let answer = fetch::fetch(&self.source).await;
        self.finish(answer)
    }

    /// What comes of an attempt. A bad answer leaves the keys that are there.
    pub(super) fn finish(&self, answer: Result<Vec<u8>, String>) -> bool {
        let error = answer.and_then(|body| self.take(&body)).err();
        let is_good = error.is_none();
        {
            let mut progress = self.progress.lock();
            progress.under_way = false;
            match &error {
                None => progress.answered = Some(self.clock.boot()),
                Some(why) if progress.last_error.is_none() => tracing::warn!(
                    issuer = %self.name, %why,
                    "the keys of an issuer can't be had: those that are there are used for `keep`"
                ),
                Some(_) => {}
            }
            progress.last_error = error;
        }
        self.ended.send_modify(|ended| *ended += 1);
        is_good
    }

    fn take(&self, body: &[u8]) -> Result<(), String> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, body).as_ref());
        if self.current.load().as_ref().is_some_and(|current| current.body == hash) {
            return Ok(());
        }
        let keys = KeySet::parse(body, self.usage).map_err(|error| error.to_string())?;
        let number = self.generations.fetch_add(1, Ordering::Relaxed);
        self.current.store(Some(Arc::new(Generation {
            keys,
            number,
            body: hash,
        })));
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn attempts(&self) -> u64 {
        *self.ended.borrow()
    }

    pub(super) fn status(&self, settings: &IssuerSettings) -> IssuerStatus {
        let keys = self.usable(settings.keep).map_or(0, |current| current.keys.len());
        let progress = self.progress.lock();
        IssuerStatus {
            name: settings.name.clone(),
            keys,
            age: progress
                .answered
                .map(|answered| self.clock.boot().saturating_sub(answered)),
            last_error: progress.last_error.clone(),
        }
    }
}

fn usage(kind: &IssuerKind) -> KeyUse {
    match kind {
        IssuerKind::Issuer(_) => KeyUse::Signature,
        IssuerKind::Spiffe { .. } => KeyUse::JwtSvid,
    }
}
