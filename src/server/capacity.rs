//! How many connections there may be.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fair::Place;
use crate::proxy::{ConnectionPlace, Peer};

/// Connections that are being told at a time that there is no room, at most; further ones are closed without an answer.
/// Fewer where few are served: they take descriptors, too.
const MOST_FAREWELLS: usize = 64;
/// One such connection for each so many that are served.
const SERVED_PER_FAREWELL: usize = 8;
/// With more open connections than this, it is worth a little of their time to save memory.
const MANY: usize = 128;
/// Descriptors for everything but connections: the runtime, listeners, files, name lookups, the token endpoint.
const OTHER_FILES: u64 = 48;

/// Of a listener that callers are required at, one peer gets one of so many parts of all connections.
const STRANGERS_PART: usize = 4;

/// How the descriptors that the process may have are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Client connections of all listeners together.
    pub clients: usize,
    /// Upstream connections of all accounts together. They are never crowded out by clients.
    pub upstream: usize,
}

impl Shares {
    /// Two thirds of `open_files` (RLIMIT_NOFILE; `None`: no limit) for clients, but `may` at most, and a third for the
    /// upstream.
    pub fn of(open_files: Option<u64>, may: usize) -> Self {
        let Some(files) = open_files else {
            return Self {
                clients: may,
                upstream: usize::MAX,
            };
        };
        let third = usize::try_from(files.saturating_sub(OTHER_FILES) / 3).unwrap_or(usize::MAX);
        Self {
            clients: may.min(third.saturating_mul(2).max(1)),
            upstream: third.max(1),
        }
    }
}

/// Slots for open client connections, shared by all listeners.
#[derive(Debug)]
pub struct Capacity {
    open: AtomicUsize,
    farewells: Arc<Semaphore>,
    total: usize,
    per_peer: usize,
    peers: Mutex<HashMap<Peer, usize>>,
}

/// A connection's slot; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) place: ConnectionPlace,
    capacity: Arc<Capacity>,
    peer: Option<Peer>,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// `max_connections`.
    Connections,
    /// `max_connections_per_peer`.
    Peer,
}

impl Capacity {
    /// `connections` at a time, `per_peer` of them of one peer (0: as many as there are).
    pub fn new(connections: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            farewells: Arc::new(Semaphore::new(
                (connections / SERVED_PER_FAREWELL).clamp(1, MOST_FAREWELLS),
            )),
            total: connections,
            per_peer,
            peers: Mutex::default(),
        })
    }

    /// The most connections of one peer; `None`: as many as there are.
    fn most_of_a_peer(&self, strangers: bool) -> Option<usize> {
        let quarter = strangers.then(|| (self.total / STRANGERS_PART).max(1));
        let configured = (self.per_peer > 0).then_some(self.per_peer);
        quarter.into_iter().chain(configured).min()
    }

    /// A slot with this place, if there is one, and of no peer yet.
    pub(super) fn reserve(self: &Arc<Self>, place: Option<Place>) -> Result<Slot, Full> {
        let place = place.ok_or(Full::Connections)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Slot {
            place: ConnectionPlace::new(place),
            capacity: Arc::clone(self),
            peer: None,
        })
    }

    /// Whether there are so many connections that idle ones should take up less memory.
    pub(super) fn is_crowded(&self) -> bool {
        self.open.load(Ordering::Relaxed) > MANY
    }

    /// A permit to tell one more connection that there is no room; `None`: too many are being told.
    pub(super) fn farewell(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.farewells).try_acquire_owned().ok()
    }
}

impl Slot {
    /// The slot as one of `peer`, if that may have one more. `strangers`: whoever connects there must still show who it is,
    /// so that one peer gets a quarter of the slots at most.
    pub(super) fn assign(mut self, peer: Peer, strangers: bool) -> Result<Self, Full> {
        if let Some(most) = self.capacity.most_of_a_peer(strangers) {
            let peer = peer.site();
            let mut peers = self.capacity.peers.lock();
            let open = peers.entry(peer).or_default();
            if *open >= most {
                return Err(Full::Peer);
            }
            *open += 1;
            drop(peers);
            self.peer = Some(peer);
        }
        Ok(self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.capacity.open.fetch_sub(1, Ordering::Relaxed);
        let Some(peer) = self.peer.take() else { return };
        let mut peers = self.capacity.peers.lock();
        if let Some(open) = peers.get_mut(&peer) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair::{Part, Places};

    impl Capacity {
        fn admit(self: &Arc<Self>, part: &Part, peer: Peer, strangers: bool) -> Result<Slot, Full> {
            self.reserve(part.try_take())?.assign(peer, strangers)
        }
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let capacity = Capacity::new(3, 2);
        let part = Places::new(3).part();
        let (one, other) = (Peer::Unix(1), Peer::Unix(2));
        let first = capacity.admit(&part, one, false).unwrap();
        let second = capacity.admit(&part, one, false).unwrap();
        assert_eq!(capacity.admit(&part, one, false).unwrap_err(), Full::Peer);
        let third = capacity.admit(&part, other, false).unwrap();
        assert_eq!(capacity.admit(&part, other, false).unwrap_err(), Full::Connections);
        drop(first);
        let _again = capacity.admit(&part, one, false).unwrap();
        drop((second, third));
        assert_eq!(capacity.peers.lock().len(), 1);
    }

    #[test]
    fn a_stranger_gets_a_quarter() {
        let capacity = Capacity::new(8, 0);
        let part = Places::new(8).part();
        let peer = |ip: &str| Peer::Ip(ip.parse().unwrap());
        let mut held = Vec::new();
        for address in ["2001:db8::1", "2001:db8::ffff"] {
            held.push(capacity.admit(&part, peer(address), true).unwrap());
        }
        let full = capacity.admit(&part, peer("2001:db8:0:0:8::1"), true).unwrap_err();
        assert_eq!(full, Full::Peer, "one network of 64 bits");
        held.push(capacity.admit(&part, peer("2001:db8:0:1::1"), true).unwrap());
        held.push(capacity.admit(&part, peer("192.0.2.1"), true).unwrap());
        for _ in 0..4 {
            held.push(capacity.admit(&part, peer("192.0.2.2"), false).unwrap());
        }
        assert_eq!(
            capacity.peers.lock().len(),
            3,
            "nobody counts where everybody may have all"
        );
    }

    #[test]
    fn the_upstream_has_its_share_of_descriptors() {
        assert_eq!(Shares::of(None, 5).clients, 5);
        assert_eq!(
            Shares::of(Some(1 << 20), 16_384),
            Shares {
                clients: 16_384,
                upstream: 349_509
            }
        );
        assert_eq!(
            Shares::of(Some(128), 16_384),
            Shares {
                clients: 52,
                upstream: 26
            }
        );
        assert_eq!(
            Shares::of(Some(10), 16_384),
            Shares {
                clients: 1,
                upstream: 1
            }
        );
    }
}
