//! The proxy under test, in this process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atlas_auth_proxy::app::App;
use atlas_auth_proxy::catalogue::Catalogue;
use atlas_auth_proxy::credential::{ApiKeyPair, CredentialSettings, ServiceAccountKey};
use atlas_auth_proxy::guard::Allowlist;
use atlas_auth_proxy::log::{LogFormat, LogSettings};
use atlas_auth_proxy::proxy::RequestRules;
use atlas_auth_proxy::secret::Secret;
use atlas_auth_proxy::server::{Bind, HandedSockets, ListenerSettings};
use atlas_auth_proxy::settings::{AccountSettings, AdminSettings, CallerSettings, Limits, Settings};
use atlas_auth_proxy::time::{SharedClock, SystemClock};
use atlas_auth_proxy::upstream::{HttpVersion, Origin, UpstreamLimits, UpstreamSettings};

use super::metrics::metric;

pub const CLIENT_ID: &str = "mdb_sa_id_0123456789abcdef01234567";
pub const CLIENT_SECRET: &str = "mdb_sa_sk_only-for-tests-client-secret";
pub const PUBLIC_KEY: &str = "abcdefgh";
pub const PRIVATE_KEY: &str = "01234567-89ab-cdef-0123-456789abcdef";

pub struct ProxyBuilder {
    pub settings: Settings,
    pub clock: SharedClock,
}

pub struct Proxy {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub app: App,
}

pub fn bearer() -> CredentialSettings {
    CredentialSettings::ServiceAccount(ServiceAccountKey {
        client_id: CLIENT_ID.to_owned(),
        secrets: Secret::new(CLIENT_SECRET).into(),
    })
}

pub fn digest() -> CredentialSettings {
    CredentialSettings::ApiKey(ApiKeyPair {
        public_key: PUBLIC_KEY.to_owned(),
        private_key: Secret::new(PRIVATE_KEY),
        max_concurrent: None,
    })
}

/// A proxy with one listener on a free port, before `base_url`.
pub fn proxy(base_url: &str, ca_file: Option<&Path>, credential: CredentialSettings) -> ProxyBuilder {
    let account = AccountSettings {
        credential,
        api_key_id: None,
        upstream: UpstreamSettings {
            origin: Origin::parse(base_url).unwrap(),
            connect_to: None,
            ca_file: ca_file.map(Path::to_owned),
            http: HttpVersion::Auto,
            egress: None,
            limits: UpstreamLimits::default(),
        },
    };
    let settings = Settings {
        listeners: vec![listener("default")],
        handed: HandedSockets::default(),
        accounts: BTreeMap::from([("default".to_owned(), account)]),
        #[cfg(feature = "token-store")]
        token_store: None,
        admin: AdminSettings {
            bind: Some(Bind::Tcp("127.0.0.1:0".parse().unwrap())),
            quit: true,
        },
        catalogue: Arc::new(Catalogue::new()),
        callers: CallerSettings::default(),
        audit: None,
        traces: None,
        digest: String::new(),
        limits: Limits::default(),
        workers: NonZeroUsize::MIN,
        drain_timeout: Duration::from_secs(10),
        drain_delay: Duration::ZERO,
        log: LogSettings {
            level: tracing::level_filters::LevelFilter::OFF,
            format: LogFormat::Json,
        },
    };
    ProxyBuilder {
        settings,
        clock: Arc::new(SystemClock),
    }
}

pub fn listener(account: &str) -> ListenerSettings {
    ListenerSettings {
        name: None,
        bind: Bind::Tcp("127.0.0.1:0".parse().unwrap()),
        account: account.to_owned(),
        tls: None,
        allow: Allowlist::loopback(),
        proxy_protocol: None,
        rules: RequestRules::default(),
    }
}

impl ProxyBuilder {
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub fn upstream(self, change: impl FnOnce(&mut UpstreamSettings)) -> Self {
        self.with(|settings| change(&mut settings.accounts.get_mut("default").unwrap().upstream))
    }

    pub async fn start(self) -> Proxy {
        let app = App::start_with_clock(self.settings, self.clock).await.unwrap();
        // A unix socket has none.
        let address = app.listeners()[0].url.split_once("://").map_or_else(
            || "127.0.0.1:0".parse().unwrap(),
            |(_, address)| address.parse().unwrap(),
        );
        Proxy {
            address,
            // A unix socket has none.
            admin: app.admin().address().unwrap_or("127.0.0.1:0".parse().unwrap()),
            app,
        }
    }
}

impl Proxy {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The value of a metric, by name and labels that must all be present; sums what matches.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metric(self.admin, name, labels).await
    }
}
