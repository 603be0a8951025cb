//! `check` as a program: a set-up of environment and arguments, what it said, and servers that are not as Atlas.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::SystemTime;

use atlas_auth_proxy::time::{Clock, SystemClock};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::support::PATIENCE;
use crate::support::atlas::Atlas;
use crate::support::client::head_of;
use crate::support::program::PROGRAM;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY};

pub const OTHER_SECRET: &str = "mdb_sa_sk_only-for-tests-another-secret";
pub const PASSWORD: &str = "proxy-password";

/// Nothing of these may be printed. `eyJ` begins the emulator's tokens, and `fake-token` is the fake's.
const NEVER: [&str; 6] = [CLIENT_SECRET, PRIVATE_KEY, OTHER_SECRET, PASSWORD, "eyJ", "fake-token"];

/// What a run of `check` said.
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl Said {
    /// That a line has this mark, this check and all these words, and the hint below it these. Empty: there is no hint.
    #[track_caller]
    pub fn line(&self, mark: &str, check: &str, found: &[&str], hint: &[&str]) {
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
    pub fn fails(&self, check: &str, found: &[&str], hint: &[&str]) {
        self.line("FAIL", check, found, hint);
        assert_eq!(self.text.matches("FAIL ").count(), 1, "{}", self.text);
        assert!(self.text.ends_with("\n1 failed\n"), "{}", self.text);
        assert_eq!(self.code, Some(1), "{}", self.text);
    }

    #[track_caller]
    pub fn works(&self, last_line: &str) {
        assert_eq!(self.text.lines().last(), Some(last_line), "{}", self.text);
        assert_eq!(self.code, Some(0), "{}", self.text);
    }

    /// That these were not tried, since what they stand on failed.
    #[track_caller]
    pub fn skips(&self, checks: &[&str]) {
        for check in checks {
            self.line("skip", check, &["not tried"], &[]);
        }
    }
}

/// One set-up: an environment and arguments.
#[derive(Clone, Default)]
pub struct Setup {
    environment: Vec<(String, String)>,
    args: Vec<String>,
    /// What starts the program, with its arguments; empty: nothing else.
    through: Vec<String>,
    /// The program has a terminal.
    terminal: bool,
}

impl Setup {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Lets these words start the program.
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Gives the program a terminal, and these flags in one text.
    pub fn at_a_terminal(mut self, flags: &str) -> Self {
        self.terminal = true;
        // `script` takes the command as one text.
        self.env("FLAGS", flags).env("PATH", "/usr/bin:/bin").through(&[
            "sh",
            "-c",
            "exec script -qefc \"$* $FLAGS\" /dev/null",
            "sh",
        ])
    }

    pub fn at(self, base_url: &str, ca_file: &Path) -> Self {
        self.args(&["--base-url", base_url, "--upstream-ca", ca_file.to_str().unwrap()])
    }

    pub fn bearer() -> Self {
        Self::default()
            .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
            .env("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET)
    }

    pub fn digest() -> Self {
        Self::default()
            .env("MONGODB_ATLAS_PUBLIC_API_KEY", PUBLIC_KEY)
            .env("MONGODB_ATLAS_PRIVATE_API_KEY", PRIVATE_KEY)
    }

    /// Runs `check`; ports are free unless the set-up says otherwise.
    pub async fn check(&self) -> Said {
        let mut words = self.through.iter().map(String::as_str).chain([PROGRAM, "check"]);
        let mut command = Command::new(words.next().unwrap_or(PROGRAM));
        command.args(words);
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
        assert!(self.terminal || !text.contains(controls), "{text:?}");
        Said {
            code: output.status.code(),
            text,
        }
    }
}

impl Atlas {
    pub fn before(&self, setup: Setup) -> Setup {
        setup.at(&self.emulator.base_url(), &self.ca_file())
    }

    /// `check` with the client secret in a file.
    pub async fn with_secret_file(&self, path: &str) -> Said {
        let setup = Setup::default()
            .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID)
            .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", path);
        self.before(setup).check().await
    }
}

/// A server that answers as the test says, and nothing else: one request on a connection, its head handed in.
pub struct Fake {
    pub address: SocketAddr,
}

type Reply = Arc<dyn Fn(&str) -> String + Send + Sync>;

impl Fake {
    /// Plain HTTP, which is let through to this machine.
    pub async fn start(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let reply: Reply = Arc::new(reply);
        Self::listen(move |stream| {
            let reply = Arc::clone(&reply);
            async move { answer(stream, &reply).await }
        })
        .await
    }

    pub async fn start_tls(
        tls: Arc<rustls::ServerConfig>,
        reply: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
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

    pub async fn listen<F, Fut>(serve: F) -> Self
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

    pub fn before(&self, setup: Setup) -> Setup {
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
pub fn http(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

pub const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"MMS Public API\", domain=\"\", nonce=\"bm9uY2U\", algorithm=MD5, qop=\"auth\", stale=false\r\n";
pub const TOKEN: &str = r#"{"access_token":"fake-token","expires_in":3600,"token_type":"Bearer"}"#;

/// An Atlas in which all is well, with one secret until `expires`.
pub fn fake_atlas(head: &str, expires: &str) -> String {
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
pub async fn tunnel(to: SocketAddr, credentials: Option<&'static str>) -> Fake {
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

pub fn in_days(days: i64) -> String {
    let now = SystemClock
        .wall()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let then = i64::try_from(now).unwrap() + days * 24 * 3600 + 60;
    jiff::Timestamp::from_second(then).unwrap().to_string()
}
