//! What a test leaves out is seen, gathered, and fails in CI.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs a test of this binary on a machine without its program; and what was gathered.
fn without_its_program(ci: bool) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let gathered = folder.path().join("skipped");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "tls_listener::old_versions_of_tls_are_refused"])
        .env_clear()
        .env("PATH", "/nonexistent")
        .env("SKIPPED_TESTS", &gathered);
    if ci {
        command.env("CI", "true");
    }
    let output = command.output().unwrap();
    (output, fs::read_to_string(&gathered).unwrap_or_default())
}

#[test]
fn a_test_without_its_program_says_so_past_the_harness_and_fails_in_ci() {
    let line = "NOT CHECKED: tls_listener::old_versions_of_tls_are_refused: no openssl here (Debian: openssl)\n";
    let (output, gathered) = without_its_program(false);
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{output:?}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), line);
    assert_eq!(gathered, line);

    let (output, _) = without_its_program(true);
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn nothing_is_skipped_in_another_way() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let mut folders = vec![suite];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("needs.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for own in [
                    concat!("eprintln!(\"", "skip"),
                    concat!("var_os(\"", "CI\")"),
                    concat!("println!(\"", "NOT CHECKED"),
                ] {
                    assert!(
                        !text.contains(own),
                        "{} has `{own}`: use support::needs",
                        path.display()
                    );
                }
            }
        }
    }
}
