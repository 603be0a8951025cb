//! What systemd does for a service, done by the tests: sockets that outlive the process, and a socket that hears how it goes.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Instant;

use http_body_util::BodyExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::support::PATIENCE;
use crate::support::client::{client, get, read_head};
use crate::support::needs::needs;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, SERVICE_ACCOUNT};
use crate::support::until;
use crate::support::upstream::{Upstream, json};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn upstream() -> Upstream {
    // It reads each body first: a server that answers before closes the connection, which a POST must not outlive.
    let answer = |request: http::Request<hyper::body::Incoming>| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    };
    Upstream::start(answer).await
}

/// The program with descriptor 3 as systemd hands it over, under this name; more variables; its arguments.
fn handed(socket: OwnedFd, name: &str, environment: &[(&str, &str)], args: &[&str]) -> Command {
    // A shell keeps its process id when it becomes the program, and `dup` takes the mark away that would close the socket.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, PROGRAM])
        .args(args)
        .env_clear()
        .envs(SERVICE_ACCOUNT)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .envs(environment.iter().copied())
        .stdin(Stdio::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn with_upstream<'a>(upstream: &'a Upstream, base_url: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    let ca_file = upstream.ca_file.to_str().unwrap();
    [&["run", "--base-url", base_url, "--upstream-ca", ca_file], args].concat()
}

/// Waits for the line that says that it serves.
async fn serves(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).await.unwrap();
    if line.is_empty() {
        panic!("{:?}", child.wait_with_output().await);
    }
    (child, line)
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().unwrap().cast_signed();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

async fn ends(child: Child) -> Output {
    tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
}

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

const WEB: &[&str] = &["--listen", "systemd:web", "--admin-listen", "off"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_no_request() {
    let upstream = upstream().await;
    let base_url = upstream.base_url();
    let args = with_upstream(&upstream, &base_url, WEB);
    // As systemd does, this process keeps the socket.
    let (held, address) = socket();
    let start = || handed(held.try_clone().unwrap().into(), "web", &[], &args);
    let (mut child, _) = serves(&mut start()).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut answered = 0_usize;
                while !*stopped.borrow() {
                    // Half of them connect anew for each request.
                    let http = client();
                    for _ in 0..if n % 2 == 0 { 1 } else { 50 } {
                        let answer = http.post(format!("http://{address}/")).body("x").send().await.unwrap();
                        assert_eq!(answer.status(), 200);
                        answered += 1;
                    }
                }
                answered
            })
        })
        .collect();
    for _ in 0..3 {
        let before = upstream.seen().len();
        until("requests go on", || async { upstream.seen().len() > before + 100 }).await;
        send(&child, Signal::TERM);
        let said = ends(child).await;
        assert!(said.status.success(), "{said:?}");
        (child, _) = serves(&mut start()).await;
    }
    let before = upstream.seen().len();
    until("requests go on", || async { upstream.seen().len() > before + 100 }).await;
    stop.send(true).unwrap();
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn what_must_hold_of_a_bind_holds_for_the_address_of_the_socket() {
    let everywhere = || OwnedFd::from(TcpListener::bind("0.0.0.0:0").unwrap());
    let loopback = || OwnedFd::from(socket().0);
    let config = tempfile::tempdir().unwrap();
    let mode = config.path().join("mode.toml");
    std::fs::write(&mode, "[[listener]]\nbind = 'systemd:web'\nmode = '0600'\n").unwrap();
    let admin_mode = config.path().join("admin.toml");
    std::fs::write(&admin_mode, "[admin]\nbind = 'systemd:web'\nmode = '0600'\n").unwrap();
    let connected = || {
        let (held, address) = socket();
        let stream = std::net::TcpStream::connect(address).unwrap();
        drop(held);
        OwnedFd::from(stream)
    };
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let web = &["run", "--listen", "systemd:web"][..];
    for (socket, name, args, says) in [
        (everywhere(), "web", web, "is reachable from other machines"),
        (
            everywhere(),
            "web",
            &["run", "--listen", "systemd:web", "--insecure-plaintext"],
            "there is no allowlist",
        ),
        (
            loopback(),
            "web",
            &["run", "--listen", "systemd:web", "--host", "proxy.example.org"],
            "required_header",
        ),
        (loopback(), "other", web, "no socket of systemd has the name `web`"),
        (
            loopback(),
            "web",
            &["run"],
            "a socket named `web`, and nothing is bound to it",
        ),
        (
            loopback(),
            "web",
            &["run", "--listen", "systemd:web", "--admin-listen", "systemd:web"],
            "both bind",
        ),
        (
            loopback(),
            "web",
            &["run", "--config", mode.to_str().unwrap()],
            "write `SocketMode=` in its unit",
        ),
        (
            loopback(),
            "web",
            &["run", "--config", admin_mode.to_str().unwrap()],
            "write `SocketMode=` in its unit",
        ),
        (connected(), "web", web, "does not listen"),
        (file(), "web", web, "no stream socket"),
    ] {
        let said = ends(handed(socket, name, &[], args).spawn().unwrap()).await;
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(says), "{says}: {text}");
    }
    // Without a socket, and with one that was meant for another process.
    for environment in [&[("LISTEN_FDS", "0")][..], &[("LISTEN_FDS", "x")]] {
        let said = ends(handed(loopback(), "web", environment, web).spawn().unwrap()).await;
        assert_eq!(said.status.code(), Some(2), "{said:?}");
    }
    let said = Command::new(PROGRAM)
        .args(web)
        .env_clear()
        .envs(SERVICE_ACCOUNT)
        .envs([("LISTEN_FDS", "1"), ("LISTEN_PID", "1")])
        .output();
    let said = said.await.unwrap();
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(String::from_utf8(said.stderr).unwrap().contains("none was handed over"));
}

