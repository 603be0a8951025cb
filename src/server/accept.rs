//! The accept loop: never spins, never dies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::bind::Bound;
use super::capacity::{Capacity, Full, Slot};
use super::connection::{self, ConnectionLimits, farewell};
use super::drain::DrainHandle;
use super::tls::ListenerTls;
use crate::code::ErrorCode;
use crate::guard::Allowlist;
use crate::metrics::DenyReason;
use crate::proxy::{Listener, Peer};

/// Pause after a failed accept: from the least to the most. Out of file descriptors, accepting at once again would spin.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// How long whoever is turned away has for the first byte of a request; then the answer comes without one.
const FIRST_BYTE: Duration = Duration::from_millis(250);

/// What a listener serves with. Never edited: see [`ServerParts::replace`].
pub struct View {
    /// What a request means.
    pub listener: Arc<Listener>,
    /// Who may connect.
    pub allow: Allowlist,
    /// TLS, when it speaks that.
    pub tls: Option<ListenerTls>,
    /// Bounds of one connection.
    pub limits: ConnectionLimits,
}

/// One listener, from one view to the next.
pub struct ServerParts {
    view: ArcSwap<View>,
    /// Slots for open connections, shared by all listeners.
    pub(super) capacity: Arc<Capacity>,
}

impl ServerParts {
    /// A listener with its first view.
    pub fn new(view: View, capacity: Arc<Capacity>) -> Arc<Self> {
        Arc::new(Self {
            view: ArcSwap::from_pointee(view),
            capacity,
        })
    }

    /// Serves every connection and every request that comes from now on by another view. Open connections stay; their
    /// next request is served by it, and refused if their address is no longer on the allowlist.
    pub fn replace(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    /// The view in force.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }
}

impl View {
    /// Whether a peer that is connected may go on, by this view.
    pub(super) fn admits(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(ip) => self.allow.allows(ip),
            Peer::Unix(_) => true,
        }
    }
}

/// Accepts and serves until the drain begins. Connections go on by themselves and end as `drain` says.
pub async fn serve(bound: Bound, parts: Arc<ServerParts>, drain: DrainHandle) {
    match bound {
        Bound::Tcp(socket, _) => serve_tcp(socket, parts, drain).await,
        Bound::Unix(socket, _file, uids) => serve_unix(socket, uids, parts, drain).await,
    }
}

async fn serve_tcp(socket: TcpListener, parts: Arc<ServerParts>, mut drain: DrainHandle) {
    let mut pause = Pause::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = socket.accept() => accepted,
        };
        let Some((stream, address)) = pause.after(accepted, &parts).await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let peer = Peer::Ip(address.ip().to_canonical());
        let view = parts.view();
        if !view.allow.allows(address.ip()) {
            let detail = "Your address is not on this listener's allowlist. Whoever runs the proxy can add it (`allow`, \
                          --allow).";
            turn_away(stream, peer, &parts, ErrorCode::IpDenied, DenyReason::Ip, detail);
            continue;
        }
        match parts.capacity.admit(peer) {
            Ok(slot) => begin_tcp(stream, peer, &parts, &view, &drain, slot),
            Err(full) => no_room(stream, peer, &parts, full),
        }
    }
}

fn begin_tcp(stream: TcpStream, peer: Peer, parts: &Arc<ServerParts>, view: &View, drain: &DrainHandle, slot: Slot) {
    let (parts, drain) = (Arc::clone(parts), drain.clone());
    match view.tls.clone() {
        None => tokio::spawn(async move {
            connection::serve_http1(stream, peer, parts, drain).await;
            drop(slot);
        }),
        Some(tls) => tokio::spawn(async move {
            serve_tls(stream, peer, &tls, parts, drain).await;
            drop(slot);
        }),
    };
}

