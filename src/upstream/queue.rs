//! How many requests may be on their way to one upstream at a time, and how many may wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for its turn.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Requests that wait at a time; more are refused at once.
const MOST_WAITING: usize = 4096;

#[derive(Debug)]
pub(super) struct Queue {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Queue {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A place; it is given back when dropped. `None`: there was none in time.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let _waiting = Waiting::new(&self.waiting)?;
        tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.places).acquire_owned())
            .await
            .ok()?
            .ok()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.place().await.unwrap();
        assert!(queue.place().await.is_none(), "waits in vain");
        let next = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.place().await.is_some() }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
        assert!(next.await.unwrap());
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_waiting_are_bounded() {
        let queue = Queue::new(1);
        let _first = queue.place().await.unwrap();
        queue.waiting.store(MOST_WAITING, Ordering::Relaxed);
        assert!(queue.place().await.is_none());
        assert_eq!(queue.waiting.load(Ordering::Relaxed), MOST_WAITING);
    }
}