#[tokio::test]
async fn unix_sockets_and_the_admin_port_may_be_handed_over() {
    let upstream = upstream().await;
    let base_url = upstream.base_url();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let held = UnixListener::bind(&path).unwrap();
    let args = with_upstream(&upstream, &base_url, WEB);
    let (child, line) = serves(&mut handed(held.into(), "web", &[], &args)).await;
    assert!(line.contains(&format!("unix:{}", path.display())), "{line}");
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(GET).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    send(&child, Signal::TERM);
    assert!(ends(child).await.status.success());
    assert!(path.exists(), "it is not ours to remove");

    let (held, address) = socket();
    let args = ["--listen", "127.0.0.1:0", "--admin-listen", "systemd:admin"];
    let args = with_upstream(&upstream, &base_url, &args);
    let (child, line) = serves(&mut handed(held.into(), "admin", &[], &args)).await;
    assert!(line.contains(&format!("admin http://{address}")), "{line}");
    assert!(
        get(&format!("http://{address}/metrics"))
            .await
            .contains("atlas_auth_proxy_build_info")
    );
    drop(child);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_the_socket_and_can_neither_drop_nor_add_one() {
    let upstream = upstream().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.toml");
    let write = |bind: &str, more: &str| {
        let new = folder.path().join("new");
        std::fs::write(
            &new,
            format!("[[listener]]\nbind = '{bind}'\n{more}\n[admin]\nbind = '127.0.0.1:0'"),
        )
        .unwrap();
        std::fs::rename(new, &config).unwrap();
    };
    write("systemd:web", "");
    let base_url = upstream.base_url();
    let args = with_upstream(&upstream, &base_url, &["--config", config.to_str().unwrap()]);
    let (held, address) = socket();
    let (child, line) = serves(&mut handed(held.into(), "web", &[], &args)).await;
    let admin = line.split("admin ").nth(1).unwrap().trim().to_owned();
    let reloads = async |outcome: &str, times: usize| {
        let wanted = format!("config_reloads_total{{outcome=\"{outcome}\"}} {times}");
        until("the reload came", || async {
            get(&format!("{admin}/metrics")).await.contains(&wanted)
        })
        .await;
    };
    let answers = async || {
        client()
            .get(format!("http://{address}/"))
            .send()
            .await
            .unwrap()
            .status()
    };
    write("systemd:web", "read_only = true");
    reloads("ok", 1).await;
    assert_eq!(answers().await, 200);
    write("127.0.0.1:0", "");
    reloads("error", 1).await;
    write("systemd:more", "");
    reloads("error", 2).await;
    assert_eq!(answers().await, 200);
    drop(child);
}

#[tokio::test]
async fn commands_that_serve_nothing_do_without_the_sockets() {
    let run = async |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        let output = command.args(args).env_clear().envs(SERVICE_ACCOUNT).output();
        let said = output.await.unwrap();
        (
            said.status.code(),
            String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned(),
        )
    };
    let (code, said) = run(&["check", "--listen", "systemd:web", "--admin-listen", "systemd:admin"]).await;
    assert_eq!(code, Some(1), "Atlas is not there: {said}");
    assert!(
        said.contains("warn configuration") && said.contains("sockets of systemd"),
        "{said}"
    );
    let (code, said) = run(&["healthcheck", "--admin-listen", "systemd:admin"]).await;
    assert!(code == Some(2) && said.contains("--admin-listen"), "{said}");
}

