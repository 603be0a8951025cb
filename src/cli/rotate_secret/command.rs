//! One rotation, or one from time to time.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::args::Wishes;
use super::prepare::Prepared;
use super::print::{NAME_WIDTH, STATUS_WIDTH, as_json, print};
use crate::cli::run::Signals;
use crate::cli::steps::Steps;
use crate::cli::{exit, print_error};
use crate::config::{Environment, Sources};
use crate::crypto;
use crate::report::{Status, Step};
use crate::rotate::{self, Reported, Rotation, Work};
use crate::time::{SharedClock, SystemClock};

/// Rotates once, or from time to time until a signal ends it.
pub(in crate::cli) fn rotate_secret(sources: Sources<'_>, environment: &dyn Environment, wishes: &Wishes) -> ExitCode {
    if let Err(why) = wishes.check() {
        print_error(&why);
        return exit::misused();
    }
    if let Err(error) = crypto::self_check() {
        print_error(&error.to_string());
        return exit::failed();
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("cannot start: {error}"));
            return exit::failed();
        }
    };
    let command = Command {
        sources,
        environment,
        wishes,
        clock: Arc::new(SystemClock),
    };
    let code = runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                print_error(&format!("cannot start: {error}"));
                return exit::failed();
            }
        };
        let stop = CancellationToken::new();
        let work = async {
            match wishes.every {
                None => command.once(&stop).await,
                Some(every) => command.repeatedly(every, &stop).await,
            }
        };
        // A signal ends waits only: a step that has begun must not leave a secret that nobody knows.
        let pass_on = async {
            loop {
                signals.next().await;
                stop.cancel();
            }
        };
        tokio::select! {
            code = work => code,
            code = pass_on => code,
        }
    });
    // A name look-up that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

pub(super) struct Command<'a> {
    pub(super) sources: Sources<'a>,
    pub(super) environment: &'a dyn Environment,
    pub(super) wishes: &'a Wishes,
    pub(super) clock: SharedClock,
}

impl Command<'_> {
    async fn once(&self, stop: &CancellationToken) -> ExitCode {
        match self.prepare() {
            Ok(prepared) if self.rotate(&prepared, stop).await.ok => exit::CLEAN,
            Ok(_) => exit::failed(),
            Err(unprepared) => {
                unprepared.say();
                exit::misused()
            }
        }
    }

    async fn repeatedly(&self, every: Duration, stop: &CancellationToken) -> ExitCode {
        if let Err(unprepared) = self.prepare() {
            unprepared.say();
            return exit::misused();
        }
        let mut work = Repeated { command: self, stop };
        rotate::keep_rotating(every, &*self.clock, &mut work, stop).await;
        exit::CLEAN
    }

    async fn rotate(&self, prepared: &Prepared, stop: &CancellationToken) -> Rotation {
        let mut steps = Vec::new();
        let mut printed = self.steps();
        let mut say = |step: Step| {
            if !self.wishes.json {
                printed.step(&step);
            } else if step.status != Status::Running {
                steps.push(step);
            }
        };
        let rotation = rotate::rotate(&self.settings(prepared), stop, &mut say).await;
        if let (Some(secret), Some(file), Some(_)) = (&self.wishes.kubernetes, &self.wishes.out, &rotation.new) {
            let command = secret.kubectl(file);
            say(Step::new(
                "kubectl",
                Status::Would,
                format!("to take it to the cluster; then remove the file: {command}"),
            ));
        }
        if self.wishes.json {
            print(&as_json(&steps, &rotation));
        } else {
            printed.line(&format!("in force: {}", rotation.in_force));
        }
        rotation
    }

    fn steps(&self) -> Steps {
        Steps::new(STATUS_WIDTH, NAME_WIDTH, self.wishes.quiet, self.environment)
    }
}

/// [`Command::rotate`] from time to time.
struct Repeated<'a> {
    command: &'a Command<'a>,
    stop: &'a CancellationToken,
}

impl Repeated<'_> {
    fn prepare(&self) -> Result<Prepared, Reported> {
        self.command.prepare().map_err(|unprepared| {
            unprepared.say();
            Reported
        })
    }
}

impl Work for Repeated<'_> {
    async fn made_at(&mut self) -> Result<Option<SystemTime>, Reported> {
        let prepared = self.prepare()?;
        let made = rotate::made_at(&self.command.settings(&prepared)).await;
        made.map_err(|why| {
            print_error(&why);
            Reported
        })
    }

    async fn rotate(&mut self) -> Result<(), Reported> {
        let prepared = self.prepare()?;
        // If only the old secret could not be deleted, making yet another would not help.
        match self.command.rotate(&prepared, self.stop).await.new {
            Some(_) => Ok(()),
            None => Err(Reported),
        }
    }

    fn next_in(&mut self, left: Duration) {
        if !self.command.wishes.json {
            let minutes = left.as_secs().div_ceil(60);
            let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
            let line = format!("the next rotation is due in {days} d {hours} h {minutes} min");
            self.command.steps().line(&line);
        }
    }
}
