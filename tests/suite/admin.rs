//! The admin port: who may ask for what, on a port, a unix socket, or nowhere.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atlas_auth_proxy::server::Bind;
use atlas_auth_proxy::settings::Settings;
use http::Request;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use crate::support::client::{client, raw, read_body, read_head, read_to_end};
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::{Proxy, bearer};
use crate::support::upstream::{Answer, Upstream, json};
use crate::support::{PATIENCE, until};

async fn ok(_: Request<Incoming>) -> Answer {
    json(200, "{}")
}

async fn start(change: impl FnOnce(&mut Settings)) -> (Upstream, Proxy) {
    let upstream = Upstream::start(ok).await;
    let builder = upstream.proxy().with(change);
    let proxy = builder.start().await;
    (upstream, proxy)
}

fn program() -> Command {
    Command::new(PROGRAM)
}

/// `healthcheck` with these variables, and what it said.
async fn healthcheck(environment: &[(&str, &str)]) -> (bool, String) {
    let mut command = program();
    let output = command
        .arg("healthcheck")
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .await
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n").into_bytes()
}

async fn over_socket(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_end_is_asked_for_only_where_that_is_turned_on() {
    let (_upstream, mut proxy) = start(|s| s.admin.quit = false).await;
    let settings = |quit| {
        let upstream = _upstream.base_url();
        let mut settings = crate::support::proxy::proxy(&upstream, Some(&_upstream.ca_file), bearer()).settings;
        settings.admin.quit = quit;
        settings
    };
    let url = format!("http://{}/quitquitquit", proxy.admin);
    let ask = async || client().post(&url).send().await.unwrap();
    let answer = ask().await;
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.unwrap().contains("--admin-quit"));
    assert_eq!(client().get(&url).send().await.unwrap().status(), 404);
    // A reload turns it on and off.
    proxy.app.reload(settings(true)).unwrap();
    assert_eq!(client().get(&url).send().await.unwrap().status(), 405);
    proxy.app.reload(settings(false)).unwrap();
    assert_eq!(ask().await.status(), 404);
    proxy.app.reload(settings(true)).unwrap();
    assert_eq!(ask().await.status(), 200);
    tokio::time::timeout(PATIENCE, proxy.app.quit_requested())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_the_end_is_named_in_the_log_and_so_is_a_bind_beyond_loopback() {
    let upstream = Upstream::start(ok).await;
    let args = ["--admin-listen", "0.0.0.0:0", "--admin-quit"];
    let program = Program::start(program(), &upstream, &SERVICE_ACCOUNT, &args).await;
    program.until_said("bound beyond loopback").await;
    program.until_said("/metrics, /livez, /readyz and /startupz").await;
    let admin = format!("127.0.0.1:{}", program.admin.port());
    let answer = client()
        .post(format!("http://{admin}/quitquitquit"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    program.until_said("asked to end the proxy").await;
    let (status, said) = program.ended().await;
    assert!(status.success(), "{said}");
    let line = said
        .lines()
        .find(|line| line.contains("asked to end the proxy"))
        .unwrap();
    assert!(line.contains("127.0.0.1:"), "{line}");
}

#[tokio::test]
async fn the_admin_port_may_be_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let own = rustix::process::getuid().as_raw();
    let bind = |mode, uids| {
        let path = path.clone();
        move |s: &mut Settings| s.admin.bind = Some(Bind::Unix { path, mode, uids })
    };
    let (upstream, mut proxy) = start(bind(0o620, vec![own])).await;
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o620);
    for (page, start) in [
        ("/livez", "HTTP/1.1 200 "),
        ("/metrics", "HTTP/1.1 200 "),
        ("/status.json", "HTTP/1.1 200 "),
        ("/", "HTTP/1.1 200 "),
        ("/readyz/none", "HTTP/1.1 404 "),
    ] {
        let answer = over_socket(&path, &get(page, "")).await;
        assert!(answer.starts_with(start), "{page}: {answer}");
    }
    let mut settings = upstream.proxy().settings;
    let mut open = UnixStream::connect(&path).await.unwrap();
    let kept_alive = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    open.write_all(kept_alive).await.unwrap();
    let head = read_head(&mut open).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    read_body(&mut open, &head).await;
    bind(0o600, vec![own + 1])(&mut settings);
    assert_eq!(proxy.app.reload(settings.clone()).unwrap(), Vec::<&str>::new());
    assert_eq!(mode(), 0o600);
    assert_eq!(
        over_socket(&path, &get("/livez", "")).await,
        "",
        "who is no longer among the uids"
    );
    open.write_all(kept_alive).await.unwrap();
    let last = read_to_end(&mut open).await;
    assert!(last.starts_with("HTTP/1.1 403 ") && last.contains("uids"), "{last}");
    settings.admin.bind = None;
    assert_eq!(proxy.app.reload(settings).unwrap(), ["admin.bind"]);
    proxy.app.shutdown().await;
    until("the socket is gone", || async { !path.exists() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_finds_the_admin_port_the_admin_socket_or_the_first_listener() {
    let upstream = Upstream::start(ok).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let (admin, listener) = (socket("admin"), socket("listener"));
    let file = |at: &str| PathBuf::from(at.trim_start_matches("unix:"));
    for (environment, asked) in [
        (
            [
                ("ATLAS_PROXY_ADMIN_LISTEN", admin.as_str()),
                ("ATLAS_PROXY_LISTEN", &listener),
            ],
            &admin,
        ),
        (
            [("ATLAS_PROXY_ADMIN_LISTEN", "off"), ("ATLAS_PROXY_LISTEN", &listener)],
            &listener,
        ),
    ] {
        assert!(!healthcheck(&environment).await.0, "nobody is there");
        let mut all = SERVICE_ACCOUNT.to_vec();
        all.extend(environment);
        let mut child = program()
            .args(["run", "--base-url", &upstream.base_url(), "--upstream-ca"])
            .arg(&upstream.ca_file)
            .env_clear()
            .envs(all.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("it is healthy", || async { healthcheck(&environment).await.0 }).await;
        let mode = std::fs::metadata(file(asked)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let seen = upstream.seen().len();
        assert!(healthcheck(&environment).await.0);
        assert_eq!(upstream.seen().len(), seen, "Atlas hears nothing of it");
        child.kill().await.unwrap();
        let (healthy, said) = healthcheck(&environment).await;
        assert!(!healthy && said.contains(asked), "{said}");
        let _ = std::fs::remove_file(file(&listener));
    }
}

#[tokio::test]
async fn a_browser_gets_the_page_and_only_the_page_gets_the_status() {
    let (_upstream, proxy) = start(|_| ()).await;
    let ask = async |path: &str, fields: &str| raw(proxy.admin, &get(path, fields)).await;
    let typed = "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let page = ask("/", typed).await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    let word = page
        .split_once("name=\"word\" content=\"")
        .unwrap()
        .1
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(word.len(), 32);
    let policy = page
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "))
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );

    let script = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n";
    let said = |word: &str| format!("{script}X-Atlas-Auth-Proxy-Page: {word}\r\n");
    let refused = |answer: &str| answer.starts_with("HTTP/1.1 403 ");
    let status = ask("/status.json", &said(&word)).await;
    assert!(
        status.starts_with("HTTP/1.1 200 ") && status.contains("\"listeners\""),
        "{status}"
    );
    assert!(
        !ask("/status.json", "").await.contains(&word),
        "nothing but the page carries it"
    );
    let wrong = word.replace(['0', '1', '2'], "f");
    let other_site = said(&word).replace("same-origin", "cross-site");
    let same_site = said(&word).replace("same-origin", "same-site");
    for fields in [
        script,
        &said(""),
        &said(if wrong == word { "0" } else { &wrong }),
        &said(&word[..31]),
        &format!("{}X-Atlas-Auth-Proxy-Page: {word}\r\n", said(&word)),
        &format!("{}Sec-Fetch-Site: same-origin\r\n", said(&word)),
        &format!("{}Origin: http://localhost\r\n", said(&word)),
        &other_site,
        &same_site,
    ] {
        let answer = ask("/status.json", fields).await;
        assert!(refused(&answer), "{fields}: {answer}");
    }
    let parts = ask("/status.html", &said(&word)).await;
    assert!(
        parts.starts_with("HTTP/1.1 200 ") && parts.contains("<section id=\"accounts\""),
        "{parts}"
    );
    assert!(refused(&ask("/status.html", script).await), "without the word");
    // Without script it is the query that says it, of a navigation of the page itself and of nothing else.
    let reload = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let again = format!("/?word={word}");
    let answer = ask(&again, reload).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(&word),
        "{answer}"
    );
    for (path, fields) in [
        ("/", reload),
        ("/?word=", reload),
        (format!("/?word={}", &word[1..]).as_str(), reload),
        (format!("/?x&word={word}").as_str(), reload),
        (format!("/status.json?word={word}").as_str(), reload),
        (again.as_str(), script),
        (again.as_str(), &reload.replace("same-origin", "cross-site")),
        (again.as_str(), &reload.replace("document", "iframe")),
        (again.as_str(), &format!("{reload}Origin: http://localhost\r\n")),
        (again.as_str(), &format!("{reload}Sec-Fetch-Mode: cors\r\n")),
    ] {
        let answer = ask(path, fields).await;
        assert!(refused(&answer), "{path} {fields}: {answer}");
    }
    // The word is for our page alone, and only programs on this machine and typed addresses get the others.
    for path in ["/", "/quitquitquit", "/unknown"] {
        assert!(refused(&ask(path, &said(&word)).await), "{path}");
    }
    assert!(ask("/status.json", typed).await.starts_with("HTTP/1.1 200 "));
    assert!(ask("/status.json", "").await.starts_with("HTTP/1.1 200 "));
    assert!(
        raw(
            proxy.admin,
            b"GET /status.json HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n"
        )
        .await
        .starts_with("HTTP/1.1 421 ")
    );
}

#[tokio::test]
async fn no_answer_of_the_admin_port_is_anything_to_a_browser() {
    let (_upstream, proxy) = start(|_| ()).await;
    for path in [
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/readyz/none",
        "/status.json",
        "/status.html",
        "/unknown",
        "/quitquitquit",
    ] {
        let answer = client()
            .get(format!("http://{}{path}", proxy.admin))
            .send()
            .await
            .unwrap();
        let field = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!(field("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(field("cross-origin-resource-policy"), "same-origin", "{path}");
        let policy = field("content-security-policy");
        if path != "/" {
            assert_eq!(policy, "sandbox; default-src 'none'", "{path}");
        }
        // A page of whoever had this port before, or of anybody else.
        for (name, value) in [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
            ("origin", "http://localhost:9091"),
            ("referer", "https://evil.example/"),
        ] {
            let url = format!("http://{}{path}", proxy.admin);
            let answer = client().get(url).header(name, value).send().await.unwrap();
            assert!(
                answer.status() == 403 || answer.status() == 404 && path == "/readyz/none",
                "{path} {name}: {value}"
            );
        }
    }
    // A kubelet and Prometheus may call it by any name.
    for path in ["/metrics", "/livez"] {
        let url = format!("http://{}{path}", proxy.admin);
        let answer = client().get(url).header("host", "10.1.2.3:9091").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
}

/// Connections that come as fast as they can, some of which say half a head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_keeps_no_probe_out() {
    let (_upstream, proxy) = start(|_| ()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2)
        .map(|kind| {
            let (stop, admin) = (Arc::clone(&stop), proxy.admin);
            tokio::spawn(async move {
                let mut held = std::collections::VecDeque::new();
                while !stop.load(Ordering::SeqCst) {
                    let Ok(mut stream) = TcpStream::connect(admin).await else {
                        continue;
                    };
                    if kind == 1 {
                        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").await;
                    }
                    held.push_back(stream);
                    if held.len() > 300 {
                        held.pop_front();
                    }
                }
            })
        })
        .collect();
    let http = client();
    for _ in 0..100 {
        // From the flood's own address, a probe may lose its place before its request has come: it tries again, as the
        // kubelet does.
        let mut answered = false;
        for _ in 0..3 {
            let answer = http.get(format!("http://{}/livez", proxy.admin)).send().await;
            answered |= answer.is_ok_and(|answer| answer.status() == 200);
        }
        assert!(answered, "a probe is answered");
    }
    stop.store(true, Ordering::SeqCst);
    for flood in floods {
        flood.await.unwrap();
    }
}
