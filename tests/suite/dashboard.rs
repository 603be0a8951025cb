//! The dashboard asks a real Prometheus, which watches a proxy with traffic and failures: each of its queries has an answer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use atlas_auth_proxy::time::SystemClock;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::callers::BILLING_SECRET;
use crate::support::atlas::{Atlas, GROUPS};
use crate::support::client::client;
use crate::support::config::load;
use crate::support::needs::needs;
use crate::support::ports::free_address;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY, Proxy, ProxyBuilder};
use crate::support::redis::{KEY, Redis};
use crate::support::tls::TestCa;
use crate::support::until;

const DASHBOARD: &str = include_str!("../../deploy/grafana/atlas-auth-proxy.json");
const OLD: &str = "application/vnd.atlas.2023-01-01+json";
const CLUSTERS: &str = "/api/atlas/v2/groups/6a793f8a2c88faeba59bc7c2/clusters";
const MOST_CONNECTIONS: usize = 8;

/// Every query of the dashboard, with its panel's title, and what Grafana puts in the place of its variables.
fn queries() -> BTreeSet<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap()))
    });
    let filled = targets.map(|(title, expression)| {
        let mut expression = expression.to_owned();
        for (name, value) in [
            ("$instance", ".*"),
            ("$account", ".*"),
            ("$caller", ".*"),
            ("$__rate_interval", "20s"),
            ("$__range", "20s"),
        ] {
            expression = expression.replace(name, value);
        }
        assert!(
            !expression.contains('$'),
            "{title}: a variable that there is none: {expression}"
        );
        (title.to_owned(), expression)
    });
    filled.collect()
}

/// A Prometheus with the alerts, killed when dropped.
struct Prometheus {
    url: String,
    child: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(program: &Path, folder: &Path, watched: &Proxy) -> Self {
        let file = folder.join("prometheus.yml");
        let alerts = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/alerts.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{alerts}']\nscrape_configs:\n- job_name: \
             atlas-auth-proxy\n  static_configs: [{{ targets: ['{}'] }}]\n",
            watched.admin
        );
        fs::write(&file, text).unwrap();
        let address = free_address();
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://{address}/api/v1/query");
        Self { url, child }
    }

    /// Whether it has a number.
    async fn knows(&self, expression: &str) -> bool {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let asked = client().get(format!("{}?query={encoded}", self.url)).send().await;
        // It says 503 while it starts.
        let Ok(answer) = asked.and_then(reqwest::Response::error_for_status) else {
            return false;
        };
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let found = answer["data"]["result"].as_array().unwrap();
        found.iter().any(|series| series["value"][1] != "NaN")
    }
}

async fn ask(request: reqwest::RequestBuilder) {
    if let Ok(answer) = request.send().await {
        let _ = answer.bytes().await;
    }
}

/// Calls that go well, are refused, and fail on the way.
async fn traffic(atlas: &Atlas, proxy: &Proxy) {
    let fault = |kind, status| {
        let mut fault = Fault::once(Target::Api, kind);
        fault.status = status;
        atlas.emulator.fault(fault);
    };
    let listeners = proxy.app.listeners();
    let url = |at: usize, path: &str| format!("{}{path}", listeners[at].url);
    let get = |path: &str| client().get(url(0, path)).header("accept", OLD);
    let known = |path: &str| get(path).basic_auth("billing", Some(BILLING_SECRET));
    ask(known(GROUPS)).await;
    ask(known(CLUSTERS)).await;
    ask(get(GROUPS)).await;
    ask(get(GROUPS).header("origin", "https://e.example")).await;
    ask(known("/api/atlas/v2/orgs")).await;
    for (kind, status) in [
        (FaultKind::Status, Some(500)),
        (FaultKind::Status, Some(429)),
        (FaultKind::Reset, None),
    ] {
        fault(kind, status);
        ask(known(GROUPS)).await;
    }
    ask(client()
        .get(url(1, GROUPS))
        .header("accept", OLD)
        .basic_auth("billing", Some(BILLING_SECRET)))
    .await;
    let mut open = Vec::new();
    for _ in 0..=MOST_CONNECTIONS {
        open.push(TcpStream::connect(proxy.address).await.unwrap());
    }
}

fn settings(atlas: &Atlas, store: &Redis) -> String {
    let of_listener = TestCa::new().identity(&["localhost"], |_| ());
    for (name, content) in [
        ("client-secret", CLIENT_SECRET),
        ("private-key", PRIVATE_KEY),
        ("billing", BILLING_SECRET),
        ("tls.crt", &of_listener.certificate),
        ("tls.key", &of_listener.key),
        ("store-key", &KEY.map(|byte| format!("{byte:02x}")).concat()),
    ] {
        atlas.file(name, content, 0o600);
    }
    let base = atlas.emulator.base_url();
    let text = format!(
        "[admin]\nbind = '127.0.0.1:0'\n\
         [limits]\nmax_connections_per_peer = {MOST_CONNECTIONS}\n\
         [token_store]\nurl = 'redis://{}'\nkey_file = 'store-key'\n\
         [account.account]\nbase_url = '{base}'\nca_file = 'ca.pem'\nclient_id = '{CLIENT_ID}'\nclient_secret_file = 'client-secret'\n\
         [account.key]\nbase_url = '{base}'\nca_file = 'ca.pem'\npublic_key = '{PUBLIC_KEY}'\nprivate_key_file = 'private-key'\n\
         [[listener]]\nname = 'bearer'\nbind = '127.0.0.1:0'\naccount = 'account'\n\
         [[listener]]\nname = 'digest'\nbind = '127.0.0.1:0'\naccount = 'key'\n\
         [[listener]]\nname = 'tls'\nbind = '127.0.0.1:0'\naccount = 'account'\n\
         [listener.tls]\ncertificate = 'tls.crt'\nkey = 'tls.key'\n\
         [[caller]]\nname = 'billing'\nsecret_file = 'billing'\n\
         [[caller.rule]]\ntags = ['Projects', 'Clusters']\nmethods = ['GET']\naction = 'allow'\n",
        store.address
    );
    atlas.file("settings.toml", text, 0o600)
}

#[tokio::test]
async fn each_query_of_the_dashboard_has_an_answer() {
    let Some(program) = needs(&["prometheus"], "prometheus") else {
        return;
    };
    let Some(store) = Redis::start().await else { return };
    let atlas = Atlas::start().await;
    let settings = load(settings(&atlas, &store).into()).unwrap_or_else(|error| panic!("{error}"));
    let clock = Arc::new(SystemClock);
    let proxy = ProxyBuilder { settings, clock }.start().await;
    let prometheus = Prometheus::start(&program, atlas.folder.path(), &proxy);
    // What is counted before the first look at it is no increase.
    until("Prometheus has looked", || {
        prometheus.knows("up{job=\"atlas-auth-proxy\"} == 1")
    })
    .await;
    atlas.emulator.expire_tokens();
    let mut open = queries();
    let asked = open.len();
    let settled = async {
        while !open.is_empty() {
            traffic(&atlas, &proxy).await;
            for query in open.clone() {
                if prometheus.knows(&query.1).await {
                    open.remove(&query);
                }
            }
        }
    };
    let patient = tokio::time::timeout(crate::support::PATIENCE, settled).await;
    assert!(patient.is_ok(), "of {asked} queries these have no answer: {open:#?}");
}
