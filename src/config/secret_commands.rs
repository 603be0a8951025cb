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
    printers: Mutex<BTreeMap<SecretCommand, Used>>,
}

struct Used {
    printer: Arc<Printer>,
    /// The settings that were read last have it.
    used: bool,
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
        self.printers.lock().values_mut().for_each(|known| known.used = false);
    }

    /// To be called when the settings were read and are good: what commands printed that are gone from them is forgotten. Those
    /// that somebody looks at stay: these settings may be refused yet.
    pub fn read(&self) {
        let is_looked_at = |printer: &Arc<Printer>| Arc::strong_count(printer) > 1;
        let mut printers = self.printers.lock();
        printers.retain(|_, known| known.used || is_looked_at(&known.printer));
    }

    /// Every command is to be run again, as soon as its last run is long enough ago.
    pub fn renew(&self) {
        self.all().for_each(|printer| printer.renew());
    }

    /// Whether a command is to be run again, and so the settings to be read. True once for each time, and again when that was
    /// in vain.
    pub fn due(&self) -> bool {
        self.all().filter(|printer| printer.tells()).count() > 0
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
        let all: Vec<_> = self
            .printers
            .lock()
            .values()
            .map(|known| Arc::clone(&known.printer))
            .collect();
        all.into_iter()
    }

    fn printer_of(&self, command: &SecretCommand, used: bool) -> Arc<Printer> {
        let mut printers = self.printers.lock();
        let known = printers.entry(command.clone()).or_insert_with(|| {
            let (runner, clock, runs) = (
                Arc::clone(&self.runner),
                Arc::clone(&self.clock),
                Arc::clone(&self.runs),
            );
            Used {
                printer: Arc::new(Printer::new(command.clone(), runner, clock, runs)),
                used: false,
            }
        });
        known.used |= used;
        Arc::clone(&known.printer)
    }
}

impl Commands for SecretCommands {
    fn run_ahead(&self, commands: BTreeSet<SecretCommand>) {
        let all: Vec<_> = commands.iter().map(|command| self.printer_of(command, false)).collect();
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
        self.printer_of(command, true).output(good, false)
    }

