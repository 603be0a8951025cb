//! How long a request body is waited for. Only time in which the proxy waits for the client counts: what the upstream takes
//! is not the client's fault.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::inbound::ClientFault;
use crate::time::WaitTimer;

/// The time of waiting that a rate is averaged over.
const WINDOW: Duration = Duration::from_secs(30);

/// What is left of the time that one body may take.
pub(super) struct BodyTimer {
    idle_limit: Duration,
    /// Bytes that must come in each window, at least.
    least: u64,
    /// Bytes that have come in the current window.
    came: u64,
    /// What was left of the current window when the last wait ended.
    left: Duration,
    /// When the current window ends, if the wait that is under way goes on.
    window_ends: Option<Instant>,
    /// Without a timer until the first wait: most bodies come with their head.
    wait: WaitTimer,
}

impl BodyTimer {
    /// `least`: bytes a second; 0: any.
    pub(super) fn new(idle_limit: Duration, least: usize) -> Self {
        Self {
            idle_limit,
            least: (least as u64).saturating_mul(WINDOW.as_secs()),
            came: 0,
            left: WINDOW,
            window_ends: None,
            wait: WaitTimer::default(),
        }
    }

    /// Something came.
    pub(super) fn received(&mut self, bytes: usize) {
        self.came = self.came.saturating_add(bytes as u64);
        if let Some(window_ends) = self.window_ends.take() {
            self.left = window_ends.saturating_duration_since(Instant::now());
            self.wait.end();
        }
    }

    /// The wait that is under way, if any, is over, and none of it counts: nobody may have read for most of it.
    pub(super) fn begin_anew(&mut self) {
        self.window_ends = None;
        self.wait.end();
    }

    /// To be polled while nothing comes: ready when the client has paused for too long or was too slow.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<ClientFault> {
        let began = self.wait.begin();
        let gives_up = began + self.idle_limit;
        loop {
            let window_ends = *self.window_ends.get_or_insert(began + self.left);
            let next = match self.least {
                0 => gives_up,
                _ => gives_up.min(window_ends),
            };
            ready!(self.wait.poll_until(cx, next));
            let now = Instant::now();
            if now >= gives_up {
                return Poll::Ready(ClientFault::Idle);
            }
            if now >= window_ends {
                if self.came < self.least {
                    return Poll::Ready(ClientFault::Slow);
                }
                self.came = 0;
                self.window_ends = Some(now + WINDOW);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// The fault for which a client that sends `bytes` every so often, with pauses of ours between, is given up.
    async fn lost(timer: &mut BodyTimer, bytes: usize, every: Duration, ours: Duration) -> Option<ClientFault> {
        for _ in 0..1000 {
            if let Ok(fault) = tokio::time::timeout(every, poll_fn(|cx| timer.poll_expired(cx))).await {
                return Some(fault);
            }
            timer.received(bytes);
            tokio::time::sleep(ours).await;
        }
        None
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_too_slow_after_a_window() {
        let start = Instant::now();
        let mut timer = BodyTimer::new(WINDOW, 1024);
        assert_eq!(
            lost(&mut timer, 1023, SECOND, Duration::ZERO).await,
            Some(ClientFault::Slow)
        );
        assert_eq!(start.elapsed(), WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_as_fast_as_asked_is_not() {
        let mut timer = BodyTimer::new(WINDOW, 1024);
        assert_eq!(lost(&mut timer, 1100, SECOND, Duration::ZERO).await, None);
        let mut any = BodyTimer::new(WINDOW, 0);
        assert_eq!(lost(&mut any, 1, SECOND, Duration::ZERO).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_for_the_client_does_not_count() {
        let mut timer = BodyTimer::new(WINDOW, 1024);
        assert_eq!(lost(&mut timer, 1100, SECOND, 10 * SECOND).await, None);
    }

    /// The body's next reader comes after a pause of ours, in which the wait of the reader before went on.
    #[tokio::test(start_paused = true)]
    async fn nor_does_it_where_a_reader_stops_in_the_middle_of_its_wait() {
        let mut timer = BodyTimer::new(WINDOW, 1024);
        for _ in 0..10 {
            let waited = tokio::time::timeout(SECOND, poll_fn(|cx| timer.poll_expired(cx))).await;
            assert!(waited.is_err());
            tokio::time::sleep(2 * WINDOW).await;
            timer.begin_anew();
            timer.received(1);
        }
        assert_eq!(lost(&mut timer, 1100, SECOND, Duration::ZERO).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_too_long_by_itself() {
        let start = Instant::now();
        let mut timer = BodyTimer::new(5 * SECOND, 1024);
        assert_eq!(
            lost(&mut timer, 1 << 20, 6 * SECOND, Duration::ZERO).await,
            Some(ClientFault::Idle)
        );
        assert_eq!(start.elapsed(), 5 * SECOND);
    }
}
