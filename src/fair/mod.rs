//! Shares out what is scarce: half of the places are for anybody, the other half is divided into equal parts.
//!
//! So one listener, or one caller, alone may use all but its neighbours' parts, and none is ever left without a place. A part
//! may be shared out in turn, by the same rule.

mod amount;
mod pool;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{MutexGuard, Semaphore};

pub use amount::Amount;
pub use pool::Place;
use pool::Pool;
pub use turns::{Sharer, Step, Turns};

/// Queues that all parts wait in: one for each thing, since a waiter for one thing may hold another.
#[derive(Debug, Clone, Copy)]
pub enum Line {
    /// For leave to send a request.
    Requests = 0,
    /// For a place for a request that can be repeated.
    Repeatable = 1,
    /// For a place for a request that can't be repeated.
    Once = 2,
}

/// Places that several share.
#[derive(Debug)]
pub struct Places {
    common: Arc<Pool>,
}

/// One sharer's part of the places.
#[derive(Debug)]
pub struct Part {
    own: Arc<Pool>,
    common: Arc<Pool>,
    /// How many wait for a place.
    waiting: AtomicUsize,
    /// One for each [`Line`], held by the waiter of this part that is in that queue.
    lines: [tokio::sync::Mutex<()>; 3],
}

impl Places {
    /// `total` places, at least one.
    pub fn new(total: usize) -> Arc<Self> {
        Self::amount(total.max(1))
    }

    /// Places by the byte, or another amount that is taken many at a time; it may be 0.
    pub fn amount(total: usize) -> Arc<Self> {
        Arc::new(Self {
            common: Pool::all(total.min(Semaphore::MAX_PERMITS)),
        })
    }

    /// A part for one more sharer. All parts are equal, and smaller than before: a place held beyond a part is taken
    /// away as it becomes free, and the new part has its places at once.
    pub fn part(&self) -> Arc<Part> {
        self.parts(1).remove(0)
    }

    /// The same for several: at once, since each dealing out goes through all parts.
    pub fn parts(&self, more: usize) -> Vec<Arc<Part>> {
        let part = |own| Part::of(own, &self.common);
        self.common.divide(more).into_iter().map(part).collect()
    }
}

