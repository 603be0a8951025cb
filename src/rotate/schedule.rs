//! When the next rotation is due.

use std::time::{Duration, SystemTime};

/// After a rotation that failed: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Due once in every period. By the wall clock, so that a machine that slept catches up.
#[derive(Debug, Clone)]
pub struct Schedule {
    every: Duration,
    due: SystemTime,
    failures: u32,
}

impl Schedule {
    /// `made`: when the secret in use was made; a whole period is waited when that is not known.
    pub fn new(every: Duration, made: Option<SystemTime>, now: SystemTime) -> Self {
        let from = made.filter(|made| *made <= now).unwrap_or(now);
        Self {
            every,
            due: from.checked_add(every).unwrap_or(now),
            failures: 0,
        }
    }

    /// Due now.
    pub fn at_once(every: Duration, now: SystemTime) -> Self {
        Self {
            every,
            due: now,
            failures: 0,
        }
    }

    /// How long until it is due; zero: now.
    pub fn left(&self, now: SystemTime) -> Duration {
        // A clock that was set back must not postpone it.
        self.due.duration_since(now).unwrap_or_default().min(self.every)
    }

    /// To be called after each rotation.
    pub fn ended(&mut self, ok: bool, now: SystemTime) {
        let pause = if ok {
            self.failures = 0;
            self.every
        } else {
            self.failures = self.failures.saturating_add(1);
            let doubled = RETRY.0.saturating_mul(1 << (self.failures - 1).min(16));
            doubled.min(RETRY.1).min(self.every)
        };
        self.due = now.checked_add(pause).unwrap_or(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn is_due_a_period_after_the_secret_was_made() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        assert_eq!(
            Schedule::new(30 * DAY, Some(now - 40 * DAY), now).left(now),
            Duration::ZERO
        );
        assert_eq!(Schedule::new(30 * DAY, Some(now - 10 * DAY), now).left(now), 20 * DAY);
        assert_eq!(Schedule::new(30 * DAY, None, now).left(now), 30 * DAY);
        assert_eq!(
            Schedule::new(30 * DAY, Some(now + DAY), now).left(now),
            30 * DAY,
            "the clocks differ"
        );
    }

    #[test]
    fn a_failure_is_tried_again_sooner_and_sooner_never_than_a_minute() {
        let mut now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let mut schedule = Schedule::new(30 * DAY, Some(now - 30 * DAY), now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            schedule.ended(false, now);
            pauses.push(schedule.left(now).as_secs() / 60);
            now += schedule.left(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.ended(true, now);
        assert_eq!(schedule.left(now), 30 * DAY);
        assert_eq!(schedule.left(now - 90 * DAY), 30 * DAY, "the clock was set back");
    }
}
