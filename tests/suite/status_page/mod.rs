//! The status page: what stands on it, for whom, and that nothing else does.

mod browser;
mod pictures;
mod scene;

use atlas_auth_proxy::proxy::{FairnessLimits, RequestRules};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::support::client::client;
use crate::support::clock::StepClock;
use crate::support::proxy::{Proxy, listener};
use crate::support::until;
use crate::support::upstream::{Answer, Upstream, json};
use scene::{SECRETS, Scene};

async fn get(proxy: &Proxy, path: &str) -> String {
    let answer = client()
        .get(format!("http://{}{path}", proxy.admin))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.text().await.unwrap()
}

async fn status(proxy: &Proxy) -> Value {
    serde_json::from_str(&get(proxy, "/status.json").await).unwrap()
}

/// What is between two markers; the first such place.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from} in {text}")).1;
    rest.split_once(to).unwrap().0
}

/// A section's text, without its markup.
fn section(page: &str, id: &str) -> String {
    let section = between(page, &format!("<section id=\"{id}\""), "</section>");
    let (mut text, mut inside) = (String::new(), false);
    for character in section.chars() {
        match character {
            '<' => {
                inside = true;
                text.push(' ');
            }
            '>' => inside = false,
            other if !inside => text.push(other),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_is_there_without_script_and_no_secret_is() {
    let scene = Scene::start().await;
    scene.an_hour_passes().await;
    scene.until_the_secret_is_known().await;
    let page = scene.get("/").await;
    let has = |id: &str, texts: &[&str]| {
        let text = section(&page, id);
        for wanted in texts {
            assert!(text.contains(wanted), "{id} has no {wanted:?}: {text}");
        }
    };
    has(
        "verdict",
        &[
            "Degraded",
            "3 of 4 accounts",
            "account commercial : the client secret expires in 5 days",
            "rotate-secret",
        ],
    );
    has(
        "traffic",
        &["2xx ", "4xx of Atlas ", "5xx of Atlas 12", "refused here "],
    );
    has(
        "accounts",
        &[
            "commercial usable Atlas commercial, service account",
            "elsewhere not usable https://opsmanager.example.org, service account",
            "government usable Atlas for Government, service account",
            "reports usable Atlas commercial, API key (Digest)",
            "Token good for ",
            "renewed in ",
            "urgent: expires in 5 days",
            "needed no new challenge",
            "through http://127.0.0.1:9",
            "Rate limit",
            "half within",
        ],
    );
    has(
        "refusals",
        &[
            "PROXY_CALLER_UNKNOWN 401",
            "PROXY_RATE_LIMITED 429",
            "PROXY_RULE_DENIED 403",
            "PROXY_BROWSER_DENIED 403",
            "listener apps, from 127.0.0.1, caller deploy",
            "docs/TROUBLESHOOTING.md#proxy_rule_denied",
            "Sent by a web page browser",
        ],
    );
    has(
        "callers",
        &[
            "billing all",
            "deploy all",
            "anonymous",
            "250 of 250 a minute",
            "0 of 8 at once",
        ],
    );
    has(
        "sunset",
        &["listGroupClusters anonymous at reports 2023-01-01 2027-07-01"],
    );
    has(
        "listeners",
        &[
            "apps http://127.0.0.1:",
            "caller required",
            "read only, 1 rule",
            "version 2025-03-12 where none is named",
        ],
    );
    has(
        "settings",
        &[
            "Audit log writes",
            "Last line ",
            "of chain ",
            "Version",
            "emulator",
            "max_connections 16384",
            "Their digest",
        ],
    );

    let token = scene.live_tokens();
    assert!(!token.is_empty());
    for path in ["/", "/status.html", "/status.json", "/metrics", "/readyz"] {
        let text = scene.get(path).await;
        for secret in SECRETS.iter().copied().chain(token.iter().map(String::as_str)) {
            assert!(!text.contains(secret), "{secret} stands in {path}");
        }
    }
    let status = scene.status().await;
    let minutes = status["lastHour"]["minutes"].as_array().unwrap();
    let sum: u64 = minutes
        .iter()
        .flat_map(|minute| minute.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    let counted = |text: &str| text.replace(',', "").parse::<u64>().unwrap();
    let drawn = counted(between(&page, "over the last hour: ", " requests"));
    assert_eq!(drawn, sum);
    // The clock's own minute may end in between.
    let full = minutes.iter().filter(|minute| minute[0].as_u64() > Some(0)).count();
    assert!(full >= 58, "{minutes:?}");
}

#[tokio::test]
async fn the_policy_allows_the_pages_own_style_and_script_and_nothing_else() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = upstream.proxy().start().await;
    let answer = client().get(format!("http://{}/", proxy.admin)).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    // What opened its window, such as a page of an earlier program at this port, does not reach into it.
    assert_eq!(answer.headers()["cross-origin-opener-policy"], "same-origin");
    let page = answer.text().await.unwrap();
    let hash = |text: &str| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        format!("'sha256-{}'", STANDARD.encode(hash.as_ref()))
    };
    let (style, script) = (
        hash(between(&page, "<style>", "</style>")),
        hash(between(&page, "<script>", "</script>")),
    );
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        )
    );
    assert_eq!(
        (page.matches("<script").count(), page.matches("<style").count()),
        (1, 1)
    );
    // Nothing that the policy would stop, and nothing from elsewhere.
    for other in [
        " style=",
        " onclick",
        " src=",
        "<link",
        "javascript:",
        "@import",
        "url(",
    ] {
        assert!(!page.contains(other), "{other}");
    }
    assert!(!page.contains("href=\"http"), "all links lead to parts of the page");
}

