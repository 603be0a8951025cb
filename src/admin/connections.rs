//! The connections to the admin port, and which of them is evicted for a new one.
//!
//! A probe must have its answer whatever other clients do: a new connection always finds room, no peer has all of it,
//! and none is evicted while it is being answered. An answer is written in one piece; a peer for whom that takes long
//! has not read the one before.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Peer;

/// Connections at once: scrapers, kubelets, some people.
const MOST: usize = 64;
/// Of one peer: an IPv4 address, an IPv6 network of a host (/64), or a user.
const MOST_OF_PEER: usize = 32;

/// A connection that is younger may be a probe whose head is on its way: it is evicted only after all older ones.
const YOUNG: Duration = Duration::from_secs(1);

/// What goes on on a connection, in the order of eviction; the last is not evicted.
const SILENT: u8 = 0;
/// A part of a request head has arrived.
const BEGUN: u8 = 1;
/// The peer does not read its answer.
const STALLED: u8 = 2;
const ANSWERING: u8 = 3;

/// Whose share a connection counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Ip(IpAddr),
    User(u32),
}

impl Owner {
    fn of(peer: Peer) -> Self {
        match peer {
            Peer::Unix(uid) => Self::User(uid),
            Peer::Tcp(address) => Self::Ip(match address.ip().to_canonical() {
                IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
                ip => ip,
            }),
        }
    }
}

struct Connection {
    owner: Owner,
    since: Instant,
    doing: Arc<AtomicU8>,
    task: JoinHandle<()>,
}

/// The open connections, the oldest first.
#[derive(Default)]
pub(super) struct Connections(Vec<Connection>);

impl Connections {
    /// Adds a connection, in the place of another if need be.
    pub(super) fn add(&mut self, peer: Peer, doing: Arc<AtomicU8>, serve: impl Future<Output = ()> + Send + 'static) {
        self.0.retain(|connection| !connection.task.is_finished());
        let owner = Owner::of(peer);
        if self.held_by(owner) >= MOST_OF_PEER {
            self.evict(owner);
        } else if self.0.len() >= MOST {
            let most = self
                .0
                .iter()
                .map(|one| one.owner)
                .max_by_key(|owner| self.held_by(*owner));
            self.evict(most.unwrap_or(owner));
        }
        let task = tokio::spawn(serve);
        let since = Instant::now();
        self.0.push(Connection {
            owner,
            since,
            doing,
            task,
        });
    }

    /// Completes when all connections have ended.
    pub(super) async fn ended(self) {
        for connection in self.0 {
            // An error says that it was evicted, which is an end, too.
            let _ = connection.task.await;
        }
    }

    fn held_by(&self, owner: Owner) -> usize {
        self.0.iter().filter(|one| one.owner == owner).count()
    }

    /// Ends the owner's connection that comes first in the order of eviction; of equal ones the oldest.
    fn evict(&mut self, owner: Owner) {
        let of_owner = self.0.iter().enumerate().filter(|(_, one)| one.owner == owner);
        let ranks = of_owner.map(|(at, one)| {
            let doing = one.doing.load(Ordering::Relaxed);
            let young = one.since.elapsed() < YOUNG;
            // For a young connection half a head counts as nothing. One that is being answered is finished before its
            // task can be aborted: it is here only so that there is always one to evict.
            (doing == ANSWERING, young, if young { SILENT } else { doing }, at)
        });
        if let Some((.., at)) = ranks.min() {
            self.0.remove(at).task.abort();
        }
    }
}

/// A stream that records what goes on on it.
pub(super) struct Watched<S> {
    stream: S,
    doing: Arc<AtomicU8>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> (Self, Arc<AtomicU8>) {
        let doing = Arc::new(AtomicU8::new(SILENT));
        (
            Self {
                stream,
                doing: Arc::clone(&doing),
            },
            doing,
        )
    }
}

