use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::time::SystemClock;

fn shell(script: &str) -> SecretCommand {
    SecretCommand {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
    }
}

fn runner() -> Runner {
    Runner::new(Arc::new(SystemClock))
}

fn output(script: &str) -> Result<String, CommandError> {
    let output = runner().run(&shell(script), TIME_LIMIT)?;
    Ok(String::from_utf8(output.to_vec()).unwrap())
}

#[test]
fn what_it_prints_on_standard_output_counts_alone() {
    assert_eq!(output("echo one; echo two >&2").unwrap(), "one\n");
    assert_eq!(output("cat").unwrap(), "", "standard input is empty");
    assert_eq!(output("echo secret; exit 3"), Err(CommandError::Exit(3)));
    assert_eq!(output("echo secret; kill -TERM $$"), Err(CommandError::Signal(15)));
}

#[test]
fn output_has_a_bound() {
    let most = "head -c 65536 /dev/zero";
    assert_eq!(output(most).unwrap().len(), 64 << 10);
    assert_eq!(output(&format!("{most}; printf x")), Err(CommandError::TooLong));
    assert_eq!(output("yes"), Err(CommandError::TooLong));
}

#[test]
fn its_whole_group_is_killed_in_the_end() {
    // What is left holds the pipe open: nobody waits for it, and it ends.
    let pid = output("sleep 1000 & echo $!").unwrap();
    let state = |pid: &str| fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    while !state(&pid).is_empty() && !state(&pid).contains(") Z ") {
        std::thread::yield_now();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; exec sleep 1000",
        file.display()
    );
    let limit = Duration::from_millis(300);
    assert_eq!(
        runner().run(&shell(&script), limit).unwrap_err(),
        CommandError::TimedOut(limit)
    );
    // On a busy machine it may have been killed before it wrote this.
    if let Ok(pid) = fs::read_to_string(file) {
        while !state(&pid).is_empty() && !state(&pid).contains(") Z ") {
            std::thread::yield_now();
        }
    }
}

#[test]
fn only_the_environment_that_it_is_given_and_no_descriptor_reaches_it() {
    let held = fs::File::open("/").unwrap();
    assert_eq!(
        output("ls /proc/self/fd | wc -l").unwrap().trim(),
        "4",
        "the fourth reads the folder"
    );
    drop(held);
    let names = output("tr '\\0' '\\n' < /proc/$$/environ | cut -d= -f1").unwrap();
    assert_eq!(names.trim(), "PATH");
    assert_eq!(
        output("[ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] && echo own group").unwrap(),
        "own group\n"
    );
}

#[test]
fn a_program_that_others_could_replace_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let run_it = |path: &Path| {
        let command = SecretCommand {
            program: path.to_owned(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        };
        runner().run(&command, TIME_LIMIT).map(|output| output.to_vec())
    };
    let program = at("program");
    fs::write(&program, "#!/bin/sh\necho one\n").unwrap();
    mode(&program, 0o755);
    assert_eq!(run_it(&program).unwrap(), b"one\n");
    let refused = |path: &Path, named: &Path| match run_it(path) {
        Err(error @ CommandError::Unguarded { .. }) => {
            let named = fs::canonicalize(named).unwrap();
            let remedy = format!("`chmod o-w {}`", named.display());
            assert!(error.to_string().contains(&remedy), "{error}");
        }
        other => panic!("{other:?}"),
    };
    mode(&program, 0o757);
    refused(&program, &program);
    mode(&program, 0o755);
    // A folder above it, and one that a link leads through.
    mode(folder.path(), 0o757);
    refused(&program, folder.path());
    mode(folder.path(), 0o1777);
    assert!(run_it(&program).is_ok(), "sticky");
    mode(folder.path(), 0o755);
    let open = at("open");
    fs::create_dir(&open).unwrap();
    symlink(&program, open.join("link")).unwrap();
    symlink("open/link", at("way")).unwrap();
    assert!(run_it(&at("way")).is_ok());
    mode(&open, 0o777);
    refused(&at("way"), &open);
    // No program at all.
    symlink("round", at("round")).unwrap();
    mode(&program, 0o644);
    for path in [program, at("round"), at("none"), folder.path().to_owned()] {
        assert!(matches!(run_it(&path), Err(CommandError::NoProgram { .. })), "{path:?}");
    }
}

