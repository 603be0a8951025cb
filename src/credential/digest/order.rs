//! Whether the server minds the order in which the counts of a nonce reach it.
//!
//! Requests in flight that share a nonce arrive in another order than they were counted. RFC 7616 lets a server refuse that
//! (Apache with `AuthDigestNcCheck On`, one-time nonces, a count that must grow), and Atlas itself has done so
//! (terraform-provider-mongodbatlas#4623). Such a server gets each nonce from one request at a time ([`super::Turn`]).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How long a server that has shown that it minds the order is believed to; doubled each time it shows it again.
const AT_FIRST: Duration = Duration::from_secs(10 * 60);
/// When it has not shown it for this long after that, the doubling starts over.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Where the doubling ends.
const DOUBLINGS: u32 = 6;
/// After this many answers that came while a later count was on its way already, with no refusal between them, the
/// server counts as one that does not mind.
const OVERLAPS: u32 = 128;

/// What the server has shown.
#[derive(Default)]
pub(super) struct Order {
    /// Until when it is believed to mind, milliseconds of the boot-time clock. 0: it has never shown it, or not lately.
    minds_until: AtomicU64,
    /// How often it has shown it.
    times: AtomicU32,
    /// Answers that suggest that it doesn't mind.
    overlaps: AtomicU32,
}

impl Order {
    /// Costs one load where the server never showed it; `now` is called only otherwise.
    pub(super) fn minds(&self, now: impl FnOnce() -> Duration) -> bool {
        match self.minds_until.load(Ordering::Relaxed) {
            0 => false,
            until => millis(now()) < until,
        }
    }

    /// The server may mind: it refused a nonce that requests shared.
    pub(super) fn doubted(&self) {
        self.overlaps.store(0, Ordering::Relaxed);
    }

    /// The server refused a request on a shared nonce, and took the same request on one of its own. True when that is news.
    pub(super) fn shown(&self, now: Duration) -> bool {
        if self.minds(|| now) {
            return false;
        }
        let forgotten = self
            .minds_until
            .load(Ordering::Relaxed)
            .saturating_add(millis(FORGOTTEN_AFTER));
        if millis(now) >= forgotten {
            self.times.store(0, Ordering::Relaxed);
        }
        let doublings = self.times.fetch_add(1, Ordering::Relaxed).min(DOUBLINGS);
        let until = now.saturating_add(AT_FIRST * (1 << doublings));
        self.minds_until.store(millis(until).max(1), Ordering::Relaxed);
        true
    }

    /// The key was refused: the server had not shown that it minds.
    pub(super) fn forget(&self) {
        self.minds_until.store(0, Ordering::Relaxed);
        self.times.store(0, Ordering::Relaxed);
    }

    /// A request passed although a later count of its nonce had gone out before its answer came.
    pub(super) fn overlapped(&self) {
        // Read first: once enough were seen, nothing is written.
        if self.overlaps.load(Ordering::Relaxed) < OVERLAPS {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the server has shown that it does not mind.
    pub(super) fn is_indifferent(&self) -> bool {
        self.overlaps.load(Ordering::Relaxed) >= OVERLAPS
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_server_that_minds_is_believed_for_a_while_and_longer_each_time() {
        let order = Order::default();
        assert!(!order.minds(|| MINUTE));
        assert!(order.shown(MINUTE));
        assert!(!order.shown(2 * MINUTE), "no news");
        assert!(order.minds(|| 10 * MINUTE));
        assert!(!order.minds(|| 11 * MINUTE), "over");
        assert!(order.shown(12 * MINUTE));
        assert!(order.minds(|| 31 * MINUTE));
        assert!(!order.minds(|| 32 * MINUTE));
        let mut now = 32 * MINUTE;
        for _ in 0..20 {
            assert!(order.shown(now));
            assert!(!order.minds(|| now + 640 * MINUTE), "the doubling ends");
            while order.minds(|| now) {
                now += MINUTE;
            }
        }
        now += 60 * MINUTE;
        assert!(order.shown(now));
        assert!(!order.minds(|| now + 10 * MINUTE), "long ago: it begins anew");
        order.forget();
        assert!(!order.minds(|| Duration::ZERO));
    }

    #[test]
    fn many_overlaps_without_a_refusal_show_that_it_does_not_mind() {
        let order = Order::default();
        for _ in 0..OVERLAPS {
            assert!(!order.is_indifferent());
            order.overlapped();
        }
        assert!(order.is_indifferent());
        order.doubted();
        assert!(!order.is_indifferent());
    }
}
