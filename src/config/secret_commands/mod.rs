//! The commands of the settings: each with its memory, and run side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::source::{Check, Commands, Output};
use crate::secret_command::{CommandError, Printer, Runner, Runs, SecretCommand};
use crate::time::SharedClock;

/// So many are run at once.
const SIDE_BY_SIDE: usize = 16;

/// Runs commands, and remembers what they printed.
pub struct SecretCommands {
    runner: Arc<Runner>,
    clock: SharedClock,
    runs: Arc<Runs>,
    printers: Mutex<BTreeMap<SecretCommand, Known>>,
}

struct Known {
    printer: Arc<Printer>,
    /// The settings that are being read have it, or those that were refused last.
    asked: Option<RenewedBy>,
    /// The last good settings have it.
    in_force: Option<RenewedBy>,
}

/// Who sees to it that a new value is used. Where several settings have one command, the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RenewedBy {
    /// Who uses it asks for it again and again.
    User,
    /// The settings have to be read again.
    Reading,
}

impl Known {
    fn renewed_by(&self) -> Option<RenewedBy> {
        self.asked.max(self.in_force)
    }

    /// Those that somebody looks at stay, since their settings may come back; and those that have just run, since no
    /// command runs twice within ten seconds.
    fn is_needed(&self) -> bool {
        self.renewed_by().is_some() || Arc::strong_count(&self.printer) > 1 || self.printer.has_just_run()
    }
}

/// What has become of runs, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandRuns {
    /// Runs that gave a secret.
    pub good: u64,
    /// Runs that gave none.
    pub failed: u64,
    /// Commands whose last run gave none.
    pub failing: usize,
}

impl fmt::Debug for SecretCommands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretCommands").finish_non_exhaustive()
    }
}

impl SecretCommands {
    /// Nothing is remembered yet.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            runner: Arc::new(Runner::new(Arc::clone(&clock))),
            clock,
            runs: Arc::default(),
            printers: Mutex::default(),
        }
    }

    /// To be called before the settings are read.
    pub fn reading(&self) {
        self.printers.lock().values_mut().for_each(|known| known.asked = None);
    }

    /// To be called when the settings were read and are good: what commands printed that are gone from them is forgotten.
    pub fn read(&self) {
        let mut printers = self.printers.lock();
        printers
            .values_mut()
            .for_each(|known| known.in_force = known.asked.take());
    }

    /// Every command is to be run again, as soon as its last run is long enough ago.
    pub fn renew(&self) {
        self.all().for_each(|printer| printer.renew());
    }

    /// Whether a command is to be run again, and so the settings to be read. True once for each time, and again when that was
    /// in vain.
    pub fn due(&self) -> bool {
        let mut printers = self.printers.lock();
        let told_of = printers
            .values_mut()
            .filter(|known| known.renewed_by() == Some(RenewedBy::Reading));
        told_of.filter(|known| known.printer.tells()).count() > 0
    }

    /// The programs that run, if any do.
    pub fn waits_for(&self) -> Option<String> {
        let running = self.all().filter(|printer| printer.is_running());
        let programs: Vec<_> = running
            .map(|printer| printer.command().program.display().to_string())
            .collect();
        (!programs.is_empty()).then(|| programs.join(", "))
    }

    /// What has become of runs so far.
    pub fn runs(&self) -> CommandRuns {
        CommandRuns {
            good: self.runs.good.load(Ordering::Relaxed),
            failed: self.runs.failed.load(Ordering::Relaxed),
            failing: self.all().filter(|printer| printer.has_failed()).count(),
        }
    }

    fn all(&self) -> impl Iterator<Item = Arc<Printer>> {
        let mut printers = self.printers.lock();
        printers.retain(|_, known| known.is_needed());
        let all: Vec<_> = printers.values().map(|known| Arc::clone(&known.printer)).collect();
        all.into_iter()
    }

    fn printer_of(&self, command: &SecretCommand, renewed_by: RenewedBy) -> Arc<Printer> {
        let mut printers = self.printers.lock();
        let known = printers.entry(command.clone()).or_insert_with(|| {
            let (runner, clock, runs) = (
                Arc::clone(&self.runner),
                Arc::clone(&self.clock),
                Arc::clone(&self.runs),
            );
            Known {
                printer: Arc::new(Printer::new(command.clone(), runner, clock, runs)),
                asked: None,
                in_force: None,
            }
        });
        known.asked = known.asked.max(Some(renewed_by));
        Arc::clone(&known.printer)
    }
}

impl Commands for SecretCommands {
    fn run_ahead(&self, commands: BTreeSet<SecretCommand>) {
        let all: Vec<_> = commands
            .iter()
            .map(|command| self.printer_of(command, RenewedBy::User))
            .collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(printer) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                printer.run_ahead();
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..all.len().min(SIDE_BY_SIDE) {
                let thread = std::thread::Builder::new().name("commands".to_owned());
                // Without it the others do its work.
                drop(thread.spawn_scoped(scope, work));
            }
            work();
        });
    }

    fn output(&self, command: &SecretCommand, good: Check<'_>) -> Result<Output, CommandError> {
        self.printer_of(command, RenewedBy::Reading).output_for_settings(good)
    }

    fn printer(&self, command: &SecretCommand) -> Result<Arc<Printer>, CommandError> {
        Ok(self.printer_of(command, RenewedBy::User))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
