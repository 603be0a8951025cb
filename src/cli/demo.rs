//! `demo`: the built-in Atlas emulator with proxies before it. Needs no configuration and no account.

mod with_callers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tracing::level_filters::LevelFilter;

use super::run::{Signals, drain, no_thread};
use super::{exit, shell};
use crate::app::App;
use crate::blocking;
use crate::catalogue::Catalogue;
use crate::credential::{ApiKeyPair, CredentialSettings, ServiceAccountKey};
use crate::emulator::{Emulator, EmulatorSettings, Realm, SAMPLE};
use crate::guard::Allowlist;
use crate::log::{LogFormat, LogSettings, Outlet};
use crate::proxy::RequestRules;
use crate::secret::Secret;
use crate::server::{Bind, HandedSockets, ListenerSettings};
use crate::settings::{AccountSettings, AdminSettings, CallerSettings, Limits, Settings};
use crate::upstream::{HttpVersion, Origin, UpstreamLimits, UpstreamSettings};

const COMMERCIAL: u16 = 8080;
const DIGEST: u16 = 8081;
const GOVERNMENT: u16 = 8082;
const ADMIN: u16 = 9091;

/// The emulators' credentials: they are valid nowhere else.
const CLIENT_ID: &str = "mdb_sa_id_demo00000000000000000001";
const CLIENT_SECRET: &str = "mdb_sa_sk_demo-secret-of-the-emulator";
const PUBLIC_KEY: &str = "demokeyx";
const PRIVATE_KEY: &str = "00000000-demo-0000-0000-000000000000";

/// Serves until SIGINT or SIGTERM. `callers`: only programs that the proxies know by name are let in, and each request is
/// logged with its caller. `strict`: versions must be named, as Atlas wants it.
pub(super) fn run(callers: bool, strict: bool) -> ExitCode {
    let log = LogSettings {
        level: if callers { LevelFilter::INFO } else { LevelFilter::WARN },
        format: LogFormat::of_stderr(),
    };
    let stdout = match crate::log::init(&log).and_then(|()| Outlet::stdout()) {
        Ok(stdout) => stdout,
        Err(error) => return no_thread(&error),
    };
    if let Err(error) = blocking::start().and_then(|()| blocking::can_make(2)) {
        return no_thread(&error);
    }
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(serve(callers, strict, &stdout));
    runtime.shutdown_background();
    stdout.flush(Duration::from_millis(100));
    code
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    super::print_error(&format!("the demo cannot start: {error}"));
    exit::failed()
}

async fn serve(callers: bool, strict: bool, stdout: &Outlet) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let (commercial, government) = match (
        Emulator::start(emulator(Realm::Commercial, strict)).await,
        Emulator::start(emulator(Realm::Government, strict)).await,
    ) {
        (Ok(commercial), Ok(government)) => (commercial, government),
        (Err(error), _) | (_, Err(error)) => return failed(&error),
    };
    let files = match Files::write(&[&commercial, &government]) {
        Ok(files) => files,
        Err(error) => return failed(&error),
    };
    let settings = if callers {
        with_callers::settings(&commercial, &government, &files)
    } else {
        settings(&commercial, &government, &files)
    };
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return failed(&error),
    };
    let running = match App::start(settings).await {
        Ok(running) => running,
        Err(error) => return failed(&error),
    };
    let text = if callers {
        with_callers::announcement(&running, &files)
    } else {
        announcement(&running, &commercial, &government, &files)
    };
    // A closed standard output, or one that nobody reads, is no reason not to serve.
    stdout.put(text.as_bytes());
    tokio::select! {
        _ = signals.next() => {}
        () = running.quit_requested() => {}
    }
    drain(running, &mut signals).await
}

fn emulator(realm: Realm, strict_versions: bool) -> EmulatorSettings {
    EmulatorSettings {
        realm,
        strict_versions,
        service_accounts: vec![(CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned())],
        api_keys: vec![(PUBLIC_KEY.to_owned(), PRIVATE_KEY.to_owned())],
        ..EmulatorSettings::default()
    }
}

