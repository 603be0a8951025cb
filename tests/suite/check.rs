//! `check` names the cause: each test is a broken set-up, and the line that says so, with what to do. The program itself
//! runs; nothing that it prints holds a secret.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atlas_auth_proxy::emulator::{Emulator, EmulatorSettings, Fault, FaultKind, Target};
use parking_lot::Mutex;
use rcgen::CertificateParams;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::support::PATIENCE;
use crate::support::client::head_of;
use crate::support::ports::free_address;
use crate::support::program::Program;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PUBLIC_KEY};
use crate::support::tls::{TestCa, expired, not_yet_valid};

const PRIVATE_KEY: &str = "01234567-89ab-cdef-0123-456789abcdef";
const OTHER_SECRET: &str = "mdb_sa_sk_only-for-tests-another-secret";
const PASSWORD: &str = "proxy-password";

/// Nothing of these may be printed. `eyJ` begins the emulator's tokens, and `fake-token` is the fake's.
const NEVER: [&str; 6] = [CLIENT_SECRET, PRIVATE_KEY, OTHER_SECRET, PASSWORD, "eyJ", "fake-token"];

/// What a run of `check` said.
pub(super) struct Said {
    code: Option<i32>,
    pub(super) text: String,
}

impl Said {
    /// That a line has this mark, this check and all these words, and the hint below it these. Empty: there is no hint.
    #[track_caller]
    pub(super) fn line(&self, mark: &str, check: &str, found: &[&str], hint: &[&str]) {
        let start = format!("{mark:<4} {check:<14} ");
        let lines: Vec<&str> = self.text.lines().collect();
        let holds = lines.iter().enumerate().any(|(at, line)| {
            let below = lines.get(at + 1).and_then(|line| line.trim_start().strip_prefix("-> "));
            let hinted = match below {
                Some(below) => !hint.is_empty() && hint.iter().all(|word| below.contains(word)),
                None => hint.is_empty(),
            };
            line.starts_with(&start) && found.iter().all(|word| line.contains(word)) && hinted
        });
        assert!(holds, "no `{start}` with {found:?} and {hint:?} in\n{}", self.text);
    }

    /// The same of the only line that fails.
    #[track_caller]
    pub(super) fn fails(&self, check: &str, found: &[&str], hint: &[&str]) {
        self.line("FAIL", check, found, hint);
        assert_eq!(self.text.matches("FAIL ").count(), 1, "{}", self.text);
        assert!(self.text.ends_with("\n1 failed\n"), "{}", self.text);
        assert_eq!(self.code, Some(1), "{}", self.text);
    }

    #[track_caller]
    pub(super) fn works(&self, last_line: &str) {
        assert_eq!(self.text.lines().last(), Some(last_line), "{}", self.text);
        assert_eq!(self.code, Some(0), "{}", self.text);
    }

    /// That these were not tried, since what they stand on failed.
    #[track_caller]
    fn skips(&self, checks: &[&str]) {
        for check in checks {
            self.line("skip", check, &["not tried"], &[]);
        }
    }
}

/// One set-up: an environment and arguments.
#[derive(Clone, Default)]
pub(super) struct Setup {
    environment: Vec<(String, String)>,
    args: Vec<String>,
}

impl Setup {
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub(super) fn at(self, base_url: &str, ca_file: &Path) -> Self {
        self.args(&["--base-url", base_url, "--upstream-ca", ca_file.to_str().unwrap()])
    }

    pub(super) fn bearer() -> Self {
        Self::default()
            .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
            .env("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET)
    }

    fn digest() -> Self {
        Self::default()
            .env("MONGODB_ATLAS_PUBLIC_API_KEY", PUBLIC_KEY)
            .env("MONGODB_ATLAS_PRIVATE_API_KEY", PRIVATE_KEY)
    }

    /// Runs `check`; ports are free unless the set-up says otherwise.
    pub(super) async fn check(&self) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlas-auth-proxy"));
        command.arg("check");
        for (flag, free) in [("--listen", "127.0.0.1:0"), ("--admin-listen", "127.0.0.1:0")] {
            if !self.args.iter().any(|arg| arg == flag || arg == "--config") {
                command.args([flag, free]);
            }
        }
        let output = command
            .args(&self.args)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors, "");
        for secret in NEVER {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
        }
        let controls = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(controls), "{text:?}");
        Said {
            code: output.status.code(),
            text,
        }
    }
}

/// The emulator, and the file of its certificate authority.
pub(super) struct Atlas {
    pub(super) emulator: Emulator,
    folder: tempfile::TempDir,
}

