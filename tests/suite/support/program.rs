//! The program itself, as a process.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::proxy::{CLIENT_ID, CLIENT_SECRET};
use super::until;
use super::upstream::Upstream;

/// The program, as a path.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_atlas-auth-proxy");

/// The variables of a service account.
pub const SERVICE_ACCOUNT: [(&str, &str); 2] = [
    ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
    ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
];

/// A running `atlas-auth-proxy run`; killed when dropped.
pub struct Program {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    errors: JoinHandle<()>,
    said: Arc<Mutex<String>>,
}

impl Program {
    /// Starts it before `upstream` on free ports, with these environment variables alone and these arguments beside. The
    /// command is the program, or one that takes it with its arguments behind its own.
    pub async fn start(command: Command, upstream: &Upstream, environment: &[(&str, &str)], args: &[&str]) -> Self {
        Self::start_at(command, &upstream.base_url(), &upstream.ca_file, environment, args).await
    }

    /// The same before any other upstream.
    pub async fn start_at(
        command: Command,
        base_url: &str,
        ca_file: &Path,
        environment: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        Self::start_logging(command, base_url, ca_file, environment, args, Stdio::piped()).await
    }

    /// The same, with a standard error that is the caller's to read, or not to.
    pub async fn start_with_log(
        command: Command,
        upstream: &Upstream,
        environment: &[(&str, &str)],
        args: &[&str],
        log: OwnedFd,
    ) -> Self {
        let (base_url, ca_file) = (upstream.base_url(), &upstream.ca_file);
        Self::start_logging(command, &base_url, ca_file, environment, args, Stdio::from(log)).await
    }

    async fn start_logging(
        command: Command,
        base_url: &str,
        ca_file: &Path,
        environment: &[(&str, &str)],
        args: &[&str],
        log: Stdio,
    ) -> Self {
        let upstream = ["--base-url", base_url, "--upstream-ca", ca_file.to_str().unwrap()];
        Self::spawn(command, environment, &[&upstream, args].concat(), log).await
    }

    /// On free ports, with these variables and arguments alone.
    pub async fn start_alone(command: Command, environment: &[(&str, &str)], args: &[&str]) -> Self {
        Self::spawn(command, environment, args, Stdio::piped()).await
    }

    async fn spawn(mut command: Command, environment: &[(&str, &str)], args: &[&str], log: Stdio) -> Self {
        let admin: &[&str] = match args.contains(&"--admin-listen") {
            true => &[],
            false => &["--admin-listen", "127.0.0.1:0"],
        };
        let mut child = command
            .args(["run", "--listen", "127.0.0.1:0"])
            .args(admin)
            .args(args)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // It holds the other end of the log.
        drop(command);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take();
        let said: Arc<Mutex<String>> = Arc::default();
        let all = Arc::clone(&said);
        let errors = tokio::spawn(async move {
            let Some(stderr) = stderr else { return };
            let mut stderr = BufReader::new(stderr);
            let mut line = String::new();
            while stderr.read_line(&mut line).await.unwrap() > 0 {
                all.lock().push_str(&line);
                line.clear();
            }
        });
        let mut line = String::new();
        lines.read_line(&mut line).await.unwrap();
        if line.is_empty() {
            errors.await.unwrap();
            panic!("the program did not start: {}", said.lock());
        }
        let addresses: Vec<SocketAddr> = line
            .split([' ', ','])
            .filter_map(|word| word.trim().split_once("://")?.1.parse().ok())
            .collect();
        let [address, admin] = addresses[..] else {
            panic!("the line names a listener and the admin port: {line}")
        };
        Self {
            address,
            admin,
            child,
            errors,
            said,
        }
    }

    /// Waits until it has said this on standard error.
    pub async fn until_said(&self, what: &str) {
        until(what, || async { self.said.lock().contains(what) }).await;
    }

    /// The same, so many times.
    pub async fn until_said_times(&self, what: &str, times: usize) {
        until(what, || async { self.said.lock().matches(what).count() >= times }).await;
    }

    /// All that it has said on standard error so far.
    pub fn said(&self) -> String {
        self.said.lock().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends SIGTERM and waits; gives back how it ended and what it said on standard error.
    pub async fn stop(self) -> (ExitStatus, String) {
        self.end(Signal::TERM).await
    }

    /// The same with another signal.
    pub async fn end(self, signal: Signal) -> (ExitStatus, String) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        self.ended().await
    }

    /// Waits for its end; gives back how it ended and what it said on standard error.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().await.unwrap();
        self.errors.await.unwrap();
        let said = self.said.lock().clone();
        (status, said)
    }
}