impl Part {
    fn of(own: Arc<Pool>, common: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            own,
            common: Arc::clone(common),
            waiting: AtomicUsize::new(0),
            lines: Default::default(),
        })
    }

    /// Parts of this part's own places, for those who share it: half stays its own, half is dealt out to them.
    pub fn parts(&self, more: usize) -> Vec<Arc<Self>> {
        let part = |own| Self::of(own, &self.common);
        self.own.divide(more).into_iter().map(part).collect()
    }

    /// Whether a place is of this part's own.
    pub fn owns(&self, place: &Place) -> bool {
        place.is_of(&self.own)
    }

    /// How many places are nobody else's, free or not.
    pub fn size(&self) -> usize {
        self.own.size()
    }

    /// Whether so many places are free now.
    pub fn has(&self, places: usize) -> bool {
        let free = |pool: &Pool| pool.free.available_permits();
        free(&self.own).saturating_add(free(&self.common)) >= places
    }

    /// Waits until no other waiter of this part is in that queue of all parts, and keeps others out while the guard is
    /// held: so the parts take turns in the queue, however many waiters each has.
    pub async fn first_in_line(&self, line: Line) -> MutexGuard<'_, ()> {
        self.lines[line as usize].lock().await
    }

    /// A place, if one is free.
    pub fn try_take(&self) -> Option<Place> {
        self.own.try_take().or_else(|| self.common.try_take())
    }

    /// The same, but of its own only where there is no other: what it has may be kept for a time when others have all.
    pub fn try_take_sparing(&self) -> Option<Place> {
        self.common.try_take().or_else(|| self.own.try_take())
    }

    /// Makes a place of another part of the same places one of this part's; whether there was one.
    pub fn take_over(&self, place: &mut Place) -> bool {
        if let Some(own) = self.own.try_take() {
            *place = own;
            return true;
        }
        // A common one is anybody's.
        if place.is_of(&self.common) {
            return true;
        }
        self.common.try_take().is_some_and(|common| {
            *place = common;
            true
        })
    }

    /// A place as soon as one is free. `None`: as many as `most` wait already.
    pub async fn take(&self, most: usize) -> Option<Place> {
        if let Some(place) = self.try_take() {
            return Some(place);
        }
        let _waiting = Waiting::new(&self.waiting, most)?;
        tokio::select! {
            place = self.own.take() => place,
            place = self.common.take() => place,
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    fn all(part: &Part) -> Vec<Place> {
        std::iter::from_fn(|| part.try_take()).collect()
    }

    #[test]
    fn one_alone_may_have_all_and_nobody_is_left_without() {
        let places = Places::new(8);
        let one = places.part();
        assert_eq!(all(&one).len(), 8);
        let other = places.part();
        let (mine, yours) = (all(&one), all(&other));
        assert_eq!((mine.len(), yours.len()), (6, 2));
        assert!(one.try_take().is_none() && other.try_take().is_none());
        drop(mine);
        assert_eq!(all(&other).len(), 4, "the common half is anybody's");
        // Too few to deal out: all are common.
        let few = Places::new(1);
        let (one, other) = (few.part(), few.part());
        let place = one.try_take().unwrap();
        assert!(other.try_take().is_none());
        drop(place);
        assert!(other.try_take().is_some());
    }

    #[test]
    fn places_that_are_taken_when_parts_become_smaller_are_not_lent_again() {
        let places = Places::new(8);
        let one = places.part();
        let mut held = all(&one);
        let other = places.part();
        assert_eq!(all(&other).len(), 2, "its part, at once");
        while held.pop().is_some() {
            let free = all(&other).len();
            assert!(held.len() + free <= 8 + 2);
        }
        assert_eq!(all(&one).len(), 6);
        assert_eq!(all(&other).len(), 6);
        drop(one);
        assert_eq!(all(&other).len(), 8, "the part of one that is gone is dealt out again");
        let third = places.part();
        assert_eq!(all(&third).len(), 6);
        // Not while places of it are held.
        let held = third.own.try_take().unwrap();
        drop(third);
        assert_eq!(all(&other).len(), 6);
        drop(held);
        assert_eq!(all(&other).len(), 8);
        drop(other);
        assert_eq!(all(&places.part()).len(), 8);
    }

    #[test]
    fn who_takes_a_place_over_gives_the_other_part_its_own_back() {
        let places = Places::new(8);
        let (from, to) = (places.part(), places.part());
        let mut held = all(&from);
        assert_eq!(held.len(), 6, "its part, and the common half");
        assert!(held.iter_mut().take(2).all(|place| to.take_over(place)), "its part");
        assert_eq!(all(&from).len(), 2, "what it gave up is free again");
        let common = |place: &&mut Place| place.is_of(&to.common);
        assert!(held.iter_mut().filter(common).all(|place| to.take_over(place)));
        let mut last = from.try_take().unwrap();
        assert!(!to.take_over(&mut last), "neither its part nor a common place is free");
        assert!(from.try_take().is_some(), "the place is still what it was");
        held.clear();
        assert!(to.take_over(&mut last));
    }

    #[test]
    fn a_part_is_shared_out_in_turn_and_keeps_half() {
        let places = Places::new(64);
        let (one, other) = (places.part(), places.part());
        let below = one.parts(4);
        assert_eq!(below.iter().map(|part| part.size()).collect::<Vec<_>>(), [2; 4]);
        assert_eq!((one.size(), other.size()), (8, 16));
        // The greedy one has its part, and what is anybody's; not what its listener keeps for others.
        let held = all(&below[0]);
        assert_eq!(
            (held.len(), all(&one).len(), all(&below[1]).len(), all(&other).len()),
            (34, 8, 2, 16)
        );
        let third = places.part();
        assert_eq!((one.size(), below[1].size(), third.size()), (6, 1, 10));
        drop(third);
        // Who is gone counts for as long as it holds places.
        drop(below);
        assert_eq!(one.size(), 8);
        drop(held);
        assert_eq!((one.size(), all(&one).len()), (16, 48));
        // A part whose sharers hold places is not lent again.
        let below = one.parts(1).remove(0);
        let held = below.own.try_take().unwrap();
        drop((one, below));
        assert_eq!(all(&other).len(), 48);
        drop(held);
        assert_eq!(all(&other).len(), 64);
    }

    #[test]
    fn thousands_of_parts_are_made_and_dropped_and_no_place_is_lost() {
        let places = Places::new(100_000);
        let first = places.part();
        let mut many = places.parts(9_999);
        assert_eq!((first.size(), many[0].size()), (5, 5));
        many.truncate(9_000);
        let fewer = first.size();
        assert!((5..=6).contains(&fewer), "{fewer}");
        assert_eq!(all(&many[0]).len(), 100_000 - 9_000 * fewer);
        many.clear();
        assert_eq!((first.size(), all(&first).len()), (50_000, 100_000));
    }

    #[tokio::test(start_paused = true)]
    async fn parts_take_turns_however_many_wait_in_one() {
        let places = Places::new(2);
        let (many, few) = (places.part(), places.part());
        let shared = Arc::new(Semaphore::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for (who, part) in [many.clone(), many.clone(), many, few].into_iter().enumerate() {
            let (shared, order) = (Arc::clone(&shared), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let first = part.first_in_line(Line::Requests).await;
                shared.acquire().await.unwrap().forget();
                drop(first);
                order.lock().push(who);
            }));
            tokio::task::yield_now().await;
        }
        for turn in 1..=4 {
            shared.add_permits(1);
            while order.lock().len() < turn {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(*order.lock(), [0, 3, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_and_counted() {
        let places = Places::new(1);
        let part = places.part();
        let first = part.take(1).await.unwrap();
        let next = tokio::spawn({
            let part = Arc::clone(&part);
            async move { part.take(1).await.is_some() }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(part.take(1).await.is_none(), "as many wait as may");
        drop(first);
        assert!(next.await.unwrap());
        assert_eq!(part.waiting.load(Ordering::Relaxed), 0);
    }
}
