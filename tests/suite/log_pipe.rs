//! The log goes to a pipe that somebody else reads, or doesn't: that stops nothing, and what is lost is counted.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::client::{client, read_body, read_head};
use crate::support::metrics::metric;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// A pipe that holds as little as a pipe can, and a program that logs to it.
async fn unread(upstream: &Upstream) -> (Program, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let program = Program::start_with_log(
        Command::new(PROGRAM),
        upstream,
        &SERVICE_ACCOUNT,
        &[],
        OwnedFd::from(writer),
    )
    .await;
    (program, reader)
}

/// Sends requests, each of which makes a long line, until lines were lost.
async fn fill(program: &Program) -> usize {
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    let get = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(600));
    let mut sent = 0;
    while metric(program.admin, "atlas_auth_proxy_log_lines_dropped_total", &[]).await == 0.0 {
        for _ in 0..200 {
            stream.write_all(get.as_bytes()).await.unwrap();
            let head = read_head(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            read_body(&mut stream, &head).await;
            sent += 1;
        }
        assert!(sent < 20_000, "the queue has no bound");
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_stops_nothing_and_what_is_lost_is_counted() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let (program, mut reader) = unread(&upstream).await;
    let sent = fill(&program).await;
    // Requests, probes, metrics.
    let live = client().get(format!("http://{}/livez", program.admin)).send().await;
    assert_eq!(live.unwrap().status(), 200);
    // Somebody reads again: the count is told, and agrees with the metric.
    let lost = metric(program.admin, "atlas_auth_proxy_log_lines_dropped_total", &[]).await;
    let log = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let reading = std::thread::spawn({
        let log = std::sync::Arc::clone(&log);
        move || {
            let mut chunk = [0; 65536];
            while let Ok(size @ 1..) = reader.read(&mut chunk) {
                log.lock().extend_from_slice(&chunk[..size]);
            }
        }
    });
    until("the log tells of the lines that were lost", || async {
        String::from_utf8_lossy(&log.lock()).contains("log lines were lost")
    })
    .await;
    let address = program.address;
    let (status, _) = program.stop().await;
    assert_eq!(status.code(), Some(0), "{address}");
    reading.join().unwrap();
    let log = String::from_utf8(log.lock().clone()).unwrap();
    let told: u64 = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("whole lines alone"))
        .filter(|line| line["message"].as_str().is_some_and(|said| said.contains("were lost")))
        .map(|line| line["lines"].as_u64().unwrap())
        .sum();
    assert_eq!(told as f64, lost);
    let requests = log.lines().filter(|line| line.contains("\"decision\"")).count();
    assert_eq!(
        requests + told as usize,
        sent,
        "each request has its line, or is counted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_end_a_process_whose_log_nobody_reads() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let (program, _reader) = unread(&upstream).await;
    fill(&program).await;
    let (status, _) = tokio::time::timeout(crate::support::PATIENCE, program.end(Signal::TERM))
        .await
        .expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// The line that says where it serves goes to standard output, which may be full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_output_that_nobody_reads_stops_nothing() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while std::io::Write::write(&mut writer, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("proxy.sock");
    let mut child = Command::new(PROGRAM)
        .args(["run", "--admin-listen", "127.0.0.1:0", "--listen"])
        .arg(format!("unix:{}", socket.display()))
        .args(["--base-url", &upstream.base_url(), "--upstream-ca"])
        .arg(&upstream.ca_file)
        .env_clear()
        .envs(SERVICE_ACCOUNT)
        .stdout(std::process::Stdio::from(OwnedFd::from(writer)))
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("it serves", || async {
        let Ok(mut stream) = tokio::net::UnixStream::connect(&socket).await else {
            return false;
        };
        let get = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(get).await.unwrap();
        read_head(&mut stream).await.starts_with("HTTP/1.1 200 ")
    })
    .await;
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let ended = tokio::time::timeout(crate::support::PATIENCE, child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
}
