//! The audit file: what `run` would refuse, and that nothing is written, made or locked to find it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::support::atlas::Atlas;
use crate::support::check::{Said, Setup};
use crate::support::needs::skip;

/// A set-up whose `[audit]` has these lines.
fn setup(atlas: &Atlas, audit: &str) -> Setup {
    let text = format!("[[listener]]\nbind = '127.0.0.1:0'\n[admin]\nbind = '127.0.0.1:0'\n[audit]\n{audit}\n");
    let file = atlas.file("settings.toml", text, 0o644);
    atlas.before(Setup::bearer().args(&["--config", &file]))
}

async fn check(atlas: &Atlas, file: &Path) -> Said {
    setup(atlas, &format!("file = '{}'", file.display())).check().await
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_file_that_can_be_written_or_made() {
    let atlas = Atlas::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let said = check(&atlas, &file).await;
    said.works("all is well");
    let path = file.to_str().unwrap();
    said.line("ok", "audit", &[path, "can be made", "MiB left", "nothing proves"], &[]);
    assert!(entries(folder.path()).is_empty());

    // As where a proxy has it.
    fs::write(&file, "{}\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let held = fs::File::open(&file).unwrap();
    held.lock().unwrap();
    let before = fs::metadata(&file).unwrap();
    let key = atlas.file("audit-key", "0f".repeat(32), 0o600);
    let chained = setup(&atlas, &format!("file = '{path}'\nchain_key_file = '{key}'"));
    let said = chained.check().await;
    said.works("all is well");
    said.line("ok", "audit", &[path, "can be written", "chained with the key "], &[]);
    let after = fs::metadata(&file).unwrap();
    assert_eq!(entries(folder.path()), std::slice::from_ref(&file));
    assert_eq!((before.len(), before.ctime_nsec()), (after.len(), after.ctime_nsec()));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
    let said = check(&atlas, &file).await;
    said.works("it works; 1 to look at");
    said.line("warn", "audit", &["the group may", path], &["chmod 600"]);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o660);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_file_that_run_would_refuse() {
    let atlas = Atlas::start().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let make = |name: &str, mode| {
        fs::write(at(name), "").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    make("open", 0o604);
    make("one", 0o600);
    fs::hard_link(at("one"), at("other")).unwrap();
    make("real", 0o600);
    symlink(at("real"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let before = entries(folder.path());
    for (name, found) in [
        ("open", &["mode 0604", "chmod 600"][..]),
        ("other", &["a hard link"]),
        ("link", &["a symbolic link"]),
        ("dangling", &["a symbolic link"]),
        ("folder", &["no regular file"]),
        ("socket", &["no regular file"]),
        ("gone/audit.jsonl", &["make its directory first"]),
        ("real/audit.jsonl", &["Not a directory"]),
    ] {
        let file = at(name);
        let mut words = vec![file.to_str().unwrap()];
        words.extend_from_slice(found);
        check(&atlas, &file).await.fails("audit", &words, &[]);
    }
    assert_eq!(entries(folder.path()), before);

    make("another", 0o600);
    match chown(at("another"), Some(65534), None) {
        Ok(()) => {
            let said = check(&atlas, &at("another")).await;
            said.fails("audit", &["belongs to user 65534"], &["run `check` as that one"]);
        }
        Err(_) => skip("this user may not give files away"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_file_without_room_or_in_a_folder_that_takes_no_file() {
    let atlas = Atlas::start().await;
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().display();
    let small = format!("mount -t tmpfs -o size=1m,mode=700 tmpfs '{disk}'");
    let read_only = format!("mount -t tmpfs -o ro,mode=700 tmpfs '{disk}'");
    let audit = format!("file = '{disk}/audit.jsonl'");
    let on = |mount: &str| {
        let script = format!("{mount} && exec \"$0\" \"$@\"");
        setup(&atlas, &audit)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .through(&["unshare", "-m", "sh", "-c", &script])
    };
    let probe = tokio::process::Command::new("unshare")
        .args(["-m", "true"])
        .output()
        .await;
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip("this user may not have a mount namespace of its own");
    }
    let said = on(&small).check().await;
    said.works("it works; 1 to look at");
    said.line("warn", "audit", &["only 1 MiB"], &["changes are refused"]);
    // So much that less than the least is left.
    let full = format!("{small} && head -c 1000k /dev/zero > '{disk}/other'");
    let said = on(&full).check().await;
    said.fails("audit", &["no room is left", "would not start"], &["free some"]);
    on(&read_only).check().await.fails("audit", &["mounted read-only"], &[]);
    // A file that can be written, and a folder that can't.
    let bound = format!(
        "mount -t tmpfs -o mode=700 tmpfs '{disk}' && install -m 600 /dev/null '{disk}/audit.jsonl' && \
         mount --bind '{disk}/audit.jsonl' '{disk}/audit.jsonl' && mount -o remount,bind,ro '{disk}'"
    );
    let said = on(&bound).check().await;
    said.works("it works; 1 to look at");
    said.line("warn", "audit", &["no other file can be made"], &["SIGHUP"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_on_standard_output() {
    let atlas = Atlas::start().await;
    let said = setup(&atlas, "file = 'stdout'\nwhen_full = 'drop'").check().await;
    said.works("all is well");
    said.line("ok", "audit", &["standard output"], &[]);
    let said = setup(&atlas, "file = 'stdout'").check().await;
    assert_eq!(said.code, Some(1), "{}", said.text);
}
