//! How much of Atlas one listener may use, so that one app can't use up the rate limit that all share
//! (`max_requests_per_minute`, `max_concurrent_requests`).

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The window that requests are counted in.
const WINDOW: Duration = Duration::from_secs(60);
/// When to try again at the bound of concurrent requests: nobody knows when one of them ends.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The bounds of one listener; `None`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FairnessLimits {
    /// Requests forwarded in any 60 s.
    pub per_minute: Option<NonZeroUsize>,
    /// Concurrent requests, each counted to the end of its answer.
    pub at_once: Option<NonZeroUsize>,
}

/// What a listener has used of Atlas. Outlives a change of the limits.
#[derive(Debug, Default)]
pub struct Usage(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    at_once: usize,
    /// When the requests of the last minute came, the oldest first. At most as many as the limit.
    recent: VecDeque<Instant>,
}

/// Which bound was met, and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) what: &'static str,
    pub(super) limit: usize,
    pub(super) retry_after: Duration,
}

/// One of the concurrent requests, until it is dropped.
#[derive(Debug)]
pub(super) struct ConcurrencyGuard(Option<Arc<Usage>>);

impl ConcurrencyGuard {
    /// Undoes the count of a request that is not forwarded after all.
    pub(super) fn give_back(self) {
        if let Some(usage) = &self.0 {
            usage.0.lock().recent.pop_back();
        }
    }
}

impl Drop for ConcurrencyGuard {
    fn drop(&mut self) {
        if let Some(usage) = &self.0 {
            let mut used = usage.0.lock();
            used.at_once = used.at_once.saturating_sub(1);
        }
    }
}

/// What is used of the bounds, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InUse {
    /// Requests forwarded in the last 60 s; counted only where there is a bound.
    pub last_minute: usize,
    /// Concurrent requests; counted only where there is a bound.
    pub at_once: usize,
}

impl Usage {
    /// What is used of the bounds, now.
    pub fn in_use(&self) -> InUse {
        let now = Instant::now();
        let used = self.0.lock();
        let recent = used.recent.iter().rev();
        InUse {
            last_minute: recent.take_while(|at| now - **at < WINDOW).count(),
            at_once: used.at_once,
        }
    }

    /// Counts a request against the bounds, if they allow it.
    pub(super) fn share(self: &Arc<Self>, limits: FairnessLimits) -> Result<ConcurrencyGuard, Exceeded> {
        if limits == FairnessLimits::default() {
            return Ok(ConcurrencyGuard(None));
        }
        let now = Instant::now();
        let mut used = self.0.lock();
        if let Some(most) = limits.at_once.map(NonZeroUsize::get)
            && used.at_once >= most
        {
            return Err(Exceeded {
                what: "max_concurrent_requests",
                limit: most,
                retry_after: RETRY_SOON,
            });
        }
        if let Some(most) = limits.per_minute.map(NonZeroUsize::get) {
            while used.recent.front().is_some_and(|at| now - *at >= WINDOW) {
                used.recent.pop_front();
            }
            if let Some(oldest) = used.recent.front().filter(|_| used.recent.len() >= most) {
                return Err(Exceeded {
                    what: "max_requests_per_minute",
                    limit: most,
                    retry_after: WINDOW.saturating_sub(now - *oldest),
                });
            }
            used.recent.push_back(now);
        }
        used.at_once += 1;
        drop(used);
        Ok(ConcurrencyGuard(Some(Arc::clone(self))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits(per_minute: usize, at_once: usize) -> FairnessLimits {
        FairnessLimits {
            per_minute: NonZeroUsize::new(per_minute),
            at_once: NonZeroUsize::new(at_once),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_the_limit() {
        let fairness = Arc::new(Usage::default());
        let limits = limits(10, 0);
        let mut passed: Vec<Instant> = Vec::new();
        for _ in 0..2000 {
            match fairness.share(limits) {
                Ok(_share) => {
                    let now = Instant::now();
                    passed.push(now);
                    assert!(passed.iter().filter(|at| now - **at < WINDOW).count() <= 10);
                }
                Err(exceeded) => assert_eq!(exceeded.what, "max_requests_per_minute"),
            }
            tokio::time::advance(Duration::from_millis(177)).await;
        }
        // 354 s: six windows, and each is used to the full.
        assert!(passed.len() >= 55, "{}", passed.len());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_when_it_passes() {
        let fairness = Arc::new(Usage::default());
        drop(fairness.share(limits(1, 0)).unwrap());
        tokio::time::advance(Duration::from_secs(20)).await;
        let exceeded = fairness.share(limits(1, 0)).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_secs(40));
        assert_eq!(fairness.in_use().last_minute, 1);
        tokio::time::advance(exceeded.retry_after).await;
        assert_eq!(fairness.in_use(), InUse::default());
        assert!(fairness.share(limits(1, 0)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn at_once_counts_what_is_not_ended() {
        let fairness = Arc::new(Usage::default());
        let (one, _two) = (
            fairness.share(limits(0, 2)).unwrap(),
            fairness.share(limits(0, 2)).unwrap(),
        );
        assert_eq!(
            fairness.share(limits(0, 2)).unwrap_err().what,
            "max_concurrent_requests"
        );
        drop(one);
        assert!(fairness.share(limits(0, 2)).is_ok());
        // Without limits nothing is counted.
        let unlimited = Arc::new(Usage::default());
        let _shares: Vec<_> = (0..100)
            .map(|_| unlimited.share(FairnessLimits::default()).unwrap())
            .collect();
        assert_eq!(unlimited.0.lock().at_once, 0);
    }
}
