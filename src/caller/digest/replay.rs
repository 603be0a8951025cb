//! Which counts of which nonces were taken: each once, in any order within a window.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::nonce::{LIFE, NonceId, SKEW};
use crate::caller::CallerName;

/// How far counts may overtake each other, as many as the bits of a window.
const WINDOW: u32 = u64::BITS;
/// The most nonces remembered: 4000 in a second, none of them used twice.
const MOST: usize = 1 << 17;
/// The most of one caller, so that it can't take the place of the others.
const MOST_OF_ONE: usize = MOST / 4;
/// Longer than any nonce stays good after it was used.
const REMEMBERED: Duration = LIFE.saturating_add(SKEW).saturating_mul(2);

/// The memory of one process.
#[derive(Default)]
pub(in crate::caller) struct Replays {
    /// Counts are a caller's own: no other can use them up.
    seen: HashMap<CallerName, HashMap<NonceId, Window>>,
    /// In the order in which they are forgotten.
    ends: VecDeque<(Duration, CallerName, NonceId)>,
}

/// Whether a count is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is, and is remembered now.
    Now,
    /// It was taken before, or is too far behind to tell.
    Before,
    /// There is no room to remember it.
    NoRoom,
}

/// The highest count, and which of those up to 63 below it were taken.
struct Window {
    top: u32,
    taken: u64,
}

impl Replays {
    /// Takes a count of a nonce, after a right response to it. `now`: boot-time clock.
    pub(super) fn take(&mut self, caller: &CallerName, nonce: NonceId, count: u32, now: Duration) -> Taken {
        self.forget(now);
        if let Some(window) = self.seen.get_mut(caller).and_then(|nonces| nonces.get_mut(&nonce)) {
            return if window.take(count) { Taken::Now } else { Taken::Before };
        }
        let of_one = self.seen.get(caller).map_or(0, HashMap::len);
        if self.ends.len() >= MOST || of_one >= MOST_OF_ONE {
            return Taken::NoRoom;
        }
        let window = Window { top: count, taken: 1 };
        self.seen.entry(caller.clone()).or_default().insert(nonce, window);
        self.ends.push_back((now + REMEMBERED, caller.clone(), nonce));
        Taken::Now
    }

    fn forget(&mut self, now: Duration) {
        while let Some((_, caller, nonce)) = self.ends.pop_front_if(|(end, ..)| *end <= now) {
            let Some(nonces) = self.seen.get_mut(&caller) else {
                continue;
            };
            nonces.remove(&nonce);
            if nonces.is_empty() {
                self.seen.remove(&caller);
            }
        }
    }
}

impl Window {
    fn take(&mut self, count: u32) -> bool {
        if let Some(ahead) = count.checked_sub(self.top).filter(|ahead| *ahead > 0) {
            self.taken = self.taken.checked_shl(ahead).unwrap_or(0) | 1;
            self.top = count;
            return true;
        }
        let behind = self.top - count;
        let bit = 1u64.checked_shl(behind).unwrap_or(0);
        let is_new = behind < WINDOW && self.taken & bit == 0;
        self.taken |= bit;
        is_new
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> CallerName {
        CallerName::parse(text).unwrap()
    }

    const NOW: Duration = Duration::from_secs(1_000);

    fn id(n: usize) -> NonceId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        id
    }

    #[test]
    fn a_count_is_taken_once_and_overtaken_within_a_window() {
        let (mut replays, a) = (Replays::default(), name("a"));
        for (count, taken) in [
            (1, Taken::Now),
            (1, Taken::Before),
            (65, Taken::Now),
            (2, Taken::Now),
            (1, Taken::Before),
            (2, Taken::Before),
            (66, Taken::Now),
            (3, Taken::Now),
            (u32::MAX, Taken::Now),
            (u32::MAX, Taken::Before),
            (67, Taken::Before),
        ] {
            assert_eq!(replays.take(&a, id(0), count, NOW), taken, "{count}");
        }
        assert_eq!(replays.take(&a, id(1), 1, NOW), Taken::Now, "another nonce");
        assert_eq!(replays.take(&name("b"), id(0), 1, NOW), Taken::Now, "another caller");
    }

    #[test]
    fn it_is_forgotten_when_the_nonce_is_long_stale() {
        let (mut replays, a) = (Replays::default(), name("a"));
        replays.take(&a, id(0), 1, NOW);
        let before = NOW + LIFE + SKEW;
        assert_eq!(replays.take(&a, id(0), 1, before), Taken::Before);
        assert_eq!(replays.take(&a, id(0), 1, NOW + REMEMBERED), Taken::Now);
        assert_eq!((replays.ends.len(), replays.seen.len()), (1, 1));
    }

    #[test]
    fn memory_is_bounded_and_one_caller_gets_a_quarter() {
        let mut replays = Replays::default();
        let a = name("a");
        for n in 0..MOST_OF_ONE {
            assert_eq!(replays.take(&a, id(n), 1, NOW), Taken::Now);
        }
        assert_eq!(replays.take(&a, id(MOST), 1, NOW), Taken::NoRoom);
        assert_eq!(
            replays.take(&a, id(0), 2, NOW),
            Taken::Now,
            "a nonce that is there needs no more room"
        );
        for caller in ["b", "c", "d"] {
            for n in 0..MOST_OF_ONE {
                assert_eq!(replays.take(&name(caller), id(n), 1, NOW), Taken::Now);
            }
        }
        assert_eq!(replays.take(&name("e"), id(0), 1, NOW), Taken::NoRoom);
        assert_eq!(replays.take(&name("e"), id(0), 1, NOW + REMEMBERED), Taken::Now);
    }

    proptest! {
        /// Against a set that forgets nothing.
        #[test]
        fn nothing_is_taken_twice(counts in proptest::collection::vec(1u32..200, 0..200)) {
            let (mut replays, a, mut all) = (Replays::default(), name("a"), HashSet::new());
            let mut top = 0;
            for count in counts {
                let is_new = all.insert(count);
                let near = top < WINDOW || count > top - WINDOW;
                top = top.max(count);
                let expected = if is_new && near { Taken::Now } else { Taken::Before };
                prop_assert_eq!(replays.take(&a, id(0), count, NOW), expected, "{}", count);
            }
        }
    }
}
