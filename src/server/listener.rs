//! One listener, and what it serves with: a snapshot that a reload swaps as a whole.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::ConnectionLimits;
use super::capacity::{Capacity, Full, Slot};
use super::tls::ListenerTls;
use crate::guard::Allowlist;
use crate::proxy::{Peer, Pipeline};
use crate::time::SharedClock;

/// What a listener serves with. Never edited: see [`Listener::replace`].
pub struct Snapshot {
    /// What happens to a request.
    pub pipeline: Arc<Pipeline>,
    /// Who may connect.
    pub allow: Allowlist,
    /// Load balancers whose connections begin with a preamble that says who their client is.
    pub proxy_protocol: Option<Allowlist>,
    /// User ids that may connect to a unix socket; empty: whoever its mode lets in.
    pub uids: Vec<u32>,
    /// TLS, when it speaks that.
    pub tls: Option<ListenerTls>,
    /// Bounds of one connection.
    pub limits: ConnectionLimits,
    /// Tells when a client's certificate has expired.
    pub clock: SharedClock,
}

/// One listener, from one snapshot to the next.
pub struct Listener {
    snapshot: ArcSwap<Snapshot>,
    /// Slots for open connections, shared by all listeners.
    pub(super) capacity: Arc<Capacity>,
}

impl Listener {
    /// A listener with its first snapshot.
    pub fn new(snapshot: Snapshot, capacity: Arc<Capacity>) -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            capacity,
        })
    }

    /// Serves every connection and every request that comes from now on by another snapshot. Open connections stay;
    /// their next request is served by the new one, or refused if that would not let them in: see `Standing::check`.
    pub fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// A slot for one more connection of `peer`.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn admit(&self, peer: Peer) -> Result<Slot, Full> {
        self.assign(self.reserve()?, peer)
    }

    /// The same for a load balancer, before it is known whose connection it is.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn reserve(&self) -> Result<Slot, Full> {
        let pipeline = &self.snapshot.load().pipeline;
        let part = &pipeline.connections;
        self.capacity.reserve(match &pipeline.callers {
            // What it keeps for whoever comes is the last.
            Some(_) => part.try_take_sparing(),
            None => part.try_take(),
        })
    }

    /// A reserved slot as that of `peer`.
    ///
    /// # Errors
    /// When the peer has as many as it may.
    pub(super) fn assign(&self, slot: Slot, peer: Peer) -> Result<Slot, Full> {
        slot.assign(peer, self.snapshot.load().pipeline.rules.requires_callers())
    }

    /// The snapshot in force.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

impl Snapshot {
    /// Whether connections from this address begin with a preamble.
    pub(super) fn is_balancer(&self, ip: IpAddr) -> bool {
        self.proxy_protocol
            .as_ref()
            .is_some_and(|balancers| balancers.allows(ip))
    }

    /// Whether a peer may connect, by what the kernel says of it.
    pub(super) fn admits(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(ip) => self.allow.allows(ip),
            Peer::Unix(uid) => self.uids.is_empty() || self.uids.contains(&uid),
        }
    }
}
