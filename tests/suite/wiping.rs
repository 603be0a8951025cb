//! A secret that is no longer in use is nowhere in the process's memory. What Basic makes of it may outlive it in a buffer of the
//! HTTP library, until that memory is used again.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};

use tokio::process::Command;

use crate::support::needs::skip;
use crate::support::program::{PROGRAM, Program};
use crate::support::proxy::CLIENT_ID;
use crate::support::until;
use crate::support::upstream::{Upstream, json};

const OLD: &str = "mdb_sa_sk_the-old-secret-0123456789abcdefghijklm";
const NEW: &str = "mdb_sa_sk_the-new-secret-nopqrstuvwxyz9876543210";

/// How often these bytes are in the writable memory of a process.
fn found(pid: u32, what: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = 0;
    for line in maps
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (
            u64::from_str_radix(from, 16).unwrap(),
            u64::from_str_radix(to, 16).unwrap(),
        );
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Some mappings can't be read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found += bytes.windows(what.len()).filter(|window| *window == what).count();
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_secret_is_gone_from_memory_after_a_rotation() {
    if !rustix::process::getuid().is_root() {
        return skip("only root can look into a process that is closed to its own user");
    }
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let write = |secret: &str| {
        fs::write(&file, secret).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(OLD);
    let environment = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET_FILE", file.to_str().unwrap()),
    ];
    let program = Program::start(Command::new(PROGRAM), &upstream, &environment, &[]).await;
    until("a token", || async { upstream.token_requests() == 1 }).await;
    assert!(found(program.pid(), OLD.as_bytes()) > 0, "this finds what is there");
    write(NEW);
    until("a token by the new secret", || async { upstream.token_requests() == 2 }).await;
    until("the old one is gone", || async {
        found(program.pid(), OLD.as_bytes()) == 0
    })
    .await;
    assert!(found(program.pid(), NEW.as_bytes()) > 0);
    program.stop().await;
}
