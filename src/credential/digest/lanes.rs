//! Nonces for one request at a time, and how many of them.
//!
//! A server that keeps account of nonces remembers few: Apache a dozen with its default of `AuthDigestShmemSize`; with one
//! more it forgets some that are in use. So there are few lanes, a few more while they are wanted, and fewer once one was
//! refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::nonce::Nonce;
use super::{PERMIT_WAIT, PermitTimeout};
use crate::fair::{Line, Part};

/// Lanes in use at a time, at first.
const AT_FIRST: usize = 4;
/// The most lanes in use at a time.
const MOST: usize = 8;
/// Lanes in addition, for requests that can be sent only once.
const ONCE: usize = 2;
/// After this many requests in a row that were accepted while no lane was free, one lane more is allowed.
const ACCEPTED_FOR_MORE: usize = 256;

/// The lanes of one key.
pub(super) struct Lanes {
    /// Nonces that nobody uses now, the one used last at the end.
    idle: Mutex<VecDeque<Arc<Nonce>>>,
    places: Arc<Semaphore>,
    once: Arc<Semaphore>,
    /// Lanes that may be in use at a time.
    limit: AtomicUsize,
    /// Places that are removed when they are given back.
    too_many: AtomicUsize,
    accepted_in_a_row: AtomicUsize,
}

/// The right to use a lane.
pub(super) struct LanePermit {
    lanes: Arc<Lanes>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for LanePermit {
    fn drop(&mut self) {
        let too_many = &self.lanes.too_many;
        let goes = too_many.try_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if goes.is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

impl Lanes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_FIRST)),
            once: Arc::new(Semaphore::new(ONCE)),
            limit: AtomicUsize::new(AT_FIRST),
            too_many: AtomicUsize::new(0),
            accepted_in_a_row: AtomicUsize::new(0),
        })
    }

    /// A place, when there is one within [`PERMIT_WAIT`]. `part`: takes turns with the other parts.
    pub(super) async fn permit(self: &Arc<Self>, part: &Part) -> Result<LanePermit, PermitTimeout> {
        Ok(LanePermit {
            lanes: Arc::clone(self),
            permit: permit(&self.places, part, Line::Repeatable).await?,
        })
    }

    /// A place for a request that can be sent only once. Those have their own: their clients may take their time.
    pub(super) async fn permit_for_once(&self, part: &Part) -> Result<Option<OwnedSemaphorePermit>, PermitTimeout> {
        permit(&self.once, part, Line::Once).await
    }

    /// The nonce that was used last, if one is idle: the others can age.
    pub(super) fn take(&self) -> Option<Arc<Nonce>> {
        self.idle.lock().pop_back()
    }

    pub(super) fn give_back(&self, nonce: Arc<Nonce>) {
        let mut idle = self.idle.lock();
        if idle.len() >= MOST {
            idle.pop_front();
        }
        idle.push_back(nonce);
    }

    /// A request on a lane was accepted.
    pub(super) fn accepted(&self) {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == MOST || self.places.available_permits() > 0 {
            return;
        }
        if self.accepted_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= ACCEPTED_FOR_MORE
            && self.set_limit(limit, limit + 1)
        {
            self.places.add_permits(1);
        }
    }

    /// The server refused a lane's nonce that was not too old: it has forgotten it.
    pub(super) fn refused(&self) {
        let limit = self.limit.load(Ordering::Relaxed);
        let fewer = (limit / 2).max(1);
        if fewer < limit && self.set_limit(limit, fewer) {
            self.too_many.fetch_add(limit - fewer, Ordering::AcqRel);
        }
    }

    /// False: another was faster.
    fn set_limit(&self, from: usize, to: usize) -> bool {
        self.accepted_in_a_row.store(0, Ordering::Relaxed);
        self.limit
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

/// One of the permits that all parts share, within [`PERMIT_WAIT`].
pub(super) async fn permit(
    permits: &Arc<Semaphore>,
    part: &Part,
    line: Line,
) -> Result<Option<OwnedSemaphorePermit>, PermitTimeout> {
    let permit = async {
        let _first = part.first_in_line(line).await;
        Arc::clone(permits).acquire_owned().await
    };
    match tokio::time::timeout(PERMIT_WAIT, permit).await {
        // The semaphore is never closed; if it were, the request should go on without a limit.
        Ok(permit) => Ok(permit.ok()),
        Err(_) => Err(PermitTimeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair::Places;

    fn part() -> Arc<Part> {
        Places::new(1).part()
    }

    async fn places(lanes: &Arc<Lanes>, number: usize) -> Vec<LanePermit> {
        let mut places = Vec::new();
        for _ in 0..number {
            places.push(lanes.permit(&part()).await.expect("a place"));
        }
        places
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_once_one_is_refused_and_more_again_while_they_are_wanted() {
        let lanes = Lanes::new();
        let held = places(&lanes, AT_FIRST).await;
        assert!(lanes.permit(&part()).await.is_err(), "no more");
        lanes.refused();
        drop(held);
        let held = places(&lanes, AT_FIRST / 2).await;
        assert!(lanes.permit(&part()).await.is_err(), "half of them");
        for _ in 0..ACCEPTED_FOR_MORE {
            lanes.accepted();
        }
        let more = places(&lanes, 1).await;
        assert!(lanes.permit(&part()).await.is_err());
        drop((held, more));
        for _ in 0..ACCEPTED_FOR_MORE * 20 {
            lanes.accepted();
        }
        assert_eq!(
            lanes.limit.load(Ordering::Relaxed),
            AT_FIRST / 2 + 1,
            "nobody wanted more"
        );
        for _ in 0..20 {
            lanes.refused();
        }
        let _one = places(&lanes, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_always_one() {
        let lanes = Lanes::new();
        for _ in 0..20 {
            let held = places(&lanes, lanes.limit.load(Ordering::Relaxed)).await;
            lanes.refused();
            drop(held);
        }
        let one = places(&lanes, 1).await;
        assert!(lanes.permit(&part()).await.is_err());
        for _ in 0..ACCEPTED_FOR_MORE * 20 {
            lanes.accepted();
            if lanes.places.available_permits() > 0 {
                break;
            }
        }
        drop(one);
        places(&lanes, 2).await;
    }
}
