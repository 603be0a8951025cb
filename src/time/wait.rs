//! How long something is waited for. Only waits count, not the time between two of them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// Times one wait after the other. Costs nothing until the first.
#[derive(Debug, Default)]
pub struct WaitTimer {
    /// When the wait that is under way began.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl WaitTimer {
    /// When the wait began: now, if none was under way.
    pub fn begin(&mut self) -> Instant {
        *self.since.get_or_insert_with(Instant::now)
    }

    /// The wait that is under way, if any, is over.
    pub fn end(&mut self) {
        self.since = None;
    }

    /// Ready at `until`. A timer that would fire before then is left to: most waits end sooner, and moving it costs more than to
    /// look again.
    pub fn poll_until(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() < until {
            timer.as_mut().reset(until);
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits for as long as `limit`, in one wait.
    async fn waited(timer: &mut WaitTimer, limit: Duration) {
        let until = timer.begin() + limit;
        poll_fn(|cx| timer.poll_until(cx, until)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn time_between_two_waits_does_not_count() {
        let mut timer = WaitTimer::default();
        assert!(
            tokio::time::timeout(SECOND, waited(&mut timer, 2 * SECOND))
                .await
                .is_err()
        );
        timer.end();
        tokio::time::sleep(10 * SECOND).await;
        let start = Instant::now();
        waited(&mut timer, 2 * SECOND).await;
        assert_eq!(start.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_goes_on_over_many_looks() {
        let mut timer = WaitTimer::default();
        let start = Instant::now();
        for _ in 0..2 {
            assert!(
                tokio::time::timeout(SECOND, waited(&mut timer, 3 * SECOND))
                    .await
                    .is_err()
            );
        }
        waited(&mut timer, 3 * SECOND).await;
        assert_eq!(start.elapsed(), 3 * SECOND);
    }
}
