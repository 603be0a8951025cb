//! The accept loop: never spins, never dies.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::server::TlsStream;

use super::bind::BoundSocket;
use super::capacity::{Full, Slot};
use super::connection::{self, farewell};
use super::drain::DrainHandle;
use super::listener::{Listener, Snapshot};
use super::proxy_protocol::{self, NoClient};
use super::standing::Standing;
use super::tls::{FailedHandshake, ListenerTls, client_refusal};
use crate::code::ErrorCode;
use crate::metrics::DenyReason;
use crate::proxy::Peer;

/// Pause after a failed accept: from the least to the most. Out of file descriptors, accepting at once again would spin.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// So many connections at a time; then what is ready has its turn. Each may begin with a handshake, which takes long.
const ACCEPTED_IN_A_ROUND: u32 = 2;
/// How long a client that is turned away may take to send the first byte of a request; then it gets its answer without.
const FIRST_BYTE: Duration = Duration::from_millis(250);

/// Accepts and serves until the drain begins. Connections go on by themselves and end as `drain` says.
pub async fn serve(bound: BoundSocket, listener: Arc<Listener>, drain: DrainHandle) {
    match bound {
        BoundSocket::Tcp(socket, _) => serve_tcp(socket, listener, drain).await,
        BoundSocket::Both([(first, _), (second, _)]) => {
            tokio::join!(
                serve_tcp(first, Arc::clone(&listener), drain.clone()),
                serve_tcp(second, listener, drain)
            );
        }
        BoundSocket::Unix(socket, _file) => serve_unix(socket, listener, drain).await,
    }
}

async fn serve_tcp(socket: TcpListener, listener: Arc<Listener>, mut drain: DrainHandle) {
    let mut pause = Pause::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = socket.accept() => accepted,
        };
        let Some((stream, address)) = pause.after(accepted, &listener).await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let ip = address.ip().to_canonical();
        if listener.snapshot().is_balancer(ip) {
            match listener.reserve() {
                Ok(slot) => {
                    tokio::spawn(hear_balancer(stream, ip, Arc::clone(&listener), drain.clone(), slot));
                }
                Err(full) => no_room(stream, Peer::Ip(ip), &listener, full),
            }
            continue;
        }
        let peer = TcpPeer { ip, balancer: None };
        begin_tcp(stream, peer, &listener, &drain, |peer| listener.admit(peer));
    }
}

/// Who is at the other end of a TCP connection.
#[derive(Clone, Copy)]
struct TcpPeer {
    ip: IpAddr,
    /// The load balancer that said so; `None`: the kernel did.
    balancer: Option<IpAddr>,
}

/// Lets a load balancer say who its client is, and serves that. The slot is nobody's until then.
async fn hear_balancer(
    mut stream: TcpStream,
    balancer: IpAddr,
    listener: Arc<Listener>,
    mut drain: DrainHandle,
    slot: Slot,
) {
    let snapshot = listener.snapshot();
    let limit = snapshot.limits.header_read_timeout;
    let read = tokio::select! {
        biased;
        () = last_call(&mut drain) => return,
        read = tokio::time::timeout(limit, proxy_protocol::read(&mut stream)) => read,
    };
    let name = &snapshot.pipeline.name;
    let why = match read {
        Ok(Ok(ip)) if is_client(ip, &snapshot) => {
            let peer = TcpPeer {
                ip,
                balancer: Some(balancer),
            };
            return begin_tcp(stream, peer, &listener, &drain, |peer| listener.assign(slot, peer));
        }
        // Health checks.
        Ok(Err(error @ (NoClient::Nothing | NoClient::Local))) => {
            tracing::debug!(listener = %name, %balancer, why = %error, "a load balancer's connection has no client");
            return;
        }
        Ok(Ok(ip)) => format!(
            "its client's address, {ip}, can't be one: it is loopback, unspecified, multicast or a load balancer's"
        ),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "its preamble was not complete within `header_read_timeout`".to_owned(),
    };
    snapshot.pipeline.metrics.denied(DenyReason::Preamble);
    tracing::warn!(listener = %name, %balancer, why, "closed a load balancer's connection");
}

/// Ends some time after the drain has begun: a client that has just connected gets its answer.
async fn last_call(drain: &mut DrainHandle) {
    drain.draining().await;
    tokio::time::sleep(connection::LAST_CALL).await;
}

/// Whether a load balancer may have a client of this address.
fn is_client(ip: IpAddr, snapshot: &Snapshot) -> bool {
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || snapshot.is_balancer(ip))
}

