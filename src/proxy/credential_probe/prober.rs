//! When the proxy asks, and how long what it found holds.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::fair::{Part, Places};

/// The least time from the start of one probe to the start of the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The most that a whole probe may take; a request whose 401 is in doubt waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Finding {
    /// The credential is refused where nothing but the credential can be the reason.
    Refused,
    /// It is accepted.
    Accepted,
    /// The probe told nothing.
    Unknown,
}

impl Finding {
    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Refused,
            StatusCode::TOO_MANY_REQUESTS => Self::Unknown,
            status if status.is_server_error() => Self::Unknown,
            _ => Self::Accepted,
        }
    }
}

/// The probes of one account.
#[derive(Debug)]
pub struct Prober {
    /// Apart from the places of clients' requests: those may all be taken by requests that wait for a finding.
    pub(super) part: Arc<Part>,
    /// Held while a probe is under way.
    last: tokio::sync::Mutex<Last>,
    /// A task of our own waits for a finding: another would learn nothing more.
    pub(super) in_background: AtomicBool,
    /// A task probes from time to time whether a refused credential is accepted again.
    pub(super) looking_again: AtomicBool,
    /// The finding about 401s that was logged last, so that it is logged once.
    said: Mutex<Option<Finding>>,
}

#[derive(Debug, Default)]
struct Last {
    began: Option<Instant>,
    /// When its probe began, which token it was about (0 for a key), and what it was.
    finding: Option<(Instant, u64, Finding)>,
}

impl Default for Prober {
    fn default() -> Self {
        Self {
            part: Places::new(1).part(),
            last: Default::default(),
            in_background: Default::default(),
            looking_again: Default::default(),
            said: Default::default(),
        }
    }
}

impl Prober {
    /// The finding for a request that was sent at `sent` with the token of this generation (0: with a key). `news` is
    /// called with the finding of each probe, once. A probe with an older token, which was revoked as usual, says
    /// nothing about its successor.
    pub(super) async fn ask<F>(
        &self,
        sent: Instant,
        generation: u64,
        probe: impl FnOnce() -> F,
        news: impl FnOnce(Finding),
    ) -> Finding
    where
        F: Future<Output = Finding>,
    {
        let mut last = self.last.lock().await;
        if let Some((began, about, finding)) = last.finding
            && began >= sent
            && about == generation
        {
            return finding;
        }
        if let Some(began) = last.began {
            tokio::time::sleep_until(began + PAUSE).await;
        }
        let began = Instant::now();
        // Noted before the probe: whoever asked may go away meanwhile, and the next must not ask at once.
        last.began = Some(began);
        let finding = tokio::time::timeout(LIMIT, probe()).await.unwrap_or(Finding::Unknown);
        last.finding = Some((began, generation, finding));
        news(finding);
        finding
    }

    /// Logs what 401s are about, once until that changes.
    pub(super) fn say(&self, account: &str, finding: Finding) {
        let mut said = self.said.lock();
        if said.replace(finding) == Some(finding) {
            return;
        }
        match finding {
            Finding::Refused => {
                tracing::warn!(
                    account,
                    "Atlas answered 401, and refuses the credential on a request of the proxy's own, too"
                );
            }
            Finding::Accepted => tracing::warn!(
                account,
                "Atlas answered 401 to a request, but accepts the credential: most likely its role does not allow the request"
            ),
            Finding::Unknown => tracing::warn!(
                account,
                "Atlas answered 401 to a request, and whether it accepts the credential cannot be told at the moment"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_an_answer_tells() {
        for (status, finding) in [
            (200, Finding::Accepted),
            (401, Finding::Refused),
            (403, Finding::Accepted),
            (404, Finding::Accepted),
            (429, Finding::Unknown),
            (500, Finding::Unknown),
            (503, Finding::Unknown),
        ] {
            assert_eq!(
                Finding::of(StatusCode::from_u16(status).unwrap_or_default()),
                finding,
                "{status}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_answers_all_who_were_sent_before_it() {
        let prober = Prober::default();
        let asked = AtomicUsize::new(0);
        let probe = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            Finding::Refused
        };
        let sent = Instant::now();
        for _ in 0..10 {
            assert_eq!(prober.ask(sent, 1, probe, |_| {}).await, Finding::Refused);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(sent.elapsed(), Duration::ZERO, "the first waits for nothing");
        tokio::time::advance(Duration::from_millis(10)).await;
        prober.ask(Instant::now(), 1, probe, |_| {}).await;
        assert_eq!(
            asked.load(Ordering::Relaxed),
            2,
            "what was sent later is asked about anew"
        );
        assert_eq!(sent.elapsed(), PAUSE, "a second after the first");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_about_one_token_is_not_said_of_another() {
        let prober = Prober::default();
        let sent = Instant::now();
        let refused = prober.ask(sent, 1, || async { Finding::Refused }, |_| {}).await;
        let accepted = prober.ask(sent, 2, || async { Finding::Accepted }, |_| {}).await;
        assert_eq!((refused, accepted), (Finding::Refused, Finding::Accepted));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_the_pause_and_no_finding() {
        let prober = Prober::default();
        let sent = Instant::now();
        let never = || std::future::pending::<Finding>();
        assert!(
            tokio::time::timeout(Duration::from_millis(100), prober.ask(sent, 1, never, |_| {}))
                .await
                .is_err()
        );
        let finding = prober.ask(sent, 1, || async { Finding::Accepted }, |_| {}).await;
        assert_eq!(finding, Finding::Accepted);
        assert_eq!(sent.elapsed(), PAUSE);
    }
}
