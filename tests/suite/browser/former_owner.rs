//! Whoever had the proxy's port before is same-origin with it. A site serves a page, then hands its port to the proxy.

use super::{SECRET, denied, upstream};
use crate::support::chromium::{Chromium, Site};
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;

/// Script for a page or a worker: waits until `control` says that the port has another owner, reads all that it can by `fetch`, and
/// says what it read.
fn reads(control: &str) -> String {
    format!(
        r#"
const control = "{control}";
const told = async phase => {{
  while ((await (await fetch(control + "/phase")).text()) !== phase) await new Promise(go => setTimeout(go, 100));
}};
const read = async (how, what) => {{
  try {{ return how + " " + await what(); }} catch (error) {{ return how + " " + error; }}
}};
const text = async answer => (await answer).status + " " + await (await answer).text();
const fetches = () => [
  read("get", () => text(fetch("/api/atlas/v2/groups"))),
  read("header", () => text(fetch("/header", {{ headers: {{ "X-Required": "1", "Accept": "a/b" }} }}))),
  read("quiet", () => text(fetch("/quiet", {{ referrerPolicy: "no-referrer", credentials: "omit" }}))),
  read("no-cors", () => text(fetch("/no-cors", {{ mode: "no-cors" }}))),
  read("same-origin", () => text(fetch("/same-origin", {{ mode: "same-origin" }}))),
  read("head", () => text(fetch("/head", {{ method: "HEAD" }}))),
  read("post", () => text(fetch("/post", {{ method: "POST", body: "{{}}" }}))),
  read("delete", () => text(fetch("/delete", {{ method: "DELETE" }}))),
  read("oauth", () => text(fetch("/api/oauth/token", {{ method: "POST" }}))),
];
const say = (path, lines) => fetch(control + path, {{ method: "POST", mode: "no-cors", body: lines.join("\n") }});
"#
    )
}

fn assert_refused(said: &str, least: usize) {
    let refused = said.lines().filter(|line| line.contains(" 403 ")).count();
    assert!(refused >= least, "{said}");
    assert!(!said.contains(" 200") && !said.contains(SECRET), "{said}");
}

/// What came of a site's pages that were opened before its port was the proxy's.
struct Story {
    /// What the script read.
    said: String,
    control: Site,
    upstream: Upstream,
    proxy: Proxy,
}

/// `None` without chromium. `pages` makes them, each with its path and type, for the address that tells the phase.
async fn story(pages: impl FnOnce(&str) -> Vec<(&'static str, &'static str, String)>) -> Option<Story> {
    let chromium = Chromium::new(&[]).await?;
    let (owner, control) = (Site::start().await, Site::start().await);
    let upstream = upstream(&control).await;
    let proxy = upstream.proxy().start().await;
    for (path, media_type, content) in pages(&control.url()) {
        owner.page(path, media_type, content);
    }
    let _browser = chromium.open(&owner.url());
    control.said("/opened").await;
    owner.hand_over_to(proxy.address);
    control.enter("go");
    Some(Story {
        said: control.said("/read").await,
        control,
        upstream,
        proxy,
    })
}

#[tokio::test]
async fn an_open_tab_of_a_former_owner_of_the_port_reads_nothing() {
    let page = |control: &str| {
        format!(
            r#"<!doctype html><title>a dev server</title><script>{}
const frame = address => new Promise(end => {{
  const frame = document.createElement("iframe");
  frame.onload = () => end(frame.contentDocument ? frame.contentDocument.documentElement.textContent : "(closed)");
  frame.src = address;
  document.body.append(frame);
}});
const loads = (tag, address) => new Promise((end, fail) => {{
  const element = document.createElement(tag);
  element.onload = () => end("loaded");
  element.onerror = () => fail("refused");
  element.src = address;
  document.body.append(element);
}});
window.onload = async () => {{
  say("/opened", []);
  await told("go");
  const opened = window.open("/window");
  const lines = await Promise.all([
    ...fetches(),
    read("frame", () => frame("/frame")),
    read("script", () => loads("script", "/script")),
    read("image", () => loads("img", "/image")),
  ]);
  say("/read", lines);
}};
</script><body></body>"#,
            reads(control)
        )
    };
    let Some(story) = story(|control| vec![("/", "text/html", page(control))]).await else {
        return;
    };
    assert_refused(&story.said, 7);
    let said = &story.said;
    assert!(
        said.contains("script refused") && said.contains("image refused"),
        "{said}"
    );
    assert!(story.upstream.seen().is_empty(), "{:?}", story.upstream.seen());
    assert!(story.control.asked("/ran").is_empty());
    assert!(denied(&story.proxy, "browser").await >= 11.0);
}

#[tokio::test]
async fn a_service_worker_of_a_former_owner_of_the_port_reads_nothing() {
    let pages = |control: &str| {
        let worker = format!(
            r#"{}
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(clients.claim()));
self.addEventListener("message", event => event.waitUntil((async () => say("/read", await Promise.all(fetches())))()));
"#,
            reads(control)
        );
        let page = format!(
            r#"<!doctype html><title>a dev server</title><script>{}
(async () => {{
  await navigator.serviceWorker.register("/worker.js");
  const {{ active }} = await navigator.serviceWorker.ready;
  while (!navigator.serviceWorker.controller) await new Promise(go => setTimeout(go, 50));
  say("/opened", []);
  await told("go");
  active.postMessage("go");
}})();
</script>"#,
            reads(control)
        );
        vec![("/", "text/html", page), ("/worker.js", "text/javascript", worker)]
    };
    let Some(story) = story(pages).await else { return };
    assert_refused(&story.said, 7);
    assert!(story.upstream.seen().is_empty(), "{:?}", story.upstream.seen());
}
