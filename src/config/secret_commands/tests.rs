//! When commands run, and how often.

mod users;

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
    assert_eq!(case.commands.all().count(), 0);
}

/// Settings without it, and at once those with it again.
#[test]
fn what_comes_back_to_the_settings_runs_ten_seconds_after_its_last_run() {
    let case = Case::new();
    case.prints("one");
    case.output().unwrap();
    case.commands.renew();
    case.commands.reading();
    case.commands.read();
    // Looked at every second, and what is not needed is forgotten then.
    assert_eq!(case.commands.runs().failing, 0);
    case.prints("two");
    case.passes(9);
    assert_eq!(case.output().unwrap().0, "one");
    assert_eq!(case.runs(), 1);
    case.passes(1);
    assert!(case.commands.due());
    assert_eq!(case.output().unwrap().0, "two");
}

/// Whoever runs it ahead need not ask for what it gives.
#[test]
fn what_nobody_asks_for_runs_ten_seconds_apart_too() {
    let case = Case::new();
    for _ in 0..3 {
        case.commands.renew();
        case.commands.reading();
        case.commands.run_ahead(BTreeSet::from([case.command()]));
        case.commands.read();
    }
    assert_eq!(case.runs(), 1);
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
    case.commands.reading();
    let printer = case.commands.printer(&case.command()).unwrap();
    case.commands.read();
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

/// Whoever asks while it runs, and gives up, makes no thread that waits for another run.
#[tokio::test]
async fn however_many_ask_anew_it_runs_once() {
    let case = Case::new();
    case.prints("one");
    let printer = case.commands.printer(&case.command()).unwrap();
    let good = |_: &[u8]| Ok(None);
    let (fifo, held) = (case.folder.path().join("held"), case.folder.path().join("out"));
    fs::remove_file(&held).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink(&fifo, &held).unwrap();
    let first = tokio::spawn({
        let printer = Arc::clone(&printer);
        async move { printer.output_aside(good, true).await }
    });
    while case.runs() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        let asks = printer.output_aside(good, true);
        tokio::select! { biased; _ = asks => panic!("it has not run yet"), () = tokio::task::yield_now() => {} }
    }
    let second = printer.output_aside(good, true);
    let release = tokio::task::spawn_blocking(move || fs::write(fifo, "two").unwrap());
    let (first, second) = tokio::join!(first, second);
    release.await.unwrap();
    assert_eq!(*first.unwrap().unwrap().value, b"two");
    assert_eq!(*second.unwrap().value, b"two");
    // Those who gave up, and a thread of each of them, would have it run again by now.
    case.passes(10);
    assert_eq!(case.commands.runs().good, 1);
    assert_eq!(case.runs(), 1);
}

/// Settings that were refused before they asked for it, and others hours later.
#[test]
fn what_nobody_looked_at_is_not_taken_later() {
    let case = Case::new();
    case.prints("old");
    let command = || BTreeSet::from([case.command()]);
    case.commands.reading();
    case.commands.run_ahead(command());
    case.passes(3600);
    case.prints("new");
    case.commands.reading();
    case.commands.run_ahead(command());
    let output = case.commands.output(&case.command(), &|_| Ok(None)).unwrap();
    assert_eq!((&output.value[..], case.runs()), (&b"new"[..], 2));
    case.passes(10);
    case.commands.run_ahead(command());
    case.commands.renew();
    case.prints("newer");
    case.passes(10);
    let output = case.commands.output(&case.command(), &|_| Ok(None)).unwrap();
    assert_eq!(&output.value[..], b"newer");
}

/// Other settings were read, and refused after that; then those before come back.
#[test]
fn a_command_that_somebody_looks_at_is_asked_again_after_settings_without_it() {
    let case = Case::new();
    case.prints("one");
    let printer = case.commands.printer(&case.command()).unwrap();
    printer.output(&|_| Ok(None), false).unwrap();
    case.commands.reading();
    case.commands.read();
    let again = case.commands.printer(&case.command()).unwrap();
    assert!(Arc::ptr_eq(&printer, &again));
    case.prints("two");
    case.commands.renew();
    case.passes(10);
    assert_eq!(&printer.output(&|_| Ok(None), false).unwrap().value[..], b"two");
    drop((printer, again));
    case.commands.reading();
    case.commands.read();
    case.passes(10);
    assert_eq!(case.commands.all().count(), 0);
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