#[test]
fn a_script_whose_interpreter_is_missing_is_told_from_a_program_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "#!/bin/none\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let command = SecretCommand {
        program: program.clone(),
        ..shell("")
    };
    let error = runner().run(&command, TIME_LIMIT).unwrap_err();
    assert_eq!(error, CommandError::NoInterpreter(fs::canonicalize(&program).unwrap()));
    assert!(!error.may_pass());
    // Without `#!` a shell would take it for a script of its own; the system does not.
    fs::write(&program, "echo secret\n").unwrap();
    let error = runner().run(&command, TIME_LIMIT).unwrap_err();
    assert_eq!(error, CommandError::NoExecutable(fs::canonicalize(program).unwrap()));
    assert!(!error.may_pass());
}

/// What can't be interrupted is not waited for, and does not pile up.
#[test]
fn what_hangs_at_its_start_is_given_up_and_bounded() {
    let runner = runner();
    let limit = Duration::from_millis(20);
    let mut held = Vec::new();
    for _ in 0..MOST_HANGING {
        let (release, released) = mpsc::channel::<()>();
        held.push(release);
        let hangs = runner.on_thread(&shell("one"), limit, move |_| _ = released.recv());
        assert_eq!(hangs, Err(CommandError::Hangs(limit)));
    }
    let refused = runner.on_thread(&shell("one"), limit, |_| panic!("one more than may hang"));
    assert_eq!(refused, Err(CommandError::Hangs(limit)));
    assert!(runner.run(&shell("echo two"), TIME_LIMIT).is_ok(), "another command");
    drop(held);
    all_end(&runner);
    let ran = runner.on_thread(&shell("one"), TIME_LIMIT, |tell| {
        let _ = tell.send(Told::Ended(Ok(Zeroizing::default())));
    });
    assert!(ran.is_ok());
}

fn all_end(runner: &Runner) {
    while runner
        .threads
        .lock()
        .values()
        .any(|thread| Arc::strong_count(thread) > 1)
    {
        std::thread::yield_now();
    }
}

/// The program itself is not left behind as a zombie, however it ended.
#[test]
fn no_zombie_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", file.display());
    let runner = runner();
    let limit = Duration::from_millis(500);
    assert!(runner.run(&shell(&script), limit).is_err());
    all_end(&runner);
    // On a busy machine it may have been killed before it wrote this.
    if let Ok(pid) = fs::read_to_string(file) {
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
    }
}

#[test]
fn the_line_to_type_has_names_in_place_of_values() {
    let command = SecretCommand {
        program: "/it's".into(),
        arguments: Vec::new(),
        environment: BTreeMap::from([
            ("PATH".to_owned(), "/secret".into()),
            ("A".to_owned(), "/secret".into()),
        ]),
    };
    let line = "env -i A=\"$A\" PATH=\"$PATH\" '/it'\\''s'";
    assert_eq!(command.by_hand(), line);
    let arguments = vec!["secret".to_owned()];
    assert_eq!(SecretCommand { arguments, ..command }.by_hand(), format!("{line} …"));
}

#[test]
fn json_says_when_the_secret_expires() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let read = |text: &str| printed(Zeroizing::new(text.as_bytes().to_vec()), now);
    let good = read(r#" {"lease": 7, "value": "se\"cret", "expires_at": "2030-03-17T17:46:41Z"}"#)
        .ok()
        .unwrap();
    assert_eq!(&good.value[..], b"se\"cret");
    assert_eq!(good.expires_at, Some(now + Duration::from_secs(1)));
    for text in [r#"{"value": "a"}"#, r#"{"value": "a", "expires_at": null}"#, "a"] {
        let good = read(text).ok().unwrap();
        assert_eq!((&good.value[..], good.expires_at), (&b"a"[..], None));
    }
    for text in [
        r#"{"value": "hunter2""#,
        r#"{"value": ["hunter2"]}"#,
        r#"{"values": "hunter2"}"#,
        r#"{"value": "hunter2", "value": "hunter2"}"#,
        r#"{"value": "hunter2", "expires_at": "hunter2"}"#,
        r#"{"value": "hunter2", "expires_at": "2030-03-17T17:46:40Z"}"#,
    ] {
        let error = read(text).err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

proptest! {
    #[test]
    fn no_output_makes_it_panic_or_is_repeated(text in ".{8,64}", brace in any::<bool>()) {
        let text = if brace { format!("{{{text}") } else { text };
        if let Err(error) = printed(Zeroizing::new(text.clone().into_bytes()), SystemTime::UNIX_EPOCH) {
            prop_assert!(!error.to_string().contains(&text));
        }
    }
}
