//! Processes of the program: how they are started, asked and ended.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The program, as a path.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_atlas-auth-proxy");
/// The port of metrics and health of every gateway.
pub const ADMIN_PORT: u16 = 9091;

/// `atlas-auth-proxy run` with `proxy.toml` of its folder; what it says goes to `log` there.
pub struct Program {
    pub name: String,
    pub folder: PathBuf,
    namespace: Option<String>,
    child: Child,
}

impl Program {
    pub fn start(name: &str, folder: &Path, namespace: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            child: spawn(folder, namespace.as_deref()),
            namespace,
        }
    }

    pub fn start_again(&mut self) {
        self.child = spawn(&self.folder, self.namespace.as_deref());
    }

    /// `None`: it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().unwrap_or_else(|| panic!("{} runs", self.name));
        rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// How it ended; `None`: it doesn't.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        let ended = tokio::time::timeout(Duration::from_secs(45), self.child.wait()).await;
        ended.ok().map(|status| status.unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn spawn(folder: &Path, namespace: Option<&str>) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let mut command = match namespace {
        None => Command::new(PROGRAM),
        Some(name) => {
            let mut command = Command::new("/bin/sh");
            // `ip` takes the place of the shell, and the program that of `ip`.
            command.args(["-c", "PATH=$PATH:/usr/sbin:/sbin exec ip netns exec \"$0\" \"$@\""]);
            command.args([name, PROGRAM]);
            command
        }
    };
    command
        .args(["run", "--config"])
        .arg(folder.join("proxy.toml"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Whether a gateway says that it is ready.
pub async fn ready(address: &str) -> bool {
    let answer = get(&format!("{address}:{ADMIN_PORT}"), "/readyz").await;
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// The whole answer of an admin port.
pub async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A metric of a gateway, the sum over what has these labels.
pub async fn metric(address: &str, name: &str, labels: &[&str]) -> f64 {
    let Ok(page) = get(&format!("{address}:{ADMIN_PORT}"), "/metrics").await else {
        return 0.0;
    };
    let name = format!("atlas_auth_proxy_{name}");
    page.lines()
        .filter(|line| {
            line.strip_prefix(name.as_str())
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Waits for a condition; half a minute at most.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) -> Result<(), String> {
    for _ in 0..300 {
        if condition().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("never: {what}"))
}
