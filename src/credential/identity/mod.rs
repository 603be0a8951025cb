//! How a sidecar shows a gateway of this program who it is: a token or a client certificate, read from files that
//! somebody else renews. No credential of Atlas is part of it.

mod files;
mod life;
mod refusal;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use tokio::time::Instant;

use crate::time::SharedClock;
use crate::upstream::Era;

use files::RawFiles;
pub use files::{IdentityError, LARGEST_IDENTITY_FILE, Shown};
pub use life::time;
pub use refusal::detail;
pub use settings::{IdentityFiles, IdentitySettings};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest that a request waits until the files are read anew.
const MOST_WAIT: Duration = Duration::from_secs(2);
/// So many failed readings in a row are reported: files that are written one after the other don't fit for a moment.
const REPORTED_FAILURE: u32 = 2;

/// What is told of an identity.
pub trait IdentityEvents: Send + Sync {
    /// Whether the one that is shown has not ended.
    fn usable(&self, usable: bool);
}

/// An identity, as it was read last. One that can't be read, is none or has ended leaves the one before in force, as long as
/// that has not ended itself.
pub struct Identity {
    account: String,
    files: IdentityFiles,
    shown: ArcSwap<Shown>,
    /// The next one begins with each new certificate: a connection stands for the certificate that it was made with.
    era: Era,
    reading: tokio::sync::Mutex<Readings>,
    usable: AtomicBool,
    /// The gateway has refused the one that is shown, and the log has it.
    refused: AtomicBool,
    clock: SharedClock,
    events: Arc<dyn IdentityEvents>,
}

struct Readings {
    /// When the last one began.
    began: Instant,
    /// The same of the last one that found what is there now: a command gives what it gave, unless it is run.
    began_anew: Instant,
    /// What it found.
    raw: Option<RawFiles>,
    /// Why the last ones failed, and how many in a row did so.
    error: String,
    failures: u32,
    /// The log has it that the identity in force is over.
    over: bool,
}

impl Identity {
    /// The identity that the settings were read with. `account` is for the log.
    pub fn new(
        account: &str,
        settings: &IdentitySettings,
        clock: SharedClock,
        events: Arc<dyn IdentityEvents>,
    ) -> Self {
        let usable = !settings.first.is_over(clock.wall());
        events.usable(usable);
        Self {
            account: account.to_owned(),
            files: settings.files.clone(),
            shown: ArcSwap::new(Arc::clone(&settings.first)),
            era: Era::default(),
            reading: tokio::sync::Mutex::new(Readings {
                began: Instant::now(),
                began_anew: Instant::now(),
                raw: None,
                error: String::new(),
                failures: 0,
                over: false,
            }),
            usable: AtomicBool::new(usable),
            refused: AtomicBool::new(false),
            clock,
            events,
        }
    }

    /// Reads the files as long as it is polled, so that what is renewed there is shown from then on.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.read(Instant::now(), false).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the one that is shown has not ended, by its own word. What the gateway thinks of it is not asked.
    pub fn usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// Until when it is good, by its own word; `None`: it does not say.
    pub fn until(&self) -> Option<SystemTime> {
        self.shown.load().until()
    }

    /// Whether the gateway refused it when it was shown last.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// What requests carry; `None`: the connection shows who it is.
    pub fn authorization(&self) -> Option<HeaderValue> {
        match &**self.shown.load() {
            Shown::Token(header) => Some(header.clone()),
            Shown::Certificate(_) => None,
        }
    }

    /// Reads the files now, however lately they were read; a command is run again, 10 s after its last start. What is there
    /// then is shown from then on.
    pub async fn read_anew(&self) {
        // The reading goes on in `run` when this gives up.
        let _ = tokio::time::timeout(MOST_WAIT, self.read(Instant::now(), true)).await;
    }

    /// Connections made before another certificate was read are of an earlier era.
    pub fn era(&self) -> &Era {
        &self.era
    }

    /// The same configuration, which shows the certificate, if there is one, in each handshake.
    #[must_use]
    pub fn shown_by(self: &Arc<Self>, mut tls: ClientConfig) -> ClientConfig {
        if matches!(self.files, IdentityFiles::Certificate { .. }) {
            tls.client_auth_cert_resolver = Arc::clone(self) as _;
            // A resumed session stands for the certificate of the first one.
            tls.resumption = Resumption::disabled();
        }
        tls
    }

