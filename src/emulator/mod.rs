//! The built-in stand-in for Atlas: for `demo`, tests and benchmarks; not in release images. Knows nothing of the proxy.
//!
//! Real TLS with a throwaway certificate authority; OAuth tokens and Digest answers verified strictly; the limits that
//! Atlas documents; faults on demand through a control port.

mod api;
mod control;
mod digest;
mod faults;
mod logs;
mod oauth;
mod record;
mod resources;
mod respond;
mod server;
mod settings;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use faults::{Fault, FaultKind, Target};
pub use record::{GivenToken, Record, SeenRequest};
pub use settings::{Algorithm, EmulatorSettings, Realm};

use server::Shared;

/// A running emulator; ends when it is dropped.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    control: SocketAddr,
    ca_pem: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Emulator {
    /// Starts on free ports; the control port is one of loopback.
    ///
    /// # Errors
    /// When no port can be bound or no certificate can be made.
    pub async fn start(settings: EmulatorSettings) -> io::Result<Self> {
        let listener = TcpListener::bind((settings.address, 0)).await?;
        let control = TcpListener::bind("127.0.0.1:0").await?;
        let (address, control_address) = (listener.local_addr()?, control.local_addr()?);
        let (ca_pem, tls) = tls::server_config(settings.address, &settings.names)?;
        let shared = Arc::new(Shared::new(settings, base_url(address)));
        let tasks = vec![
            tokio::spawn(server::serve(listener, tls, Arc::clone(&shared))),
            tokio::spawn(control::serve(control, Arc::clone(&shared))),
        ];
        Ok(Self {
            shared,
            address,
            control: control_address,
            ca_pem,
            tasks,
        })
    }

    /// `https://localhost:PORT`, or with the address beyond loopback that it listens at.
    pub fn base_url(&self) -> String {
        base_url(self.address)
    }

    /// Where faults are ordered: `http://127.0.0.1:PORT`.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The certificate authority to trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Requests to the token endpoint so far.
    pub fn token_requests(&self) -> u64 {
        self.shared.oauth.requests.load(Ordering::Relaxed)
    }

    /// Requests to the revocation endpoint so far.
    pub fn revoke_requests(&self) -> u64 {
        self.shared.oauth.revocations.load(Ordering::Relaxed)
    }

    /// Requests to the API so far.
    pub fn api_requests(&self) -> u64 {
        self.shared.api_requests.load(Ordering::Relaxed)
    }

    /// Tokens that are valid now.
    pub fn live_tokens(&self) -> usize {
        self.shared.oauth.live()
    }

    /// Tokens of a service account that are valid now.
    pub fn live_tokens_of(&self, client_id: &str) -> Vec<String> {
        self.shared.oauth.live_of(client_id)
    }

    /// Everything that it saw and gave so far; empty unless the settings ask for it.
    pub fn record(&self) -> Record {
        self.shared.record.lock().clone()
    }

    /// Orders a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults.order(fault);
    }

    /// Takes all orders back.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Every token is invalid from now on.
    pub fn expire_tokens(&self) {
        self.shared.oauth.expire_all();
    }

    /// Gives a service account one more secret, for a year.
    pub fn add_secret(&self, client_id: &str, secret: &str) {
        self.add_secret_for(client_id, secret, control::SECRET_LIFE);
    }

    /// Gives a service account one more secret, which expires after `life`.
    pub fn add_secret_for(&self, client_id: &str, secret: &str, life: Duration) {
        self.shared.oauth.add_secret(client_id, secret, now() + life);
    }

    /// Takes a secret away from a service account; its tokens live on, as Atlas's do.
    pub fn remove_secret(&self, client_id: &str, secret: &str) {
        self.shared
            .oauth
            .remove_secrets(client_id, |known| known.value == secret);
    }

    /// The values of a service account's secrets, the oldest first.
    pub fn secrets_of(&self, client_id: &str) -> Vec<String> {
        let secrets = self.shared.oauth.secrets(client_id).unwrap_or_default();
        secrets.into_iter().map(|secret| secret.value).collect()
    }

    /// Makes the secrets that a service account has now older by this much.
    pub fn age_secrets(&self, client_id: &str, by: Duration) {
        self.shared.oauth.age_secrets(client_id, by);
    }

    /// Every token of a service account is invalid from now on.
    pub fn revoke_tokens_of(&self, client_id: &str) {
        self.shared.oauth.revoke_tokens_of(client_id);
    }

    /// Every nonce is stale from now on.
    pub fn expire_nonces(&self) {
        self.shared.digest.expire_all();
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn base_url(address: SocketAddr) -> String {
    if address.ip().is_loopback() {
        format!("https://localhost:{}", address.port())
    } else {
        format!("https://{address}")
    }
}

/// The id of a project that exists from the start, and a host of its cluster: for samples to paste.
pub const SAMPLE: (&str, &str) = resources::SAMPLE;

/// The emulator stands for a server elsewhere, which has a clock of its own.
#[allow(
    clippy::disallowed_methods,
    reason = "no part of the proxy, which passes its clock in"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
