//! The process keeps its memory and its files to itself. The program itself runs here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;

use crate::support::client::client;
use crate::support::needs::skip;
use crate::support::program::{PROGRAM, Program};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use crate::support::upstream::{Upstream, json};

/// `nobody` of Debian; any id that is not root's does.
const NOBODY: u32 = 65_534;

async fn upstream() -> Upstream {
    Upstream::start(|_| async { json(200, "{}") }).await
}

fn secret_file(folder: &Path, mode: u32) -> PathBuf {
    let path = folder.join(format!("secret-{mode:o}"));
    fs::write(&path, CLIENT_SECRET).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

async fn by_file(upstream: &Upstream, command: Command, secret: &Path) -> Program {
    let environment = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
    ];
    Program::start(command, upstream, &environment, &[]).await
}

#[tokio::test]
async fn no_core_no_new_privileges_and_all_files() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let program = by_file(&upstream, Command::new(PROGRAM), &secret_file(folder.path(), 0o600)).await;
    let proc = PathBuf::from(format!("/proc/{}", program.pid()));
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let limit = |name: &str| -> Vec<String> {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(limit("Max core file size")[..2], ["0", "0"]);
    let files = limit("Max open files");
    assert_eq!(files[0], files[1], "the soft limit is the hard one");
    let status = fs::read_to_string(proc.join("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // Read by root, whom nothing is hidden from: the secret is in the file alone.
    if let Ok(environ) = fs::read(proc.join("environ")) {
        let cmdline = fs::read(proc.join("cmdline")).unwrap();
        for bytes in [environ, cmdline] {
            assert!(!String::from_utf8_lossy(&bytes).contains(CLIENT_SECRET));
        }
    }
    let metrics = client()
        .get(format!("http://{}/metrics", program.admin))
        .send()
        .await
        .unwrap();
    assert!(metrics.text().await.unwrap().contains("process_open_fds"));
}

#[tokio::test]
async fn an_abort_leaves_no_core() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let mut command = Command::new("/bin/sh");
    command
        .current_dir(folder.path())
        .args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\"", PROGRAM]);
    let secret = tempfile::tempdir().unwrap();
    let program = by_file(&upstream, command, &secret_file(secret.path(), 0o600)).await;
    let status = program.end(rustix::process::Signal::ABORT).await.0;
    assert_eq!(status.signal(), Some(6));
    assert!(!status.core_dumped());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no core file");
}

#[tokio::test]
async fn a_process_of_the_same_user_cannot_look_into_it() {
    if !rustix::process::getuid().is_root() {
        return skip("only root can start processes of another user");
    }
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let secret = secret_file(folder.path(), 0o600);
    std::os::unix::fs::chown(&secret, Some(NOBODY), None).unwrap();
    for path in [folder.path(), upstream.ca_file.as_path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--clear-groups"]);
        command
    };
    // The build's folder may be closed to others. Copied by a process: a file that this one had open for writing could
    // still be open in a child that another test forked meanwhile, and could not be executed then.
    let program_of_all = folder.path().join("program");
    let copied = Command::new("cp")
        .arg(PROGRAM)
        .arg(&program_of_all)
        .status()
        .await
        .unwrap();
    assert!(copied.success());
    let mut command = as_nobody();
    command.arg(&program_of_all);
    let program = by_file(&upstream, command, &secret).await;
    let answer = client()
        .get(format!("http://{}/x", program.address))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "it works as that user");
    let proc = PathBuf::from(format!("/proc/{}", program.pid()));
    assert_eq!(
        fs::metadata(proc.join("environ")).unwrap().uid(),
        0,
        "the kernel gave it to root"
    );
    for file in ["environ", "mem", "maps", "fd/0"] {
        let read: Output = as_nobody()
            .args(["head", "-c", "1"])
            .arg(proc.join(file))
            .output()
            .await
            .unwrap();
        assert!(!read.status.success(), "{file} is readable");
    }
    // A control: of a process that did not close itself, the same user reads it.
    let mut open = as_nobody().args(["sleep", "60"]).kill_on_drop(true).spawn().unwrap();
    let its_environ = format!("/proc/{}/environ", open.id().unwrap());
    crate::support::until("the control is readable", || async {
        as_nobody()
            .args(["head", "-c", "1", &its_environ])
            .output()
            .await
            .unwrap()
            .status
            .success()
    })
    .await;
    open.kill().await.unwrap();
}

#[tokio::test]
async fn secret_files_that_others_can_write_are_refused_and_readable_ones_warned_of() {
    let (upstream, folder) = (upstream().await, tempfile::tempdir().unwrap());
    for (mode, said) in [
        (0o400, None),
        (0o600, None),
        (0o640, None),
        (0o440, None),
        (0o644, Some("every user of this machine can read")),
        (0o604, Some("every user of this machine can read")),
        (0o660, Some("its group can write")),
    ] {
        let secret = secret_file(folder.path(), mode);
        let program = by_file(&upstream, Command::new(PROGRAM), &secret).await;
        let (status, log) = program.stop().await;
        assert_eq!(status.code(), Some(0));
        match said {
            Some(said) => assert!(
                log.contains(said) && log.contains(&format!("mode {mode:04o}")) && log.contains("chmod 600"),
                "{mode:o}: {log}"
            ),
            None => assert!(!log.contains("chmod"), "{mode:o}: {log}"),
        }
    }
    for mode in [0o602, 0o606, 0o622, 0o646, 0o666, 0o777] {
        let secret = secret_file(folder.path(), mode);
        let output = Command::new(PROGRAM)
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env_clear()
            .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
            .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", &secret)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{mode:o}: {said}");
        assert!(
            said.contains("MONGODB_ATLAS_CLIENT_SECRET_FILE") && said.contains(&format!("mode {mode:04o}")),
            "{mode:o}: {said}"
        );
        assert!(said.contains("chmod 600") && !said.contains(CLIENT_SECRET), "{said}");
    }
}
