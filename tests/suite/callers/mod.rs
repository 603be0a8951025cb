//! Callers: who is it, and what may it do (docs/CALLERS.md). Each proxy here is configured by a file, as users do it.

mod certificates;
mod curl_digest;
mod endpoints;
mod generated;
mod reload;
mod rules;
mod shares;
mod who;
mod why;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use atlas_auth_proxy::app::App;
use atlas_auth_proxy::settings::Settings;
use atlas_auth_proxy::time::{SharedClock, SystemClock};
use http::Request;
use hyper::body::Incoming;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::client::client;
use crate::support::config::load;
use crate::support::metrics::metric;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET};
use crate::support::upstream::{Answer, Upstream, json};

/// Two projects and an organization.
pub const PROJECT: &str = "5a0a1e7e0f2912c554080adc";
pub const OTHER_PROJECT: &str = "5a0a1e7e0f2912c554080add";
pub const ORGANIZATION: &str = "5a0a1e7e0f2912c554080ade";

pub const BILLING_SECRET: &str = "billing-local-secret-0123456789abcdef";
pub const DEPLOYER_SECRET: &str = "deployer-local-secret-0123456789abcde";

/// Two callers, known by local secrets at every listener.
pub const TWO: &str = r#"
[[caller]]
name = "billing"
secret_file = "billing"
[[caller.rule]]
methods = ["GET"]
tags = ["Clusters", "Projects"]
action = "allow"

[[caller]]
name = "deployer"
secret_file = "deployer"
[[caller.rule]]
operations = ["*Cluster*", "getGroup", "*GroupDatabaseUser*"]
action = "allow"
"#;

/// A proxy whose configuration is a file, before an upstream that answers `{}` to everything.
pub struct Gateway {
    pub folder: TempDir,
    pub upstream: Upstream,
    pub app: App,
}

async fn empty(request: Request<Incoming>) -> Answer {
    let _ = http_body_util::BodyExt::collect(request.into_body()).await;
    json(200, "{}")
}

impl Gateway {
    /// One listener, `main`, on loopback, with these tables of callers.
    pub async fn start(callers: &str) -> Self {
        Self::start_with(&listener(""), callers).await
    }

    /// Listeners of one's own.
    pub async fn start_with(listeners: &str, callers: &str) -> Self {
        let (upstream, folder) = (Upstream::start(empty).await, tempfile::tempdir().unwrap());
        Self::start_at(folder, upstream, Arc::new(SystemClock), listeners, callers).await
    }

    pub async fn start_at(
        folder: TempDir,
        upstream: Upstream,
        clock: SharedClock,
        listeners: &str,
        callers: &str,
    ) -> Self {
        for (name, content) in [
            ("client-secret", CLIENT_SECRET),
            ("billing", BILLING_SECRET),
            ("deployer", DEPLOYER_SECRET),
        ] {
            write(&folder, name, content);
        }
        let settings = settings(&folder, &upstream, listeners, callers).unwrap_or_else(|error| panic!("{error}"));
        let app = App::start_with_clock(settings, clock).await.unwrap();
        Self { folder, upstream, app }
    }

    /// Reloads with other tables; the listeners are those of before unless they are given.
    pub fn reload(&mut self, listeners: &str, callers: &str) -> Result<(), String> {
        let settings = settings(&self.folder, &self.upstream, listeners, callers)?;
        let later = self.app.reload(settings).map_err(|error| error.to_string())?;
        assert_eq!(later, Vec::<&str>::new());
        Ok(())
    }

    pub fn address(&self, listener: usize) -> SocketAddr {
        self.app.listeners()[listener]
            .url
            .split_once("://")
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address(0))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        client().get(self.url(path))
    }

    pub fn send(&self, method: &str, path: &str) -> RequestBuilder {
        client().request(Method::from_bytes(method.as_bytes()).unwrap(), self.url(path))
    }

    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metric(self.app.admin().address().unwrap(), name, labels).await
    }
}

/// A `[[listener]]` named `main` on loopback, with these keys more.
pub fn listener(more: &str) -> String {
    format!("[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n{more}\n")
}

pub fn write(folder: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Reads a configuration as `run` does.
pub fn settings(folder: &TempDir, upstream: &Upstream, listeners: &str, callers: &str) -> Result<Settings, String> {
    let toml = format!(
        "{listeners}\n{callers}\n[account.default]\nbase_url = \"{}\"\nca_file = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
         client_secret_file = \"client-secret\"\n[admin]\nbind = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n",
        upstream.base_url(),
        upstream.ca_file.display(),
    );
    load(write(folder, "proxy.toml", &toml))
}

/// Status, code of the proxy's own answer, and its text.
pub async fn refusal(request: RequestBuilder) -> (StatusCode, String, String) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let code = response
        .headers()
        .get("x-atlas-auth-proxy-error")
        .map(|code| code.to_str().unwrap().to_owned());
    let body: Value = response.json().await.unwrap();
    let detail = body["detail"].as_str().unwrap_or_default().to_owned();
    (status, code.unwrap_or_default(), detail)
}

/// Asserts that a request reaches Atlas.
pub async fn passes(request: RequestBuilder) {
    let response = request.send().await.unwrap();
    let (status, url) = (response.status(), response.url().clone());
    assert_eq!(status, 200, "{url}: {}", response.text().await.unwrap());
}

/// Asserts that a request is refused by the proxy with this code.
pub async fn refused(request: RequestBuilder, code: &str) -> String {
    let (_, said, detail) = refusal(request).await;
    assert_eq!(said, code, "{detail}");
    detail
}