impl Atlas {
    pub(super) async fn start(change: impl FnOnce(&mut EmulatorSettings)) -> Self {
        let mut settings = EmulatorSettings {
            service_accounts: vec![(CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned())],
            api_keys: vec![(PUBLIC_KEY.to_owned(), PRIVATE_KEY.to_owned())],
            ..EmulatorSettings::default()
        };
        change(&mut settings);
        let atlas = Self {
            emulator: Emulator::start(settings).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(atlas.ca_file(), atlas.emulator.ca_pem()).unwrap();
        atlas
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(super) fn before(&self, setup: Setup) -> Setup {
        setup.at(&self.emulator.base_url(), &self.ca_file())
    }

    /// A file of this content and mode.
    pub(super) fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `check` with the client secret in a file.
    async fn with_secret_file(&self, path: &str) -> Said {
        let setup = Setup::default()
            .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
            .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", path);
        self.before(setup).check().await
    }
}

/// A server that answers as the test says, and nothing else: one request on a connection, its head handed in.
struct Fake {
    address: SocketAddr,
}

type Reply = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Fake {
    /// Plain HTTP, which is let through to this machine.
    async fn start(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let reply: Reply = Arc::new(reply);
        Self::listen(move |stream| {
            let reply = Arc::clone(&reply);
            async move { answer(stream, &reply).await }
        })
        .await
    }

    async fn start_tls(tls: Arc<rustls::ServerConfig>, reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let reply: Reply = Arc::new(reply);
        let acceptor = TlsAcceptor::from(tls);
        Self::listen(move |stream| {
            let (reply, acceptor) = (Arc::clone(&reply), acceptor.clone());
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, &reply).await;
                }
            }
        })
        .await
    }

    async fn listen<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream));
            }
        });
        Self { address }
    }

    fn before(&self, setup: Setup) -> Setup {
        setup.args(&["--base-url", &format!("http://{}", self.address)])
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: &Reply) {
    let Some(head) = head_of(&mut stream).await else { return };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body).await;
    let _ = stream.write_all(reply(&head).as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// `more`: header lines, each with its end.
fn http(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"MMS Public API\", domain=\"\", nonce=\"bm9uY2U\", algorithm=MD5, qop=\"auth\", stale=false\r\n";
const TOKEN: &str = r#"{"access_token":"fake-token","expires_in":3600,"token_type":"Bearer"}"#;

/// An Atlas in which all is well, with one secret until `expires`.
fn fake_atlas(head: &str, expires: &str) -> String {
    let path = head.split(' ').nth(1).unwrap();
    let body = match path {
        "/api/oauth/token" => TOKEN.to_owned(),
        "/api/atlas/v2/orgs" => json!({"results": [{"id": "5a0a1e7e0f2912c554080adc"}]}).to_string(),
        path if path.ends_with(CLIENT_ID) => {
            let secret = json!({"id": "6a7940c00000000000000000", "expiresAt": expires, "maskedSecretValue": "…cret"});
            json!({ "secrets": [secret] }).to_string()
        }
        _ => json!({"results": [], "totalCount": 3}).to_string(),
    };
    http("200 OK", "", &body)
}

/// A forward proxy that leads everywhere to `to`; with `credentials` it wants those.
async fn tunnel(to: SocketAddr, credentials: Option<&'static str>) -> Fake {
    Fake::listen(move |mut stream| async move {
        let Some(head) = head_of(&mut stream).await else { return };
        if credentials.is_some_and(|credentials| !head.contains(credentials)) {
            let _ = stream
                .write_all(http("407 Proxy Authentication Required", "", "").as_bytes())
                .await;
            return;
        }
        let mut there = TcpStream::connect(to).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut there).await;
    })
    .await
}

fn in_days(days: i64) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let then = i64::try_from(now).unwrap() + days * 24 * 3600 + 60;
    jiff::Timestamp::from_second(then).unwrap().to_string()
}

// ---------------------------------------------------------------------------------------------------------- all is well

#[tokio::test]
async fn a_service_account_that_works() {
    let atlas = Atlas::start(|_| ()).await;
    let said = atlas
        .with_secret_file(&atlas.file("secret", CLIENT_SECRET, 0o600))
        .await;
    said.works("all is well");
    let base_url = atlas.emulator.base_url();
    said.line("ok", "configuration", &["1 listener, account default"], &[]);
    said.line("ok", "configuration", &["secret` is guarded (mode 0600)"], &[]);
    said.line("ok", "account", &["service account", CLIENT_ID, &base_url], &[]);
    said.line("ok", "proxy", &["directly"], &[]);
    said.line("ok", "dns", &["localhost is 127.0.0.1"], &[]);
    said.line("ok", "tcp", &["127.0.0.1:", "answered"], &[]);
    said.line("ok", "tls", &["TLSv1_3"], &[]);
    said.line("ok", "clock", &["agree"], &[]);
    said.line("ok", "credential", &["granted a token for 3600 s"], &[]);
    said.line("ok", "api", &["HTTP 200, 2 projects"], &[]);
    said.line("ok", "egress", &["Atlas sees this machine as 127.0.0.1"], &[]);
    said.line("ok", "secret expiry", &["364 days"], &[]);
    said.line("ok", "listener", &["free"], &[]);
    said.line("ok", "admin port", &["free"], &[]);
    assert_eq!(atlas.emulator.live_tokens(), 0, "the token was taken back");
}

#[tokio::test]
async fn an_api_key_that_works() {
    let atlas = Atlas::start(|_| ()).await;
    let said = atlas.before(Setup::digest()).check().await;
    said.works("all is well");
    said.line("ok", "account", &["API key abcdefgh"], &[]);
    said.line("ok", "credential", &["Digest"], &[]);
    said.line("ok", "api", &["HTTP 200, 2 projects"], &[]);
    said.line("ok", "egress", &["127.0.0.1"], &[]);
}

/// The next secret has to take the current one's place some day; until then nothing is broken.
#[tokio::test]
async fn the_next_secret_that_has_stepped_in() {
    let atlas = Atlas::start(|settings| settings.service_accounts[0].1 = OTHER_SECRET.to_owned()).await;
    let next = atlas.file("next", OTHER_SECRET, 0o600);
    let setup = Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE", &next);
    let said = atlas.before(setup).check().await;
    said.works("it works; 1 to look at");
    said.line(
        "warn",
        "credential",
        &["with the next one"],
        &["in the place of the current"],
    );
    said.line("ok", "secret expiry", &["364 days"], &[]);
}

// ----------------------------------------------------------------------------------------------------------- credential

#[tokio::test]
async fn a_wrong_client_secret() {
    let atlas = Atlas::start(|_| ()).await;
    let setup = Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET", OTHER_SECRET);
    let said = atlas.before(setup).check().await;
    said.fails(
        "credential",
        &["invalid_client"],
        &[&atlas.emulator.base_url(), "mistyped", "expired"],
    );
    said.skips(&["api", "secret expiry"]);
}

#[tokio::test]
async fn a_wrong_api_key() {
    let atlas = Atlas::start(|_| ()).await;
    let setup = Setup::digest().env("MONGODB_ATLAS_PRIVATE_API_KEY", "ffffffff-89ab-cdef-0123-456789abcdef");
    let said = atlas.before(setup).check().await;
    said.fails(
        "credential",
        &["refuses the API key", "HTTP 401"],
        &["mistyped", "deleted"],
    );
    said.skips(&["api"]);
}

