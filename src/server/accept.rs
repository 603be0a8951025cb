//! The accept loop: never spins, never dies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::server::TlsStream;

use super::bind::Bound;
use super::capacity::{Capacity, Full, Slot};
use super::connection::{self, ConnectionLimits, farewell};
use super::drain::DrainHandle;
use super::standing::Standing;
use super::tls::{ListenerTls, RefusedCertificate};
use crate::code::ErrorCode;
use crate::fair::Part;
use crate::guard::Allowlist;
use crate::metrics::DenyReason;
use crate::proxy::{Listener, Peer};
use crate::time::SharedClock;

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
    /// User ids that may connect to a unix socket; empty: whoever its mode lets in.
    pub uids: Vec<u32>,
    /// TLS, when it speaks that.
    pub tls: Option<ListenerTls>,
    /// Bounds of one connection.
    pub limits: ConnectionLimits,
    /// Tells when a client's certificate has expired.
    pub clock: SharedClock,
}

/// One listener, from one view to the next.
pub struct ServerParts {
    view: ArcSwap<View>,
    /// Slots for open connections, shared by all listeners.
    pub(super) capacity: Arc<Capacity>,
    /// This one's part of them.
    part: Arc<Part>,
}

impl ServerParts {
    /// A listener with its first view.
    pub fn new(view: View, capacity: Arc<Capacity>) -> Arc<Self> {
        Arc::new(Self {
            view: ArcSwap::from_pointee(view),
            part: capacity.part(),
            capacity,
        })
    }

    /// Serves every connection and every request that comes from now on by another view. Open connections stay; their
    /// next request is served by it, or refused if it would not let them in: see `Standing::check`.
    pub fn replace(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    /// The view in force.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }
}

impl View {
    /// Whether a peer may connect, by what the kernel says of it.
    pub(super) fn admits(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(ip) => self.allow.allows(ip),
            Peer::Unix(uid) => self.uids.is_empty() || self.uids.contains(&uid),
        }
    }
}

/// Accepts and serves until the drain begins. Connections go on by themselves and end as `drain` says.
pub async fn serve(bound: Bound, parts: Arc<ServerParts>, drain: DrainHandle) {
    match bound {
        Bound::Tcp(socket, _) => serve_tcp(socket, parts, drain).await,
        Bound::Both([(first, _), (second, _)]) => {
            tokio::join!(
                serve_tcp(first, Arc::clone(&parts), drain.clone()),
                serve_tcp(second, parts, drain)
            );
        }
        Bound::Unix(socket, _file) => serve_unix(socket, parts, drain).await,
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
        if !view.admits(peer) {
            let detail = "Your address is not on this listener's allowlist. Whoever runs the proxy can add it (`allow`, \
                          --allow).";
            turn_away(stream, peer, &parts, ErrorCode::IpDenied, DenyReason::Ip, detail);
            continue;
        }
        match parts.capacity.admit(&parts.part, peer) {
            Ok(slot) => begin_tcp(stream, peer, &parts, &view, &drain, slot),
            Err(full) => no_room(stream, peer, &parts, full),
        }
    }
}

fn begin_tcp(stream: TcpStream, peer: Peer, parts: &Arc<ServerParts>, view: &View, drain: &DrainHandle, slot: Slot) {
    let (parts, drain) = (Arc::clone(parts), drain.clone());
    match view.tls.clone() {
        None => tokio::spawn(async move {
            connection::serve_http1(stream, Standing::plain(peer), parts, drain).await;
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
    // In a box of its own, which is gone when the connection is served.
    let handshake = Box::pin(shake_hands(stream, tls));
    let handshake = tokio::time::timeout(view.limits.header_read_timeout, handshake);
    let done = tokio::select! {
        biased;
        () = drain.draining() => return,
        done = handshake => done,
    };
    let listener = &view.listener;
    let (why, certificate) = match done {
        Ok(Handshake::Done(stream)) => {
            let connection = stream.get_ref().1;
            let chain = connection.peer_certificates();
            let standing = Standing::encrypted(peer, chain, tls.clients(), view.clock.wall());
            return if connection.alpn_protocol() == Some(b"h2") {
                connection::serve_http2(stream, standing, parts, drain).await;
            } else {
                connection::serve_http1(stream, standing, parts, drain).await;
            };
        }
        Ok(Handshake::Nothing) => {
            tracing::debug!(listener = %listener.name, %peer, "a connection was closed before its TLS handshake");
            return;
        }
        Ok(Handshake::PlainHttp(mut stream)) => {
            tracing::warn!(listener = %listener.name, %peer, "refused a connection: plain HTTP on a port that speaks TLS");
            let detail = "This port speaks TLS: call it with https:// in place of http://.";
            let answer = listener.refuse_unparsed(peer, ErrorCode::BadRequest, Some(DenyReason::Tls), detail);
            return farewell(&mut stream, &answer).await;
        }
        Ok(Handshake::Failed(error, certificate)) => (error.to_string(), certificate),
        Err(_elapsed) => ("it took longer than `header_read_timeout`".to_owned(), None),
    };
    listener.metrics.denied(DenyReason::Tls);
    match certificate {
        Some(refused) => tracing::warn!(
            listener = %listener.name, %peer, subject = refused.subject, names = refused.names, why = refused.rule,
            "refused a connection: TLS handshake, for the client's certificate"
        ),
        None => tracing::warn!(listener = %listener.name, %peer, why, "refused a connection: TLS handshake"),
    }
}

/// How a handshake ended.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Handshake {
    Done(TlsStream<TcpStream>),
    /// The peer left without a word, as health checks of load balancers do.
    Nothing,
    PlainHttp(TcpStream),
    Failed(io::Error, Option<RefusedCertificate>),
}

async fn shake_hands(stream: TcpStream, tls: &ListenerTls) -> Handshake {
    let mut first = [0; 1];
    match stream.peek(&mut first).await {
        Ok(0) => return Handshake::Nothing,
        // A method's first letter. TLS begins with 22, the type of a handshake record (RFC 8446 section 5.1).
        Ok(_) if first[0].is_ascii_alphabetic() => return Handshake::PlainHttp(stream),
        Ok(_) => {}
        Err(error) => return Handshake::Failed(error, None),
    }
    match tls.accept(stream).await {
        Ok(stream) => Handshake::Done(stream),
        Err((error, refused)) => Handshake::Failed(error, refused),
    }
}

async fn serve_unix(socket: UnixListener, parts: Arc<ServerParts>, mut drain: DrainHandle) {
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
        if !parts.view().admits(peer) {
            let detail = "Your user id is not among this socket's `uids`. Whoever runs the proxy can add it.";
            turn_away(stream, peer, &parts, ErrorCode::IpDenied, DenyReason::Ip, detail);
            continue;
        }
        match parts.capacity.admit(&parts.part, peer) {
            Ok(slot) => {
                let (parts, drain) = (Arc::clone(&parts), drain.clone());
                tokio::spawn(async move {
                    connection::serve_http1(stream, Standing::plain(peer), parts, drain).await;
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
        Full::Connections => {
            "There are as many connections as this proxy serves, or this listener's part of them (`max_connections`). Try again later."
        }
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
