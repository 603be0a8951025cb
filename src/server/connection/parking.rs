//! A connection on which nothing happens is parked: it gives its buffers back, and waits for readiness alone.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::drive::LAST_CALL;
use crate::server::ConnectionLimits;
use crate::server::clock::{ConnectionClock, Expired, IDLE_FOR};
use crate::server::drain::DrainHandle;

/// A connection with nothing to do for this long gives its buffers back until there is.
pub(super) const PARK_AFTER: Duration = Duration::from_millis(100);
/// The same while there are many connections: the process keeps the memory that all their buffers took at one time.
pub(super) const PARK_SOON: Duration = Duration::from_millis(50);

/// What woke a connection that was parked.
pub(super) enum Woken {
    /// There is something to read, if only the end.
    Readable,
    /// The same, while draining: one more request is served, and the client is told that it is the last.
    LastCall,
    /// A limit has passed, or the drain is over.
    Expired(Expired),
}

/// Waits until there is something to read, without a buffer to read into.
pub(super) async fn park<S: Parkable>(
    stream: &S,
    clock: &ConnectionClock,
    limits: &ConnectionLimits,
    drain: &mut DrainHandle,
) -> Woken {
    tokio::select! {
        biased;
        _ = stream.readable() => {
            return if drain.is_draining() { Woken::LastCall } else { Woken::Readable };
        }
        over = clock.expired(limits.header_read_timeout, IDLE_FOR) => return Woken::Expired(over),
        () = drain.draining() => {}
    }
    // A client that is about to send must not find the connection closed: its request may be on its way.
    match tokio::time::timeout(LAST_CALL, stream.readable()).await {
        Ok(_) => Woken::LastCall,
        Err(_elapsed) => Woken::Expired(Expired::Idle),
    }
}

/// A stream that can tell that there is something to read before there is a buffer to read into.
pub(in crate::server) trait Parkable {
    /// Whether it can.
    const PARKS: bool;

    /// Ends when there is something to read, or the stream has ended.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes the end of the stream look like a failure to the peer, where it would look like a regular end.
    fn reset(&self) {}
}

impl Parkable for TcpStream {
    const PARKS: bool = true;

    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    fn reset(&self) {
        // An error says that the connection is gone already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

/// A unix socket has no reset that its owner can cause: its peer sees one only where we leave bytes from it unread.
impl Parkable for UnixStream {
    const PARKS: bool = true;

    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }
}

/// TLS may hold received bytes, decrypted or not yet: the socket alone does not tell whether there is something to
/// read.
impl<S: Parkable + Sync> Parkable for TlsStream<S> {
    const PARKS: bool = false;

    async fn readable(&self) -> io::Result<()> {
        Ok(())
    }

    /// Not every client minds that TLS ends without a `close_notify` alert.
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}
