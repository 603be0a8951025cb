//! DNS, TCP and TLS to one origin.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tcp::{race, resolve};
use super::{ConnectError, EgressProxy, UpstreamSettings, tunnel};

/// A byte stream to the upstream.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether ALPN chose HTTP/2 (RFC 7301).
    pub(super) fn negotiated_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// Connects, within `limit` for everything together.
pub(super) async fn connect(
    settings: &UpstreamSettings,
    tls: &Arc<ClientConfig>,
    limit: Duration,
) -> Result<Stream, ConnectError> {
    let origin = &settings.origin;
    let (host, port) = settings.target();
    let attempt = async {
        let tcp = match &settings.egress {
            Some(egress) if origin.is_tls() => connect_through(egress, host, port).await?,
            _ => connect_tcp(host, port).await?,
        };
        if !origin.is_tls() {
            return Ok(Stream::Plain(tcp));
        }
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(origin.server_name().clone(), tcp)
            .await
            .map_err(|source| ConnectError::Tls {
                host: origin.host().to_owned(),
                port: origin.port(),
                source,
            })?;
        Ok(Stream::Tls(Box::new(stream)))
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_elapsed| {
        Err(ConnectError::Timeout {
            host: host.to_owned(),
            port,
            after: limit,
        })
    })
}

/// The egress proxy looks up the name, which may have no address here.
async fn connect_through(egress: &EgressProxy, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let opened = tunnel::through(egress, host, port).await;
    opened.map_err(|source| ConnectError::Tunnel {
        host: host.to_owned(),
        proxy: egress.to_string(),
        source,
    })
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = resolve(host, port).await.map_err(|source| ConnectError::Dns {
        host: host.to_owned(),
        source,
    })?;
    race(addresses).await.map_err(|source| ConnectError::Tcp {
        host: host.to_owned(),
        port,
        source,
    })
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
