//! What happens to the fleet, one after the other.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use atlas_auth_proxy::emulator::Emulator;
use rustix::process::Signal;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::balancer::Balancer;
use crate::fleet::{
    ACCOUNTS, DIRECT, DIRECT_NEXT_SECRET, DIRECT_SECRET, Fleet, Habit, PROJECT, give_server_certificate,
};
use crate::identity::Authorities;
use crate::place::{self, GATEWAYS, Store, gateway_address};
use crate::program::{metric, until};
use crate::tls::TestCa;
use crate::traffic::{Client, Got, Traffic, Want};

/// The gateways that something happens to.
pub const KILLED: usize = 0;
const ROLLED: usize = 1;
const FULL: usize = 2;

/// When what failed may have failed.
#[derive(Debug, Default)]
pub struct Windows {
    pub killed: Option<Instant>,
    pub disk_full: Option<(Instant, Instant)>,
    pub secret_rotated: Option<(Instant, Instant)>,
}

/// A client of one gateway, past leaf and balancer.
fn direct(gateway: usize) -> Client {
    Client {
        number: u64::MAX,
        caller: DIRECT.to_owned(),
        habit: Habit::Direct,
        address: format!("{}:{}", gateway_address(gateway), ACCOUNTS[0].port),
    }
}

/// All that events touch.
pub struct Stage<'s> {
    pub fleet: Fleet,
    pub store: Store,
    pub authorities: Authorities,
    pub balancer: &'s Balancer,
    pub emulator: &'s Emulator,
    pub traffic: &'s Traffic,
    pub windows: Windows,
}

/// In this order; each within its turn.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    Kill,
    StartKilled,
    Roll,
    Certificates,
    IssuerKey,
    CallerSecret,
    ClientSecrets,
    StopStore,
    StartStore,
    FillDisk,
    FreeDisk,
}

impl Event {
    pub const STORE_STOPS: u32 = 70;
    /// When each begins, in parts of the whole (100).
    pub const SCHEDULE: [(u32, Self); 11] = [
        (6, Self::Kill),
        (13, Self::StartKilled),
        (20, Self::Roll),
        (34, Self::Certificates),
        (46, Self::IssuerKey),
        (52, Self::CallerSecret),
        (60, Self::ClientSecrets),
        (Self::STORE_STOPS, Self::StopStore),
        (78, Self::StartStore),
        (82, Self::FillDisk),
        (94, Self::FreeDisk),
    ];
}

