//! A program that prints a secret: run with a bound on its time and its output, and with nothing of this process but what it
//! is given. It blocks its thread.

mod guarded;
mod printed;
mod printer;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{fmt, os::fd::OwnedFd};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use zeroize::Zeroizing;

use crate::time::{Clock, SharedClock};

pub use printed::{Printed, printed};
pub use printer::{Check, Output, Printer, Runs};

/// How long a program may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The most that it may print, bytes.
pub const LARGEST: usize = 64 << 10;
/// The descriptors before it are replaced for the program.
const FIRST_BESIDE_STANDARD: i32 = 3;
/// So many runs of one command may hang where nothing can end them, each with a thread: after that it is not tried until one
/// goes on. Other commands are.
const MOST_HANGING: usize = 2;
/// How long the end of a killed program is waited for.
const DYING: Duration = Duration::from_secs(1);

/// What to run. Its `Debug` shows the program alone: what an environment variable holds may be a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretCommand {
    /// An absolute path.
    pub program: PathBuf,
    /// What follows it.
    pub arguments: Vec<String>,
    /// All of its environment.
    pub environment: BTreeMap<String, OsString>,
}

impl fmt::Debug for SecretCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretCommand")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// Why there is no secret. Nothing of what the program printed is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Only `run` and `check` run commands.
    #[error(
        "only `run` and `check` run commands: name a file with the secret here, or set its variable (in a configuration for this \
         command alone)"
    )]
    NotRun,
    /// Somebody else chooses what would be run.
    #[error("{} {why}, who could put a program of theirs in its place: {remedy}", path.display())]
    Unguarded {
        /// The program, or a folder or link on the way to it.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What mends it, with the path.
        remedy: String,
    },
    /// The path leads to no program.
    #[error("{}: {why}", path.display())]
    NoProgram {
        /// What can't be looked at, or is no program.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The program is there, and can't be loaded.
    #[error(
        "{} is there, and what runs it is not: for a script install the interpreter that its first line (`#!…`) names, without a \
         carriage return at its end; for another program the loader that it was built for",
        .0.display()
    )]
    NoInterpreter(PathBuf),
    /// The file is there, may be run, and is nothing that the system can run.
    #[error(
        "{} is no program that this system can run (Exec format error): a script needs a first line like `#!/bin/sh`, another \
         program must be built for this kind of processor, and none may be empty",
        .0.display()
    )]
    NoExecutable(PathBuf),
    /// The file system did not say what the path leads to, or did not hand over the program.
    #[error("the command did not start within {} s: does the file system that it is on answer?", .0.as_secs())]
    Hangs(Duration),
    /// It could not be started or watched.
    #[error("the command can't be run: {0}")]
    Start(String),
    /// It ended with another exit code than 0.
    #[error("the command failed with exit code {0}")]
    Exit(i32),
    /// A signal ended it.
    #[error("signal {0} ended the command")]
    Signal(i32),
    /// It took too long, and was killed.
    #[error("the command took longer than {} s, and was killed", .0.as_secs())]
    TimedOut(Duration),
    /// It printed too much, and was killed.
    #[error("the command printed more than {LARGEST} bytes, and was killed")]
    TooLong,
    /// What it printed is no secret of the kind that is needed.
    #[error("what the command printed can't be used: {0}")]
    Unusable(String),
}

impl CommandError {
    /// Whether another run may end otherwise without any change of the configuration or of files.
    pub fn may_pass(&self) -> bool {
        self.is_of_the_run() || matches!(self, Self::Start(_) | Self::Hangs(_))
    }

    /// Whether the program ran, and did not do as it should.
    pub fn is_of_the_run(&self) -> bool {
        matches!(
            self,
            Self::Exit(_) | Self::Signal(_) | Self::TimedOut(_) | Self::TooLong | Self::Unusable(_)
        )
    }
}

impl SecretCommand {
    /// What to type to see what it says: with names of variables in place of their values, and `…` in place of the arguments.
    pub fn by_hand(&self) -> String {
        let mut line = "env -i".to_owned();
        for name in self.environment.keys() {
            line += &format!(" {name}=\"${name}\"");
        }
        line += &format!(" '{}'", self.program.display().to_string().replace('\'', "'\\''"));
        if !self.arguments.is_empty() {
            line += " …";
        }
        line
    }
}

/// Runs programs, each on a thread of its own: what looks for a program, or loads it, can't be interrupted.
pub struct Runner {
    clock: SharedClock,
    /// Each thread has a clone of its command's.
    threads: Mutex<BTreeMap<SecretCommand, Arc<()>>>,
}

impl Runner {
    /// Nothing runs yet.
    pub fn new(clock: SharedClock) -> Self {
        let threads = Mutex::default();
        Self { clock, threads }
    }

