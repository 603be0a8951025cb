//! The accept loop: never spins, never dies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bind::Bound;
use super::connection::{self, ConnectionLimits};
use super::drain::DrainHandle;
use crate::code::ErrorCode;
use crate::guard::Allowlist;
use crate::metrics::DenyReason;
use crate::proxy::{Listener, Peer, ip_denied_bytes};

/// Pause after a failed accept: from the least to the most. Out of file descriptors, accepting at once again would spin.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// Bound on the farewell to a peer that may not connect.
const DENY_TIMEOUT: Duration = Duration::from_secs(1);

/// What one listener serves with.
pub struct ServerParts {
    /// What a request means.
    pub listener: Arc<Listener>,
    /// Who may connect.
    pub allow: Allowlist,
    /// Slots for open connections, shared by all listeners.
    pub slots: Arc<Semaphore>,
    /// Bounds of one connection.
    pub limits: ConnectionLimits,
}

/// Accepts and serves until the drain begins. Connections go on by themselves and end as `drain` says.
pub async fn serve(bound: Bound, parts: ServerParts, drain: DrainHandle) {
    match bound {
        Bound::Tcp(socket, _) => serve_tcp(socket, parts, drain).await,
        Bound::Unix(socket, _file, uids) => serve_unix(socket, uids, parts, drain).await,
    }
}

async fn serve_tcp(socket: TcpListener, parts: ServerParts, mut drain: DrainHandle) {
    let parts = Arc::new(parts);
    let mut pause = Pause::default();
    loop {
        let slot = tokio::select! {
            biased;
            () = drain.draining() => return,
            slot = slot(&parts) => slot,
        };
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = socket.accept() => accepted,
        };
        let Some((stream, address)) = pause.after(accepted, &parts.listener.name).await else {
            continue;
        };
        if !parts.allow.allows(address.ip()) {
            let parts = Arc::clone(&parts);
            tokio::spawn(async move {
                deny(stream, address.ip(), &parts.listener).await;
                drop(slot);
            });
            continue;
        }
        let _ = stream.set_nodelay(true);
        let peer = Peer::Ip(address.ip().to_canonical());
        tokio::spawn(connection::serve(stream, peer, Arc::clone(&parts), drain.clone(), slot));
    }
}

async fn serve_unix(socket: UnixListener, uids: Vec<u32>, parts: ServerParts, mut drain: DrainHandle) {
    let parts = Arc::new(parts);
    let mut pause = Pause::default();
    loop {
        let slot = tokio::select! {
            biased;
            () = drain.draining() => return,
            slot = slot(&parts) => slot,
        };
        let accepted = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = socket.accept() => accepted,
        };
        let Some((stream, _)) = pause.after(accepted, &parts.listener.name).await else {
            continue;
        };
        // The kernel's word, not the peer's (SO_PEERCRED).
        let Ok(credentials) = stream.peer_cred() else { continue };
        let uid = credentials.uid();
        if !uids.is_empty() && !uids.contains(&uid) {
            denied(&parts.listener);
            tracing::warn!(listener = %parts.listener.name, uid, "refused a connection: user id not in `uids`");
            continue;
        }
        tokio::spawn(connection::serve(
            stream,
            Peer::Unix(uid),
            Arc::clone(&parts),
            drain.clone(),
            slot,
        ));
    }
}

/// A slot is reserved before accepting: beyond the limit, peers wait in the kernel's queue.
async fn slot(parts: &ServerParts) -> Option<OwnedSemaphorePermit> {
    Arc::clone(&parts.slots).acquire_owned().await.ok()
}

#[derive(Default)]
struct Pause(Option<Duration>);

impl Pause {
    async fn after<T>(&mut self, accepted: io::Result<T>, listener: &str) -> Option<T> {
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
                    tracing::error!(%error, listener, "cannot accept a connection; trying on (check the limit of open files)");
                }
                self.0 = Some(pause);
                tokio::time::sleep(pause).await;
                None
            }
        }
    }
}

fn denied(listener: &Listener) {
    listener.metrics.denied(DenyReason::Ip);
    listener.common.metrics.error(ErrorCode::IpDenied);
}

/// Before any byte of the peer is parsed: a fixed answer, then the end.
async fn deny(mut stream: TcpStream, ip: std::net::IpAddr, listener: &Listener) {
    denied(listener);
    tracing::warn!(listener = %listener.name, peer = %ip, "refused a connection: address not on the allowlist");
    let farewell = async {
        stream.write_all(&ip_denied_bytes()).await?;
        stream.shutdown().await?;
        // What the peer has sent is taken in, unread: closing over it would reset the connection and lose the answer.
        let mut sink = [0u8; 4096];
        let mut left: usize = 64 << 10;
        while left > 0 {
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(DENY_TIMEOUT, farewell).await;
}
