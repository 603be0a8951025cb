//! A proxy with something to tell in each part of its page: an hour of traffic in some seconds, by a clock that is put forward.

use std::sync::Arc;
use std::time::Duration;

use atlas_auth_proxy::app::App;
use atlas_auth_proxy::emulator::{Emulator, EmulatorSettings, Fault, FaultKind, Realm, SAMPLE, Target};
use serde_json::Value;
use tempfile::TempDir;

use crate::callers::write;
use crate::support::client::client;
use crate::support::clock::StepClock;
use crate::support::config::load;
use crate::support::until;

const CLIENT_ID: &str = "mdb_sa_id_0123456789abcdef01234567";
const PUBLIC_KEY: &str = "abcdefgh";

/// Whatever must not stand on the page.
pub const SECRETS: [&str; 7] = [
    "mdb_sa_sk_seeded-client-secret",
    "01234567-seeded-private-key-456789abcdef",
    "billing-seeded-local-secret-0123456789abc",
    "deploy-seeded-local-secret-0123456789abcd",
    "seeded-egress-password",
    "5eededa0d17c4a110000000000000000000000000000000000000000000000ff",
    "5eededba55e500000000000000000000000000000000000000000000000000ff",
];

const RULES: &str = "[[caller.rule]]\nmethods = [\"GET\"]\naction = \"allow\"\n";

pub struct Scene {
    pub app: App,
    clock: Arc<StepClock>,
    _folder: TempDir,
    atlas: Emulator,
    _government: Emulator,
}

async fn emulator(realm: Realm, name: &str) -> Emulator {
    let emulator = Emulator::start(EmulatorSettings {
        realm,
        names: vec![name.to_owned()],
        // Requests that it need not have are refused as Atlas does it.
        strict_versions: true,
        service_accounts: vec![(CLIENT_ID.to_owned(), "mdb_sa_sk_another".to_owned())],
        api_keys: vec![(PUBLIC_KEY.to_owned(), SECRETS[1].to_owned())],
        ..EmulatorSettings::default()
    })
    .await
    .unwrap();
    emulator.add_secret_for(CLIENT_ID, SECRETS[0], Duration::from_secs(5 * 86_400 + 7200));
    emulator
}

fn port(emulator: &Emulator) -> String {
    emulator.base_url().rsplit(':').next().unwrap().to_owned()
}

