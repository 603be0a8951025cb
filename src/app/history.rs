//! Requests of the last hour by minute, out of the counters that there are anyway: looked at every few seconds, so that a
//! request costs nothing more.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::admin::status::{ANSWERS, AccountHour, CLASSES, LastHour, MINUTES};
use crate::metrics::{AccountTotals, DURATION_CLASSES, duration_bounds};

/// What came between two looks counts to the minute of the first: so it is at most this much too early.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The most accounts that are told apart, 5 KiB each; all of them are in the sum.
const MOST_ACCOUNTS: usize = 64;
/// Of an account: answers by class, then tries by duration.
const OF_ACCOUNT: usize = ANSWERS.len() + DURATION_CLASSES;

/// What the counters say now.
pub(super) struct Totals {
    /// By [`CLASSES`].
    pub(super) all: [u64; CLASSES.len()],
    pub(super) accounts: BTreeMap<String, AccountTotals>,
}

/// The last hour.
#[derive(Default)]
pub(super) struct History(Mutex<State>);

#[derive(Default)]
struct State {
    /// The one that goes on, of the boot-time clock; `None`: nobody has looked yet.
    minute: Option<u64>,
    all: Track<{ CLASSES.len() }>,
    accounts: BTreeMap<String, Track<OF_ACCOUNT>>,
}

/// Counters over the minutes.
struct Track<const N: usize> {
    before: [u64; N],
    /// A ring: minute `m` is at `m % MINUTES`.
    minutes: [[u32; N]; MINUTES],
}

impl<const N: usize> Default for Track<N> {
    fn default() -> Self {
        Self {
            before: [0; N],
            minutes: [[0; N]; MINUTES],
        }
    }
}

fn place(minute: u64) -> usize {
    // Less than MINUTES.
    usize::try_from(minute % MINUTES as u64).unwrap_or(0)
}

impl<const N: usize> Track<N> {
    /// What was counted since the last look belongs to the minute that went on then, `last`; those after it, up to `now`, are
    /// new.
    fn look(&mut self, totals: [u64; N], last: u64, now: u64) {
        for ((sum, before), total) in self.minutes[place(last)].iter_mut().zip(&mut self.before).zip(totals) {
            let more = u32::try_from(total.saturating_sub(*before)).unwrap_or(u32::MAX);
            *sum = sum.saturating_add(more);
            *before = total;
        }
        for new in (last + 1..=now).rev().take(MINUTES) {
            self.minutes[place(new)] = [0; N];
        }
    }

    /// The oldest first.
    fn in_order(&self, now: u64) -> impl Iterator<Item = &[u32; N]> {
        let (newer, older) = self.minutes.split_at(place(now) + 1);
        older.iter().chain(newer)
    }
}

impl History {
    /// Takes in what the counters say at `now` of the boot-time clock.
    pub(super) fn look(&self, now: Duration, totals: &Totals) {
        let now = now.as_secs() / 60;
        let mut state = self.0.lock();
        let last = state.minute.unwrap_or(now);
        state.all.look(totals.all, last, now);
        state.accounts.retain(|name, _| totals.accounts.contains_key(name));
        for (name, totals) in &totals.accounts {
            if state.accounts.len() >= MOST_ACCOUNTS && !state.accounts.contains_key(name) {
                continue;
            }
            let [_, answers @ ..] = totals.classes;
            let mut counters = [0; OF_ACCOUNT];
            for (counter, total) in counters.iter_mut().zip(answers.iter().chain(&totals.durations)) {
                *counter = *total;
            }
            let track = state.accounts.entry(name.clone()).or_default();
            track.look(counters, last, now);
        }
        state.minute = Some(now.max(last));
    }

    /// The last hour, as of the last look.
    pub(super) fn last_hour(&self) -> LastHour {
        let state = self.0.lock();
        let now = state.minute.unwrap_or_default();
        let account = |track: &Track<OF_ACCOUNT>| {
            let mut durations = [0; DURATION_CLASSES];
            let minutes = track.in_order(now).map(|minute| {
                for (sum, count) in durations.iter_mut().zip(&minute[ANSWERS.len()..]) {
                    *sum += u64::from(*count);
                }
                std::array::from_fn(|class| minute[class])
            });
            AccountHour {
                classes: ANSWERS,
                minutes: minutes.collect(),
                p50: within(&durations, 50),
                p95: within(&durations, 95),
            }
        };
        LastHour {
            classes: CLASSES,
            minutes: state.all.in_order(now).copied().collect(),
            accounts: state
                .accounts
                .iter()
                .map(|(name, track)| (name.clone(), account(track)))
                .collect(),
        }
    }
}

