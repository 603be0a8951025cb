//! Nobody hurts another: what one caller, listener or account uses up, or breaks, leaves the others theirs.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use atlas_auth_proxy::app::App;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::callers::{BILLING_SECRET, DEPLOYER_SECRET, Gateway, PROJECT, listener};
use crate::support::client::client;
use crate::support::config::load;
use crate::support::metrics::metric;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::CLIENT_SECRET;
use crate::support::until;
use crate::support::upstream::{Upstream, json};

/// Two callers that may do the same.
const EQUALS: &str = r#"
[[caller]]
name = "billing"
secret_file = "billing"
[[caller.rule]]
operations = ["*Cluster*"]
action = "allow"

[[caller]]
name = "deployer"
secret_file = "deployer"
[[caller.rule]]
operations = ["*Cluster*"]
action = "allow"
"#;

fn clusters() -> String {
    format!("/api/atlas/v2/groups/{PROJECT}/clusters")
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn patient_upstream() -> Upstream {
    Upstream::start(|request: http::Request<hyper::body::Incoming>| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await
}

/// The program with so many descriptors, and so a share of that in places, and this configuration.
async fn with_descriptors(how_many: usize, upstream: &Upstream, config: &str, args: &[&str]) -> (Program, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("billing", BILLING_SECRET),
        ("deployer", DEPLOYER_SECRET),
        ("proxy.toml", config),
    ] {
        write(folder.path(), name, content);
    }
    let mut shell = Command::new("/bin/sh");
    let limited = format!("ulimit -n {how_many}; exec \"$0\" \"$@\"");
    shell.args(["-c", &limited, PROGRAM]);
    let config = folder.path().join("proxy.toml");
    let args = [&["--config", config.to_str().unwrap()], args].concat();
    (Program::start(shell, upstream, &SERVICE_ACCOUNT, &args).await, folder)
}

async fn connect(to: SocketAddr, n: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("127.0.0.{}:0", 2 + n % 4).parse().unwrap())
        .unwrap();
    socket.connect(to).await.unwrap()
}

