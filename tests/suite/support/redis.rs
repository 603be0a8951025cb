//! A real Redis or Valkey server for a test, on a port and in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use atlas_auth_proxy::secret::Secret;
use atlas_auth_proxy::token_store::{SealKey, StoreTls, TokenStoreSettings};

use super::needs::{needs, skip};
use super::ports::free_address;
use super::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use super::tls::TestCa;
use super::until;
use super::upstream::Upstream;

pub const KEY: [u8; 32] = *b"thirty-two bytes only for tests!";

/// The program with a settings file, called `name`, for the store at this address.
pub async fn program(upstream: &Upstream, folder: &Path, name: &str, store: SocketAddr, key: &[u8]) -> Program {
    let (file, key_file) = (folder.join(name), folder.join(format!("{name}.key")));
    std::fs::write(&key_file, key).unwrap();
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!("[token_store]\nurl = 'redis://{store}'\nkey_file = '{name}.key'\n");
    std::fs::write(&file, text).unwrap();
    Program::start(
        tokio::process::Command::new(PROGRAM),
        upstream,
        &SERVICE_ACCOUNT,
        &["--config", file.to_str().unwrap()],
    )
    .await
}

/// The programs that do as one.
const SERVERS: [&str; 2] = ["valkey-server", "redis-server"];

/// Needs the Debian package `valkey-server` or `redis-server`, which `.ci/run` installs.
pub struct Redis {
    pub address: SocketAddr,
    program: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
    folder: tempfile::TempDir,
    ca: Option<TestCa>,
    password: Option<&'static str>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Redis {
    /// One without a password, in clear text.
    pub async fn start() -> Option<Self> {
        let address = free_address();
        Self::start_with(address, vec!["--port".into(), address.port().to_string()], None).await
    }

    pub async fn start_with_password(password: &'static str) -> Option<Self> {
        let address = free_address();
        let args = ["--port", &address.port().to_string(), "--requirepass", password].map(str::to_owned);
        let mut redis = Self::start_with(address, args.into(), None).await?;
        redis.password = Some(password);
        Some(redis)
    }

    /// One that speaks TLS only, with a certificate of an authority of its own; `None` also when it can't.
    pub async fn start_with_tls() -> Option<Self> {
        let address = free_address();
        let ca = TestCa::new();
        let identity = ca.identity(&["localhost"], |_| ());
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("crt"), &identity.certificate).unwrap();
        std::fs::write(path("key"), &identity.key).unwrap();
        let args = [
            "--port",
            "0",
            "--tls-port",
            &address.port().to_string(),
            "--tls-auth-clients",
            "no",
            "--tls-cert-file",
            &path("crt"),
            "--tls-key-file",
            &path("key"),
            "--tls-ca-cert-file",
            ca.pem_file.path().to_str().unwrap(),
        ]
        .map(str::to_owned);
        let mut redis = Self::launch(address, args.into(), Some(ca))?;
        // One that was built without TLS ends at once with a fatal error of its configuration.
        let mut ended = false;
        while !ended && tokio::net::TcpStream::connect(address).await.is_err() {
            ended = redis.child.as_mut()?.try_wait().unwrap().is_some();
            tokio::task::yield_now().await;
        }
        if ended {
            skip(&format!("{} was built without TLS", redis.program.display()));
            return None;
        }
        redis.listening().await;
        drop(files);
        Some(redis)
    }

    async fn start_with(address: SocketAddr, args: Vec<String>, ca: Option<TestCa>) -> Option<Self> {
        let redis = Self::launch(address, args, ca)?;
        redis.listening().await;
        Some(redis)
    }

    fn launch(address: SocketAddr, args: Vec<String>, ca: Option<TestCa>) -> Option<Self> {
        let mut redis = Self {
            address,
            program: needs(&SERVERS, "redis-server or valkey-server")?,
            args,
            child: None,
            folder: tempfile::tempdir().unwrap(),
            ca,
            password: None,
        };
        redis.spawn();
        Some(redis)
    }

    fn spawn(&mut self) {
        let child = Command::new(&self.program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    async fn listening(&self) {
        let address = self.address;
        until("the store listens", || async move {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
    }

    /// Kills it: connections break, and what lay there is gone.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub async fn start_again(&mut self) {
        self.spawn();
        self.listening().await;
    }

    /// How a proxy gets to it.
    pub fn settings(&self) -> TokenStoreSettings {
        settings(self.address, self.password, self.ca.as_ref())
    }

    /// As another program of the network sees it.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = redis::Client::open(format!("redis://{}/", self.address))
            .unwrap()
            .get_connection()
            .unwrap();
        if let Some(password) = self.password {
            redis::cmd("AUTH").arg(password).query::<()>(&mut connection).unwrap();
        }
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap()
    }
}

pub fn settings(address: SocketAddr, password: Option<&str>, ca: Option<&TestCa>) -> TokenStoreSettings {
    TokenStoreSettings {
        host: if ca.is_some() {
            "localhost".to_owned()
        } else {
            address.ip().to_string()
        },
        port: address.port(),
        database: 0,
        tls: ca.map(|ca| StoreTls {
            ca_file: Some(ca.pem_file.path().to_owned()),
        }),
        username: None,
        password: password.map(Secret::new),
        key: SealKey::parse(&KEY).unwrap(),
    }
}