/// Under the real names of both, with an authority and a tunnel of our own.
#[tokio::test]
async fn a_credential_of_the_other_realm() {
    let ca = TestCa::new();
    let tls = ca.server(&["cloud.mongodb.com", "cloud.mongodbgov.com"], &["http/1.1"]);
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let hosts = Arc::clone(&asked);
    let atlas = Fake::start_tls(tls, move |head| {
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        hosts.lock().push(host.to_owned());
        if head.starts_with("POST /api/oauth/token ") {
            return http("401 Unauthorized", "", r#"{"error":"invalid_client"}"#);
        }
        http("401 Unauthorized", CHALLENGE, "{}")
    })
    .await;
    let way = tunnel(atlas.address, None).await;
    for (realm, host, name, hint) in [
        (
            "cloud",
            "cloud.mongodb.com",
            "commercial Atlas",
            "MONGODB_ATLAS_SERVICE=cloudgov",
        ),
        (
            "cloudgov",
            "cloud.mongodbgov.com",
            "Atlas for Government",
            "unset MONGODB_ATLAS_SERVICE",
        ),
    ] {
        for setup in [Setup::bearer(), Setup::digest()] {
            let said = setup
                .env("MONGODB_ATLAS_SERVICE", realm)
                .env("HTTPS_PROXY", &format!("http://{}", way.address))
                .args(&["--upstream-ca", ca.pem_file.path().to_str().unwrap()])
                .check()
                .await;
            said.line("ok", "account", &[name, host], &[]);
            said.line("ok", "tunnel", &[host], &[]);
            said.fails("credential", &[], &[&format!("{name} was asked"), hint]);
            assert!(asked.lock().drain(..).all(|asked| asked == host));
        }
    }
}

#[tokio::test]
async fn the_token_endpoint_is_asked_too_often() {
    let atlas = Atlas::start(|settings| settings.tokens_per_minute = 0).await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.fails(
        "credential",
        &["rate limit", "HTTP 429"],
        &["wait 60 s", "restarts in a loop"],
    );

    let fault = Fault {
        status: Some(429),
        retry_after: Some(17),
        ..Fault::once(Target::Token, FaultKind::Status)
    };
    atlas.emulator.fault(fault);
    let said = atlas.before(Setup::bearer()).check().await;
    said.fails("credential", &["HTTP 429"], &["wait 17 s"]);
}

#[tokio::test]
async fn too_many_live_tokens() {
    let atlas = Atlas::start(|settings| settings.max_tokens = 0).await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.fails(
        "credential",
        &["Access Token limit reached"],
        &["100 live tokens", "fewer replicas"],
    );
}

#[tokio::test]
async fn a_token_endpoint_with_a_fault() {
    let atlas = Atlas::start(|_| ()).await;
    for (kind, status, found, hint) in [
        (FaultKind::Status, Some(503), "HTTP 503", "status.mongodb.com"),
        (FaultKind::Status, Some(404), "HTTP 404", "not Atlas"),
        (FaultKind::Status, Some(418), "HTTP 418", "look at the base URL"),
        (FaultKind::Empty, None, "its body is empty", "base URL"),
        (FaultKind::Garbage, None, "not one JSON object", "base URL"),
        (FaultKind::Truncate, None, "the token endpoint", "in between"),
        (FaultKind::Reset, None, "broke before an answer", "in between"),
    ] {
        let fault = Fault {
            status,
            ..Fault::once(Target::Token, kind)
        };
        atlas.emulator.fault(fault);
        let said = atlas.before(Setup::bearer()).check().await;
        said.fails("credential", &[found], &[hint]);
    }
}

#[tokio::test]
async fn neither_of_two_secrets_is_accepted() {
    let atlas = Atlas::start(|settings| settings.service_accounts.clear()).await;
    let next = atlas.file("next", OTHER_SECRET, 0o600);
    let setup = Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE", &next);
    let said = atlas.before(setup).check().await;
    said.fails(
        "credential",
        &["invalid_client", "nor the next client secret"],
        &["mistyped"],
    );
}

#[tokio::test]
async fn secrets_that_expire() {
    for (days, mark, found, code) in [
        (30, "ok", "good for 30 days", 0),
        (3, "warn", "good for 3 days", 0),
        (-5, "FAIL", "expired 4 days ago", 1),
    ] {
        let expires = in_days(days);
        let atlas = Fake::start(move |head| fake_atlas(head, &expires)).await;
        let said = atlas.before(Setup::bearer()).check().await;
        let hint: &[&str] = if mark == "ok" { &[] } else { &["rotate-secret"] };
        said.line(mark, "secret expiry", &[found], hint);
        assert_eq!(said.code, Some(code), "{}", said.text);
    }
}

#[tokio::test]
async fn what_looks_unlike_a_service_account() {
    let atlas = Atlas::start(|settings| {
        let odd = |id: &str, secret: &str| (id.to_owned(), secret.to_owned());
        settings.service_accounts = vec![odd(PUBLIC_KEY, CLIENT_SECRET), odd(CLIENT_ID, PRIVATE_KEY)];
    })
    .await;
    for (variable, value, found) in [
        ("MONGODB_ATLAS_CLIENT_ID", PUBLIC_KEY, "does not begin with mdb_sa_id_"),
        (
            "MONGODB_ATLAS_CLIENT_SECRET",
            PRIVATE_KEY,
            "does not begin with mdb_sa_sk_",
        ),
    ] {
        let said = atlas.before(Setup::bearer().env(variable, value)).check().await;
        said.works("it works; 1 to look at");
        said.line("warn", "account", &[found], &["value of this field"]);
        assert!(!said.text.contains(PUBLIC_KEY), "{}", said.text);
    }
}

// ------------------------------------------------------------------------------------------------------------------ API

#[tokio::test]
async fn an_address_that_is_not_on_the_access_list() {
    let atlas = Atlas::start(|settings| settings.access_list = Some(vec!["10.0.0.1".parse().unwrap()])).await;
    for setup in [Setup::bearer(), Setup::digest()] {
        let said = atlas.before(setup).check().await;
        said.fails(
            "api",
            &["HTTP 403 (IP_ADDRESS_NOT_ON_ACCESS_LIST)"],
            &["Atlas sees this machine as 127.0.0.1", "API access list"],
        );
    }
}

/// What a server says is repeated only as far as it is an address.
#[tokio::test]
async fn an_access_list_answer_with_more_than_an_address() {
    for (detail, parameters, hint) in [
        (
            "",
            json!([CLIENT_SECRET, "\u{1b}[31m", "198.51.100.7\n", "203.0.113.9"]),
            "as 203.0.113.9,",
        ),
        ("IP address 203.0.113.8 is not allowed", json!([]), "as 203.0.113.8,"),
        (CLIENT_SECRET, json!("203.0.113.8"), "does not name it"),
    ] {
        let body = json!({"errorCode": "IP_ADDRESS_NOT_ON_ACCESS_LIST", "detail": detail, "parameters": parameters});
        let body = body.to_string();
        let atlas = Fake::start(move |head| match head.starts_with("POST /api/oauth/token ") {
            true => http("200 OK", "", TOKEN),
            false => http("403 Forbidden", "", &body),
        })
        .await;
        let said = atlas.before(Setup::bearer()).check().await;
        said.fails("api", &["ACCESS_LIST"], &[hint, "API Access List"]);
        assert!(!said.text.contains("198.51.100.7"), "{}", said.text);
    }
    let of_tokens =
        Fake::start(|_| http("403 Forbidden", "", r#"{"errorCode":"IP_ADDRESS_NOT_ON_ACCESS_LIST"}"#)).await;
    let said = of_tokens.before(Setup::bearer()).check().await;
    said.fails("credential", &["ACCESS_LIST"], &["API Access List"]);
}

#[tokio::test]
async fn an_api_that_says_no() {
    let atlas = Atlas::start(|_| ()).await;
    for (status, body, found, hint) in [
        (401, "{}", "HTTP 401", "the token was granted"),
        (
            403,
            r#"{"errorCode":"USER_UNAUTHORIZED"}"#,
            "HTTP 403 (USER_UNAUTHORIZED)",
            "its role",
        ),
        (403, r#"{"errorCode":"mdb_sa_sk_\u001b[31m"}"#, "HTTP 403", "its role"),
        (404, "<html>", "HTTP 404", "no Admin API"),
        (406, "{}", "HTTP 406", "older Ops Manager"),
        (500, "{}", "HTTP 500", "status.mongodb.com"),
    ] {
        atlas.emulator.clear_faults();
        atlas.emulator.fault(Fault {
            status: Some(status),
            body: Some(body.to_owned()),
            times: 0,
            ..Fault::once(Target::Api, FaultKind::Status)
        });
        let said = atlas.before(Setup::bearer()).check().await;
        said.fails("api", &[found], &[hint]);
    }
    let busy = Atlas::start(|settings| settings.requests_per_minute = 0).await;
    for setup in [Setup::bearer(), Setup::digest()] {
        let said = busy.before(setup).check().await;
        said.fails(
            "api",
            &["HTTP 429 (RATE_LIMITED_TOKEN_BUCKET)"],
            &["rate limit", "max_requests_per_minute"],
        );
    }
}

#[tokio::test]
async fn a_credential_that_sees_nothing() {
    let atlas = Fake::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        let body = if path == "/api/oauth/token" {
            TOKEN
        } else {
            r#"{"results":[],"totalCount":0}"#
        };
        http("200 OK", "", body)
    })
    .await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.works("it works; 1 to look at");
    said.line("warn", "api", &["HTTP 200, and no project"], &["give it a role"]);
    said.line("skip", "secret expiry", &["not known"], &["Organization Read Only"]);
}

#[tokio::test]
async fn something_else_than_atlas() {
    let pages: [fn() -> String; 2] = [
        || http("200 OK", "Content-Type: text/html\r\n", "<html>Sign in</html>"),
        || http("302 Found", "Location: https://login.example.org/?secret=1\r\n", ""),
    ];
    for (page, found) in pages.into_iter().zip(["not one JSON object", "HTTP 302"]) {
        let site = Fake::start(move |_| page()).await;
        let said = site.before(Setup::bearer()).check().await;
        said.fails("credential", &[found], &["base URL", "login page"]);
        let said = site.before(Setup::digest()).check().await;
        said.line(
            "warn",
            "credential",
            &["asked for no credential"],
            &["something else than Atlas"],
        );
        let found = if found == "HTTP 302" {
            found
        } else {
            "HTTP 200, and no JSON"
        };
        said.fails("api", &[found], &["not the Admin API", "base URL", "login page"]);
        assert!(!said.text.contains("login.example.org"), "{}", said.text);
    }
    let speechless = Fake::start(|_| "SSH-2.0-OpenSSH_9.2\r\n".to_owned()).await;
    for setup in [Setup::bearer(), Setup::digest()] {
        let said = speechless.before(setup).check().await;
        said.line("warn", "clock", &["no answer"], &["is the base URL Atlas's?"]);
        said.fails("credential", &[], &["in between"]);
    }
}

#[tokio::test]
async fn an_upstream_that_offers_no_digest() {
    let gateway = Fake::start(|_| http("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "")).await;
    let said = gateway.before(Setup::digest()).check().await;
    said.fails("credential", &["no Digest challenge"], &["base URL", "in between"]);
    said.skips(&["api"]);
}

/// That the key was sent is no sign that it was looked at.
#[tokio::test]
async fn a_fault_behind_the_digest_challenge() {
    let atlas = Fake::start(|head| match head.contains("\r\nauthorization: Digest ") {
        true => http("503 Service Unavailable", "", ""),
        false => http("401 Unauthorized", CHALLENGE, ""),
    })
    .await;
    let said = atlas.before(Setup::digest()).check().await;
    said.line("skip", "credential", &["not known yet", "HTTP 503"], &[]);
    said.fails("api", &["HTTP 503"], &["status.mongodb.com"]);
}

/// Everything that a server can say comes back to it as what it was sent.
#[tokio::test]
async fn an_upstream_that_echoes_the_secret() {
    let atlas = Fake::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        let echo = json!({
            "error": CLIENT_SECRET, "errorCode": CLIENT_SECRET, "detail": CLIENT_SECRET, "parameters": [CLIENT_SECRET],
            "results": [{"id": "fake-token"}], "currentIpv4Address": CLIENT_SECRET, "error_description": CLIENT_SECRET,
        });
        let more =
            format!("X-Error-Code: {CLIENT_SECRET}\r\nDate: {CLIENT_SECRET}\r\nRetry-After: {CLIENT_SECRET}\r\n");
        match path {
            "/api/oauth/token" => http("200 OK", &more, TOKEN),
            path if path.contains("serviceAccounts") => http("403 Forbidden", &more, &echo.to_string()),
            _ => http("200 OK", &more, &echo.to_string()),
        }
    })
    .await;
    let said = atlas.before(Setup::bearer()).check().await;
    said.works("all is well");
    said.line("skip", "secret expiry", &["HTTP 403"], &["Organization Read Only"]);
    for status in ["400 Bad Request", "403 Forbidden", "302 Found"] {
        let echo = json!({"error": CLIENT_SECRET, "error_description": CLIENT_SECRET, "errorCode": CLIENT_SECRET});
        let echo = http(status, &format!("Location: /{CLIENT_SECRET}\r\n"), &echo.to_string());
        let atlas = Fake::start(move |_| echo.clone()).await;
        atlas
            .before(Setup::bearer())
            .check()
            .await
            .fails("credential", &[&status[..3]], &["base URL"]);
    }
}

// ---------------------------------------------------------------------------------------------------------------- clock

#[tokio::test]
async fn a_clock_that_is_wrong() {
    const HOUR: i64 = 3600;
    for (upstream_ahead, mark, found, code) in [
        (
            3 * HOUR + 60,
            "FAIL",
            "this machine's clock is 3 h behind the upstream's",
            1,
        ),
        (
            -3 * HOUR - 60,
            "FAIL",
            "this machine's clock is 3 h ahead of the upstream's",
            1,
        ),
        (-60, "warn", "s ahead of the upstream's", 0),
        (0, "ok", "agree on the time", 0),
    ] {
        let atlas = Fake::start(move |head| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let then = i64::try_from(now.as_secs()).unwrap() + upstream_ahead;
            let date = jiff::Timestamp::from_second(then)
                .unwrap()
                .strftime("%a, %d %b %Y %H:%M:%S GMT")
                .to_string();
            fake_atlas(head, &in_days(300)).replacen("\r\n", &format!("\r\nDate: {date}\r\n"), 1)
        })
        .await;
        let said = atlas.before(Setup::bearer()).check().await;
        let hint: &[&str] = if mark == "ok" { &[] } else { &["NTP"] };
        said.line(mark, "clock", &[found], hint);
        assert_eq!(said.code, Some(code), "{}", said.text);
    }
    let timeless = Fake::start(|head| fake_atlas(head, &in_days(300))).await;
    let said = timeless.before(Setup::bearer()).check().await;
    said.works("all is well");
    said.line("skip", "clock", &["does not say what time it is"], &[]);
}

// -------------------------------------------------------------------------------------------------------------- network

const BEHIND_TLS: [&str; 4] = ["clock", "credential", "api", "secret expiry"];

#[tokio::test]
async fn certificates_that_are_no_good() {
    let (ca, stranger) = (TestCa::new(), TestCa::new());
    type Change = fn(&mut CertificateParams);
    type Words = &'static [&'static str];
    let cases: [(&TestCa, &str, Change, Words, Words); 4] = [
        (
            &stranger,
            "localhost",
            |_| (),
            &["another key"],
            &["made anew", "--upstream-ca"],
        ),
        (
            &ca,
            "cloud.example.org",
            |_| (),
            &["localhost", "cloud.example.org"],
            &["another name", "base URL"],
        ),
        (
            &ca,
            "localhost",
            expired,
            &["expired on 2002-01-01", "clock says 20"],
            &["renew", "set it"],
        ),
        (
            &ca,
            "localhost",
            not_yet_valid,
            &["valid from 3001-01-01", "clock says 20"],
            &["behind, set it"],
        ),
    ];
    for (authority, name, change, found, hint) in cases {
        let tls = authority.identity(&[name], change).server(&["http/1.1"]);
        let atlas = Fake::start_tls(tls, |_| unreachable!("no request goes there")).await;
        let url = format!("https://localhost:{}", atlas.address.port());
        let said = Setup::bearer().at(&url, ca.pem_file.path()).check().await;
        said.line("ok", "tcp", &["127.0.0.1"], &[]);
        said.fails("tls", found, hint);
        said.skips(&BEHIND_TLS);
    }
}

