//! A real browser with pages that try all that pages can send. Without chromium this shows nothing, and says so; in CI it fails.

mod former_owner;
mod navigation;

use crate::support::chromium::{Chromium, Site};
use crate::support::proxy::{Proxy, bearer, proxy};
use crate::support::recording_upstream::RecordingUpstream;
use crate::support::upstream::{Upstream, full};

/// What no page may read.
const SECRET: &str = "what-atlas-keeps-for-us";

/// Answers with HTML that tells `site` when its script runs or its image is loaded.
async fn upstream(site: &Site) -> Upstream {
    let html = format!(
        r#"<!doctype html><title>{SECRET}</title><p id="p">{SECRET}</p><img src="{site}/image">
<script>document.getElementById("p").textContent = "it ran"; fetch("{site}/ran", {{ mode: "no-cors" }});</script>
<meta http-equiv="refresh" content="0;url={site}/refreshed">"#,
        site = site.url()
    );
    Upstream::start(move |_| {
        let html = html.clone();
        async move {
            http::Response::builder()
                .header("content-type", "text/html")
                .body(full(html))
                .unwrap()
        }
    })
    .await
}

async fn denied(proxy: &Proxy, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    proxy.metric("atlas_auth_proxy_denied_total", &labels).await
}

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
  new Promise(end => {{ const i = new Image(); i.onload = i.onerror = end; i.referrerPolicy = "no-referrer"; i.src = "{target}/quiet"; }}),
];
navigator.sendBeacon("{target}/beacon", "x");
document.getElementById("form").submit();
Promise.allSettled(tries).then(() => setTimeout(() => fetch("/done"), 500));
</script>"#
    )
}

#[tokio::test]
async fn a_page_in_a_real_browser_reaches_nothing() {
    let Some(chromium) = Chromium::new(&[]).await else {
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
    let evil = Site::start().await;
    evil.page(
        "/",
        "text/html",
        page(&format!("http://127.0.0.1:{}", proxy.address.port())),
    );
    let _browser = chromium.open(&evil.url());
    evil.said("/done").await;
    let since = upstream.since(&mark);
    assert!(since.requests.is_empty() && since.partial.is_empty(), "{since:?}");
    // The tries came as far as the proxy.
    let denied = denied(&proxy, "browser").await;
    assert!(denied >= 10.0, "only {denied} were refused as a web page's");
}

/// To a plain name beyond loopback Chromium sends no `Sec-Fetch-*`: the required header keeps out what has no `Referer` either.
#[tokio::test]
async fn a_page_that_names_a_host_beyond_loopback_reaches_nothing() {
    let Some(chromium) = Chromium::new(&["--host-resolver-rules=MAP atlas-proxy.test 127.0.0.1"]).await else {
        return;
    };
    let evil = Site::start().await;
    let upstream = upstream(&evil).await;
    let proxy = upstream
        .proxy()
        .with(|s| {
            let name = atlas_auth_proxy::guard::HostName::parse("atlas-proxy.test").unwrap();
            s.listeners[0].rules.hosts = atlas_auth_proxy::guard::HostNames::new([name]);
            let header = http::HeaderName::from_static("x-required");
            s.listeners[0].rules.required_header = Some(atlas_auth_proxy::guard::RequiredHeader::new(header));
        })
        .start()
        .await;
    let target = format!("http://atlas-proxy.test:{}", proxy.address.port());
    evil.page("/", "text/html", page(&target));
    let _browser = chromium.open(&evil.url());
    evil.said("/done").await;
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    let (browser, header) = (denied(&proxy, "browser").await, denied(&proxy, "header").await);
    assert!(
        browser >= 8.0,
        "only {browser} were refused for their Origin or Referer"
    );
    assert!(
        header >= 1.0,
        "no request came without all of Sec-Fetch-Site, Origin and Referer"
    );
}
