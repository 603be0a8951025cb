//! Which streams a connection can be parked on.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

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