    /// Runs the program; what it printed on standard output.
    ///
    /// # Errors
    /// When it can't be run, fails, takes longer than `limit`, or prints too much.
    pub fn run(&self, command: &SecretCommand, limit: Duration) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        let (owned, clock) = (command.clone(), Arc::clone(&self.clock));
        let until = clock.boot() + limit;
        self.on_thread(command, limit, move |tell| {
            let mut running = match start(&owned, until, limit, &*clock) {
                Ok(running) => running,
                Err(error) => return drop(tell.send(Told::Ended(Err(error)))),
            };
            let _ = tell.send(Told::Started);
            let _ = tell.send(Told::Ended(running.output(until, limit, &*clock)));
            // One that is killed and does not end yet must not stay behind as a zombie.
            let _ = running.child.wait();
        })
    }

    /// What a thread of this command keeps until its end; `None`: too many hang.
    fn thread_of(&self, command: &SecretCommand) -> Option<Arc<()>> {
        let mut threads = self.threads.lock();
        threads.retain(|_, thread| Arc::strong_count(thread) > 1);
        let thread = threads.entry(command.clone()).or_default();
        (Arc::strong_count(thread) <= MOST_HANGING).then(|| Arc::clone(thread))
    }

    /// What `work` tells, when it says within `limit` that it has started. It goes on when nobody waits for it any more.
    fn on_thread(
        &self,
        command: &SecretCommand,
        limit: Duration,
        work: impl FnOnce(mpsc::Sender<Told>) + Send + 'static,
    ) -> Said {
        let Some(thread) = self.thread_of(command) else {
            return Err(CommandError::Hangs(limit));
        };
        let (tell, told) = mpsc::channel();
        let made = std::thread::Builder::new().name("command".to_owned()).spawn(move || {
            work(tell);
            drop(thread);
        });
        made.map_err(cannot)?;
        let told = match told.recv_timeout(limit) {
            Ok(Told::Started) => told.recv_timeout(limit + 2 * DYING),
            other => other,
        };
        match told {
            Ok(Told::Ended(output)) => output,
            Ok(Told::Started) | Err(mpsc::RecvTimeoutError::Timeout) => Err(CommandError::Hangs(limit)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(CommandError::Start("a defect ended its thread".to_owned()))
            }
        }
    }
}

type Said = Result<Zeroizing<Vec<u8>>, CommandError>;

/// What a thread tells of its program.
enum Told {
    Started,
    Ended(Said),
}

/// Looks for the program, and starts it.
fn start(
    command: &SecretCommand,
    until: Duration,
    limit: Duration,
    clock: &dyn Clock,
) -> Result<Running, CommandError> {
    let program = guarded::program(&command.program)?;
    if clock.boot() >= until {
        // Nobody waits for it any more.
        return Err(CommandError::Hangs(limit));
    }
    // Ours have the mark already; whoever started this process may have left others open.
    close_fds::set_fds_cloexec(FIRST_BESIDE_STANDARD, &[]);
    let child = Command::new(&program)
        .arg0(&command.program)
        .args(&command.arguments)
        .env_clear()
        .envs(&command.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that what it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CommandError::NoInterpreter(program),
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                CommandError::NoExecutable(program)
            }
            _ => cannot(error),
        })?;
    Running::of(child)
}

fn cannot(error: impl Into<io::Error>) -> CommandError {
    CommandError::Start(error.into().to_string())
}

/// A program that was started, as the leader of its group.
struct Running {
    child: Child,
    group: Pid,
    stdout: ChildStdout,
    /// Readable when the program has ended.
    ended: OwnedFd,
}

impl Running {
    fn of(mut child: Child) -> Result<Self, CommandError> {
        let group = Pid::from_child(&child);
        let (stdout, ended) = match (child.stdout.take(), pidfd_open(group, PidfdFlags::empty())) {
            (Some(stdout), Ok(ended)) => (stdout, ended),
            (_, ended) => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
                return Err(cannot(ended.err().unwrap_or(rustix::io::Errno::BADF)));
            }
        };
        Ok(Self {
            child,
            group,
            stdout,
            ended,
        })
    }

    /// What it printed, when it has ended well.
    fn output(&mut self, until: Duration, limit: Duration, clock: &dyn Clock) -> Said {
        let read = self.read(until, limit, clock);
        let status = self.end(clock)?;
        let output = read?;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(output),
            (Some(code), _) => Err(CommandError::Exit(code)),
            (None, signal) => Err(CommandError::Signal(signal.unwrap_or_default())),
        }
    }

    /// Reads until the program has ended: what it left behind may hold its standard output open for ever.
    fn read(&mut self, until: Duration, limit: Duration, clock: &dyn Clock) -> Said {
        rustix::io::ioctl_fionbio(&self.stdout, true).map_err(cannot)?;
        // Made at once: a vector that grows leaves copies behind.
        let mut output = Zeroizing::new(vec![0; LARGEST + 1]);
        let (mut length, mut open) = (0, true);
        loop {
            let left = until.saturating_sub(clock.boot());
            if left.is_zero() {
                return Err(CommandError::TimedOut(limit));
            }
            let ended = self.wait(open, left)?;
            while open {
                match self.stdout.read(&mut output[length..]) {
                    Ok(0) => open = false,
                    Ok(more) => length += more,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(cannot(error)),
                }
                if length > LARGEST {
                    return Err(CommandError::TooLong);
                }
            }
            if ended {
                output.truncate(length);
                return Ok(output);
            }
        }
    }

    /// Waits for output, when that is still open, or for the end; whether the end has come.
    fn wait(&self, output: bool, longest: Duration) -> Result<bool, CommandError> {
        let mut both = [
            PollFd::new(&self.ended, PollFlags::IN),
            PollFd::new(&self.stdout, PollFlags::IN),
        ];
        let looked_at = if output { &mut both[..] } else { &mut both[..1] };
        let longest = Timespec::try_from(longest).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(looked_at, Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!both[0].revents().is_empty()),
            Err(error) => Err(cannot(error)),
        }
    }

    /// Ends the whole group, and takes the program's own status.
    fn end(&mut self, clock: &dyn Clock) -> Result<ExitStatus, CommandError> {
        // Its number is nobody else's as long as the program itself has not been waited for.
        let _ = kill_process_group(self.group, Signal::KILL);
        let until = clock.boot() + DYING;
        // A signal to this process ends a wait early.
        loop {
            if let Some(status) = self.child.try_wait().map_err(cannot)? {
                return Ok(status);
            }
            let left = until.saturating_sub(clock.boot());
            if left.is_zero() {
                return Err(CommandError::Start("it was killed and does not end".to_owned()));
            }
            self.wait(false, left)?;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
