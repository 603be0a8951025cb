//! When to ask for a token: arithmetic without clocks, I/O or randomness of its own. `random` is in `0.0..1.0`.

use std::collections::VecDeque;
use std::time::Duration;

/// The least pause between two token requests.
pub(crate) const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that the backoff makes by itself.
pub(crate) const MOST_PAUSE: Duration = Duration::from_secs(60);
/// A `Retry-After` is honoured up to this: Atlas's limits count per minute, and a wrong date in the header (or a wrong
/// clock here) must not silence the proxy for a year.
pub(crate) const MOST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// At most this many forced renewals within [`FORCED_WITHIN`]: each may cost one of the 100 live tokens that Atlas
/// allows, and one of the 10 that it grants a minute.
const MOST_FORCED: usize = 5;
const FORCED_WITHIN: Duration = Duration::from_secs(10 * 60);

/// How long before its expiry a token stops being used: it has to reach Atlas, perhaps over a connection that is yet to
/// be made, and `expires_in` is in whole seconds. 5 % of the life, at most a second.
pub fn expiry_margin(life: Duration) -> Duration {
    (life / 20).min(Duration::from_secs(1))
}

/// The age at which a token is replaced: 80 % of its life, give or take 5 % of the life so that replicas which started
/// together part ways. Always earlier than life less [`expiry_margin`].
pub fn renew_after(life: Duration, random: f64) -> Duration {
    life.mul_f64(0.75 + 0.10 * random.clamp(0.0, 1.0))
}

/// The pause after the `failures`th failure in a row (from 1): 1, 2, 4, … 40 s and up to half of that again, so within
/// `LEAST_PAUSE` and `MOST_PAUSE`; never before what the server asked for, and up to 10 % later than that.
pub fn backoff(failures: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let random = random.clamp(0.0, 1.0);
    let doublings = failures.saturating_sub(1).min(6);
    // 40 s and half of it make MOST_PAUSE: jitter remains at the end of the doubling, too.
    let base = LEAST_PAUSE.saturating_mul(1 << doublings).min(MOST_PAUSE * 2 / 3);
    let own = base.mul_f64(1.0 + 0.5 * random);
    let asked = retry_after.map_or(Duration::ZERO, |d| d.min(MOST_RETRY_AFTER).mul_f64(1.0 + 0.1 * random));
    own.max(asked).max(LEAST_PAUSE)
}

/// Decides whether a token that Atlas refuses may be replaced before its time: at least [`LEAST_PAUSE`] after the last one
/// (which [`super::renew`] sees to), and at most [`MOST_FORCED`] times within [`FORCED_WITHIN`].
#[derive(Debug, Default)]
pub(crate) struct ForceGate {
    /// The newest generation whose replacement was asked for; 0: none.
    newest: u64,
    /// When, by the boot clock; the newest last.
    times: VecDeque<Duration>,
}

impl ForceGate {
    /// Whether the refused token of this generation may be (or is already being) replaced. `now` is of the boot clock.
    pub(crate) fn admits(&mut self, generation: u64, now: Duration) -> bool {
        if generation <= self.newest {
            return true;
        }
        while self
            .times
            .front()
            .is_some_and(|at| now.saturating_sub(*at) >= FORCED_WITHIN)
        {
            self.times.pop_front();
        }
        if self.times.len() >= MOST_FORCED {
            return false;
        }
        self.times.push_back(now);
        self.newest = generation;
        true
    }

    /// The newest generation whose replacement was asked for; 0: none.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn renewal_is_at_four_fifths_of_life_and_before_the_margin() {
        assert_eq!(renew_after(secs(3600), 0.5), secs(2880));
        for life in [1, 2, 5, 60, 3600, 30 * 86_400].map(secs) {
            for random in [0.0, 0.3, 0.999_999, 1.0, 7.0] {
                let at = renew_after(life, random);
                assert!(
                    at >= life * 3 / 4 && at < life - expiry_margin(life),
                    "{life:?} {random} {at:?}"
                );
            }
        }
    }

    #[test]
    fn the_margin_is_small_and_never_the_whole_life() {
        assert_eq!(expiry_margin(secs(3600)), secs(1));
        assert_eq!(expiry_margin(secs(5)), Duration::from_millis(250));
        assert_eq!(expiry_margin(secs(1)), Duration::from_millis(50));
    }

    #[test]
    fn backoff_grows_from_one_second_to_sixty_with_jitter_at_both_ends() {
        assert_eq!(backoff(1, None, 0.0), secs(1));
        assert_eq!(backoff(3, None, 0.0), secs(4));
        let mut least = Duration::ZERO;
        for failures in 1..1000 {
            let (low, high) = (backoff(failures, None, 0.0), backoff(failures, None, 1.0));
            assert!(low >= LEAST_PAUSE && high <= MOST_PAUSE && low < high && low >= least);
            least = low;
        }
        assert_eq!(backoff(u32::MAX, None, 1.0), MOST_PAUSE);
        assert!(backoff(0, None, 0.0) >= LEAST_PAUSE);
    }

    #[test]
    fn retry_after_is_a_floor_and_is_bounded() {
        assert_eq!(backoff(1, Some(secs(17)), 0.0), secs(17));
        assert!(backoff(1, Some(secs(17)), 1.0) > secs(17));
        assert!(
            backoff(9, Some(secs(1)), 0.0) >= secs(40),
            "no shortcut around the backoff"
        );
        assert_eq!(backoff(1, Some(secs(0)), 0.0), secs(1));
        assert_eq!(backoff(1, Some(Duration::MAX), 0.0), MOST_RETRY_AFTER);
    }

    #[test]
    fn a_refused_token_is_replaced_once() {
        let mut gate = ForceGate::default();
        assert!(gate.admits(1, secs(100)));
        assert!(gate.admits(1, secs(100)), "others with the same token join");
        assert_eq!(gate.newest(), 1);
        assert!(gate.admits(2, secs(101)), "its successor may be revoked, too");
        assert_eq!(gate.newest(), 2);
    }

    #[test]
    fn five_in_ten_minutes_at_most() {
        let mut gate = ForceGate::default();
        for generation in 1..=5 {
            assert!(gate.admits(generation, secs(generation)));
        }
        assert!(!gate.admits(6, secs(6)));
        assert!(!gate.admits(6, secs(600)));
        assert_eq!(gate.newest(), 5);
        assert!(gate.admits(6, secs(601)), "the first is ten minutes ago");
        assert!(!gate.admits(7, secs(601)));
        assert!(gate.admits(7, secs(602)));
    }
}
