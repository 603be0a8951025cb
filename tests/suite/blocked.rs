//! What blocks outside, or can't be had, stops nothing: files without content, threads.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::support::client::{client, raw};
use crate::support::metrics::metric;
use crate::support::needs::skip;
use crate::support::program::{PROGRAM, Program};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use crate::support::upstream::{Upstream, json};
use crate::support::{PATIENCE, until};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// More than a program needs that has just started.
const PROCESSES: u64 = 20;
/// A user that has no other process: limits of processes count all of a user's.
const NOBODY_ELSE: u32 = 1_234_567;

fn fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

async fn upstream() -> Upstream {
    Upstream::start(|_| async { json(200, "{}") }).await
}

async fn live(program: &Program) -> bool {
    let answer = client().get(format!("http://{}/livez", program.admin)).send().await;
    answer.is_ok_and(|answer| answer.status() == 200)
}

/// A program whose client secret is in a file, and that file.
async fn with_secret_file(upstream: &Upstream, dir: &Path) -> (Program, PathBuf) {
    let file = dir.join("secret");
    std::fs::write(&file, CLIENT_SECRET).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let environment = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET_FILE", file.to_str().unwrap()),
    ];
    (
        Program::start(Command::new(PROGRAM), upstream, &environment, &[]).await,
        file,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_in_a_watched_files_place_stops_nothing() {
    let upstream = upstream().await;
    let dir = tempfile::tempdir().unwrap();
    let (program, file) = with_secret_file(&upstream, dir.path()).await;
    std::fs::remove_file(&file).unwrap();
    fifo(&file);
    program.until_said("no regular file").await;
    program.until_said("the old one stays in force").await;
    assert!(raw(program.address, GET).await.starts_with("HTTP/1.1 200 "));
    assert!(live(&program).await);
    // A good file again is taken in.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, CLIENT_SECRET).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    program.until_said("configuration reloaded").await;
    let (status, said) = program.stop().await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_at_the_start_is_waited_for_and_named() {
    let upstream = upstream().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fifo(&file);
    let mut child = Command::new(PROGRAM)
        .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--base-url", &upstream.base_url(), "--upstream-ca"])
        .arg(&upstream.ca_file)
        .env_clear()
        .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
        .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", &file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut said = String::new();
    let named = async {
        while !said.contains("still waiting") || !said.ends_with('\n') {
            let mut chunk = [0; 1000];
            let size = stderr.read(&mut chunk).await.unwrap();
            assert!(size > 0, "it ended: {said}");
            said.push_str(&String::from_utf8_lossy(&chunk[..size]));
        }
    };
    tokio::time::timeout(PATIENCE, named).await.unwrap();
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    // It goes on once somebody writes.
    tokio::task::spawn_blocking(move || std::fs::write(file, CLIENT_SECRET).unwrap())
        .await
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 20];
    tokio::time::timeout(PATIENCE, stdout.read_exact(&mut line))
        .await
        .unwrap()
        .unwrap();
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    // Nor does what was read from a FIFO look changed because it was read.
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).await.unwrap();
    assert!(!rest.contains("not good"), "{rest}");
}

/// As another user than root, whom such limits do not hold; `None`: we are not root, and can't be anybody else.
fn as_another_user(user: u32, processes: u64) -> Option<Command> {
    if !geteuid().is_root() {
        skip("limits of processes are tested as root, who can be another user");
        return None;
    }
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nproc={processes}"))
        .args(["setpriv", "--clear-groups"])
        .args([format!("--reuid={user}"), format!("--regid={user}")])
        .arg(PROGRAM);
    Some(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_threads_is_one_clear_line_and_exit_code_1() {
    for processes in 1..=4 {
        let Some(mut command) = as_another_user(NOBODY_ELSE + 1, processes) else {
            return;
        };
        let output = command
            .args([
                "run",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--workers",
                "4",
            ])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
            .env("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{processes}: {said}");
        assert_eq!(said.lines().count(), 1, "{processes}: {said}");
        assert!(
            said.contains("no thread can be made") && said.contains("ulimit -u"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_more_threads_can_be_made_requests_probes_and_signals_go_on() {
    let Some(command) = as_another_user(NOBODY_ELSE, PROCESSES) else {
        return;
    };
    let environment = [
        ("PATH", "/usr/bin:/bin"),
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
    ];
    let upstream = upstream().await;
    let dir = tempfile::tempdir().unwrap();
    let authorities = dir.path().join("ca.pem");
    std::fs::copy(&upstream.ca_file, &authorities).unwrap();
    for readable in [dir.path(), &authorities] {
        std::fs::set_permissions(readable, Permissions::from_mode(0o755)).unwrap();
    }
    // A name that has to be looked up, at each connection.
    let program = Program::start_at(
        command,
        "https://atlas.invalid",
        &authorities,
        &environment,
        &["--workers", "2"],
    )
    .await;
    // Others of the same user: with them its limit is met.
    let _others: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new("setpriv")
                .args(["--clear-groups".to_owned(), format!("--reuid={NOBODY_ELSE}")])
                .args(["sleep", "1000"])
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        })
        .collect();
    let pid = Pid::from_raw(program.pid().cast_signed()).unwrap();
    let answers: Vec<_> = (0..20)
        .map(|_| {
            let address = program.address;
            tokio::spawn(async move { raw(address, GET).await })
        })
        .collect();
    for answer in answers {
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
    }
    assert!(live(&program).await);
    kill_process(pid, Signal::HUP).unwrap();
    until("a reload came to its end", || async {
        metric(program.admin, "atlas_auth_proxy_config_reloads_total", &[]).await > 0.0
    })
    .await;
    let (status, said) = program.stop().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("a defect"), "{said}");
}
