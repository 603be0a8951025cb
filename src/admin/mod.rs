//! Health, metrics and shutdown, on a port or socket of their own (never on the proxied one).
//!
//! Gets what it shows through [`AdminState`]; knows no other part of the program.

mod connections;
mod page;
mod pages;
pub mod status;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use connections::{Connections, Watched, answering};
use pages::Pages;
use status::Status;

use crate::guard::HostNames;

/// Bound on a request head; also how long a kept-alive connection may be silent.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin port shows and does. `Err` lists what is missing.
pub trait AdminState: Send + Sync + 'static {
    /// Prometheus text format.
    fn metrics_text(&self) -> String;
    /// Listeners bound, and a first attempt to get a credential made.
    fn started(&self) -> Result<(), Vec<String>>;
    /// Serving, not draining, and at least one account usable.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// The same of one account; `None`: there is no such account.
    fn account_ready(&self, name: &str) -> Option<Result<(), Vec<String>>>;
    /// What is wrong although it is ready: `/readyz` tells it, too.
    fn remarks(&self) -> Vec<String>;
    /// For programs and people; no secret.
    fn status(&self) -> Status;
    /// Whether a request may end the process.
    fn may_quit(&self) -> bool;
    /// Drain, then end.
    fn quit(&self);
    /// Names that are ours.
    fn hosts(&self) -> &HostNames;
    /// Whether a user may connect to the socket.
    fn admits(&self, uid: u32) -> bool;
}

/// Where it listens.
#[derive(Debug)]
pub enum Socket {
    /// A port.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Tcp(SocketAddr),
    /// The user id, from the kernel (SO_PEERCRED).
    Unix(u32),
}

impl Peer {
    fn is_local(self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(uid) => write!(f, "unix:{uid}"),
        }
    }
}

/// Serves until `shutdown`.
pub async fn serve(socket: Socket, state: Arc<dyn AdminState>, shutdown: impl Future<Output = ()>) {
    let pages = Arc::new(Pages::new(Arc::clone(&state)));
    let mut open = Connections::default();
    let stop = CancellationToken::new();
    // Also when this future is dropped.
    let stopping = stop.clone().drop_guard();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            accepted = accept(&socket) => accepted,
        };
        match accepted {
            Ok(Accepted::Tcp(stream, address)) => open.serve(stream, Peer::Tcp(address), &pages, stop.clone()),
            Ok(Accepted::Unix(stream, uid)) if state.admits(uid) => {
                open.serve(stream, Peer::Unix(uid), &pages, stop.clone());
            }
            Ok(Accepted::Unix(_, uid)) => {
                tracing::warn!(uid, "admin socket: refused a user that is not among its `uids`");
            }
            Err(error) => {
                tracing::warn!(%error, "admin port: cannot accept a connection; trying on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // The new connection is polled before the next may evict it.
        tokio::task::yield_now().await;
    }
    // Answers under way are finished: whoever asked for the end gets one.
    drop((socket, stopping));
    open.ended().await;
}

enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr),
    Unix(tokio::net::UnixStream, u32),
}

async fn accept(socket: &Socket) -> io::Result<Accepted> {
    match socket {
        Socket::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            // A probe waits for the answer alone.
            let _ = stream.set_nodelay(true);
            Ok(Accepted::Tcp(stream, address))
        }
        Socket::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok(Accepted::Unix(stream, uid))
        }
    }
}

impl Connections {
    fn serve<S>(&mut self, stream: S, peer: Peer, pages: &Arc<Pages>, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (stream, doing) = Watched::new(stream);
        let serving = connection(stream, peer, Arc::clone(pages), Arc::clone(&doing), stop);
        self.add(peer, doing, serving);
    }
}

async fn connection<S>(stream: Watched<S>, peer: Peer, pages: Arc<Pages>, doing: Arc<AtomicU8>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        answering(&doing);
        // Settings may have changed since the peer was admitted.
        let answer = match peer {
            Peer::Unix(uid) if !pages.admits(uid) => pages.no_longer(uid),
            _ => pages.answer(&request, peer),
        };
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .half_close(true)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}
