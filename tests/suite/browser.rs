//! A real browser with a page of another origin, which tries all that pages can send.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::needs::{needs, skip};
use crate::support::proxy::{bearer, proxy};
use crate::support::recording_upstream::RecordingUpstream;

/// Tries everything, and asks for `/done` when all tries have ended.
fn page(target: &str) -> String {
    format!(
        r#"<!doctype html><title>evil</title>
<img src="{target}/img"><script src="{target}/script"></script><link rel="stylesheet" href="{target}/style">
<iframe src="{target}/frame"></iframe><iframe name="sink"></iframe>
<form id="form" method="post" enctype="text/plain" target="sink" action="{target}/form"><input name="a" value="b"></form>
<script>
const tries = [
  fetch("{target}/fetch"),
  fetch("{target}/no-cors", {{ mode: "no-cors" }}),
  fetch("{target}/no-cors-post", {{ mode: "no-cors", method: "POST", body: "x" }}),
  fetch("{target}/json", {{ method: "POST", headers: {{ "content-type": "application/json" }}, body: "{{}}" }}),
  fetch("{target}/delete", {{ method: "DELETE" }}),
  fetch("{target}/custom", {{ headers: {{ "X-Atlas-Auth-Proxy": "1" }} }}),
  fetch("{target}/no-referrer", {{ mode: "no-cors", referrerPolicy: "no-referrer", credentials: "omit" }}),
  new Promise(end => {{ const x = new XMLHttpRequest(); x.onloadend = end; x.open("GET", "{target}/xhr"); x.send(); }}),
  new Promise(end => {{ const w = new WebSocket("{target}/socket".replace("http", "ws")); w.onclose = end; }}),
  new Promise(end => {{ const e = new EventSource("{target}/events"); e.onerror = () => {{ e.close(); end(); }}; }}),
  new Promise(end => {{ const i = new Image(); i.onload = i.onerror = end; i.src = "{target}/image"; }}),
];
navigator.sendBeacon("{target}/beacon", "x");
document.getElementById("form").submit();
Promise.allSettled(tries).then(() => setTimeout(() => fetch("/done"), 500));
</script>"#
    )
}

/// Serves the page on a port of its own, so that it is of another origin, until it says that it is done.
async fn serve_page(listener: TcpListener, page: String, asked_for: &AtomicBool) {
    let (done, mut is_done) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let mut stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = is_done.recv() => return,
        };
        asked_for.store(true, Ordering::SeqCst);
        let (page, done) = (page.clone(), done.clone());
        tokio::spawn(async move {
            let mut got = vec![0; 16 << 10];
            let Ok(read) = stream.read(&mut got).await else { return };
            let length = page.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            if got[..read].starts_with(b"GET /done ") {
                let _ = done.send(()).await;
            }
        });
    }
}

#[tokio::test]
async fn a_page_in_a_real_browser_reaches_nothing() {
    let Some(chromium) = needs(&["chromium", "chromium-browser", "google-chrome"], "chromium") else {
        return;
    };
    let upstream = RecordingUpstream::start().await;
    let start = upstream.mark();
    let proxy = proxy(&upstream.base_url(), None, bearer()).start().await;
    crate::support::until("the token is here", || async {
        !upstream.since(&start).requests.is_empty()
    })
    .await;
    let mark = upstream.mark();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let profile = tempfile::tempdir().unwrap();
    let mut browser = tokio::process::Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        // Stays open until it is ended.
        .arg("--remote-debugging-port=0")
        .arg(&own)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let page = page(&format!("http://127.0.0.1:{}", proxy.address.port()));
    let asked_for = AtomicBool::new(false);
    let served = serve_page(listener, page, &asked_for);
    let ended = tokio::time::timeout(Duration::from_secs(30), served).await;
    let _ = browser.kill().await;
    if !asked_for.load(Ordering::SeqCst) {
        return skip("this chromium does not start");
    }
    ended.expect("all tries end");
    let since = upstream.since(&mark);
    assert!(since.requests.is_empty() && since.partial.is_empty(), "{since:?}");
    // The tries came as far as the proxy.
    let denied = proxy
        .metric("atlas_auth_proxy_denied_total", &[("reason", "browser")])
        .await;
    assert!(denied >= 10.0, "only {denied} were refused as a web page's");
}
