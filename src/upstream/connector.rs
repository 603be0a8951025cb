//! Makes the connections of one upstream, and sees to it that each is driven.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::connect::{Stream, connect};
use super::pool::Connection;
use super::request::SendableBody;
use super::{ConnectError, Era, UpstreamSettings};
use crate::metrics::{GaugeGuard, IntGauge};

pub(super) struct Connector {
    pub(super) settings: UpstreamSettings,
    /// Offers `http/1.1`.
    tls_h1: Arc<ClientConfig>,
    /// Offers `h2`.
    tls_h2: Arc<ClientConfig>,
    /// Counts open connections.
    open: IntGauge,
    /// Those of another one serve no further request.
    pub(super) era: Era,
}

impl Connector {
    pub(super) fn new(settings: UpstreamSettings, tls: &ClientConfig, open: IntGauge, era: Era) -> Self {
        let with_alpn = |name: &[u8]| {
            let mut config = tls.clone();
            config.alpn_protocols = vec![name.to_vec()];
            Arc::new(config)
        };
        Self {
            tls_h1: with_alpn(b"http/1.1"),
            tls_h2: with_alpn(b"h2"),
            settings,
            open,
            era,
        }
    }

    /// A connection of HTTP/1.1.
    pub(super) async fn http1<B: SendableBody>(&self) -> Result<Box<Connection<B>>, ConnectError> {
        let era = self.era.now();
        let stream = connect(&self.settings, &self.tls_h1, self.settings.limits.connect_timeout).await?;
        Ok(Connection::new(stream, era, GaugeGuard::new(&self.open)))
    }

    /// A stream for a connection of HTTP/2.
    pub(super) async fn http2_stream(&self, limit: Duration) -> Result<Stream, ConnectError> {
        connect(&self.settings, &self.tls_h2, limit).await
    }

    /// Runs a connection of HTTP/2 until it ends. Its errors reach the request that met them; an idle one has nobody to tell.
    pub(super) fn drive<C>(&self, connection: C)
    where
        C: Future<Output = Result<(), hyper::Error>> + Send + 'static,
    {
        let open = GaugeGuard::new(&self.open);
        tokio::spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
    }

    pub(super) fn not_started(&self, source: hyper::Error) -> ConnectError {
        ConnectError::Http {
            host: self.settings.origin.host().to_owned(),
            source,
        }
    }
}

/// Whether the peer refused the handshake for want of a common protocol (RFC 7301 section 3.2).
pub(super) fn refused_alpn(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| {
            matches!(
                error,
                rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
            )
        })
}