/// Requests whose content does not come: each holds a place on the way to the upstream. From several addresses: where callers
/// are required, one has a quarter of the connections.
async fn stuck(program: &Program, how_many: usize, head: &str) -> Vec<TcpStream> {
    let mut stuck = Vec::new();
    for n in 0..how_many {
        let mut stream = connect(program.address, n).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    until("one is told that there is no place", || async {
        metric(
            program.admin,
            "atlas_auth_proxy_upstream_errors_total",
            &[("kind", "queue")],
        )
        .await
            > 0.0
    })
    .await;
    stuck
}

/// The greedy caller has all places but the others' parts, and gets 503 for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_full_of_stuck_requests_leaves_the_others_their_places() {
    let upstream = patient_upstream().await;
    let (program, _folder) = with_descriptors(160, &upstream, EQUALS, &[]).await;
    let path = clusters();
    let greedy = basic("billing", BILLING_SECRET);
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {greedy}\r\nContent-Length: 9\r\n\r\n1234");
    let stuck = stuck(&program, 45, &head).await;
    let url = format!("http://{}{path}", program.address);
    for _ in 0..5 {
        let request = client().get(&url).basic_auth("deployer", Some(DEPLOYER_SECRET));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let more = client().get(&url).basic_auth("billing", Some(BILLING_SECRET));
    assert_eq!(more.send().await.unwrap().status(), 503);
    drop(stuck);
    assert!(program.stop().await.0.success());
}

/// Half of all connections are for anybody, half is divided: whoever holds all that it may leaves the others theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_opens_all_connections_leaves_the_others_theirs() {
    let upstream = patient_upstream().await;
    // Of 160 descriptors, 74 are for clients: 37 for anybody, and 37 for the listener, which keeps 19 of them for whoever has
    // just come; both callers and whoever is none have 6 each.
    let (program, _folder) = with_descriptors(160, &upstream, EQUALS, &[]).await;
    let head = |who: String| {
        format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {who}\r\n\r\n",
            clusters()
        )
    };
    let (greedy, modest) = (
        head(basic("billing", BILLING_SECRET)),
        head(basic("deployer", DEPLOYER_SECRET)),
    );
    let mut held = Vec::new();
    let (refused, answer) = loop {
        let mut stream = connect(program.address, held.len()).await;
        let answer = exchange(&mut stream, &greedy).await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            break (stream, answer);
        }
        held.push(stream);
    };
    assert_eq!(held.len(), 37 + 6);
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("PROXY_OVERLOADED"),
        "{answer}"
    );
    assert!(
        answer.contains("caller `billing`: its own 6 ") && answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    ends(refused).await;
    let labels = [("reason", "connections"), ("caller", "billing")];
    assert_eq!(
        metric(program.admin, "atlas_auth_proxy_denied_total", &labels).await,
        1.0
    );
    // It may go on with those that it has.
    assert!(exchange(&mut held[0], &greedy).await.starts_with("HTTP/1.1 200 "));
    // Whoever comes and says nothing, or not who it is, keeps nobody out.
    let mut idle = Vec::new();
    for n in 0..15 {
        idle.push(connect(program.address, n).await);
    }
    let mut stranger = connect(program.address, 0).await;
    let answer = exchange(&mut stranger, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    ends(stranger).await;
    let mut others = Vec::new();
    for n in 0..6 {
        let mut stream = connect(program.address, n).await;
        assert!(
            exchange(&mut stream, &modest).await.starts_with("HTTP/1.1 200 "),
            "connection {n}"
        );
        others.push(stream);
    }
    held.truncate(30);
    until("it has one again", || async {
        let mut stream = connect(program.address, 0).await;
        exchange(&mut stream, &greedy).await.starts_with("HTTP/1.1 200 ")
    })
    .await;
    assert!(program.stop().await.0.success());
}

async fn ends(mut stream: TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_fills_the_replay_budget_leaves_the_others_their_part() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(|request: http::Request<hyper::body::Incoming>| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let tables = format!("{EQUALS}\n[limits]\nreplay_budget = \"1MiB\"\n");
    let clock = std::sync::Arc::new(atlas_auth_proxy::time::SystemClock);
    let gateway = Gateway::start_at(folder, upstream, clock, &listener(""), &tables).await;
    let (path, greedy) = (clusters(), basic("billing", BILLING_SECRET));
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {greedy}\r\nContent-Length: 500000\r\n\r\n");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.address(0)).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 440_000]).await.unwrap();
        held.push(stream);
    }
    until("both are under way", || async { gateway.upstream.seen().len() >= 2 }).await;
    // All of 440,000 bytes twice would leave less than this; a sixth of the budget is the other caller's.
    gateway.upstream.tokens.expire_all();
    let request = gateway.send("POST", &path).body(vec![7; 160_000]);
    let answer = request
        .basic_auth("deployer", Some(DEPLOYER_SECRET))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "it could be sent again");
    drop(held);
}