#[tokio::test]
async fn an_authority_that_is_not_trusted() {
    let (atlas, ca) = (Atlas::start(|_| ()).await, TestCa::new());
    let url = atlas.emulator.base_url();
    let said = Setup::bearer().at(&url, ca.pem_file.path()).check().await;
    said.fails(
        "tls",
        &["authority is not trusted"],
        &["--upstream-ca", "in place of the system's"],
    );
    said.skips(&BEHIND_TLS);
    let system = ca.pem_file.path().to_str().unwrap();
    let setup = Setup::bearer().env("SSL_CERT_FILE", system).args(&["--base-url", &url]);
    let said = setup.check().await;
    said.fails(
        "tls",
        &["authority is not trusted"],
        &["private certificate authority", "--upstream-ca"],
    );
}

#[tokio::test]
async fn no_authorities_at_all() {
    let said = Setup::bearer().env("SSL_CERT_FILE", "/dev/null").check().await;
    said.fails("tls", &["no usable certificate authorities"], &["PEM"]);
    said.skips(&BEHIND_TLS);
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none() {
    let atlas = Atlas::start(|_| ()).await;
    let url = atlas.emulator.base_url();
    let (gone, not_pem) = (
        atlas.folder.path().join("gone.pem"),
        atlas.file("not.pem", "no certificate", 0o644),
    );
    let said = Setup::bearer().at(&url, &gone).check().await;
    said.fails("configuration", &["--upstream-ca", "gone.pem", "mounted"], &[]);
    let said = Setup::bearer().at(&url, Path::new(&not_pem)).check().await;
    said.fails("configuration", &["--upstream-ca", "not.pem", "PEM"], &[]);
}

#[tokio::test]
async fn a_port_that_speaks_no_tls() {
    let plain = Fake::start(|_| http("400 Bad Request", "", "")).await;
    let talkative = Fake::listen(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n").await;
        let _ = stream.read(&mut [0; 1000]).await;
    })
    .await;
    for fake in [plain, talkative] {
        let url = format!("https://localhost:{}", fake.address.port());
        let said = Setup::bearer().args(&["--base-url", &url]).check().await;
        said.fails("tls", &["localhost"], &["TLS port"]);
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved() {
    let said = Setup::bearer()
        .args(&["--base-url", "https://atlas.invalid"])
        .check()
        .await;
    said.fails("dns", &["atlas.invalid"], &["base URL", "resolv.conf"]);
    said.skips(&["tcp", "tls", "clock", "credential", "api", "secret expiry"]);
}

#[tokio::test]
async fn a_port_that_is_closed() {
    let port = free_address().port();
    let said = Setup::bearer()
        .args(&["--base-url", &format!("https://localhost:{port}")])
        .check()
        .await;
    said.fails("tcp", &["localhost", "refused"], &["base URL", "HTTPS_PROXY"]);
    said.skips(&["tls", "clock", "credential", "api", "secret expiry"]);
}

/// Writes a configuration file that waits for connections no longer than 300 ms.
fn impatient(folder: &Path) -> String {
    let path = folder.join("impatient.toml");
    let text =
        "[limits]\nconnect_timeout = '300ms'\n[admin]\nbind = '127.0.0.1:0'\n[[listener]]\nbind = '127.0.0.1:0'\n";
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = impatient(folder.path());
    // The kernel takes the connection, and nobody ever reads from it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let said = Setup::bearer()
        .args(&["--config", &config, "--base-url", &url])
        .check()
        .await;
    said.fails(
        "tls",
        &["did not answer the TLS handshake within 0.3 s"],
        &["in between"],
    );

    // With a full queue the kernel drops what comes, as a firewall does.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _in_the_queue = std::net::TcpStream::connect(address).unwrap();
    let mut more = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        more.push(stream);
    }
    let url = format!("https://{address}");
    let said = Setup::bearer()
        .args(&["--config", &config, "--base-url", &url])
        .check()
        .await;
    said.fails("tcp", &["within 0.3s"], &["firewall", "HTTPS_PROXY"]);
}

// -------------------------------------------------------------------------------------------------------------- proxies

#[tokio::test]
async fn http_proxy_alone() {
    let atlas = Atlas::start(|_| ()).await;
    for name in ["HTTP_PROXY", "http_proxy"] {
        let setup = Setup::bearer().env(name, &format!("http://user:{PASSWORD}@127.0.0.1:1"));
        let said = atlas.before(setup).check().await;
        said.works("it works; 1 to look at");
        said.line("warn", "proxy", &["directly", name], &["HTTPS_PROXY"]);
    }
}

#[tokio::test]
async fn an_egress_proxy() {
    let atlas = Atlas::start(|_| ()).await;
    let port = atlas.emulator.base_url().rsplit(':').next().unwrap().parse().unwrap();
    // `user:proxy-password`
    let way = tunnel(
        (std::net::Ipv4Addr::LOCALHOST, port).into(),
        Some("dXNlcjpwcm94eS1wYXNzd29yZA=="),
    )
    .await;
    let (with, without) = (
        format!("http://user:{PASSWORD}@{}", way.address),
        format!("http://{}", way.address),
    );
    let check = async |variables: &[(&str, &str)]| {
        let mut setup = atlas.before(Setup::bearer());
        for (name, value) in variables {
            setup = setup.env(name, value);
        }
        setup.check().await
    };
    let said = check(&[("HTTPS_PROXY", &with)]).await;
    said.works("all is well");
    said.line(
        "ok",
        "proxy",
        &[&format!("through {without} (with credentials)"), "HTTPS_PROXY"],
        &[],
    );
    said.line("ok", "dns", &["the egress proxy 127.0.0.1"], &[]);
    said.line("ok", "tunnel", &["connects to"], &[]);

    let said = check(&[("HTTPS_PROXY", &without)]).await;
    said.line("ok", "proxy", &["without credentials"], &[]);
    said.fails("tunnel", &["HTTP 407"], &["proxy_credentials_file"]);
    said.skips(&["tls", "credential"]);

    let closed = format!("http://user:{PASSWORD}@{}", free_address());
    let said = check(&[("https_proxy", &closed)]).await;
    said.fails("tcp", &["refused"], &["the egress proxy is not there", "HTTPS_PROXY"]);

    let said = check(&[("HTTPS_PROXY", &closed), ("NO_PROXY", "localhost")]).await;
    said.works("all is well");
    said.line("ok", "proxy", &["directly, as NO_PROXY"], &[]);

    let said = check(&[("HTTPS_PROXY", &format!("socks5://user:{PASSWORD}@127.0.0.1"))]).await;
    said.fails("configuration", &["HTTPS_PROXY", "socks5", "not supported"], &[]);
}

// ------------------------------------------------------------------------------------------------------- values, fields

#[tokio::test]
async fn values_in_the_wrong_field() {
    for (setup, variable, found) in [
        (
            Setup::digest().env("MONGODB_ATLAS_PRIVATE_API_KEY", CLIENT_SECRET),
            "MONGODB_ATLAS_PRIVATE_API_KEY: ",
            "part of a service account",
        ),
        (
            Setup::digest().env("MONGODB_ATLAS_PUBLIC_API_KEY", CLIENT_ID),
            "MONGODB_ATLAS_PUBLIC_API_KEY: ",
            "part of a service account",
        ),
        (
            Setup::digest().env("MONGODB_ATLAS_PUBLIC_API_KEY", PRIVATE_KEY),
            "MONGODB_ATLAS_PUBLIC_API_KEY: ",
            "the shape of the private key",
        ),
    ] {
        setup.check().await.fails("configuration", &[variable, found], &[]);
    }
    let said = Setup::default()
        .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_SECRET)
        .env("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_ID)
        .check()
        .await;
    assert_eq!(said.code, Some(1));
    for variable in ["MONGODB_ATLAS_CLIENT_ID: ", "MONGODB_ATLAS_CLIENT_SECRET: "] {
        said.line("FAIL", "configuration", &[variable, "were the two swapped?"], &[]);
    }
    let both = Setup::digest().env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID);
    both.check()
        .await
        .fails("configuration", &["two kinds of credential", "Remove"], &[]);
    Setup::default()
        .check()
        .await
        .fails("configuration", &["no credential", "MONGODB_ATLAS_CLIENT_ID"], &[]);
}

