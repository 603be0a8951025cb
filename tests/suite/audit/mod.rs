//! The audit log (docs/AUDIT.md): what of a request is on disk, and when; what happens where there is no room.

mod failing_disk;
mod full_disk;
mod process;
mod records;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::upstream::Upstream;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const CLUSTERS: &str = "/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/clusters";

/// A folder with a key and a configuration that names `audit.jsonl`, with these keys more in `[audit]` and other tables.
fn folder(file: &str, more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "audit-key", KEY);
    write(
        folder.path(),
        "proxy.toml",
        &format!("[audit]\nfile = \"{file}\"\nchain_key_file = \"audit-key\"\n{more}\n"),
    );
    folder
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn start(command: Command, upstream: &Upstream, folder: &TempDir) -> Program {
    let config = folder.path().join("proxy.toml");
    let args = ["--config", config.to_str().unwrap(), "--log-format", "json"];
    Program::start(command, upstream, &SERVICE_ACCOUNT, &args).await
}

/// The lines of an audit file that are whole.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of<'l>(lines: &'l [Value], event: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// Each begin has one end, of the same request.
fn pairs(lines: &[Value]) -> usize {
    let ids = |event| {
        let mut ids: Vec<_> = of(lines, event).iter().map(|line| line["id"].to_string()).collect();
        ids.sort();
        ids
    };
    let (begun, ended) = (ids("begin"), ids("end"));
    assert_eq!(begun, ended);
    let mut once = begun.clone();
    once.dedup();
    assert_eq!(once, begun);
    begun.len()
}

/// `audit verify`: its exit code and what it says.
fn verify(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = std::process::Command::new(PROGRAM)
        .args(["audit", "verify", "--key"])
        .arg(folder.join("audit-key"))
        .args(args)
        .env_clear()
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}
