//! What ends the process, and when: signals, `POST /quitquitquit`, and what holds a drain.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::support::client::{client, raw, read_body, read_head, read_to_end};
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Held, Upstream, json};
use crate::support::{PATIENCE, until};

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A program with a request in flight, which is answered when the semaphore has a permit.
async fn in_flight() -> (Program, TcpStream, Arc<Semaphore>, Upstream) {
    let held = Held::start().await;
    let program = Program::start(
        Command::new(PROGRAM),
        &held.upstream,
        &SERVICE_ACCOUNT,
        &["--drain-timeout", "1h", "--admin-quit"],
    )
    .await;
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    held.begun(1).await;
    (program, stream, held.release, held.upstream)
}

/// The request has its answer, and the drain its end; gives back what was logged.
async fn answered_and_over(program: Program, mut stream: TcpStream, release: &Semaphore) -> String {
    release.add_permits(1);
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    drop(stream);
    let (status, said) = program.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    said
}

/// A proxy whose drain ends when nothing holds it, and not before.
async fn patient(upstream: &Upstream) -> Proxy {
    let builder = upstream.proxy().with(|s| s.drain_timeout = Duration::from_secs(3600));
    builder.start().await
}

fn send(program: &Program, signal: Signal) {
    kill_process(Pid::from_raw(program.pid().cast_signed()).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_lets_the_drain_go_on() {
    let (program, stream, release, upstream) = in_flight().await;
    send(&program, Signal::TERM);
    program.until_said("stopping").await;
    send(&program, Signal::TERM);
    program.until_said("the drain goes on").await;
    let said = answered_and_over(program, stream, &release).await;
    assert!(said.contains("the drain has ended"), "{said}");
    assert!(said.contains("access token revoked"), "{said}");
    assert_eq!(upstream.revocations(), 1);
}

/// A Job ends its sidecar by the admin port; the SIGTERM that follows with the pod's end is the first of its kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_sigterm_after_quitquitquit_lets_the_drain_go_on() {
    let (program, stream, release, _upstream) = in_flight().await;
    let asked = client()
        .post(format!("http://{}/quitquitquit", program.admin))
        .send()
        .await;
    assert_eq!(asked.unwrap().status(), 200);
    program.until_said("stopping").await;
    send(&program, Signal::TERM);
    program.until_said("the drain goes on").await;
    answered_and_over(program, stream, &release).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_sigterm_a_second_sigint_and_sigquit_cut_the_drain() {
    for signals in [
        &[Signal::TERM, Signal::TERM, Signal::TERM][..],
        &[Signal::INT, Signal::INT],
        &[Signal::INT, Signal::TERM, Signal::INT],
        &[Signal::TERM, Signal::QUIT],
    ] {
        let (program, _stream, _release, _upstream) = in_flight().await;
        let (last, before) = signals.split_last().unwrap();
        for (n, signal) in before.iter().enumerate() {
            send(&program, *signal);
            // Two of a kind that come at once are one.
            program.until_said_times("\"signal\"", n + 1).await;
        }
        let (status, said) = tokio::time::timeout(PATIENCE, program.end(*last)).await.unwrap();
        assert_eq!(status.code(), Some(1), "{signals:?}: {said}");
        assert!(said.contains("stopping at once"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_do_not_hold_a_drain_whether_their_client_reads_or_not() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = patient(&upstream).await;
    // One that was answered and rests, one that has said nothing yet.
    let mut rests = TcpStream::connect(proxy.address).await.unwrap();
    rests.write_all(GET).await.unwrap();
    read_head(&mut rests).await;
    let _silent = TcpStream::connect(proxy.address).await.unwrap();
    tokio::time::timeout(PATIENCE, proxy.app.shutdown())
        .await
        .expect("the drain ends long before its time");
    assert_eq!(upstream.revocations(), 1);
}

/// An answer that its client takes nothing of holds its connection, but not the token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_revoked_when_no_request_uses_it_and_not_after_the_last_connection() {
    const SIZE: usize = 32 << 20;
    let upstream = Upstream::start(|_| async { json(200, "x".repeat(SIZE)) }).await;
    let proxy = patient(&upstream).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let ending = tokio::spawn(proxy.app.shutdown());
    until("the token is revoked", || async { upstream.revocations() == 1 }).await;
    assert!(!ending.is_finished(), "the answer is still on its way");
    let mut got = vec![0; SIZE];
    stream.read_exact(&mut got).await.expect("the whole answer");
    drop(stream);
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_the_drain_delay_clients_are_served_and_told_to_close() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = upstream
        .proxy()
        .with(|s| s.drain_delay = Duration::from_secs(3600))
        .start()
        .await;
    let (address, admin) = (proxy.address, proxy.admin);
    let mut before = TcpStream::connect(address).await.unwrap();
    before.write_all(GET).await.unwrap();
    let head = read_head(&mut before).await;
    assert!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
    read_body(&mut before, &head).await;
    let ending = tokio::spawn(proxy.app.shutdown());
    until("readyz says draining", || async {
        raw(
            admin,
            b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        .await
        .starts_with("HTTP/1.1 503 ")
    })
    .await;
    // An old connection and a new one: each is served, once more.
    let mut new = TcpStream::connect(address).await.unwrap();
    for stream in [&mut before, &mut new] {
        stream.write_all(GET).await.unwrap();
        let answer = read_to_end(stream).await.to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 200 ") && answer.contains("connection: close"),
            "{answer}"
        );
    }
    assert!(!ending.is_finished());
    ending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_the_end_gets_a_whole_answer() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    for _ in 0..10 {
        let proxy = upstream.proxy().start().await;
        let asked = client().post(format!("http://{}/quitquitquit", proxy.admin)).send();
        let end = async {
            proxy.app.quit_requested().await;
            proxy.app.shutdown().await;
        };
        let (answer, ()) = tokio::join!(asked, end);
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert!(!answer.text().await.expect("the whole of it").is_empty());
    }
}
