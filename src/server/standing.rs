//! What a connection was let in with. This is checked again at each request: settings and time may have changed the
//! result.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::capacity::Slot;
use super::listener::Snapshot;
use super::tls::{ClientPolicy, ListenerTls};
use crate::certificate::{self, SubjectNames};
use crate::code::ErrorCode;
use crate::proxy::{Client, Peer};

/// Connections made at the same time must not all end at the same time: each lives for at least this share of its
/// longest life.
const LEAST_OF_LIFE: f64 = 0.9;

/// One connection's right to be served.
#[derive(Debug)]
pub(super) struct Standing {
    /// Who is at the other end.
    pub(super) peer: Peer,
    slot: Slot,
    /// The load balancer that said so.
    balancer: Option<IpAddr>,
    shown: Shown,
    since: Instant,
    /// The share of `max_connection_age` that it may live.
    share: f64,
    /// Whether the log says already that it is refused.
    said: AtomicBool,
    ended: Notify,
}

/// What the peer has shown.
#[derive(Debug)]
enum Shown {
    /// Nothing: the connection is not encrypted.
    Plain,
    /// No certificate: it was not asked for one, or need not show one.
    Encrypted,
    Certificate(Certificate),
}

#[derive(Debug)]
struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    /// Of the client's own certificate, the first of the chain.
    names: SubjectNames,
    /// The [`ClientPolicy::id`] of the policy that accepted it last.
    good_by: AtomicU64,
    /// Until when that holds, in Unix seconds: until the first certificate of the chain expires.
    good_until: AtomicU64,
}

/// Why the next request is not served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) code: ErrorCode,
    /// For the client.
    pub(super) detail: String,
}

impl Standing {
    /// Of a connection that is not encrypted.
    pub(super) fn plain(peer: Peer, slot: Slot) -> Self {
        Self::new(peer, slot, Shown::Plain)
    }

    /// Of a connection after its handshake, by this policy at this time.
    pub(super) fn encrypted(
        peer: Peer,
        slot: Slot,
        chain: Option<&[CertificateDer<'static>]>,
        policy: Option<&ClientPolicy>,
        now: SystemTime,
    ) -> Self {
        let shown = match (chain, policy) {
            (Some(chain), Some(policy)) => Shown::Certificate(Certificate {
                good_by: AtomicU64::new(policy.id()),
                good_until: AtomicU64::new(first_end(chain, now)),
                names: chain
                    .first()
                    .map(|own| certificate::subject_names(own))
                    .unwrap_or_default(),
                chain: chain.to_vec(),
            }),
            _ => Shown::Encrypted,
        };
        Self::new(peer, slot, shown)
    }

    fn new(peer: Peer, slot: Slot, shown: Shown) -> Self {
        // 2^-32 times a u32 lies in 0.0..1.0. Without a source of randomness there is no jitter, and nothing worse.
        let random = getrandom::u32().map_or(1.0, |n| f64::from(n) / 4_294_967_296.0);
        Self {
            peer,
            slot,
            balancer: None,
            shown,
            since: Instant::now(),
            share: LEAST_OF_LIFE + (1.0 - LEAST_OF_LIFE) * random,
            said: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    /// The same connection, when a load balancer brought it.
    pub(super) fn through(self, balancer: Option<IpAddr>) -> Self {
        Self { balancer, ..self }
    }

    /// Who is at the other end, for a request that [`Self::check`] let through by this snapshot.
    pub(super) fn client(&self, snapshot: &Snapshot) -> Client<'_> {
        let verified = snapshot.tls.as_ref().is_some_and(ListenerTls::asks_for_certificates);
        let certificate = match &self.shown {
            Shown::Certificate(certificate) if verified => Some(&certificate.names),
            _ => None,
        };
        Client {
            peer: self.peer,
            certificate,
            place: &self.slot.place,
        }
    }

    /// Whether no further request is served: it has lived as long as it may, its caller has too many, or it has asked without
    /// telling whose it is, and others find no room.
    pub(super) fn is_over(&self, snapshot: &Snapshot) -> bool {
        let pipeline = &snapshot.pipeline;
        let is_asked = || pipeline.callers.is_some();
        self.is_old(snapshot.limits.max_age)
            || is_asked() && (self.is_too_many() || self.slot.place.is_in_the_way(&pipeline.connections))
    }

    /// Whether it is one too many of its caller's.
    pub(super) fn is_too_many(&self) -> bool {
        self.slot.place.is_too_many()
    }

    /// Whether the next request may be served by the snapshot in force.
    pub(super) fn check(&self, snapshot: &Snapshot) -> Result<(), Lost> {
        if !snapshot.admits(self.peer) {
            let detail = match self.peer {
                Peer::Ip(_) => "Your address is no longer on this listener's allowlist.",
                Peer::Unix(_) => "Your user id is no longer among this socket's `uids`.",
            };
            return Err(Lost::new(ErrorCode::IpDenied, detail));
        }
        let is_balancer = |ip: &IpAddr| snapshot.is_balancer(*ip);
        if !self.balancer.iter().all(is_balancer) || matches!(&self.peer, Peer::Ip(ip) if is_balancer(ip)) {
            return Err(Lost::new(
                ErrorCode::PeerDenied,
                "Which load balancers say who their clients are (`proxy_protocol`) has changed: connect again.",
            ));
        }
        let Some(tls) = &snapshot.tls else { return Ok(()) };
        match (&self.shown, tls.clients()) {
            (Shown::Plain, _) => Err(Lost::new(
                ErrorCode::PeerDenied,
                "This port speaks TLS by now: connect again, with https://.",
            )),
            (_, None) => Ok(()),
            (Shown::Encrypted, Some(policy)) if policy.is_optional() => Ok(()),
            (Shown::Encrypted, Some(_)) => Err(Lost::new(
                ErrorCode::PeerDenied,
                "This listener asks for a certificate of its clients by now: connect again, and show one.",
            )),
            (Shown::Certificate(certificate), Some(policy)) => self.check_certificate(certificate, policy, snapshot),
        }
    }

    /// Costs two loads and a reading of the clock, except once after a change of the policy.
    fn check_certificate(
        &self,
        certificate: &Certificate,
        policy: &ClientPolicy,
        snapshot: &Snapshot,
    ) -> Result<(), Lost> {
        let now = snapshot.clock.wall();
        if certificate.good_by.load(Ordering::Relaxed) == policy.id()
            && unix(now) <= certificate.good_until.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        match policy.verify(&certificate.chain, now) {
            Ok(()) => {
                let until = first_end(&certificate.chain, now);
                certificate.good_until.store(until, Ordering::Relaxed);
                certificate.good_by.store(policy.id(), Ordering::Relaxed);
                Ok(())
            }
            Err(refused) => {
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        listener = %snapshot.pipeline.name, peer = %self.peer, subject = refused.subject,
                        names = refused.names, why = refused.rule,
                        "a connected client is no longer let in: its next request is refused and its connection ended"
                    );
                }
                // Its own certificate is no secret to it.
                let detail = format!(
                    "This listener no longer accepts the certificate that this connection was made with: {}.",
                    refused.rule
                );
                Err(Lost {
                    code: ErrorCode::PeerDenied,
                    detail,
                })
            }
        }
    }

