//! The way to an upstream, step by step: shows which step fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::tcp::{race, resolve};
use super::{ConnectError, TunnelError, UpstreamSettings, tunnel};

/// What each step found. The first error ends it: later steps are `None`.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The addresses of the first host on the way: the upstream, or the egress proxy.
    pub addresses: Option<Result<Vec<SocketAddr>, ConnectError>>,
    /// Which of them answered, and after how long.
    pub tcp: Option<Result<(SocketAddr, Duration), ConnectError>>,
    /// The tunnel through the egress proxy, if there is one on the way.
    pub tunnel: Option<Result<(), ConnectError>>,
    /// The verified handshake with the upstream.
    pub tls: Option<Result<TlsFacts, ConnectError>>,
}

/// What a handshake agreed on.
#[derive(Debug)]
pub struct TlsFacts {
    /// `TLSv1_3`.
    pub version: String,
    /// The upstream's own certificate.
    pub certificate: CertificateDer<'static>,
}

/// Takes each step once, with `connect_timeout` for each.
pub async fn inspect(settings: &UpstreamSettings, tls: &ClientConfig) -> Inspection {
    let mut inspection = Inspection::default();
    let origin = &settings.origin;
    let limit = settings.limits.connect_timeout;
    let (host, port) = match &settings.egress {
        Some(egress) => (egress.host(), egress.port()),
        None => settings.target(),
    };
    let timeout = || ConnectError::Timeout {
        host: host.to_owned(),
        port,
        after: limit,
    };
    let found = match tokio::time::timeout(limit, resolve(host, port)).await {
        Ok(found) => found.map_err(|source| ConnectError::Dns {
            host: host.to_owned(),
            source,
        }),
        Err(_) => Err(timeout()),
    };
    let addresses = found.as_ref().ok().cloned();
    inspection.addresses = Some(found);
    let Some(addresses) = addresses else { return inspection };

    let began = Instant::now();
    let mut stream = match tokio::time::timeout(limit, race(addresses)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => {
            inspection.tcp = Some(Err(ConnectError::Tcp {
                host: host.to_owned(),
                port,
                source,
            }));
            return inspection;
        }
        Err(_) => {
            inspection.tcp = Some(Err(timeout()));
            return inspection;
        }
    };
    match stream.peer_addr() {
        Ok(address) => inspection.tcp = Some(Ok((address, began.elapsed()))),
        Err(source) => {
            inspection.tcp = Some(Err(ConnectError::Tcp {
                host: host.to_owned(),
                port,
                source,
            }));
            return inspection;
        }
    }
    if let Some(egress) = &settings.egress {
        let (host, port) = settings.target();
        let opened = match tokio::time::timeout(limit, tunnel::open(&mut stream, egress, host, port)).await {
            Ok(opened) => opened,
            Err(_) => Err(TunnelError::Broken(std::io::ErrorKind::TimedOut.into())),
        };
        let opened = opened.map_err(|source| ConnectError::Tunnel {
            host: host.to_owned(),
            proxy: egress.to_string(),
            source,
        });
        let failed = opened.is_err();
        inspection.tunnel = Some(opened);
        if failed {
            return inspection;
        }
    }
    if !origin.is_tls() {
        return inspection;
    }
    let handshake = TlsConnector::from(Arc::new(tls.clone())).connect(origin.server_name().clone(), stream);
    inspection.tls = Some(match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) => {
            let connection = stream.get_ref().1;
            Ok(TlsFacts {
                version: connection
                    .protocol_version()
                    .map_or_else(String::new, |version| format!("{version:?}")),
                certificate: connection
                    .peer_certificates()
                    .and_then(|chain| chain.first())
                    .map_or_else(|| CertificateDer::from(Vec::new()), |first| first.clone().into_owned()),
            })
        }
        Ok(Err(source)) => Err(ConnectError::Tls {
            host: origin.host().to_owned(),
            port: origin.port(),
            source,
        }),
        Err(_) => Err(ConnectError::Timeout {
            host: origin.host().to_owned(),
            port: origin.port(),
            after: limit,
        }),
    });
    inspection
}
