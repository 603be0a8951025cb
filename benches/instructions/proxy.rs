//! The proxy as a process under valgrind.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};

use super::Scenario;
use super::client::Client;
use super::upstream::Upstream;

#[derive(Debug, Clone, Copy)]
pub(super) enum Credential {
    Bearer,
    Digest,
}

impl Credential {
    fn variables(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Bearer => [
                ("MONGODB_ATLAS_CLIENT_ID", "mdb_sa_id_0123456789abcdef01234567"),
                (
                    "MONGODB_ATLAS_CLIENT_SECRET",
                    "mdb_sa_sk_0123456789abcdefghijklmnopqrstuvwxyzABCD",
                ),
            ],
            Self::Digest => [
                ("MONGODB_ATLAS_PUBLIC_API_KEY", "abcdefgh"),
                ("MONGODB_ATLAS_PRIVATE_API_KEY", "01234567-89ab-cdef-0123-456789abcdef"),
            ],
        }
    }
}

/// Takes from the measured process what it would choose other code by, on another processor or with a later valgrind.
pub(super) const PINNED: [(&str, &str); 2] = [
    // Left to itself, glibc copies and clears much at once with `rep movsb` and `rep stosb`, which valgrind counts once for
    // each byte: instructions that no processor executes. Without ERMS it takes vector registers, and without AVX-512 those
    // of AVX2.
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-AVX512F,-AVX512VL,-AVX512BW"),
    // Of CPUID's leaf 7: in EBX AVX-512 (F, DQ, IFMA, CD, BW, VL) and SHA, in ECX AVX-512 (VBMI, VBMI2), VAES, VPCLMULQDQ.
    // AES-NI stays. aws-lc and OpenSSL read the same.
    ("OPENSSL_ia32cap", "~0x0:~0x642f0230000"),
];

pub(super) struct Proxy {
    child: Child,
    address: SocketAddr,
    profile: NamedTempFile,
}

impl Proxy {
    pub(super) async fn start(binary: &Path, scenario: &Scenario, upstream: &Upstream) -> Self {
        let profile = NamedTempFile::new().unwrap();
        let address = free_address();
        let mut out = std::ffi::OsString::from("--callgrind-out-file=");
        out.push(profile.path());
        let child = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(out)
            .arg(binary)
            .args(["run", "--listen", &address.to_string(), "--admin-listen", "127.0.0.1:0"])
            .args(["--base-url", &upstream.base_url(), "--upstream-ca"])
            .arg(upstream.ca_file())
            .args(["--upstream-http", scenario.upstream_http, "--workers", "1"])
            .args(["--log-level", scenario.log_level, "--log-format", "json"])
            // Nothing of the caller's own settings.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(PINNED)
            .envs(scenario.credential.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // At `info` it would be a line for each request.
            .stderr(if scenario.log_level == "info" {
                Stdio::null()
            } else {
                Stdio::inherit()
            })
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("valgrind does not start: {error}"));
        Self {
            child,
            address,
            profile,
        }
    }

    /// A connection, as soon as the proxy listens.
    pub(super) async fn connect(&self) -> Client {
        for _ in 0..600 {
            if let Ok(client) = Client::connect(self.address).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the proxy does not listen: start it by hand to see why");
    }

    /// Instructions executed from the start to the end, and the profile.
    pub(super) async fn end(mut self) -> (u64, NamedTempFile) {
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()))
            .unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "the proxy ended with {status}");
        let text = std::fs::read_to_string(self.profile.path()).unwrap();
        let total = text
            .lines()
            .find_map(|line| line.strip_prefix("totals: "))
            .expect("a total in valgrind's file");
        (total.trim().parse().unwrap(), self.profile)
    }
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