/// Serves a connection, or turns it away before a byte of HTTP or TLS is read.
fn begin_tcp(
    stream: TcpStream,
    at: TcpPeer,
    listener: &Arc<Listener>,
    drain: &DrainHandle,
    slot: impl FnOnce(Peer) -> Result<Slot, Full>,
) {
    let peer = Peer::Ip(at.ip);
    let snapshot = listener.snapshot();
    if !snapshot.admits(peer) {
        let detail = "Your address is not on this listener's allowlist. Whoever runs the proxy can add it (`allow`, \
                      --allow).";
        return turn_away(stream, peer, listener, ErrorCode::IpDenied, DenyReason::Ip, detail);
    }
    let slot = match slot(peer) {
        Ok(slot) => slot,
        Err(full) => return no_room(stream, peer, listener, full),
    };
    let (listener, drain) = (Arc::clone(listener), drain.clone());
    match snapshot.tls.clone() {
        None => {
            let standing = Standing::plain(peer, slot).through(at.balancer);
            tokio::spawn(connection::serve_http1(stream, standing, listener, drain))
        }
        Some(tls) => tokio::spawn(async move {
            serve_tls(stream, at, slot, &tls, listener, drain).await;
        }),
    };
}

async fn serve_tls(
    stream: TcpStream,
    at: TcpPeer,
    slot: Slot,
    tls: &ListenerTls,
    listener: Arc<Listener>,
    mut drain: DrainHandle,
) {
    let peer = Peer::Ip(at.ip);
    let snapshot = listener.snapshot();
    // In a box of its own, which is freed before the connection is served.
    let handshake = Box::pin(shake_hands(stream, tls));
    let handshake = tokio::time::timeout(snapshot.limits.header_read_timeout, handshake);
    let done = tokio::select! {
        biased;
        () = last_call(&mut drain) => return,
        done = handshake => done,
    };
    let pipeline = &snapshot.pipeline;
    let (why, certificate, stream) = match done {
        Ok(Handshake::Done(stream)) => {
            let connection = stream.get_ref().1;
            let chain = connection.peer_certificates();
            let standing =
                Standing::encrypted(peer, slot, chain, tls.clients(), snapshot.clock.wall()).through(at.balancer);
            // What a reload takes away has its parts for as long as its snapshot lives.
            drop(snapshot);
            return if connection.alpn_protocol() == Some(b"h2") {
                connection::serve_http2(stream, standing, listener, drain).await;
            } else {
                connection::serve_http1(stream, standing, listener, drain).await;
            };
        }
        Ok(Handshake::Nothing) => {
            tracing::debug!(listener = %pipeline.name, %peer, "a connection was closed before its TLS handshake");
            return;
        }
        Ok(Handshake::Preamble) => {
            tracing::warn!(
                listener = %pipeline.name, %peer,
                "refused a connection: a PROXY protocol preamble, as it seems, from an address that is not in `proxy_protocol`"
            );
            pipeline.metrics.denied(DenyReason::Preamble);
            return;
        }
        Ok(Handshake::PlainHttp(mut stream)) => {
            tracing::warn!(listener = %pipeline.name, %peer, "refused a connection: plain HTTP on a port that speaks TLS");
            let detail = "This port speaks TLS: call it with https:// in place of http://.";
            let answer = pipeline.refuse_unparsed(peer, ErrorCode::BadRequest, Some(DenyReason::Tls), detail);
            return farewell(&mut stream, &answer).await;
        }
        Ok(Handshake::Failed(failed)) if let Some(why) = client_refusal(&failed.error) => {
            tracing::warn!(listener = %pipeline.name, %peer, why, "a client refused this listener's certificate");
            pipeline.metrics.denied(DenyReason::Tls);
            return;
        }
        Ok(Handshake::Failed(failed)) => (failed.error.to_string(), failed.certificate, Some(failed.stream)),
        Ok(Handshake::Broken(error)) => (error.to_string(), None, None),
        Err(_elapsed) => ("it took longer than `header_read_timeout`".to_owned(), None, None),
    };
    pipeline.metrics.denied(DenyReason::Tls);
    match certificate {
        Some(refused) => tracing::warn!(
            listener = %pipeline.name, %peer, subject = refused.subject, names = refused.names, why = refused.rule,
            "refused a connection: TLS handshake, for the client's certificate"
        ),
        None => tracing::warn!(listener = %pipeline.name, %peer, why, "refused a connection: TLS handshake"),
    }
    if let Some(mut stream) = stream {
        // With TLS 1.3 the client has made its handshake by now, and sends its request: closing over that would reset the
        // connection, and the client might never see the alert.
        farewell(&mut stream, b"").await;
    }
}

