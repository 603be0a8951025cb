//! A clock that the test puts forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use atlas_auth_proxy::time::{Clock, SystemClock};

/// The machine's clocks, ahead by what the test says.
#[derive(Default)]
pub struct StepClock(AtomicU64);

impl StepClock {
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn ahead(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

impl Clock for StepClock {
    fn wall(&self) -> SystemTime {
        SystemClock.wall() + self.ahead()
    }

    fn boot(&self) -> Duration {
        SystemClock.boot() + self.ahead()
    }
}
