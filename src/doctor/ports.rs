//! Whether the ports are free, or the proxy has them already.

use std::net::SocketAddr;

use tokio::net::{TcpListener, UnixStream};

use super::{Finding, Report, Status};
use crate::server::Bind;
use crate::settings::Settings;

pub(super) async fn examine(settings: &Settings, report: &mut Report) {
    for listener in &settings.listeners {
        match &listener.bind {
            Bind::Tcp(address) => port(*address, "listener", report).await,
            Bind::Unix { path, .. } => {
                let found = match UnixStream::connect(path).await {
                    Ok(_) => format!("{} is in use, as it is while a proxy runs", path.display()),
                    Err(_) => format!("{} is free", path.display()),
                };
                report.add(Finding::new("listener", Status::Ok, found));
            }
        }
    }
    port(settings.admin, "admin_port", report).await;
}

async fn port(address: SocketAddr, check: &'static str, report: &mut Report) {
    let (status, found, hint) = match TcpListener::bind(address).await {
        Ok(_) => (Status::Ok, format!("{address} is free"), None),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => (
            Status::Ok,
            format!("{address} is in use, as it is while a proxy runs"),
            None,
        ),
        Err(error) => (
            Status::Fail,
            format!("{address} can't be bound: {error}"),
            Some(
                "choose another address: ports below 1024 need privileges, and the address must be this machine's"
                    .to_owned(),
            ),
        ),
    };
    report.add(Finding {
        hint,
        ..Finding::new(check, status, found)
    });
}