/// How a handshake ended.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Handshake {
    Done(TlsStream<TcpStream>),
    /// The peer closed without sending a byte, as health checks of load balancers do.
    Nothing,
    /// What stands before it is a load balancer's, as it seems, that is not trusted to say who its client is.
    Preamble,
    PlainHttp(TcpStream),
    Failed(FailedHandshake<TcpStream>),
    /// The connection broke before.
    Broken(io::Error),
}

async fn shake_hands(stream: TcpStream, tls: &ListenerTls) -> Handshake {
    let mut first = [0; 1];
    match stream.peek(&mut first).await {
        Ok(0) => return Handshake::Nothing,
        Ok(_) if first[0] == proxy_protocol::FIRST_BYTE => return Handshake::Preamble,
        // A method's first letter. TLS begins with 22, the type of a handshake record (RFC 8446 section 5.1).
        Ok(_) if first[0].is_ascii_alphabetic() => return Handshake::PlainHttp(stream),
        Ok(_) => {}
        Err(error) => return Handshake::Broken(error),
    }
    match tls.accept(stream).await {
        Ok(stream) => Handshake::Done(stream),
        Err(failed) => Handshake::Failed(failed),
    }
}

async fn serve_unix(socket: UnixListener, listener: Arc<Listener>, mut drain: DrainHandle) {
    let mut pause = Pause::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = socket.accept() => accepted,
        };
        let Some((stream, _)) = pause.after(accepted, &listener).await else {
            continue;
        };
        // Told by the kernel, not by the peer (SO_PEERCRED).
        let Ok(credentials) = stream.peer_cred() else { continue };
        let peer = Peer::Unix(credentials.uid());
        if !listener.snapshot().admits(peer) {
            let detail = "Your user id is not among this socket's `uids`. Whoever runs the proxy can add it.";
            turn_away(stream, peer, &listener, ErrorCode::IpDenied, DenyReason::Ip, detail);
            continue;
        }
        match listener.admit(peer) {
            Ok(slot) => {
                let (listener, drain) = (Arc::clone(&listener), drain.clone());
                let standing = Standing::plain(peer, slot);
                tokio::spawn(connection::serve_http1(stream, standing, listener, drain));
            }
            Err(full) => no_room(stream, peer, &listener, full),
        }
    }
}

fn no_room<S>(stream: S, peer: Peer, listener: &Arc<Listener>, full: Full)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let detail = match full {
        Full::Connections => {
            "There are as many connections as this proxy serves, or this listener's part of them (`max_connections`). Try again later."
        }
        Full::Peer => {
            "You have as many connections as this proxy serves of one peer (`max_connections_per_peer`, or a quarter of all where \
             callers are required). Close some."
        }
    };
    turn_away(
        stream,
        peer,
        listener,
        ErrorCode::Overloaded,
        DenyReason::Connections,
        detail,
    );
}

/// Answers before any byte of the peer is parsed, and closes. A TLS connection gets no answer: there is no session yet.
fn turn_away<S>(stream: S, peer: Peer, listener: &Arc<Listener>, code: ErrorCode, reason: DenyReason, detail: &str)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let snapshot = listener.snapshot();
    let answer = snapshot.pipeline.refuse_unparsed(peer, code, Some(reason), detail);
    if snapshot.tls.is_some() {
        return;
    }
    let Some(permit) = listener.capacity.farewell() else {
        return;
    };
    tokio::spawn(async move {
        let mut stream = stream;
        // An answer that comes before its request confuses clients.
        let mut first = [0; 1];
        let _ = tokio::time::timeout(FIRST_BYTE, stream.read(&mut first)).await;
        farewell(&mut stream, &answer).await;
        drop(permit);
    });
}

#[derive(Default)]
struct Pause {
    /// After a failure.
    last: Option<Duration>,
    /// Since others had their turn.
    accepted: u32,
}

impl Pause {
    async fn after<T>(&mut self, accepted: io::Result<T>, listener: &Listener) -> Option<T> {
        match accepted {
            Ok(accepted) => {
                self.last = None;
                self.accepted = (self.accepted + 1) % ACCEPTED_IN_A_ROUND;
                if self.accepted == 0 {
                    tokio::task::yield_now().await;
                }
                Some(accepted)
            }
            // The peer was gone before it was accepted: nothing of ours is wrong.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
            Err(error) => {
                let pause = self.last.map_or(ACCEPT_PAUSE.0, |last| (last * 2).min(ACCEPT_PAUSE.1));
                if self.last.is_none() {
                    let snapshot = listener.snapshot();
                    tracing::error!(%error, listener = %snapshot.pipeline.name, "cannot accept a connection; trying on (check the limit of open files)");
                }
                self.last = Some(pause);
                tokio::time::sleep(pause).await;
                None
            }
        }
    }
}
