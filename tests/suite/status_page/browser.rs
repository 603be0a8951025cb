//! The page as a person sees it: in a real browser. Without chromium this shows nothing, and says so; in CI it fails.

use super::Scene;
use crate::clients;
use crate::support::chromium::Site;
use crate::support::devtools::Tab;

/// A phone, a tablet, a laptop.
const WIDTHS: [u32; 3] = [360, 800, 1200];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_fits_every_window_and_has_no_barrier_in_light_and_dark() {
    let Some(mut tab) = Tab::open().await else { return };
    let scene = Scene::start().await;
    scene.an_hour_passes().await;
    scene.until_the_secret_is_known().await;
    let axe = clients::installed().map(|folder| folder.join("node_modules/axe-core/axe.min.js"));
    for (width, dark) in WIDTHS.into_iter().flat_map(|width| [(width, false), (width, true)]) {
        tab.resize(width, 800, 1).await;
        tab.dark(dark).await;
        tab.typed(&scene.admin()).await;
        tab.eval("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            .await;
        let [inner, scroll] = [
            tab.eval("innerWidth").await,
            tab.eval("document.scrollingElement.scrollWidth").await,
        ];
        assert_eq!(inner, width);
        assert!(scroll.as_u64() <= inner.as_u64(), "{scroll} of {width}");
        // Nor is anything cut off within its box.
        let cut = "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1 \
                   && !e.closest('thead') && getComputedStyle(e).display !== 'inline').map(e => e.outerHTML.slice(0, 200))";
        assert_eq!(tab.eval(cut).await, serde_json::json!([]), "at {width}");
        let background = tab.eval("getComputedStyle(document.body).backgroundColor").await;
        assert_eq!(background == "rgb(19, 23, 26)", dark, "{background}");
        let Some(axe) = &axe else { continue };
        tab.eval(&std::fs::read_to_string(axe).unwrap()).await;
        let found = "axe.run().then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html + ' ' + n.failureSummary)))";
        assert_eq!(tab.eval(found).await, serde_json::json!([]), "at {width}, dark: {dark}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_parts_are_replaced_in_place_and_it_says_when_nobody_answers() {
    let Some(mut tab) = Tab::open().await else { return };
    let scene = Scene::start().await;
    tab.resize(1200, 800, 1).await;
    tab.typed(&scene.admin()).await;
    assert_eq!(tab.eval("document.querySelectorAll('#traffic rect').length").await, 0);
    tab.eval("document.getElementById('limits').open = true; document.getElementById('limits-summary').focus(); window.stays = true").await;
    scene
        .ask(2, "", "/api/atlas/v2/groups/000000000000000000000000", "2023-01-01")
        .await;
    tab.until("document.querySelectorAll('#traffic rect').length > 0").await;
    tab.until("document.querySelector('#settings').textContent.includes('Lines lost')")
        .await;
    for stays in [
        "window.stays",
        "document.getElementById('limits').open",
        "document.activeElement.id === 'limits-summary'",
    ] {
        assert_eq!(tab.eval(stays).await, true, "{stays}");
    }
    assert_eq!(tab.eval("document.getElementById('lost').hidden").await, true);
    scene.app.shutdown().await;
    tab.until("!document.getElementById('lost').hidden").await;
    let said = tab.eval("document.getElementById('lost').textContent").await;
    assert!(said.as_str().unwrap().contains("can't be reached since"), "{said}");
    assert_eq!(tab.eval("document.title").await, "No answer · atlas-auth-proxy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_for_while_nobody_sees_it() {
    let Some(mut tab) = Tab::open().await else { return };
    let scene = Scene::start().await;
    tab.typed(&scene.admin()).await;
    let asks_when = "(hidden => { \
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }); \
        const original = fetch; let asked = 0; \
        window.fetch = (...all) => { asked += 1; return original(...all); }; \
        document.dispatchEvent(new Event('visibilitychange')); \
        window.fetch = original; return asked; })";
    assert_eq!(tab.eval(&format!("{asks_when}(true)")).await, 0);
    assert_eq!(tab.eval(&format!("{asks_when}(false)")).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_when_another_process_answers_at_its_address() {
    let Some(mut tab) = Tab::open().await else { return };
    let scene = Scene::start().await;
    tab.typed(&scene.admin()).await;
    // The next process has another word: as if this page had been read from the one before.
    tab.eval("window.original = fetch; window.fetch = (url, options) => original(url, { ...options, headers: { 'X-Atlas-Auth-Proxy-Page': '0' } }); true")
        .await;
    tab.until("document.getElementById('lost').textContent.includes('Another process answers here now')")
        .await;
}

/// It is same-origin, and between the person and the page: what it fetches for the person it could keep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_worker_of_a_former_owner_of_the_port_does_not_get_it() {
    let Some(mut tab) = Tab::open().await else { return };
    let (owner, control) = (Site::start().await, Site::start().await);
    let say = format!(
        "const say = (path, text) => fetch(\"{}\" + path, {{ method: \"POST\", mode: \"no-cors\", body: text }});",
        control.url()
    );
    owner.page(
        "/",
        "text/html",
        format!(
            "<!doctype html><script>{say}\
             navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => say('/opened', ''))</script>"
        ),
    );
    owner.page(
        "/worker.js",
        "text/javascript",
        format!(
            "{say} self.addEventListener('install', () => self.skipWaiting()); \
             self.addEventListener('activate', event => event.waitUntil(clients.claim())); \
             self.addEventListener('fetch', event => event.respondWith((async () => {{ \
               const answer = await fetch(event.request); const text = await answer.clone().text(); \
               await say('/read', answer.status + ' ' + text); return answer; }})()));"
        ),
    );
    tab.typed(&owner.url()).await;
    control.said("/opened").await;
    let scene = Scene::start().await;
    owner.hand_over_to(scene.app.admin().address().unwrap());
    tab.call("Page.navigate", serde_json::json!({ "url": owner.url() }))
        .await;
    let read = control.said("/read").await;
    assert!(
        !read.contains("commercial") && !read.contains("name=\"word\""),
        "{read}"
    );
    assert!(read.starts_with("403 "), "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_script_all_of_it_is_there_and_it_can_be_reloaded() {
    let Some(mut tab) = Tab::open().await else { return };
    let scene = Scene::start().await;
    tab.call(
        "Emulation.setScriptExecutionDisabled",
        serde_json::json!({ "value": true }),
    )
    .await;
    tab.resize(360, 800, 1).await;
    tab.typed(&scene.admin()).await;
    let text = "document.body.innerText";
    let shown = tab.eval(text).await.as_str().unwrap().to_owned();
    for part in [
        "Degraded",
        "commercial",
        "Listeners in force",
        "Sunset radar",
        "Reload it now",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // The link is a navigation of the page's own: the word in it lets it pass.
    tab.eval("document.querySelector('footer a').click()").await;
    tab.until("location.search.startsWith('?word=') && document.readyState === 'complete'")
        .await;
    assert!(tab.eval(text).await.as_str().unwrap().contains("Listeners in force"));
    let refresh = tab
        .eval("document.querySelector('meta[http-equiv=refresh]')?.content ?? ''")
        .await;
    assert!(refresh.as_str().unwrap().starts_with("30;url=/?word="), "{refresh}");
}
