//! `--every`: from time to time, until a signal; and what a signal ends.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{Setup, command};
use crate::support::PATIENCE;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};

#[tokio::test]
async fn every_waits_for_the_age_of_the_secret_and_ends_on_a_signal() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let setup = Setup::new().await;
        let (base_url, ca_file) = (setup.atlas.emulator.base_url(), setup.atlas.ca_file());
        let environment = setup.environment();
        let mut child = command(&base_url, &ca_file, &environment, &["--every", "30d"])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("it says when");
        assert!(line.contains("due in 30 d") || line.contains("due in 29 d"), "{line}");
        let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let status = tokio::time::timeout(PATIENCE, child.wait())
            .await
            .expect("it ends")
            .unwrap();
        assert_eq!(status.code(), Some(0));
        setup.untouched();
    }
}

/// At once, and once: after that it goes by the age of the new one.
#[tokio::test]
async fn every_rotates_a_secret_that_is_overdue_at_once() {
    let setup = Setup::new().await;
    setup
        .atlas
        .emulator
        .age_secrets(CLIENT_ID, Duration::from_secs(31 * 24 * 3600));
    let (base_url, ca_file) = (setup.atlas.emulator.base_url(), setup.atlas.ca_file());
    let environment = setup.environment();
    let args = ["--every", "30d", "--delete-old", "--grace", "0s"];
    let mut child = command(&base_url, &ca_file, &environment, &args).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("due in 30 d 0 h 0 min") {
        let more = stdout.read_line(&mut text).await.unwrap();
        assert_ne!(more, 0, "{text}");
    }
    assert_eq!(text.matches("make ").count(), 1, "{text}");
    assert_eq!(text.matches("in force: the new secret").count(), 1, "{text}");
    assert_eq!(setup.secrets(), [setup.in_file()]);
    assert_ne!(setup.in_file(), CLIENT_SECRET);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!text.contains("mdb_sa_sk_") && !text.contains("eyJ"), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// A signal during the grace ends the wait: the old secret is kept, and that is said.
#[tokio::test]
async fn a_signal_during_the_grace_keeps_the_old_secret() {
    let setup = Setup::new().await;
    let (base_url, ca_file) = (setup.atlas.emulator.base_url(), setup.atlas.ca_file());
    let environment = setup.environment();
    let mut child = command(&base_url, &ca_file, &environment, &["--delete-old", "--grace", "1h"])
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("write") {
        stdout.read_line(&mut text).await.unwrap();
    }
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("it ends")
        .unwrap();
    stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(status.code(), Some(1), "not everything was done: {text}");
    assert!(text.contains("kept"), "{text}");
    assert_eq!(setup.secrets(), [CLIENT_SECRET.to_owned(), setup.in_file()]);
    assert_eq!(setup.atlas.emulator.live_tokens(), 0);
}
