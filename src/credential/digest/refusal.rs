//! Whether the key itself counts as refused.
//!
//! One 401 says little: Atlas gives the same answer to no credential, to a wrong one, and sometimes to a right one
//! under concurrency (which it takes for a replay), and a path may answer 401 to everybody. So refusals are counted by
//! nonce, any success clears them, and a suspicion has to be confirmed by a request of our own on another path.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// After this many fresh nonces refused in a row, or 401s passed on, with no success between them, the key is
/// suspected.
const REFUSALS: u32 = 2;
/// How long a refused key's 401s go to the client without a retry, so that a wrong key costs one request, not three.
const PAUSE: Duration = Duration::from_secs(30);

/// The count, the judgement and the pause.
#[derive(Default)]
pub(super) struct Refusals {
    in_a_row: AtomicU32,
    confirmed: AtomicBool,
    paused_until: Mutex<Duration>,
}

impl Refusals {
    /// A fresh nonce was refused, or a client gets a 401.
    pub(super) fn add(&self) {
        let before = self.in_a_row.load(Ordering::Relaxed);
        self.in_a_row.store(before.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether there were enough refusals to ask whether the key is refused everywhere.
    pub(super) fn suspected(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) >= REFUSALS
    }

    /// The key is refused everywhere. True when that is news.
    pub(super) fn confirm(&self, now: Duration) -> bool {
        *self.paused_until.lock() = now.saturating_add(PAUSE);
        !self.confirmed.swap(true, Ordering::Relaxed)
    }

    /// A request passed. True when the key was refused until now. Costs two loads when there is nothing to clear.
    pub(super) fn clear(&self) -> bool {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        if !self.confirmed.load(Ordering::Relaxed) {
            return false;
        }
        *self.paused_until.lock() = Duration::ZERO;
        self.confirmed.swap(false, Ordering::Relaxed)
    }

    pub(super) fn key_refused(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// What is left of the pause.
    pub(super) fn pause_left(&self, now: Duration) -> Option<Duration> {
        if !self.key_refused() {
            return None;
        }
        self.paused_until.lock().checked_sub(now).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_in_a_row_are_a_suspicion_and_a_success_clears() {
        let refusals = Refusals::default();
        refusals.add();
        assert!(!refusals.suspected());
        assert!(!refusals.clear());
        refusals.add();
        refusals.add();
        assert!(refusals.suspected());
        assert!(!refusals.key_refused(), "nobody has confirmed it");
        assert!(!refusals.clear(), "it was not refused");
        assert!(!refusals.suspected());
    }

    #[test]
    fn a_confirmed_refusal_pauses_the_retry() {
        let refusals = Refusals::default();
        let at = Duration::from_secs;
        assert_eq!(refusals.pause_left(at(0)), None);
        assert!(refusals.confirm(at(3)));
        assert!(refusals.key_refused());
        assert_eq!(refusals.pause_left(at(4)), Some(at(29)));
        assert_eq!(refusals.pause_left(at(33)), None, "over");
        assert!(refusals.key_refused(), "still refused: nothing has passed");
        assert!(!refusals.confirm(at(40)), "no news");
        assert_eq!(refusals.pause_left(at(40)), Some(PAUSE), "the pause begins again");
        assert!(refusals.clear());
        assert!(!refusals.key_refused());
        assert_eq!(refusals.pause_left(at(41)), None);
    }
}
