//! Places that are free, and how they are dealt out to whoever shares them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// When one of so many pools below has gone, the places are dealt out anew. With each that goes it would take too long where
/// there are thousands.
const DEAL_ANEW: usize = 8;

/// A place; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Some places. Half of them are dealt out to the pools below it, if there are any.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) free: Arc<Semaphore>,
    /// Places that are taken away as soon as they are free.
    owed: AtomicUsize,
    /// `None`: it has all that there are.
    above: Option<Arc<Pool>>,
    deal: Mutex<Deal>,
}

#[derive(Debug, Default)]
struct Deal {
    /// With those of the pools below.
    total: usize,
    own: usize,
    below: Vec<Weak<Pool>>,
    /// So many of them have gone since.
    gone: usize,
}

impl Pool {
    /// All places.
    pub(super) fn all(total: usize) -> Arc<Self> {
        let deal = Deal {
            total,
            own: total,
            ..Deal::default()
        };
        Arc::new(Self {
            free: Arc::new(Semaphore::new(total)),
            owed: AtomicUsize::new(0),
            above: None,
            deal: Mutex::new(deal),
        })
    }

    /// So many pools more below this one, each with its places at once. All are equal, and smaller than before: a place held
    /// beyond what a pool has is taken away as it becomes free.
    pub(super) fn divide(self: &Arc<Self>, more: usize) -> Vec<Arc<Self>> {
        let one = |_| {
            Arc::new(Self {
                free: Arc::new(Semaphore::new(0)),
                owed: AtomicUsize::new(0),
                above: Some(Arc::clone(self)),
                deal: Mutex::default(),
            })
        };
        let new: Vec<_> = (0..more).map(one).collect();
        let mut deal = self.deal.lock();
        deal.below.extend(new.iter().map(Arc::downgrade));
        let alive = self.deal_out(&mut deal);
        // One of these may be the last reference to its pool by now: dropped, it takes the lock.
        drop(deal);
        drop(alive);
        new
    }

    /// How many places are its own, free or not.
    pub(super) fn size(&self) -> usize {
        self.deal.lock().own
    }

    /// Divides the places anew. A pool that is gone counts for as long as places of it are held. Returns the pools below, to be
    /// dropped without the lock.
    fn deal_out(&self, deal: &mut Deal) -> Vec<Arc<Self>> {
        let alive: Vec<_> = deal.below.iter().filter_map(Weak::upgrade).collect();
        deal.below = alive.iter().map(Arc::downgrade).collect();
        deal.gone = 0;
        let each = (deal.total / 2).checked_div(alive.len()).unwrap_or(0);
        self.resize(&mut deal.own, deal.total - each * alive.len());
        for pool in &alive {
            let mut below = pool.deal.lock();
            below.total = each;
            let alive = pool.deal_out(&mut below);
            drop(below);
            drop(alive);
        }
        alive
    }

    /// A pool below, which had so many places, is gone.
    fn take_back(&self, places: usize) {
        let mut deal = self.deal.lock();
        deal.gone += 1;
        if deal.gone * DEAL_ANEW > deal.below.len() {
            let alive = self.deal_out(&mut deal);
            drop(deal);
            drop(alive);
        } else {
            let all = deal.own + places;
            self.resize(&mut deal.own, all);
        }
    }

    fn resize(&self, own: &mut usize, to: usize) {
        let less = own.saturating_sub(to);
        let more = to.saturating_sub(*own);
        *own = to;
        if less > 0 {
            let taken = self.free.forget_permits(less);
            self.owed.fetch_add(less - taken, Ordering::Relaxed);
        }
        self.give_back(more);
    }

    pub(super) fn try_take(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.place(permit))
    }

    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(self.place(permit))
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        Place {
            pool: Arc::clone(self),
            permit: Some(permit),
        }
    }

    pub(super) fn try_take_many(&self, places: usize) -> bool {
        let Ok(many) = u32::try_from(places) else { return false };
        match self.free.try_acquire_many(many) {
            Ok(permits) => {
                permits.forget();
                true
            }
            Err(_) => false,
        }
    }

    /// Makes so many places free, as far as they are not owed.
    pub(super) fn give_back(&self, places: usize) {
        self.free.add_permits(places - self.pay(places));
    }

    /// How many of these places were owed; they are not any more.
    fn pay(&self, places: usize) -> usize {
        if places == 0 || self.owed.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let owed = self
            .owed
            .update(Ordering::Relaxed, Ordering::Relaxed, |owed| owed.saturating_sub(places));
        owed.min(places)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(above) = self.above.take() {
            above.take_back(self.deal.get_mut().total);
        }
    }
}

impl Place {
    /// Whether it is one of these.
    pub(super) fn is_of(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.pool.pay(1) == 1
        {
            permit.forget();
        }
    }
}