/// The emulators' certificate authorities, and the client secret for whoever tries other commands against them, in a folder
/// of their own, removed at the end.
struct Files(PathBuf);

impl Files {
    fn write(emulators: &[&Emulator]) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("atlas-auth-proxy-demo-{}", std::process::id()));
        // Fails when the folder exists: another user may have put something there.
        std::fs::create_dir(&folder)?;
        let made = Self(folder);
        for (n, emulator) in emulators.iter().enumerate() {
            write(&made.authority(n), emulator.ca_pem())?;
        }
        write(&made.client_secret(), CLIENT_SECRET)?;
        Ok(made)
    }

    fn authority(&self, n: usize) -> PathBuf {
        self.0.join(format!("ca-{n}.pem"))
    }

    fn client_secret(&self) -> PathBuf {
        self.0.join("client-secret")
    }
}

fn write(file: &Path, content: &str) -> io::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(content.as_bytes())
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(
    commercial: &Emulator,
    government: &Emulator,
    files: &Files,
) -> Result<Settings, Box<dyn std::error::Error>> {
    let bearer = || {
        CredentialSettings::ServiceAccount(ServiceAccountKey {
            client_id: CLIENT_ID.to_owned(),
            secrets: Secret::new(CLIENT_SECRET).into(),
        })
    };
    let digest = CredentialSettings::ApiKey(ApiKeyPair {
        public_key: PUBLIC_KEY.to_owned(),
        private_key: Secret::new(PRIVATE_KEY),
        max_concurrent: None,
    });
    let accounts = BTreeMap::from([
        (
            "commercial".to_owned(),
            account(bearer(), commercial, &files.authority(0))?,
        ),
        (
            "commercial-digest".to_owned(),
            account(digest, commercial, &files.authority(0))?,
        ),
        (
            "government".to_owned(),
            account(bearer(), government, &files.authority(1))?,
        ),
    ]);
    Ok(Settings {
        audit: None,
        traces: None,
        digest: String::new(),
        listeners: vec![
            listener("commercial", COMMERCIAL),
            listener("commercial-digest", DIGEST),
            listener("government", GOVERNMENT),
        ],
        handed: HandedSockets::default(),
        accounts,
        #[cfg(feature = "token-store")]
        token_store: None,
        admin: AdminSettings {
            bind: Some(Bind::Tcp(free(ADMIN))),
            quit: false,
        },
        catalogue: Arc::new(Catalogue::new()),
        callers: CallerSettings::default(),
        limits: Limits::default(),
        workers: NonZeroUsize::MIN,
        drain_timeout: Duration::from_secs(5),
        drain_delay: Duration::ZERO,
        log: LogSettings {
            level: LevelFilter::WARN,
            format: LogFormat::Text,
        },
    })
}

fn account(
    credential: CredentialSettings,
    emulator: &Emulator,
    ca_file: &Path,
) -> Result<AccountSettings, Box<dyn std::error::Error>> {
    Ok(AccountSettings {
        credential,
        api_key_id: None,
        upstream: UpstreamSettings {
            origin: Origin::parse(&emulator.base_url())?,
            connect_to: None,
            ca_file: Some(ca_file.to_owned()),
            http: HttpVersion::Auto,
            egress: None,
            limits: UpstreamLimits::default(),
        },
    })
}

fn listener(account: &str, port: u16) -> ListenerSettings {
    ListenerSettings {
        name: Some(account.to_owned()),
        bind: Bind::Tcp(free(port)),
        account: account.to_owned(),
        tls: None,
        allow: Allowlist::loopback(),
        proxy_protocol: None,
        rules: RequestRules::default(),
    }
}