// ---------------------------------------------------------------------------------------------------------------- files

#[tokio::test]
async fn secret_files_that_cannot_be_used() {
    let atlas = Atlas::start(|_| ()).await;
    let folder = atlas.folder.path().to_str().unwrap().to_owned();
    let utf_16: Vec<u8> = [0xFF, 0xFE]
        .into_iter()
        .chain(CLIENT_SECRET.encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    for (path, found) in [
        (format!("{folder}/gone"), &["No such file", "mounted"][..]),
        (folder, &["directory", "name a file in this directory"]),
        (atlas.file("empty", "", 0o600), &["is empty", "client secret"]),
        (atlas.file("blank", "\n", 0o600), &["is empty", "client secret"]),
        (atlas.file("utf-16", utf_16, 0o600), &["UTF-16", "plain text"]),
        (
            atlas.file("quoted", format!("\"{CLIENT_SECRET}\"\n"), 0o600),
            &["quotation marks"],
        ),
        (
            atlas.file("lines", format!("{CLIENT_SECRET}\n{CLIENT_SECRET}\n"), 0o600),
            &["more than one line"],
        ),
        (atlas.file("blanks", format!("{CLIENT_SECRET} "), 0o600), &["a blank"]),
        (
            atlas.file("large", CLIENT_SECRET.repeat(1000), 0o600),
            &["more than 16384 bytes"],
        ),
        (
            atlas.file("writable", CLIENT_SECRET, 0o606),
            &["can write", "mode 0606", "chmod 600"],
        ),
    ] {
        let said = atlas.with_secret_file(&path).await;
        let mut words = vec!["MONGODB_ATLAS_CLIENT_SECRET_FILE: ", path.as_str()];
        words.extend_from_slice(found);
        said.fails("configuration", &words, &[]);
    }
    let closed = atlas.file("closed", CLIENT_SECRET, 0o000);
    // Root reads everything.
    if fs::read(&closed).is_err() {
        let said = atlas.with_secret_file(&closed).await;
        said.fails("configuration", &[&closed, "denied", "chown"], &[]);
    }
    assert_eq!(atlas.emulator.token_requests(), 0);
}

#[tokio::test]
async fn secret_files_that_others_can_read() {
    let atlas = Atlas::start(|_| ()).await;
    for (mode, who) in [
        (0o644, "every user of this machine can read"),
        (0o660, "its group can write"),
    ] {
        let path = atlas.file("open", CLIENT_SECRET, mode);
        let said = atlas.with_secret_file(&path).await;
        said.works("it works; 1 to look at");
        let mode = format!("mode {mode:04o}");
        said.line("warn", "configuration", &[who, &path, &mode, "chmod 600"], &[]);
    }
}

#[tokio::test]
async fn secret_files_with_a_line_end() {
    let atlas = Atlas::start(|_| ()).await;
    for (end, found) in [("\n", "a line break"), ("\r\n", "CR LF"), ("\r", "a carriage return")] {
        let path = atlas.file("ended", format!("{CLIENT_SECRET}{end}"), 0o600);
        let said = atlas.with_secret_file(&path).await;
        said.works("all is well");
        said.line("ok", "configuration", &[&path, found, "client secret", "ignored"], &[]);
    }
    let marked = atlas.file("marked", format!("\u{feff}{CLIENT_SECRET}"), 0o600);
    atlas.with_secret_file(&marked).await.works("all is well");
}

#[tokio::test]
async fn a_configuration_file_with_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    for (text, found) in [
        (
            "[account.default]\nclient_secret = 'mdb_sa_sk_hunter2'\n",
            &["2:1", "no secret in this file"][..],
        ),
        ("[[listener]]\nbin = '127.0.0.1:8080'\n", &["2:1", "bin"]),
        ("[[listener]\n", &["1:"]),
    ] {
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let said = Setup::bearer().args(&["--config", path]).check().await;
        let mut words = vec![path];
        words.extend_from_slice(found);
        said.fails("configuration", &words, &[]);
        assert!(!said.text.contains("hunter2"), "{}", said.text);
    }
}

