//! When the next rotation is due.

use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::time::Clock;

/// How often the clocks are read.
const TICK: Duration = Duration::from_secs(60);
/// The pause after a rotation that failed: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall: SystemTime,
    boot: Duration,
}

impl Moment {
    fn now(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.wall(),
            boot: clock.boot(),
        }
    }

    fn after(self, time: Duration) -> Self {
        Self {
            wall: self.wall.checked_add(time).unwrap_or(self.wall),
            boot: self.boot.saturating_add(time),
        }
    }
}

/// Due once in every period, as soon as either clock says so: a machine that slept catches up, and one whose clock was
/// set back does not wait longer.
#[derive(Debug, Clone)]
struct Schedule {
    every: Duration,
    due: Moment,
    failures: u32,
}

impl Schedule {
    /// `made`: when the secret in use was made; `None`: not known, and the first rotation is due after a whole period.
    fn new(every: Duration, made: Option<SystemTime>, clock: &dyn Clock) -> Self {
        let now = Moment::now(clock);
        let age = made
            .and_then(|made| now.wall.duration_since(made).ok())
            .unwrap_or_default();
        Self {
            every,
            due: now.after(every.saturating_sub(age)),
            failures: 0,
        }
    }

    /// Due now.
    fn at_once(every: Duration, clock: &dyn Clock) -> Self {
        Self {
            every,
            due: Moment::now(clock),
            failures: 0,
        }
    }

    /// How long until it is due; zero: now.
    fn left(&self, clock: &dyn Clock) -> Duration {
        let now = Moment::now(clock);
        let wall = self.due.wall.duration_since(now.wall).unwrap_or_default();
        wall.min(self.due.boot.saturating_sub(now.boot))
    }

    /// To be called after each rotation.
    fn ended(&mut self, ok: bool, clock: &dyn Clock) {
        let pause = if ok {
            self.failures = 0;
            self.every
        } else {
            self.failures = self.failures.saturating_add(1);
            let doubled = RETRY.0.saturating_mul(1 << (self.failures - 1).min(16));
            doubled.min(RETRY.1).min(self.every)
        };
        self.due = Moment::now(clock).after(pause);
    }
}

/// The work that is repeated.
pub trait Work {
    /// When the secret in use was made, if that can be told. Reports an error itself.
    fn made_at(&mut self) -> impl Future<Output = Result<Option<SystemTime>, Reported>>;
    /// Rotates. Reports a failure itself.
    fn rotate(&mut self) -> impl Future<Output = Result<(), Reported>>;
    /// Called with the time until the next rotation.
    fn next_in(&mut self, left: Duration);
}

/// A failure that has been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported;