impl Stage<'_> {
    pub async fn play(&mut self, event: Event, turn: Duration) -> Result<(), String> {
        match event {
            Event::Kill => {
                self.windows.killed = Some(Instant::now());
                self.fleet.gateways[KILLED].signal(Signal::KILL);
                self.fleet.gateways[KILLED]
                    .ended()
                    .await
                    .ok_or("it was killed and lives")?;
                Ok(())
            }
            Event::StartKilled => self.start_again(KILLED).await,
            Event::Roll => {
                self.fleet.gateways[ROLLED].signal(Signal::TERM);
                let ended = self.fleet.gateways[ROLLED].ended().await;
                if ended.and_then(|status| status.code()) != Some(0) {
                    return Err(format!("the rolled gateway ended with {ended:?}"));
                }
                self.start_again(ROLLED).await
            }
            Event::Certificates => self.certificates().await,
            Event::IssuerKey => {
                let before = self.authorities.key_set.asked.load(Ordering::SeqCst);
                self.authorities.rotate_key();
                self.fleet.renew_tokens(&self.authorities);
                // The others ask when the first leaf comes to them with a new token.
                let asked = &self.authorities.key_set.asked;
                until("a gateway asks for the new key", async || {
                    asked.load(Ordering::SeqCst) > before
                })
                .await?;
                // Leaves look at their files every second.
                tokio::time::sleep(Duration::from_secs(2)).await;
                self.authorities.forget_old_key();
                Ok(())
            }
            Event::CallerSecret => {
                let lines = format!("{DIRECT_SECRET}\n{DIRECT_NEXT_SECRET}\n");
                self.reload(|fleet| fleet.give_gateways("direct-secret", &lines))
                    .await?;
                DIRECT_NEXT_SECRET.clone_into(&mut self.traffic.secret.lock());
                // Requests that show the old one are over by then.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let line = format!("{DIRECT_NEXT_SECRET}\n");
                self.reload(|fleet| fleet.give_gateways("direct-secret", &line)).await?;
                self.old_caller_secret_is_refused().await
            }
            Event::ClientSecrets => self.client_secrets().await,
            Event::StopStore => {
                self.store.stop();
                Ok(())
            }
            Event::StartStore => {
                self.store.start_again();
                self.each_gateway("the store is up again", async |address| {
                    metric(address, "token_store_up", &[]).await == 1.0
                })
                .await
            }
            Event::FillDisk => {
                self.windows.disk_full = Some((Instant::now(), Instant::now() + turn));
                place::fill(&self.fleet.gateways[FULL].file("disk"));
                // A gateway has taken some room ahead: that is used up first.
                let refused = direct(FULL).until_refused(self.traffic, PROJECT).await;
                refused.then_some(()).ok_or("no change was refused".to_owned())
            }
            Event::FreeDisk => {
                std::fs::remove_file(self.fleet.gateways[FULL].file("disk/ballast")).unwrap();
                let (from, _) = self.windows.disk_full.ok_or("no disk was full")?;
                // The writer tries again within a second or so.
                self.windows.disk_full = Some((from, Instant::now() + Duration::from_secs(3)));
                Ok(())
            }
        }
    }

    async fn start_again(&mut self, gateway: usize) -> Result<(), String> {
        self.fleet.gateways[gateway].start_again();
        until("it is ready again", async || self.balancer.is_ready(gateway)).await
    }

    async fn each_gateway(&self, what: &str, condition: impl AsyncFn(&str) -> bool) -> Result<(), String> {
        for n in 0..GATEWAYS {
            let address = gateway_address(n);
            until(&format!("gateway {n}: {what}"), async || condition(&address).await).await?;
        }
        Ok(())
    }

    /// Changes files of gateways, and waits until each has taken them.
    async fn reload(&self, change: impl FnOnce(&Fleet)) -> Result<(), String> {
        let done = async |n: usize| metric(&gateway_address(n), "config_reloads_total", &["outcome=\"ok\""]).await;
        let mut before = Vec::new();
        for n in 0..GATEWAYS {
            before.push(done(n).await);
        }
        change(&self.fleet);
        for (n, before) in before.into_iter().enumerate() {
            until(&format!("gateway {n} takes its new files"), async || {
                done(n).await > before
            })
            .await?;
        }
        Ok(())
    }

    /// New ones for gateways, and for leaves by another authority; the old authority is distrusted in the end.
    async fn certificates(&mut self) -> Result<(), String> {
        let mut shown = Vec::new();
        for gateway in &self.fleet.gateways {
            shown.push(give_server_certificate(&gateway.folder, &self.authorities));
        }
        for (n, pem) in shown.iter().enumerate() {
            let wanted = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            until(&format!("gateway {n} shows its new certificate"), async || {
                self.certificate_of(n).await.is_some_and(|found| found == wanted)
            })
            .await?;
        }
        let old = std::mem::replace(&mut self.authorities.leaves, TestCa::named("leaves, second"));
        let both = format!("{}{}", old.pem, self.authorities.leaves.pem);
        self.reload(|fleet| fleet.give_gateways("leaves-ca.pem", &both)).await?;
        self.fleet.renew_certificates(&self.authorities);
        // Leaves look at their files every second.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let new = &self.authorities.leaves.pem;
        self.reload(|fleet| fleet.give_gateways("leaves-ca.pem", new)).await
    }

    async fn old_caller_secret_is_refused(&self) -> Result<(), String> {
        let traffic = Traffic::new(DIRECT_SECRET, &self.authorities);
        for gateway in 0..GATEWAYS {
            let got = direct(gateway)
                .one(&traffic, &mut None, Want::Read, String::new(), PROJECT)
                .await;
            if !matches!(got, Got::Answer { status: 401, .. }) {
                return Err(format!("gateway-{gateway} takes the old secret: {got:?}"));
            }
        }
        Ok(())
    }

    async fn certificate_of(&self, gateway: usize) -> Option<CertificateDer<'static>> {
        let stream = TcpStream::connect((gateway_address(gateway), ACCOUNTS[0].port))
            .await
            .ok()?;
        let connector = TlsConnector::from(self.authorities.servers.client(None, &["http/1.1"]));
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?[0].clone().into_owned())
    }

    /// The account has two for a while; the old one is deleted when every gateway has verified the new one.
    async fn client_secrets(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        for account in &ACCOUNTS {
            let label = format!("account=\"{}\"", account.name);
            let taken = async |n: usize| {
                let labels = [label.as_str(), "outcome=\"ok\""];
                metric(&gateway_address(n), "credential_reloads_total", &labels).await
            };
            let mut before = Vec::new();
            for n in 0..GATEWAYS {
                before.push(taken(n).await);
            }
            self.emulator.add_secret(account.id, account.next_secret);
            self.fleet
                .give_gateways(&format!("client-secret-{}", account.name), account.next_secret);
            for (n, before) in before.into_iter().enumerate() {
                until(&format!("gateway {n} takes the new secret"), async || {
                    taken(n).await > before
                })
                .await?;
            }
            self.emulator.remove_secret(account.id, account.secret);
        }
        self.windows.secret_rotated = Some((begun, Instant::now()));
        Ok(())
    }
}
