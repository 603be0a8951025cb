//! A program that prints a secret: run with a bound on its time and its output, and with nothing of this process but what it
//! is given. It blocks its thread.

mod guarded;
mod printed;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{fmt, os::fd::OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use zeroize::Zeroizing;

use crate::time::Clock;

pub use printed::{Printed, printed};

/// How long a program may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The most that it may print, bytes.
pub const LARGEST: usize = 64 << 10;
/// The descriptors before it are replaced for the program.
const FIRST_BESIDE_STANDARD: i32 = 3;
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
    #[error("{} {why}: another user could put a program of theirs in its place", path.display())]
    Unguarded {
        /// The program, or a folder or link on the way to it.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The path leads to no program.
    #[error("{}: {why}", path.display())]
    NoProgram {
        /// What can't be looked at, or is no program.
        path: PathBuf,
        /// Why.
        why: String,
    },
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

/// Runs the program; what it printed on standard output.
///
/// # Errors
/// When it can't be run, fails, takes longer than `limit`, or prints too much.
pub fn run(command: &SecretCommand, limit: Duration, clock: &dyn Clock) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let program = guarded::program(&command.program)?;
    // Ours have the mark already; whoever started this process may have left others open.
    close_fds::set_fds_cloexec(FIRST_BESIDE_STANDARD, &[]);
    let child = Command::new(program)
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
        .map_err(cannot)?;
    let mut running = Running::of(child)?;
    let read = running.read(limit, clock);
    let status = running.end()?;
    let output = read?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(output),
        (Some(code), _) => Err(CommandError::Exit(code)),
        (None, signal) => Err(CommandError::Signal(signal.unwrap_or_default())),
    }
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

    /// Reads until the program has ended: what it left behind may hold its standard output open for ever.
    fn read(&mut self, limit: Duration, clock: &dyn Clock) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        rustix::io::ioctl_fionbio(&self.stdout, true).map_err(cannot)?;
        let until = clock.boot() + limit;
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
    fn end(&mut self) -> Result<ExitStatus, CommandError> {
        // Its number is nobody else's as long as the program itself has not been waited for.
        let _ = kill_process_group(self.group, Signal::KILL);
        self.wait(false, DYING)?;
        let status = self.child.try_wait().map_err(cannot)?;
        status.ok_or_else(|| CommandError::Start("it was killed and does not end".to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
