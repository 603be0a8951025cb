//! What commands printed, and when each is run again: before its secret expires, after a failure, on SIGHUP.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::source::{Check, Commands, Output};
use crate::secret_command::{self, CommandError, Printed, Runner, SecretCommand, TIME_LIMIT};
use crate::time::SharedClock;

/// The shortest time between the starts of two runs of a command.
const APART: Duration = Duration::from_secs(10);
/// The longest wait after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A command that is due is told of again after this time, when the settings could not be read meanwhile.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// Runs commands, and remembers what they printed.
pub struct SecretCommands {
    runner: Runner,
    clock: SharedClock,
    remembered: Mutex<BTreeMap<SecretCommand, Remembered>>,
    /// The program that runs.
    at: Mutex<Option<String>>,
}

impl fmt::Debug for SecretCommands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretCommands").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Remembered {
    value: Option<Zeroizing<Vec<u8>>>,
    /// Of the last run.
    failed: Option<CommandError>,
    failures: u32,
    /// Time since boot at the start of the last run.
    ran_at: Duration,
    /// When it is run again: when either clock says so. `None`: on SIGHUP.
    due: Option<Due>,
    /// Time since boot when it was last told that this is due.
    told_at: Option<Duration>,
    /// The settings that were read last have it.
    used: bool,
}

struct Due {
    boot: Duration,
    wall: Option<SystemTime>,
}

impl Remembered {
    fn is_due(&self, boot: Duration, wall: SystemTime) -> bool {
        let due = self.due.as_ref();
        let is_due = due.is_some_and(|due| due.boot <= boot || due.wall.is_some_and(|due| due <= wall));
        is_due && boot >= self.ran_at + APART
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

    fn take(&mut self, result: Result<Printed, CommandError>, boot: Duration, wall: SystemTime) {
        (self.ran_at, self.told_at) = (boot, None);
        match result {
            Ok(printed) => {
                self.value = Some(printed.value);
                (self.failed, self.failures) = (None, 0);
                self.due = printed.expires_at.map(|end| {
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

impl SecretCommands {
    /// Nothing is remembered yet.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            runner: Runner::new(Arc::clone(&clock)),
            clock,
            remembered: Mutex::default(),
            at: Mutex::default(),
        }
    }

    /// To be called before the settings are read.
    pub fn reading(&self) {
        self.remembered.lock().values_mut().for_each(|known| known.used = false);
    }

    /// To be called when the settings were read and are good: what commands printed that are gone from them is forgotten.
    pub fn read(&self) {
        self.remembered.lock().retain(|_, known| known.used);
    }

    /// Every command is to be run again, as soon as its last run is long enough ago.
    pub fn renew(&self) {
        for known in self.remembered.lock().values_mut() {
            known.due = Some(Due {
                boot: known.ran_at + APART,
                wall: None,
            });
            known.told_at = None;
        }
    }

    /// Whether a command is to be run again, and so the settings to be read. True once for each time, and again when that was
    /// in vain.
    pub fn due(&self) -> bool {
        let (boot, wall) = (self.clock.boot(), self.clock.wall());
        let mut due = false;
        for known in self.remembered.lock().values_mut() {
            let told = known.told_at.is_some_and(|told| boot < told + TOLD_AGAIN);
            if known.is_due(boot, wall) && !told {
                known.told_at = Some(boot);
                due = true;
            }
        }
        due
    }

    /// The program that runs, if one does.
    pub fn waits_for(&self) -> Option<String> {
        self.at.lock().clone()
    }
}

impl Commands for SecretCommands {
    fn output(&self, command: &SecretCommand, good: Check<'_>) -> Result<Output, CommandError> {
        let (boot, wall) = (self.clock.boot(), self.clock.wall());
        if let Some(known) = self.remembered.lock().get_mut(command) {
            known.used = true;
            if !known.is_due(boot, wall) {
                return known.answer();
            }
        }
        *self.at.lock() = Some(command.program.display().to_string());
        let result = self
            .runner
            .run(command, TIME_LIMIT)
            .and_then(|output| secret_command::printed(output, wall))
            .and_then(|printed| match good(&printed.value) {
                Ok(()) => Ok(printed),
                Err(why) => Err(CommandError::Unusable(why)),
            });
        *self.at.lock() = None;
        let mut remembered = self.remembered.lock();
        let known = remembered.entry(command.clone()).or_default();
        known.used = true;
        known.take(result, boot, wall);
        known.answer()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;

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
                _ => Ok(()),
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
        assert!(case.commands.remembered.lock().is_empty());
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
}