// ---------------------------------------------------------------------------------------------------------------- ports

#[tokio::test]
async fn ports_that_cannot_be_bound() {
    let atlas = Atlas::start(|_| ()).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = atlas
        .before(Setup::bearer().args(&["--listen", &address]))
        .check()
        .await;
    said.fails("listener", &[&address, "in use"], &["another program has it"]);
    let said = atlas
        .before(Setup::bearer().args(&["--admin-listen", &address]))
        .check()
        .await;
    said.fails("admin port", &[&address, "in use"], &["another program has it"]);

    // An address for documentation, which no machine has (RFC 5737).
    let elsewhere = [
        "--listen",
        "192.0.2.1:8080",
        "--allow",
        "192.0.2.0/24",
        "--insecure-plaintext",
    ];
    let said = atlas.before(Setup::bearer().args(&elsewhere)).check().await;
    said.line(
        "FAIL",
        "listener",
        &["192.0.2.1:8080"],
        &["this machine has no such address"],
    );
    assert_eq!(said.code, Some(1));
}

#[tokio::test]
async fn unix_sockets_that_cannot_be_bound() {
    let atlas = Atlas::start(|_| ()).await;
    let file = atlas.file("file", "", 0o600);
    let folder = atlas.folder.path().display().to_string();
    let check = async |path: &str| {
        let setup = Setup::bearer().args(&["--listen", &format!("unix:{path}")]);
        atlas.before(setup).check().await
    };
    let homeless = format!("{folder}/gone/proxy.sock");
    let said = check(&homeless).await;
    said.fails(
        "listener",
        &[&homeless, "its folder does not exist"],
        &["make the folder"],
    );
    let said = check(&file).await;
    said.fails("listener", &[&file, "a file that is not a socket"], &["another path"]);

    let socket = format!("{folder}/proxy.sock");
    check(&socket).await.works("all is well");
    let taken = tokio::net::UnixListener::bind(&socket).unwrap();
    let said = check(&socket).await;
    said.fails("listener", &[&socket, "in use"], &["another program has it"]);
    drop(taken);
    // The file is left behind, as after a kill; the next start replaces it.
    check(&socket).await.works("all is well");
}

