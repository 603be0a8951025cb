//! The task that asks for tokens: the only one, so that there is never more than one request under way.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::plan::{self, LEAST_PAUSE};
use super::{Bearer, Granted, Moment, Outcome, Ownership, Phase, Refusal, Token};

/// The task looks at the clocks at least this often: timers stand still while the machine sleeps.
const TICK: Duration = Duration::from_secs(30);

/// When the next attempt is made, by the boot clock.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// If the token stays good.
    planned: Duration,
    /// If there is no good token before that.
    earliest: Duration,
}

impl Bearer {
    /// Asks for the first token at once, then keeps it fresh until `cancel` completes. To be run once.
    pub async fn run(self: Arc<Self>, cancel: impl Future<Output = ()>) {
        let _stopped = StopOnDrop(&self);
        tokio::select! {
            biased;
            () = cancel => {}
            never = self.renew_forever() => match never {},
        }
    }

    async fn renew_forever(self: &Arc<Self>) -> Infallible {
        let mut schedule = Schedule {
            planned: Duration::ZERO,
            earliest: Duration::ZERO,
        };
        let mut failures = 0;
        loop {
            self.wait_until_due(schedule).await;
            schedule = self.attempt(&mut failures).await;
        }
    }

    async fn wait_until_due(&self, schedule: Schedule) {
        loop {
            let now = self.now();
            let token = self.current.load_full().map(Token);
            let left = token.as_ref().and_then(|t| t.left(now));
            // Reported even when no attempt is due: this is where a token's expiry is noticed without traffic.
            self.events.usable(left.is_some() && !self.is_refused());
            let replace = token.as_ref().is_none_or(|token| self.is_forced(token));
            let due = if replace || left.is_none() {
                schedule.earliest
            } else {
                schedule.planned
            };
            if now.boot >= due {
                return;
            }
            let wait = (due - now.boot).min(TICK).min(left.unwrap_or(TICK));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.demand.notified() => {}
            }
            if let Some(good) = token.filter(|token| !self.is_forced(token))
                && self.source.offer(&good).await
            {
                good.published();
            }
        }
    }

    async fn attempt(self: &Arc<Self>, failures: &mut u32) -> Schedule {
        self.set_phase(Phase::Asking);
        // Before the request: the server can only have issued the token later than this.
        let asked = self.now();
        let held = self.current.load_full().map(Token);
        if let Some(refused) = held.as_ref().filter(|held| self.is_forced(held)) {
            refused.refused();
        }
        let result = self
            .source
            .fetch(held.as_ref())
            .await
            .and_then(|granted| self.store(&granted, asked));
        let now = self.now();
        match result {
            Ok(token) => {
                self.log_success(&token, now, *failures);
                *failures = 0;
                // A token that another process asked for is no token request of this one.
                let asked_for = token.ownership() != Ownership::Taken;
                self.finish(asked_for.then_some(Outcome::Ok), Phase::Idle);
                if let Some(refused) = held.filter(|held| self.is_forced(held)) {
                    self.retire(refused);
                }
                // Keeps a pause between token requests, however short the lives and however often the clock is set.
                let earliest = asked.boot.saturating_add(LEAST_PAUSE);
                Schedule {
                    planned: token.renew_at().max(earliest),
                    earliest,
                }
            }
            // No request was made, and so none has failed.
            Err(refusal) if refusal.outcome == Outcome::NotItsTurn => {
                let until = now.boot.saturating_add(refusal.retry_after.unwrap_or(LEAST_PAUSE));
                let serves = held.is_some_and(|held| held.left(now).is_some() && !self.is_forced(&held));
                let phase = if serves {
                    Phase::Idle
                } else {
                    let refusal = Arc::new(refusal);
                    Phase::Failed { until, refusal }
                };
                self.finish(None, phase);
                Schedule {
                    planned: until,
                    earliest: until,
                }
            }
            Err(refusal) => {
                *failures = failures.saturating_add(1);
                let pause = plan::backoff(*failures, refusal.retry_after, (self.random)());
                self.log_failure(&refusal, *failures, pause);
                let until = now.boot.saturating_add(pause);
                let outcome = refusal.outcome;
                let refusal = Arc::new(refusal);
                self.finish(Some(outcome), Phase::Failed { until, refusal });
                Schedule {
                    planned: until,
                    earliest: until,
                }
            }
        }
    }

    /// Whether the token is to be replaced before its time.
    fn is_forced(&self, token: &Token) -> bool {
        token.generation() <= self.forced.load(Ordering::Acquire)
    }

    fn store(&self, granted: &Granted, asked: Moment) -> Result<Token, Refusal> {
        let generation = 1 + self.newest.load(Ordering::Acquire);
        let token = Token::new(granted, asked, generation, (self.random)());
        let now = self.now();
        if token.left(now).is_none() {
            // A failure, so that the backoff applies: otherwise the next attempt would follow at once, for ever.
            return Err(Refusal::new(
                Outcome::Malformed,
                "the token endpoint granted a token that had expired when it arrived: is its answer too slow, or was \
                 the clock set?",
            ));
        }
        self.newest.store(generation, Ordering::Release);
        self.current.store(Some(Arc::clone(&token.0)));
        self.events.token_expiry(Some(token.expires_at()));
        self.events.token_refreshed(now.wall);
        Ok(token)
    }

    /// The last step of an attempt: whoever waits for it sees what was stored before.
    fn finish(&self, outcome: Option<Outcome>, phase: Phase) {
        if let Some(outcome) = outcome {
            self.events.token_request(outcome);
        }
        self.events.usable(self.usable());
        self.progress.send_modify(|p| {
            p.attempts += 1;
            p.phase = phase;
        });
    }

    fn log_success(&self, token: &Token, now: Moment, failures: u32) {
        let account = &self.account;
        let lives_seconds = token.left(now).unwrap_or_default().as_secs();
        let shared = token.ownership() != Ownership::Own;
        let from = match token.ownership() {
            Ownership::Taken => "token store",
            Ownership::Own | Ownership::Published => "token endpoint",
        };
        if failures > 0 {
            tracing::info!(
                account,
                from,
                lives_seconds,
                shared,
                failures,
                "access token obtained after failures"
            );
        } else if token.generation() == 1 {
            tracing::info!(account, from, lives_seconds, shared, "access token obtained");
        } else {
            tracing::debug!(account, from, lives_seconds, shared, "access token renewed");
        }
    }

    fn log_failure(&self, refusal: &Refusal, failures: u32, pause: Duration) {
        tracing::warn!(
            account = &self.account,
            outcome = refusal.outcome.as_str(),
            cause = %refusal,
            failures,
            next_attempt_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            token_still_valid = self.usable(),
            "no access token could be obtained"
        );
    }
}

/// However the task ends, callers stop waiting for it.
struct StopOnDrop<'a>(&'a Bearer);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set_phase(Phase::Stopped);
    }
}
