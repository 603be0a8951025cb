//! Binds and serves the admin port, and applies reloads to it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::status::State;
use crate::admin::{self, AdminState, Socket};
use crate::guard::HostNames;
use crate::server::{self, Bind, BindError, BoundSocket, HandedSockets, UnixSocketFile};
use crate::settings::AdminSettings;

/// Where metrics and health answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// At an address.
    Tcp(SocketAddr),
    /// At a unix socket.
    Unix(PathBuf),
    /// Nowhere.
    Off,
}

impl fmt::Display for AdminAddress {
    /// `http://127.0.0.1:9091`, `unix:/path` or `off`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Off => f.write_str("off"),
        }
    }
}

impl AdminAddress {
    /// The address, when it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Off => None,
        }
    }

    /// Names by which it is called.
    pub(super) fn hosts(&self) -> HostNames {
        let hosts = HostNames::new([]);
        match self.address() {
            Some(address) => hosts.with_bound(address.ip()),
            None => hosts,
        }
    }

    /// Warns of what is open to other machines.
    fn say_exposure(&self) {
        let Some(address) = self
            .address()
            .filter(|address| !address.ip().to_canonical().is_loopback())
        else {
            return;
        };
        tracing::warn!(
            admin = %address,
            "the admin port is bound beyond loopback: whoever reaches it may read /metrics, /livez, /readyz and /startupz \
             (names of listeners and accounts, numbers of requests, when tokens, secrets and certificates expire); \
             /status.json, / and /quitquitquit are for this machine alone"
        );
    }

    /// Applies new settings. Returns the key that could not be applied to the socket, if there is one.
    pub(super) fn take(&self, state: &State, settings: &AdminSettings) -> Option<&'static str> {
        let before = state.admin.swap(Arc::new(settings.clone()));
        match (&before.bind, &settings.bind, self) {
            (
                Some(Bind::Unix {
                    mode: old, path: was, ..
                }),
                Some(Bind::Unix { mode, path, .. }),
                Self::Unix(own),
            ) if old != mode && was == path && path == own => {
                let changed = server::change_mode(path, *mode);
                if let Err(error) = &changed {
                    tracing::error!(%error, "the admin socket's `mode` was not changed");
                }
                changed.err().map(|_| "admin.mode")
            }
            _ => None,
        }
    }
}

/// The part of a bind that only a new socket can change.
pub(super) fn unchangeable(bind: &Bind) -> Bind {
    match bind {
        Bind::Unix { path, .. } => Bind::Unix {
            path: path.clone(),
            mode: 0,
            uids: Vec::new(),
        },
        other => other.clone(),
    }
}

/// The admin socket, bound and not served yet.
pub(super) struct BoundAdmin {
    pub(super) address: AdminAddress,
    socket: Option<(Socket, Option<UnixSocketFile>)>,
}

/// Binds the socket. Must be called within a tokio runtime.
pub(super) fn bind(to: Option<&Bind>, handed: &HandedSockets) -> Result<BoundAdmin, BindError> {
    let (address, socket) = match to.map(|bind| server::bind(bind, handed)).transpose()? {
        None => (AdminAddress::Off, None),
        Some(BoundSocket::Tcp(listener, address) | BoundSocket::Both([(listener, address), _])) => {
            (AdminAddress::Tcp(address), Some((Socket::Tcp(listener), None)))
        }
        Some(BoundSocket::Unix(listener, file)) => (
            AdminAddress::Unix(file.path().to_owned()),
            Some((Socket::Unix(listener), Some(file))),
        ),
    };
    Ok(BoundAdmin { address, socket })
}

impl BoundAdmin {
    /// Serves until it is told to stop.
    pub(super) fn serve(self, state: &Arc<State>, stop: CancellationToken) -> JoinHandle<()> {
        self.address.say_exposure();
        let state = Arc::clone(state) as Arc<dyn AdminState>;
        tokio::spawn(async move {
            let Some((socket, file)) = self.socket else { return };
            admin::serve(socket, state, stop.cancelled_owned()).await;
            drop(file);
        })
    }
}