/// An answer is on its way.
pub(super) fn answering(doing: &AtomicU8) {
    doing.store(ANSWERING, Ordering::Relaxed);
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            let _ = self
                .doing
                .compare_exchange(SILENT, BEGUN, Ordering::Relaxed, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn wrote<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            self.doing.store(STALLED, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this when it has nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() && self.doing.load(Ordering::Relaxed) >= STALLED {
            self.doing.store(SILENT, Ordering::Relaxed);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Peer {
        Peer::Tcp(address.parse().unwrap())
    }

    impl Connections {
        fn open(&mut self, peer: Peer, doing: u8) -> Arc<AtomicU8> {
            let doing = Arc::new(AtomicU8::new(doing));
            self.add(peer, Arc::clone(&doing), std::future::pending());
            doing
        }

        fn has(&self, doing: &Arc<AtomicU8>) -> bool {
            self.0.iter().any(|one| Arc::ptr_eq(&one.doing, doing))
        }
    }

    #[tokio::test]
    async fn a_flood_of_one_peer_evicts_its_own_connections_only() {
        let mut all = Connections::default();
        let kubelet = all.open(from("10.0.0.1:1"), SILENT);
        let answering = all.open(from("10.0.0.2:1"), ANSWERING);
        for port in 1..1000 {
            let newest = all.open(from(&format!("10.0.0.2:{port}")), SILENT);
            assert!(all.has(&newest) && all.has(&kubelet) && all.has(&answering));
            assert!(all.held_by(Owner::of(from("10.0.0.2:1"))) <= MOST_OF_PEER);
        }
    }

    /// Half a head must not keep its place for long; the silent connection is the probe.
    #[tokio::test(start_paused = true)]
    async fn half_heads_do_not_push_out_a_probe_that_has_just_come() {
        let mut all = Connections::default();
        let peer = from("127.0.0.1:1");
        for _ in 0..MOST_OF_PEER {
            all.open(peer, BEGUN);
        }
        tokio::time::advance(YOUNG).await;
        let probe = all.open(peer, SILENT);
        for _ in 1..MOST_OF_PEER {
            all.open(peer, BEGUN);
            assert!(all.has(&probe));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_goes_first_of_what_is_there_for_long() {
        let mut all = Connections::default();
        let peer = from("10.0.0.2:1");
        let (half, stalled, silent) = (all.open(peer, BEGUN), all.open(peer, STALLED), all.open(peer, SILENT));
        tokio::time::advance(YOUNG).await;
        for _ in 3..=MOST_OF_PEER {
            all.open(peer, SILENT);
        }
        assert!(!all.has(&silent) && all.has(&half) && all.has(&stalled));
        all.open(peer, SILENT);
        assert!(!all.has(&half) && all.has(&stalled));
    }

    #[tokio::test]
    async fn who_is_through_with_his_silent_ones_loses_half_heads_and_then_what_he_does_not_read() {
        let mut all = Connections::default();
        let peer = from("[2001:db8::1]:1");
        let (half, stalled) = (all.open(peer, BEGUN), all.open(peer, STALLED));
        for _ in 2..MOST_OF_PEER {
            all.open(from("[2001:db8::2]:1"), ANSWERING);
        }
        all.open(peer, ANSWERING);
        assert!(!all.has(&half) && all.has(&stalled), "a host has its whole network");
        all.open(peer, ANSWERING);
        assert!(!all.has(&stalled));
    }

    #[tokio::test]
    async fn when_all_is_full_the_loudest_makes_room() {
        let mut all = Connections::default();
        let quiet = all.open(from("10.0.0.1:1"), SILENT);
        for _ in 0..MOST_OF_PEER {
            all.open(from("10.0.0.2:1"), BEGUN);
        }
        for host in 0..200 {
            all.open(from(&format!("10.0.1.{host}:1")), SILENT);
            assert!(all.0.len() <= MOST);
            if host < 30 {
                assert!(all.has(&quiet));
            }
        }
    }
}