/// One worker, and a caller with many connections that asks for what it may not as soon as it is answered: what others ask for
/// meanwhile passes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_keeps_the_processor_busy_has_others_served_between_its_requests() {
    const GREEDY: usize = 400;
    let upstream = patient_upstream().await;
    let config = format!("workers = 1\n{EQUALS}");
    let (program, _folder) = with_descriptors(2000, &upstream, &config, &[]).await;
    let head = |name: &str, secret: &str| {
        let who = basic(name, secret);
        format!("GET /api/atlas/v2/groups/{PROJECT}/backup HTTP/1.1\r\nHost: localhost\r\nAuthorization: {who}\r\n\r\n")
    };
    let served = Arc::new(AtomicUsize::new(0));
    let mut greedy = JoinSet::new();
    for n in 0..GREEDY {
        let mut stream = connect(program.address, n).await;
        let (served, head) = (Arc::clone(&served), head("billing", BILLING_SECRET));
        greedy.spawn(async move {
            loop {
                assert!(exchange(&mut stream, &head).await.starts_with("HTTP/1.1 403 "));
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    until("all of them are served", || async {
        served.load(Ordering::Relaxed) > 5 * GREEDY
    })
    .await;
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    let head = head("deployer", DEPLOYER_SECRET);
    let mut overtaken = Vec::new();
    for _ in 0..30 {
        let before = served.load(Ordering::Relaxed);
        assert!(exchange(&mut stream, &head).await.starts_with("HTTP/1.1 403 "));
        overtaken.push(served.load(Ordering::Relaxed) - before);
    }
    overtaken.sort_unstable();
    assert!(
        overtaken[15] < GREEDY / 3,
        "answers to the greedy one meanwhile: {overtaken:?}"
    );
    assert!(!greedy.is_empty() && greedy.try_join_next().is_none());
    drop(greedy);
    assert!(program.stop().await.0.success());
}

/// One worker, and a caller whose many requests are all answered at the same moment: what others ask for then is answered
/// between these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_come_in_one_burst_are_passed_on_between_those_of_others() {
    const GREEDY: usize = 300;
    let (waiting, (go, gate)) = (Arc::new(AtomicUsize::new(0)), watch::channel(false));
    let upstream = {
        let waiting = Arc::clone(&waiting);
        Upstream::start(move |request: http::Request<hyper::body::Incoming>| {
            let (waiting, mut gate) = (Arc::clone(&waiting), gate.clone());
            async move {
                if request.uri().query().is_none() {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    gate.wait_for(|open| *open).await.unwrap();
                }
                json(200, "{}")
            }
        })
        .await
    };
    let config = format!("workers = 1\n{EQUALS}");
    let (program, _folder) = with_descriptors(2000, &upstream, &config, &[]).await;
    let head = |name: &str, secret: &str, query: &str| {
        let (who, path) = (basic(name, secret), clusters());
        format!("GET {path}{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {who}\r\n\r\n")
    };
    let served = Arc::new(AtomicUsize::new(0));
    let mut greedy = JoinSet::new();
    for n in 0..GREEDY {
        let mut stream = connect(program.address, n).await;
        let (served, head) = (Arc::clone(&served), head("billing", BILLING_SECRET, ""));
        greedy.spawn(async move {
            assert!(exchange(&mut stream, &head).await.starts_with("HTTP/1.1 200 "));
            served.fetch_add(1, Ordering::Relaxed);
        });
    }
    // What it asks then goes over a connection that is there.
    let mut stream = TcpStream::connect(program.address).await.unwrap();
    let head = head("deployer", DEPLOYER_SECRET, "?pageNum=1");
    assert!(exchange(&mut stream, &head).await.starts_with("HTTP/1.1 200 "));
    until("all of them wait", || async {
        waiting.load(Ordering::Relaxed) == GREEDY
    })
    .await;
    go.send(true).unwrap();
    until("the first is served", || async { served.load(Ordering::Relaxed) > 0 }).await;
    let before = served.load(Ordering::Relaxed);
    assert!(exchange(&mut stream, &head).await.starts_with("HTTP/1.1 200 "));
    let overtaken = served.load(Ordering::Relaxed) - before;
    assert!(
        // On a busy machine some more of them are on their way already; without turns it is nearly all.
        overtaken < GREEDY * 2 / 3,
        "answers to the greedy one meanwhile: {overtaken}"
    );
    greedy.join_all().await;
    assert!(program.stop().await.0.success());
}

/// Sends a request and reads its answer.
async fn exchange(stream: &mut TcpStream, head: &str) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it ends");
    }
    String::from_utf8(answer).unwrap()
}

/// Neither its upstream nor its token endpoint answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_atlas_hangs_leaves_the_others_alone() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = patient_upstream().await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "client-secret", CLIENT_SECRET);
    let account = |name: &str, url: &str| {
        format!(
            "[account.{name}]\nbase_url = \"{url}\"\nca_file = \"{}\"\nclient_id = \"mdb_sa_id_0123456789abcdef0123456{}\"\n\
             client_secret_file = \"client-secret\"\n",
            upstream.ca_file.display(),
            name.len(),
        )
    };
    let listener =
        |name: &str| format!("[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\naccount = \"{name}\"\n");
    let config = [
        listener("good"),
        listener("hangs"),
        account("good", &upstream.base_url()),
        account(
            "hangs",
            &format!("https://localhost:{}", silent.local_addr().unwrap().port()),
        ),
        "[admin]\nbind = \"127.0.0.1:0\"\n".to_owned(),
    ]
    .concat();
    write(folder.path(), "proxy.toml", &config);
    let settings = load(folder.path().join("proxy.toml")).unwrap();
    let app = App::start(settings).await.unwrap();
    let url = |at: usize| format!("{}{}", app.listeners()[at].url, clusters());
    let hanging: Vec<_> = (0..50).map(|_| tokio::spawn(client().get(url(1)).send())).collect();
    for _ in 0..50 {
        assert_eq!(client().get(url(0)).send().await.unwrap().status(), 200);
    }
    for one in hanging {
        assert_eq!(one.await.unwrap().unwrap().status(), 503);
    }
}
