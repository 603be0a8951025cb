//! One access token and its two expiries.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use super::answer::{Granted, Ownership};
use super::plan;
use crate::lease::Lease;
use crate::time::Clock;

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) wall: SystemTime,
    pub(crate) boot: Duration,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.wall(),
            boot: clock.boot(),
        }
    }

    fn after(self, time: Duration) -> Self {
        Self {
            wall: self.wall.checked_add(time).unwrap_or(self.wall),
            boot: self.boot.saturating_add(time),
        }
    }
}

/// An access token, ready to be sent. Cheap to clone; `Debug` shows nothing of the value.
#[derive(Clone)]
pub struct Token(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    header: HeaderValue,
    generation: u64,
    expires_at: SystemTime,
    usable_until: Moment,
    renew_at: Duration,
    ownership: Ownership,
    /// Whether others have got it since.
    published: AtomicBool,
    /// Whether Atlas refuses it.
    refused: AtomicBool,
    nudged: AtomicBool,
    lease: Lease,
}

impl Token {
    /// The life counts from `asked`, the moment *before* the request (less the time that was waited until it was made):
    /// the server can only have issued it later.
    pub(crate) fn new(granted: &Granted, asked: Moment, generation: u64, random: f64) -> Self {
        let asked = asked.after(granted.counts_after());
        let (life, age) = (granted.life(), granted.age());
        let left = life.saturating_sub(age);
        // The parser bounds a life to 30 days. Where even that is beyond the clock's range, the token counts as expired.
        Self(Arc::new(Inner {
            header: granted.header().clone(),
            generation,
            expires_at: asked.after(left).wall,
            usable_until: asked.after(left.saturating_sub(plan::expiry_margin(life))),
            renew_at: asked
                .boot
                .saturating_add(plan::renew_after(life, random).saturating_sub(age)),
            ownership: granted.ownership(),
            published: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            nudged: AtomicBool::new(false),
            lease: Lease::default(),
        }))
    }

    /// Gives this hold on the token up. Returns a copy to revoke it with, and what is cancelled when nobody holds the
    /// original any more.
    pub(crate) fn retire(self) -> (Self, CancellationToken) {
        let end = self.0.lease.end();
        (Self(Arc::new(self.0.leased_anew())), end)
    }

    /// The value for `Authorization`: `Bearer …`, marked as sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.0.header
    }

    /// Counts the tokens of one account in this process, from 1.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// When Atlas said that it ends, by the wall clock.
    pub fn expires_at(&self) -> SystemTime {
        self.0.expires_at
    }

    /// Whose it is.
    pub fn ownership(&self) -> Ownership {
        match self.0.ownership {
            Ownership::Own if self.0.published.load(Ordering::Acquire) => Ownership::Published,
            ownership => ownership,
        }
    }

    /// From now on others have it, too.
    pub(crate) fn published(&self) {
        self.0.published.store(true, Ordering::Release);
    }

    /// It is to be replaced because Atlas refuses it.
    pub(crate) fn refused(&self) {
        self.0.refused.store(true, Ordering::Relaxed);
    }

    /// Whether it is to be replaced because Atlas refuses it.
    #[cfg(feature = "token-store")]
    pub(crate) fn is_refused(&self) -> bool {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// When it is to be replaced, by the boot clock.
    pub(crate) fn renew_at(&self) -> Duration {
        self.0.renew_at
    }

    /// How long it may still be used; `None`: no longer.
    pub(crate) fn left(&self, now: Moment) -> Option<Duration> {
        if self.0.expired(now) {
            return None;
        }
        let until = self.0.usable_until;
        // A wall clock that was set back says too much; the boot clock bounds it.
        let wall = until.wall.duration_since(now.wall).unwrap_or(Duration::ZERO);
        Some(wall.min(until.boot.saturating_sub(now.boot)))
    }
}

