//! The logic without sockets: a scripted source, tokio's paused clock, and clocks that follow it.
#![allow(clippy::unwrap_used)]

mod callers;
mod refusal;
mod renewal;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::fetch::BoxFuture;
use super::*;
use crate::time::Clock;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Follows tokio's clock; besides, the machine can sleep and the wall clock can be set.
struct TestClock {
    start: Instant,
    slept_seconds: AtomicU64,
    set_by_seconds: AtomicI64,
}

impl TestClock {
    fn sleep_machine(&self, seconds: u64) {
        self.slept_seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn set_wall(&self, by_seconds: i64) {
        self.set_by_seconds.fetch_add(by_seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> SystemTime {
        let set = self.set_by_seconds.load(Ordering::SeqCst);
        let wall = SystemTime::UNIX_EPOCH + secs(1_790_000_000) + self.boot();
        if set < 0 {
            wall - secs(set.unsigned_abs())
        } else {
            wall + secs(set.unsigned_abs())
        }
    }

    fn boot(&self) -> Duration {
        secs(5000) + self.start.elapsed() + secs(self.slept_seconds.load(Ordering::SeqCst))
    }
}

#[derive(Clone)]
enum Step {
    Grant(u64),
    Refuse(Outcome, Option<u64>),
    /// The endpoint says nothing until the source's own limit.
    Hang,
    After(u64, Box<Step>),
}

/// Takes a step of the script per request; the last one stays.
#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    asked: Mutex<Vec<Instant>>,
    revoked: Mutex<Vec<String>>,
    revoke_hangs: AtomicUsize,
}

impl Script {
    fn set(&self, steps: impl IntoIterator<Item = Step>) {
        *self.steps.lock() = steps.into_iter().collect();
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

impl TokenSource for Arc<Script> {
    fn fetch<'a>(&'a self, _held: Option<&'a Token>) -> BoxFuture<'a, Result<Granted, Refusal>> {
        Box::pin(async {
            let number = {
                let mut asked = self.asked.lock();
                asked.push(Instant::now());
                asked.len()
            };
            let mut step = {
                let mut steps = self.steps.lock();
                if steps.len() > 1 {
                    steps.pop_front()
                } else {
                    steps.front().cloned()
                }
            }
            .unwrap();
            loop {
                match step {
                    Step::Grant(life) => return Ok(Granted::for_tests(&format!("token-{number}"), life)),
                    Step::Refuse(outcome, retry_after) => {
                        return Err(Refusal {
                            outcome,
                            status: None,
                            retry_after: retry_after.map(secs),
                            cause: format!("scripted {}", outcome.as_str()),
                            way: None,
                        });
                    }
                    Step::Hang => {
                        sleep(secs(10)).await;
                        return Err(Refusal::new(Outcome::Timeout, "scripted hang"));
                    }
                    Step::After(seconds, then) => {
                        sleep(secs(seconds)).await;
                        step = *then;
                    }
                }
            }
        })
    }

    fn revoke<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async {
            if self.revoke_hangs.load(Ordering::SeqCst) > 0 {
                std::future::pending::<()>().await;
            }
            let value = token.header().to_str().unwrap().to_owned();
            self.revoked.lock().push(value);
            Ok(())
        })
    }
}

#[derive(Default)]
struct Events {
    outcomes: Mutex<Vec<Outcome>>,
    usable: Mutex<Option<bool>>,
    expiry: Mutex<Option<SystemTime>>,
    refreshed: AtomicUsize,
}

impl TokenEvents for Events {
    fn token_request(&self, outcome: Outcome) {
        self.outcomes.lock().push(outcome);
    }
    fn token_expiry(&self, at: Option<SystemTime>) {
        *self.expiry.lock() = at;
    }
    fn token_refreshed(&self, _: SystemTime) {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
    }
    fn usable(&self, usable: bool) {
        *self.usable.lock() = Some(usable);
    }
}

struct Scene {
    bearer: Arc<Bearer>,
    script: Arc<Script>,
    clock: Arc<TestClock>,
    events: Arc<Events>,
}

/// Without jitter: renewal at 80 %, pauses of 1.25, 2.5, 5, … seconds.
fn half() -> f64 {
    0.5
}

fn cold(steps: impl IntoIterator<Item = Step>) -> Scene {
    let script = Arc::new(Script::default());
    script.set(steps);
    let clock = Arc::new(TestClock {
        start: Instant::now(),
        slept_seconds: AtomicU64::new(0),
        set_by_seconds: AtomicI64::new(0),
    });
    let events = Arc::new(Events::default());
    let bearer = Bearer::with_source(
        "default".into(),
        Box::new(Arc::clone(&script)),
        Arc::clone(&clock) as SharedClock,
        Arc::clone(&events) as Arc<dyn TokenEvents>,
        half,
    );
    Scene {
        bearer,
        script,
        clock,
        events,
    }
}

async fn running(steps: impl IntoIterator<Item = Step>) -> Scene {
    let scene = cold(steps);
    tokio::spawn(Arc::clone(&scene.bearer).run(std::future::pending()));
    scene.bearer.first_attempt().await;
    scene
}

/// Lets every task run until it waits for time to pass.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

impl Scene {
    async fn value(&self) -> String {
        let token = self.bearer.authorization().await.unwrap();
        token.header().to_str().unwrap().to_owned()
    }
}

fn not_yet_after(result: Result<Token, TokenUnavailable>) -> Duration {
    match result {
        Err(TokenUnavailable::NotYet { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    }
}
