//! Which of the replicas of a service account this process is, and how many there are, as the store says.
//!
//! Each replica reports itself in the watch's interval and learns its rank and the number of all. Ranks matter when the
//! store is gone: a few of the replicas take tokens of their own then.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::keys::Keys;
use super::scripts::{FLEET, MOST_VALUE_BYTES};
use super::server::{RedisStore, eval, millis};
use super::store::StoreError;

/// So many replicas take tokens of their own while the store is away: with two each, while one replaces the other, ten
/// below the hundred that Atlas lets live.
pub const SEATS: u32 = 45;
/// The most replicas that the store's table holds; whoever comes beyond them has this rank.
const MOST_REPLICAS: u32 = 1000;
/// A replica that says nothing for so long, while others do, is struck off: its rank is given to another. Some of the
/// watch's intervals, so that a step that fails costs nobody the rank.
const SILENT: Duration = Duration::from_secs(120);
/// So long after a table was begun, all who had a rank in the one before have reported: the watch reports every 15 s at the
/// latest, and after a failure every 6.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// The most that counts of a time without any report: of a small fleet's pauses too little, which makes it slow to strike
/// replicas off, and of a time without the store almost nothing.
const MOST_GAP: Duration = Duration::from_secs(2);
/// How long the table lies there without any report.
const TABLE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Beyond it the clock in an answer is none that the script gives, which begins anew at thirteen digits.
const MOST_CLOCK_MILLIS: u64 = 2_000_000_000_000;

/// What the store says of this replica and the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Which one it is, from 0: no two have the same.
    pub rank: u32,
    /// How many there are.
    pub number: u32,
    /// A time that is the same for all of them, from a beginning of its own.
    pub clock: Duration,
}

/// A replica's place in the fleet of one service account.
#[derive(Debug, Default)]
pub(crate) struct Place {
    key: String,
    heard: Mutex<Option<(Word, Instant)>>,
}

impl Place {
    /// The store's last word, with its clock as it stands now. `None`: it has never given a rank.
    pub(crate) fn word(&self) -> Option<Word> {
        let heard = *self.heard.lock();
        heard.map(|(word, at)| Word {
            clock: word.clock + at.elapsed(),
            ..word
        })
    }

    /// `rank` is `None` when the store gives none yet. While its table isn't `settled`, not all have reported: there are no
    /// fewer than before.
    fn hear(&self, rank: Option<u32>, number: u32, clock: Duration, settled: bool) {
        let Some(rank) = rank else { return };
        let mut heard = self.heard.lock();
        let before = heard.map_or(0, |(word, _)| word.number);
        let number = if settled { number } else { number.max(before) };
        *heard = Some((Word { rank, number, clock }, Instant::now()));
    }

    #[cfg(test)]
    pub(crate) fn forget(&self) -> parking_lot::MutexGuard<'_, Option<(Word, Instant)>> {
        self.heard.lock()
    }
}

/// The places of one process, one for each service account, and the name that it has in all of them.
pub(super) struct Places {
    /// 12 hexadecimal digits, by chance.
    name: String,
    taken: Mutex<Vec<Weak<Place>>>,
}

impl Default for Places {
    fn default() -> Self {
        let mut name = [0; 6];
        // Without randomness all would have one name, and one rank: as if there were no ranks.
        let _ = getrandom::fill(&mut name);
        Self {
            name: name.iter().map(|byte| format!("{byte:02x}")).collect(),
            taken: Mutex::default(),
        }
    }
}

impl Places {
    /// The place for these keys: reported as long as somebody holds it.
    pub(super) fn take(&self, keys: &Keys) -> Arc<Place> {
        let mut taken = self.taken.lock();
        taken.retain(|place| place.strong_count() > 0);
        let there = taken
            .iter()
            .filter_map(Weak::upgrade)
            .find(|place| place.key == keys.fleet);
        there.unwrap_or_else(|| {
            let place = Arc::new(Place {
                key: keys.fleet.clone(),
                heard: Mutex::default(),
            });
            taken.push(Arc::downgrade(&place));
            place
        })
    }

    fn all(&self) -> Vec<Arc<Place>> {
        self.taken.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

impl RedisStore {
    /// Says in each place that this replica is there, or that it leaves.
    pub(super) async fn report(&self, leaves: bool) -> Result<(), StoreError> {
        for place in self.places.all() {
            self.report_in(&place, leaves).await?;
        }
        Ok(())
    }

    async fn report_in(&self, place: &Place, leaves: bool) -> Result<(), StoreError> {
        let before = place.word();
        let mut command = eval(FLEET, &[&place.key]);
        command
            .arg(&self.places.name)
            .arg(before.map_or(-1, |word| i64::from(word.rank)))
            .arg(before.map_or(0, |word| millis(word.clock) % MOST_CLOCK_MILLIS))
            .arg(u8::from(leaves))
            .arg(millis(TABLE_LIFE))
            .arg(MOST_VALUE_BYTES - 1)
            .arg(SEATS)
            .arg(MOST_REPLICAS)
            .arg(millis(SILENT))
            .arg(millis(SETTLED_AFTER))
            .arg(millis(MOST_GAP));
        let (rank, number, clock, settled): (i64, u32, u64, u8) = self.step(&command).await?;
        let rank = match rank {
            -1 => None,
            rank => Some(u32::try_from(rank).unwrap_or(u32::MAX)),
        };
        let possible = rank.is_none_or(|rank| rank <= MOST_REPLICAS) && number <= MOST_REPLICAS + 1;
        if !possible || clock > MOST_CLOCK_MILLIS {
            return Err(self.odd_answer());
        }
        if !leaves {
            place.hear(rank, number, Duration::from_millis(clock), settled == 1);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod table;

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