impl Scene {
    pub async fn start() -> Self {
        let atlas = emulator(Realm::Commercial, "cloud.mongodb.com").await;
        let government = emulator(Realm::Government, "cloud.mongodbgov.com").await;
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("client-secret", SECRETS[0]),
            ("private-key", SECRETS[1]),
            ("billing", SECRETS[2]),
            ("deploy", SECRETS[3]),
            ("audit-key", SECRETS[5]),
            ("pass-key", SECRETS[6]),
            ("ca.pem", atlas.ca_pem()),
            ("ca-gov.pem", government.ca_pem()),
        ] {
            write(&folder, name, content);
        }
        let account = format!("client_id = \"{CLIENT_ID}\"\nclient_secret_file = \"client-secret\"");
        let toml = format!(
            r#"
[[listener]]
name = "apps"
bind = "127.0.0.1:0"
account = "commercial"
callers = "required"
[[listener]]
name = "reports"
bind = "127.0.0.1:0"
account = "reports"
callers = "optional"
read_only = true
max_requests_per_minute = 600
[[listener.rule]]
methods = ["GET"]
path = "/api/atlas/v2/**"
action = "allow"
[[listener]]
name = "gov"
bind = "127.0.0.1:0"
account = "government"
callers = "optional"
default_accept = "2025-03-12"
[[listener.rule]]
path = "/api/atlas/v2/groups/**"
action = "allow"

[[caller]]
name = "billing"
secret_file = "billing"
max_requests_per_minute = 250
{RULES}
[[caller]]
name = "deploy"
secret_file = "deploy"
max_concurrent_requests = 8
{RULES}
[passes]
key_file = "pass-key"

[account.commercial]
connect_to = "localhost:{commercial}"
ca_file = "ca.pem"
{account}
[account.reports]
connect_to = "localhost:{commercial}"
ca_file = "ca.pem"
public_key = "{PUBLIC_KEY}"
private_key_file = "private-key"
[account.government]
environment = "gov"
connect_to = "localhost:{gov}"
ca_file = "ca-gov.pem"
{account}
[account.elsewhere]
base_url = "https://opsmanager.example.org"
proxy = "http://egress-user:{password}@127.0.0.1:9"
{account}

[audit]
file = "audit.jsonl"
chain_key_file = "audit-key"
[admin]
bind = "127.0.0.1:0"
[log]
level = "error"
"#,
            commercial = port(&atlas),
            gov = port(&government),
            password = SECRETS[4],
        );
        let settings = load(write(&folder, "proxy.toml", &toml)).unwrap_or_else(|error| panic!("{error}"));
        let clock = Arc::new(StepClock::default());
        let app = App::start_with_clock(settings, Arc::<StepClock>::clone(&clock))
            .await
            .unwrap();
        let scene = Self {
            app,
            clock,
            _folder: folder,
            atlas,
            _government: government,
        };
        until("there are tokens", || async {
            let accounts = scene.status().await["accounts"].as_array().unwrap().clone();
            accounts.iter().filter(|account| account["usable"] == true).count() == 3
        })
        .await;
        scene
    }

    pub fn admin(&self) -> String {
        self.app.admin().to_string()
    }

    pub fn live_tokens(&self) -> Vec<String> {
        self.atlas.live_tokens_of(CLIENT_ID)
    }

    pub async fn get(&self, path: &str) -> String {
        client()
            .get(format!("{}{path}", self.admin()))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status.json").await).unwrap()
    }

    /// A request to this listener; `caller`: who makes it.
    pub async fn ask(&self, listener: usize, caller: &str, path: &str, version: &str) -> u16 {
        let url = format!("{}{path}", self.app.listeners()[listener].url);
        let mut request = client().get(url);
        if !version.is_empty() {
            request = request.header("accept", format!("application/vnd.atlas.{version}+json"));
        }
        request = match caller {
            "billing" => request.basic_auth(caller, Some(SECRETS[2])),
            "deploy" => request.basic_auth(caller, Some(SECRETS[3])),
            _ => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        status
    }

    /// So many minutes pass.
    pub async fn minutes_pass(&self, minutes: u64) {
        // What was counted so far belongs to the minute that ends.
        self.status().await;
        self.clock.advance(60 * minutes);
    }

    /// An hour with all that may happen in one.
    pub async fn an_hour_passes(&self) {
        let (group, clusters) = (
            "/api/atlas/v2/groups",
            format!("/api/atlas/v2/groups/{}/clusters", SAMPLE.0),
        );
        for minute in 0..60_u64 {
            let busy = 4 + (minute * 7 % 11) + if (20..34).contains(&minute) { 9 } else { 0 };
            if (41..45).contains(&minute) {
                self.fault(503, 3);
            }
            for n in 0..busy {
                self.ask(0, "deploy", group, "2023-01-01").await;
                if n % 3 == 0 {
                    self.ask(0, "billing", &clusters, "2024-08-05").await;
                    self.ask(1, "", group, "2023-01-01").await;
                }
                if n % 6 == 0 {
                    self.ask(1, "", &clusters, "2023-01-01").await;
                    self.ask(2, "", &format!("{group}/{}", SAMPLE.0), "").await;
                    self.ask(0, "deploy", &format!("{group}/000000000000000000000000"), "2023-01-01")
                        .await;
                }
            }
            if minute % 9 == 4 {
                self.refusals(&clusters).await;
            }
            if (12..15).contains(&minute) {
                for _ in 0..24 {
                    self.ask(0, "billing", group, "2023-01-01").await;
                }
            }
            if minute < 59 {
                self.minutes_pass(1).await;
            }
        }
    }

    fn fault(&self, status: u16, times: u32) {
        self.atlas.fault(Fault {
            target: Target::Api,
            kind: FaultKind::Status,
            times,
            delay_ms: 0,
            status: Some(status),
            retry_after: None,
            body: None,
        });
    }

    /// What the proxy refuses, and what it can't do.
    async fn refusals(&self, clusters: &str) {
        assert_eq!(self.ask(0, "", clusters, "2024-08-05").await, 401);
        assert_eq!(self.ask(2, "", "/api/atlas/v2/orgs", "").await, 401);
        let url = format!("{}{clusters}", self.app.listeners()[0].url);
        let denied = client()
            .post(&url)
            .basic_auth("deploy", Some(SECRETS[3]))
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_eq!(denied.status(), 403);
        let url = format!("{}{clusters}", self.app.listeners()[1].url);
        for request in [
            client().post(&url),
            client().get(&url).header("origin", "https://evil.example"),
            client().get(&url).header("host", "rebound.example"),
        ] {
            assert!(request.send().await.unwrap().status().is_client_error());
        }
    }

    /// Waits until it is known when the secret expires: it is looked up after some time.
    pub async fn until_the_secret_is_known(&self) {
        until("it is known when the secret expires", || async {
            self.status().await["accounts"][0]["secretExpiresAt"].is_string()
        })
        .await;
    }
}
