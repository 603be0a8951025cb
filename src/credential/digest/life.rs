//! How long nonces live, as far as observed. Servers don't say (RFC 7616 section 3.3): Ops Manager 60 s, others less.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Assumed until something is observed: what a server with very short-lived nonces gives. Use raises it at once.
const AT_FIRST: Duration = Duration::from_secs(1);
/// No estimate goes below this: a nonce that goes stale at once is limited by use or by a restart, not by age.
const LEAST: Duration = Duration::from_secs(1);
/// Nor above this: an hour is as good as for ever here.
const MOST: Duration = Duration::from_secs(3600);

/// The estimate. Its age is counted from the nonce's arrival to the *sending* of a request, which errs to the short side.
pub(super) struct NonceLife {
    millis: AtomicU64,
}

impl NonceLife {
    pub(super) fn new() -> Self {
        Self {
            millis: AtomicU64::new(millis(AT_FIRST)),
        }
    }

    pub(super) fn observed(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }

    /// Young enough that a request which can be sent only once may rely on it.
    pub(super) fn is_young(&self, age: Duration) -> bool {
        age < self.observed() / 2
    }

    /// A nonce of this age was accepted. This also corrects an estimate that fell too low, for example by a restart of
    /// the server, which makes young nonces stale.
    pub(super) fn accepted_at(&self, age: Duration) {
        let age = millis(age);
        // Read first: in the steady state nothing is written.
        if age > self.millis.load(Ordering::Relaxed) {
            self.millis.fetch_max(age, Ordering::Relaxed);
        }
    }

    /// A nonce of this age was stale.
    pub(super) fn stale_at(&self, age: Duration) {
        self.millis.fetch_min(millis(age), Ordering::Relaxed);
    }
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.clamp(LEAST, MOST).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_at_first_then_what_is_seen() {
        let life = NonceLife::new();
        assert!(life.is_young(Duration::from_millis(499)));
        assert!(!life.is_young(Duration::from_millis(500)));
        life.accepted_at(Duration::from_secs(40));
        assert_eq!(life.observed(), Duration::from_secs(40));
        life.stale_at(Duration::from_secs(60));
        assert_eq!(
            life.observed(),
            Duration::from_secs(40),
            "stale after an idle time says nothing new"
        );
        life.stale_at(Duration::from_secs(30));
        assert_eq!(life.observed(), Duration::from_secs(30));
        life.accepted_at(Duration::from_secs(35));
        assert_eq!(life.observed(), Duration::from_secs(35));
    }

    #[test]
    fn the_estimate_has_bounds() {
        let life = NonceLife::new();
        life.stale_at(Duration::ZERO);
        assert_eq!(life.observed(), LEAST);
        assert!(life.is_young(Duration::from_millis(499)));
        life.accepted_at(Duration::MAX);
        assert_eq!(life.observed(), MOST);
    }
}
