//! What a test needs and this machine may not have: a program, a right. A test that can't be done here says so where it is
//! seen, and fails in CI.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Names a file that gathers what was skipped, a line each; `.ci/run` sets it and shows the file at its end.
const GATHERED_IN: &str = "SKIPPED_TESTS";

/// The first of these programs that there is; none: the test is skipped, which [`skip`] says. `packages` are those of
/// Debian that have it.
pub fn needs(programs: &[&str], packages: &str) -> Option<PathBuf> {
    let found = find(programs);
    if found.is_none() {
        skip(&format!("no {} here (Debian: {packages})", programs.join(" or ")));
    }
    found
}

/// Says that the test of this thread can't be done here, and why. With `CI` set, nothing may be left out.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("NOT CHECKED: {}: {why}\n", thread.name().unwrap_or("a test"));
    assert!(
        !in_ci(),
        "{line}with `CI` set no test may be skipped: `.ci/run` installs what it needs"
    );
    // Not by `eprint!`: the test harness keeps that to itself when a test passes.
    let _ = io::stderr().lock().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os(GATHERED_IN) {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        // One write: lines of others come before or behind it.
        file.write_all(line.as_bytes()).unwrap();
    }
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// On `PATH`, or where Debian has the programs of root.
fn find(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .collect();
    programs
        .iter()
        .flat_map(|program| folders.iter().map(move |folder| folder.join(program)))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