    fn printer(&self, command: &SecretCommand) -> Option<Arc<Printer>> {
        let printer = self.printer_of(command, true);
        printer.is_looked_at();
        Some(printer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::time::{Clock, SystemClock};

    /// The machine's clocks, and what was added.
    #[derive(Default)]
    struct Ahead(Mutex<Duration>);

    impl Clock for Ahead {
        fn wall(&self) -> SystemTime {
            SystemClock.wall() + *self.0.lock()
        }

        fn boot(&self) -> Duration {
            SystemClock.boot() + *self.0.lock()
        }
    }

    struct Case {
        folder: tempfile::TempDir,
        clock: Arc<Ahead>,
        commands: SecretCommands,
    }

    impl Case {
        fn new() -> Self {
            let clock = Arc::<Ahead>::default();
            Self {
                folder: tempfile::tempdir().unwrap(),
                commands: SecretCommands::new(Arc::clone(&clock) as SharedClock),
                clock,
            }
        }

        /// Counts its runs, and prints the file `out`.
        fn command(&self) -> SecretCommand {
            let at = self.folder.path().display();
            SecretCommand {
                program: "/bin/sh".into(),
                arguments: vec!["-c".to_owned(), format!("echo >> {at}/runs; cat {at}/out")],
                environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
            }
        }

        fn prints(&self, text: &str) {
            fs::write(self.folder.path().join("out"), text).unwrap();
        }

        fn fails(&self) {
            fs::remove_file(self.folder.path().join("out")).unwrap();
        }

        fn runs(&self) -> usize {
            let runs = |path: &Path| fs::read(path).map_or(0, |text| text.len());
            runs(&self.folder.path().join("runs"))
        }

        fn passes(&self, seconds: u64) {
            *self.clock.0.lock() += Duration::from_secs(seconds);
        }

        fn output(&self) -> Result<(String, Option<CommandError>), CommandError> {
            self.commands.reading();
            let good = |bytes: &[u8]| match bytes {
                b"bad" => Err("it is bad".to_owned()),
                _ => Ok(None),
            };
            let output = self.commands.output(&self.command(), &good)?;
            self.commands.read();
            Ok((String::from_utf8(output.value.to_vec()).unwrap(), output.failed))
        }
    }

    #[test]
    fn without_an_end_it_runs_again_on_sighup_alone_and_ten_seconds_apart() {
        let case = Case::new();
        case.prints("one");
        assert_eq!(case.output().unwrap().0, "one");
        case.prints("two");
        case.passes(1_000_000);
        assert!(!case.commands.due());
        assert_eq!(case.output().unwrap().0, "one", "another reason to read the settings");
        case.commands.renew();
        assert!(case.commands.due() && !case.commands.due());
        assert_eq!(case.output().unwrap().0, "two");
        // Too soon: it is made up for.
        case.prints("three");
        case.commands.renew();
        assert_eq!(case.output().unwrap().0, "two");
        assert!(!case.commands.due());
        case.passes(10);
        assert!(case.commands.due());
        assert_eq!(case.output().unwrap().0, "three");
        assert_eq!(case.runs(), 3);
    }

    #[test]
    fn it_runs_again_before_its_secret_expires() {
        let case = Case::new();
        let prints = |life: u64| {
            let end = jiff::Timestamp::try_from(case.clock.wall() + Duration::from_secs(life)).unwrap();
            case.prints(&format!(r#"{{"value": "{life}", "expires_at": "{end}"}}"#));
        };
        prints(1000);
        assert_eq!(case.output().unwrap().0, "1000");
        case.passes(790);
        assert!(!case.commands.due());
        case.passes(20);
        prints(1);
        assert!(case.commands.due());
        assert_eq!(case.output().unwrap().0, "1");
        case.passes(8);
        assert!(!case.commands.due(), "ten seconds apart, however short its life");
        case.passes(2);
        assert!(case.commands.due());
    }

    #[test]
    fn when_it_fails_the_old_value_stays_and_it_is_tried_again() {
        let case = Case::new();
        assert_eq!(case.output(), Err(CommandError::Exit(1)), "there is no old one");
        assert_eq!(case.output(), Err(CommandError::Exit(1)));
        assert_eq!(case.runs(), 1);
        case.prints("one");
        case.passes(10);
        assert!(case.commands.due());
        assert_eq!(case.output().unwrap(), ("one".to_owned(), None));
        for (text, pause) in [(None, 10), (Some("bad"), 20), (Some("{\"value\": 1"), 40)] {
            case.fails();
            text.inspect(|text| case.prints(text));
            case.commands.renew();
            case.passes(10);
            let (value, failed) = case.output().unwrap();
            assert_eq!(value, "one");
            assert!(failed.is_some());
            case.passes(pause - 1);
            assert!(!case.commands.due(), "{pause}");
            case.prints("one");
            case.passes(1);
            assert!(case.commands.due(), "{pause}");
        }
        assert_eq!(case.output().unwrap(), ("one".to_owned(), None));
        assert!(!case.commands.due());
    }

    #[test]
    fn what_is_gone_from_the_settings_is_forgotten() {
        let case = Case::new();
        case.prints("one");
        case.output().unwrap();
        case.commands.renew();
        case.commands.reading();
        case.commands.read();
        case.passes(10);
        assert!(!case.commands.due());
        assert!(case.commands.printers.lock().is_empty());
    }

    #[test]
    fn one_that_is_due_in_vain_is_told_of_once_a_minute() {
        let case = Case::new();
        case.prints("one");
        case.output().unwrap();
        case.commands.renew();
        case.passes(10);
        assert!(case.commands.due());
        case.passes(59);
        assert!(!case.commands.due());
        case.passes(1);
        assert!(case.commands.due());
    }

    /// A secret that says itself when it ends is renewed like one whose command does.
    #[test]
    fn it_runs_again_before_the_secret_ends_by_its_own_word() {
        let case = Case::new();
        case.prints("one");
        let until = case.clock.wall() + Duration::from_secs(1000);
        let good = move |_: &[u8]| Ok(Some(until));
        case.commands.output(&case.command(), &good).unwrap();
        case.passes(790);
        assert!(!case.commands.due());
        case.passes(20);
        assert!(case.commands.due());
        // Whoever looks at it by itself is told nothing.
        let printer = case.commands.printer(&case.command()).unwrap();
        case.passes(60);
        assert!(!case.commands.due());
        assert_eq!(case.runs(), 1);
        printer.output(&good, false).unwrap();
        assert_eq!(case.runs(), 2);
        printer.output(&good, true).unwrap();
        assert_eq!(case.runs(), 2, "ten seconds apart, also anew");
        case.passes(10);
        printer.output(&good, false).unwrap();
        assert_eq!(case.runs(), 2);
        printer.output(&good, true).unwrap();
        assert_eq!(case.runs(), 3);
    }

    /// Each waits until all the others run.
    #[test]
    fn those_that_are_due_run_side_by_side_and_once() {
        let case = Case::new();
        let at = case.folder.path().display().to_string();
        let all: BTreeSet<_> = (0..SIDE_BY_SIDE)
            .map(|n| SecretCommand {
                arguments: vec![
                    "-c".to_owned(),
                    format!("echo > {at}/at{n}; echo >> {at}/runs; while [ $(ls {at} | grep -c at) -lt {SIDE_BY_SIDE} ]; do sleep 0.01; done; echo {n}"),
                ],
                ..case.command()
            })
            .collect();
        case.commands.reading();
        case.commands.run_ahead(all.clone());
        for command in &all {
            let output = case.commands.output(command, &|_| Ok(None)).unwrap();
            assert!(output.failed.is_none());
        }
        case.commands.read();
        assert_eq!(case.runs(), SIDE_BY_SIDE);
        let counts = |good, failed, failing| CommandRuns { good, failed, failing };
        assert_eq!(case.commands.runs(), counts(16, 0, 0));
        case.commands.renew();
        case.passes(10);
        case.commands.run_ahead(all.clone());
        for command in &all {
            let _ = case.commands.output(command, &|_| Err("it is bad".to_owned())).unwrap();
        }
        assert_eq!(case.commands.runs(), counts(16, 16, 16));
        assert_eq!(case.runs(), 2 * SIDE_BY_SIDE);
    }
}