async fn serve_tls(stream: TcpStream, peer: Peer, tls: &ListenerTls, parts: Arc<ServerParts>, mut drain: DrainHandle) {
    let view = parts.view();
    let handshake = tokio::time::timeout(view.limits.header_read_timeout, tls.acceptor().accept(stream));
    let done = tokio::select! {
        biased;
        () = drain.draining() => return,
        done = handshake => done,
    };
    let why = match done {
        Ok(Ok(stream)) => {
            return if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                connection::serve_http2(stream, peer, parts, drain).await;
            } else {
                connection::serve_http1(stream, peer, parts, drain).await;
            };
        }
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "it took longer than `header_read_timeout`".to_owned(),
    };
    view.listener.metrics.denied(DenyReason::Tls);
    tracing::warn!(listener = %view.listener.name, %peer, why, "refused a connection: TLS handshake");
}

async fn serve_unix(socket: UnixListener, uids: Vec<u32>, parts: Arc<ServerParts>, mut drain: DrainHandle) {
    let mut pause = Pause::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = socket.accept() => accepted,
        };
        let Some((stream, _)) = pause.after(accepted, &parts).await else {
            continue;
        };
        // The kernel's word, not the peer's (SO_PEERCRED).
        let Ok(credentials) = stream.peer_cred() else { continue };
        let peer = Peer::Unix(credentials.uid());
        if !uids.is_empty() && !uids.contains(&credentials.uid()) {
            let detail = "Your user id is not among this socket's `uids`. Whoever runs the proxy can add it.";
            turn_away(stream, peer, &parts, ErrorCode::IpDenied, DenyReason::Ip, detail);
            continue;
        }
        match parts.capacity.admit(peer) {
            Ok(slot) => {
                let (parts, drain) = (Arc::clone(&parts), drain.clone());
                tokio::spawn(async move {
                    connection::serve_http1(stream, peer, parts, drain).await;
                    drop(slot);
                });
            }
            Err(full) => no_room(stream, peer, &parts, full),
        }
    }
}

fn no_room<S>(stream: S, peer: Peer, parts: &Arc<ServerParts>, full: Full)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let detail = match full {
        Full::Connections => "There are as many connections as this proxy serves (`max_connections`). Try again later.",
        Full::Peer => {
            "You have as many connections as this proxy serves of one peer (`max_connections_per_peer`). Close some."
        }
    };
    turn_away(
        stream,
        peer,
        parts,
        ErrorCode::Overloaded,
        DenyReason::Connections,
        detail,
    );
}

/// Before any byte of the peer is parsed: a fixed answer, then the end. In TLS there is nothing to say it in.
fn turn_away<S>(stream: S, peer: Peer, parts: &Arc<ServerParts>, code: ErrorCode, reason: DenyReason, detail: &str)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let view = parts.view();
    let answer = view.listener.refuse_unparsed(peer, code, Some(reason), detail);
    if view.tls.is_some() {
        return;
    }
    let Some(permit) = parts.capacity.farewell() else {
        return;
    };
    tokio::spawn(async move {
        let mut stream = stream;
        // An answer to what nobody has asked yet confuses clients.
        let mut first = [0; 1];
        let _ = tokio::time::timeout(FIRST_BYTE, stream.read(&mut first)).await;
        farewell(&mut stream, &answer).await;
        drop(permit);
    });
}

#[derive(Default)]
struct Pause(Option<Duration>);

impl Pause {
    async fn after<T>(&mut self, accepted: io::Result<T>, parts: &ServerParts) -> Option<T> {
        match accepted {
            Ok(accepted) => {
                self.0 = None;
                Some(accepted)
            }
            // The peer was gone before it was accepted: nothing of ours is wrong.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
            Err(error) => {
                let pause = self.0.map_or(ACCEPT_PAUSE.0, |last| (last * 2).min(ACCEPT_PAUSE.1));
                if self.0.is_none() {
                    let listener = &parts.view().listener.name;
                    tracing::error!(%error, listener, "cannot accept a connection; trying on (check the limit of open files)");
                }
                self.0 = Some(pause);
                tokio::time::sleep(pause).await;
                None
            }
        }
    }
}