#[tokio::test]
async fn names_are_text_and_never_markup() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let name = "<script>alert(1)</script>\"'&amp;";
    let proxy = upstream
        .proxy()
        .with(|s| s.listeners[0].name = Some(name.to_owned()))
        .start()
        .await;
    let blocked = client()
        .get(proxy.url("/"))
        .header("origin", "http://a")
        .send()
        .await
        .unwrap();
    assert_eq!(blocked.status(), StatusCode::FORBIDDEN);
    for path in ["/", "/status.html"] {
        let page = get(&proxy, path).await;
        assert!(!page.contains("alert(1)</script>") && !page.contains(name), "{page}");
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;amp;"),
            "{page}"
        );
    }
}

#[tokio::test]
async fn requests_stand_in_the_minute_in_which_they_came_and_leave_after_an_hour() {
    let upstream = Upstream::start(|request: Request<Incoming>| async move {
        let path = request.uri().path().to_owned();
        let found: Answer = json(if path.ends_with("/gone") { 404 } else { 200 }, "{}");
        found
    })
    .await;
    let mut builder = upstream.proxy();
    let clock = Arc::new(StepClock::default());
    builder.clock = Arc::<StepClock>::clone(&clock);
    let proxy = builder.start().await;
    for path in ["/api/atlas/v2/groups", "/api/atlas/v2/groups", "/gone"] {
        client().get(proxy.url(path)).send().await.unwrap();
    }
    let refused = client()
        .get(proxy.url("/"))
        .header("origin", "http://a")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);
    let minutes = async || status(&proxy).await["lastHour"]["minutes"].as_array().unwrap().clone();
    let came = serde_json::json!([2, 0, 1, 0, 1, 0]);
    // The boot-time clock's minute may end in between.
    until("they are counted", async || minutes().await[58..].contains(&came)).await;
    let at = 58 + minutes().await[58..].iter().position(|minute| *minute == came).unwrap();
    clock.advance(10 * 60);
    let later = minutes().await;
    assert!(later[at - 10] == came || later[at - 11] == came, "{later:?}");
    let account = status(&proxy).await["lastHour"]["accounts"]["default"].clone();
    assert_eq!(
        account["classes"],
        serde_json::json!(["2xx", "3xx", "4xx", "5xx", "none"])
    );
    assert!(account["p95"].is_number(), "{account}");
    clock.advance(50 * 60);
    assert!(!minutes().await.contains(&came));
}

#[tokio::test]
async fn settings_that_were_refused_are_told_until_good_ones_come() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let mut proxy = upstream.proxy().with(|s| s.digest = "first".to_owned()).start().await;
    until("it serves", async || {
        status(&proxy).await["verdict"]["condition"] == "serving"
    })
    .await;
    let configuration = async |proxy: &Proxy| status(proxy).await["configuration"].clone();
    assert_eq!(configuration(&proxy).await["digest"], "first");
    assert_eq!(configuration(&proxy).await["lastRefused"], Value::Null);

    proxy.app.reload_failed(vec![
        "proxy.toml, line 7: lisen is no key; did you mean listen?".to_owned(),
    ]);
    let page = get(&proxy, "/").await;
    let told = "proxy.toml, line 7: lisen is no key; did you mean listen?";
    assert!(
        section(&page, "verdict").contains(told) && section(&page, "settings").contains(told),
        "{page}"
    );
    assert_eq!(status(&proxy).await["verdict"]["condition"], "degraded");

    // What the app itself refuses is told in the same way.
    let mut settings = upstream.proxy().settings;
    settings.listeners.push(listener("nobody"));
    proxy.app.reload(settings).unwrap_err();
    let messages = configuration(&proxy).await["lastRefused"]["messages"].clone();
    assert!(
        messages[0].as_str().unwrap().contains("no account `nobody`"),
        "{messages}"
    );
    proxy
        .app
        .reload_failed((0..50).map(|n| format!("problem {n}")).collect());
    let messages = configuration(&proxy).await["lastRefused"]["messages"].clone();
    assert_eq!(messages.as_array().unwrap().len(), 21);
    assert_eq!(messages[20], "… and 30 more: the log has all");

    let mut settings = upstream.proxy().settings;
    settings.digest = "second".to_owned();
    settings.workers = NonZeroUsize::new(3).unwrap();
    assert_eq!(proxy.app.reload(settings).unwrap(), ["workers"]);
    let now = configuration(&proxy).await;
    assert_eq!(
        (&now["digest"], &now["lastRefused"]),
        (&Value::from("second"), &Value::Null)
    );
    assert_eq!(now["afterRestart"], serde_json::json!(["workers"]));
    assert!(section(&get(&proxy, "/").await, "settings").contains("Waits for a restart workers"));
}

#[tokio::test]
async fn what_a_listener_uses_of_its_share_and_a_drain_are_told() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let proxy = upstream
        .proxy()
        .with(|s| {
            s.drain_delay = std::time::Duration::from_secs(30);
            s.listeners[0].rules = RequestRules {
                fairness: FairnessLimits {
                    per_minute: NonZeroUsize::new(40),
                    at_once: None,
                },
                ..RequestRules::default()
            };
        })
        .start()
        .await;
    for _ in 0..3 {
        client().get(proxy.url("/api/atlas/v2/groups")).send().await.unwrap();
    }
    assert_eq!(status(&proxy).await["listeners"][0]["share"]["lastMinute"], 3);
    assert!(section(&get(&proxy, "/").await, "listeners").contains("3 of 40 a minute"));
    let (admin, draining) = (proxy.admin, tokio::spawn(proxy.app.shutdown()));
    until("it says that it drains", async || {
        let page = client()
            .get(format!("http://{admin}/"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        section(&page, "verdict").contains("Draining") && page.contains("<title>Draining")
    })
    .await;
    draining.abort();
}
