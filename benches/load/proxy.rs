//! The proxy as a process.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::upstream::Upstream;

/// Of each caller.
pub(super) const SECRET: &str = "a-local-secret-of-a-benchmark-0123456789";

/// Two callers that may do the same.
pub(super) const CALLERS: &str = r#"
[[caller]]
name = "modest"
secret_file = "secret"
[[caller.rule]]
operations = ["*Cluster*"]
action = "allow"
[[caller]]
name = "greedy"
secret_file = "secret"
[[caller.rule]]
operations = ["*Cluster*"]
action = "allow"
"#;

pub(super) struct Proxy {
    child: Child,
    pub(super) address: SocketAddr,
    /// A listener of an account whose upstream does not answer.
    pub(super) broken: SocketAddr,
    _folder: TempDir,
    _silent: std::net::TcpListener,
}

impl Proxy {
    /// With these tables more in its configuration.
    pub(super) async fn start(more: &str, upstream: &Upstream) -> Self {
        // Not in memory: what a disk costs is to be seen.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (address, broken) = (free_address(), free_address());
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let account = |name: &str, url: &str| {
            format!(
                "[account.{name}]\nbase_url = \"{url}\"\nca_file = \"{}\"\nclient_id = \"mdb_sa_id_0123456789abcdef0123456{}\"\n\
                 client_secret_file = \"client-secret\"\n",
                upstream.ca_file().display(),
                name.len(),
            )
        };
        let config = format!(
            "workers = 1\n[admin]\nbind = \"off\"\n[log]\nlevel = \"error\"\n\
             [[listener]]\nbind = \"{address}\"\naccount = \"good\"\n[[listener]]\nbind = \"{broken}\"\naccount = \"broken\"\n{}{}{more}",
            account("good", &upstream.base_url()),
            account(
                "broken",
                &format!("https://localhost:{}", silent.local_addr().unwrap().port())
            ),
        );
        for (name, content) in [
            ("client-secret", "mdb_sa_sk_0123456789abcdefghijklmnopqrstuvwxyzABCD"),
            ("secret", SECRET),
            ("key", &"0f".repeat(32)),
            ("proxy.toml", &config),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let binary = std::env::var_os("PROXY").unwrap_or_else(|| env!("CARGO_BIN_EXE_atlas-auth-proxy").into());
        let child = Command::new(binary)
            .arg("run")
            .arg("--config")
            .arg(folder.path().join("proxy.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            child,
            address,
            broken,
            _folder: folder,
            _silent: silent,
        }
    }

    /// What it has used of the processors.
    pub(super) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id().unwrap())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = [fields[11], fields[12]]
            .iter()
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        // USER_HZ is 100 on Linux.
        Duration::from_millis(ticks * 10)
    }
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