/// Seconds within which so many of 100 lie, by the bounds of the classes.
fn within(durations: &[u64], of_100: u64) -> Option<f64> {
    let all: u64 = durations.iter().sum();
    let mut below = 0;
    let found = durations.iter().position(|count| {
        below += count;
        all > 0 && below * 100 >= all * of_100
    })?;
    duration_bounds().get(found).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn totals(ok: u64, failed: u64) -> Totals {
        let account = AccountTotals {
            classes: [0, ok, 0, 0, 0, failed],
            durations: std::array::from_fn(|class| if class == 5 { ok } else { 0 }),
        };
        Totals {
            all: [ok, 0, 0, 0, 0, failed],
            accounts: BTreeMap::from([("a".to_owned(), account)]),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ok_by_minute(history: &History) -> Vec<u32> {
        history.last_hour().minutes.iter().map(|minute| minute[0]).collect()
    }

    #[test]
    fn what_is_counted_stands_in_its_minute_and_is_gone_after_an_hour() {
        let history = History::default();
        history.look(at(6000), &totals(3, 1));
        assert_eq!(history.last_hour().minutes.len(), MINUTES);
        assert_eq!(history.last_hour().minutes[59], [3, 0, 0, 0, 0, 1]);
        // Seen after the end of its minute.
        history.look(at(6061), &totals(5, 1));
        history.look(at(6062), &totals(6, 1));
        assert_eq!(ok_by_minute(&history)[58..], [5, 1]);
        // Nobody has looked for a while: what came then came in the minute of the last look.
        history.look(at(6062 + 180), &totals(8, 1));
        assert_eq!(ok_by_minute(&history)[55..], [5, 3, 0, 0, 0]);
        let of_account = &history.last_hour().accounts["a"];
        assert_eq!(of_account.minutes[55], [5, 0, 0, 0, 1]);
        assert_eq!((of_account.p50, of_account.p95), (Some(0.1), Some(0.1)));
        history.look(at(6000 + 59 * 60), &totals(8, 1));
        assert_eq!(ok_by_minute(&history)[..3], [5, 3, 0]);
        history.look(at(6000 + 60 * 60), &totals(8, 1));
        assert_eq!(ok_by_minute(&history)[..3], [3, 0, 0]);
        history.look(at(6000 + 1000 * 60), &totals(8, 1));
        assert_eq!(ok_by_minute(&history), [0; MINUTES]);
        assert_eq!(history.last_hour().accounts["a"].p50, None);
    }

    #[test]
    fn the_sums_are_those_of_the_counters_however_often_it_is_looked_at() {
        let history = History::default();
        let mut last = 0;
        for (n, seconds) in (0..3000_u64).step_by(7).enumerate() {
            last = n as u64 * 3;
            history.look(at(9_999 + seconds), &totals(last, 0));
        }
        assert_eq!(ok_by_minute(&history).iter().map(|n| u64::from(*n)).sum::<u64>(), last);
    }

    #[test]
    fn accounts_are_bounded_and_forgotten_with_the_settings() {
        let history = History::default();
        let mut many = totals(1, 0);
        let one = many.accounts["a"];
        many.accounts = (0..MOST_ACCOUNTS + 5).map(|n| (format!("{n:04}"), one)).collect();
        history.look(at(60), &many);
        assert_eq!(history.last_hour().accounts.len(), MOST_ACCOUNTS);
        history.look(at(60), &totals(1, 0));
        assert_eq!(history.last_hour().accounts.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_share_lies_within_the_bound_of_its_class() {
        assert_eq!(within(&[0; 15], 50), None);
        let mut durations = [0; DURATION_CLASSES];
        durations[2] = 94;
        durations[14] = 6;
        assert_eq!(within(&durations, 50), Some(0.01));
        assert_eq!(within(&durations, 95), None, "beyond the last bound");
        durations[2] = 95;
        durations[14] = 5;
        assert_eq!(within(&durations, 95), Some(0.01));
    }
}
