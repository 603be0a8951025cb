//! Who still asks for what will vanish: told by metrics, log and `/status.json`, by listener, caller and operation.

use std::sync::Arc;

use atlas_auth_proxy::proxy::DefaultAccept;
use atlas_auth_proxy::time::SystemClock;
use http::{Request, Response};
use hyper::body::Incoming;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::callers::{BILLING_SECRET, DEPLOYER_SECRET, Gateway, TWO, listener};
use crate::leaf::{Leaf, token};
use crate::support::client::client;
use crate::support::issuer::IssuerKey;
use crate::support::metrics::metrics;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Upstream, full};

const REQUESTS: &str = "atlas_auth_proxy_sunset_requests_total";
const CLUSTERS: &str = "/api/atlas/v2/groups/5a0a1e7e0f2912c554080adc/clusters";
const CLUSTERS_OF_V1: &str = "/api/atlas/v1.5/groups/5a0a1e7e0f2912c554080adc/clusters";
const OLD: &str = "application/vnd.atlas.2023-01-01+json";
const NEW: &str = "application/vnd.atlas.2024-08-05+json";

/// Answers as the query says: `status=410`, `sunset=…`, `deprecation=…`, with `_` for a blank.
async fn scripted(request: Request<Incoming>) -> Answer {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (mut answer, mut status) = (Response::builder().header("content-type", "application/json"), 200);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "status" => status = value.parse().unwrap(),
            name => answer = answer.header(name, value.replace('_', " ")),
        }
    }
    answer.status(status).body(full("{}")).unwrap()
}

async fn ask(request: RequestBuilder) -> u16 {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    answer.bytes().await.unwrap();
    status
}

fn get(proxy: &Proxy, path: &str, accept: &str) -> RequestBuilder {
    client().get(proxy.url(path)).header("accept", accept)
}

async fn sunset(admin: std::net::SocketAddr) -> Vec<Value> {
    let status = client()
        .get(format!("http://{admin}/status.json"))
        .send()
        .await
        .unwrap();
    let status: Value = status.json().await.unwrap();
    status["sunset"].as_array().unwrap().clone()
}

/// The series of the metric, without its name.
async fn series(admin: std::net::SocketAddr) -> Vec<String> {
    let text = metrics(admin).await;
    let all = text.lines().filter_map(|line| line.strip_prefix(REQUESTS));
    all.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_has_nothing_to_do_with_an_end_is_not_there() {
    let upstream = Upstream::start(scripted).await;
    let proxy = upstream
        .proxy()
        .with(|s| s.listeners[0].name = Some("l".to_owned()))
        .start()
        .await;
    for (path, accept) in [
        (CLUSTERS.to_owned(), NEW),
        ("/api/atlas/v2/groups".to_owned(), OLD),
        (CLUSTERS_OF_V1.to_owned(), "*/*"),
        (format!("{CLUSTERS}?status=404"), NEW),
        (format!("{CLUSTERS}?status=400"), "*/*"),
    ] {
        ask(get(&proxy, &path, accept)).await;
    }
    // Our own refusals are about no version, either.
    assert_eq!(
        ask(get(&proxy, CLUSTERS, OLD).header("origin", "https://e.example")).await,
        403
    );
    assert!(series(proxy.admin).await.is_empty());
    assert!(sunset(proxy.admin).await.is_empty());
}

#[tokio::test]
async fn each_way_to_learn_of_an_end_counts_and_is_shown() {
    let upstream = Upstream::start(scripted).await;
    let proxy = upstream
        .proxy()
        .with(|s| s.listeners[0].name = Some("l".to_owned()))
        .start()
        .await;
    let recorded = "deprecation=Mon,_5_Aug_2024_00:00:00_GMT&sunset=Thu,_1_Jul_2027_00:00:00_GMT";
    for (path, accept, operation, kind, version, end, newest) in [
        // By the catalogue, although the answer says nothing; the version is the latest that is not after the one asked for.
        (
            CLUSTERS.to_owned(),
            "application/vnd.atlas.2024-01-01+json",
            "listGroupClusters",
            "sunset",
            json!("2024-01-01"),
            json!("2027-07-01"),
            json!("2024-08-05"),
        ),
        (
            format!("/api/atlas/v2/groups?{recorded}"),
            OLD,
            "listGroups",
            "sunset",
            json!("2023-01-01"),
            json!("2027-07-01"),
            json!("2023-01-01"),
        ),
        (
            "/api/atlas/v2/orgs?deprecation=true".to_owned(),
            OLD,
            "listOrgs",
            "deprecated",
            json!("2023-01-01"),
            Value::Null,
            json!("2023-01-01"),
        ),
        (
            "/api/atlas/v2/rateLimits?status=410".to_owned(),
            "application/vnd.atlas.preview+json",
            "listRateLimits",
            "gone",
            json!("preview"),
            json!("2026-04-21"),
            json!("2025-03-12"),
        ),
        (
            "/api/atlas/v2/eventTypes?status=406".to_owned(),
            "*/*",
            "listEventTypes",
            "not_acceptable",
            Value::Null,
            Value::Null,
            json!("2023-01-01"),
        ),
        (
            "/api/atlas/v2/brand/new?sunset=2030-01-31".to_owned(),
            OLD,
            "unknown",
            "sunset",
            json!("2023-01-01"),
            json!("2030-01-31"),
            Value::Null,
        ),
    ] {
        let answered = ask(get(&proxy, &path, accept)).await;
        assert_eq!(ask(get(&proxy, &path, accept)).await, answered);
        let labels = [("listener", "l"), ("caller", "none"), ("operation", operation)];
        assert_eq!(proxy.metric(REQUESTS, &labels).await, 2.0, "{path}");
        let all = sunset(proxy.admin).await;
        let mut shown = all.iter().find(|one| one["operation"] == operation).unwrap().clone();
        let last = shown.as_object_mut().unwrap().remove("lastAt").unwrap();
        assert!(last.as_str().unwrap().ends_with('Z'), "{last}");
        let expected = json!({
            "listener": "l", "caller": "none", "operation": operation, "kind": kind, "version": version,
            "sunset": end, "newestVersion": newest, "count": 2,
        });
        assert_eq!(shown, expected);
    }
    assert_eq!(series(proxy.admin).await.len(), 6);
    // The client sees what Atlas said.
    let answer = get(&proxy, &format!("{CLUSTERS}?{recorded}"), OLD)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["sunset"], "Thu, 1 Jul 2027 00:00:00 GMT");
    // A twin of the older API leads to the same operation.
    ask(get(&proxy, &format!("{CLUSTERS_OF_V1}?{recorded}"), "*/*")).await;
    let clusters = [("operation", "listGroupClusters")];
    assert_eq!(proxy.metric(REQUESTS, &clusters).await, 4.0);
}

