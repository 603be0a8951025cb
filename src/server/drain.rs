//! The end of serving: say that it comes, stop accepting, let requests in flight finish, then break off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    BreakingOff,
}

/// The owner's side. Not `Clone`: one place decides.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    /// Every connection holds a clone of the sender: when all are gone, `recv` ends.
    alive: mpsc::Receiver<()>,
    handle: DrainHandle,
}

/// What a listener and each connection hold.
#[derive(Debug, Clone)]
pub struct DrainHandle {
    phase: watch::Receiver<Phase>,
    /// Connections are to end with their next answer. Not in the phase, since each request reads it.
    leaving: Arc<AtomicBool>,
    _alive: mpsc::Sender<()>,
}

impl Default for Drain {
    fn default() -> Self {
        let (phase, seen) = watch::channel(Phase::Serving);
        let (alive, all_gone) = mpsc::channel(1);
        Self {
            phase,
            alive: all_gone,
            handle: DrainHandle {
                phase: seen,
                leaving: Arc::default(),
                _alive: alive,
            },
        }
    }
}

impl Drain {
    /// A handle for one more listener or connection.
    pub fn handle(&self) -> DrainHandle {
        self.handle.clone()
    }

    /// Goes on accepting, but tells clients that each answer is the last of its connection: the drain will come.
    pub fn announce(&self) {
        self.handle.leaving.store(true, Ordering::Relaxed);
    }

    /// Starts the drain; returns whether all ended within `limit`. What did not end is broken off.
    pub async fn drain(self, limit: Duration) -> bool {
        self.announce();
        let Self {
            phase,
            mut alive,
            handle,
        } = self;
        drop(handle);
        phase.send_replace(Phase::Draining);
        let in_time = tokio::time::timeout(limit, alive.recv()).await.is_ok();
        phase.send_replace(Phase::BreakingOff);
        // Broken off connections end at their next poll.
        let _ = tokio::time::timeout(Duration::from_millis(500), alive.recv()).await;
        in_time
    }
}

impl DrainHandle {
    /// Whether an answer is the last of its connection.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Ends when the drain begins.
    pub async fn draining(&mut self) {
        // An error means that the owner is gone, which is the end, too.
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Ends when the time to drain is over.
    pub async fn breaking_off(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase == Phase::BreakingOff).await;
    }
}
