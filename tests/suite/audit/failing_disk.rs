//! A disk that fails or does not answer: `strace` sees to it. Whether a line is on disk is what a sync says.

use super::*;
use crate::support::client::client;
use crate::support::needs::{needs, skip};
use crate::support::upstream::json;

/// The program, with this done to its syncs. Of each thread, the first is left as it is: that of the line `open` is one.
async fn with_syncs(upstream: &Upstream, which: &str, done: &str) -> Option<(Program, TempDir)> {
    let strace = needs(&["strace"], "strace")?;
    let traced = Command::new(&strace).args(["-o", "/dev/null", "true"]).output().await;
    if !traced.is_ok_and(|output| output.status.success()) {
        skip("this user may not trace a program of its own");
        return None;
    }
    let folder = folder("audit.jsonl", "include = \"all\"");
    let mut command = Command::new(strace);
    // It traces from the side: the program itself is this process's child.
    command.args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e"]);
    command
        .arg(format!("inject=fdatasync:{done}:when={which}"))
        .arg(PROGRAM);
    let program = start(command, upstream, &folder).await;
    Some((program, folder))
}

async fn answers(_: http::Request<hyper::body::Incoming>) -> crate::support::upstream::Answer {
    json(200, "{}")
}

fn changes_seen(upstream: &Upstream) -> usize {
    upstream.seen().iter().filter(|seen| seen.method == "POST").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_line_is_not_surely_on_disk_is_not_forwarded() {
    let upstream = Upstream::start(answers).await;
    let Some((program, folder)) = with_syncs(&upstream, "2", "error=EIO").await else {
        return;
    };
    let url = format!("http://{}{CLUSTERS}", program.address);
    for status in [200, 503, 200] {
        let answer = client().post(&url).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), status);
        if status == 503 {
            assert_eq!(answer.headers()["x-atlas-auth-proxy-error"], "PROXY_AUDIT_UNAVAILABLE");
            assert_eq!(changes_seen(&upstream), 1);
            assert_eq!(client().get(&url).send().await.unwrap().status(), 200, "reads go on");
        }
        answer.bytes().await.unwrap();
    }
    assert_eq!(changes_seen(&upstream), 2);
    program.stop().await;
    // The line may be there all the same; then it is told what became of the change.
    let all = lines(&folder.path().join("audit.jsonl"));
    assert_eq!(pairs(&all), 3);
    assert_eq!(of(&all, "end")[1]["decision"], "PROXY_AUDIT_UNAVAILABLE");
    assert_eq!(verify(folder.path(), &["audit.jsonl"]).0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_does_not_answer_changes_are_refused_and_reads_go_on() {
    let upstream = Upstream::start(answers).await;
    // Longer than anybody waits here.
    let Some((program, _folder)) = with_syncs(&upstream, "2+", "delay_enter=600s").await else {
        return;
    };
    let url = format!("http://{}{CLUSTERS}", program.address);
    let post = || client().post(&url).body("{}").send();
    let answer = post().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap();
    let waits = tokio::spawn(post());
    for _ in 0..20 {
        assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    }
    for refused in [waits.await.unwrap(), post().await] {
        let refused = refused.unwrap();
        assert_eq!(refused.status(), 503);
        let said: Value = refused.json().await.unwrap();
        assert!(said["detail"].as_str().unwrap().contains("within 5 s"), "{said}");
        assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    }
    assert_eq!(changes_seen(&upstream), 1);
}
