//! Clocks as a parameter: what depends on time takes a [`Clock`], so that tests hand in their own.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The two clocks that decide whether a credential is still valid.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May jump either way.
    fn wall(&self) -> SystemTime;
    /// Time since boot *including sleep* (`CLOCK_BOOTTIME`): a laptop that slept two hours sees two hours pass.
    fn boot(&self) -> Duration;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Both parts of a CLOCK_BOOTTIME reading are never negative.
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}
