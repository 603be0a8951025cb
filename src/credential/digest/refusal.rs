//! Whether the key itself counts as refused.
//!
//! One 401 says little: Atlas answers no credential, a wrong one, and sometimes a right one under concurrency (a replay
//! that was none) all alike. So refusals are counted by nonce, and any success clears them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many fresh nonces refused in a row, with no success between them, and the key counts as refused.
const REFUSALS: u32 = 2;
/// For so long a refused key's 401s go to the client without a retry, so that a wrong key costs one request, not three.
const PAUSE: Duration = Duration::from_secs(30);

/// The count and the pause.
#[derive(Default)]
pub(super) struct Refusals {
    in_a_row: AtomicU32,
    paused_until: Mutex<Duration>,
}

impl Refusals {
    /// A fresh nonce was refused. True when the key becomes refused by it.
    pub(super) fn add(&self, now: Duration) -> bool {
        let before = self.in_a_row.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(1) < REFUSALS {
            return false;
        }
        *self.lock() = now.saturating_add(PAUSE);
        before.saturating_add(1) == REFUSALS
    }

    /// A request passed. True when the key was refused until now. Costs a load when there is nothing to clear.
    pub(super) fn clear(&self) -> bool {
        if self.in_a_row.load(Ordering::Relaxed) == 0 {
            return false;
        }
        *self.lock() = Duration::ZERO;
        self.in_a_row.swap(0, Ordering::Relaxed) >= REFUSALS
    }

    pub(super) fn key_refused(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) >= REFUSALS
    }

    /// What is left of the pause.
    pub(super) fn pause_left(&self, now: Duration) -> Option<Duration> {
        if !self.key_refused() {
            return None;
        }
        self.lock().checked_sub(now).filter(|left| !left.is_zero())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_in_a_row_pause_the_retry_and_a_success_clears() {
        let refusals = Refusals::default();
        let at = Duration::from_secs;
        assert!(!refusals.add(at(1)));
        assert!(!refusals.clear(), "it was not refused yet");
        assert!(!refusals.add(at(2)));
        assert!(refusals.add(at(3)));
        assert!(refusals.key_refused());
        assert_eq!(refusals.pause_left(at(4)), Some(at(29)));
        assert_eq!(refusals.pause_left(at(33)), None, "over");
        assert!(refusals.key_refused(), "still refused: nothing has passed");
        assert!(!refusals.add(at(40)), "refused before");
        assert_eq!(
            refusals.pause_left(at(40)),
            Some(PAUSE),
            "one more refusal renews the pause"
        );
        assert!(refusals.clear());
        assert!(!refusals.key_refused());
        assert_eq!(refusals.pause_left(at(41)), None);
    }
}
