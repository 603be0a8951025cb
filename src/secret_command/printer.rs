//! A command, what it printed last, and when it is run again: before its secret expires, after a failure, when it is asked for.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::{CommandError, Printed, Runner, SecretCommand, TIME_LIMIT, printed};
use crate::time::SharedClock;

/// The shortest time between the starts of two runs of a command.
const APART: Duration = Duration::from_secs(10);
/// The longest wait after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A command that is due is told of again after this time, when the settings could not be read meanwhile.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// Whether a secret has the form that it needs, and until when it is good, if it says that itself; else what is wrong with it,
/// in words that hold nothing of it.
pub type Check<'c> = &'c dyn Fn(&[u8]) -> Result<Option<SystemTime>, String>;

/// A secret that a command printed.
pub struct Output {
    /// The secret.
    pub value: Zeroizing<Vec<u8>>,
    /// Why the last run of the command failed: then the value is from a run before.
    pub failed: Option<CommandError>,
}

/// How many runs there were.
#[derive(Debug, Default)]
pub struct Runs {
    /// That gave a secret.
    pub good: AtomicU64,
    /// That failed, or printed what is none.
    pub failed: AtomicU64,
}

/// A command with its memory. Equal to another one of the same command.
pub struct Printer {
    command: SecretCommand,
    runner: Arc<Runner>,
    clock: SharedClock,
    runs: Arc<Runs>,
    /// Held by a run: who asks meanwhile has what that one gives.
    running: Mutex<()>,
    known: Mutex<Known>,
    /// Held by a thread that waits for a run: there is one such thread, however many ask.
    aside: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Known {
    /// What a run gave that nobody has looked at, and the wall clock at its start.
    ahead: Option<(Result<Printed, CommandError>, SystemTime)>,
    value: Option<Zeroizing<Vec<u8>>>,
    /// The settings have another value: somebody who uses the same command had it run.
    is_news: bool,
    /// Of the last run.
    failed: Option<CommandError>,
    failures: u32,
    /// Time since boot at the start of the last run; `None`: there was none.
    ran_at: Option<Duration>,
    /// When it is run again: when either clock says so. `None`: when it is asked for.
    due: Option<Due>,
    /// Time since boot when it was last told that this is due.
    told_at: Option<Duration>,
}

struct Due {
    boot: Duration,
    wall: Option<SystemTime>,
}

impl Known {
    /// Forgets what nobody has looked at, and is due as soon as the last run is long enough ago.
    fn run_again(&mut self) {
        if let Some(ran_at) = self.ran_at {
            self.ahead = None;
            self.due = Some(Due {
                boot: ran_at + APART,
                wall: None,
            });
            self.told_at = None;
        }
    }

    fn may_run(&self, boot: Duration) -> bool {
        self.ran_at.is_none_or(|ran_at| boot >= ran_at + APART)
    }

    fn is_due(&self, boot: Duration, wall: SystemTime) -> bool {
        let due = self.due.as_ref();
        let is_due = due.is_some_and(|due| due.boot <= boot || due.wall.is_some_and(|due| due <= wall));
        self.ran_at.is_none() || is_due && self.may_run(boot)
    }

    fn answer(&self) -> Result<Output, CommandError> {
        match (&self.value, &self.failed) {
            (Some(value), failed) => Ok(Output {
                value: value.clone(),
                failed: failed.clone(),
            }),
            (None, Some(failed)) => Err(failed.clone()),
            (None, None) => Err(CommandError::NotRun),
        }
    }

    fn take(&mut self, result: Result<(Zeroizing<Vec<u8>>, Option<SystemTime>), CommandError>, wall: SystemTime) {
        let boot = self.ran_at.unwrap_or_default();
        match result {
            Ok((value, until)) => {
                self.is_news |= self.value.as_ref() != Some(&value);
                self.value = Some(value);
                (self.failed, self.failures) = (None, 0);
                self.due = until.map(|end| {
                    // As a token is: with a fifth of its life left for failures.
                    let early = end.duration_since(wall).unwrap_or_default() / 5 * 4;
                    Due {
                        boot: boot + early,
                        wall: Some(wall + early),
                    }
                });
            }
            Err(error) => {
                let pause = (APART * 2_u32.saturating_pow(self.failures.min(5))).min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                self.failed = Some(error);
                self.due = Some(Due {
                    boot: boot + pause,
                    wall: None,
                });
            }
        }
    }
}

impl Printer {
    /// Nothing has run yet.
    pub fn new(command: SecretCommand, runner: Arc<Runner>, clock: SharedClock, runs: Arc<Runs>) -> Self {
        Self {
            command,
            runner,
            clock,
            runs,
            running: Mutex::default(),
            known: Mutex::default(),
            aside: Arc::default(),
        }
    }

    /// What is run.
    pub fn command(&self) -> &SecretCommand {
        &self.command
    }

