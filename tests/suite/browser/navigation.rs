//! A person types an address: that passes, and what comes is looked at, not run.

use super::{SECRET, denied, upstream};
use crate::support::chromium::{Chromium, Site};

#[tokio::test]
async fn a_typed_address_is_answered_and_the_answer_runs_nothing() {
    let Some(chromium) = Chromium::new(&[]).await else {
        return;
    };
    let site = Site::start().await;
    let upstream = upstream(&site).await;
    let proxy = upstream.proxy().start().await;
    let port = proxy.address.port();
    let shown = chromium
        .typed(&format!("http://localhost:{port}/api/atlas/v2/groups"))
        .await;
    assert!(shown.contains(&format!("<p id=\"p\">{SECRET}</p>")), "{shown}");
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    for path in ["/ran", "/image", "/refreshed"] {
        assert!(site.asked(path).is_empty(), "{path} was asked for");
    }
}

/// Wherever a page sends the browser, and by however many steps, the proxy refuses it; only what a person typed may be redirected here.
#[tokio::test]
async fn a_redirect_to_the_proxy_gives_a_page_nothing() {
    let Some(chromium) = Chromium::new(&[]).await else {
        return;
    };
    let evil = Site::start().await;
    let upstream = upstream(&evil).await;
    let proxy = upstream.proxy().start().await;
    let target = format!("http://localhost:{}", proxy.address.port());
    evil.page(
        "/",
        "text/html",
        format!(
            r#"<!doctype html><title>evil</title><body><script>
const loads = (tag, name) => new Promise(end => {{
  const element = document.createElement(tag);
  element.onload = element.onerror = end;
  element.src = "/to?{target}/" + name;
  document.body.append(element);
}});
Promise.allSettled([
  loads("img", "img"), loads("script", "script"), loads("iframe", "frame"),
  fetch("/to?{target}/fetch"), fetch("/to?{target}/no-cors", {{ mode: "no-cors" }}),
  fetch("/to?{target}/quiet", {{ mode: "no-cors", referrerPolicy: "no-referrer", credentials: "omit" }}),
]).then(() => {{ location = "/to?{target}/location"; }});
</script>"#
        ),
    );
    let browser = chromium.open(&evil.url());
    evil.said(&format!("/to?{target}/location")).await;
    crate::support::until("all were refused", || async { denied(&proxy, "browser").await >= 7.0 }).await;
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    drop(browser);

    let shown = chromium.typed(&format!("{}/to?{target}/typed", evil.url())).await;
    assert!(!shown.contains(">it ran<"), "{shown}");
    for path in ["/ran", "/image", "/refreshed"] {
        assert!(evil.asked(path).is_empty(), "{path} was asked for");
    }
}