/// The port, or a free one when it is taken.
fn free(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn announcement(running: &App, commercial: &Emulator, government: &Emulator, files: &Files) -> String {
    let listeners = running.listeners();
    let urls: Vec<&str> = listeners.iter().map(|listener| listener.url.as_str()).collect();
    let [bearer, digest, gov] = urls[..] else {
        return String::new();
    };
    let (group, host) = SAMPLE;
    let v2 = "-H 'Accept: application/vnd.atlas.2023-01-01+json'";
    let json = "-H 'Content-Type: application/json'";
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{line}");
    };
    line("atlas-auth-proxy demo: a built-in Atlas emulator, and proxies before it".to_owned());
    let admin = running.admin().to_string();
    line(addresses([bearer, digest, gov], &admin));
    line(format!(
        "  emulators, and their fault controls   {} {}, {} {}",
        commercial.base_url(),
        commercial.control_url(),
        government.base_url(),
        government.control_url()
    ));
    line("ready".to_owned());
    line(String::new());
    line("Try, in another terminal:".to_owned());
    line(format!("  curl {v2} {bearer}/api/atlas/v2/groups"));
    line(format!(
        "  curl {v2} {json} -X POST {digest}/api/atlas/v2/groups --data '{{\"name\":\"MyProject\",\"orgId\":\"5a0a1e7e0f2912c554080adc\"}}'"
    ));
    line(format!(
        "  curl {v2} {json} -X POST {gov}/api/atlas/v2/groups --data '{{\"name\":\"MyGovProject\",\"orgId\":\"5a0a1e7e0f2912c554080adc\",\"regionUsageRestrictions\":\"GOV_REGIONS_ONLY\"}}'"
    ));
    line(format!(
        "  curl {v2} '{bearer}/api/atlas/v2/groups/{group}/databaseUsers?pretty=true'"
    ));
    line(format!(
        "  curl {json} -X POST '{bearer}/api/atlas/v1.0/groups/{group}/cloudProviderAccess?pretty=true' --data '{{\"providerName\":\"AWS\"}}'"
    ));
    line(format!(
        "  curl '{bearer}/api/atlas/v1.0/groups/{group}/cloudProviderAccess?envelope=true'"
    ));
    line(format!(
        "  curl -H 'Accept: application/vnd.atlas.2023-02-01+gzip' {digest}/api/atlas/v2/groups/{group}/clusters/{host}/logs/mongodb.gz | gunzip | head -n 3"
    ));
    line(format!("  curl {admin}/readyz"));
    let command = |name: &str| {
        format!(
            "  MONGODB_ATLAS_CLIENT_ID={CLIENT_ID} MONGODB_ATLAS_CLIENT_SECRET_FILE={} {} {name} --base-url {} --upstream-ca {}",
            quoted(&files.client_secret()),
            quoted(&program()),
            commercial.base_url(),
            quoted(&files.authority(0)),
        )
    };
    line(
        "The same program against the emulator: what may be wrong with the settings, and a new client secret (the proxies above go on with theirs):"
            .to_owned(),
    );
    line(format!(
        "{} --listen {} --admin-listen {}",
        command("check"),
        bearer.trim_start_matches("http://"),
        admin.trim_start_matches("http://")
    ));
    line(format!("{} --delete-unused", command("rotate-secret")));
    line("Ctrl-C ends the demo.".to_owned());
    text
}

/// Where the proxies and the admin port are, a line each.
fn addresses([bearer, digest, gov]: [&str; 3], admin: &str) -> String {
    [
        ("commercial, service account (Bearer)", bearer, COMMERCIAL),
        ("commercial, API key (Digest)", digest, DIGEST),
        ("government, service account (Bearer)", gov, GOVERNMENT),
        ("status page, metrics and health", admin, ADMIN),
    ]
    .map(|(what, url, port)| format!("  {what:<37} {url}{}", moved(url, port)))
    .join("\n")
}

/// This program, as a shell starts it.
fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from(env!("CARGO_PKG_NAME")))
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    shell::word(&path.display().to_string())
}

/// Says when a port is not the usual one.
fn moved(url: &str, wanted: u16) -> String {
    if url.ends_with(&format!(":{wanted}")) {
        String::new()
    } else {
        format!("  (port {wanted} is taken)")
    }
}
