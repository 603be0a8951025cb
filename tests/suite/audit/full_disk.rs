//! A disk without room: changes are refused, or counted where that is asked for; reads go on; every begin has its end.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::*;
use crate::support::client::{client, get};
use crate::support::metrics::metric;
use crate::support::needs::skip;
use crate::support::until;
use crate::support::upstream::json;

/// The program, in a mount namespace of its own with a small disk at `disk`.
async fn on_a_small_disk(upstream: &Upstream, more: &str) -> Option<(Program, TempDir, PathBuf)> {
    let mut probe = Command::new("unshare");
    probe.args(["-m", "sh", "-c", "mount -t tmpfs -o size=16k tmpfs /mnt"]);
    if !probe.output().await.is_ok_and(|output| output.status.success()) {
        skip("this user may not have a mount namespace of its own");
        return None;
    }
    let folder = folder("disk/audit.jsonl", more);
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=256k,mode=700 tmpfs '{}' && exec \"$0\" \"$@\"",
        disk.display()
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, PROGRAM]);
    let config = folder.path().join("proxy.toml");
    let mut environment = SERVICE_ACCOUNT.to_vec();
    environment.push(("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"));
    let args = ["--config", config.to_str().unwrap(), "--log-format", "json"];
    let program = Program::start(command, upstream, &environment, &args).await;
    let inside = PathBuf::from(format!("/proc/{}/root{}", program.pid(), disk.display()));
    Some((program, folder, inside))
}

/// Takes all room that is left.
fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    for size in [4096, 512, 1] {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
    }
    ballast
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_changes_are_refused_and_reads_go_on_and_every_begin_has_its_end() {
    let (begun, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&release));
    let upstream = Upstream::start(move |request| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            if request.uri().path().ends_with("/held") {
                tell.add_permits(1);
                wait.acquire().await.unwrap().forget();
            }
            json(200, "{}")
        }
    })
    .await;
    let Some((program, folder, disk)) = on_a_small_disk(&upstream, "include = \"all\"").await else {
        return;
    };
    let url = format!("http://{}{CLUSTERS}", program.address);
    let post = || client().post(&url).body("{}").send();
    // Under way for as long as the disk is full.
    let held = || client().post(format!("{url}/held")).body("{}").send();
    let before: Vec<_> = (0..8).map(|_| tokio::spawn(held())).collect();
    begun.acquire_many(8).await.unwrap().forget();
    let ballast = fill(&disk);
    // What room was taken ahead is used up; then it is over.
    let mut sent = 8;
    let refused = loop {
        let answer = post().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        // Its end is written before the last byte, and not before the head.
        answer.bytes().await.unwrap();
        sent += 1;
        assert!(sent < 10_000);
    };
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["x-atlas-auth-proxy-error"], "PROXY_AUDIT_UNAVAILABLE");
    assert!(refused.headers().contains_key("retry-after"));
    let said: Value = refused.json().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("full"), "{said}");
    let dropped = || metric(program.admin, "atlas_auth_proxy_audit_lines_dropped_total", &[]);
    let mut reads = 0;
    while reads == 0 || dropped().await < 50.0 {
        assert_eq!(client().get(&url).send().await.unwrap().status(), 200, "reads go on");
        reads += 1;
        assert!(reads < 10_000);
    }
    // It stays ready: reads go on. But it says so.
    let said = || async { get(&format!("http://{}/readyz", program.admin)).await };
    until("it says so", || async {
        said().await.contains("changes are refused, reads go on")
    })
    .await;
    assert!(said().await.starts_with("ok\n"));
    let status: Value = serde_json::from_str(&get(&format!("http://{}/status.json", program.admin)).await).unwrap();
    let log = &status["auditLog"];
    assert_eq!(
        (&log["writes"], &log["refusesChanges"]),
        (&Value::from(false), &Value::from(true)),
        "{log}"
    );
    assert!(
        log["cause"].as_str().unwrap().contains("space") && log["since"].is_string(),
        "{log}"
    );
    assert_eq!(status["verdict"]["reasons"][0]["about"], "audit log");
    release.add_permits(8);
    for answer in before {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
    }
    assert_eq!(
        upstream.seen().iter().filter(|seen| seen.method == "POST").count(),
        sent
    );
    // Their room was taken with their begin.
    let file = disk.join("audit.jsonl");
    assert_eq!(pairs(&lines(&file)), sent);
    let lost = dropped().await as u64;
    // Room again: changes again.
    fs::remove_file(ballast).unwrap();
    let answer = post().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap();
    let copy = fs::read_to_string(&file).unwrap();
    program.until_said("can't be written").await;
    program.until_said("can be written again").await;
    assert_eq!(get(&format!("http://{}/readyz", program.admin)).await, "ok\n");
    program.stop().await;
    write(folder.path(), "copy", &copy);
    let all = lines(&folder.path().join("copy"));
    assert_eq!(pairs(&all), sent + 1);
    // However many batches it was in, few lines tell of what was lost: they wait for room, too.
    let told: Vec<_> = all.iter().filter(|line| line["decision"] == "dropped").collect();
    assert!((1..=5).contains(&told.len()), "{told:?}");
    assert_eq!(told.iter().filter_map(|line| line["count"].as_u64()).sum::<u64>(), lost);
    assert_eq!(verify(folder.path(), &["copy"]).0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_when_full_drop_a_full_disk_refuses_nothing_and_what_is_lost_is_counted() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let Some((program, _folder, disk)) = on_a_small_disk(&upstream, "when_full = \"drop\"").await else {
        return;
    };
    let url = format!("http://{}{CLUSTERS}", program.address);
    fill(&disk);
    let dropped = || metric(program.admin, "atlas_auth_proxy_audit_lines_dropped_total", &[]);
    let mut sent = 0;
    while dropped().await == 0.0 {
        assert_eq!(client().post(&url).body("{}").send().await.unwrap().status(), 200);
        sent += 1;
        assert!(sent < 10_000);
    }
    until("more are lost", || async {
        assert_eq!(client().post(&url).body("{}").send().await.unwrap().status(), 200);
        dropped().await > 3.0
    })
    .await;
    // No change is refused.
    assert_eq!(get(&format!("http://{}/readyz", program.admin)).await, "ok\n");
    program.stop().await;
}
