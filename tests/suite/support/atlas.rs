//! Atlas as the emulator plays it, and what runs before it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use atlas_auth_proxy::credential::CredentialSettings;
use atlas_auth_proxy::emulator::{Emulator, EmulatorSettings};
use tokio::process::Command;

use super::metrics::metric;
use super::program::{PROGRAM, Program};
use super::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY, ProxyBuilder, proxy};
use super::until;

pub const NEXT_SECRET: &str = "mdb_sa_sk_only-for-tests-the-next-secret";
pub const GROUPS: &str = "/api/atlas/v2/groups";

/// The emulator, and a folder with the file of its certificate authority, `ca.pem`.
pub struct Atlas {
    pub emulator: Emulator,
    pub folder: tempfile::TempDir,
}

impl Atlas {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// The same, with other settings than that nothing is missing.
    pub async fn start_with(change: impl FnOnce(&mut EmulatorSettings)) -> Self {
        let mut settings = EmulatorSettings {
            service_accounts: vec![(CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned())],
            api_keys: vec![
                (PUBLIC_KEY.to_owned(), PRIVATE_KEY.to_owned()),
                ("newkey".to_owned(), NEXT_SECRET.to_owned()),
            ],
            requests_per_minute: 1_000_000,
            tokens_per_minute: 1000,
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

    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A file of this content and mode in the folder.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A proxy in this process.
    pub fn proxy(&self, credential: CredentialSettings) -> ProxyBuilder {
        proxy(&self.emulator.base_url(), Some(&self.ca_file()), credential)
    }

    /// The program itself, with the client secret in a file.
    pub async fn program(&self, secret: &Path, more: &[(&str, &str)]) -> Program {
        let mut environment = vec![
            ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
            ("MONGODB_ATLAS_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
        ];
        environment.extend_from_slice(more);
        let command = Command::new(PROGRAM);
        Program::start_at(command, &self.emulator.base_url(), &self.ca_file(), &environment, &[]).await
    }
}

pub fn write_secret(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// How often the account's credential was reloaded with this outcome.
pub async fn reloads(admin: SocketAddr, outcome: &str) -> f64 {
    let labels = [("account", "default"), ("outcome", outcome)];
    metric(admin, "atlas_auth_proxy_credential_reloads_total", &labels).await
}

pub async fn reloaded(admin: SocketAddr, what: &str, times: f64) {
    until(what, || async { reloads(admin, "ok").await >= times }).await;
}