    /// Whether it has lived as long as it may.
    fn is_old(&self, most: Duration) -> bool {
        self.since.elapsed() >= self.life(most)
    }

    /// How long it may live.
    fn life(&self, most: Duration) -> Duration {
        most.mul_f64(self.share)
    }

    /// Ends when it has lived as long as it may, or [`Self::end`] was called. When its time seems over it asks for the limit
    /// again: a longer one holds from then on. A shorter one is noticed by the next request ([`Self::is_over`]).
    pub(super) async fn ending(&self, most: impl Fn() -> Duration) {
        let old = async {
            loop {
                let end = self.since + self.life(most());
                if end <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(end).await;
            }
        };
        tokio::select! {
            () = self.ended.notified() => {}
            () = old => {}
        }
    }

    /// The connection is to end when the requests under way have ended.
    pub(super) fn end(&self) {
        self.ended.notify_one();
    }
}

impl Lost {
    fn new(code: ErrorCode, detail: &str) -> Self {
        Self {
            code,
            detail: detail.to_owned(),
        }
    }
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// When the first certificate that is valid now expires; 0 where one does not tell: then the chain is verified each
/// time.
fn first_end(chain: &[CertificateDer<'_>], now: SystemTime) -> u64 {
    let ends = chain.iter().map(|one| certificate::not_after(one).map_or(0, unix));
    // An intermediate that is not needed may have expired: then the chain was accepted without it.
    ends.filter(|end| *end == 0 || *end >= unix(now)).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair::Places;
    use crate::server::Capacity;

    #[tokio::test(start_paused = true)]
    async fn connections_that_were_made_together_end_one_by_one_and_none_later_than_it_may() {
        let most = Duration::from_secs(1000);
        let (capacity, part) = (Capacity::new(100, 0), Places::new(100).part());
        let standing = || Standing::plain(Peer::Unix(1), capacity.reserve(part.try_take()).unwrap());
        let all: Vec<_> = (0..100).map(|_| standing()).collect();
        let mut lives: Vec<_> = all.iter().map(|one| one.life(most)).collect();
        lives.sort();
        lives.dedup();
        assert!(lives.len() > 90 && lives[0] >= Duration::from_secs(900) && lives[lives.len() - 1] <= most);
        assert!(all.iter().all(|one| !one.is_old(most)));
        let limit = std::cell::Cell::new(most / 10);
        let lengthen = async {
            tokio::time::sleep(most / 20).await;
            limit.set(most);
        };
        tokio::join!(all[0].ending(|| limit.get()), lengthen);
        assert!(all[0].is_old(most), "the limit in force when its time seems over");
        tokio::time::advance(Duration::from_secs(200)).await;
        assert!(all.iter().all(|one| one.is_old(most)));
    }
}