/// Hears what the service says.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            heard: Vec::new(),
        }
    }

    /// The next message with this line; all that comes before is kept.
    fn hears(&mut self, line: &str) -> String {
        // Whoever says something else all the time is not waited for longer than who says nothing.
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "{line} was not said: {:?}", self.heard.last());
            let mut message = [0; 1000];
            let length = self.socket.recv(&mut message).unwrap_or_else(|error| {
                panic!("{line} was not said ({error}): {:?}", self.heard);
            });
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            self.heard.push(message.clone());
            if message.lines().any(|said| said == line) {
                return message;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_hears_how_it_goes() {
    let upstream = upstream().await;
    let base_url = upstream.base_url();
    let args = with_upstream(&upstream, &base_url, WEB);
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("notify");
    let name = format!("atlas-auth-proxy-test-{}", std::process::id());
    let abstract_address = UnixAddr::from_abstract_name(&name).unwrap();
    for (socket, address) in [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}")),
    ] {
        let mut manager = Manager::new(socket);
        let environment = [("NOTIFY_SOCKET", address.as_str()), ("WATCHDOG_USEC", "200000")];
        let (held, _) = self::socket();
        let (child, _) = serves(&mut handed(held.into(), "web", &environment, &args)).await;
        tokio::task::block_in_place(|| {
            let ready = manager.hears("READY=1");
            assert!(ready.contains("STATUS=serving"), "{ready}");
            manager.hears("WATCHDOG=1");
            manager.hears("WATCHDOG=1");
            send(&child, Signal::HUP);
            let reloading = manager.hears("RELOADING=1");
            let since_boot = reloading
                .lines()
                .find_map(|line| line.strip_prefix("MONOTONIC_USEC="))
                .unwrap();
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let then: i64 = since_boot.parse().unwrap();
            assert!((1..=(now.tv_sec + 1) * 1_000_000).contains(&then), "{then}");
            manager.hears("READY=1");
            send(&child, Signal::TERM);
            manager.hears("STOPPING=1");
        });
        let said = ends(child).await;
        assert!(said.status.success(), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_reload_is_told_as_one() {
    let upstream = upstream().await;
    let base_url = upstream.base_url();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.toml");
    std::fs::write(&config, "").unwrap();
    let args = with_upstream(
        &upstream,
        &base_url,
        &[
            "--listen",
            "systemd:web",
            "--admin-listen",
            "off",
            "--config",
            config.to_str().unwrap(),
        ],
    );
    let path = folder.path().join("notify");
    let mut manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let (held, _) = socket();
    // The watchdog is somebody else's.
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "1000"),
        ("WATCHDOG_PID", "1"),
    ];
    let (child, _) = serves(&mut handed(held.into(), "web", &environment, &args)).await;
    tokio::task::block_in_place(|| {
        manager.hears("READY=1");
        let mut file = std::fs::File::options().append(true).open(&config).unwrap();
        file.write_all(b"nonsense = 1").unwrap();
        manager.hears("RELOADING=1");
        let ready = manager.hears("READY=1");
        assert!(ready.contains("refused"), "{ready}");
    });
    assert!(
        !manager.heard.iter().any(|message| message.contains("WATCHDOG")),
        "{:?}",
        manager.heard
    );
    drop(child);
}

#[tokio::test]
async fn systemd_socket_activate_hands_a_socket_over() {
    let Some(activate) = needs(&["systemd-socket-activate"], "systemd") else {
        return;
    };
    let upstream = upstream().await;
    let base_url = upstream.base_url();
    let args = with_upstream(&upstream, &base_url, WEB);
    let address = free_address();
    let mut command = Command::new(activate);
    command
        .args(["--listen", &address.to_string(), "--fdname=web"])
        .args(SERVICE_ACCOUNT.map(|(name, value)| format!("--setenv={name}={value}")))
        .arg(PROGRAM)
        .args(&args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = command.spawn().unwrap();
    until("it listens", || async { std::net::TcpStream::connect(address).is_ok() }).await;
    let answer = client().get(format!("http://{address}/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(child);
}

/// The units say what the program does.
#[test]
fn the_units_use_what_there_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let service = read("atlas-auth-proxy.service");
    let restarts = ["Restart=always", "RestartSec=10", "StartLimitIntervalSec=0"];
    for line in ["Type=notify", "WatchdogSec=", "NotifyAccess=main"]
        .into_iter()
        .chain(restarts)
    {
        assert!(service.lines().any(|one| one.starts_with(line)), "{line}");
    }
    let socket = read("atlas-auth-proxy.socket");
    for line in ["ListenStream=127.0.0.1:8080", "FileDescriptorName=web", "Accept=no"] {
        assert!(socket.lines().any(|one| one == line), "{line}");
    }
}