    /// One reading at a time; those who asked before it began share it.
    async fn read(&self, asked: Instant, anew: bool) {
        let anew = anew || !matches!(self.files, IdentityFiles::Command(_));
        let mut last = self.reading.lock().await;
        if (if anew { last.began_anew } else { last.began }) > asked {
            return;
        }
        last.began = Instant::now();
        if anew {
            last.began_anew = last.began;
        }
        match self.files.read(anew).await {
            Ok(raw) if last.raw.as_ref() == Some(&raw) && last.failures == 0 => {}
            Ok(raw) => match raw.parse().and_then(|shown| self.unless_over(shown)) {
                Ok(shown) => {
                    last.raw = Some(raw);
                    if std::mem::take(&mut last.failures) >= REPORTED_FAILURE {
                        tracing::info!(account = self.account, "the identity can be read again");
                    }
                    self.show(shown);
                }
                Err(error) => self.failed(&mut last, &error),
            },
            Err(error) => self.failed(&mut last, &error),
        }
        self.judge(&mut last);
    }

    /// One that has ended takes the place of none that has not. Where both have, a clock that is wrong here must not keep
    /// the newer one back.
    fn unless_over(&self, shown: Shown) -> Result<Shown, IdentityError> {
        let now = self.clock.wall();
        match shown.until() {
            Some(until) if until <= now && !self.shown.load().is_over(now) => Err(IdentityError::Over(until)),
            _ => Ok(shown),
        }
    }

    fn failed(&self, last: &mut Readings, error: &IdentityError) {
        let said = error.to_string();
        if last.error != said {
            last.failures = 0;
            last.error = said;
        }
        last.failures = last.failures.saturating_add(1);
        if last.failures != REPORTED_FAILURE {
            return;
        }
        let life = self.shown.load().life();
        match error {
            IdentityError::File { .. } | IdentityError::Command { .. } | IdentityError::Thread(_) => tracing::warn!(
                account = self.account,
                %error,
                "the identity can't be read; the one before is shown to the gateway, and is good {life}"
            ),
            _ => tracing::error!(
                account = self.account,
                %error,
                "what was read is no identity to show; the one before is shown to the gateway on, and is good {life}"
            ),
        }
    }

    /// Whether the one in force has ended.
    fn judge(&self, last: &mut Readings) {
        let shown = self.shown.load();
        let over = shown.is_over(self.clock.wall());
        if over != std::mem::replace(&mut last.over, over) {
            if over {
                tracing::error!(
                    account = self.account,
                    file = %self.files.dated().display(),
                    "the identity that the gateway is shown was good {}: whoever writes it has to renew it",
                    shown.life()
                );
            } else {
                tracing::info!(
                    account = self.account,
                    "the identity that the gateway is shown has not ended"
                );
            }
        }
        if self.usable.swap(!over, Ordering::Relaxed) == over {
            self.events.usable(!over);
        }
    }

    /// What the gateway made of the one that is shown, after it was read anew. `refusal`: why it does not know it; the log
    /// has the first in a row.
    pub fn judged(&self, refusal: Option<&str>) {
        let before = self.refused.swap(refusal.is_some(), Ordering::Relaxed);
        if let Some(refusal) = refusal.filter(|_| !before) {
            tracing::warn!(
                account = self.account,
                refusal,
                "the gateway does not know the identity that it is shown, also after that was read anew: `atlas-auth-proxy check` \
                 shows which step fails"
            );
        }
    }

    fn show(&self, shown: Shown) {
        if **self.shown.load() == shown {
            return;
        }
        let certificate = matches!(shown, Shown::Certificate(_));
        self.shown.store(Arc::new(shown));
        self.refused.store(false, Ordering::Relaxed);
        if certificate {
            // After it is stored: what connects from now on shows it.
            self.era.end();
        }
        tracing::info!(
            account = self.account,
            "another identity was read: the gateway is shown it from now on"
        );
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match &**self.shown.load() {
            Shown::Certificate(pair) => Some(Arc::clone(pair)),
            Shown::Token(_) => None,
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