    /// Runs it where it is due. What it gives is kept until [`Self::output`] asks for it.
    pub fn run_ahead(&self) {
        let _running = self.running.lock();
        // What nobody looked at last time may be old by now.
        let mut known = self.known.lock();
        if known.ahead.is_some() && known.may_run(self.clock.boot()) {
            known.run_again();
        }
        drop(known);
        self.run(false);
    }

    /// What the command gives; it is run where it is due, or long enough ago and `anew`. Blocks its thread.
    ///
    /// # Errors
    /// When it failed, and never gave anything good.
    pub fn output(&self, good: Check<'_>, anew: bool) -> Result<Output, CommandError> {
        let _running = self.running.lock();
        self.output_now(good, anew)
    }

    /// The same for settings, which have this value then. It is run where it is due.
    ///
    /// # Errors
    /// As for [`Self::output`].
    pub fn output_for_settings(&self, good: Check<'_>) -> Result<Output, CommandError> {
        let _running = self.running.lock();
        let output = self.output_now(good, false);
        self.known.lock().is_news = false;
        output
    }

    /// To be called with `running` held.
    fn output_now(&self, good: Check<'_>, anew: bool) -> Result<Output, CommandError> {
        self.run(anew);
        let mut known = self.known.lock();
        if let Some((result, wall)) = known.ahead.take() {
            let result = result.and_then(|Printed { value, expires_at }| match good(&value) {
                Ok(until) => Ok((value, expires_at.or(until))),
                Err(why) => Err(CommandError::Unusable(why)),
            });
            let counted = if result.is_ok() {
                &self.runs.good
            } else {
                &self.runs.failed
            };
            counted.fetch_add(1, Ordering::Relaxed);
            known.take(result, wall);
        }
        known.answer()
    }

    /// The same on a thread of its own, if it is to be run; else at once.
    ///
    /// # Errors
    /// As for [`Self::output`], and when no thread can be made.
    pub async fn output_aside(
        self: &Arc<Self>,
        good: fn(&[u8]) -> Result<Option<SystemTime>, String>,
        anew: bool,
    ) -> Result<Output, CommandError> {
        let asked = self.clock.boot();
        let aside = Arc::clone(&self.aside).lock_owned().await;
        // A run that began after this was asked for is new enough.
        let anew = anew && self.known.lock().ran_at.is_none_or(|ran_at| ran_at < asked);
        if !self.runs_now(anew) {
            return self.known.lock().answer();
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let printer = Arc::clone(self);
        let made = std::thread::Builder::new().name("command".to_owned());
        let made = made.spawn(move || {
            let output = printer.output(&good, anew);
            // The next one is let in before whoever waits goes on: it finds what this one gave.
            drop(aside);
            drop(tell.send(output));
        });
        let cannot = |error: io::Error| CommandError::Start(error.to_string());
        made.map_err(cannot)?;
        told.await
            .unwrap_or_else(|_| Err(cannot(io::Error::other("a defect ended its thread"))))
    }

    fn runs_now(&self, anew: bool) -> bool {
        let (boot, wall) = (self.clock.boot(), self.clock.wall());
        let known = self.known.lock();
        known.ahead.is_some() || known.is_due(boot, wall) || anew && known.may_run(boot)
    }

    /// To be called with `running` held.
    fn run(&self, anew: bool) {
        if self.known.lock().ahead.is_some() || !self.runs_now(anew) {
            return;
        }
        let (boot, wall) = (self.clock.boot(), self.clock.wall());
        let result = self.runner.run(&self.command, TIME_LIMIT);
        let result = result.and_then(|output| printed(output, wall));
        let mut known = self.known.lock();
        (known.ran_at, known.told_at) = (Some(boot), None);
        known.ahead = Some((result, wall));
    }

    /// It is to be run again, as soon as its last run is long enough ago.
    pub fn renew(&self) {
        self.known.lock().run_again();
    }

    /// Whether the settings are to be read again: it is due, or gave what they don't have. True once for each time, and again
    /// when that was in vain.
    pub fn tells(&self) -> bool {
        let (boot, wall) = (self.clock.boot(), self.clock.wall());
        let mut known = self.known.lock();
        let told = known.told_at.is_some_and(|told| boot < told + TOLD_AGAIN);
        let tells = known.ran_at.is_some() && (known.is_news || known.is_due(boot, wall)) && !told;
        if tells {
            known.told_at = Some(boot);
        }
        tells
    }

    /// Whether its last run is too short ago for another one.
    pub fn has_just_run(&self) -> bool {
        !self.known.lock().may_run(self.clock.boot())
    }

    /// Whether it runs now.
    pub fn is_running(&self) -> bool {
        self.running.is_locked()
    }

    /// Whether its last run failed.
    pub fn has_failed(&self) -> bool {
        self.known.lock().failed.is_some()
    }
}

impl PartialEq for Printer {
    fn eq(&self, other: &Self) -> bool {
        self.command == other.command
    }
}

impl Eq for Printer {}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command.fmt(f)
    }
}
