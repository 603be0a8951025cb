//! The log across the ends of its process and of its file.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::*;
use crate::support::client::{client, get};
use crate::support::until;
use crate::support::upstream::{Held, json};

fn hangup(program: &Program) {
    kill_process(Pid::from_raw(program.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_what_was_under_way_is_an_unknown_outcome() {
    let folder = folder("audit.jsonl", "");
    let file = folder.path().join("audit.jsonl");
    let held = Held::start().await;
    let program = start(Command::new(PROGRAM), &held.upstream, &folder).await;
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    let delete = format!("DELETE {CLUSTERS}/c HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(delete.as_bytes()).await.unwrap();
    held.begun(1).await;
    program.end(Signal::KILL).await;
    let (code, told) = verify(folder.path(), &["audit.jsonl"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("outcome unknown") && told.contains(&format!("DELETE {CLUSTERS}/c")),
        "{told}"
    );
    // The next process goes on in the same file, with a chain of its own that names the last line.
    let program = start(Command::new(PROGRAM), &held.upstream, &folder).await;
    let status = get(&format!("http://{}/status.json", program.admin)).await;
    write(folder.path(), "status.json", &status);
    program.stop().await;
    let all = lines(&file);
    let opens = of(&all, "open");
    assert_eq!(opens[1]["previous"], all[1]["hash"]);
    let (code, told) = verify(folder.path(), &["--head", "status.json", "audit.jsonl"]);
    assert!(
        code == 0 && told.contains("outcome unknown") && told.contains("the end is proven"),
        "{told}"
    );
    // Whoever hides the change is found out by what the next process found.
    let text = fs::read_to_string(&file).unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.contains("\"begin\""))
        .map(|line| format!("{line}\n"))
        .collect();
    write(folder.path(), "forged", &without);
    assert_eq!(verify(folder.path(), &["forged"]).0, 1);
}

/// What a signal breaks off is ended in the log, and so is the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_cut_short_leaves_no_outcome_unknown() {
    for signal in [Signal::QUIT, Signal::TERM] {
        let folder = folder("audit.jsonl", "");
        let held = Held::start().await;
        let program = start(Command::new(PROGRAM), &held.upstream, &folder).await;
        let mut stream = TcpStream::connect(program.address).await.unwrap();
        let delete = format!("DELETE {CLUSTERS}/c HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(delete.as_bytes()).await.unwrap();
        held.begun(1).await;
        let pid = Pid::from_raw(program.pid().cast_signed()).unwrap();
        // The third SIGTERM ends it at once, as SIGQUIT does; each must be heard before the next.
        if signal == Signal::TERM {
            for times in 1..=2 {
                kill_process(pid, signal).unwrap();
                program.until_said_times("\"stopping", times).await;
            }
        }
        program.end(signal).await;
        let all = lines(&folder.path().join("audit.jsonl"));
        assert_eq!(pairs(&all), 1, "{all:?}");
        assert_eq!(of(&all, "end")[0]["decision"], "broken_off");
        assert_eq!(of(&all, "close").len(), 1);
        assert_eq!(verify(folder.path(), &["audit.jsonl"]).0, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_renamed_under_load_and_sighup_begins_another_also_with_refused_settings() {
    let folder = folder("audit.jsonl", "");
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let program = start(Command::new(PROGRAM), &upstream, &folder).await;
    let address = program.address;
    let (stop, mut callers) = (
        std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)),
        Vec::new(),
    );
    for _ in 0..4 {
        let stop = std::sync::Arc::clone(&stop);
        callers.push(tokio::spawn(async move {
            let http = client();
            let mut sent = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let answer = http
                    .post(format!("http://{address}{CLUSTERS}"))
                    .body("{}")
                    .send()
                    .await
                    .unwrap();
                assert_eq!(answer.status(), 200);
                sent += 1;
            }
            sent
        }));
    }
    let file = folder.path().join("audit.jsonl");
    let config = fs::read_to_string(folder.path().join("proxy.toml")).unwrap();
    for round in 1..=3 {
        until("lines are written", || async { lines(&file).len() > 20 }).await;
        fs::rename(&file, folder.path().join(format!("audit.{round}"))).unwrap();
        if round == 2 {
            write(folder.path(), "proxy.toml", "no such key = 1\n");
        }
        hangup(&program);
        until("another file is begun", || async { file.exists() }).await;
        write(folder.path(), "proxy.toml", &config);
    }
    until("lines are written", || async { lines(&file).len() > 20 }).await;
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut sent = 0;
    for caller in callers {
        sent += caller.await.unwrap();
    }
    program.stop().await;
    let names = ["audit.1", "audit.2", "audit.3", "audit.jsonl"];
    let all: Vec<Value> = names.iter().flat_map(|name| lines(&folder.path().join(name))).collect();
    assert_eq!(pairs(&all), sent);
    let (code, told) = verify(folder.path(), &names);
    assert_eq!(code, 0, "{told}");
    // The oldest may be gone; one of the middle may not.
    assert_eq!(verify(folder.path(), &names[1..]).0, 0);
    assert_eq!(verify(folder.path(), &["audit.1", "audit.3", "audit.jsonl"]).0, 1);
    let outcomes: Vec<_> = of(&all, "reload")
        .into_iter()
        .map(|line| line["outcome"].clone())
        .collect();
    assert!(
        outcomes.contains(&"error".into()) && outcomes.contains(&"ok".into()),
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_has_the_lines_without_a_chain() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "proxy.toml",
        "[audit]\nfile = \"stdout\"\nwhen_full = \"drop\"\n",
    );
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let config = folder.path().join("proxy.toml");
    let mut child = Command::new(PROGRAM)
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--config",
        ])
        .arg(&config)
        .args(["--base-url", &upstream.base_url(), "--upstream-ca"])
        .arg(&upstream.ca_file)
        .env_clear()
        .envs(SERVICE_ACCOUNT)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    while !text.contains("\"end\"") {
        let line = output.next_line().await.unwrap().unwrap();
        if let Some((_, address)) = line.split_once("serves http://") {
            let address = address.split(' ').next().unwrap();
            let url = format!("http://{address}{CLUSTERS}");
            assert_eq!(client().post(&url).body("{}").send().await.unwrap().status(), 200);
        }
        text.push_str(&line);
        text.push('\n');
    }
    let all: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(pairs(&all), 1);
    assert!(
        all.iter()
            .all(|line| line.get("chain").is_none() && line.get("seq").is_none())
    );
}