impl Inner {
    fn leased_anew(&self) -> Self {
        Self {
            header: self.header.clone(),
            generation: self.generation,
            expires_at: self.expires_at,
            usable_until: self.usable_until,
            renew_at: self.renew_at,
            ownership: self.ownership,
            published: AtomicBool::new(self.published.load(Ordering::Acquire)),
            refused: AtomicBool::new(self.refused.load(Ordering::Relaxed)),
            nudged: AtomicBool::new(true),
            lease: Lease::default(),
        }
    }

    /// Expired as soon as *either* clock says so: the wall clock misses that it was set back, the boot clock misses
    /// that a virtual machine was paused.
    pub(crate) fn expired(&self, now: Moment) -> bool {
        now.boot >= self.usable_until.boot || now.wall >= self.usable_until.wall
    }

    /// True once: for the first to notice that the renewal is due (timers stop while a machine sleeps).
    pub(crate) fn first_to_find_due(&self, now: Moment) -> bool {
        now.boot >= self.renew_at && !self.nudged.load(Ordering::Relaxed) && !self.nudged.swap(true, Ordering::Relaxed)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.0.generation)
            .field("expires_at", &self.0.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const START: Moment = Moment {
        wall: SystemTime::UNIX_EPOCH,
        boot: Duration::from_secs(1000),
    };

    fn hour() -> Token {
        Token::new(&Granted::for_tests("sesame", 3600), START, 1, 0.5)
    }

    fn at(wall: i64, boot: i64) -> Moment {
        let d = Duration::from_secs(wall.unsigned_abs());
        Moment {
            wall: if wall < 0 { START.wall - d } else { START.wall + d },
            boot: Duration::from_secs(u64::try_from(1000 + boot).unwrap()),
        }
    }

    #[test]
    fn either_clock_expires_it() {
        let token = hour();
        assert_eq!(token.left(at(0, 0)), Some(Duration::from_secs(3599)));
        assert_eq!(token.left(at(3598, 3598)), Some(Duration::from_secs(1)));
        assert_eq!(token.left(at(0, 3599)), None, "the machine slept");
        assert_eq!(token.left(at(3599, 0)), None, "the wall clock was set forward");
        assert_eq!(token.left(at(i64::from(i32::MAX), 10)), None);
        assert_eq!(token.left(at(-315_360_000, 100)), Some(Duration::from_secs(3499)));
        assert_eq!(
            token.left(at(-315_360_000, 3600)),
            None,
            "set back, and old all the same"
        );
        assert_eq!(token.expires_at(), START.wall + Duration::from_secs(3600));
    }

    #[test]
    fn the_first_to_find_it_due_is_told_so() {
        let token = hour();
        assert!(!token.0.first_to_find_due(at(0, 2879)));
        assert!(token.0.first_to_find_due(at(0, 2880)));
        assert!(!token.0.first_to_find_due(at(0, 2880)));
    }

    #[test]
    fn one_that_others_asked_for_has_lived_a_while() {
        let [life, age] = [3600, 600].map(Duration::from_secs);
        let taken = Granted::taken("sesame", life, age).unwrap();
        let token = Token::new(&taken.counting_after(Duration::from_secs(7)), START, 1, 0.5);
        assert_eq!(token.expires_at(), START.wall + Duration::from_secs(3007));
        assert_eq!(token.left(at(7, 7)), Some(Duration::from_secs(2999)));
        assert_eq!(token.renew_at(), at(2287, 2287).boot, "at 80 % of the whole life");
        let old = Granted::taken("sesame", life, Duration::from_secs(3000)).unwrap();
        assert_eq!(Token::new(&old, START, 1, 0.5).renew_at(), START.boot, "at once");
        let over = Granted::taken("sesame", life, Duration::from_secs(4000)).unwrap();
        assert_eq!(Token::new(&over, START, 1, 0.5).left(START), None);
    }

    #[test]
    fn debug_hides_the_value() {
        let token = hour();
        assert_eq!(token.header(), "Bearer sesame");
        for shown in [format!("{token:?}"), format!("{:#?} {:?}", token, token.header())] {
            assert!(!shown.contains("sesame"), "{shown}");
        }
    }
}