#[tokio::test]
async fn ports_of_the_proxy_that_runs() {
    let atlas = Atlas::start(|_| ()).await;
    let environment = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
    ];
    let command = Command::new(env!("CARGO_BIN_EXE_atlas-auth-proxy"));
    let (url, ca) = (atlas.emulator.base_url(), atlas.ca_file());
    let program = Program::start_at(command, &url, &ca, &environment, &[]).await;
    crate::support::until("it has a token", || async { atlas.emulator.live_tokens() == 1 }).await;
    let (listen, admin) = (program.address.to_string(), program.admin.to_string());
    let setup = Setup::bearer().args(&["--listen", &listen, "--admin-listen", &admin]);
    let said = atlas.before(setup).check().await;
    said.line("ok", "listener", &[&listen, "in use by the running proxy"], &[]);
    said.line("ok", "admin port", &[&admin, "in use by the running proxy"], &[]);
    said.line("ok", "running", &["a proxy runs here"], &[]);
    said.works("all is well");
    assert_eq!(atlas.emulator.live_tokens(), 1, "the running proxy's own");

    // Its other listener is another program's.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = (other.local_addr().unwrap().to_string(), other);
    let setup = Setup::bearer().args(&["--listen", &other.0, "--admin-listen", &admin]);
    let said = atlas.before(setup).check().await;
    said.fails("listener", &[&other.0], &["another program has it"]);
    program.stop().await;
}