#[tokio::test]
async fn a_version_that_the_listener_gives_counts_like_one_that_is_asked_for() {
    let upstream = Upstream::start(scripted).await;
    let proxy = upstream
        .proxy()
        .with(|s| s.listeners[0].rules.default_accept = Some(DefaultAccept::parse("2023-02-01").unwrap()))
        .start()
        .await;
    assert_eq!(ask(get(&proxy, CLUSTERS, "*/*")).await, 200);
    let all = sunset(proxy.admin).await;
    assert_eq!(
        (&all[0]["version"], &all[0]["sunset"]),
        (&json!("2023-02-01"), &json!("2027-07-01"))
    );
}

#[tokio::test]
async fn callers_are_told_apart_and_a_reload_keeps_those_that_stay() {
    let (upstream, folder) = (Upstream::start(scripted).await, tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start_at(folder, upstream, Arc::new(SystemClock), &listener(""), TWO).await;
    let admin = gateway.app.admin().address().unwrap();
    let calls = async |gateway: &Gateway| {
        for (name, secret) in [("billing", BILLING_SECRET), ("deployer", DEPLOYER_SECRET)] {
            let request = gateway
                .get(CLUSTERS)
                .header("accept", OLD)
                .basic_auth(name, Some(secret));
            assert_eq!(ask(request).await, 200);
        }
    };
    calls(&gateway).await;
    calls(&gateway).await;
    let line = |caller: &str, count: u32| {
        format!("{{caller=\"{caller}\",listener=\"main\",operation=\"listGroupClusters\"}} {count}")
    };
    let both = |count| [line("billing", count), line("deployer", count)];
    assert_eq!(series(admin).await, both(2));
    for times in 3..6 {
        gateway.reload(&listener(""), TWO).unwrap();
        calls(&gateway).await;
        assert_eq!(series(admin).await, both(times));
    }
    let billing_alone = TWO.split("\n[[caller]]\nname = \"deployer\"").next().unwrap();
    gateway.reload(&listener(""), billing_alone).unwrap();
    assert_eq!(series(admin).await, [line("billing", 5)]);
    let shown = sunset(admin).await;
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (&shown[0]["caller"], &shown[0]["count"]),
        (&json!("billing"), &json!(5))
    );
    gateway
        .reload(&listener("").replace("main", "other-name"), TWO)
        .unwrap();
    assert!(series(admin).await.is_empty());
}

/// What a gateway answers by itself tells a leaf nothing of Atlas's versions; what it passes on does.
#[tokio::test]
async fn a_leaf_believes_atlas_and_not_its_gateway() {
    let upstream = Upstream::start(|request: Request<Incoming>| async move {
        let own = request.uri().query().is_some_and(|query| query.contains("own"));
        let mut answer = scripted(request).await;
        if own {
            let code = "PROXY_SOME_NEW_CODE".parse().unwrap();
            answer.headers_mut().insert("x-atlas-auth-proxy-error", code);
        }
        answer
    })
    .await;
    let ca = Some(upstream.ca_file.as_path());
    let leaf = Leaf::with_token(&upstream.base_url(), ca, &token(&IssuerKey::p256("1"), "leaf")).await;
    let groups = "/api/atlas/v2/groups?status=410";
    assert_eq!(ask(leaf.get(&format!("{groups}&own=1"))).await, 410);
    assert_eq!(leaf.metric(REQUESTS, &[]).await, 0.0);
    assert_eq!(ask(leaf.get(groups)).await, 410);
    assert_eq!(leaf.metric(REQUESTS, &[("operation", "listGroups")]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_once_who_calls_what_and_what_to_do() {
    let upstream = Upstream::start(scripted).await;
    let program = Program::start(Command::new(PROGRAM), &upstream, &SERVICE_ACCOUNT, &[]).await;
    for _ in 0..3 {
        let url = format!("http://{}{CLUSTERS}", program.address);
        assert_eq!(ask(client().get(url).header("accept", OLD)).await, 200);
    }
    program.until_said("which Atlas ends on 2027-07-01").await;
    let (_, said) = program.stop().await;
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("which Atlas ends on"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    let line: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["operation"], "listGroupClusters");
    assert_eq!(line["caller"], "none");
    assert_eq!(line["sunset"], "2027-07-01");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("change the client to 2024-08-05"),
        "{line}"
    );
}