/// Rotates whenever the secret in use is as old as `every`, until it is stopped.
pub async fn keep_rotating(every: Duration, clock: &dyn Clock, work: &mut impl Work, stop: &CancellationToken) {
    let mut schedule = Schedule::at_once(every, clock);
    let mut age_known = false;
    loop {
        // A timer stands still while the machine sleeps, so the clocks are read again and again.
        loop {
            let left = schedule.left(clock);
            if left.is_zero() && !stop.is_cancelled() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(TICK)) => {}
                () = stop.cancelled() => return,
            }
        }
        let ended = if age_known {
            work.rotate().await
        } else {
            match work.made_at().await {
                Ok(made) => {
                    age_known = true;
                    schedule = Schedule::new(every, made, clock);
                    work.next_in(schedule.left(clock));
                    continue;
                }
                Err(failed) => Err(failed),
            }
        };
        if stop.is_cancelled() {
            return;
        }
        schedule.ended(ended.is_ok(), clock);
        work.next_in(schedule.left(clock));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Follows tokio's paused clock, plus what the test adds.
    struct TestClock {
        start: Instant,
        ahead: Mutex<(Duration, Duration)>,
    }

    impl TestClock {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                start: Instant::now(),
                ahead: Mutex::default(),
            })
        }

        /// The machine sleeps, and timers with it.
        fn sleep(&self, time: Duration) {
            let mut ahead = self.ahead.lock();
            *ahead = (ahead.0 + time, ahead.1 + time);
        }

        fn since_start(&self) -> Duration {
            self.boot() - DAY
        }
    }

    /// The wall clock's time at the start.
    fn day_one() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    impl Clock for TestClock {
        fn wall(&self) -> SystemTime {
            day_one() + self.start.elapsed() + self.ahead.lock().0
        }

        fn boot(&self) -> Duration {
            DAY + self.start.elapsed() + self.ahead.lock().1
        }
    }

    /// Answers as the test says, and writes down when it was asked, in minutes.
    struct Script {
        clock: Arc<TestClock>,
        made: Vec<Result<Option<SystemTime>, Reported>>,
        rotations: Vec<Result<(), Reported>>,
        asked: Vec<u64>,
        rotated: Vec<u64>,
        stop: CancellationToken,
    }

    impl Work for Script {
        async fn made_at(&mut self) -> Result<Option<SystemTime>, Reported> {
            self.asked.push(self.clock.since_start().as_secs() / 60);
            self.made.remove(0)
        }

        async fn rotate(&mut self) -> Result<(), Reported> {
            self.rotated.push(self.clock.since_start().as_secs() / 60);
            let ended = self.rotations.remove(0);
            if self.rotations.is_empty() {
                self.stop.cancel();
            }
            ended
        }

        fn next_in(&mut self, _: Duration) {}
    }

    async fn kept(
        clock: &Arc<TestClock>,
        made: Vec<Result<Option<SystemTime>, Reported>>,
        rotations: Vec<Result<(), Reported>>,
    ) -> Script {
        let stop = CancellationToken::new();
        let mut script = Script {
            clock: Arc::clone(clock),
            made,
            rotations,
            asked: Vec::new(),
            rotated: Vec::new(),
            stop: stop.clone(),
        };
        keep_rotating(30 * DAY, &**clock, &mut script, &stop).await;
        script
    }

    fn minutes(days: u64) -> u64 {
        days * 24 * 60
    }

    #[tokio::test(start_paused = true)]
    async fn rotates_when_the_secret_is_old_enough_and_each_period_after_that() {
        let clock = TestClock::new();
        let script = kept(&clock, vec![Ok(Some(day_one() - 10 * DAY))], vec![Ok(()); 3]).await;
        assert_eq!(script.rotated, [20, 50, 80].map(minutes));

        let clock = TestClock::new();
        let script = kept(&clock, vec![Ok(Some(day_one() - 31 * DAY))], vec![Ok(())]).await;
        assert_eq!(script.rotated, [0], "it is too old: at once");

        // An unknown age, and an impossible one.
        for made in [None, Some(day_one() + DAY)] {
            let clock = TestClock::new();
            let script = kept(&clock, vec![Ok(made)], vec![Ok(())]).await;
            assert_eq!(script.rotated, [minutes(30)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_soon_and_ever_more_rarely() {
        let clock = TestClock::new();
        let mut rotations = vec![Err(Reported); 8];
        rotations.extend([Ok(()), Err(Reported), Ok(())]);
        let made = vec![Err(Reported), Err(Reported), Ok(Some(day_one() - 40 * DAY))];
        let script = kept(&clock, made, rotations).await;
        assert_eq!(script.asked, [0, 1, 3]);
        let pauses: Vec<u64> = script.rotated.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(
            pauses,
            [1, 2, 4, 8, 16, 32, 60, 60, minutes(30), 1],
            "a success begins anew"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_catches_up_within_a_minute() {
        let clock = TestClock::new();
        let asleep = Arc::clone(&clock);
        let sleeper = tokio::spawn(async move {
            tokio::time::sleep(5 * DAY).await;
            asleep.sleep(60 * DAY);
        });
        let script = kept(&clock, vec![Ok(None)], vec![Ok(())]).await;
        sleeper.await.unwrap();
        assert!(
            (minutes(65)..=minutes(65) + 1).contains(&script.rotated[0]),
            "{:?}",
            script.rotated
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_postpones_nothing() {
        let clock = TestClock::new();
        let schedule = Schedule::new(30 * DAY, Some(day_one() - 10 * DAY), &*clock);
        assert_eq!(schedule.left(&*clock), 20 * DAY);
        // As if the wall clock had stood still for 15 days while time went on.
        clock.ahead.lock().1 += 15 * DAY;
        assert_eq!(schedule.left(&*clock), 5 * DAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_at_once() {
        let clock = TestClock::new();
        let stop = CancellationToken::new();
        let mut script = Script {
            clock: Arc::clone(&clock),
            made: vec![Ok(None)],
            rotations: Vec::new(),
            asked: Vec::new(),
            rotated: Vec::new(),
            stop: stop.clone(),
        };
        let stopping = stop.clone();
        let stopper = tokio::spawn(async move {
            tokio::time::sleep(90 * MINUTE).await;
            stopping.cancel();
        });
        keep_rotating(30 * DAY, &*clock, &mut script, &stop).await;
        stopper.await.unwrap();
        assert_eq!(clock.since_start(), 90 * MINUTE);
        assert_eq!((script.asked.len(), script.rotated.len()), (1, 0));
    }
}