/// Its status is for loopback peers; its metrics are for everybody.
#[tokio::test]
async fn a_running_proxy_that_keeps_its_status_to_itself() {
    let atlas = Atlas::start(|_| ()).await;
    let admin = Fake::start(|head| match head.starts_with("GET /metrics ") {
        true => http("200 OK", "", "atlas_auth_proxy_build_info{version=\"0.1.0\"} 1\n"),
        false => http("403 Forbidden", "", r#"{"error":403}"#),
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (admin, listen) = (admin.address.to_string(), listener.local_addr().unwrap().to_string());
    let setup = Setup::bearer().args(&["--listen", &listen, "--admin-listen", &admin]);
    let said = atlas.before(setup).check().await;
    said.works("all is well");
    said.line("ok", "listener", &[&listen, "in use by the running proxy"], &[]);
    said.line("ok", "admin port", &[&admin, "in use by the running proxy"], &[]);
}

#[tokio::test]
async fn a_proxy_that_runs_with_another_credential() {
    let atlas = Atlas::start(|_| ()).await;
    let environment = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET", OTHER_SECRET),
    ];
    let command = Command::new(env!("CARGO_BIN_EXE_atlas-auth-proxy"));
    let (url, ca) = (atlas.emulator.base_url(), atlas.ca_file());
    let program = Program::start_at(command, &url, &ca, &environment, &[]).await;
    let setup = Setup::bearer().args(&["--admin-listen", &program.admin.to_string()]);
    let said = atlas.before(setup).check().await;
    said.works("it works; 1 to look at");
    said.line(
        "warn",
        "running",
        &["no usable credential for 1 of its accounts"],
        &["its log", "/status.json"],
    );
    program.stop().await;
}

// ------------------------------------------------------------------------------------------------------ accounts, shape

fn two_accounts(atlas: &Atlas, second_secret: &str) -> Setup {
    let (first, second) = (
        atlas.file("first", CLIENT_SECRET, 0o600),
        atlas.file("second", second_secret, 0o600),
    );
    let (url, ca) = (atlas.emulator.base_url(), atlas.ca_file());
    let account = |name: &str, secret: &str| {
        format!(
            "[account.{name}]\nbase_url = '{url}'\nca_file = '{}'\nclient_id = '{CLIENT_ID}'\nclient_secret_file = '{secret}'\n\
             [[listener]]\nname = '{name}'\nbind = '127.0.0.1:0'\naccount = '{name}'\n",
            ca.display()
        )
    };
    let text = account("first", &first) + &account("second", &second) + "[admin]\nbind = '127.0.0.1:0'\n";
    Setup::default().args(&["--config", &atlas.file("two.toml", text, 0o644)])
}

#[tokio::test]
async fn one_of_two_accounts_is_broken() {
    let atlas = Atlas::start(|_| ()).await;
    let setup = two_accounts(&atlas, OTHER_SECRET);
    let said = setup.check().await;
    said.line("ok", "configuration", &["2 listeners, accounts first, second"], &[]);
    said.line("ok", "credential", &["[first]"], &[]);
    said.fails("credential", &["[second]", "invalid_client"], &["mistyped"]);

    let said = setup.clone().args(&["--account", "first"]).check().await;
    said.works("all is well");
    let said = setup.args(&["--account", "second"]).check().await;
    said.fails("credential", &["invalid_client"], &["mistyped"]);
}

#[tokio::test]
async fn an_account_that_does_not_exist() {
    let atlas = Atlas::start(|_| ()).await;
    let setup = two_accounts(&atlas, CLIENT_SECRET);
    let said = setup.clone().args(&["--account", "third"]).check().await;
    said.fails("configuration", &["no account `third`", "first, second"], &[]);
    // People paste anything anywhere.
    let said = setup.args(&["--account", CLIENT_SECRET]).check().await;
    said.fails("configuration", &["no account `mdb_sa_"], &[]);
}

#[tokio::test]
async fn json_for_machines() {
    let atlas = Atlas::start(|_| ()).await;
    let check = async |setup: Setup| {
        let said = atlas.before(setup.args(&["--json"])).check().await;
        let value: Value = serde_json::from_str(&said.text).unwrap();
        assert_eq!(said.text.lines().count(), 1);
        let mut members: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        members.sort();
        assert_eq!(members, ["checks", "ok"]);
        for check in value["checks"].as_array().unwrap() {
            let mut members: Vec<_> = check.as_object().unwrap().keys().cloned().collect();
            members.sort();
            assert_eq!(members, ["account", "check", "found", "hint", "status"]);
            assert!(check["check"].is_string() && check["found"].is_string(), "{check}");
            assert!(check["account"].is_string() || check["account"].is_null(), "{check}");
            assert!(check["hint"].is_string() || check["hint"].is_null(), "{check}");
            let status = check["status"].as_str().unwrap();
            assert!(["ok", "warn", "fail", "skip"].contains(&status), "{check}");
        }
        (said.code, value)
    };
    let of = |value: &Value, name: &str| {
        let all = value["checks"].as_array().unwrap();
        all.iter().find(|check| check["check"] == name).unwrap().clone()
    };
    let (code, value) = check(Setup::bearer()).await;
    assert_eq!((code, &value["ok"]), (Some(0), &json!(true)));
    assert_eq!(of(&value, "secret_expiry")["status"], "ok");
    assert_eq!(of(&value, "api")["account"], "default");
    assert_eq!(of(&value, "configuration")["account"], Value::Null);

    let (code, value) = check(Setup::bearer().env("MONGODB_ATLAS_CLIENT_SECRET", OTHER_SECRET)).await;
    assert_eq!((code, &value["ok"]), (Some(1), &json!(false)));
    let credential = of(&value, "credential");
    assert_eq!(credential["status"], "fail");
    assert!(credential["found"].as_str().unwrap().contains("invalid_client"));
    assert!(credential["hint"].as_str().unwrap().contains("mistyped"));
    assert_eq!(of(&value, "api")["status"], "skip");

    let (code, value) = check(Setup::default()).await;
    assert_eq!((code, &value["ok"]), (Some(1), &json!(false)));
    assert_eq!(of(&value, "configuration")["status"], "fail");
}
