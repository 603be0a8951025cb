//! A leaf: a proxy without any credential of Atlas, before a gateway of this program (docs/GATEWAY.md).

#[cfg(feature = "emulator")]
mod atlas;
#[cfg(feature = "emulator")]
mod command;
mod errors;
mod fields;
mod identity;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atlas_auth_proxy::app::App;
use atlas_auth_proxy::settings::Settings;
use atlas_auth_proxy::time::SystemClock;
use reqwest::RequestBuilder;
use serde_json::json;
use tempfile::TempDir;

use crate::callers::{Gateway, write};
use crate::support::client::client;
use crate::support::config::load;
use crate::support::issuer::{IssuerKey, jwks};
use crate::support::metrics::metric;
use crate::support::tls::{Identity, TestCa, for_clients};
use crate::support::until;
use crate::support::upstream::Upstream;

pub const GROUPS: &str = "/api/atlas/v2/groups";

/// The token's issuer, and the callers that are known by its tokens.
pub const ISSUER: &str = r#"
[[issuer]]
name = "cluster"
issuer = "https://issuer.example.org"
audience = "https://gateway.example.org"
jwks_file = "jwks.json"
max_life = "24h"
"#;

/// A caller known by tokens of this subject and by this certificate name, with every right.
pub fn caller(name: &str, subject: &str, more: &str) -> String {
    format!(
        "[[caller]]\nname = \"{name}\"\njwt = [{{ issuer = \"cluster\", subject = \"{subject}\" }}]\n\
         certificate_names = [\"{subject}.example.org\"]\n{more}\n[[caller.rule]]\npath = \"/api/atlas/v2/**\"\naction = \"allow\"\n"
    )
}

/// A token that the gateway accepts, for this subject.
pub fn token(key: &IssuerKey, subject: &str) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    key.token(&json!({
        "iss": "https://issuer.example.org", "aud": "https://gateway.example.org", "sub": subject,
        "iat": now, "exp": now + 3600,
    }))
}

/// A proxy whose configuration is a file, and whose account leads to a gateway.
pub struct Leaf {
    pub folder: TempDir,
    pub app: App,
}

impl Leaf {
    /// `account`: the keys of `[account.default]`; `more`: listeners, callers.
    pub async fn start(folder: TempDir, account: &str, more: &str) -> Self {
        let settings = settings(&folder, account, more).unwrap_or_else(|error| panic!("{error}"));
        let app = App::start_with_clock(settings, Arc::new(SystemClock)).await.unwrap();
        Self { folder, app }
    }

    /// One that shows the token `token`.
    pub async fn with_token(gateway: &str, ca_file: Option<&Path>, token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "token", token);
        let ca = ca_file.map_or_else(String::new, |path| format!("ca_file = \"{}\"\n", path.display()));
        let account = format!("gateway = \"{gateway}\"\nidentity_token_file = \"token\"\n{ca}");
        Self::start(folder, &account, "").await
    }

    /// Another file takes the place of one, as a projected volume does it.
    pub fn replace(&self, name: &str, content: &str) {
        let next = write(&self.folder, "next", content);
        fs::rename(next, self.folder.path().join(name)).unwrap();
    }

    pub fn address(&self) -> SocketAddr {
        self.app.listeners()[0]
            .url
            .split_once("://")
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        client().get(self.url(path))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        client()
            .post(self.url(path))
            .header("content-type", "application/json")
            .body("{\"name\":\"a\"}")
    }

    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metric(self.app.admin().address().unwrap(), name, labels).await
    }

    pub async fn admin(&self, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.app.admin().address().unwrap());
        client().get(url).send().await.unwrap()
    }
}

pub fn settings(folder: &TempDir, account: &str, more: &str) -> Result<Settings, String> {
    let listener = if more.contains("[[listener]]") {
        ""
    } else {
        "[[listener]]\nbind = \"127.0.0.1:0\"\n"
    };
    let toml = format!("{listener}{more}\n[account.default]\n{account}\n[admin]\nbind = \"127.0.0.1:0\"\n");
    load(write(folder, "proxy.toml", &toml))
}

/// A gateway on loopback that knows callers by the tokens of `key`.
pub async fn gateway_by_token(upstream: Upstream, key: &IssuerKey, callers: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "jwks.json", &jwks(&[key]));
    let callers = format!("{ISSUER}{callers}");
    let listener = crate::callers::listener("");
    let gateway = Gateway::start_at(folder, upstream, Arc::new(SystemClock), &listener, &callers).await;
    let admin = gateway.app.admin().address().unwrap();
    until("the keys of the issuer are read", async || {
        let status = client()
            .get(format!("http://{admin}/status.json"))
            .send()
            .await
            .unwrap();
        let status: serde_json::Value = status.json().await.unwrap();
        status["issuers"][0]["keys"] == 1
    })
    .await;
    gateway
}

/// A gateway that asks for certificates of `ca`, which has signed its own, too.
pub async fn gateway_by_certificate(upstream: Upstream, ca: &TestCa, callers: &str) -> Gateway {
    let server = ca.identity(&["localhost", "127.0.0.1"], |_| ());
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("ca.pem", &ca.pem),
        ("tls.crt", &server.certificate),
        ("tls.key", &server.key),
        ("jwks.json", &jwks(&[])),
    ] {
        write(&folder, name, content);
    }
    Gateway::start_at(
        folder,
        upstream,
        Arc::new(SystemClock),
        &tls_listener(),
        &format!("{ISSUER}{callers}"),
    )
    .await
}

pub fn tls_listener() -> String {
    crate::callers::listener("[listener.tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\nclient_ca = \"ca.pem\"")
}

/// A leaf that shows a certificate of `ca`, by which it trusts the gateway, too.
pub async fn leaf_by_certificate(gateway: &Gateway, ca: &TestCa, name: &str, more: &str) -> Leaf {
    let folder = tempfile::tempdir().unwrap();
    let identity = ca.identity(&[name], for_clients);
    write(&folder, "tls.crt", &identity.certificate);
    write(&folder, "tls.key", &identity.key);
    write(&folder, "ca.pem", &ca.pem);
    let account = format!(
        "gateway = \"https://localhost:{}\"\nclient_certificate = \"tls.crt\"\nclient_key = \"tls.key\"\nca_file = \"ca.pem\"\n{more}",
        gateway.address(0).port()
    );
    Leaf::start(folder, &account, "").await
}

/// Both files, one after the other.
pub fn replace_pair(leaf: &Leaf, identity: &Identity) {
    leaf.replace("tls.crt", &identity.certificate);
    leaf.replace("tls.key", &identity.key);
}

/// Requests one after the other until `over`, reads and writes; each must succeed. Returns how many there were.
pub async fn traffic(leaf: &Leaf, over: impl Future<Output = ()>) -> usize {
    let mut over = std::pin::pin!(over);
    let mut sent = 0;
    let connection = client();
    loop {
        let request = if sent % 2 == 0 {
            connection.get(leaf.url(GROUPS))
        } else {
            connection
                .post(leaf.url(GROUPS))
                .header("content-type", "application/json")
                .body("{}")
        };
        let one = async {
            let answer = request.send().await.unwrap();
            let (status, code) = (
                answer.status(),
                answer.headers().get("x-atlas-auth-proxy-error").cloned(),
            );
            assert_eq!(status, 200, "{code:?}: {}", answer.text().await.unwrap());
        };
        one.await;
        sent += 1;
        if futures_util::poll!(over.as_mut()).is_ready() {
            return sent;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
