//! The log across the ends of its process and of its file.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use super::*;
use crate::support::client::{client, get, read_body, read_head};
use crate::support::metrics::metric;
use crate::support::upstream::{Held, full, json};
use crate::support::{PATIENCE, until};

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
    // A missing key proves nothing, and is told of as what it is.
    write(folder.path(), "audit-key", &"0e".repeat(32));
    let (code, told) = verify(folder.path(), &["audit.jsonl"]);
    assert!(
        code == 1 && told.contains("audit-key)") && told.contains("NOT PROVEN: a key is missing"),
        "{told}"
    );
    for (first, second) in [("0e", KEY), (KEY, "0e")] {
        for (name, key) in [("audit-key", first), ("other-key", second)] {
            write(folder.path(), name, &key.repeat(64 / key.len()));
        }
        let (code, told) = verify(folder.path(), &["--key", "other-key", "audit.jsonl"]);
        assert_eq!(code, 0, "{told}");
    }
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
        // Which of the two tasks ends first, the request's or that of its connection upstream, is up to the runtime.
        let decision = of(&all, "end")[0]["decision"].as_str().unwrap();
        assert!(
            ["broken_off", "PROXY_UPSTREAM_UNREACHABLE"].contains(&decision),
            "{decision}"
        );
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
        if round == 2 {
            let refused = || async {
                of(&lines(&file), "reload")
                    .iter()
                    .any(|line| line["outcome"] == "error")
            };
            until("the settings are refused", refused).await;
        }
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

/// A program whose lines go to standard output, with these keys more in `[audit]`; and what is to come there.
struct Piped {
    address: SocketAddr,
    admin: SocketAddr,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Piped {
    async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let audit = format!("[audit]\nfile = \"stdout\"\nwhen_full = \"drop\"\n{more}\n");
        let config = write(folder.path(), "proxy.toml", &audit);
        // Not JSON, in which links are looked for: so its length stays known.
        let upstream = Upstream::start(|_| async { hyper::Response::new(full("ok")) }).await;
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
        loop {
            let line = output.next_line().await.unwrap().unwrap();
            let addresses: Vec<SocketAddr> = line
                .split([' ', ','])
                .filter_map(|word| word.split_once("://")?.1.parse().ok())
                .collect();
            if let [address, admin] = addresses[..] {
                std::mem::forget((folder, upstream));
                return Self {
                    address,
                    admin,
                    output,
                    _child: child,
                };
            }
        }
    }

    /// All that comes until there are so many lines of this event.
    async fn until(&mut self, event: &str, times: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while of(&all, event).len() < times {
            all.extend(serde_json::from_str(&self.output.next_line().await.unwrap().unwrap()).ok());
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_has_the_lines_without_a_chain() {
    let mut piped = Piped::start("").await;
    let url = format!("http://{}{CLUSTERS}", piped.address);
    assert_eq!(client().post(&url).body("{}").send().await.unwrap().status(), 200);
    let all = piped.until("end", 1).await;
    assert_eq!(pairs(&all), 1);
    assert!(
        all.iter()
            .all(|line| line.get("chain").is_none() && line.get("seq").is_none())
    );
}

/// Changes that waited for a pipe would take five seconds each, and all of these longer than anybody waits here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_output_that_nobody_reads_stops_no_change_and_what_is_lost_is_counted() {
    const CHANGES: usize = 60;
    let mut piped = Piped::start("include = \"all\"").await;
    let admin = piped.admin;
    let dropped = || metric(admin, "atlas_auth_proxy_audit_lines_dropped_total", &[]);
    let mut stream = TcpStream::connect(piped.address).await.unwrap();
    let mut call = async |method: &str| {
        let path = "x".repeat(1900);
        let request = format!("{method} /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        read_body(&mut stream, &head).await;
    };
    let mut reads = 0;
    while dropped().await == 0.0 {
        for _ in 0..100 {
            call("GET").await;
        }
        reads += 100;
        assert!(reads < 20_000, "the queue has no bound");
    }
    let changes = async {
        for _ in 0..CHANGES {
            call("PATCH").await;
        }
    };
    timeout(PATIENCE, changes).await.expect("no change waits");
    // Somebody reads again: all that was not counted as lost is there.
    let all = piped.until("end", CHANGES).await;
    assert_eq!(pairs(&all), CHANGES);
    assert_eq!(of(&all, "one").len() + dropped().await as usize, reads);
}
